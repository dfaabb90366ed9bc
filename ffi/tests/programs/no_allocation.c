/* From the first request on nothing is allocated, whichever way requests are handed in and awaited:
 * every malloc of the process, the library's among them, comes here and is counted. */
#include "check.h"

#ifdef __cplusplus
extern "C" {
#define NOTHROW noexcept
#else
#define NOTHROW
#endif
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t len, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

static unsigned long allocation_len;

static void count(void) { __atomic_fetch_add(&allocation_len, 1, __ATOMIC_RELAXED); }

void *malloc(size_t bytes) NOTHROW {
    count();
    return __libc_malloc(bytes);
}

void *calloc(size_t len, size_t bytes) NOTHROW {
    count();
    return __libc_calloc(len, bytes);
}

void *realloc(void *memory, size_t bytes) NOTHROW {
    count();
    return __libc_realloc(memory, bytes);
}

int posix_memalign(void **memory, size_t align, size_t bytes) NOTHROW {
    count();
    *memory = __libc_memalign(align, bytes);
    return *memory == NULL ? 12 : 0;
}

void *aligned_alloc(size_t align, size_t bytes) NOTHROW {
    count();
    return __libc_memalign(align, bytes);
}
#ifdef __cplusplus
}
#endif

static unsigned long allocations(void) {
    return __atomic_load_n(&allocation_len, __ATOMIC_RELAXED);
}

static twinstream_engine *engine;
static int answered;

static void callback(void *user_data, twinstream_request request, twinstream_status status,
                     const float *result) {
    (void)user_data;
    (void)result;
    CHECK(status == TWINSTREAM_OK);
    CHECK_OK(twinstream_release(engine, request));
    __atomic_fetch_add(&answered, 1, __ATOMIC_RELEASE);
}

static void round_of_all_kinds(void) {
    twinstream_request_options options = request_options(TWINSTREAM_NOTICE_QUEUE);
    twinstream_request waited, queued, called, many, more[4];
    uint8_t *places[4];
    const float *results[4];
    twinstream_timing timing;
    uint8_t *place;
    const int before = __atomic_load_n(&answered, __ATOMIC_ACQUIRE);
    CHECK_OK(twinstream_lease(engine, &waited, &place));
    memset(place, 1, IMAGE_BYTES);
    CHECK_OK(twinstream_commit(engine, waited, NULL));
    CHECK_OK(twinstream_submit(engine, place, IMAGE_BYTES, &options, &queued));
    options.notice = TWINSTREAM_NOTICE_CALLBACK;
    options.callback = callback;
    options.deadline_after_ns = 60 * SECOND_NS;
    CHECK_OK(twinstream_submit(engine, place, IMAGE_BYTES, &options, &called));
    timing.struct_size = sizeof timing;
    CHECK_OK(twinstream_wait(engine, waited, TWINSTREAM_FOREVER, NULL));
    CHECK_OK(twinstream_request_timing(engine, waited, &timing));
    CHECK_OK(twinstream_release(engine, waited));
    while (twinstream_queue_next(engine, &queued, NULL) == TWINSTREAM_EMPTY) continue;
    CHECK_OK(twinstream_release(engine, queued));
    while (__atomic_load_n(&answered, __ATOMIC_ACQUIRE) == before) continue;
    options = request_options(TWINSTREAM_NOTICE_QUEUE);
    CHECK_OK(twinstream_lease_many(engine, 4, TWINSTREAM_FOREVER, &many, places));
    CHECK_OK(twinstream_queue_lease(engine, NULL));
    for (int i = 0; i < 4; i++) memset(places[i], 1, IMAGE_BYTES);
    CHECK_OK(twinstream_commit(engine, many, &options));
    for (int i = 0; i < 2; i++) {
        while (twinstream_queue_next(engine, &more[i], NULL) == TWINSTREAM_EMPTY) continue;
        if (more[i] == many) CHECK_OK(twinstream_results(engine, many, 4, NULL, results));
        CHECK_OK(twinstream_release(engine, more[i]));
    }
    CHECK(more[0] == many || more[1] == many);
    /* Refusals allocate nothing either. */
    for (int i = 0; i < 4; i++) CHECK_OK(twinstream_lease(engine, &more[i], &place));
    CHECK_STATUS(twinstream_lease(engine, &waited, &place), TWINSTREAM_FULL);
    for (int i = 0; i < 4; i++) CHECK_OK(twinstream_release(engine, more[i]));
    CHECK_STATUS(twinstream_release(engine, more[0]), TWINSTREAM_STALE);
}

int main(void) {
    unsigned long before;
    engine = null_engine(4);
    CHECK(allocations() > 0);
    before = allocations();
    for (int i = 0; i < 2000; i++) round_of_all_kinds();
    CHECK(allocations() == before);
    CHECK_OK(twinstream_engine_destroy(engine));
    puts("no_allocation: ok");
    return 0;
}

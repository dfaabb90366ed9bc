/* Many threads at once: every way to hand in, be told, cancel and give up, in random order, with
 * places for few. Each request with a notice is announced exactly once, and no place is lost. Then
 * engines are destroyed under threads that use them: those find the handle stale, whatever they
 * call.
 *
 *     stress [ROUNDS [SEED]]
 */
#include "../../../cuda/emulator/split_mix.h"
#include "check.h"

#include <sched.h>
#include <time.h>

enum {
    THREAD_LEN = 4,
    SLOT_LEN = 16,
    OPEN_LEN = 3
};

/* One for each request with a notice, by a number that its user data carries. */
typedef struct {
    int announced;
    int status;
} notice;

static twinstream_engine *engine;
static long rounds = 20000;
static int is_done;

static uint64_t random_below(uint64_t *state, uint64_t limit) {
    return twinstream_split_mix(state) % limit;
}

static int is_answer(twinstream_status status) {
    return status == TWINSTREAM_OK || status == TWINSTREAM_CANCELLED ||
           status == TWINSTREAM_REJECTED || status == TWINSTREAM_EXPIRED;
}

static void announce(notice *told, twinstream_status status) {
    CHECK(is_answer(status));
    told->status = status;
    CHECK(__atomic_fetch_add(&told->announced, 1, __ATOMIC_ACQ_REL) == 0);
}

static void callback(void *user_data, twinstream_request request, twinstream_status status,
                     const float *result) {
    CHECK((result != NULL) == (status == TWINSTREAM_OK));
    CHECK_OK(twinstream_release(engine, request));
    announce((notice *)user_data, status);
}

/* Empties the completion queue until the producers are done and nothing is left. */
static void *collect(void *unused) {
    (void)unused;
    for (;;) {
        const int was_done = __atomic_load_n(&is_done, __ATOMIC_ACQUIRE);
        twinstream_request request;
        void *user_data;
        const twinstream_status status = twinstream_queue_next(engine, &request, &user_data);
        if (status == TWINSTREAM_OK) {
            const twinstream_status answer = twinstream_poll(engine, request, NULL);
            CHECK_OK(twinstream_release(engine, request));
            announce((notice *)user_data, answer);
        } else {
            CHECK_STATUS(status, TWINSTREAM_EMPTY);
            if (was_done) return NULL;
            sched_yield();
        }
    }
}

typedef struct {
    uint64_t random;
    notice *notices;
    long notice_len;
} producer;

/* Hands one in, or leaves it at the lease; 0 when there is no request to hold on to. */
static twinstream_request hand_in(producer *self) {
    twinstream_request_options options;
    twinstream_request request;
    uint8_t *images[SLOT_LEN];
    /* Mostly one, else up to half of all. */
    const size_t image_len =
        random_below(&self->random, 4) != 0 ? 1 : 1 + random_below(&self->random, SLOT_LEN / 2);
    const uint64_t timeout_ns = random_below(&self->random, 3) * 20000;
    const twinstream_status status =
        image_len == 1 ? twinstream_lease_wait(engine, timeout_ns, &request, images)
                       : twinstream_lease_many(engine, image_len, timeout_ns, &request, images);
    if (status == TWINSTREAM_FULL) {
        sched_yield();
        return 0;
    }
    CHECK_OK(status);
    for (size_t i = 0; i < image_len; i++) {
        memset(images[i], (int)random_below(&self->random, 256), IMAGE_BYTES);
    }
    if (random_below(&self->random, 8) == 0) {
        CHECK_OK(twinstream_release(engine, request));
        return 0;
    }
    options = request_options((int32_t)random_below(&self->random, 3));
    options.priority = (int32_t)random_below(&self->random, 3) - 1;
    if (random_below(&self->random, 8) == 0) {
        options.deadline_after_ns = 1 + random_below(&self->random, 100000);
    }
    if (options.notice == TWINSTREAM_NOTICE_CALLBACK) options.callback = callback;
    if (options.notice != TWINSTREAM_NOTICE_NONE) {
        options.user_data = &self->notices[self->notice_len++];
    }
    CHECK_OK(twinstream_commit(engine, request, &options));
    if (options.notice == TWINSTREAM_NOTICE_NONE) return request;
    /* Others release it, maybe at this moment. */
    if (random_below(&self->random, 4) == 0) {
        const twinstream_status cancelled = twinstream_cancel(engine, request);
        CHECK(cancelled == TWINSTREAM_OK || cancelled == TWINSTREAM_STALE);
    }
    return 0;
}

static void finish(producer *self, twinstream_request request) {
    switch (random_below(&self->random, 4)) {
    case 0:
        break; /* gives it up, maybe before its answer */
    case 1:
        CHECK_OK(twinstream_cancel(engine, request)); /* fall through */
    default: {
        const twinstream_status status = twinstream_wait(engine, request, 60 * SECOND_NS, NULL);
        CHECK(is_answer(status));
    }
    }
    CHECK_OK(twinstream_release(engine, request));
    CHECK_STATUS(twinstream_release(engine, request), TWINSTREAM_STALE);
}

static void *produce(void *argument) {
    producer *self = (producer *)argument;
    twinstream_request open[OPEN_LEN] = {0};
    for (long i = 0; i < rounds; i++) {
        twinstream_request *place = &open[random_below(&self->random, OPEN_LEN)];
        if (*place != 0) finish(self, *place);
        *place = hand_in(self);
    }
    for (int i = 0; i < OPEN_LEN; i++) {
        if (open[i] != 0) finish(self, open[i]);
    }
    return NULL;
}

static void all_at_once(uint64_t seed) {
    producer producers[THREAD_LEN];
    pthread_t threads[THREAD_LEN], collector;
    twinstream_request requests[SLOT_LEN];
    uint8_t *image;
    long answers[32] = {0};
    engine = null_engine(SLOT_LEN);
    CHECK(pthread_create(&collector, NULL, collect, NULL) == 0);
    for (int i = 0; i < THREAD_LEN; i++) {
        producers[i].random = seed + (uint64_t)i;
        producers[i].notices = (notice *)calloc((size_t)rounds, sizeof(notice));
        producers[i].notice_len = 0;
        CHECK(producers[i].notices != NULL);
        CHECK(pthread_create(&threads[i], NULL, produce, &producers[i]) == 0);
    }
    for (int i = 0; i < THREAD_LEN; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    /* Nothing is lost: what was given up still ends, and then every place can be had. */
    for (int i = 0; i < SLOT_LEN; i++) {
        while (twinstream_lease(engine, &requests[i], &image) == TWINSTREAM_FULL) continue;
    }
    CHECK_OK(twinstream_engine_drain(engine, 60 * SECOND_NS));
    __atomic_store_n(&is_done, 1, __ATOMIC_RELEASE);
    CHECK(pthread_join(collector, NULL) == 0);
    for (int i = 0; i < THREAD_LEN; i++) {
        for (long j = 0; j < producers[i].notice_len; j++) {
            CHECK(producers[i].notices[j].announced == 1);
            answers[producers[i].notices[j].status]++;
        }
        free(producers[i].notices);
    }
    fprintf(stderr, "announced: %ld results, %ld rejected, %ld expired, %ld cancelled\n",
            answers[TWINSTREAM_OK], answers[TWINSTREAM_REJECTED], answers[TWINSTREAM_EXPIRED],
            answers[TWINSTREAM_CANCELLED]);
    CHECK(answers[TWINSTREAM_OK] > 0);
    CHECK_OK(twinstream_engine_destroy(engine));
}

static void *use_until_stale(void *unused) {
    static const uint8_t image[IMAGE_BYTES] = {0};
    long len = 0;
    (void)unused;
    for (;; len++) {
        twinstream_request request;
        uint8_t *place;
        /* Some wait for room as it ends. */
        twinstream_status status =
            len % 2 == 0 ? twinstream_submit(engine, image, sizeof image, NULL, &request)
                         : twinstream_lease_wait(engine, TWINSTREAM_FOREVER, &request, &place);
        if (status == TWINSTREAM_OK && len % 2 != 0) {
            status = twinstream_commit(engine, request, NULL);
            if (status == TWINSTREAM_SHUT_DOWN) status = TWINSTREAM_OK;
        }
        if (status == TWINSTREAM_STALE) break;
        CHECK(status == TWINSTREAM_OK || status == TWINSTREAM_FULL ||
              status == TWINSTREAM_SHUT_DOWN);
        if (status != TWINSTREAM_OK) continue;
        status = twinstream_wait(engine, request, TWINSTREAM_FOREVER, NULL);
        CHECK(status == TWINSTREAM_OK || status == TWINSTREAM_SHUT_DOWN ||
              status == TWINSTREAM_STALE);
        status = twinstream_release(engine, request);
        CHECK(status == TWINSTREAM_OK || status == TWINSTREAM_STALE);
    }
    CHECK_STATUS(twinstream_engine_health(engine), TWINSTREAM_STALE);
    return NULL;
}

static void *destroy(void *destroyed_len) {
    const twinstream_status status = twinstream_engine_destroy(engine);
    CHECK(status == TWINSTREAM_OK || status == TWINSTREAM_STALE);
    if (status == TWINSTREAM_OK) __atomic_fetch_add((int *)destroyed_len, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void destroyed_in_use(uint64_t seed) {
    pthread_t threads[THREAD_LEN + 2];
    const struct timespec pause = {0, (long)random_below(&seed, 3000000)};
    int destroyed_len = 0;
    engine = null_engine(SLOT_LEN);
    for (int i = 0; i < THREAD_LEN; i++) {
        CHECK(pthread_create(&threads[i], NULL, use_until_stale, NULL) == 0);
    }
    nanosleep(&pause, NULL);
    for (int i = THREAD_LEN; i < THREAD_LEN + 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, destroy, &destroyed_len) == 0);
    }
    for (int i = 0; i < THREAD_LEN + 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(destroyed_len == 1);
}

int main(int argument_len, char **arguments) {
    uint64_t seed = (uint64_t)time(NULL);
    if (argument_len > 1) rounds = atol(arguments[1]);
    if (argument_len > 2) seed = strtoull(arguments[2], NULL, 10);
    fprintf(stderr, "stress: %ld rounds, seed %llu\n", rounds, (unsigned long long)seed);
    all_at_once(seed);
    for (uint64_t i = 0; i < 20; i++) destroyed_in_use(seed + i);
    puts("stress: ok");
    return 0;
}

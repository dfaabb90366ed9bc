/* Every mistake that a caller can make and the library can see gives its status, and no harm. */
#include "check.h"

static uint8_t image[IMAGE_BYTES];

static void nulls(void) {
    twinstream_engine *engine = null_engine(4);
    const twinstream_options options = null_options(4);
    twinstream_geometry geometry = {sizeof geometry, 0, 0, 0, 0, 0, 0};
    twinstream_stats stats;
    twinstream_request request = 7;
    uint8_t *place = NULL;
    const char *label = NULL;
    int descriptor = -7;
    size_t needed_bytes = 7;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;

    CHECK_STATUS(twinstream_options_init(NULL, sizeof options, TWINSTREAM_ABI_VERSION),
                 TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_create(NULL, &engine), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_create(&options, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_destroy(NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_drain(NULL, 0), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_health(NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_geometry(NULL, &geometry), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_geometry(engine, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_label(NULL, 0, &label), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_label(engine, 0, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_stats(NULL, &stats), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_stats(engine, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_prometheus(NULL, NULL, 0, &needed_bytes), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_prometheus(engine, NULL, 0, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_engine_prometheus(engine, NULL, 1, &needed_bytes), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_lease(NULL, &request, &place), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_lease(engine, NULL, &place), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_lease(engine, &request, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_submit(NULL, image, sizeof image, NULL, &request), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_submit(engine, NULL, sizeof image, NULL, &request), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_submit(engine, image, sizeof image, NULL, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_commit(NULL, request, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_wait(NULL, request, 0, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_poll(NULL, request, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_cancel(NULL, request), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_release(NULL, request), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_queue_descriptor(NULL, &descriptor), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_queue_descriptor(engine, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_queue_next(NULL, &request, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_queue_next(engine, NULL, NULL), TWINSTREAM_NULL);
    /* No output was touched. */
    CHECK(request == 7 && place == NULL && label == NULL && descriptor == -7);
    CHECK(needed_bytes == 7);
    CHECK(geometry.image_bytes == 0 && stats.accepted == 0);
    CHECK_OK(twinstream_engine_destroy(engine));
}

static void structs_of_other_versions(void) {
    twinstream_engine *engine = null_engine(4), *none = NULL;
    twinstream_options options = null_options(4);
    twinstream_geometry geometry;
    twinstream_stats stats;
    twinstream_request_options handling = request_options(TWINSTREAM_NOTICE_NONE);
    twinstream_request request = 7;
    memset(&geometry, 0, sizeof geometry);
    memset(&stats, 0, sizeof stats);

    CHECK_STATUS(twinstream_options_init(&options, 8, TWINSTREAM_ABI_VERSION),
                 TWINSTREAM_STRUCT_SIZE);
    CHECK_STATUS(twinstream_options_init(&options, sizeof options + 8, TWINSTREAM_ABI_VERSION),
                 TWINSTREAM_STRUCT_SIZE);
    CHECK_STATUS(twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION + 1),
                 TWINSTREAM_ABI);
    options.abi_version = 0;
    CHECK_STATUS(twinstream_engine_create(&options, &none), TWINSTREAM_ABI);
    options = null_options(4);
    options.struct_size = 0;
    CHECK_STATUS(twinstream_engine_create(&options, &none), TWINSTREAM_STRUCT_SIZE);
    options.struct_size = sizeof options + 8;
    CHECK_STATUS(twinstream_engine_create(&options, &none), TWINSTREAM_STRUCT_SIZE);
    CHECK_STATUS(twinstream_engine_geometry(engine, &geometry), TWINSTREAM_STRUCT_SIZE);
    CHECK_STATUS(twinstream_engine_stats(engine, &stats), TWINSTREAM_STRUCT_SIZE);
    handling.struct_size = sizeof handling - 1;
    CHECK_STATUS(twinstream_submit(engine, image, sizeof image, &handling, &request),
                 TWINSTREAM_STRUCT_SIZE);
    CHECK(none == NULL && request == 7);
    CHECK_OK(twinstream_engine_destroy(engine));
}

static twinstream_status create(const twinstream_options *options) {
    twinstream_engine *engine = NULL;
    const twinstream_status status = twinstream_engine_create(options, &engine);
    CHECK((status == TWINSTREAM_OK) == (engine != NULL));
    if (engine != NULL) CHECK_OK(twinstream_engine_destroy(engine));
    return status;
}

static uint64_t result_len(const twinstream_options *options) {
    twinstream_engine *engine = NULL;
    twinstream_geometry geometry;
    geometry.struct_size = sizeof geometry;
    CHECK_OK(twinstream_engine_create(options, &engine));
    CHECK_OK(twinstream_engine_geometry(engine, &geometry));
    CHECK_OK(twinstream_engine_destroy(engine));
    return geometry.result_len;
}

static void options_out_of_range(void) {
    twinstream_options options = null_options(0);
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    options.slot_len = 32769;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    options.slot_len = UINT64_MAX;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    options = null_options(4);
    options.batch_len_max = 0;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    options = null_options(4);
    options.stall_timeout_ns = 0;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "stall_timeout") != NULL);
    options = null_options(4);
    options.policy = "nonsense";
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "stream") != NULL);
    options.policy = "jit";
    CHECK_OK(create(&options));
    options.memory_weakest = 9;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    options = null_options(4);
    options.core = -2;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    options.core = 1000000;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    options = null_options(4);
    options.top_k = 1;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "top_k") != NULL);
    options = null_options(4);
    options.precision = "f32";
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "precision") != NULL);
}

static void backend_options_out_of_range(void) {
    twinstream_options options = null_options(4);
    twinstream_null_options null = small_null;
    const twinstream_cpu_options cpu = {0, 1};
    options.null = &null;
    null.image_bytes = UINT64_MAX;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "image_bytes") != NULL);
    null = small_null;
    null.result_len = (UINT64_C(1) << 20) + 1;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "result_len") != NULL);
    null = small_null;
    null.struct_size = 7;
    CHECK_STATUS(create(&options), TWINSTREAM_STRUCT_SIZE);
    options = null_options(4);
    /* Zero is the default, and so is none at all. */
    options.null = &null;
    memset(&null, 0, sizeof null);
    null.struct_size = sizeof null;
    CHECK(result_len(&options) == 10);
    options.null = NULL;
    CHECK(result_len(&options) == 10);
    null.reserved = 1;
    options.null = &null;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    /* Another backend's would change nothing. */
    options.null = NULL;
    options.cpu = &cpu;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "options.cpu") != NULL);
    options = null_options(4);
    options.backend = 77;
    CHECK_STATUS(create(&options), TWINSTREAM_ARGUMENT);
    options.null = NULL;
#ifndef TWINSTREAM_HAS_CUDA
    options.backend = TWINSTREAM_BACKEND_CUDA;
    CHECK_STATUS(create(&options), TWINSTREAM_UNSUPPORTED);
#endif
    options.backend = TWINSTREAM_BACKEND_CPU;
    options.cpu = &cpu;
    CHECK_STATUS(create(&options), TWINSTREAM_STRUCT_SIZE);
    options.cpu = NULL;
    CHECK_STATUS(create(&options), TWINSTREAM_NULL);
    options.weights_path = "no such folder/model.safetensors";
    CHECK_STATUS(create(&options), TWINSTREAM_IO);
    CHECK(strstr(twinstream_last_error(), "no such folder") != NULL);
    options.weights_path = __FILE__;
    options.config_path = __FILE__;
    CHECK_STATUS(create(&options), TWINSTREAM_CONFIG);
}

static void requests_out_of_turn(void) {
    twinstream_engine *engine = null_engine(2), *other = null_engine(2);
    twinstream_request_options handling = request_options(TWINSTREAM_NOTICE_CALLBACK);
    twinstream_request request, second, third = 7;
    uint8_t *place, *other_place;
    const float *result = NULL;

    CHECK_OK(twinstream_lease(engine, &request, &place));
    CHECK(request != 0);
    CHECK_STATUS(twinstream_poll(engine, request, &result), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_wait(engine, request, 0, &result), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_cancel(engine, request), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_commit(engine, request, &handling), TWINSTREAM_NULL);
    handling.notice = 9;
    CHECK_STATUS(twinstream_commit(engine, request, &handling), TWINSTREAM_ARGUMENT);
    handling = request_options(TWINSTREAM_NOTICE_NONE);
    handling.priority = 2;
    CHECK_STATUS(twinstream_commit(engine, request, &handling), TWINSTREAM_ARGUMENT);
    handling.priority = TWINSTREAM_PRIORITY_HIGH;
    handling.reserved = 1;
    CHECK_STATUS(twinstream_commit(engine, request, &handling), TWINSTREAM_ARGUMENT);
    handling = request_options(TWINSTREAM_NOTICE_NONE);
    handling.callback = hold_callback;
    CHECK_STATUS(twinstream_commit(engine, request, &handling), TWINSTREAM_ARGUMENT);
    handling.notice = TWINSTREAM_NOTICE_QUEUE;
    CHECK_STATUS(twinstream_commit(engine, request, &handling), TWINSTREAM_ARGUMENT);

    /* Full, and nothing lost. */
    CHECK_OK(twinstream_lease(engine, &second, &other_place));
    CHECK(second != request && other_place != place);
    CHECK_STATUS(twinstream_lease(engine, &third, &place), TWINSTREAM_FULL);
    CHECK_STATUS(twinstream_submit(engine, image, sizeof image, NULL, &third), TWINSTREAM_FULL);
    CHECK(third == 7);
    CHECK_OK(twinstream_release(engine, second));
    CHECK_STATUS(twinstream_release(engine, second), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_commit(engine, second, NULL), TWINSTREAM_STALE);

    CHECK_STATUS(twinstream_submit(engine, image, sizeof image - 1, NULL, &third),
                 TWINSTREAM_IMAGE_SIZE);
    CHECK(strstr(twinstream_last_error(), "299") && strstr(twinstream_last_error(), "300"));
    CHECK_STATUS(twinstream_submit(engine, image, 0, NULL, &third), TWINSTREAM_IMAGE_SIZE);

    /* Those of another engine, and ones that never were. */
    CHECK_STATUS(twinstream_commit(other, request, NULL), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_release(engine, 0), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_release(engine, UINT64_MAX), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_poll(engine, request + (UINT64_C(1) << 32), NULL), TWINSTREAM_STALE);

    CHECK_OK(twinstream_commit(engine, request, NULL));
    CHECK_STATUS(twinstream_commit(engine, request, NULL), TWINSTREAM_STATE);
    CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, &result));
    CHECK(result != NULL);
    CHECK_STATUS(twinstream_commit(engine, request, NULL), TWINSTREAM_STATE);
    CHECK_OK(twinstream_cancel(engine, request));
    CHECK_OK(twinstream_poll(engine, request, NULL));
    CHECK_OK(twinstream_release(engine, request));
    CHECK_STATUS(twinstream_release(engine, request), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_poll(engine, request, &result), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_wait(engine, request, 0, &result), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_cancel(engine, request), TWINSTREAM_STALE);

    /* Every place can be had again. */
    CHECK_OK(twinstream_lease(engine, &request, &place));
    CHECK_OK(twinstream_lease(engine, &second, &place));
    CHECK_OK(twinstream_engine_destroy(engine));
    CHECK_OK(twinstream_engine_destroy(other));
}

static void destroyed(void) {
    twinstream_engine *engine = null_engine(2), *next;
    twinstream_request request, other = 7;
    twinstream_geometry geometry;
    uint8_t *place = NULL;
    geometry.struct_size = sizeof geometry;
    CHECK_OK(twinstream_lease(engine, &request, &place));
    CHECK_OK(twinstream_engine_destroy(engine));
    CHECK_STATUS(twinstream_engine_destroy(engine), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_commit(engine, request, NULL), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_engine_health(engine), TWINSTREAM_STALE);
    /* Another engine may well take its place, but not its name. */
    next = null_engine(2);
    CHECK(next != engine);
    CHECK_STATUS(twinstream_lease(engine, &other, &place), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_commit(next, request, NULL), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_engine_geometry(engine, &geometry), TWINSTREAM_STALE);
    CHECK_OK(twinstream_engine_destroy(next));
    /* What never was an engine. */
    CHECK_STATUS(twinstream_engine_health((twinstream_engine *)(uintptr_t)&geometry),
                 TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_engine_destroy((twinstream_engine *)UINTPTR_MAX), TWINSTREAM_STALE);
}

static void too_many_engines(void) {
    twinstream_engine *engines[64], *more = NULL;
    const twinstream_options options = null_options(1);
    for (int i = 0; i < 64; i++) engines[i] = null_engine(1);
    CHECK_STATUS(twinstream_engine_create(&options, &more), TWINSTREAM_FULL);
    CHECK_OK(twinstream_engine_destroy(engines[20]));
    engines[20] = null_engine(1);
    for (int i = 0; i < 64; i++) CHECK_OK(twinstream_engine_destroy(engines[i]));
}

int main(void) {
    nulls();
    structs_of_other_versions();
    options_out_of_range();
    backend_options_out_of_range();
    requests_out_of_turn();
    destroyed();
    too_many_engines();
    puts("guards: ok");
    return 0;
}

/* When requests passed which stage, and traces in files. */
#include "check.h"

#include <unistd.h>

static uint8_t image[IMAGE_BYTES];

static void check_timing(const twinstream_timing *timing, uint64_t batch) {
    const uint64_t moments_ns[] = {timing->arrival_ns,        timing->upload_started_ns,
                                   timing->upload_ended_ns,   timing->compute_started_ns,
                                   timing->compute_ended_ns,  timing->download_started_ns,
                                   timing->download_ended_ns, timing->announced_ns};
    CHECK(timing->struct_size == sizeof *timing);
    CHECK(moments_ns[0] > 0);
    for (int i = 1; i < 8; i++) CHECK(moments_ns[i - 1] <= moments_ns[i]);
    CHECK(timing->batch == batch && timing->batch_len == 1);
    CHECK(timing->reason == TWINSTREAM_REASON_IDLE);
    CHECK(timing->predicted_ns > 0 && timing->computed_ns > 0);
}

/* The times of requests, one after the other and so each in a batch of its own. */
static void timed(void) {
    twinstream_engine *engine = null_engine(4);
    hold held = HOLD(engine);
    twinstream_request pending, cancelled;
    twinstream_timing timing;
    uint64_t announced_ns = 0;
    memset(&timing, 0, sizeof timing);
    timing.struct_size = sizeof timing;
    for (uint64_t batch = 0; batch < 3; batch++) {
        twinstream_request request;
        CHECK_OK(twinstream_submit(engine, image, sizeof image, NULL, &request));
        CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, NULL));
        CHECK_OK(twinstream_request_timing(engine, request, &timing));
        check_timing(&timing, batch);
        CHECK(announced_ns <= timing.arrival_ns);
        announced_ns = timing.announced_ns;
        CHECK_STATUS(twinstream_request_timing(engine, request, NULL), TWINSTREAM_NULL);
        timing.struct_size = sizeof timing - 1;
        CHECK_STATUS(twinstream_request_timing(engine, request, &timing), TWINSTREAM_STRUCT_SIZE);
        timing.struct_size = sizeof timing;
        CHECK_OK(twinstream_release(engine, request));
        CHECK_STATUS(twinstream_request_timing(engine, request, &timing), TWINSTREAM_STALE);
    }
    hold_begin(&held);
    CHECK_OK(twinstream_submit(engine, image, sizeof image, NULL, &pending));
    CHECK_OK(twinstream_submit(engine, image, sizeof image, NULL, &cancelled));
    CHECK_STATUS(twinstream_request_timing(engine, pending, &timing), TWINSTREAM_PENDING);
    CHECK_OK(twinstream_cancel(engine, cancelled));
    hold_end(&held);
    CHECK_STATUS(twinstream_wait(engine, cancelled, TWINSTREAM_FOREVER, NULL),
                 TWINSTREAM_CANCELLED);
    CHECK_STATUS(twinstream_request_timing(engine, cancelled, &timing), TWINSTREAM_CANCELLED);
    CHECK_OK(twinstream_engine_destroy(engine));
}

static void trace_in_callback(void *user_data, twinstream_request request, twinstream_status status,
                              const float *result) {
    twinstream_engine *engine = (twinstream_engine *)user_data;
    CHECK(status == TWINSTREAM_OK && result != NULL);
    CHECK_STATUS(twinstream_engine_trace(engine, "/nowhere"), TWINSTREAM_IN_CALLBACK);
    CHECK_OK(twinstream_release(engine, request));
}

/* How often `words` stand in a file. */
static int count(const char *path, const char *words) {
    FILE *file = fopen(path, "r");
    char line[1024];
    int found = 0;
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) found += strstr(line, words) != NULL;
    fclose(file);
    return found;
}

static void traced(void) {
    char path[] = "/tmp/twinstream-trace-XXXXXX";
    twinstream_options options = null_options(16);
    twinstream_engine *engine = NULL;
    const int descriptor = mkstemp(path);
    CHECK(descriptor >= 0);
    close(descriptor);
    options.trace_len = 1000;
    CHECK_OK(twinstream_engine_create(&options, &engine));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 10; i++) {
            twinstream_request request;
            CHECK_OK(twinstream_submit(engine, image, sizeof image, NULL, &request));
            CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, NULL));
            CHECK_OK(twinstream_release(engine, request));
        }
        /* Those of this round alone. */
        CHECK_OK(twinstream_engine_trace(engine, path));
        CHECK(count(path, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[") == 1);
        CHECK(count(path, "\"name\":\"arrival\"") == 10);
        CHECK(count(path, "\"cat\":\"compute\"") == 10);
    }
    {
        twinstream_request_options with_callback = request_options(TWINSTREAM_NOTICE_CALLBACK);
        twinstream_request request;
        with_callback.callback = trace_in_callback;
        with_callback.user_data = engine;
        CHECK_OK(twinstream_submit(engine, image, sizeof image, &with_callback, &request));
        CHECK_OK(twinstream_engine_drain(engine, TWINSTREAM_FOREVER));
    }
    /* What is left once it has ended, and then nothing. */
    CHECK_OK(twinstream_engine_trace(engine, path));
    CHECK(count(path, "\"name\":\"arrival\"") == 1);
    CHECK_OK(twinstream_engine_trace(engine, path));
    CHECK(count(path, "\"name\":\"arrival\"") == 0);
    CHECK_STATUS(twinstream_engine_trace(engine, "/nowhere/trace.json"), TWINSTREAM_IO);
    CHECK_STATUS(twinstream_engine_trace(engine, NULL), TWINSTREAM_NULL);
    CHECK_OK(twinstream_engine_destroy(engine));
    CHECK(unlink(path) == 0);

    engine = null_engine(4);
    CHECK_STATUS(twinstream_engine_trace(engine, path), TWINSTREAM_STATE);
    CHECK_OK(twinstream_engine_destroy(engine));
    options.trace_len = (1u << 24) + 1;
    CHECK_STATUS(twinstream_engine_create(&options, &engine), TWINSTREAM_ARGUMENT);
}

int main(void) {
    timed();
    traced();
    puts("trace: ok");
    return 0;
}

/* An engine in a process that was forked off: what would wait says so at once. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static const uint8_t image[IMAGE_BYTES] = {0};

/* In the child, where the engine's thread is not. */
static void use(twinstream_engine *engine, twinstream_request answered, twinstream_request pending,
                twinstream_request leased) {
    twinstream_engine *own;
    twinstream_request request;
    twinstream_geometry geometry = {sizeof geometry, 0, 0, 0, 0, 0, 0};
    twinstream_stats stats;
    uint8_t *place;
    const char *label;
    int descriptor;
    size_t needed_bytes;
    const float *result = NULL;
    alarm(20);
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    CHECK_STATUS(twinstream_wait(engine, pending, TWINSTREAM_FOREVER, NULL), TWINSTREAM_STATE);
    CHECK(strstr(twinstream_last_error(), "fork") != NULL);
    CHECK_STATUS(twinstream_wait(engine, answered, TWINSTREAM_FOREVER, &result), TWINSTREAM_STATE);
    CHECK(result == NULL);
    CHECK_STATUS(twinstream_poll(engine, pending, NULL), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_poll(engine, answered, NULL), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_lease(engine, &request, &place), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_lease_wait(engine, TWINSTREAM_FOREVER, &request, &place),
                 TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_lease_many(engine, 1, TWINSTREAM_FOREVER, &request, &place),
                 TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_submit_many(engine, image, sizeof image, NULL, &request),
                 TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_results(engine, answered, 1, NULL, NULL), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_image(engine, leased, &place), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_queue_lease(engine, NULL), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_commit(engine, leased, NULL), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_submit(engine, image, sizeof image, NULL, &request), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_cancel(engine, pending), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_release(engine, answered), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_queue_next(engine, &request, NULL), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_queue_descriptor(engine, &descriptor), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_engine_health(engine), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_engine_geometry(engine, &geometry), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_engine_label(engine, 0, &label), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_engine_stats(engine, &stats), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_engine_prometheus(engine, NULL, 0, &needed_bytes), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_engine_drain(engine, TWINSTREAM_FOREVER), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_engine_destroy(engine), TWINSTREAM_STATE);
    /* Its own serves it. */
    own = null_engine(4);
    CHECK_OK(twinstream_submit(own, image, sizeof image, NULL, &request));
    CHECK_OK(twinstream_wait(own, request, TWINSTREAM_FOREVER, NULL));
    CHECK_OK(twinstream_engine_drain(own, TWINSTREAM_FOREVER));
    CHECK_OK(twinstream_engine_destroy(own));
}

int main(void) {
    twinstream_engine *engine = null_engine(4);
    twinstream_request answered, pending, leased;
    uint8_t *place;
    hold held = HOLD(engine);
    int status = -1;
    pid_t child;

    CHECK_OK(twinstream_submit(engine, image, sizeof image, NULL, &answered));
    CHECK_OK(twinstream_wait(engine, answered, TWINSTREAM_FOREVER, NULL));
    hold_begin(&held);
    CHECK_OK(twinstream_submit(engine, image, sizeof image, NULL, &pending));
    CHECK_OK(twinstream_lease(engine, &leased, &place));
    memset(place, 7, IMAGE_BYTES);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        use(engine, answered, pending, leased);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    hold_end(&held);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_OK(twinstream_wait(engine, pending, TWINSTREAM_FOREVER, NULL));
    /* What the child tried left this process's ring alone. */
    CHECK(place[0] == 7 && place[IMAGE_BYTES - 1] == 7);
    CHECK_OK(twinstream_commit(engine, leased, NULL));
    CHECK_OK(twinstream_wait(engine, leased, TWINSTREAM_FOREVER, NULL));
    CHECK_OK(twinstream_engine_destroy(engine));
    puts("fork: ok");
    return 0;
}

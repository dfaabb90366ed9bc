/* An engine in a process that was forked off: what would wait says so at once. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static const uint8_t image[IMAGE_BYTES] = {0};

/* In the child, where the engine's thread is not. */
static void use(twinstream_engine *engine, twinstream_request answered,
                twinstream_request pending) {
    twinstream_engine *own;
    twinstream_request request;
    const float *result = NULL;
    alarm(20);
    CHECK_OK(twinstream_wait(engine, answered, TWINSTREAM_FOREVER, &result));
    CHECK(result != NULL);
    CHECK_STATUS(twinstream_poll(engine, pending, NULL), TWINSTREAM_PENDING);
    CHECK_STATUS(twinstream_wait(engine, pending, TWINSTREAM_FOREVER, NULL), TWINSTREAM_STATE);
    CHECK(strstr(twinstream_last_error(), "fork") != NULL);
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
    twinstream_request answered, pending;
    hold held = HOLD(engine);
    int status = -1;
    pid_t child;

    CHECK_OK(twinstream_submit(engine, image, sizeof image, NULL, &answered));
    CHECK_OK(twinstream_wait(engine, answered, TWINSTREAM_FOREVER, NULL));
    hold_begin(&held);
    CHECK_OK(twinstream_submit(engine, image, sizeof image, NULL, &pending));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        use(engine, answered, pending);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    hold_end(&held);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_OK(twinstream_wait(engine, pending, TWINSTREAM_FOREVER, NULL));
    CHECK_OK(twinstream_engine_destroy(engine));
    puts("fork: ok");
    return 0;
}

/* An event loop of one thread: requests come with a timer, answers through the completion queue's
 * descriptor, and nothing ever blocks but epoll_wait.
 *
 *     epoll MODEL.safetensors|null [REQUESTS]
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <twinstream.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void check(const char *what, twinstream_status status) {
    if (status == TWINSTREAM_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, twinstream_status_name(status), twinstream_last_error());
    exit(1);
}

static void check_system(const char *what, int result) {
    if (result >= 0) return;
    perror(what);
    exit(1);
}

static void watch(int loop, int descriptor) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.fd = descriptor;
    check_system("epoll_ctl", epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event));
}

/* A timer that fires every two milliseconds. */
static int timer(void) {
    const struct itimerspec every = {{0, 2000000}, {0, 2000000}};
    const int descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    check_system("timerfd_create", descriptor);
    check_system("timerfd_settime", timerfd_settime(descriptor, 0, &every, NULL));
    return descriptor;
}

/* Hands in an image; false when there is no room, and it should be tried again later. */
static int submit(twinstream_engine *engine, uint64_t image_bytes) {
    twinstream_request_options options;
    twinstream_request request;
    uint8_t *image;
    const twinstream_status status = twinstream_lease(engine, &request, &image);
    if (status == TWINSTREAM_FULL) return 0;
    check("lease", status);
    memset(image, 128, image_bytes);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.notice = TWINSTREAM_NOTICE_QUEUE;
    check("commit", twinstream_commit(engine, request, &options));
    return 1;
}

/* Takes all answers that are there. */
static int collect(twinstream_engine *engine, double *sum) {
    twinstream_request request;
    int len = 0;
    while (twinstream_queue_next(engine, &request, NULL) == TWINSTREAM_OK) {
        const float *result;
        check("answer", twinstream_poll(engine, request, &result));
        *sum += result[0];
        check("release", twinstream_release(engine, request));
        len++;
    }
    return len;
}

int main(int argument_len, char **arguments) {
    const int request_len = argument_len > 2 ? atoi(arguments[2]) : 100;
    twinstream_options options;
    twinstream_engine *engine;
    twinstream_geometry geometry;
    int loop, ticks, completions, submitted = 0, answered = 0;
    double sum = 0;
    if (argument_len < 2) {
        fprintf(stderr, "usage: %s MODEL.safetensors|null [REQUESTS]\n", arguments[0]);
        return 2;
    }
    check("options", twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION));
    if (strcmp(arguments[1], "null") == 0) {
        options.backend = TWINSTREAM_BACKEND_NULL;
    } else {
        options.weights_path = arguments[1];
    }
    check("engine", twinstream_engine_create(&options, &engine));
    geometry.struct_size = sizeof geometry;
    check("geometry", twinstream_engine_geometry(engine, &geometry));
    check("descriptor", twinstream_queue_descriptor(engine, &completions));

    loop = epoll_create1(EPOLL_CLOEXEC);
    check_system("epoll_create1", loop);
    ticks = timer();
    watch(loop, ticks);
    watch(loop, completions);
    while (answered < request_len) {
        struct epoll_event events[2];
        const int len = epoll_wait(loop, events, 2, -1);
        int i;
        check_system("epoll_wait", len);
        for (i = 0; i < len; i++) {
            if (events[i].data.fd == completions) {
                answered += collect(engine, &sum);
            } else {
                uint64_t expired;
                if (read(ticks, &expired, sizeof expired) != sizeof expired) return 1;
                if (submitted < request_len) submitted += submit(engine, geometry.image_bytes);
            }
        }
    }
    close(ticks);
    close(loop);
    check("destroy", twinstream_engine_destroy(engine));
    printf("%d requests answered; their first values add up to %g\n", answered, sum);
    return 0;
}

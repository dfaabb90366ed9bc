/* An event loop of one thread: requests come with a timer, several at a time, answers through the
 * completion queue's descriptor, and so does room for a request where there was none. Nothing ever
 * blocks but epoll_wait.
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

/* The loop's state. */
typedef struct {
    twinstream_engine *engine;
    uint64_t image_bytes;
    int answered;
    int waiting;   /* requests that have no place yet */
    int is_queued; /* a lease will come out of the queue */
    double sum;
} service;

/* Hands an image in, in its place. */
static void commit(service *self, twinstream_request request, uint8_t *image) {
    twinstream_request_options options;
    memset(image, 128, self->image_bytes);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.notice = TWINSTREAM_NOTICE_QUEUE;
    check("commit", twinstream_commit(self->engine, request, &options));
    self->waiting--;
}

/* Hands in what waits; what there is no room for when the queue says so. */
static void submit(service *self) {
    while (self->waiting > 0 && !self->is_queued) {
        twinstream_request request;
        uint8_t *image;
        const twinstream_status status = twinstream_lease(self->engine, &request, &image);
        if (status == TWINSTREAM_FULL) {
            check("queue", twinstream_queue_lease(self->engine, self));
            self->is_queued = 1;
            return;
        }
        check("lease", status);
        commit(self, request, image);
    }
}

/* Takes out all that is queued: answers, which have no user data here, and leases. */
static void collect(service *self) {
    twinstream_request request;
    void *user_data;
    while (twinstream_queue_next(self->engine, &request, &user_data) == TWINSTREAM_OK) {
        const float *result;
        if (user_data == self) {
            uint8_t *image;
            self->is_queued = 0;
            check("image", twinstream_image(self->engine, request, &image));
            commit(self, request, image);
            continue;
        }
        check("answer", twinstream_poll(self->engine, request, &result));
        self->sum += result[0];
        check("release", twinstream_release(self->engine, request));
        self->answered++;
    }
}

int main(int argument_len, char **arguments) {
    const int request_len = argument_len > 2 ? atoi(arguments[2]) : 100;
    twinstream_options options;
    twinstream_engine *engine;
    twinstream_geometry geometry;
    service self = {NULL, 0, 0, 0, 0, 0};
    int loop, ticks, completions, come = 0;
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
    /* So few that some requests have to wait for room. */
    options.slot_len = 2;
    check("engine", twinstream_engine_create(&options, &engine));
    geometry.struct_size = sizeof geometry;
    check("geometry", twinstream_engine_geometry(engine, &geometry));
    check("descriptor", twinstream_queue_descriptor(engine, &completions));

    loop = epoll_create1(EPOLL_CLOEXEC);
    check_system("epoll_create1", loop);
    ticks = timer();
    watch(loop, ticks);
    watch(loop, completions);
    self.engine = engine;
    self.image_bytes = geometry.image_bytes;
    while (self.answered < request_len) {
        struct epoll_event events[2];
        const int len = epoll_wait(loop, events, 2, -1);
        int i, k;
        check_system("epoll_wait", len);
        for (i = 0; i < len; i++) {
            if (events[i].data.fd == completions) {
                collect(&self);
            } else {
                uint64_t expired;
                if (read(ticks, &expired, sizeof expired) != sizeof expired) return 1;
                for (k = 0; k < 5 && come < request_len; k++, come++) self.waiting++;
            }
        }
        submit(&self);
    }
    close(ticks);
    close(loop);
    check("destroy", twinstream_engine_destroy(engine));
    printf("%d requests answered; their first values add up to %g\n", self.answered, self.sum);
    return 0;
}

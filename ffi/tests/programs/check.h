/* What the C test programs share: checks that end the program with the line that failed. */
#ifndef CHECK_H
#define CHECK_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "twinstream.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition,        \
                    twinstream_last_error());                                                      \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Checks the status of a call, and that its text says something where it is not OK. */
#define CHECK_STATUS(call, expected)                                                               \
    do {                                                                                           \
        const twinstream_status status_ = (call);                                                  \
        if (status_ != (expected)) {                                                               \
            fprintf(stderr, "%s:%d: %s gave %s, expected %s (last error: %s)\n", __FILE__,         \
                    __LINE__, #call, twinstream_status_name(status_),                              \
                    twinstream_status_name(expected), twinstream_last_error());                    \
            exit(1);                                                                               \
        }                                                                                          \
        CHECK(status_ == TWINSTREAM_OK || twinstream_last_error()[0] != '\0');                     \
    } while (0)

#define CHECK_OK(call) CHECK_STATUS(call, TWINSTREAM_OK)

enum {
    IMAGE_BYTES = 300,
    RESULT_LEN = 7
};

static const uint64_t SECOND_NS = 1000000000u;

static const twinstream_null_options small_null = {sizeof(twinstream_null_options), 0, IMAGE_BYTES,
                                                   RESULT_LEN};

/* Options of a small engine around nothing. */
static inline twinstream_options null_options(uint64_t slot_len) {
    twinstream_options options;
    CHECK_OK(twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION));
    options.backend = TWINSTREAM_BACKEND_NULL;
    options.null = &small_null;
    options.slot_len = slot_len;
    return options;
}

static inline twinstream_engine *null_engine(uint64_t slot_len) {
    const twinstream_options options = null_options(slot_len);
    twinstream_engine *engine = NULL;
    CHECK_OK(twinstream_engine_create(&options, &engine));
    CHECK(engine != NULL);
    return engine;
}

static inline twinstream_request_options request_options(int32_t notice) {
    twinstream_request_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.notice = notice;
    return options;
}

/* A gate that a thread passes once it was opened. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int is_open;
} gate;

#define GATE_CLOSED {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

static inline void gate_open(gate *gate) {
    pthread_mutex_lock(&gate->lock);
    gate->is_open = 1;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static inline void gate_pass(gate *gate) {
    pthread_mutex_lock(&gate->lock);
    while (!gate->is_open) pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

/* Holds the engine's thread in a callback, so that what comes after stays pending. */
typedef struct {
    gate began;
    gate may_end;
    twinstream_engine *engine;
    twinstream_request request;
} hold;

#define HOLD(engine) {GATE_CLOSED, GATE_CLOSED, engine, 0}

static inline void hold_callback(void *user_data, twinstream_request request,
                                 twinstream_status status, const float *result) {
    hold *held = (hold *)user_data;
    CHECK(status == TWINSTREAM_OK && result != NULL);
    gate_open(&held->began);
    gate_pass(&held->may_end);
    CHECK_OK(twinstream_release(held->engine, request));
}

static inline void hold_begin(hold *held) {
    static const uint8_t image[IMAGE_BYTES] = {0};
    twinstream_request_options options = request_options(TWINSTREAM_NOTICE_CALLBACK);
    options.callback = hold_callback;
    options.user_data = held;
    CHECK_OK(twinstream_submit(held->engine, image, sizeof image, &options, &held->request));
    gate_pass(&held->began);
}

static inline void hold_end(hold *held) { gate_open(&held->may_end); }

#endif

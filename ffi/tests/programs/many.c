/* Several images as one request, and waiting until there is room. */
#include "check.h"

#include <poll.h>

enum {
    SLOT_LEN = 4
};

static uint8_t pixels[SLOT_LEN * IMAGE_BYTES];

static twinstream_request submit(twinstream_engine *engine, size_t image_len, int32_t notice) {
    const twinstream_request_options options = request_options(notice);
    twinstream_request request = 0;
    CHECK_OK(twinstream_submit_many(engine, pixels, image_len * IMAGE_BYTES, &options, &request));
    CHECK(request != 0);
    return request;
}

/* Each image has a result of its own. */
static void check_results(twinstream_engine *engine, twinstream_request request, size_t image_len) {
    twinstream_status statuses[SLOT_LEN] = {-7, -7, -7, -7};
    const float *results[SLOT_LEN] = {NULL}, *again[SLOT_LEN] = {NULL};
    CHECK_OK(twinstream_results(engine, request, image_len, statuses, results));
    CHECK_OK(twinstream_results(engine, request, image_len, NULL, again));
    CHECK_OK(twinstream_results(engine, request, image_len, NULL, NULL));
    for (size_t i = 0; i < SLOT_LEN; i++) {
        CHECK(statuses[i] == (i < image_len ? TWINSTREAM_OK : -7));
        CHECK((results[i] != NULL) == (i < image_len) && again[i] == results[i]);
        for (size_t j = 0; j < i && i < image_len; j++) CHECK(results[i] != results[j]);
    }
    CHECK_STATUS(twinstream_results(engine, request, image_len + 1, statuses, results),
                 TWINSTREAM_ARGUMENT);
    CHECK_STATUS(twinstream_results(engine, request, 0, statuses, results), TWINSTREAM_ARGUMENT);
}

static void mistakes(void) {
    twinstream_engine *engine = null_engine(SLOT_LEN);
    twinstream_request request = 7;
    uint8_t *places[SLOT_LEN + 1] = {NULL};
    CHECK_STATUS(twinstream_lease_many(NULL, 1, 0, &request, places), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_lease_many(engine, 1, 0, NULL, places), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_lease_many(engine, 1, 0, &request, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_lease_wait(NULL, 0, &request, places), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_lease_wait(engine, 0, NULL, places), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_lease_wait(engine, 0, &request, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_submit_many(NULL, pixels, IMAGE_BYTES, NULL, &request),
                 TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_submit_many(engine, NULL, IMAGE_BYTES, NULL, &request),
                 TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_submit_many(engine, pixels, IMAGE_BYTES, NULL, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_results(NULL, request, 1, NULL, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_image(NULL, request, places), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_image(engine, request, NULL), TWINSTREAM_NULL);
    CHECK_STATUS(twinstream_queue_lease(NULL, NULL), TWINSTREAM_NULL);

    for (int i = 0; i < 2; i++) {
        const uint64_t timeout_ns = i == 0 ? 0 : TWINSTREAM_FOREVER;
        CHECK_STATUS(twinstream_lease_many(engine, 0, timeout_ns, &request, places),
                     TWINSTREAM_ARGUMENT);
        CHECK_STATUS(twinstream_lease_many(engine, SLOT_LEN + 1, timeout_ns, &request, places),
                     TWINSTREAM_ARGUMENT);
        CHECK(strstr(twinstream_last_error(), "5 images") != NULL);
        CHECK(strstr(twinstream_last_error(), "to slot_len, 4") != NULL);
    }
    CHECK_STATUS(twinstream_submit_many(engine, pixels, 0, NULL, &request), TWINSTREAM_ARGUMENT);
    CHECK_STATUS(twinstream_submit_many(engine, pixels, IMAGE_BYTES + 1, NULL, &request),
                 TWINSTREAM_IMAGE_SIZE);
    CHECK(strstr(twinstream_last_error(), "301") && strstr(twinstream_last_error(), "300"));
    CHECK(request == 7 && places[0] == NULL);
    CHECK_OK(twinstream_engine_destroy(engine));
}

static void all_or_none(void) {
    twinstream_engine *engine = null_engine(SLOT_LEN);
    twinstream_request request = 7, held;
    uint8_t *places[SLOT_LEN + 1] = {NULL};
    twinstream_status status = -7;
    CHECK_OK(twinstream_lease_many(engine, 2, 0, &held, places));
    CHECK_STATUS(twinstream_lease_many(engine, 3, 0, &request, places + 2), TWINSTREAM_FULL);
    CHECK_STATUS(twinstream_submit_many(engine, pixels, sizeof pixels, NULL, &request),
                 TWINSTREAM_FULL);
    CHECK(request == 7 && places[2] == NULL);
    CHECK_OK(twinstream_lease_many(engine, 2, 0, &request, places + 2));
    for (int i = 0; i < SLOT_LEN; i++) memset(places[i], i, IMAGE_BYTES);
    for (int i = 0; i < SLOT_LEN; i++) {
        CHECK(places[i][0] == i && places[i][IMAGE_BYTES - 1] == i);
    }
    CHECK_OK(twinstream_image(engine, request, &places[4]));
    CHECK(places[4] == places[2]);

    /* Out of turn. */
    CHECK_STATUS(twinstream_results(engine, request, 2, &status, NULL), TWINSTREAM_STATE);
    CHECK_OK(twinstream_commit(engine, request, NULL));
    CHECK_STATUS(twinstream_commit(engine, request, NULL), TWINSTREAM_STATE);
    CHECK_STATUS(twinstream_image(engine, request, places), TWINSTREAM_STATE);
    CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, NULL));
    check_results(engine, request, 2);
    CHECK_OK(twinstream_release(engine, request));
    CHECK_STATUS(twinstream_results(engine, request, 2, &status, NULL), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_image(engine, request, places), TWINSTREAM_STALE);
    CHECK_STATUS(twinstream_release(engine, request), TWINSTREAM_STALE);
    CHECK_OK(twinstream_release(engine, held));
    CHECK_STATUS(twinstream_commit(engine, held, NULL), TWINSTREAM_STALE);
    CHECK(status == -7);

    /* A single image has its answer there as well. */
    CHECK_OK(twinstream_submit(engine, pixels, IMAGE_BYTES, NULL, &request));
    CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, NULL));
    check_results(engine, request, 1);
    CHECK_OK(twinstream_engine_destroy(engine));
}

static void pending_then_ended(void) {
    twinstream_engine *engine = null_engine(8);
    hold held = HOLD(engine);
    twinstream_request waits, cancelled, forgotten;
    twinstream_status statuses[3] = {-7, -7, -7};
    const float *results[3] = {NULL}, *result = NULL;
    twinstream_timing timing;
    timing.struct_size = sizeof timing;
    hold_begin(&held);
    waits = submit(engine, 2, TWINSTREAM_NOTICE_NONE);
    cancelled = submit(engine, 3, TWINSTREAM_NOTICE_NONE);
    forgotten = submit(engine, 2, TWINSTREAM_NOTICE_NONE);
    CHECK_STATUS(twinstream_poll(engine, waits, &result), TWINSTREAM_PENDING);
    CHECK_STATUS(twinstream_results(engine, waits, 2, statuses, results), TWINSTREAM_PENDING);
    CHECK_STATUS(twinstream_wait(engine, waits, SECOND_NS / 100, &result), TWINSTREAM_TIMEOUT);
    CHECK_STATUS(twinstream_request_timing(engine, waits, &timing), TWINSTREAM_PENDING);
    CHECK_OK(twinstream_cancel(engine, cancelled));
    CHECK_OK(twinstream_release(engine, forgotten));
    CHECK(result == NULL && results[0] == NULL && statuses[0] == -7);
    hold_end(&held);

    CHECK_OK(twinstream_wait(engine, waits, 20 * SECOND_NS, &result));
    check_results(engine, waits, 2);
    CHECK_OK(twinstream_results(engine, waits, 2, NULL, results));
    CHECK(result == results[0]);
    CHECK_OK(twinstream_request_timing(engine, waits, &timing));
    CHECK(timing.arrival_ns > 0 && timing.batch_len >= 1);
    results[0] = results[1] = result;
    CHECK_STATUS(twinstream_wait(engine, cancelled, 20 * SECOND_NS, &result), TWINSTREAM_CANCELLED);
    CHECK_OK(twinstream_results(engine, cancelled, 3, statuses, results));
    for (int i = 0; i < 3; i++) CHECK(statuses[i] == TWINSTREAM_CANCELLED && results[i] == NULL);
    CHECK_OK(twinstream_release(engine, waits));
    CHECK_OK(twinstream_release(engine, cancelled));
    CHECK_OK(twinstream_engine_destroy(engine));
}

typedef struct {
    twinstream_engine *engine;
    int calls;
    gate done;
} called;

static void callback(void *user_data, twinstream_request request, twinstream_status status,
                     const float *result) {
    called *self = (called *)user_data;
    twinstream_request next;
    uint8_t *places[SLOT_LEN];
    CHECK(status == TWINSTREAM_OK && result != NULL);
    self->calls++;
    /* Even where it comes before the commit has returned. */
    check_results(self->engine, request, 3);
    /* What there is room for may be leased, but not waited for. */
    CHECK_OK(twinstream_lease_many(self->engine, SLOT_LEN, SECOND_NS, &next, places));
    CHECK_STATUS(twinstream_lease_wait(self->engine, SECOND_NS, &next, places),
                 TWINSTREAM_IN_CALLBACK);
    CHECK_STATUS(twinstream_lease_many(self->engine, 1, TWINSTREAM_FOREVER, &next, places),
                 TWINSTREAM_IN_CALLBACK);
    CHECK_STATUS(twinstream_lease_wait(self->engine, 0, &next, places), TWINSTREAM_FULL);
    CHECK_OK(twinstream_release(self->engine, next));
    CHECK_OK(twinstream_release(self->engine, request));
    gate_open(&self->done);
}

static void one_notice_for_all(void) {
    twinstream_engine *engine = null_engine(SLOT_LEN);
    called calls = {engine, 0, GATE_CLOSED};
    twinstream_request_options options = request_options(TWINSTREAM_NOTICE_CALLBACK);
    twinstream_request request, next = 0;
    int descriptor;
    struct pollfd watched;
    options.callback = callback;
    options.user_data = &calls;
    CHECK_OK(twinstream_submit_many(engine, pixels, 3 * IMAGE_BYTES, &options, &request));
    gate_pass(&calls.done);

    CHECK_OK(twinstream_queue_descriptor(engine, &descriptor));
    request = submit(engine, 4, TWINSTREAM_NOTICE_QUEUE);
    watched.fd = descriptor;
    watched.events = POLLIN;
    CHECK(poll(&watched, 1, 20000) == 1);
    CHECK_OK(twinstream_queue_next(engine, &next, NULL));
    CHECK(next == request);
    check_results(engine, next, 4);
    CHECK_OK(twinstream_release(engine, next));
    CHECK_STATUS(twinstream_queue_next(engine, &next, NULL), TWINSTREAM_EMPTY);
    CHECK_OK(twinstream_engine_destroy(engine));
    CHECK(calls.calls == 1);
}

typedef struct {
    twinstream_engine *engine;
    size_t image_len;
    uint64_t timeout_ns;
    twinstream_status status;
    twinstream_request request;
    uint8_t *places[SLOT_LEN];
} waiter;

static void *wait_for_room(void *argument) {
    waiter *self = (waiter *)argument;
    self->status =
        self->image_len == 0
            ? twinstream_lease_wait(self->engine, self->timeout_ns, &self->request, self->places)
            : twinstream_lease_many(self->engine, self->image_len, self->timeout_ns, &self->request,
                                    self->places);
    return NULL;
}

static void room_is_waited_for(void) {
    twinstream_engine *engine = null_engine(SLOT_LEN);
    waiter waiters[3];
    pthread_t threads[3];
    twinstream_request held[2], request;
    uint8_t *places[SLOT_LEN];
    memset(waiters, 0, sizeof waiters);
    /* There is room. */
    CHECK_OK(twinstream_lease_wait(engine, TWINSTREAM_FOREVER, &request, places));
    CHECK_OK(twinstream_release(engine, request));
    for (int i = 0; i < 2; i++) CHECK_OK(twinstream_lease_many(engine, 2, 0, &held[i], places));
    CHECK_STATUS(twinstream_lease_wait(engine, SECOND_NS / 100, &request, places), TWINSTREAM_FULL);
    CHECK_STATUS(twinstream_lease_many(engine, 2, SECOND_NS / 100, &request, places),
                 TWINSTREAM_FULL);
    for (int i = 0; i < 3; i++) {
        waiters[i].engine = engine;
        waiters[i].image_len = i == 0 ? 3 : 0;
        waiters[i].timeout_ns = i == 1 ? 60 * SECOND_NS : TWINSTREAM_FOREVER;
        CHECK(pthread_create(&threads[i], NULL, wait_for_room, &waiters[i]) == 0);
        /* Time enough for the thread to wait in line, on a busy machine too. */
        CHECK_STATUS(twinstream_lease_wait(engine, SECOND_NS / 2, &request, places),
                     TWINSTREAM_FULL);
    }
    CHECK_OK(twinstream_release(engine, held[0]));
    CHECK_STATUS(twinstream_lease(engine, &request, places), TWINSTREAM_FULL);
    CHECK_OK(twinstream_release(engine, held[1]));
    CHECK(pthread_join(threads[0], NULL) == 0);
    CHECK_OK(waiters[0].status);
    for (int i = 0; i < 3; i++) memset(waiters[0].places[i], 1, IMAGE_BYTES);
    CHECK_OK(twinstream_commit(engine, waiters[0].request, NULL));
    for (int i = 1; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK_OK(waiters[i].status);
        CHECK_OK(twinstream_release(engine, waiters[i].request));
    }
    CHECK_OK(twinstream_wait(engine, waiters[0].request, TWINSTREAM_FOREVER, NULL));
    CHECK_OK(twinstream_release(engine, waiters[0].request));

    /* The engine's end ends the wait. */
    CHECK_OK(twinstream_lease_many(engine, SLOT_LEN, 0, &request, places));
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, wait_for_room, &waiters[i]) == 0);
    }
    CHECK_STATUS(twinstream_lease_wait(engine, SECOND_NS / 100, &held[0], places), TWINSTREAM_FULL);
    CHECK_OK(twinstream_engine_destroy(engine));
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        /* Stale, if its thread came so late that the engine was gone. */
        CHECK(waiters[i].status == TWINSTREAM_SHUT_DOWN || waiters[i].status == TWINSTREAM_STALE);
    }
}

static void a_lease_comes_out_of_the_queue(void) {
    twinstream_engine *engine = null_engine(SLOT_LEN);
    twinstream_request held, request = 0, answered = 0;
    uint8_t *places[SLOT_LEN];
    int first, second, descriptor = -1;
    void *user_data = NULL;
    struct pollfd watched;
    CHECK_OK(twinstream_queue_descriptor(engine, &descriptor));
    watched.fd = descriptor;
    watched.events = POLLIN;
    /* There is room. */
    CHECK_OK(twinstream_queue_lease(engine, &first));
    CHECK_STATUS(twinstream_queue_lease(engine, &first), TWINSTREAM_STATE);
    CHECK(poll(&watched, 1, 0) == 1);
    CHECK_OK(twinstream_queue_next(engine, &request, &user_data));
    CHECK(user_data == &first);
    CHECK_OK(twinstream_image(engine, request, places));
    memset(places[0], 1, IMAGE_BYTES);
    CHECK_STATUS(twinstream_poll(engine, request, NULL), TWINSTREAM_STATE);
    CHECK_OK(twinstream_commit(engine, request, NULL));
    CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, NULL));
    CHECK_OK(twinstream_release(engine, request));

    /* There is none until one is released; an answer may come first. */
    answered = submit(engine, 1, TWINSTREAM_NOTICE_QUEUE);
    CHECK_OK(twinstream_wait(engine, answered, TWINSTREAM_FOREVER, NULL));
    CHECK_OK(twinstream_lease_many(engine, SLOT_LEN, 0, &held, places));
    CHECK_OK(twinstream_queue_lease(engine, &second));
    CHECK_STATUS(twinstream_queue_lease(engine, &second), TWINSTREAM_STATE);
    /* Who waits may hear of an answer before it is in the queue. */
    CHECK(poll(&watched, 1, 20000) == 1);
    CHECK_OK(twinstream_queue_next(engine, &request, NULL));
    CHECK(request == answered);
    CHECK_OK(twinstream_release(engine, answered));
    CHECK_STATUS(twinstream_queue_next(engine, &request, NULL), TWINSTREAM_EMPTY);
    CHECK(poll(&watched, 1, 0) == 0);
    CHECK_OK(twinstream_release(engine, held));
    CHECK(poll(&watched, 1, 0) == 1);
    CHECK_OK(twinstream_queue_next(engine, &request, &user_data));
    CHECK(user_data == &second && request != 0);
    CHECK_STATUS(twinstream_queue_next(engine, &answered, NULL), TWINSTREAM_EMPTY);
    CHECK_OK(twinstream_release(engine, request));

    /* There will be none. */
    CHECK_OK(twinstream_lease_many(engine, SLOT_LEN, 0, &held, places));
    CHECK_OK(twinstream_queue_lease(engine, &first));
    CHECK_OK(twinstream_engine_drain(engine, TWINSTREAM_FOREVER));
    CHECK_OK(twinstream_queue_next(engine, &request, &user_data));
    CHECK(request == 0 && user_data == &first);
    CHECK_STATUS(twinstream_queue_lease(engine, &first), TWINSTREAM_SHUT_DOWN);
    CHECK_STATUS(twinstream_commit(engine, held, NULL), TWINSTREAM_SHUT_DOWN);
    CHECK_STATUS(twinstream_results(engine, held, SLOT_LEN, NULL, NULL), TWINSTREAM_SHUT_DOWN);
    CHECK_OK(twinstream_release(engine, held));
    CHECK_OK(twinstream_engine_destroy(engine));

    /* What nobody takes out goes with the engine, there or not. */
    for (size_t len = 1; len <= SLOT_LEN; len += SLOT_LEN - 1) {
        engine = null_engine(SLOT_LEN);
        CHECK_OK(twinstream_lease_many(engine, len, 0, &held, places));
        CHECK_OK(twinstream_queue_lease(engine, NULL));
        CHECK_OK(twinstream_engine_destroy(engine));
    }
}

int main(void) {
    mistakes();
    all_or_none();
    pending_then_ended();
    one_notice_for_all();
    room_is_waited_for();
    a_lease_comes_out_of_the_queue();
    puts("many: ok");
    return 0;
}

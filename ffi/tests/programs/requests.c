/* The life of requests: every way to hand in, to wait, to be told and to be given up. */
#include "check.h"

#include <poll.h>

static uint8_t image[IMAGE_BYTES];

static twinstream_request submit(twinstream_engine *engine, int32_t notice, void *user_data) {
    twinstream_request_options options = request_options(notice);
    twinstream_request request = 0;
    options.user_data = user_data;
    CHECK_OK(twinstream_submit(engine, image, sizeof image, &options, &request));
    return request;
}

static void geometry_and_labels(void) {
    twinstream_engine *engine = null_engine(4);
    twinstream_geometry geometry;
    const char *label = NULL;
    geometry.struct_size = sizeof geometry;
    CHECK_OK(twinstream_engine_geometry(engine, &geometry));
    CHECK(geometry.struct_size == sizeof geometry);
    CHECK(geometry.image_bytes == IMAGE_BYTES && geometry.result_len == RESULT_LEN);
    CHECK(geometry.height == 0 && geometry.width == 0);
    /* No batch is longer than there are places. */
    CHECK(geometry.batch_len_max == 4);
    CHECK_OK(twinstream_engine_label(engine, 6, &label));
    CHECK(strcmp(label, "class 6") == 0);
    CHECK_STATUS(twinstream_engine_label(engine, 7, &label), TWINSTREAM_ARGUMENT);
    CHECK_STATUS(twinstream_engine_label(engine, UINT64_MAX, &label), TWINSTREAM_ARGUMENT);
    CHECK_OK(twinstream_engine_health(engine));
    CHECK_OK(twinstream_engine_destroy(engine));
}

static void pending_then_given_up(void) {
    twinstream_engine *engine = null_engine(8);
    hold held = HOLD(engine);
    twinstream_request waits, cancelled, forgotten, queued, late;
    twinstream_request_options options = request_options(TWINSTREAM_NOTICE_NONE);
    const float *result = NULL;
    hold_begin(&held);
    waits = submit(engine, TWINSTREAM_NOTICE_NONE, NULL);
    cancelled = submit(engine, TWINSTREAM_NOTICE_NONE, NULL);
    forgotten = submit(engine, TWINSTREAM_NOTICE_NONE, NULL);
    queued = submit(engine, TWINSTREAM_NOTICE_QUEUE, NULL);
    options.deadline_after_ns = 1;
    options.priority = TWINSTREAM_PRIORITY_HIGH;
    CHECK_OK(twinstream_submit(engine, image, sizeof image, &options, &late));

    CHECK_STATUS(twinstream_poll(engine, waits, &result), TWINSTREAM_PENDING);
    CHECK_STATUS(twinstream_wait(engine, waits, 0, &result), TWINSTREAM_TIMEOUT);
    CHECK_STATUS(twinstream_wait(engine, waits, SECOND_NS / 100, &result), TWINSTREAM_TIMEOUT);
    CHECK_OK(twinstream_cancel(engine, cancelled));
    CHECK_OK(twinstream_cancel(engine, cancelled));
    CHECK_OK(twinstream_release(engine, forgotten));
    CHECK_STATUS(twinstream_poll(engine, forgotten, NULL), TWINSTREAM_STALE);
    /* Its notice is still owed. */
    CHECK_STATUS(twinstream_release(engine, queued), TWINSTREAM_STATE);
    CHECK_OK(twinstream_cancel(engine, queued));
    CHECK(result == NULL);
    hold_end(&held);

    CHECK_OK(twinstream_wait(engine, waits, 20 * SECOND_NS, &result));
    CHECK(result != NULL);
    result = NULL;
    CHECK_STATUS(twinstream_wait(engine, cancelled, 20 * SECOND_NS, &result), TWINSTREAM_CANCELLED);
    {
        const twinstream_status status = twinstream_wait(engine, late, 20 * SECOND_NS, &result);
        CHECK(status == TWINSTREAM_REJECTED || status == TWINSTREAM_EXPIRED);
    }
    CHECK_STATUS(twinstream_wait(engine, queued, 20 * SECOND_NS, &result), TWINSTREAM_CANCELLED);
    /* Answered, but not taken out of the queue. */
    CHECK_STATUS(twinstream_release(engine, queued), TWINSTREAM_STATE);
    {
        /* Who waits may hear of an answer before it is in the queue. */
        struct pollfd watched = {-1, POLLIN, 0};
        twinstream_request next = 0;
        CHECK_OK(twinstream_queue_descriptor(engine, &watched.fd));
        CHECK(poll(&watched, 1, 20000) == 1);
        CHECK_OK(twinstream_queue_next(engine, &next, NULL));
        CHECK(next == queued);
    }
    CHECK_OK(twinstream_release(engine, queued));
    CHECK(result == NULL);
    CHECK_OK(twinstream_release(engine, waits));
    CHECK_OK(twinstream_release(engine, cancelled));
    CHECK_OK(twinstream_release(engine, late));
    CHECK_OK(twinstream_engine_destroy(engine));
}

typedef struct {
    twinstream_engine *engine;
    twinstream_request request;
    twinstream_status status;
} waiter;

static void *wait_for(void *argument) {
    waiter *self = (waiter *)argument;
    self->status = twinstream_wait(self->engine, self->request, TWINSTREAM_FOREVER, NULL);
    return NULL;
}

static void many_wait_for_one(void) {
    twinstream_engine *engine = null_engine(8);
    hold held = HOLD(engine);
    waiter waiters[3];
    pthread_t threads[3];
    twinstream_request request;
    hold_begin(&held);
    request = submit(engine, TWINSTREAM_NOTICE_NONE, NULL);
    for (int i = 0; i < 3; i++) {
        waiters[i].engine = engine;
        waiters[i].request = request;
        CHECK(pthread_create(&threads[i], NULL, wait_for, &waiters[i]) == 0);
    }
    CHECK_STATUS(twinstream_wait(engine, request, SECOND_NS / 100, NULL), TWINSTREAM_TIMEOUT);
    hold_end(&held);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(waiters[i].status == TWINSTREAM_OK);
    }
    CHECK_OK(twinstream_release(engine, request));

    /* Released while others wait for it, it lets them go, as does the engine's end. */
    {
        hold second = HOLD(engine);
        hold_begin(&second);
        for (int i = 0; i < 2; i++) {
            waiters[i].request = submit(engine, TWINSTREAM_NOTICE_NONE, NULL);
            CHECK(pthread_create(&threads[i], NULL, wait_for, &waiters[i]) == 0);
            CHECK_STATUS(twinstream_wait(engine, waiters[i].request, SECOND_NS / 100, NULL),
                         TWINSTREAM_TIMEOUT);
        }
        CHECK_OK(twinstream_release(engine, waiters[0].request));
        CHECK(pthread_join(threads[0], NULL) == 0);
        CHECK(waiters[0].status == TWINSTREAM_STALE);
        /* What is left at a timeout of nothing is shut down. The callback is still awaited. */
        hold_end(&second);
        CHECK_OK(twinstream_engine_destroy(engine));
        CHECK(pthread_join(threads[1], NULL) == 0);
        /* Stale, if its thread came so late that the engine was gone. */
        CHECK(waiters[1].status == TWINSTREAM_OK || waiters[1].status == TWINSTREAM_SHUT_DOWN ||
              waiters[1].status == TWINSTREAM_STALE);
    }
}

typedef struct {
    twinstream_engine *engine;
    pthread_t submitter;
    int left;
    int answered;
    gate done;
} chain;

/* Hands in the next request from inside the callback, and tries what must not be done there. */
static void chain_callback(void *user_data, twinstream_request request, twinstream_status status,
                           const float *result) {
    chain *self = (chain *)user_data;
    twinstream_request_options options = request_options(TWINSTREAM_NOTICE_CALLBACK);
    CHECK(!pthread_equal(pthread_self(), self->submitter));
    CHECK(status == TWINSTREAM_OK && result != NULL);
    self->answered++;
    if (self->left-- > 0) {
        twinstream_request next;
        options.callback = chain_callback;
        options.user_data = self;
        CHECK_OK(twinstream_submit(self->engine, image, sizeof image, &options, &next));
        CHECK_STATUS(twinstream_wait(self->engine, next, 0, NULL), TWINSTREAM_IN_CALLBACK);
        CHECK_STATUS(twinstream_poll(self->engine, next, NULL), TWINSTREAM_PENDING);
    }
    CHECK_OK(twinstream_wait(self->engine, request, TWINSTREAM_FOREVER, NULL));
    CHECK_STATUS(twinstream_engine_drain(self->engine, 0), TWINSTREAM_IN_CALLBACK);
    CHECK_STATUS(twinstream_engine_destroy(self->engine), TWINSTREAM_IN_CALLBACK);
    {
        const twinstream_options others = null_options(1);
        twinstream_engine *other = NULL;
        CHECK_STATUS(twinstream_engine_create(&others, &other), TWINSTREAM_IN_CALLBACK);
    }
    CHECK_OK(twinstream_release(self->engine, request));
    CHECK_STATUS(twinstream_release(self->engine, request), TWINSTREAM_STALE);
    if (self->left < 0) gate_open(&self->done);
}

static void callbacks_hand_in_again(void) {
    twinstream_engine *engine = null_engine(4);
    chain links = {engine, pthread_self(), 99, 0, GATE_CLOSED};
    twinstream_request_options options = request_options(TWINSTREAM_NOTICE_CALLBACK);
    twinstream_request request;
    options.callback = chain_callback;
    options.user_data = &links;
    CHECK_OK(twinstream_submit(engine, image, sizeof image, &options, &request));
    gate_pass(&links.done);
    CHECK_OK(twinstream_engine_destroy(engine));
    CHECK(links.answered == 100);
}

static int is_readable(int descriptor) {
    struct pollfd watched = {descriptor, POLLIN, 0};
    const int len = poll(&watched, 1, 0);
    CHECK(len >= 0);
    return len;
}

static void queue_of_completions(void) {
    twinstream_engine *engine = null_engine(8);
    twinstream_request requests[4], next = 7;
    int marks[4], descriptor = -1;
    void *user_data = NULL;
    CHECK_OK(twinstream_queue_descriptor(engine, &descriptor));
    CHECK(!is_readable(descriptor));
    CHECK_STATUS(twinstream_queue_next(engine, &next, &user_data), TWINSTREAM_EMPTY);
    CHECK(next == 7 && user_data == NULL);
    for (int i = 0; i < 4; i++) requests[i] = submit(engine, TWINSTREAM_NOTICE_QUEUE, &marks[i]);
    for (int i = 0; i < 4; i++) {
        struct pollfd watched = {descriptor, POLLIN, 0};
        const float *result = NULL;
        int index;
        CHECK(poll(&watched, 1, 20000) == 1);
        CHECK_OK(twinstream_queue_next(engine, &next, &user_data));
        index = (int)((int *)user_data - marks);
        CHECK(index >= 0 && index < 4 && next == requests[index]);
        CHECK_OK(twinstream_poll(engine, next, &result));
        CHECK(result != NULL);
        CHECK_OK(twinstream_release(engine, next));
    }
    CHECK(!is_readable(descriptor));
    CHECK_STATUS(twinstream_queue_next(engine, &next, NULL), TWINSTREAM_EMPTY);
    /* What is queued and never taken goes with the engine. */
    (void)submit(engine, TWINSTREAM_NOTICE_QUEUE, NULL);
    CHECK_OK(twinstream_engine_destroy(engine));
}

/* In whole, cut, and asked for its size alone. */
static void prometheus(twinstream_engine *engine) {
    static char text[1 << 16];
    char start[8];
    size_t needed_bytes = 0, again_bytes = 0;
    CHECK_OK(twinstream_engine_prometheus(engine, NULL, 0, &needed_bytes));
    CHECK(needed_bytes > 100 && needed_bytes <= sizeof text);
    CHECK_OK(twinstream_engine_prometheus(engine, text, sizeof text, &again_bytes));
    CHECK(again_bytes == needed_bytes && strlen(text) + 1 == needed_bytes);
    CHECK(strstr(text, "# TYPE") != NULL);
    CHECK_OK(twinstream_engine_prometheus(engine, start, sizeof start, &again_bytes));
    CHECK(again_bytes == needed_bytes && strlen(start) == sizeof start - 1);
    CHECK(strncmp(text, start, sizeof start - 1) == 0);
}

static void drained(void) {
    twinstream_engine *engine = null_engine(8);
    twinstream_request request = submit(engine, TWINSTREAM_NOTICE_NONE, NULL), leased, other = 7;
    twinstream_stats stats;
    uint8_t *place;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    CHECK_OK(twinstream_lease(engine, &leased, &place));
    CHECK_OK(twinstream_engine_drain(engine, 20 * SECOND_NS));
    CHECK_STATUS(twinstream_engine_health(engine), TWINSTREAM_SHUT_DOWN);
    CHECK_OK(twinstream_poll(engine, request, NULL));
    CHECK_STATUS(twinstream_submit(engine, image, sizeof image, NULL, &other),
                 TWINSTREAM_SHUT_DOWN);
    CHECK_STATUS(twinstream_commit(engine, leased, NULL), TWINSTREAM_SHUT_DOWN);
    CHECK_STATUS(twinstream_poll(engine, leased, NULL), TWINSTREAM_SHUT_DOWN);
    CHECK_OK(twinstream_release(engine, leased));
    CHECK_OK(twinstream_release(engine, request));
    CHECK_OK(twinstream_engine_stats(engine, &stats));
    CHECK(stats.struct_size == sizeof stats && stats.accepted == 1 && stats.completed == 1);
    CHECK(stats.alive == 0 && stats.waiting == 0 && stats.shut_down == 0);
    CHECK(stats.batches_full + stats.batches_just_in_time + stats.batches_idle +
              stats.batches_deadline + stats.batches_flush ==
          1);
    CHECK(stats.compute_fixed_ns > 0 || stats.compute_per_image_ns > 0);
    CHECK(stats.batch_len_mean >= 0.99 && stats.batch_len_max == 1);
    CHECK(stats.latency_p50_ns > 0 && stats.latency_p50_ns <= stats.latency_max_ns);
    CHECK(stats.latency_p99_ns <= stats.latency_max_ns && stats.latency_mean_ns > 0);
    CHECK(stats.uploaded_bytes == IMAGE_BYTES);
    CHECK(stats.downloaded_bytes == RESULT_LEN * sizeof(float));
    prometheus(engine);
    CHECK_OK(twinstream_engine_destroy(engine));
}

/* Several devices serve one queue; what would not be used with them is refused. */
static void several(void) {
    twinstream_options options = null_options(8);
    twinstream_engine *engine = NULL;
    twinstream_stats stats;
    options.backends = "null,null,null";
    CHECK_STATUS(twinstream_engine_create(&options, &engine), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "options.null changes nothing") != NULL);
    options.null = NULL;
    options.backends = "null,gpu";
    CHECK_STATUS(twinstream_engine_create(&options, &engine), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "`gpu`: not a backend") != NULL);
    options.backends = "null,null,null";
    CHECK_OK(twinstream_engine_create(&options, &engine));
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    CHECK_OK(twinstream_engine_stats(engine, &stats));
    CHECK(stats.devices == 3 && stats.devices_lost == 0);
    CHECK_OK(twinstream_engine_destroy(engine));
}

/* Equal images are answered alike, and once, however they are asked for. */
static void seen_before(void) {
    twinstream_options options = null_options(8);
    twinstream_engine *engine = NULL;
    twinstream_request first, second, queued, next = 0;
    twinstream_stats stats;
    struct pollfd watched = {-1, POLLIN, 0};
    options.cache_bytes = 1;
    CHECK_STATUS(twinstream_engine_create(&options, &engine), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "cache_bytes") != NULL);
    options.cache_bytes = 100000;
    CHECK_OK(twinstream_engine_create(&options, &engine));
    first = submit(engine, TWINSTREAM_NOTICE_NONE, NULL);
    CHECK_OK(twinstream_wait(engine, first, 20 * SECOND_NS, NULL));
    second = submit(engine, TWINSTREAM_NOTICE_NONE, NULL);
    queued = submit(engine, TWINSTREAM_NOTICE_QUEUE, NULL);
    CHECK_OK(twinstream_wait(engine, second, 20 * SECOND_NS, NULL));
    CHECK_OK(twinstream_queue_descriptor(engine, &watched.fd));
    CHECK(poll(&watched, 1, 20000) == 1);
    CHECK_OK(twinstream_queue_next(engine, &next, NULL));
    CHECK(next == queued);
    CHECK_OK(twinstream_engine_drain(engine, 20 * SECOND_NS));
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    CHECK_OK(twinstream_engine_stats(engine, &stats));
    CHECK(stats.cache_hits == 2 && stats.cache_joined == 0 && stats.cache_misses == 1);
    CHECK(stats.cache_bytes > 0 && stats.cache_is_on == 1);
    CHECK(stats.completed == 3 && stats.uploaded_bytes == IMAGE_BYTES);
    CHECK_OK(twinstream_engine_destroy(engine));
}

typedef struct {
    int message_len;
    char first[200];
} messages;

static void log_callback(void *user_data, int32_t level, const char *text) {
    messages *log = (messages *)user_data;
    CHECK(level >= TWINSTREAM_LOG_ERROR && level <= TWINSTREAM_LOG_INFO);
    if (log->message_len++ == 0) snprintf(log->first, sizeof log->first, "%s", text);
    CHECK_STATUS(twinstream_log_set(TWINSTREAM_LOG_OFF, NULL, NULL), TWINSTREAM_IN_CALLBACK);
}

static void logged(void) {
    messages log = {0, ""};
    int message_len;
    CHECK_STATUS(twinstream_log_set(6, log_callback, &log), TWINSTREAM_ARGUMENT);
    CHECK_OK(twinstream_log_set(TWINSTREAM_LOG_INFO, log_callback, &log));
    CHECK_OK(twinstream_engine_destroy(null_engine(4)));
    CHECK_OK(twinstream_log_set(TWINSTREAM_LOG_OFF, NULL, NULL));
    message_len = log.message_len;
    CHECK(message_len > 0 && strstr(log.first, "engine started") != NULL);
    CHECK_OK(twinstream_engine_destroy(null_engine(4)));
    CHECK(log.message_len == message_len);
}

int main(void) {
    geometry_and_labels();
    pending_then_given_up();
    many_wait_for_one();
    callbacks_hand_in_again();
    queue_of_completions();
    drained();
    several();
    seen_before();
    logged();
    puts("requests: ok");
    return 0;
}

/* What a request costs from C, around a device that does nothing, beside a batching thread behind a
 * locked queue; one JSON object a line.
 *
 *     bench [SECONDS]
 *
 * Images of 3,072 bytes are written into their places; a producer keeps 128 requests open. Requests
 * a second count lease, write, commit, wait and release, by one and by two producers; the latency
 * is that of one request alone. The peer is the least that a C service would write itself: parcels
 * that exist already, a queue under a mutex, a thread that takes what is there, and a condition in
 * each parcel to answer. It has no names to check, deadlines, priorities or cancellation. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <twinstream.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    IMAGE_BYTES = 3072,
    RESULT_LEN = 10,
    OPEN_LEN = 128,
    ALONE_LEN = 20000,
    PRODUCER_MAX = 2
};

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void check(const char *what, twinstream_status status) {
    if (status == TWINSTREAM_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, twinstream_status_name(status), twinstream_last_error());
    exit(1);
}

/* A service under test: hands in an image, awaits its answer. `place` is one of a producer's. */
typedef struct {
    const char *name;
    void (*submit)(int producer, int place, int value);
    float (*finish)(int producer, int place);
} contender;

/* --- Twinstream ------------------------------------------------------------------------------- */

static twinstream_engine *engine;
static twinstream_request requests[PRODUCER_MAX][OPEN_LEN];

static void ours_open(void) {
    const twinstream_null_options null = {sizeof null, 0, IMAGE_BYTES, RESULT_LEN};
    twinstream_options options;
    check("options", twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION));
    options.backend = TWINSTREAM_BACKEND_NULL;
    options.null = &null;
    check("engine", twinstream_engine_create(&options, &engine));
}

static void ours_submit(int producer, int place, int value) {
    uint8_t *image;
    check("lease", twinstream_lease(engine, &requests[producer][place], &image));
    memset(image, value, IMAGE_BYTES);
    check("commit", twinstream_commit(engine, requests[producer][place], NULL));
}

static float ours_finish(int producer, int place) {
    const twinstream_request request = requests[producer][place];
    const float *result;
    float value;
    check("wait", twinstream_wait(engine, request, TWINSTREAM_FOREVER, &result));
    value = result[0];
    check("release", twinstream_release(engine, request));
    return value;
}

/* --- The peer --------------------------------------------------------------------------------- */

typedef struct {
    uint8_t image[IMAGE_BYTES];
    float result[RESULT_LEN];
    pthread_mutex_t lock;
    pthread_cond_t answered;
    int is_answered;
} parcel;

static parcel parcels[PRODUCER_MAX][OPEN_LEN];
static parcel *queue[PRODUCER_MAX * OPEN_LEN];
static int queue_len, is_closed;
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static pthread_t batcher;

static void *batch(void *unused) {
    parcel *taken[PRODUCER_MAX * OPEN_LEN];
    (void)unused;
    for (;;) {
        int len, i;
        pthread_mutex_lock(&queue_lock);
        while (queue_len == 0 && !is_closed) pthread_cond_wait(&queue_filled, &queue_lock);
        len = queue_len;
        memcpy(taken, queue, (size_t)len * sizeof *queue);
        queue_len = 0;
        pthread_mutex_unlock(&queue_lock);
        if (len == 0) return NULL;
        for (i = 0; i < len; i++) {
            pthread_mutex_lock(&taken[i]->lock);
            taken[i]->is_answered = 1;
            pthread_cond_signal(&taken[i]->answered);
            pthread_mutex_unlock(&taken[i]->lock);
        }
    }
}

static void peer_open(void) {
    int producer, place;
    for (producer = 0; producer < PRODUCER_MAX; producer++) {
        for (place = 0; place < OPEN_LEN; place++) {
            pthread_mutex_init(&parcels[producer][place].lock, NULL);
            pthread_cond_init(&parcels[producer][place].answered, NULL);
        }
    }
    if (pthread_create(&batcher, NULL, batch, NULL) != 0) exit(1);
}

static void peer_close(void) {
    pthread_mutex_lock(&queue_lock);
    is_closed = 1;
    pthread_cond_signal(&queue_filled);
    pthread_mutex_unlock(&queue_lock);
    pthread_join(batcher, NULL);
}

static void peer_submit(int producer, int place, int value) {
    parcel *mine = &parcels[producer][place];
    memset(mine->image, value, IMAGE_BYTES);
    mine->is_answered = 0;
    pthread_mutex_lock(&queue_lock);
    queue[queue_len++] = mine;
    if (queue_len == 1) pthread_cond_signal(&queue_filled);
    pthread_mutex_unlock(&queue_lock);
}

static float peer_finish(int producer, int place) {
    parcel *mine = &parcels[producer][place];
    pthread_mutex_lock(&mine->lock);
    while (!mine->is_answered) pthread_cond_wait(&mine->answered, &mine->lock);
    pthread_mutex_unlock(&mine->lock);
    return mine->result[0];
}

/* --- The measurement -------------------------------------------------------------------------- */

typedef struct {
    const contender *service;
    int number;
    double seconds;
    long request_len;
    double sum;
} producer;

static void *produce(void *argument) {
    producer *self = (producer *)argument;
    const double until = now_seconds() + self->seconds;
    int place;
    for (place = 0; place < OPEN_LEN; place++) self->service->submit(self->number, place, place);
    /* The clock is looked at once a round. */
    while (now_seconds() < until) {
        for (place = 0; place < OPEN_LEN; place++) {
            self->sum += self->service->finish(self->number, place);
            self->service->submit(self->number, place, place);
        }
        self->request_len += OPEN_LEN;
    }
    for (place = 0; place < OPEN_LEN; place++) {
        self->sum += self->service->finish(self->number, place);
    }
    self->request_len += OPEN_LEN;
    return NULL;
}

/* Requests a second. */
static double throughput(const contender *service, int producer_len, double seconds) {
    producer producers[PRODUCER_MAX];
    pthread_t threads[PRODUCER_MAX];
    const double start = now_seconds();
    double rate_hz;
    long request_len = 0;
    int i;
    for (i = 0; i < producer_len; i++) {
        const producer fresh = {service, i, seconds, 0, 0};
        producers[i] = fresh;
        if (pthread_create(&threads[i], NULL, produce, &producers[i]) != 0) exit(1);
    }
    for (i = 0; i < producer_len; i++) {
        pthread_join(threads[i], NULL);
        request_len += producers[i].request_len;
    }
    rate_hz = (double)request_len / (now_seconds() - start);
    printf("{\"bench\":\"throughput\",\"service\":\"%s\",\"producers\":%d,\"image_bytes\":%d,"
           "\"open\":%d,\"requests\":%ld,\"requests_per_second\":%.0f}\n",
           service->name, producer_len, IMAGE_BYTES, OPEN_LEN, request_len, rate_hz);
    return rate_hz;
}

static int compare(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Its median in microseconds. */
static double alone(const contender *service) {
    static double latencies_us[ALONE_LEN];
    double sum = 0;
    int i;
    for (i = 0; i < ALONE_LEN; i++) {
        const double start = now_seconds();
        service->submit(0, 0, i);
        sum += service->finish(0, 0);
        latencies_us[i] = 1e6 * (now_seconds() - start);
    }
    qsort(latencies_us, ALONE_LEN, sizeof *latencies_us, compare);
    printf("{\"bench\":\"alone\",\"service\":\"%s\",\"requests\":%d,\"p50_us\":%.2f,"
           "\"p99_us\":%.2f,\"sum\":%g}\n",
           service->name, ALONE_LEN, latencies_us[ALONE_LEN / 2],
           latencies_us[ALONE_LEN / 100 * 99], sum);
    return latencies_us[ALONE_LEN / 2];
}

/* Above 1 Twinstream is ahead. */
static void ratio(const char *of, int producer_len, double factor) {
    printf("{\"bench\":\"ratio\",\"of\":\"%s\",\"producers\":%d,\"factor\":%.2f}\n", of,
           producer_len, factor);
}

int main(int argument_len, char **arguments) {
    const double seconds = argument_len > 1 ? atof(arguments[1]) : 2;
    static const contender services[] = {
        {"twinstream", ours_submit, ours_finish},
        {"locked queue with a batching thread", peer_submit, peer_finish},
    };
    double found[2];
    int i, producer_len;
    ours_open();
    peer_open();
    for (producer_len = 1; producer_len <= PRODUCER_MAX; producer_len++) {
        for (i = 0; i < 2; i++) found[i] = throughput(&services[i], producer_len, seconds);
        ratio("throughput", producer_len, found[0] / found[1]);
    }
    for (i = 0; i < 2; i++) found[i] = alone(&services[i]);
    ratio("alone", 1, found[1] / found[0]);
    peer_close();
    check("destroy", twinstream_engine_destroy(engine));
    return 0;
}

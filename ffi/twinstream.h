/* Twinstream: ResNet-50 at the lowest latency the hardware allows, for C and C++.
 *
 * An engine serves one network on one device. A request goes through it like this:
 *
 *     lease --commit--> pending --> answered        submit = lease, copy, commit
 *       `-------------release-----------'
 *
 *     twinstream_lease(engine, &request, &image);   a slot in the memory the device copies from
 *     ... write twinstream_geometry.image_bytes into image ...
 *     twinstream_commit(engine, request, NULL);
 *     twinstream_wait(engine, request, TWINSTREAM_FOREVER, &result);
 *     ... read twinstream_geometry.result_len floats from result ...
 *     twinstream_release(engine, request);
 *
 * Contract of every call, unless it says otherwise:
 * - It returns a status: TWINSTREAM_OK is 0, all others are positive. Outputs are written on
 *   TWINSTREAM_OK alone; a call that fails has changed nothing.
 * - It may be made from any thread, any number at a time, and from callbacks.
 * - It does not block, and calls nobody back but for the log.
 * - Pointers handed in are read during the call and not kept. NULL gives TWINSTREAM_NULL, except
 *   where it is given a meaning.
 * - Engines and requests are handles, not addresses: one that ended, or never was, gives
 *   TWINSTREAM_STALE, a release of something released included.
 * - A panic inside is reported on stderr and becomes TWINSTREAM_PANIC: a bug of the library.
 * - From creation on, leasing, committing, waiting, polling, cancelling, releasing, the queue and
 *   timing allocate nothing.
 *
 * The library installs no signal handlers, starts no thread before an engine is created and never
 * ends the process, but for a callback that throws: none may throw, longjmp or end its thread.
 * Weights are mapped into memory, though: a file that is truncated while an engine is created from
 * it raises SIGBUS. Replace such a file by renaming another to its name.
 *
 * An engine belongs to the process that created it: create engines after forking. In a process that
 * was forked off later every call with it gives TWINSTREAM_STATE, at once, and its memory stays.
 *
 * No order among answers is promised: requests are batched by priority and deadline, and those that
 * are equal in both mostly, not always, as they were committed. Who needs an order keeps it by the
 * request's handle or user data.
 */
#ifndef TWINSTREAM_H
#define TWINSTREAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header. A library of another one refuses to create engines (TWINSTREAM_ABI). Raised when
 * something that exists changes; functions, statuses and fields at the end of structs are added
 * without. */
#define TWINSTREAM_ABI_VERSION 2u

/* A timeout that never ends. */
#define TWINSTREAM_FOREVER UINT64_MAX

/* What a call, or a request, came to: one of the values below, or of a later library's. */
typedef int32_t twinstream_status;

/* Statuses. A value is never given another meaning, and never given up. */
enum {
    TWINSTREAM_OK = 0,

    /* Not now; nothing was lost and the same call may succeed later. */
    TWINSTREAM_FULL = 1,    /* too many slots are in use: shed load, retry later, or wait */
    TWINSTREAM_PENDING = 2, /* the request has no answer yet */
    TWINSTREAM_TIMEOUT = 3, /* the time was over first */
    TWINSTREAM_EMPTY = 4,   /* no completion is queued */

    /* Answers of requests, in place of a result. */
    TWINSTREAM_REJECTED = 10,  /* its deadline could not be met from the start; not computed */
    TWINSTREAM_EXPIRED = 11,   /* its deadline came too close while it waited; not computed */
    TWINSTREAM_CANCELLED = 12, /* cancelled before it ended otherwise */
    TWINSTREAM_FAILED = 13,    /* the device failed at it; the next may succeed */

    /* Answers of requests, and of calls from then on. */
    TWINSTREAM_DEVICE_LOST = 20, /* for good; twinstream_engine_health says why */
    TWINSTREAM_SHUT_DOWN = 21,   /* the engine drains or was drained */

    /* The caller's mistakes. */
    TWINSTREAM_NULL = 30,        /* a pointer that must not be NULL is */
    TWINSTREAM_STRUCT_SIZE = 31, /* struct_size is none that this library knows */
    TWINSTREAM_ABI = 32,         /* header and library do not fit each other */
    TWINSTREAM_ARGUMENT = 33,    /* a value is out of range */
    TWINSTREAM_IMAGE_SIZE = 34,  /* the image has not twinstream_geometry.image_bytes */
    TWINSTREAM_STALE = 35,       /* no such engine or request, or no longer */
    TWINSTREAM_STATE = 36,       /* not at this point of its life, or not in a forked process */
    TWINSTREAM_IN_CALLBACK = 37, /* this would block, which callbacks must not */

    /* The surroundings; only from creation. */
    TWINSTREAM_IO = 50,          /* a file could not be read, or a thread not be started */
    TWINSTREAM_WEIGHTS = 51,     /* the weights are malformed or do not fit the network */
    TWINSTREAM_CONFIG = 52,      /* the configuration is malformed or contradicts the weights */
    TWINSTREAM_MEMORY = 53,      /* no memory of the kind that was asked for */
    TWINSTREAM_DEVICE = 54,      /* the device cannot be used */
    TWINSTREAM_UNSUPPORTED = 55, /* not in this build of the library, or not on this system */

    TWINSTREAM_PANIC = 90 /* a bug of the library: please report it */
};

/* What computes. */
enum {
    TWINSTREAM_BACKEND_CPU = 1,
    TWINSTREAM_BACKEND_CUDA = 2, /* TWINSTREAM_UNSUPPORTED where it was not built in */
    TWINSTREAM_BACKEND_NULL = 3  /* nothing does: results are arbitrary; measures all the rest */
};

/* How the memory of images and results is held, the strongest first. */
enum {
    TWINSTREAM_MEMORY_CUDA = 1,   /* page-locked and registered with CUDA */
    TWINSTREAM_MEMORY_LOCKED = 2, /* locked by the system, never swapped out */
    TWINSTREAM_MEMORY_PLAIN = 3   /* ordinary pages */
};

/* Which requests go first; among equals the earlier deadline does. */
enum {
    TWINSTREAM_PRIORITY_LOW = -1,
    TWINSTREAM_PRIORITY_NORMAL = 0,
    TWINSTREAM_PRIORITY_HIGH = 1
};

/* Why a batch began to compute when it did. */
enum {
    TWINSTREAM_REASON_FULL = 1,         /* it was as long as wanted */
    TWINSTREAM_REASON_JUST_IN_TIME = 2, /* waiting longer would have left the device idle */
    TWINSTREAM_REASON_IDLE = 3,         /* the device was idle and nothing worth waiting for */
    TWINSTREAM_REASON_DEADLINE = 4,     /* a request had waited as long as it may */
    TWINSTREAM_REASON_FLUSH = 5,        /* the engine drains */
    TWINSTREAM_REASON_AHEAD = 6         /* there was time to spare */
};

/* How much is logged; each level includes those before it. */
enum {
    TWINSTREAM_LOG_OFF = 0,
    TWINSTREAM_LOG_ERROR = 1,
    TWINSTREAM_LOG_WARN = 2,
    TWINSTREAM_LOG_INFO = 3,
    TWINSTREAM_LOG_DEBUG = 4,
    TWINSTREAM_LOG_TRACE = 5
};

/* How the answer of a request is announced. twinstream_poll and twinstream_wait work with all. */
enum {
    TWINSTREAM_NOTICE_NONE = 0,
    TWINSTREAM_NOTICE_CALLBACK = 1, /* twinstream_request_options.callback is called */
    TWINSTREAM_NOTICE_QUEUE = 2     /* its request appears in twinstream_queue_next */
};

/* An engine; a handle that is never dereferenced. */
typedef struct twinstream_engine twinstream_engine;

/* A request: the handle of a lease, then of the image handed over, then of its answer; or of
 * several images that are handed over as one. Never 0. It holds its slots until it is released,
 * which each lease or submission is owed once. */
typedef uint64_t twinstream_request;

/* Takes the answer of a request. Runs exactly once, on the engine's thread, never on the thread
 * that commits, possibly before the commit returns. While it runs, the engine serves nobody: hand
 * over what takes long. It may make any call that does not block: lease, commit, submit, release
 * its own request. `status` is TWINSTREAM_OK or an answer in place of a result; `result` is then
 * NULL, else it holds until the request is released, here or later, by whoever took it over. */
typedef void (*twinstream_callback)(void *user_data, twinstream_request request,
                                    twinstream_status status, const float *result);

/* Takes a log message, on any thread, one at a time. `text` holds during the call. It must not call
 * the library, which is refused where it would block. */
typedef void (*twinstream_log_callback)(void *user_data, int32_t level, const char *text);

/* What the CPU backend is opened with. Set all to zero, then struct_size. */
typedef struct twinstream_cpu_options {
    uint32_t struct_size;
    uint32_t thread_len; /* that compute; 0: one for each processor */
} twinstream_cpu_options;

/* What the CUDA backend is opened with. Set all to zero, then struct_size. */
typedef struct twinstream_cuda_options {
    uint32_t struct_size;
    uint32_t reserved;       /* 0 */
    const char *device;      /* number, or UUID as by nvidia-smi -L; NULL: the first */
    const char *tuning_path; /* file of `twinstream tune`, with that of `twinstream prove`
                              * beside it; NULL: the usual ones, if any */
} twinstream_cuda_options;

/* What the null backend is opened with. Set all to zero, then struct_size. */
typedef struct twinstream_null_options {
    uint32_t struct_size;
    uint32_t reserved;    /* 0 */
    uint64_t image_bytes; /* of an image, up to 268,435,456; 0: 3,072 */
    uint64_t result_len;  /* values of a result, up to 1,048,576; 0: 10 */
} twinstream_null_options;

/* How an engine is made. Filled with defaults by twinstream_options_init, which are meant to be
 * kept; only weights_path must be set, or another backend. */
typedef struct twinstream_options {
    uint32_t struct_size;
    uint32_t abi_version;
    int32_t backend;          /* TWINSTREAM_BACKEND_ */
    int32_t memory_weakest;   /* TWINSTREAM_MEMORY_: the weakest to accept */
    const char *weights_path; /* a safetensors file; CPU and CUDA */
    const char *config_path;  /* NULL: config.json beside the weights, if there is one */
    const char *policy;       /* how batches are chosen: docs/SIMULATION.md; NULL: "stream" */
    /* Those of the backend; NULL: defaults. Another backend's are refused. */
    const twinstream_cpu_options *cpu;
    const twinstream_cuda_options *cuda;
    const twinstream_null_options *null;
    uint32_t height;           /* of images in pixels; 0: the network's own */
    uint32_t width;            /* the same */
    uint32_t top_k;            /* classes to answer with, CPU and CUDA; 0: logits instead */
    int32_t core;              /* the engine's thread is pinned to; -1: the system chooses */
    uint64_t slot_len;         /* requests alive at a time, 1 to 32,768; twice as many results */
    uint64_t batch_len_max;    /* longest batch, in images */
    uint64_t latency_bound_ns; /* each request's deadline, if it has no earlier one; 0: none */
    uint64_t spin_ns;          /* how long threads spin before they sleep */
    uint64_t stall_timeout_ns; /* a device that ends no work for so long is lost; not 0 */
    /* A caller whose struct ends above gets the default of what is below. */
    uint64_t trace_len; /* latest events of twinstream_engine_trace, to 16,777,216; 0: none */
    /* What is computed in: "f32", "bf16" or "i8" on the CPU, "f16" or "i8" on a GPU. NULL: "i8"
     * with weights that `twinstream calibrate` wrote, else "f32" on the CPU and "f16" on a GPU. */
    const char *precision;
    uint64_t cache_bytes; /* for the answers of images seen before; 0: none are kept */
    /* In place of `backend`, and `cpu`, `cuda` and `null` are NULL: several that serve one queue,
     * separated by commas, such as "cuda:0,cuda:1"; "cpu:2x1" is two teams of one thread. One that
     * is lost is left out, and the others answer what it had not. NULL: the one of `backend`. */
    const char *backends;
} twinstream_options;

/* How a request is handled. Set all to zero, then struct_size. */
typedef struct twinstream_request_options {
    uint32_t struct_size;
    int32_t priority;             /* TWINSTREAM_PRIORITY_ */
    uint64_t deadline_after_ns;   /* from this call on, by when the result must be there; 0: none */
    int32_t notice;               /* TWINSTREAM_NOTICE_ */
    uint32_t reserved;            /* 0 */
    twinstream_callback callback; /* with TWINSTREAM_NOTICE_CALLBACK, and with no other */
    void *user_data;              /* handed to the callback, or out of the queue */
} twinstream_request_options;

/* Sizes, the same throughout an engine's life. The caller sets struct_size. */
typedef struct twinstream_geometry {
    uint32_t struct_size;
    uint32_t height;      /* of an image in pixels; 0 with the null backend */
    uint32_t width;       /* the same */
    uint32_t reserved;    /* 0 */
    uint64_t image_bytes; /* u8 RGB: height x width x 3 */
    /* Floats of a result: one logit a class; with top_k, index and probability of each of the best
     * classes, best first. */
    uint64_t result_len;
    uint64_t batch_len_max; /* longest batch, in images */
} twinstream_geometry;

/* What an engine has done, and its state; at most about a millisecond old. The caller sets
 * struct_size. `accepted` is the sum of all outcomes and of `alive`. */
typedef struct twinstream_stats {
    uint32_t struct_size;
    uint32_t reserved;  /* 0 */
    uint64_t accepted;  /* requests that were committed */
    uint64_t completed; /* answered with a result */
    uint64_t rejected;  /* answered with TWINSTREAM_REJECTED, and so on */
    uint64_t expired;
    uint64_t cancelled;
    uint64_t failed;
    uint64_t device_lost;
    uint64_t shut_down;
    uint64_t alive;         /* not answered yet */
    uint64_t waiting;       /* of these, not yet on their way to the device */
    double arrival_rate_hz; /* requests accepted a second, over the last five */
    /* The time of each stage of a batch: fixed, and for each image. */
    double upload_fixed_ns;
    double upload_per_image_ns;
    double compute_fixed_ns;
    double compute_per_image_ns;
    double download_fixed_ns;
    double download_per_image_ns;
    /* Batches that began to compute, by reason. */
    uint64_t batches_full;         /* it was as long as wanted */
    uint64_t batches_just_in_time; /* waiting longer would have left the device idle */
    uint64_t batches_idle;         /* the device was idle and nothing worth waiting for */
    uint64_t batches_deadline;     /* a request had waited as long as it may */
    uint64_t batches_flush;        /* the engine drains */
    double batch_len_mean;         /* images in a batch */
    uint64_t batch_len_max;
    /* From commit to the moment the answer can be seen or its callback is called, of completed
     * requests; all since the start.
     * Quantiles are at most 1.6 % or 32 ns off. */
    double latency_mean_ns;
    uint64_t latency_p50_ns;
    uint64_t latency_p99_ns;
    uint64_t latency_p999_ns;
    uint64_t latency_max_ns;
    uint64_t uploaded_bytes;   /* of images that were copied to the device */
    uint64_t downloaded_bytes; /* of results that were copied to the host */
    /* A caller whose struct ends above gets what is above. */
    uint64_t late; /* of the completed, those whose answer came after their deadline */
    /* Calls that were refused: no requests, not among the accepted. */
    uint64_t refused_full;
    uint64_t refused_size;
    uint64_t refused_shut_down;
    uint64_t refused_device_lost;
    uint64_t slots_in_use; /* places for images that are leased or hold a request */
    uint64_t slot_len;     /* and how many there are */
    /* Parts of the latency: until the batch begins to compute, until the device is done, until the
     * answer can be seen. */
    double waiting_mean_ns;
    uint64_t waiting_p99_ns;
    double computing_mean_ns;
    uint64_t computing_p99_ns;
    double notifying_mean_ns;
    uint64_t notifying_p99_ns;
    uint64_t callback_ns; /* spent in callbacks and in waking those who wait */
    /* Images that were looked for among those seen before: their answer was kept, or an equal one
     * was in flight, or neither. */
    uint64_t cache_hits;
    uint64_t cache_joined;
    uint64_t cache_misses;
    uint64_t cache_bytes;  /* of the answers that are kept */
    uint64_t cache_is_on;  /* 1: images are looked for; 0: there is no cache, or it does not pay */
    uint64_t devices;      /* of the engine */
    uint64_t devices_lost; /* of these; the others serve on */
} twinstream_stats;

/* When a request with a result passed which stage, in nanoseconds since the engine was started; no
 * moment is before the one above it. The caller sets struct_size. */
typedef struct twinstream_timing {
    uint32_t struct_size;
    int32_t reason;               /* TWINSTREAM_REASON_: why its batch began to compute */
    uint64_t arrival_ns;          /* it was committed */
    uint64_t upload_started_ns;   /* until here it was queued */
    uint64_t upload_ended_ns;     /* its image was in the device's memory, */
    uint64_t compute_started_ns;  /* where it waited until here */
    uint64_t compute_ended_ns;    /* its batch was computed */
    uint64_t download_started_ns; /* the results of its batch were on their way */
    uint64_t download_ended_ns;   /* its result was on the host */
    uint64_t announced_ns;        /* the answer could be seen, or its callback was called */
    uint64_t batch;               /* number of its batch, from 0, in the order of their computing */
    uint64_t batch_len;           /* images in it */
    uint64_t predicted_ns;        /* how long that was expected to compute */
    uint64_t computed_ns;         /* how long it did, as the device measured it */
} twinstream_timing;

/* --- The library ------------------------------------------------------------------------------ */

/* The TWINSTREAM_ABI_VERSION that the library was built with. */
uint32_t twinstream_abi_version(void);

/* The library's version, such as "0.1.0"; holds for ever. */
const char *twinstream_version(void);

/* "TWINSTREAM_FULL" for TWINSTREAM_FULL; "unknown status" for what is none; holds for ever. */
const char *twinstream_status_name(twinstream_status status);

/* What the last call on this thread that did not return TWINSTREAM_OK had to say, up to 1,023
 * bytes; "" before. Holds until the next such call on this thread. */
const char *twinstream_last_error(void);

/* Sends the log messages of all engines up to `level` (TWINSTREAM_LOG_) to `callback`, in place
 * of an earlier one; NULL: to nobody. Waits for a message that is being taken: once it has
 * returned, the earlier callback is not called again. TWINSTREAM_IN_CALLBACK from a log callback;
 * TWINSTREAM_STATE where a Rust program has a logger of its own. */
twinstream_status twinstream_log_set(int32_t level, twinstream_log_callback callback,
                                     void *user_data);

/* --- Engines ---------------------------------------------------------------------------------- */

/* Fills `options` with defaults. Call it as
 *     twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION)
 * with the macro: twinstream_abi_version() would compare the library with itself. */
twinstream_status twinstream_options_init(twinstream_options *options, size_t struct_size,
                                          uint32_t abi_version);

/* Loads the network, prepares the device, measures it and starts to serve: an engine that is
 * created is warm and ready. Blocks meanwhile, seconds for large networks; TWINSTREAM_IN_CALLBACK
 * from callbacks. At most 64 engines at a time (TWINSTREAM_FULL). The caller owes
 * twinstream_engine_destroy. */
twinstream_status twinstream_engine_create(const twinstream_options *options,
                                           twinstream_engine **engine);

/* Ends what is left as TWINSTREAM_SHUT_DOWN, waits for the work that the device is in the middle
 * of, for callbacks and for calls on other threads, then frees everything. Leases, results,
 * labels and the queue's descriptor end with it. Blocks; TWINSTREAM_IN_CALLBACK from callbacks.
 * stall_timeout_ns does not apply: where the device hangs in the middle of work, so does this. To
 * have that found out, drain first. */
twinstream_status twinstream_engine_destroy(twinstream_engine *engine);

/* Refuses further requests, waits until the accepted ones are answered and their callbacks
 * returned, but no longer than `timeout_ns`; the rest then ends as TWINSTREAM_SHUT_DOWN, and it
 * returns TWINSTREAM_TIMEOUT. Where the device was lost there is no rest, and it returns
 * TWINSTREAM_OK: twinstream_engine_health tells. Answers stay until they are released. Blocks;
 * TWINSTREAM_IN_CALLBACK from callbacks. */
twinstream_status twinstream_engine_drain(twinstream_engine *engine, uint64_t timeout_ns);

/* TWINSTREAM_OK while it accepts requests, TWINSTREAM_SHUT_DOWN, or TWINSTREAM_DEVICE_LOST, where
 * twinstream_last_error then has what the device said. */
twinstream_status twinstream_engine_health(const twinstream_engine *engine);

/* Sizes of images and results. */
twinstream_status twinstream_engine_geometry(const twinstream_engine *engine,
                                             twinstream_geometry *geometry);

/* The name of class `index`, in UTF-8; "class INDEX" where the network has no names. Holds until
 * the engine is destroyed. TWINSTREAM_ARGUMENT when there is no such class. */
twinstream_status twinstream_engine_label(const twinstream_engine *engine, uint64_t index,
                                          const char **label);

/* A snapshot of its statistics. */
twinstream_status twinstream_engine_stats(const twinstream_engine *engine, twinstream_stats *stats);

/* The same and more in Prometheus' text format (text/plain; version=0.0.4), to be served by the
 * caller. Writes what fits into `room_bytes`, a closing zero included, and says how many bytes it
 * takes in whole, the zero included; `text` may be NULL where there is no room. A snapshot takes
 * some 16 KiB. Allocates. */
twinstream_status twinstream_engine_prometheus(const twinstream_engine *engine, char *text,
                                               size_t room_bytes, size_t *needed_bytes);

/* The same of several engines as one text, for one scrape: each sample carries engine="NAME". Names
 * are in UTF-8 and differ (TWINSTREAM_ARGUMENT); without `names`, or where one is NULL, it is the
 * engine's place among `engines`: "0", "1" and so on. */
twinstream_status twinstream_engines_prometheus(twinstream_engine *const *engines,
                                                const char *const *names, size_t engine_len,
                                                char *text, size_t room_bytes,
                                                size_t *needed_bytes);

/* Writes a file with the latest events since this was last called: arrivals, decisions of the
 * policy, uploads, batches and downloads, in Chrome's trace event format, which Perfetto reads; an
 * earlier file of that name is replaced. Events that a call took are in no later file, even where
 * the file could not be written (TWINSTREAM_IO). TWINSTREAM_STATE where the options' trace_len was
 * 0. Blocks, and allocates, but holds no request up; TWINSTREAM_IN_CALLBACK from callbacks. */
twinstream_status twinstream_engine_trace(twinstream_engine *engine, const char *path);

/* --- Requests --------------------------------------------------------------------------------- */

/* A slot for one image, to be written by one thread until it is committed; it holds what was there
 * last. The caller owes twinstream_release. TWINSTREAM_FULL when every slot is in use, and the
 * answers of TWINSTREAM_DEVICE_LOST and TWINSTREAM_SHUT_DOWN for good. */
twinstream_status twinstream_lease(twinstream_engine *engine, twinstream_request *request,
                                   uint8_t **image);

/* Hands the image over: from here on it is the engine's. `options` may be NULL: none. After the
 * caller's mistakes it is still leased; after TWINSTREAM_DEVICE_LOST or TWINSTREAM_SHUT_DOWN that
 * is its answer, without a notice. */
twinstream_status twinstream_commit(twinstream_engine *engine, twinstream_request request,
                                    const twinstream_request_options *options);

/* Lease, copy and commit in one. `options` may be NULL: none. Without success there is no request
 * to release. */
twinstream_status twinstream_submit(twinstream_engine *engine, const uint8_t *image,
                                    size_t image_bytes, const twinstream_request_options *options,
                                    twinstream_request *request);

/* As twinstream_lease, but where every slot is in use it waits for one, up to `timeout_ns`; then it
 * is TWINSTREAM_FULL. Who waits is served in the order of coming, and before those who don't: as
 * long as somebody does, twinstream_lease is TWINSTREAM_FULL. A slot that the caller itself holds
 * does not come back meanwhile. At most 1,024 wait at a time, further ones are TWINSTREAM_FULL at
 * once. Blocks; TWINSTREAM_IN_CALLBACK where it would have to wait in a callback. */
twinstream_status twinstream_lease_wait(twinstream_engine *engine, uint64_t timeout_ns,
                                        twinstream_request *request, uint8_t **image);

/* Slots for `image_len` images that are handed over as one, all of them or none: `images` has room
 * for as many pointers. One request stands for all: it is committed, cancelled, awaited, announced
 * and released as one, with one deadline and one priority. It has its answer when each image has
 * one, each by itself, whatever becomes of the others: twinstream_results has them. Its own status,
 * which all other calls and its notice give, is TWINSTREAM_OK where each image has a result, and
 * its result the first image's; else it is the first image's that has none.
 *
 * Waits as twinstream_lease_wait does, up to `timeout_ns`, 0: not at all. The first who waits keeps
 * the slots that come free until there are enough, and nobody behind it holds any. Callers who
 * don't wait may at the same time meet some of the slots each and all be refused, though one would
 * have fitted. TWINSTREAM_ARGUMENT: no image, or more than slot_len. */
twinstream_status twinstream_lease_many(twinstream_engine *engine, size_t image_len,
                                        uint64_t timeout_ns, twinstream_request *request,
                                        uint8_t **images);

/* Leases, copies and commits whole images that lie one behind the other, as one; never waits.
 * `options` may be NULL: none. Without success there is no request to release. */
twinstream_status twinstream_submit_many(twinstream_engine *engine, const uint8_t *images,
                                         size_t images_bytes,
                                         const twinstream_request_options *options,
                                         twinstream_request *request);

/* The answer of each image of an answered request, in their order: status and result, which is NULL
 * where there is none, else holds until the release. `statuses` and `results` have room for
 * `image_len`, as many as it was leased for (TWINSTREAM_ARGUMENT); either may be NULL.
 * TWINSTREAM_PENDING while it has no answer. TWINSTREAM_DEVICE_LOST or TWINSTREAM_SHUT_DOWN, and no
 * output, where its commit was refused. */
twinstream_status twinstream_results(twinstream_engine *engine, twinstream_request request,
                                     size_t image_len, twinstream_status *statuses,
                                     const float **results);

/* Where the image of a lease goes, the first one of several. */
twinstream_status twinstream_image(twinstream_engine *engine, twinstream_request request,
                                   uint8_t **image);

/* Waits for the answer and returns it: TWINSTREAM_OK with the result, which holds until the
 * release, or why there is none. Any number of times. `result` may be NULL. Blocks, up to
 * `timeout_ns` (TWINSTREAM_TIMEOUT). TWINSTREAM_IN_CALLBACK where it would have to wait in a
 * callback. */
twinstream_status twinstream_wait(twinstream_engine *engine, twinstream_request request,
                                  uint64_t timeout_ns, const float **result);

/* As twinstream_wait, with TWINSTREAM_PENDING in place of waiting. */
twinstream_status twinstream_poll(twinstream_engine *engine, twinstream_request request,
                                  const float **result);

/* When a request with a result passed which stage, of several images the first; what
 * twinstream_poll returns where it has none or not yet. TWINSTREAM_PENDING also in a callback that
 * comes before the commit has returned. */
twinstream_status twinstream_request_timing(twinstream_engine *engine, twinstream_request request,
                                            twinstream_timing *timing);

/* Asks for the request to be cancelled. It is still answered, with TWINSTREAM_CANCELLED or as it
 * ended otherwise first; no effect once it is. */
twinstream_status twinstream_cancel(twinstream_engine *engine, twinstream_request request);

/* Gives its slot back: a lease unused, an answer with its result. A request that is pending is
 * cancelled and forgotten; one with a notice can't be (TWINSTREAM_STATE): cancel it, and release it
 * once its callback was called or it came out of the queue. */
twinstream_status twinstream_release(twinstream_engine *engine, twinstream_request request);

/* --- The completion queue, for event loops ---------------------------------------------------- */

/* A descriptor for poll, select or epoll, readable while a completion is queued. It is the
 * engine's: not to be read, written or closed. Linux only, TWINSTREAM_UNSUPPORTED elsewhere. */
twinstream_status twinstream_queue_descriptor(const twinstream_engine *engine, int *descriptor);

/* Takes the next answered request with TWINSTREAM_NOTICE_QUEUE, in the order of the answers, to be
 * polled and released by the caller, or the lease of twinstream_queue_lease; TWINSTREAM_EMPTY when
 * there is none. `user_data` may be NULL. There is room for every request, so none is lost or
 * delayed by a queue that nobody empties. */
twinstream_status twinstream_queue_next(twinstream_engine *engine, twinstream_request *request,
                                        void **user_data);

/* Waits as twinstream_lease_wait does, without blocking: as soon as there is a slot its lease comes
 * out of the queue, with `user_data`, and twinstream_image says where its image goes. Instead of
 * the lease comes 0 if the engine was shut down or lost its device first: twinstream_engine_health
 * tells. One at a time: TWINSTREAM_STATE until it was taken out of the queue. */
twinstream_status twinstream_queue_lease(twinstream_engine *engine, void *user_data);

#ifdef __cplusplus
}
#endif

#endif

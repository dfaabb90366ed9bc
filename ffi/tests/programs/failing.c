/* To be preloaded into a program that takes its answers by callbacks: the request with the number
 * FAILING_REQUEST, from 0, is answered as one that the device failed at. */
#define _GNU_SOURCE
#include <twinstream.h>

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

static twinstream_callback real_callback;

static void fail(void *user_data, twinstream_request request, twinstream_status status,
                 const float *result) {
    (void)status;
    (void)result;
    real_callback(user_data, request, TWINSTREAM_FAILED, NULL);
}

twinstream_status twinstream_commit(twinstream_engine *engine, twinstream_request request,
                                    const twinstream_request_options *options) {
    static atomic_int commit_len;
    twinstream_status (*commit)(twinstream_engine *, twinstream_request,
                                const twinstream_request_options *);
    *(void **)&commit = dlsym(RTLD_NEXT, "twinstream_commit");
    if (atomic_fetch_add(&commit_len, 1) != atoi(getenv("FAILING_REQUEST"))) {
        return commit(engine, request, options);
    }
    twinstream_request_options failing = *options;
    real_callback = options->callback;
    failing.callback = fail;
    return commit(engine, request, &failing);
}

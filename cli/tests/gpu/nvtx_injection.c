/* A profiler in small. NVTX loads it into the process whose NVTX_INJECTION64_PATH names it; to the
 * file that TWINSTREAM_NVTX_TRACE names it writes what it is told, a line each, in order:
 *
 *   stream HANDLE NAME
 *   start RANGE TIME_NS PAYLOAD NAME
 *   end RANGE TIME_NS
 *
 * A name or payload of a kind that the program should not use is "?". */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <nvtx3/nvToolsExt.h>

static FILE *trace;
static _Atomic uint64_t range_last;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static nvtxRangeId_t range_start(const nvtxEventAttributes_t *range) {
    const uint64_t id = ++range_last;
    char payload[24] = "?";
    const char *name = "?";
    if (range->payloadType == NVTX_PAYLOAD_TYPE_UNSIGNED_INT64) {
        snprintf(payload, sizeof payload, "%" PRIu64, range->payload.ullValue);
    }
    if (range->messageType == NVTX_MESSAGE_TYPE_ASCII) {
        name = range->message.ascii;
    }
    fprintf(trace, "start %" PRIu64 " %" PRIu64 " %s %s\n", id, now_ns(), payload, name);
    return id;
}

static void range_end(nvtxRangeId_t id) {
    fprintf(trace, "end %" PRIu64 " %" PRIu64 "\n", id, now_ns());
}

static void name_stream(nvtx_CUstream stream, const char *name) {
    fprintf(trace, "stream %p %s\n", stream, name);
}

/* Has NVTX call a function of ours. */
static int hook(const NvtxExportTableCallbacks *callbacks, NvtxCallbackModule module, unsigned id,
                NvtxFunctionPointer function) {
    NvtxFunctionTable table = NULL;
    unsigned len = 0;
    if (!callbacks->GetModuleFunctionTable(module, &table, &len) || id >= len) {
        return 0;
    }
    *table[id] = function;
    return 1;
}

/* What NVTX looks for. Unless it answers 1, the program goes on unseen. */
int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t export_table) {
    const NvtxExportTableCallbacks *callbacks = export_table(NVTX_ETID_CALLBACKS);
    const char *path = getenv("TWINSTREAM_NVTX_TRACE");
    trace = path ? fopen(path, "a") : NULL;
    /* A line is whole whatever becomes of the process. */
    return callbacks && trace && setvbuf(trace, NULL, _IOLBF, BUFSIZ) == 0 &&
           hook(callbacks, NVTX_CB_MODULE_CORE, NVTX_CBID_CORE_RangeStartEx,
                (NvtxFunctionPointer)range_start) &&
           hook(callbacks, NVTX_CB_MODULE_CORE, NVTX_CBID_CORE_RangeEnd,
                (NvtxFunctionPointer)range_end) &&
           hook(callbacks, NVTX_CB_MODULE_CUDA, NVTX_CBID_CUDA_NameCuStreamA,
                (NvtxFunctionPointer)name_stream);
}

/* Ranges and names for profilers, behind plain functions: NVTX itself is macros and inline code.
 * Without its headers nothing is told, which the build announces. */
#include <stdint.h>

#ifdef TWINSTREAM_NVTX
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtCuda.h>
#endif

/* Opens a range that closes on any thread; `name` is copied. */
uint64_t twinstream_nvtx_start(const char *name, uint64_t payload) {
#ifdef TWINSTREAM_NVTX
    nvtxEventAttributes_t range = {0};
    range.version = NVTX_VERSION;
    range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    range.messageType = NVTX_MESSAGE_TYPE_ASCII;
    range.message.ascii = name;
    range.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64;
    range.payload.ullValue = payload;
    return nvtxRangeStartEx(&range);
#else
    (void)name;
    (void)payload;
    return 0;
#endif
}

void twinstream_nvtx_end(uint64_t range) {
#ifdef TWINSTREAM_NVTX
    nvtxRangeEnd(range);
#else
    (void)range;
#endif
}

void twinstream_nvtx_name_stream(void *stream, const char *name) {
#ifdef TWINSTREAM_NVTX
    nvtxNameCuStreamA((struct CUstream_st *)stream, name);
#else
    (void)stream;
    (void)name;
#endif
}

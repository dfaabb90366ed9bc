/* How an emulated device behaves; set by tests, at any time. Holds no state. */
#ifndef TWINSTREAM_EMULATED_OPTIONS_H
#define TWINSTREAM_EMULATED_OPTIONS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    /* Draws delays and failures. */
    uint64_t seed;
    /* What can be allocated. */
    uint64_t memory_bytes;
    /* Longest wait before a piece of queued work. */
    uint32_t delay_us_max;
    /* 1: copies move their bytes at the last moment allowed, and their targets hold poison until
     * then. 0: when the stream reaches them. */
    uint32_t late_copies;
    /* One launch in so many is refused with 701; 0: none. */
    uint32_t refuse_launch_one_in;
    /* The device is lost, with 719, at the n-th piece of work from now; 0: never. */
    uint32_t lose_after;
    /* Compute capability that the kernels are as if compiled for, ten times it; below 90 they do
     * not wait for the kernel before. */
    uint32_t ptx_version;
} twinstream_emulated_options;

/* Makes device `ordinal` behave so from now on, and well again where it was lost. 0, or 101 where
 * there is no such device. */
int twinstream_emulated_configure(int ordinal, const twinstream_emulated_options *options);

#ifdef __cplusplus
}
#endif

#endif

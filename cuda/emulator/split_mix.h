/* SplitMix64, the generator of random numbers for the emulated device and for tests in C. */
#ifndef TWINSTREAM_SPLIT_MIX_H
#define TWINSTREAM_SPLIT_MIX_H

#include <stdint.h>

/* The next number; *state is the seed at first. */
static inline uint64_t twinstream_split_mix(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

#endif

/* What the host hands to the kernels that prove others (prove.cu), as launch.h has it for those of
 * a batch.
 */
#ifndef TWINSTREAM_PROVE_H
#define TWINSTREAM_PROVE_H

#include "launch.h"

/* Values that `prove_fill` writes: every bit 1, which is NaN as f16; every bit 0; bytes of any
 * value; bytes of 0, 1 and 2; f16 values of 0, 1 and 2. The last three are pseudorandom. */
enum {
    TWINSTREAM_PROVE_ONES = 0,
    TWINSTREAM_PROVE_ZEROS = 1,
    TWINSTREAM_PROVE_BYTES = 2,
    TWINSTREAM_PROVE_SMALL_BYTES = 3,
    TWINSTREAM_PROVE_SMALL_HALVES = 4
};

/* Kernel `prove_fill`: fills memory, with the same values for the same seed. Grid: (any number from
 * 1, 1, 1). */
typedef struct {
    uint64_t to;
    /* In chunks of 16 bytes. */
    uint64_t chunk_len;
    uint32_t seed;
    /* TWINSTREAM_PROVE_ONES and so on. */
    uint32_t values;
} twinstream_prove_fill_params;
TWINSTREAM_SIZE_IS(twinstream_prove_fill_params, 24);

/* How two results differ; zeros before the first comparison. Aligned to 4 bytes. */
typedef struct {
    /* Values. */
    uint32_t len;
    /* Index of the first of them, inverted bit by bit. */
    uint32_t first_inverted;
    /* Bits of the largest distance, an f32; infinity where one is no number. */
    uint32_t worst_bits;
} twinstream_prove_difference;
TWINSTREAM_SIZE_IS(twinstream_prove_difference, 12);

/* Kernel `prove_compare`: adds to a difference how two results differ: values of one byte, or of
 * f16; bit for bit, but for the sign of zero, or within a bound. Grid: (any number from 1, 1, 1).
 */
typedef struct {
    uint64_t found;
    uint64_t expected;
    /* f16, of each value's sum the sum of its terms' magnitudes; 0: none, bit for bit. A value
     * agrees where |found - expected| <= sum_error * magnitude + value_error * |expected| +
     * least_error; none agrees that is no number, or whose magnitude f16 does not hold. */
    uint64_t magnitudes;
    /* twinstream_prove_difference. */
    uint64_t difference;
    /* In chunks of 16 bytes; fewer than 2^28. */
    uint32_t chunk_len;
    /* 1, or 2 for f16. */
    uint32_t value_bytes;
    float sum_error;
    float value_error;
    float least_error;
} twinstream_prove_compare_params;
TWINSTREAM_SIZE_IS(twinstream_prove_compare_params, 56);

/* Launch sizes, as in launch.h. */
enum {
    TWINSTREAM_PROVE_FILL_THREADS = 256,
    TWINSTREAM_PROVE_FILL_SHARED_BYTES = 0,

    TWINSTREAM_PROVE_COMPARE_THREADS = 256,
    TWINSTREAM_PROVE_COMPARE_SHARED_BYTES = 0
};

#endif

// What the proof of a kernel needs on the device: memory filled with values that the host can tell
// again, and two results compared where they lie (prove.h).

#include "common.cuh"
#include "prove.h"
#include "ptx/mma.cuh"
#include "ptx/pdl.cuh"

namespace twinstream::kernels {

namespace {

constexpr unsigned FILL_THREADS = TWINSTREAM_PROVE_FILL_THREADS;
constexpr unsigned COMPARE_THREADS = TWINSTREAM_PROVE_COMPARE_THREADS;
constexpr float F16_MAX = 65504.0f;

// A number of 32 random bits for each pair.
TWINSTREAM_DEVICE uint32_t random_of(uint32_t index, uint32_t seed) {
    uint32_t bits = index * 0x9e3779b9u ^ seed;
    bits = (bits ^ bits >> 16) * 0x21f0aaadu;
    bits = (bits ^ bits >> 15) * 0x735a2d97u;
    return bits ^ bits >> 15;
}

// The f16 value 0, 1 or 2.
TWINSTREAM_DEVICE uint32_t small_half(uint32_t random) {
    const uint32_t value = random % 3;
    return value == 0 ? 0 : value == 1 ? 0x3c00 : 0x4000;
}

TWINSTREAM_DEVICE uint32_t word_of(uint32_t values, uint32_t random) {
    if (values == TWINSTREAM_PROVE_ONES) return ~0u;
    if (values == TWINSTREAM_PROVE_ZEROS) return 0;
    if (values == TWINSTREAM_PROVE_BYTES) return random;
    if (values == TWINSTREAM_PROVE_SMALL_BYTES) {
        // Two bits a byte: 0, 1, 2, and 1 once more.
        const uint32_t low = random & 0x01010101u, high = random >> 1 & 0x01010101u;
        return low | (high & ~low) << 1;
    }
    return small_half(random & 0xffffu) | small_half(random >> 16) << 16;
}

TWINSTREAM_DEVICE float magnitude_of(float value) { return value < 0.0f ? -value : value; }

// What one thread found.
struct Difference {
    uint32_t len = 0;
    // The inverse of the first index.
    uint32_t first = 0;
    float worst = 0.0f;

    TWINSTREAM_DEVICE void note(uint32_t index, float distance) {
        ++len;
        first = max(first, ~index);
        // Whatever is no number is the worst.
        const float infinity = __uint_as_float(0x7f800000);
        worst = distance <= worst ? worst : distance < infinity ? distance : infinity;
    }
};

TWINSTREAM_DEVICE void compare_bytes(Difference &difference, uint32_t index, uint32_t found,
                                     uint32_t expected) {
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < 4; ++i) {
        const int one = found >> 8 * i & 0xff, other = expected >> 8 * i & 0xff;
        const int distance = max(one - other, other - one);
        if (distance != 0) difference.note(index + i, static_cast<float>(distance));
    }
}

TWINSTREAM_DEVICE void compare_halves(Difference &difference, uint32_t index, uint32_t found,
                                      uint32_t expected) {
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < 2; ++i) {
        const uint32_t one = found >> 16 * i & 0xffff, other = expected >> 16 * i & 0xffff;
        const float distance = ptx::unpack_f16(one) - ptx::unpack_f16(other);
        if (one != other && distance != 0.0f) difference.note(index + i, magnitude_of(distance));
    }
}

TWINSTREAM_DEVICE void compare_reals(Difference &difference, uint32_t index, uint32_t found,
                                     uint32_t expected, uint32_t magnitudes,
                                     const twinstream_prove_compare_params &p) {
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < 2; ++i) {
        const float value = ptx::unpack_f16(expected >> 16 * i);
        const float magnitude = ptx::unpack_f16(magnitudes >> 16 * i);
        const float distance = magnitude_of(ptx::unpack_f16(found >> 16 * i) - value);
        const float error = p.sum_error * magnitude + p.value_error * magnitude_of(value);
        // Written so that what is no number is within no bound.
        if (!(distance <= error + p.least_error && magnitude <= F16_MAX))
            difference.note(index + i, distance);
    }
}

} // namespace

TWINSTREAM_KERNEL(prove_fill, twinstream_prove_fill_params, FILL_THREADS, 4) {
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    uint4 *const to = global<uint4>(p.to);
    for (uint64_t i = blockIdx.x * uint64_t{FILL_THREADS} + threadIdx.x; i < p.chunk_len;
         i += uint64_t{gridDim.x} * FILL_THREADS) {
        const uint32_t index = static_cast<uint32_t>(4 * i);
        const auto word = [&](uint32_t at) {
            return word_of(p.values, random_of(index + at, p.seed));
        };
        to[i] = make_uint4(word(0), word(1), word(2), word(3));
    }
}

TWINSTREAM_KERNEL(prove_compare, twinstream_prove_compare_params, COMPARE_THREADS, 4) {
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    const uint4 *const found = global<const uint4>(p.found);
    const uint4 *const expected = global<const uint4>(p.expected);
    const uint32_t len = CHUNK_BYTES / p.value_bytes;
    Difference difference;
    for (uint32_t i = blockIdx.x * COMPARE_THREADS + threadIdx.x; i < p.chunk_len;
         i += gridDim.x * COMPARE_THREADS) {
        const uint4 a = found[i], b = expected[i];
        const bool is_equal = a.x == b.x && a.y == b.y && a.z == b.z && a.w == b.w;
        if (p.magnitudes == 0 && is_equal) continue;
        uint4 c = a;
        if (p.magnitudes != 0) c = global<const uint4>(p.magnitudes)[i];
        const auto compare = [&](uint32_t word, uint32_t one, uint32_t other, uint32_t magnitudes) {
            const uint32_t index = i * len + word * (len / 4);
            if (p.magnitudes != 0)
                compare_reals(difference, index, one, other, magnitudes, p);
            else if (p.value_bytes == 1)
                compare_bytes(difference, index, one, other);
            else
                compare_halves(difference, index, one, other);
        };
        compare(0, a.x, b.x, c.x);
        compare(1, a.y, b.y, c.y);
        compare(2, a.z, b.z, c.z);
        compare(3, a.w, b.w, c.w);
    }
    if (difference.len == 0) return;
    twinstream_prove_difference *const to = global<twinstream_prove_difference>(p.difference);
    atomicAdd(&to->len, difference.len);
    atomicMax(&to->first_inverted, difference.first);
    // Numbers that are not negative are in the order of their bits.
    atomicMax(&to->worst_bits, __float_as_uint(difference.worst));
}

} // namespace twinstream::kernels

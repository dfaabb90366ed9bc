// mma.sync: gathers the fragments of a warp, multiplies, and hands the sums back.
//
// Compiled twice on x86-64, the better one chosen where the processor has it. Both give the same
// bits: products of two 16-bit values are exact in 32 bits, so fusing them with the sum changes
// nothing; integers wrap around.

#include <cstdint>
#include <cstring>

#include "mma.hpp"
#include "ptx.hpp"

namespace twinstream::emulator {
namespace {

// Eight 32-bit lanes of a host vector: the eight columns of a result, or eight words of a row.
typedef float Floats __attribute__((vector_size(32)));
typedef std::uint32_t Words __attribute__((vector_size(32)));

// Widens the 16-bit floating-point values in the low halves of `words`.
inline __attribute__((always_inline)) void widen(const Words &words, Floats &result) {
    const Words magnitude = (words & 0x7fffu) << 13;
    Floats scaled;
    std::memcpy(&scaled, &magnitude, sizeof scaled);
    scaled *= 0x1p112f;
    Words bits;
    std::memcpy(&bits, &scaled, sizeof bits);
    const Words is_special = static_cast<Words>((words & 0x7c00u) == 0x7c00u);
    bits |= (is_special & 0x7f800000u) | (words & 0x8000u) << 16;
    std::memcpy(&result, &bits, sizeof result);
}

inline __attribute__((always_inline)) void widen_pairs(const Words &pairs, Floats &low,
                                                       Floats &high) {
    widen(pairs & 0xffffu, low);
    widen(pairs >> 16, high);
}

// Lane l holds, with row = l / 4 and pair = l % 4: of A, pair `pair` of k in row and row + 8, then
// pair + 4 in both; of B, pairs `pair` and pair + 4 of k in column l / 4; of the sum, columns 2
// pair and the next in row, then in row + 8.
inline __attribute__((always_inline)) void multiply(void *const operands[warp_lanes]) {
    Words a_pairs[16], b_pairs[8]; // by row, then pair of k; by pair of k, then column
    Floats sums[16];
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        const auto &given = *static_cast<const Fragments *>(operands[lane]);
        const std::uint32_t row = lane / 4, pair = lane % 4;
        a_pairs[row][pair] = given.a[0];
        a_pairs[row + 8][pair] = given.a[1];
        a_pairs[row][pair + 4] = given.a[2];
        a_pairs[row + 8][pair + 4] = given.a[3];
        b_pairs[pair][row] = given.b_low;
        b_pairs[pair + 4][row] = given.b_high;
        std::memcpy(reinterpret_cast<float *>(&sums[row]) + pair * 2, given.sum, 8);
        std::memcpy(reinterpret_cast<float *>(&sums[row + 8]) + pair * 2, given.sum + 2, 8);
    }
    Floats b[16];
    for (std::uint32_t pair = 0; pair < 8; ++pair) {
        widen_pairs(b_pairs[pair], b[2 * pair], b[2 * pair + 1]);
    }
    for (std::uint32_t row = 0; row < 16; ++row) {
        Floats low, high;
        widen_pairs(a_pairs[row], low, high);
        Floats sum = sums[row];
        for (std::uint32_t pair = 0; pair < 8; ++pair) {
            sum += low[pair] * b[2 * pair];
            sum += high[pair] * b[2 * pair + 1];
        }
        sums[row] = sum;
    }
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        float *const sum = static_cast<const Fragments *>(operands[lane])->sum;
        const std::uint32_t row = lane / 4, pair = lane % 4;
        std::memcpy(sum, reinterpret_cast<const float *>(&sums[row]) + pair * 2, 8);
        std::memcpy(sum + 2, reinterpret_cast<const float *>(&sums[row + 8]) + pair * 2, 8);
    }
}

// What a lane gives to the product of integers: fragments as in mma.m16n8k32.
struct IntegerFragments {
    std::int32_t *sum;
    const std::uint32_t *a;
    std::uint32_t b_low;
    std::uint32_t b_high;
};

// As above, with four values of k in the place of each pair.
inline __attribute__((always_inline)) void multiply_integers(void *const operands[warp_lanes]) {
    std::uint8_t a[16][32]; // by row, then k
    Words b[32];            // by k, then column
    Words sums[16];
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        const auto &given = *static_cast<const IntegerFragments *>(operands[lane]);
        const std::uint32_t row = lane / 4, quad = lane % 4;
        std::memcpy(&a[row][quad * 4], &given.a[0], 4);
        std::memcpy(&a[row + 8][quad * 4], &given.a[1], 4);
        std::memcpy(&a[row][quad * 4 + 16], &given.a[2], 4);
        std::memcpy(&a[row + 8][quad * 4 + 16], &given.a[3], 4);
        std::int8_t weights[8];
        std::memcpy(weights, &given.b_low, 4);
        std::memcpy(weights + 4, &given.b_high, 4);
        for (std::uint32_t i = 0; i < 8; ++i) {
            const std::int32_t weight = weights[i];
            b[quad * 4 + i % 4 + i / 4 * 16][row] = static_cast<std::uint32_t>(weight);
        }
        std::memcpy(reinterpret_cast<std::int32_t *>(&sums[row]) + quad * 2, given.sum, 8);
        std::memcpy(reinterpret_cast<std::int32_t *>(&sums[row + 8]) + quad * 2, given.sum + 2, 8);
    }
    for (std::uint32_t row = 0; row < 16; ++row) {
        Words sum = sums[row];
        for (std::uint32_t k = 0; k < 32; ++k) {
            sum += a[row][k] * b[k];
        }
        sums[row] = sum;
    }
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        std::int32_t *const sum = static_cast<const IntegerFragments *>(operands[lane])->sum;
        const std::uint32_t row = lane / 4, quad = lane % 4;
        std::memcpy(sum, reinterpret_cast<const std::int32_t *>(&sums[row]) + quad * 2, 8);
        std::memcpy(sum + 2, reinterpret_cast<const std::int32_t *>(&sums[row + 8]) + quad * 2, 8);
    }
}

void multiply_portable(void *const operands[warp_lanes], std::uint32_t) { multiply(operands); }
void multiply_integers_portable(void *const operands[warp_lanes], std::uint32_t) {
    multiply_integers(operands);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void multiply_avx2(void *const operands[warp_lanes],
                                                       std::uint32_t) {
    multiply(operands);
}
__attribute__((target("avx2"))) void multiply_integers_avx2(void *const operands[warp_lanes],
                                                            std::uint32_t) {
    multiply_integers(operands);
}
#endif

MultiplyWarp choose() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return multiply_avx2;
    }
#endif
    return multiply_portable;
}

MultiplyWarp choose_integers() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        return multiply_integers_avx2;
    }
#endif
    return multiply_integers_portable;
}

const WarpInstruction instruction{"mma.m16n8k16", choose()};
const WarpInstruction integer_instruction{"mma.m16n8k32", choose_integers()};

} // namespace

MultiplyWarp multiply_warp() { return instruction.perform; }

void mma_m16n8k16(float (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                  std::uint32_t b_high) {
    Fragments operands{sum, a, b_low, b_high};
    current_block->execute(instruction, 0xffffffffu, &operands);
}

void mma_m16n8k32(std::int32_t (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                  std::uint32_t b_high) {
    IntegerFragments operands{sum, a, b_low, b_high};
    current_block->execute(integer_instruction, 0xffffffffu, &operands);
}

} // namespace twinstream::emulator

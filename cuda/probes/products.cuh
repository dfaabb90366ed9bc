// Products of whole numbers by wgmma, 64 x 64 x 64 by one warpgroup: what the probes of its
// operands share.
#pragma once

#include <cstdint>
#include <random>

#include "../ptx/barrier.cuh"
#include "../ptx/ld_st.cuh"
#include "../ptx/wgmma.cuh"
#include "isolated.hpp"

namespace twinstream::probes {

constexpr unsigned PRODUCT_THREADS = 128;
// Both operands have 64 rows of 64 values of K.
constexpr unsigned ROWS = 64;
constexpr unsigned ROW_LEN = 64;
constexpr unsigned ROW_CHUNKS = ROW_LEN * 2 / CHUNK_BYTES;
constexpr unsigned SUMS = ROWS / 2;
// Steps of 16 of K.
constexpr unsigned STEPS = 4;
// Steps that are timed.
constexpr unsigned TIMED_STEPS = 64 * STEPS;

// An operand's first step of K, and how far further on each next one is, as descriptors count.
struct Operand {
    uint64_t descriptor;
    uint64_t step;
};

// Adds left * right to the sums, or repeats that as often as makes so many steps.
__device__ inline void multiply_warpgroup(float (&sum)[SUMS], Operand left, Operand right,
                                          unsigned steps) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    ptx::wgmma_settle(sum);
    for (unsigned i = 0; i < steps; i += STEPS) {
        ptx::wgmma_fence();
        TWINSTREAM_UNROLL
        for (unsigned k = 0; k < STEPS; ++k)
            ptx::wgmma_f16(sum, left.descriptor + k * left.step, right.descriptor + k * right.step,
                           true);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(sum);
#endif
}

// The product, row by row, and the clocks of a step where many follow one another.
__device__ inline void answer_product(Operand left, Operand right, float *sums, float *cycles) {
    float sum[SUMS] = {};
    multiply_warpgroup(sum, left, right, STEPS);
    const unsigned lane = threadIdx.x % WARP_LEN;
    const unsigned first_row = threadIdx.x / WARP_LEN * 16 + lane / 4;
    for (unsigned i = 0; i < SUMS; ++i) {
        const unsigned row = first_row + i / 2 % 2 * 8;
        const unsigned column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        sums[row * ROWS + column] = sum[i];
    }
    const long long begin = clock64();
    multiply_warpgroup(sum, left, right, TIMED_STEPS);
    // A use of the sums, or there would be no products.
    if (sum[0] == -1.0f) sums[0] = sum[0];
    if (threadIdx.x == 0) *cycles = static_cast<float>(clock64() - begin) / TIMED_STEPS;
}

// Whole numbers from -4 to 4: every sum is exact, in whatever way the hardware adds.
inline std::vector<int> draw(unsigned seed, size_t len = ROWS * ROW_LEN) {
    std::mt19937 random(seed);
    std::vector<int> values(len);
    for (int &value : values) value = static_cast<int>(random() % 9) - 4;
    return values;
}

inline uint4 *upload(const std::vector<int> &values) {
    constexpr uint16_t F16[9] = {0xc400, 0xc200, 0xc000, 0xbc00, 0, 0x3c00, 0x4000, 0x4200, 0x4400};
    std::vector<uint16_t> bits;
    for (const int value : values) bits.push_back(F16[value + 4]);
    void *to;
    TWINSTREAM_CHECK(cudaMalloc(&to, bits.size() * sizeof bits[0]));
    TWINSTREAM_CHECK(
        cudaMemcpy(to, bits.data(), bits.size() * sizeof bits[0], cudaMemcpyHostToDevice));
    return static_cast<uint4 *>(to);
}

// Elements of the product that are not what they must be; NaN where a foreign row was read.
inline unsigned count_wrong(const std::vector<int> &left, const std::vector<int> &right,
                            const std::vector<float> &sums) {
    unsigned wrong_len = 0;
    for (unsigned i = 0; i < ROWS * ROWS; ++i) {
        int expected = 0;
        for (unsigned k = 0; k < ROW_LEN; ++k)
            expected += left[i / ROWS * ROW_LEN + k] * right[i % ROWS * ROW_LEN + k];
        wrong_len += sums[i] != static_cast<float>(expected);
    }
    return wrong_len;
}

// Launches `launch(left_chunks, right_chunks, sums, cycles)`, operands row by row, and compares.
template <class Launch>
Answer compare_product(const std::vector<int> &left, const std::vector<int> &right, Launch launch) {
    uint4 *const left_chunks = upload(left), *const right_chunks = upload(right);
    std::vector<float> sums(ROWS * ROWS + 1);
    const size_t bytes = sums.size() * sizeof sums[0];
    float *to;
    TWINSTREAM_CHECK(cudaMalloc(&to, bytes));
    TWINSTREAM_CHECK(cudaMemset(to, 0xff, bytes));
    launch(left_chunks, right_chunks, to, to + ROWS * ROWS);
    TWINSTREAM_CHECK(cudaGetLastError());
    TWINSTREAM_CHECK(cudaMemcpy(sums.data(), to, bytes, cudaMemcpyDeviceToHost));
    for (void *const each : {static_cast<void *>(left_chunks), static_cast<void *>(right_chunks),
                             static_cast<void *>(to)})
        TWINSTREAM_CHECK(cudaFree(each));
    const double cycles = sums.back();
    return verdict("\"cycles\": " + std::to_string(cycles), count_wrong(left, right, sums), cycles);
}

} // namespace twinstream::probes

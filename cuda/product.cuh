// How values of a type are multiplied by tensor cores.
#pragma once

#include "common.cuh"
#include "ptx/mma.cuh"

namespace twinstream {

// What products of a type are added up in, four of these, and the instruction.
template <class Value>
struct Product;

template <>
struct Product<f16> {
    using Sum = float;
    using Quad = float4;
    static TWINSTREAM_DEVICE void mma(float (&sum)[4], const uint32_t (&a)[4], uint32_t b_low,
                                      uint32_t b_high) {
        ptx::mma_m16n8k16(sum, a, b_low, b_high);
    }
};

template <>
struct Product<i8> {
    using Sum = int32_t;
    using Quad = int4;
    static TWINSTREAM_DEVICE void mma(int32_t (&sum)[4], const uint32_t (&a)[4], uint32_t b_low,
                                      uint32_t b_high) {
        ptx::mma_m16n8k32(sum, a, b_low, b_high);
    }
};

} // namespace twinstream

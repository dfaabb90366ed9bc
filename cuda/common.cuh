// The one switch between nvcc and the emulated device, and what all kernels share.
//
// With nvcc this is CUDA; with a host compiler emulator/cuda.hpp stands in for the language:
// threadIdx, blockIdx, gridDim, __syncthreads, __shfl_xor_sync, uint2, uint4, float2, float4 and
// the like. Kernels use no name of CUDA's that is not listed in that file, hold no asm (see
// ptx/), and keep all shared memory in one dynamic array.
#pragma once

#include "launch.h"

#include <stdint.h>

#if defined(__CUDACC__)

#define TWINSTREAM_DEVICE __device__ __forceinline__
// Opens an entry point; kernels.inc must list it. At most threads_max threads a block; the compiler
// keeps registers low enough for blocks_min blocks a multiprocessor.
#define TWINSTREAM_KERNEL(name, params, threads_max, blocks_min)                                   \
    extern "C" __global__ void __launch_bounds__(threads_max, blocks_min)                          \
        name(const __grid_constant__ params p)
// Declares `name`, the block's dynamic shared memory as bytes; from a multiple of 1,024 on, which
// tiles in the copy engine's swizzle ask for.
#define TWINSTREAM_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#define TWINSTREAM_PRAGMA(text) _Pragma(#text)
#define TWINSTREAM_UNROLL _Pragma("unroll")
#define TWINSTREAM_UNROLL_BY(count) TWINSTREAM_PRAGMA(unroll count)
#define TWINSTREAM_ROLL _Pragma("unroll 1")

#else

#include "emulator/cuda.hpp"

#define TWINSTREAM_DEVICE inline
#define TWINSTREAM_KERNEL(name, params, threads_max, blocks_min)                                   \
    extern const unsigned name##_blocks_min;                                                       \
    const unsigned name##_blocks_min = blocks_min;                                                 \
    void name(const params &p)
#define TWINSTREAM_SHARED(name) unsigned char *const name = ::twinstream::emulator::shared_memory()
#define TWINSTREAM_UNROLL
#define TWINSTREAM_UNROLL_BY(count)
#define TWINSTREAM_ROLL

#endif

namespace twinstream {

constexpr unsigned WARP_LEN = 32;
// Values of f16 in 16 bytes, the unit of all copies.
constexpr unsigned CHUNK_LEN = 8;
constexpr unsigned CHUNK_BYTES = 16;

// An f16 value in memory; arithmetic is in f32 or by matrix instructions.
struct f16 {
    uint16_t bits;
};

// An integer of 8 bits in memory: activations are unsigned, weights signed.
struct i8 {
    uint8_t bits;
};

// A device address of launch.h as a pointer.
template <class T>
TWINSTREAM_DEVICE T *global(uint64_t address) {
    return reinterpret_cast<T *>(address);
}

// To the nearest of 0 to 255, of two the even one; |value| is below 2^31.
TWINSTREAM_DEVICE uint32_t round_to_u8(float value) {
    return static_cast<uint32_t>(min(max(__float2int_rn(value), 0), 255));
}

constexpr TWINSTREAM_DEVICE unsigned ceil_divide(unsigned value, unsigned divisor) {
    return (value + divisor - 1) / divisor;
}

} // namespace twinstream

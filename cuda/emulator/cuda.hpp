// The names that CUDA C++ builds in, for kernels that the host compiler compiles.
//
// Holds only what the kernels use. There is no static __shared__: all shared memory is the one
// dynamic array, which every block finds full of NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "block.hpp"
#include "hopper.hpp"
#include "ptx.hpp"

#define __device__
#define __host__
#define __global__
#define __constant__ static const
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

#define threadIdx (::twinstream::emulator::current_thread->index)
#define blockIdx (::twinstream::emulator::current_block->index())
#define blockDim (::twinstream::emulator::current_block->launch().block)
#define gridDim (::twinstream::emulator::current_block->launch().grid)

using dim3 = ::twinstream::emulator::Dimensions;

// Kernels read arrays of one type through pointers to another, as CUDA allows.
#define TWINSTREAM_VECTOR2(name, type, bytes)                                                      \
    struct __attribute__((aligned(bytes), may_alias)) name {                                       \
        type x, y;                                                                                 \
    };                                                                                             \
    inline name make_##name(type x, type y) { return {x, y}; }
#define TWINSTREAM_VECTOR4(name, type, bytes)                                                      \
    struct __attribute__((aligned(bytes), may_alias)) name {                                       \
        type x, y, z, w;                                                                           \
    };                                                                                             \
    inline name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; }
TWINSTREAM_VECTOR2(uint2, std::uint32_t, 8)
TWINSTREAM_VECTOR2(int2, std::int32_t, 8)
TWINSTREAM_VECTOR2(float2, float, 8)
TWINSTREAM_VECTOR4(uint4, std::uint32_t, 16)
TWINSTREAM_VECTOR4(int4, std::int32_t, 16)
TWINSTREAM_VECTOR4(float4, float, 16)
TWINSTREAM_VECTOR4(uchar4, std::uint8_t, 4)
#undef TWINSTREAM_VECTOR2
#undef TWINSTREAM_VECTOR4

inline void __syncthreads() { ::twinstream::emulator::barrier_sync(0); }
inline void __syncwarp(std::uint32_t mask = 0xffffffffu) { ::twinstream::emulator::syncwarp(mask); }

// Values of 32 bits; `width` splits the warp into equal parts, as in CUDA.
template <class Value>
inline Value __shfl_sync(std::uint32_t mask, Value value, int lane, int width = 32) {
    return ::twinstream::emulator::shuffle(mask, value, lane, width, 'i');
}
template <class Value>
inline Value __shfl_xor_sync(std::uint32_t mask, Value value, int lanes, int width = 32) {
    return ::twinstream::emulator::shuffle(mask, value, lanes, width, 'x');
}
template <class Value>
inline Value __shfl_down_sync(std::uint32_t mask, Value value, unsigned lanes, int width = 32) {
    return ::twinstream::emulator::shuffle(mask, value, static_cast<int>(lanes), width, 'd');
}
template <class Value>
inline Value __shfl_up_sync(std::uint32_t mask, Value value, unsigned lanes, int width = 32) {
    return ::twinstream::emulator::shuffle(mask, value, static_cast<int>(lanes), width, 'u');
}
inline std::uint32_t __ballot_sync(std::uint32_t mask, bool predicate) {
    return ::twinstream::emulator::ballot(mask, predicate);
}
inline int __any_sync(std::uint32_t mask, bool predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(std::uint32_t mask, bool predicate) {
    return __ballot_sync(mask, predicate) == mask;
}

// Host threads run blocks at the same time, so these order and combine for real. ThreadSanitizer
// knows no fences, hence the atomics that order by themselves.
#ifdef TWINSTREAM_RACE_CHECK
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
#else
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#endif

inline std::uint32_t atomicAdd(std::uint32_t *at, std::uint32_t value) {
    return __atomic_fetch_add(at, value, __ATOMIC_ACQ_REL);
}
inline std::int32_t atomicAdd(std::int32_t *at, std::int32_t value) {
    return __atomic_fetch_add(at, value, __ATOMIC_ACQ_REL);
}
inline std::uint32_t atomicExch(std::uint32_t *at, std::uint32_t value) {
    return __atomic_exchange_n(at, value, __ATOMIC_ACQ_REL);
}
inline std::uint32_t atomicCAS(std::uint32_t *at, std::uint32_t expected, std::uint32_t value) {
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}
// Whichever value `combine` makes of the old one replaces it; returns the old one.
template <class Value, class Combine>
inline Value atomic_update(Value *at, Combine combine) {
    static_assert(sizeof(Value) == sizeof(std::uint32_t));
    auto *const word = reinterpret_cast<std::uint32_t *>(at);
    std::uint32_t before = __atomic_load_n(word, __ATOMIC_RELAXED);
    for (;;) {
        Value old;
        std::memcpy(&old, &before, sizeof old);
        const Value next = combine(old);
        std::uint32_t after;
        std::memcpy(&after, &next, sizeof after);
        const std::uint32_t seen = atomicCAS(word, before, after);
        if (seen == before) {
            return old;
        }
        before = seen;
    }
}
inline float atomicAdd(float *at, float value) {
    return atomic_update(at, [value](float old) { return old + value; });
}
inline std::uint32_t atomicMax(std::uint32_t *at, std::uint32_t value) {
    return atomic_update(at, [value](std::uint32_t old) { return old > value ? old : value; });
}
inline std::int32_t atomicMax(std::int32_t *at, std::int32_t value) {
    return atomic_update(at, [value](std::int32_t old) { return old > value ? old : value; });
}
// Counts up to `last` and then starts again at 0.
inline std::uint32_t atomicInc(std::uint32_t *at, std::uint32_t last) {
    return atomic_update(at, [last](std::uint32_t old) { return old >= last ? 0 : old + 1; });
}

template <class Value>
inline Value __ldg(const Value *at) {
    return *at;
}
template <class Value>
inline Value __ldcg(const Value *at) {
    return *at;
}
template <class Value>
inline void __stcg(Value *at, Value value) {
    *at = value;
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline std::uint32_t min(std::uint32_t a, std::uint32_t b) { return a < b ? a : b; }
inline std::uint32_t max(std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }
inline std::uint32_t __float_as_uint(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float __uint_as_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
// Four of the eight bytes of low and high, by the lower three bits of each nibble.
inline std::uint32_t __byte_perm(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
    const std::uint64_t bytes = std::uint64_t{high} << 32 | low;
    std::uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t from = selector >> 4 * i & 7;
        result |= static_cast<std::uint32_t>(bytes >> 8 * from & 0xff) << 8 * i;
    }
    return result;
}
inline int __popc(std::uint32_t bits) { return __builtin_popcount(bits); }
inline int __clz(std::uint32_t bits) { return bits == 0 ? 32 : __builtin_clz(bits); }
inline int __ffs(std::int32_t bits) { return __builtin_ffs(bits); }
inline std::uint32_t __umulhi(std::uint32_t a, std::uint32_t b) {
    return static_cast<std::uint32_t>(std::uint64_t{a} * b >> 32);
}
inline float __expf(float value) { return std::exp(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
// To the nearest integer, of two the even one; what int cannot hold, to its nearest end.
inline int __float2int_rn(float value) {
    if (!(value < 0x1p31f)) return value != value ? 0 : INT32_MAX;
    return value < -0x1p31f ? INT32_MIN : static_cast<int>(std::nearbyint(value));
}
// The larger of each pair of bytes.
inline std::uint32_t __vmaxu4(std::uint32_t a, std::uint32_t b) {
    std::uint32_t larger = 0;
    for (std::uint32_t byte = 0xff; byte != 0; byte <<= 8) larger |= max(a & byte, b & byte);
    return larger;
}

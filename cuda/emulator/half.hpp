// 16-bit floating point as CUDA's cuda_fp16.h offers it, for the host.
//
// Conversions round to nearest, ties to even; arithmetic is done in 32 bits and rounded once, which
// is exact rounding for +, - and *. Holds only what the kernels use.
#pragma once

#include <cstdint>
#include <cstring>

struct __half_raw {
    std::uint16_t x;
};

struct __half {
    std::uint16_t bits;

    __half() = default;
    constexpr __half(__half_raw raw) : bits(raw.x) {}
    operator __half_raw() const { return {bits}; }
};

struct alignas(4) __half2 {
    __half x, y;
};

using half = __half;
using half2 = __half2;

inline float __half2float(__half value) {
    // The exponent is moved by a multiplication, which also normalises subnormal values.
    const std::uint32_t magnitude = (value.bits & 0x7fffu) << 13;
    float result;
    std::memcpy(&result, &magnitude, sizeof result);
    result *= 0x1p112f;
    std::uint32_t bits;
    std::memcpy(&bits, &result, sizeof bits);
    if ((value.bits & 0x7c00u) == 0x7c00u) {
        bits = magnitude | 0x7f800000u;
    }
    bits |= (value.bits & 0x8000u) << 16;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline __half __float2half_rn(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    std::uint32_t result;
    if (bits > 0x7f800000u) {
        result = 0x7fffu; // CUDA's one NaN
        return __half_raw{static_cast<std::uint16_t>(result)};
    }
    if (bits >= 0x477ff000u) {
        result = 0x7c00u; // 65,520 and above round to infinity
    } else if (bits < 0x38800000u) {
        // Subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the lowest bits.
        float shifted;
        std::memcpy(&shifted, &bits, sizeof shifted);
        shifted += 0.5f;
        std::memcpy(&result, &shifted, sizeof result);
        result -= 0x3f000000u;
    } else {
        const std::uint32_t is_odd = bits >> 13 & 1;
        result = (bits - 0x38000000u + 0xfffu + is_odd) >> 13;
    }
    return __half_raw{static_cast<std::uint16_t>(result | sign)};
}

inline __half __float2half(float value) { return __float2half_rn(value); }
inline __half2 __floats2half2_rn(float x, float y) {
    return {__float2half_rn(x), __float2half_rn(y)};
}
inline __half2 __float2half2_rn(float value) { return __floats2half2_rn(value, value); }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half value) { return {value, value}; }
inline __half __low2half(__half2 value) { return value.x; }
inline __half __high2half(__half2 value) { return value.y; }
inline float __low2float(__half2 value) { return __half2float(value.x); }
inline float __high2float(__half2 value) { return __half2float(value.y); }
inline __half __ushort_as_half(std::uint16_t bits) { return __half_raw{bits}; }
inline std::uint16_t __half_as_ushort(__half value) { return value.bits; }

inline __half __hadd(__half a, __half b) {
    return __float2half_rn(__half2float(a) + __half2float(b));
}
inline __half __hmul(__half a, __half b) {
    return __float2half_rn(__half2float(a) * __half2float(b));
}
// The number of the two, where one is a NaN.
inline __half __hmax(__half a, __half b) {
    return __float2half_rn(__builtin_fmaxf(__half2float(a), __half2float(b)));
}
inline __half2 __hadd2(__half2 a, __half2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; }
inline __half2 __hmul2(__half2 a, __half2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; }
inline __half2 __hmax2(__half2 a, __half2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }

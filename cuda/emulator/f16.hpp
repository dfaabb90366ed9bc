// 16-bit floating point (IEEE binary16) as bits, converted as the device converts it.
#pragma once

#include <cstdint>
#include <cstring>

namespace twinstream::emulator {

// The value in the lower 16 bits; exact.
inline float unpack_f16(std::uint32_t packed) {
    // The exponent is moved by a multiplication, which also normalises subnormal values.
    const std::uint32_t magnitude = (packed & 0x7fffu) << 13;
    float value;
    std::memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f;
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if ((packed & 0x7c00u) == 0x7c00u) {
        bits = magnitude | 0x7f800000u;
    }
    bits |= (packed & 0x8000u) << 16;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Rounded to nearest, ties to even.
inline std::uint16_t round_to_f16(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    std::uint32_t result;
    if (bits > 0x7f800000u) {
        return 0x7fffu; // the device's one NaN
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
    return static_cast<std::uint16_t>(result | sign);
}

// cvt.rn.f16x2.f32
inline std::uint32_t pack_f16x2(float low, float high) {
    return round_to_f16(low) | std::uint32_t{round_to_f16(high)} << 16;
}

// max.f16x2: of a number and a NaN the number, of -0 and +0 the latter.
inline std::uint32_t max_f16x2(std::uint32_t a, std::uint32_t b) {
    const auto larger = [](std::uint32_t left, std::uint32_t right) {
        const float x = unpack_f16(left), y = unpack_f16(right);
        if (x != x && y != y) {
            return 0x7fffu;
        }
        const bool takes_right = x != x || y > x || (y == x && (left & 0x8000u) != 0);
        return (takes_right ? right : left) & 0xffffu;
    };
    return larger(a, b) | larger(a >> 16, b >> 16) << 16;
}

} // namespace twinstream::emulator

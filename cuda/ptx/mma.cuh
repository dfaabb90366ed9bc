// Matrix instructions of a warp on f16 and on 8-bit integers, and what fills and empties their
// registers, each as one small function: asm for the device, a call of the same name in
// twinstream::emulator for the host.
//
// This file knows nothing of tiles or layers.
#pragma once

#include "../common.cuh"

namespace twinstream::ptx {

// Loads four 8x8 matrices of f16, whose rows of 16 bytes start at the addresses of lanes 0-7, 8-15,
// 16-23 and 24-31. Lane l gets of each matrix row l / 4, columns 2 (l % 4) and the next. The whole
// warp.
TWINSTREAM_DEVICE void ldmatrix_x4(uint32_t (&to)[4], uint32_t shared) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared)
                 : "memory");
#else
    emulator::ldmatrix_x4(to, shared);
#endif
}

// The same of the matrices' transposes: lane l gets column l / 4, rows 2 (l % 4) and the next.
TWINSTREAM_DEVICE void ldmatrix_x4_transposed(uint32_t (&to)[4], uint32_t shared) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared)
                 : "memory");
#else
    emulator::ldmatrix_x4_transposed(to, shared);
#endif
}

// Stores what ldmatrix_x4_transposed would load (sm_90).
TWINSTREAM_DEVICE void store_matrix_x4_transposed(uint32_t shared, const uint32_t (&from)[4]) {
#if defined(__CUDACC__)
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared),
        "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
        : "memory");
#else
    emulator::store_matrix_x4_transposed(shared, from);
#endif
}

// Both of two matrices, by the addresses of lanes 0 to 15, and of one, by those of lanes 0 to 7.
TWINSTREAM_DEVICE void ldmatrix_transposed(uint32_t (&to)[2], uint32_t shared) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared)
                 : "memory");
#else
    emulator::ldmatrix_x2_transposed(to, shared);
#endif
}

TWINSTREAM_DEVICE void ldmatrix_transposed(uint32_t (&to)[1], uint32_t shared) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(to[0])
                 : "r"(shared)
                 : "memory");
#else
    emulator::ldmatrix_x1_transposed(to, shared);
#endif
}

TWINSTREAM_DEVICE void store_matrix_transposed(uint32_t shared, const uint32_t (&from)[2]) {
#if defined(__CUDACC__)
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(shared),
                 "r"(from[0]), "r"(from[1])
                 : "memory");
#else
    emulator::store_matrix_x2_transposed(shared, from);
#endif
}

TWINSTREAM_DEVICE void store_matrix_transposed(uint32_t shared, const uint32_t (&from)[1]) {
#if defined(__CUDACC__)
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(shared),
                 "r"(from[0])
                 : "memory");
#else
    emulator::store_matrix_x1_transposed(shared, from);
#endif
}

// sum += a * b for a 16x16, b 16x8 (f16) and sum 16x8 (f32). With g = lane / 4 and t = lane % 4:
// a holds rows g, g + 8, g, g + 8 at columns 2t, 2t, 2t + 8, 2t + 8 (each and the next);
// b column g at rows 2t and 2t + 8 (each and the next); sum rows g, g, g + 8, g + 8 at columns 2t,
// 2t + 1, 2t, 2t + 1. The whole warp.
TWINSTREAM_DEVICE void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b_low,
                                    uint32_t b_high) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
#else
    emulator::mma_m16n8k16(sum, a, b_low, b_high);
#endif
}

// sum += a * b for a 16x32 (u8), b 32x8 (s8) and sum 16x8 (s32), which wraps around. Four values of
// K stand in the place of two of f16: with g = lane / 4 and t = lane % 4, a holds rows g, g + 8, g,
// g + 8 at columns 4t, 4t, 4t + 16, 4t + 16 (each and the next three); b column g at rows 4t and
// 4t + 16 (alike); sum as above. The whole warp.
TWINSTREAM_DEVICE void mma_m16n8k32(int32_t (&sum)[4], const uint32_t (&a)[4], uint32_t b_low,
                                    uint32_t b_high) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
#else
    emulator::mma_m16n8k32(sum, a, b_low, b_high);
#endif
}

// Two values rounded to nearest even f16, `low` in the lower half.
TWINSTREAM_DEVICE uint32_t pack_f16x2(float low, float high) {
#if defined(__CUDACC__)
    uint32_t packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
#else
    return emulator::pack_f16x2(low, high);
#endif
}

// The f16 value in the lower 16 bits.
TWINSTREAM_DEVICE float unpack_f16(uint32_t packed) {
#if defined(__CUDACC__)
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<uint16_t>(packed)));
    return value;
#else
    return emulator::unpack_f16(packed);
#endif
}

// Larger of each pair of f16 values.
TWINSTREAM_DEVICE uint32_t max_f16x2(uint32_t a, uint32_t b) {
#if defined(__CUDACC__)
    uint32_t larger;
    asm("max.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
#else
    return emulator::max_f16x2(a, b);
#endif
}

} // namespace twinstream::ptx

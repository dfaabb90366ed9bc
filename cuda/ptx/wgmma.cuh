// Matrix products of a warpgroup (wgmma, sm_90a), in the background: asm for the device, a call of
// the same name in twinstream::emulator for the host.
//
// A product has 64 rows; its columns are twice as many as a thread has sums. K is 32 bytes, 16
// values of f16 or 32 of 8 bits. With g = lane / 4, t = lane % 4 and w the warp's number in its
// warpgroup, sum i is at row 16 w + g + 8 (i / 2 % 2), column 8 (i / 4) + 2 t + i % 2. Operands in
// shared memory are K-major, as their descriptors say. An operand `a` in registers holds rows
// 16 w + g and 16 w + g + 8, alternating: words t, t, t + 4 and t + 4 of the 32 bytes. Neither sums
// nor such registers may be touched from the product to the wait. All functions: the whole
// warpgroup.
#pragma once

#include "../common.cuh"

namespace twinstream::ptx {

enum class OperandLayout : uint32_t {
    plain = 0,
    swizzle_128 = 1,
    swizzle_64 = 2,
};

// Where an operand begins, 16 bytes a unit: `shared`, and how far it is to the next 16 bytes of K
// (without a swizzle) and to the next eight rows.
TWINSTREAM_DEVICE uint64_t describe_operand(uint32_t shared, OperandLayout layout,
                                            uint32_t leading_bytes, uint32_t stride_bytes) {
    return uint64_t{(shared & 0x3ffffu) >> 4} | uint64_t{leading_bytes >> 4} << 16 |
           uint64_t{stride_bytes >> 4} << 32 | static_cast<uint64_t>(layout) << 62;
}

// Rows of 128 bytes in the 128-byte swizzle, from a multiple of 1,024 on; a later step of K begins
// 32 bytes further on. The distance along K means nothing there.
TWINSTREAM_DEVICE uint64_t describe_rows_128(uint32_t shared) {
    return describe_operand(shared, OperandLayout::swizzle_128, CHUNK_BYTES, 1024);
}

// Rows of 64 bytes in the 64-byte swizzle, from a multiple of 512 on.
TWINSTREAM_DEVICE uint64_t describe_rows_64(uint32_t shared) {
    return describe_operand(shared, OperandLayout::swizzle_64, CHUNK_BYTES, 512);
}

// Orders what this warpgroup did with sums and registers before the products behind it.
TWINSTREAM_DEVICE void wgmma_fence() {
#if defined(__CUDACC__)
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
    emulator::wgmma_fence();
#endif
}

// Closes the group of products since the last commit.
TWINSTREAM_DEVICE void wgmma_commit() {
#if defined(__CUDACC__)
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
    emulator::wgmma_commit();
#endif
}

// Waits until at most `pending` of the latest groups are unfinished.
template <unsigned pending>
TWINSTREAM_DEVICE void wgmma_wait() {
#if defined(__CUDACC__)
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#else
    emulator::wgmma_wait(pending);
#endif
}

// Behind the wait for products: what is done with their sums stays behind it, and what made the
// sums before the next fence stays before that. To the compiler, only asm that names them says so.
template <unsigned len>
TWINSTREAM_DEVICE void wgmma_settle(float (&sum)[len]) {
#if defined(__CUDACC__)
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < len; ++i) asm volatile("" : "+f"(sum[i])::"memory");
#else
    static_cast<void>(sum);
#endif
}

template <unsigned len>
TWINSTREAM_DEVICE void wgmma_settle(int32_t (&sum)[len]) {
#if defined(__CUDACC__)
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < len; ++i) asm volatile("" : "+r"(sum[i])::"memory");
#else
    static_cast<void>(sum);
#endif
}

#if defined(__CUDACC__)

// Operands 0 to n - 1 of the asm text, n a multiple of 4, and what they are.
#define TWINSTREAM_TEXT_4 "%0, %1, %2, %3"
#define TWINSTREAM_TEXT_8 TWINSTREAM_TEXT_4 ", %4, %5, %6, %7"
#define TWINSTREAM_TEXT_12 TWINSTREAM_TEXT_8 ", %8, %9, %10, %11"
#define TWINSTREAM_TEXT_16 TWINSTREAM_TEXT_12 ", %12, %13, %14, %15"
#define TWINSTREAM_TEXT_20 TWINSTREAM_TEXT_16 ", %16, %17, %18, %19"
#define TWINSTREAM_TEXT_24 TWINSTREAM_TEXT_20 ", %20, %21, %22, %23"
#define TWINSTREAM_TEXT_28 TWINSTREAM_TEXT_24 ", %24, %25, %26, %27"
#define TWINSTREAM_TEXT_32 TWINSTREAM_TEXT_28 ", %28, %29, %30, %31"
#define TWINSTREAM_TEXT_36 TWINSTREAM_TEXT_32 ", %32, %33, %34, %35"
#define TWINSTREAM_TEXT_40 TWINSTREAM_TEXT_36 ", %36, %37, %38, %39"
#define TWINSTREAM_TEXT_44 TWINSTREAM_TEXT_40 ", %40, %41, %42, %43"
#define TWINSTREAM_TEXT_48 TWINSTREAM_TEXT_44 ", %44, %45, %46, %47"
#define TWINSTREAM_TEXT_52 TWINSTREAM_TEXT_48 ", %48, %49, %50, %51"
#define TWINSTREAM_TEXT_56 TWINSTREAM_TEXT_52 ", %52, %53, %54, %55"
#define TWINSTREAM_TEXT_60 TWINSTREAM_TEXT_56 ", %56, %57, %58, %59"
#define TWINSTREAM_TEXT_64 TWINSTREAM_TEXT_60 ", %60, %61, %62, %63"
#define TWINSTREAM_TEXT_68 TWINSTREAM_TEXT_64 ", %64, %65, %66, %67"
#define TWINSTREAM_TEXT_72 TWINSTREAM_TEXT_68 ", %68, %69, %70, %71"
#define TWINSTREAM_TEXT_76 TWINSTREAM_TEXT_72 ", %72, %73, %74, %75"
#define TWINSTREAM_TEXT_80 TWINSTREAM_TEXT_76 ", %76, %77, %78, %79"
#define TWINSTREAM_TEXT_84 TWINSTREAM_TEXT_80 ", %80, %81, %82, %83"
#define TWINSTREAM_TEXT_88 TWINSTREAM_TEXT_84 ", %84, %85, %86, %87"
#define TWINSTREAM_TEXT_92 TWINSTREAM_TEXT_88 ", %88, %89, %90, %91"
#define TWINSTREAM_TEXT_96 TWINSTREAM_TEXT_92 ", %92, %93, %94, %95"
#define TWINSTREAM_TEXT_100 TWINSTREAM_TEXT_96 ", %96, %97, %98, %99"
#define TWINSTREAM_TEXT_104 TWINSTREAM_TEXT_100 ", %100, %101, %102, %103"
#define TWINSTREAM_TEXT_108 TWINSTREAM_TEXT_104 ", %104, %105, %106, %107"
#define TWINSTREAM_TEXT_112 TWINSTREAM_TEXT_108 ", %108, %109, %110, %111"
#define TWINSTREAM_TEXT_116 TWINSTREAM_TEXT_112 ", %112, %113, %114, %115"
#define TWINSTREAM_TEXT_120 TWINSTREAM_TEXT_116 ", %116, %117, %118, %119"
#define TWINSTREAM_TEXT_124 TWINSTREAM_TEXT_120 ", %120, %121, %122, %123"
#define TWINSTREAM_TEXT_128 TWINSTREAM_TEXT_124 ", %124, %125, %126, %127"
#define TWINSTREAM_SUMS_4(kind) kind(sum[0]), kind(sum[1]), kind(sum[2]), kind(sum[3])
#define TWINSTREAM_SUMS_8(kind)                                                                    \
    TWINSTREAM_SUMS_4(kind), kind(sum[4]), kind(sum[5]), kind(sum[6]), kind(sum[7])
#define TWINSTREAM_SUMS_12(kind)                                                                   \
    TWINSTREAM_SUMS_8(kind), kind(sum[8]), kind(sum[9]), kind(sum[10]), kind(sum[11])
#define TWINSTREAM_SUMS_16(kind)                                                                   \
    TWINSTREAM_SUMS_12(kind), kind(sum[12]), kind(sum[13]), kind(sum[14]), kind(sum[15])
#define TWINSTREAM_SUMS_20(kind)                                                                   \
    TWINSTREAM_SUMS_16(kind), kind(sum[16]), kind(sum[17]), kind(sum[18]), kind(sum[19])
#define TWINSTREAM_SUMS_24(kind)                                                                   \
    TWINSTREAM_SUMS_20(kind), kind(sum[20]), kind(sum[21]), kind(sum[22]), kind(sum[23])
#define TWINSTREAM_SUMS_28(kind)                                                                   \
    TWINSTREAM_SUMS_24(kind), kind(sum[24]), kind(sum[25]), kind(sum[26]), kind(sum[27])
#define TWINSTREAM_SUMS_32(kind)                                                                   \
    TWINSTREAM_SUMS_28(kind), kind(sum[28]), kind(sum[29]), kind(sum[30]), kind(sum[31])
#define TWINSTREAM_SUMS_36(kind)                                                                   \
    TWINSTREAM_SUMS_32(kind), kind(sum[32]), kind(sum[33]), kind(sum[34]), kind(sum[35])
#define TWINSTREAM_SUMS_40(kind)                                                                   \
    TWINSTREAM_SUMS_36(kind), kind(sum[36]), kind(sum[37]), kind(sum[38]), kind(sum[39])
#define TWINSTREAM_SUMS_44(kind)                                                                   \
    TWINSTREAM_SUMS_40(kind), kind(sum[40]), kind(sum[41]), kind(sum[42]), kind(sum[43])
#define TWINSTREAM_SUMS_48(kind)                                                                   \
    TWINSTREAM_SUMS_44(kind), kind(sum[44]), kind(sum[45]), kind(sum[46]), kind(sum[47])
#define TWINSTREAM_SUMS_52(kind)                                                                   \
    TWINSTREAM_SUMS_48(kind), kind(sum[48]), kind(sum[49]), kind(sum[50]), kind(sum[51])
#define TWINSTREAM_SUMS_56(kind)                                                                   \
    TWINSTREAM_SUMS_52(kind), kind(sum[52]), kind(sum[53]), kind(sum[54]), kind(sum[55])
#define TWINSTREAM_SUMS_60(kind)                                                                   \
    TWINSTREAM_SUMS_56(kind), kind(sum[56]), kind(sum[57]), kind(sum[58]), kind(sum[59])
#define TWINSTREAM_SUMS_64(kind)                                                                   \
    TWINSTREAM_SUMS_60(kind), kind(sum[60]), kind(sum[61]), kind(sum[62]), kind(sum[63])
#define TWINSTREAM_SUMS_68(kind)                                                                   \
    TWINSTREAM_SUMS_64(kind), kind(sum[64]), kind(sum[65]), kind(sum[66]), kind(sum[67])
#define TWINSTREAM_SUMS_72(kind)                                                                   \
    TWINSTREAM_SUMS_68(kind), kind(sum[68]), kind(sum[69]), kind(sum[70]), kind(sum[71])
#define TWINSTREAM_SUMS_76(kind)                                                                   \
    TWINSTREAM_SUMS_72(kind), kind(sum[72]), kind(sum[73]), kind(sum[74]), kind(sum[75])
#define TWINSTREAM_SUMS_80(kind)                                                                   \
    TWINSTREAM_SUMS_76(kind), kind(sum[76]), kind(sum[77]), kind(sum[78]), kind(sum[79])
#define TWINSTREAM_SUMS_84(kind)                                                                   \
    TWINSTREAM_SUMS_80(kind), kind(sum[80]), kind(sum[81]), kind(sum[82]), kind(sum[83])
#define TWINSTREAM_SUMS_88(kind)                                                                   \
    TWINSTREAM_SUMS_84(kind), kind(sum[84]), kind(sum[85]), kind(sum[86]), kind(sum[87])
#define TWINSTREAM_SUMS_92(kind)                                                                   \
    TWINSTREAM_SUMS_88(kind), kind(sum[88]), kind(sum[89]), kind(sum[90]), kind(sum[91])
#define TWINSTREAM_SUMS_96(kind)                                                                   \
    TWINSTREAM_SUMS_92(kind), kind(sum[92]), kind(sum[93]), kind(sum[94]), kind(sum[95])
#define TWINSTREAM_SUMS_100(kind)                                                                  \
    TWINSTREAM_SUMS_96(kind), kind(sum[96]), kind(sum[97]), kind(sum[98]), kind(sum[99])
#define TWINSTREAM_SUMS_104(kind)                                                                  \
    TWINSTREAM_SUMS_100(kind), kind(sum[100]), kind(sum[101]), kind(sum[102]), kind(sum[103])
#define TWINSTREAM_SUMS_108(kind)                                                                  \
    TWINSTREAM_SUMS_104(kind), kind(sum[104]), kind(sum[105]), kind(sum[106]), kind(sum[107])
#define TWINSTREAM_SUMS_112(kind)                                                                  \
    TWINSTREAM_SUMS_108(kind), kind(sum[108]), kind(sum[109]), kind(sum[110]), kind(sum[111])
#define TWINSTREAM_SUMS_116(kind)                                                                  \
    TWINSTREAM_SUMS_112(kind), kind(sum[112]), kind(sum[113]), kind(sum[114]), kind(sum[115])
#define TWINSTREAM_SUMS_120(kind)                                                                  \
    TWINSTREAM_SUMS_116(kind), kind(sum[116]), kind(sum[117]), kind(sum[118]), kind(sum[119])
#define TWINSTREAM_SUMS_124(kind)                                                                  \
    TWINSTREAM_SUMS_120(kind), kind(sum[120]), kind(sum[121]), kind(sum[122]), kind(sum[123])
#define TWINSTREAM_SUMS_128(kind)                                                                  \
    TWINSTREAM_SUMS_124(kind), kind(sum[124]), kind(sum[125]), kind(sum[126]), kind(sum[127])
#define TWINSTREAM_FLOAT(value) "+f"(value)
#define TWINSTREAM_INTEGER(value) "+r"(value)

// One product for `len` sums; first to sixth are the numbers of the operands behind them.
#define TWINSTREAM_WGMMA(name, type, kind, len, shape, tail_shared, tail, first, second, third,    \
                         fourth, fifth, sixth)                                                     \
    TWINSTREAM_DEVICE void name(type(&sum)[len], uint64_t a, uint64_t b, bool adds) {              \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" third ", 0;\n"                           \
                     "wgmma.mma_async.sync.aligned." shape " {" TWINSTREAM_TEXT_##len              \
                     "}, %" first ", %" second ", p" tail_shared ";\n}"                            \
                     : TWINSTREAM_SUMS_##len(kind)                                                 \
                     : "l"(a), "l"(b), "r"(static_cast<int>(adds))                                 \
                     : "memory");                                                                  \
    }                                                                                              \
    TWINSTREAM_DEVICE void name(type(&sum)[len], const uint32_t (&a)[4], uint64_t b, bool adds) {  \
        asm volatile(                                                                              \
            "{\n.reg .pred p;\nsetp.ne.b32 p, %" sixth ", 0;\n"                                    \
            "wgmma.mma_async.sync.aligned." shape " {" TWINSTREAM_TEXT_##len                       \
            "}, {%" first ", %" second ", %" third ", %" fourth "}, %" fifth ", p" tail ";\n}"     \
            : TWINSTREAM_SUMS_##len(kind)                                                          \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds))      \
            : "memory");                                                                           \
    }
#define TWINSTREAM_WGMMA_F16(columns, len, ...)                                                    \
    TWINSTREAM_WGMMA(wgmma_f16, float, TWINSTREAM_FLOAT, len, "m64n" #columns "k16.f32.f16.f16",   \
                     ", 1, 1, 0, 0", ", 1, 1, 0", __VA_ARGS__)
#define TWINSTREAM_WGMMA_S8U8(columns, len, ...)                                                   \
    TWINSTREAM_WGMMA(wgmma_s8u8, int32_t, TWINSTREAM_INTEGER, len,                                 \
                     "m64n" #columns "k32.s32.s8.u8", "", "", __VA_ARGS__)

// sum = a * b, or added to it.
TWINSTREAM_WGMMA_F16(8, 4, "4", "5", "6", "7", "8", "9")
TWINSTREAM_WGMMA_F16(56, 28, "28", "29", "30", "31", "32", "33")
TWINSTREAM_WGMMA_F16(64, 32, "32", "33", "34", "35", "36", "37")
TWINSTREAM_WGMMA_F16(112, 56, "56", "57", "58", "59", "60", "61")
TWINSTREAM_WGMMA_F16(120, 60, "60", "61", "62", "63", "64", "65")
TWINSTREAM_WGMMA_F16(128, 64, "64", "65", "66", "67", "68", "69")
TWINSTREAM_WGMMA_F16(192, 96, "96", "97", "98", "99", "100", "101")
TWINSTREAM_WGMMA_F16(256, 128, "128", "129", "130", "131", "132", "133")
// The same of 8-bit integers, a signed and b unsigned; sums wrap around.
TWINSTREAM_WGMMA_S8U8(8, 4, "4", "5", "6", "7", "8", "9")
TWINSTREAM_WGMMA_S8U8(64, 32, "32", "33", "34", "35", "36", "37")
TWINSTREAM_WGMMA_S8U8(112, 56, "56", "57", "58", "59", "60", "61")
TWINSTREAM_WGMMA_S8U8(128, 64, "64", "65", "66", "67", "68", "69")
TWINSTREAM_WGMMA_S8U8(192, 96, "96", "97", "98", "99", "100", "101")
TWINSTREAM_WGMMA_S8U8(208, 104, "104", "105", "106", "107", "108", "109")
TWINSTREAM_WGMMA_S8U8(224, 112, "112", "113", "114", "115", "116", "117")
TWINSTREAM_WGMMA_S8U8(256, 128, "128", "129", "130", "131", "132", "133")

#undef TWINSTREAM_WGMMA_S8U8
#undef TWINSTREAM_WGMMA_F16
#undef TWINSTREAM_WGMMA
#undef TWINSTREAM_INTEGER
#undef TWINSTREAM_FLOAT

#else

template <unsigned len, class Left>
void wgmma_f16(float (&sum)[len], const Left &a, uint64_t b, bool adds) {
    emulator::wgmma_f16(sum, len * 2, a, b, adds);
}
template <unsigned len, class Left>
void wgmma_s8u8(int32_t (&sum)[len], const Left &a, uint64_t b, bool adds) {
    emulator::wgmma_s8u8(sum, len * 2, a, b, adds);
}

#endif

} // namespace twinstream::ptx

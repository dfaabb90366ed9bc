// Whether wgmma may read its operands from any row of a tile in the 128-byte swizzle, not only
// from every eighth.
//
// Decides whether a 3x3 convolution reads the halo of its pixels once and shifts it for nine taps,
// or copies each tap's pixels. A tap moves the first row by (tap row) * (halo width) + (tap
// column); eight pixels of an image row are eight neighbouring rows, and from one eight to the next
// there are as many rows as the halo is wide: 8 if M also runs over the padding, 10 for tiles of 8
// pixels, 16 if a row of the halo is padded to 16.
//
// The ISA says that the base offset is 0 where the pattern begins at a multiple of 1,024 bytes, as
// it does in a tile that TMA wrote, and (start of the pattern >> 7) & 7 elsewhere. Three ways:
//   plain    TMA's pattern, base offset 0. What a kernel would use.
//   offset   TMA's pattern, base offset from the shifted start. If `plain` is wrong, perhaps this.
//   moved    a pattern that begins at the shifted start, and its base offset: the ISA's words. It
//            tells what the hardware makes of the field; no kernel could have TMA write this.
// With shift 0 and a pitch of 8 all three are the same and must be exact, or the probe itself is
// wrong.

#include <cuda/ptx>

#include <cstdint>
#include <random>

#include "../ptx/ld_st.cuh"
#include "isolated.hpp"

namespace twinstream::probes {

namespace {

constexpr unsigned THREADS = 128;
// Both operands have 64 rows of 64 values of K.
constexpr unsigned ROWS = 64;
constexpr unsigned ROW_LEN = 64;
constexpr unsigned ROW_BYTES = ROW_LEN * 2;
constexpr unsigned ROW_CHUNKS = ROW_BYTES / CHUNK_BYTES;
constexpr unsigned PATTERN_BYTES = 1024;
constexpr unsigned PITCH_ROWS_MAX = 16;
constexpr unsigned SHIFT_ROWS_MAX = 8;
// Memory of one operand.
constexpr unsigned REGION_BYTES = (SHIFT_ROWS_MAX + 7 * PITCH_ROWS_MAX + 8) * ROW_BYTES;
// Dynamic shared memory may begin anywhere within a pattern.
constexpr unsigned SHARED_BYTES = PATTERN_BYTES + 2 * REGION_BYTES;
static_assert(REGION_BYTES % PATTERN_BYTES == 0, "the second region begins with a pattern");

enum Way : unsigned {
    PLAIN,
    OFFSET,
    MOVED,
    WAYS_LEN
};
constexpr const char *WAY_NAMES[WAYS_LEN] = {"plain", "offset", "moved"};
constexpr unsigned PITCHES[] = {8, 10, 16};
constexpr unsigned PITCHES_LEN = sizeof PITCHES / sizeof *PITCHES;
constexpr unsigned SHIFTS_LEN = SHIFT_ROWS_MAX + 1;
constexpr unsigned VARIANTS_LEN = WAYS_LEN * 2 * PITCHES_LEN * SHIFTS_LEN;

// How an operand lies in its region: row r at row shift + r / 8 * pitch + r % 8.
struct Placement {
    Way way;
    unsigned pitch_rows;
    unsigned shift_rows;
};

// Writes the operand, and NaN to all other rows, by address as TMA does: bits 4-6 (the chunk) are
// changed by bits 7-9. All threads.
__device__ void place(unsigned char *region, const Placement &p, const uint4 *chunks) {
    const uint4 nan = make_uint4(0x7e007e00, 0x7e007e00, 0x7e007e00, 0x7e007e00);
    for (unsigned i = threadIdx.x; i < REGION_BYTES / CHUNK_BYTES; i += THREADS)
        reinterpret_cast<uint4 *>(region)[i] = nan;
    __syncthreads();
    unsigned char *const start = region + p.shift_rows * ROW_BYTES;
    const uint32_t pattern = p.way == MOVED ? ptx::shared_address(start) : 0;
    for (unsigned i = threadIdx.x; i < ROWS * ROW_CHUNKS; i += THREADS) {
        const unsigned row = i / ROW_CHUNKS, chunk = i % ROW_CHUNKS;
        unsigned char *const to = start + (row / 8 * p.pitch_rows + row % 8) * ROW_BYTES;
        const uint32_t phase = (ptx::shared_address(to) - pattern) >> 7 & 7;
        *reinterpret_cast<uint4 *>(to + (chunk ^ phase) * CHUNK_BYTES) = chunks[i];
    }
}

// K-major, 128-byte swizzle.
__device__ uint64_t descriptor(const unsigned char *region, const Placement &p) {
    const uint32_t start = ptx::shared_address(region) + p.shift_rows * ROW_BYTES;
    const uint64_t base_offset = p.way == PLAIN ? 0 : start >> 7 & 7;
    // The distance along K has no meaning in this layout; 1 is usual.
    return (start & 0x3ffff) >> 4 | uint64_t{1} << 16 |
           uint64_t{p.pitch_rows * ROW_BYTES >> 4} << 32 | base_offset << 49 | uint64_t{1} << 62;
}

// sum = left * right, 64 x 64 x 64; libcu++ has no wgmma. One asm statement, so that no register of
// the sum is touched before the wait. Each step of 16 of K is 32 bytes further along the row.
__device__ void multiply_warpgroup(float (&sum)[32], uint64_t left, uint64_t right) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TWINSTREAM_STEP(left, right)                                                               \
    "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "                                          \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                      \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, " left       \
    ", " right ", p, 1, 1, 0, 0;\n"
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %40, 0;\n"
                 "wgmma.fence.sync.aligned;\n" //
                 TWINSTREAM_STEP("%32", "%36") //
                 TWINSTREAM_STEP("%33", "%37") //
                 TWINSTREAM_STEP("%34", "%38") //
                 TWINSTREAM_STEP("%35", "%39") //
                 "wgmma.commit_group.sync.aligned;\n"
                 "wgmma.wait_group.sync.aligned 0;\n"
                 "}\n"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]),
                   "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]), "+f"(sum[8]), "+f"(sum[9]),
                   "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]),
                   "+f"(sum[15]), "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]),
                   "+f"(sum[20]), "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]), "+f"(sum[24]),
                   "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), "+f"(sum[28]), "+f"(sum[29]),
                   "+f"(sum[30]), "+f"(sum[31])
                 : "l"(left), "l"(left + 2), "l"(left + 4), "l"(left + 6), "l"(right),
                   "l"(right + 2), "l"(right + 4), "l"(right + 6), "r"(1)
                 : "memory");
#undef TWINSTREAM_STEP
#endif
}

// sums: 64 rows of 64.
__global__ void __launch_bounds__(THREADS)
    multiply(Placement left, Placement right, const uint4 *left_chunks, const uint4 *right_chunks,
             float *sums) {
    TWINSTREAM_SHARED(shared);
    const uint32_t beyond = ptx::shared_address(shared) % PATTERN_BYTES;
    unsigned char *const regions = shared + (PATTERN_BYTES - beyond) % PATTERN_BYTES;
    place(regions, left, left_chunks);
    place(regions + REGION_BYTES, right, right_chunks);
#if __CUDA_ARCH__ >= 900
    // wgmma reads through another proxy than these threads wrote.
    cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
#endif
    __syncthreads();
    float sum[32] = {};
    multiply_warpgroup(sum, descriptor(regions, left), descriptor(regions + REGION_BYTES, right));
    const unsigned lane = threadIdx.x % WARP_LEN;
    const unsigned first_row = threadIdx.x / WARP_LEN * 16 + lane / 4;
    for (unsigned i = 0; i < 32; ++i) {
        const unsigned row = first_row + i / 2 % 2 * 8;
        const unsigned column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        sums[row * ROWS + column] = sum[i];
    }
}

struct Variant {
    Way way;
    bool is_left;
    unsigned pitch_rows;
    unsigned shift_rows;
};

// All shifts of a way, an operand and a pitch follow one another; what matters most comes first.
Variant variant_at(unsigned index) {
    const unsigned shift_rows = index % SHIFTS_LEN;
    index /= SHIFTS_LEN;
    const unsigned pitch_rows = PITCHES[index % PITCHES_LEN];
    index /= PITCHES_LEN;
    return {static_cast<Way>(index / 2), index % 2 == 0, pitch_rows, shift_rows};
}

std::string fields(unsigned index) {
    const Variant variant = variant_at(index);
    return std::string("\"way\": \"") + WAY_NAMES[variant.way] + "\", \"operand\": \"" +
           (variant.is_left ? "a" : "b") +
           "\", \"pitch_rows\": " + std::to_string(variant.pitch_rows) +
           ", \"shift_rows\": " + std::to_string(variant.shift_rows);
}

// Whole numbers from -4 to 4: every sum is exact, in whatever way the hardware adds.
std::vector<int> draw(unsigned seed) {
    std::mt19937 random(seed);
    std::vector<int> values(ROWS * ROW_LEN);
    for (int &value : values) value = static_cast<int>(random() % 9) - 4;
    return values;
}

uint4 *upload(const std::vector<int> &values) {
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
unsigned count_wrong(const std::vector<int> &left, const std::vector<int> &right,
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

std::string answer(unsigned index) {
    const Variant variant = variant_at(index);
    const Placement moved{variant.way, variant.pitch_rows, variant.shift_rows};
    const Placement fixed{PLAIN, 8, 0};
    const std::vector<int> left = draw(1), right = draw(2);
    uint4 *const left_chunks = upload(left), *const right_chunks = upload(right);
    std::vector<float> sums(ROWS * ROWS);
    float *to;
    TWINSTREAM_CHECK(cudaMalloc(&to, sums.size() * sizeof sums[0]));
    TWINSTREAM_CHECK(cudaMemset(to, 0xff, sums.size() * sizeof sums[0]));
    multiply<<<1, THREADS, SHARED_BYTES>>>(variant.is_left ? moved : fixed,
                                           variant.is_left ? fixed : moved, left_chunks,
                                           right_chunks, to);
    TWINSTREAM_CHECK(cudaGetLastError());
    TWINSTREAM_CHECK(
        cudaMemcpy(sums.data(), to, sums.size() * sizeof sums[0], cudaMemcpyDeviceToHost));
    for (void *const each : {static_cast<void *>(left_chunks), static_cast<void *>(right_chunks),
                             static_cast<void *>(to)})
        TWINSTREAM_CHECK(cudaFree(each));
    return verdict(count_wrong(left, right, sums));
}

} // namespace

} // namespace twinstream::probes

int main() {
    namespace probes = twinstream::probes;
    return probes::run_isolated("wgmma_rows", probes::VARIANTS_LEN, probes::fields, probes::answer);
}

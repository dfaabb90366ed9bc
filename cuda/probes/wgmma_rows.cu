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

#include "products.cuh"

namespace twinstream::probes {

namespace {

constexpr unsigned ROW_BYTES = ROW_LEN * 2;
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
    for (unsigned i = threadIdx.x; i < REGION_BYTES / CHUNK_BYTES; i += PRODUCT_THREADS)
        reinterpret_cast<uint4 *>(region)[i] = nan;
    __syncthreads();
    unsigned char *const start = region + p.shift_rows * ROW_BYTES;
    const uint32_t pattern = p.way == MOVED ? ptx::shared_address(start) : 0;
    for (unsigned i = threadIdx.x; i < ROWS * ROW_CHUNKS; i += PRODUCT_THREADS) {
        const unsigned row = i / ROW_CHUNKS, chunk = i % ROW_CHUNKS;
        unsigned char *const to = start + (row / 8 * p.pitch_rows + row % 8) * ROW_BYTES;
        const uint32_t phase = (ptx::shared_address(to) - pattern) >> 7 & 7;
        *reinterpret_cast<uint4 *>(to + (chunk ^ phase) * CHUNK_BYTES) = chunks[i];
    }
}

// K-major, 128-byte swizzle: each step of 16 of K is 32 bytes further along the row.
__device__ Operand operand(const unsigned char *region, const Placement &p) {
    const uint32_t start = ptx::shared_address(region) + p.shift_rows * ROW_BYTES;
    const uint64_t base_offset = p.way == PLAIN ? 0 : start >> 7 & 7;
    const uint64_t rows = ptx::describe_operand(start, ptx::OperandLayout::swizzle_128, CHUNK_BYTES,
                                                p.pitch_rows * ROW_BYTES);
    return {rows | base_offset << 49, 2};
}

__global__ void __launch_bounds__(PRODUCT_THREADS)
    multiply(Placement left, Placement right, const uint4 *left_chunks, const uint4 *right_chunks,
             float *sums, float *cycles) {
    TWINSTREAM_SHARED(shared);
    const uint32_t beyond = ptx::shared_address(shared) % PATTERN_BYTES;
    unsigned char *const regions = shared + (PATTERN_BYTES - beyond) % PATTERN_BYTES;
    place(regions, left, left_chunks);
    place(regions + REGION_BYTES, right, right_chunks);
#if __CUDA_ARCH__ >= 900
    // wgmma reads through another proxy than these threads wrote.
    ptx::fence_proxy_async_shared();
#endif
    __syncthreads();
    answer_product(operand(regions, left), operand(regions + REGION_BYTES, right), sums, cycles);
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

Answer answer(unsigned index) {
    const Variant variant = variant_at(index);
    const Placement moved{variant.way, variant.pitch_rows, variant.shift_rows};
    const Placement fixed{PLAIN, 8, 0};
    return compare_product(
        draw(1), draw(2), [&](const uint4 *left, const uint4 *right, float *sums, float *cycles) {
            multiply<<<1, PRODUCT_THREADS, SHARED_BYTES>>>(variant.is_left ? moved : fixed,
                                                           variant.is_left ? fixed : moved, left,
                                                           right, sums, cycles);
        });
}

} // namespace

} // namespace twinstream::probes

int main() {
    namespace probes = twinstream::probes;
    const probes::Found found =
        probes::run_isolated("wgmma_rows", probes::VARIANTS_LEN, probes::fields, probes::answer);
    for (const probes::Way way : {probes::PLAIN, probes::OFFSET, probes::MOVED})
        found.print_share(
            probes::WAY_NAMES[way], [&](unsigned i) { return probes::variant_at(i).way == way; },
            "whether a halo in the 128-byte swizzle is read once for nine taps");
    return found.exit_status;
}

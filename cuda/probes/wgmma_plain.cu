// Whether wgmma reads operands without a swizzle from any 16 bytes on, and where parts of them
// overlap; and how fast.
//
// Decides two kernels: layer 1's 3x3 convolution, which reads pixels in planes of 8 channels, where
// a tap moves the start by (tap row) * (halo width) + (tap column) times 16 bytes; and the stem,
// whose operand's rows are 16 bytes apart and 64 long. Without a swizzle an operand is matrices of
// 8 rows of 16 bytes, the next 16 bytes of K at one distance, the next eight rows at another; that
// both may be any multiple of 16 is the instruction set's formula, and no code that could be read
// relies on it.
//   planes   rows at 16 bytes, K at a plane, of a halo of 6 rows of 58 pixels: shifts of taps and
//            others
//   overlap  rows at 16 bytes, K at 16 bytes: row r from chunk c on is row r + c
//   rows     in the 128-byte swizzle: must be exact, and is what the others' clocks compare with

#include "products.cuh"

namespace twinstream::probes {

namespace {

constexpr unsigned HALO_WIDTH = 58;
constexpr unsigned PLANE_BYTES = 6 * HALO_WIDTH * CHUNK_BYTES;
constexpr unsigned ROW_BYTES = ROW_LEN * 2;
constexpr unsigned ALIGNMENT = 1024;
// Memory of one operand: the planes, in multiples of the swizzle's pattern.
constexpr unsigned REGION_BYTES =
    (ROW_CHUNKS * PLANE_BYTES + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
constexpr unsigned SHARED_BYTES = ALIGNMENT + 2 * REGION_BYTES;

enum Form : unsigned {
    IN_ROWS,
    IN_PLANES,
    OVERLAPPING,
    FORMS_LEN
};
constexpr const char *FORM_NAMES[FORMS_LEN] = {"rows", "planes", "overlap"};
// In pieces of 16 bytes: what lies off 128 bytes, and the nine taps.
constexpr unsigned SHIFTS[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 58, 59, 60, 116, 117, 118};
constexpr unsigned SHIFTS_LEN = sizeof SHIFTS / sizeof *SHIFTS;
// In rows there is nothing to shift.
constexpr unsigned VARIANTS_LEN = 2 + 2 * 2 * SHIFTS_LEN;

struct Placement {
    Form form;
    unsigned shift;

    // Bytes from chunk to chunk of K, where rows are 16 bytes apart.
    __host__ __device__ unsigned leading_bytes() const {
        return form == IN_PLANES ? PLANE_BYTES : CHUNK_BYTES;
    }
};

// Writes the operand, and NaN to all other chunks. All threads.
__device__ void place(unsigned char *region, const Placement &p, const uint4 *chunks) {
    const uint4 nan = make_uint4(0x7e007e00, 0x7e007e00, 0x7e007e00, 0x7e007e00);
    for (unsigned i = threadIdx.x; i < REGION_BYTES / CHUNK_BYTES; i += PRODUCT_THREADS)
        reinterpret_cast<uint4 *>(region)[i] = nan;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < ROWS * ROW_CHUNKS; i += PRODUCT_THREADS) {
        const unsigned row = i / ROW_CHUNKS, chunk = i % ROW_CHUNKS;
        // Where rows overlap, several threads write the same.
        const unsigned at = p.form == IN_ROWS
                                ? row * ROW_BYTES + (chunk ^ row % 8) * CHUNK_BYTES
                                : (p.shift + row) * CHUNK_BYTES + chunk * p.leading_bytes();
        *reinterpret_cast<uint4 *>(region + at) = chunks[i];
    }
}

__device__ Operand operand(const unsigned char *region, const Placement &p) {
    const uint32_t start = ptx::shared_address(region);
    if (p.form == IN_ROWS) return {ptx::describe_rows_128(start), 2};
    return {ptx::describe_operand(start + p.shift * CHUNK_BYTES, ptx::OperandLayout::plain,
                                  p.leading_bytes(), 8 * CHUNK_BYTES),
            2 * p.leading_bytes() / CHUNK_BYTES};
}

__global__ void __launch_bounds__(PRODUCT_THREADS)
    multiply(Placement left, Placement right, const uint4 *left_chunks, const uint4 *right_chunks,
             float *sums, float *cycles) {
    TWINSTREAM_SHARED(shared);
    const uint32_t beyond = ptx::shared_address(shared) % ALIGNMENT;
    unsigned char *const regions = shared + (ALIGNMENT - beyond) % ALIGNMENT;
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
    Form form;
    bool is_left;
    unsigned shift;
};

// What must be exact comes first.
Variant variant_at(unsigned index) {
    if (index < 2) return {IN_ROWS, index == 0, 0};
    index -= 2;
    const unsigned shift = SHIFTS[index % SHIFTS_LEN];
    index /= SHIFTS_LEN;
    return {index / 2 == 0 ? IN_PLANES : OVERLAPPING, index % 2 == 0, shift};
}

std::string fields(unsigned index) {
    const Variant variant = variant_at(index);
    return std::string("\"form\": \"") + FORM_NAMES[variant.form] + "\", \"operand\": \"" +
           (variant.is_left ? "a" : "b") + "\", \"shift\": " + std::to_string(variant.shift);
}

// Row by row; rows that overlap are made of the same chunks.
std::vector<int> values_of(Form form, unsigned seed) {
    if (form != OVERLAPPING) return draw(seed);
    const std::vector<int> row = draw(seed, (ROWS + ROW_CHUNKS) * CHUNK_LEN);
    std::vector<int> values;
    for (unsigned i = 0; i < ROWS; ++i)
        values.insert(values.end(), row.begin() + i * CHUNK_LEN,
                      row.begin() + i * CHUNK_LEN + ROW_LEN);
    return values;
}

Answer answer(unsigned index) {
    const Variant variant = variant_at(index);
    const Placement moved{variant.form, variant.shift}, fixed{IN_ROWS, 0};
    TWINSTREAM_CHECK(
        cudaFuncSetAttribute(multiply, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES));
    return compare_product(values_of(variant.is_left ? variant.form : IN_ROWS, 1),
                           values_of(variant.is_left ? IN_ROWS : variant.form, 2),
                           [&](const uint4 *left, const uint4 *right, float *sums, float *cycles) {
                               multiply<<<1, PRODUCT_THREADS, SHARED_BYTES>>>(
                                   variant.is_left ? moved : fixed, variant.is_left ? fixed : moved,
                                   left, right, sums, cycles);
                           });
}

} // namespace

} // namespace twinstream::probes

int main() {
    namespace probes = twinstream::probes;
    const probes::Found found =
        probes::run_isolated("wgmma_plain", probes::VARIANTS_LEN, probes::fields, probes::answer);
    const char *const decides[] = {
        "whether the probe itself is right: these must be",
        "whether layer 1's 3x3 reads its halo in planes, once for nine taps",
        "whether the stem reads its overlapping rows where they lie",
    };
    double cycles[probes::FORMS_LEN] = {};
    for (unsigned form = 0; form < probes::FORMS_LEN; ++form) {
        const auto is_chosen = [&](unsigned i) { return probes::variant_at(i).form == form; };
        found.print_share(probes::FORM_NAMES[form], is_chosen, decides[form]);
        for (unsigned i = 0; i < found.len; ++i)
            if (is_chosen(i)) cycles[form] = std::max(cycles[form], found.shared->cycles[i]);
    }
    for (const probes::Form form : {probes::IN_PLANES, probes::OVERLAPPING})
        if (cycles[form] > 0.0)
            probes::print_figure("wgmma_plain",
                                 form == probes::IN_PLANES ? "planes_clocks" : "overlap_clocks",
                                 cycles[form] / cycles[probes::IN_ROWS], "x the swizzle's clocks",
                                 "whether operands without a swizzle cost bank conflicts");
    return found.exit_status;
}

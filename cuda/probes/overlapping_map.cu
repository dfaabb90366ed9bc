// Whether the driver takes tensor maps whose elements overlap in memory, and whether TMA copies
// by them bring the right values.
//
// Decides how a Hopper stem gets its operand. With four channels a pixel, the eight pixels under a
// row of the 7x7 kernel are 64 contiguous bytes, and those of the next output begin 16 bytes on: a
// map of 64-byte elements at a distance of 16. The driver's text forbids it in a comment, but names
// no error. Two forms:
//   rows     32 values x outputs at 16 bytes x image rows, every second one: rows of K for wgmma,
//            with the 64-byte swizzle or none
//   chunks   8 values x outputs at 16 bytes x 4 chunks at 16 bytes x image rows: no dimension is
//            wider than the next one's distance, and what comes are the 8 x 16 byte matrices that
//            wgmma reads without a swizzle
// Each on images of 224 x 224 and of 32 x 32 (less than 128 KiB, see small_map.cu), padded by 3.

#include "isolated.hpp"
#include "tensor_copy.cuh"

namespace twinstream::probes {

namespace {

constexpr unsigned PADDING = 3;
constexpr unsigned PIXEL_BYTES = 8;
constexpr unsigned STRIDE = 2;
// Outputs of a copy along a row and from row to row; their 64 bytes each are a copy's 8 KiB.
constexpr unsigned OUTPUTS_X = 16;
constexpr unsigned OUTPUTS_Y = 8;
// The kernel row whose pixels are copied.
constexpr unsigned KERNEL_ROW = 1;

struct Variant {
    unsigned side;
    bool is_chunks;
    CUtensorMapSwizzle swizzle;
    const char *form;
    const char *swizzle_name;
};

constexpr Variant VARIANTS[] = {
    {224, false, CU_TENSOR_MAP_SWIZZLE_NONE, "rows", "none"},
    {224, false, CU_TENSOR_MAP_SWIZZLE_64B, "rows", "64"},
    {224, true, CU_TENSOR_MAP_SWIZZLE_NONE, "chunks", "none"},
    {32, false, CU_TENSOR_MAP_SWIZZLE_NONE, "rows", "none"},
    {32, false, CU_TENSOR_MAP_SWIZZLE_64B, "rows", "64"},
    {32, true, CU_TENSOR_MAP_SWIZZLE_NONE, "chunks", "none"},
};
constexpr unsigned VARIANTS_LEN = sizeof VARIANTS / sizeof *VARIANTS;

std::string fields(unsigned index) {
    const Variant &variant = VARIANTS[index];
    return "\"side\": " + std::to_string(variant.side) + ", \"form\": \"" + variant.form +
           "\", \"swizzle\": \"" + variant.swizzle_name + "\"";
}

// How a form sees an image: what a copy takes along each dimension, and at which steps.
struct Form {
    Tensor tensor;
    cuuint32_t box[RANK];
    cuuint32_t steps[RANK];
    // Which dimension runs over the image's rows.
    unsigned y;
};

Form form_of(const Variant &variant, const uint16_t *image) {
    const cuuint64_t outputs = variant.side / STRIDE;
    const cuuint64_t rows = variant.side + 2 * PADDING;
    const cuuint64_t row_bytes = rows * PIXEL_BYTES;
    const cuuint64_t distance_bytes = STRIDE * PIXEL_BYTES;
    if (variant.is_chunks)
        return {{image, {8, outputs, 4, rows}, {distance_bytes, 16, row_bytes}},
                {8, OUTPUTS_X, 4, OUTPUTS_Y * STRIDE},
                {1, 1, 1, STRIDE},
                3};
    return {{image, {32, outputs, rows, 1}, {distance_bytes, row_bytes, rows * row_bytes}},
            {32, OUTPUTS_X, OUTPUTS_Y * STRIDE, 1},
            {1, 1, STRIDE, 1},
            2};
}

// Elements of a block's copy that are not what they must be.
unsigned count_wrong(const std::vector<uint16_t> &image, const Form &form, const Coordinates &first,
                     CUtensorMapSwizzle swizzle, const uint16_t *copied) {
    unsigned wrong_len = 0;
    for (unsigned i = 0; i < COPY_LEN; ++i) {
        Coordinates at = first;
        unsigned rest = i;
        for (unsigned d = 0; d < RANK; ++d) {
            const unsigned taken = form.box[d] / form.steps[d];
            at.at[d] += static_cast<int32_t>(rest % taken * form.steps[d]);
            rest /= taken;
        }
        wrong_len += copied[swizzled(i, swizzle)] != value_at(image, form.tensor, at);
    }
    return wrong_len;
}

Answer answer(unsigned index) {
    const Variant &variant = VARIANTS[index];
    const unsigned padded = variant.side + 2 * PADDING;
    const std::vector<uint16_t> image = numbered(padded * padded * PIXEL_BYTES / 2);
    void *address;
    TWINSTREAM_CHECK(cudaMalloc(&address, image.size() * sizeof image[0]));
    TWINSTREAM_CHECK(
        cudaMemcpy(address, image.data(), image.size() * sizeof image[0], cudaMemcpyHostToDevice));
    const Form form = form_of(variant, static_cast<const uint16_t *>(address));
    CUtensorMap map;
    const CUresult status = encode_tiled(&map, form.tensor, form.box, form.steps, variant.swizzle);
    const std::string encoded = "\"encode_status\": " + std::to_string(status);
    if (status != CUDA_SUCCESS) return {encoded, false, 0.0};

    // The last outputs of all rows, up to the image's last byte but the kernel's rows behind.
    Coordinates first{{0, static_cast<int32_t>(variant.side / STRIDE - OUTPUTS_X), 0, 0}};
    first.at[form.y] = KERNEL_ROW;
    Coordinates step{};
    step.at[form.y] = OUTPUTS_Y * STRIDE;
    const unsigned blocks = variant.side / STRIDE / OUTPUTS_Y;
    const Copied copied = run_copy<false>(map, blocks, first, step, Tap{});
    TWINSTREAM_CHECK(cudaFree(address));
    unsigned wrong_len = 0;
    for (unsigned b = 0; b < blocks; ++b) {
        wrong_len += count_wrong(image, form, first, variant.swizzle,
                                 copied.values.data() + size_t{b} * COPY_LEN);
        first.at[form.y] += step.at[form.y];
    }
    return verdict(encoded + ", \"timed_out\": " + (copied.is_late ? "true" : "false"), wrong_len);
}

} // namespace

} // namespace twinstream::probes

int main() {
    namespace probes = twinstream::probes;
    const probes::Found found = probes::run_isolated("overlapping_map", probes::VARIANTS_LEN,
                                                     probes::fields, probes::answer);
    for (const bool is_chunks : {false, true})
        found.print_share(
            is_chunks ? "chunks" : "rows",
            [&](unsigned i) { return probes::VARIANTS[i].is_chunks == is_chunks; },
            "whether one copy brings the stem its operand");
    return found.exit_status;
}

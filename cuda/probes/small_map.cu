// Whether tensor maps over less than 128 KiB work as the driver encodes them.
//
// Drivers before CUDA 13.2 set bit 21 of word 1 of some maps where they should not. NVIDIA's known
// issue speaks of faults now and then on Blackwell, for tensors in less than 128 KiB of memory that
// are not dense; CUTLASS clears the bit of all small maps on every device. Decides whether the
// Hopper path has to, for the maps of small batches, and whether a map works with the bit cleared.
//
// Tensors of 1 to 256 KiB: dense ones of 64 channels, and ones of 64 of every 128 values; each in
// memory of its own size, and at the end of memory behind which nothing is mapped, where reading on
// is a fault. All of a tensor is copied, in boxes and as the pixels under a tap of a 3x3
// convolution, in the 128-byte swizzle. Where the bit is not set, `cleared` copies by the same map
// as `encoded`.

#include <cinttypes>

#include "isolated.hpp"
#include "tensor_copy.cuh"

namespace twinstream::probes {

namespace {

constexpr unsigned SIZES_KIB[] = {256, 128, 127, 64, 16, 1};
constexpr unsigned SIZES_LEN = sizeof SIZES_KIB / sizeof *SIZES_KIB;
constexpr unsigned VARIANTS_LEN = SIZES_LEN * 16;
constexpr unsigned CHANNELS = 64;
// A row of pixels, whatever their distance.
constexpr unsigned ROW_BYTES = 1024;
// Pixels of a copy.
constexpr unsigned PIXELS = COPY_LEN / CHANNELS;
constexpr Tap TAP{2, 0};
constexpr cuuint64_t SMALL_BIT = cuuint64_t{1} << 21;
constexpr CUtensorMapSwizzle SWIZZLE = CU_TENSOR_MAP_SWIZZLE_128B;

struct Variant {
    unsigned size_kib;
    bool is_dense;
    bool is_im2col;
    bool is_guarded;
    bool clears;
};

// What must work comes first.
Variant variant_at(unsigned index) {
    const unsigned size_kib = SIZES_KIB[index % SIZES_LEN];
    index /= SIZES_LEN;
    return {size_kib, index % 2 == 0, index / 2 % 2 == 1, index / 4 % 2 == 1, index / 8 == 1};
}

std::string fields(unsigned index) {
    const Variant variant = variant_at(index);
    return "\"size_kib\": " + std::to_string(variant.size_kib) +
           ", \"dense\": " + (variant.is_dense ? "true" : "false") + ", \"copy\": \"" +
           (variant.is_im2col ? "im2col" : "tiled") + "\", \"memory\": \"" +
           (variant.is_guarded ? "guarded" : "own") + "\", \"map\": \"" +
           (variant.clears ? "cleared" : "encoded") + "\"";
}

template <class Function, class... Arguments>
void call_driver(const char *name, Arguments... arguments) {
    const CUresult status = driver_function<Function>(name)(arguments...);
    if (status != CUDA_SUCCESS) {
        std::fprintf(stderr, "%s: status %d\n", name, status);
        std::exit(1);
    }
}

// The end of a piece of memory behind which nothing is mapped. It stays as long as the process.
unsigned char *guarded_end() {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    const CUmemAccessDesc access{properties.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    size_t bytes;
    CUdeviceptr begin;
    CUmemGenericAllocationHandle memory;
    call_driver<PFN_cuMemGetAllocationGranularity_v10020>(
        "cuMemGetAllocationGranularity", &bytes, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    call_driver<PFN_cuMemAddressReserve_v10020>("cuMemAddressReserve", &begin, 2 * bytes, 0, 0, 0);
    call_driver<PFN_cuMemCreate_v10020>("cuMemCreate", &memory, bytes, &properties, 0);
    call_driver<PFN_cuMemMap_v10020>("cuMemMap", begin, bytes, 0, memory, 0);
    call_driver<PFN_cuMemSetAccess_v10020>("cuMemSetAccess", begin, bytes, &access, 1);
    return reinterpret_cast<unsigned char *>(begin + bytes);
}

// Elements of all copies that are not what they must be. Copy b begins at pixel b * PIXELS.
unsigned count_wrong(const std::vector<uint16_t> &values, const Tensor &tensor, bool is_im2col,
                     const std::vector<uint16_t> &copied) {
    const int32_t width = static_cast<int32_t>(tensor.dimensions[1]);
    const int32_t height = static_cast<int32_t>(tensor.dimensions[2]);
    unsigned wrong_len = 0;
    for (unsigned i = 0; i < copied.size(); ++i) {
        const int32_t pixel = static_cast<int32_t>(i / CHANNELS);
        Coordinates at{{static_cast<int32_t>(i % CHANNELS), pixel % width, pixel / width, 0}};
        if (is_im2col) {
            // Behind the last pixel comes the next image, of which there is none.
            at.at[3] = at.at[2] / height;
            at.at[1] += TAP.x - 1;
            at.at[2] = at.at[2] % height + TAP.y - 1;
        }
        const unsigned in_copy = swizzled(i % COPY_LEN, SWIZZLE);
        wrong_len += copied[i / COPY_LEN * COPY_LEN + in_copy] != value_at(values, tensor, at);
    }
    return wrong_len;
}

Answer answer(unsigned index) {
    const Variant variant = variant_at(index);
    const size_t tensor_bytes = variant.size_kib * size_t{1024};
    const std::vector<uint16_t> values = numbered(tensor_bytes / 2);
    unsigned char *address;
    if (variant.is_guarded) {
        static unsigned char *const end = guarded_end();
        address = end - tensor_bytes;
    } else {
        TWINSTREAM_CHECK(cudaMalloc(&address, tensor_bytes));
    }
    TWINSTREAM_CHECK(cudaMemcpy(address, values.data(), tensor_bytes, cudaMemcpyHostToDevice));

    const cuuint64_t pixel_bytes = CHANNELS * 2 * (variant.is_dense ? 1 : 2);
    const cuuint32_t width = static_cast<cuuint32_t>(ROW_BYTES / pixel_bytes);
    const cuuint32_t copy_rows = PIXELS / width;
    const Tensor tensor{reinterpret_cast<const uint16_t *>(address),
                        {CHANNELS, width, variant.size_kib, 1},
                        {pixel_bytes, ROW_BYTES, tensor_bytes}};
    const cuuint32_t box[RANK] = {CHANNELS, width, copy_rows, 1}, steps[RANK] = {1, 1, 1, 1};
    CUtensorMap map;
    const CUresult status = variant.is_im2col
                                ? encode_im2col(&map, tensor, CHANNELS, PIXELS, SWIZZLE)
                                : encode_tiled(&map, tensor, box, steps, SWIZZLE);
    const std::string encoded = "\"encode_status\": " + std::to_string(status);
    if (status != CUDA_SUCCESS) return {encoded, false, 0.0};
    char word[19];
    std::snprintf(word, sizeof word, "0x%016" PRIx64, static_cast<uint64_t>(map.opaque[1]));
    const bool is_set = (map.opaque[1] & SMALL_BIT) != 0;
    if (variant.clears) map.opaque[1] &= ~SMALL_BIT;

    const unsigned blocks = (variant.size_kib + copy_rows - 1) / copy_rows;
    const int32_t before = variant.is_im2col ? -1 : 0;
    const Coordinates first{{0, before, before, 0}};
    const Coordinates step{{0, 0, static_cast<int32_t>(copy_rows), 0}};
    const Copied copied = variant.is_im2col ? run_copy<true>(map, blocks, first, step, TAP)
                                            : run_copy<false>(map, blocks, first, step, TAP);
    if (!variant.is_guarded) TWINSTREAM_CHECK(cudaFree(address));
    const unsigned wrong_len = count_wrong(values, tensor, variant.is_im2col, copied.values);
    int driver;
    TWINSTREAM_CHECK(cudaDriverGetVersion(&driver));
    return verdict(encoded + ", \"driver\": " + std::to_string(driver) + ", \"word_1\": \"" + word +
                       "\", \"bit_set\": " + (is_set ? "true" : "false") +
                       ", \"timed_out\": " + (copied.is_late ? "true" : "false"),
                   wrong_len);
}

} // namespace

} // namespace twinstream::probes

int main() {
    namespace probes = twinstream::probes;
    const probes::Found found =
        probes::run_isolated("small_map", probes::VARIANTS_LEN, probes::fields, probes::answer);
    const auto is_small = [](unsigned i) { return probes::variant_at(i).size_kib < 128; };
    found.print_share(
        "small_encoded", [&](unsigned i) { return is_small(i) && !probes::variant_at(i).clears; },
        "whether bit 21 of word 1 has to be cleared in maps below 128 KiB");
    found.print_share(
        "small_cleared", [&](unsigned i) { return is_small(i) && probes::variant_at(i).clears; },
        "whether maps below 128 KiB work with the bit cleared, as the host clears it");
    found.print_share(
        "large_maps", [&](unsigned i) { return !is_small(i); },
        "whether the probe itself is right: these must be");
    return found.exit_status;
}

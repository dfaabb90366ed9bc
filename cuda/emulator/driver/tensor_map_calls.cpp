// Driver calls that describe tensors; see driver.hpp and ../tensor_map.hpp.
#include <string>

#include "../tensor_map.hpp"
#include "driver.hpp"

using namespace twinstream::driver;
using twinstream::emulator::Swizzle;
using twinstream::emulator::TensorMap;
using twinstream::emulator::TensorShape;

namespace {

constexpr uint32_t RANK_MAX = twinstream::emulator::tensor_rank_max;
// CUDA 13.0's driver.
constexpr int DRIVER_VERSION = 13000;

// What both kinds of maps are described by.
struct Description {
    int data_type;
    uint32_t rank;
    void *address;
    const uint64_t *dimensions;
    const uint64_t *strides_bytes;
    const uint32_t *element_strides;
    int interleave, swizzle, fill;
};

// CUtensorMapDataType: of integers and of f16, bf16, f32; 0 for what kernels do not need.
uint32_t element_bytes(int data_type) {
    constexpr uint32_t BYTES[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};
    constexpr int LEN = sizeof BYTES / sizeof *BYTES;
    return 0 <= data_type && data_type < LEN ? BYTES[data_type] : 0;
}

// CUtensorMapSwizzle: none, 32, 64, 128 bytes. False: not held here.
bool describe(TensorShape *shape, const Description &given) {
    constexpr int SWIZZLE_64B = 2, SWIZZLE_128B = 3;
    const bool is_known =
        given.swizzle == 0 || given.swizzle == SWIZZLE_64B || given.swizzle == SWIZZLE_128B;
    if (!is_known || given.interleave != 0 || given.fill != 0 || given.rank > RANK_MAX) {
        return false;
    }
    *shape = TensorShape{};
    shape->address = given.address;
    shape->rank = given.rank;
    shape->element_bytes = element_bytes(given.data_type);
    shape->swizzle = given.swizzle == SWIZZLE_128B
                         ? Swizzle::b128
                         : (given.swizzle == SWIZZLE_64B ? Swizzle::b64 : Swizzle::none);
    for (uint32_t i = 0; i < given.rank; ++i) {
        shape->dimensions[i] = given.dimensions[i];
        shape->element_strides[i] = given.element_strides[i];
        if (i > 0) shape->strides_bytes[i - 1] = given.strides_bytes[i - 1];
    }
    return true;
}

// As drivers up to 13.1 do; whoever encodes a map that spans less than 128 KiB clears it.
int finish(TensorMap *map, bool is_encoded, const std::string &error) {
    if (!is_encoded) {
        complain("tensor map: %s", error.c_str());
        return INVALID_VALUE;
    }
    map->flags |= TensorMap::large_flag;
    return SUCCESS;
}

} // namespace

extern "C" {

int cuDriverGetVersion(void *version) {
    *static_cast<int *>(version) = DRIVER_VERSION;
    return SUCCESS;
}

int cuTensorMapEncodeTiled(void *map, int data_type, uint32_t rank, void *address,
                           const uint64_t *dimensions, const uint64_t *strides_bytes,
                           const uint32_t *box, const uint32_t *element_strides, int interleave,
                           int swizzle, int, int fill) {
    TensorShape shape;
    if (!describe(&shape, {data_type, rank, address, dimensions, strides_bytes, element_strides,
                           interleave, swizzle, fill})) {
        return NOT_SUPPORTED;
    }
    std::array<uint32_t, RANK_MAX> spans{};
    for (uint32_t i = 0; i < rank; ++i) spans[i] = box[i];
    std::string error;
    auto *const to = static_cast<TensorMap *>(map);
    return finish(to, twinstream::emulator::encode_tiled(to, shape, spans, &error), error);
}

// Corners run from the innermost spatial dimension to the outermost: width, height, depth.
int cuTensorMapEncodeIm2col(void *map, int data_type, uint32_t rank, void *address,
                            const uint64_t *dimensions, const uint64_t *strides_bytes,
                            const int *corner_lower, const int *corner_upper, uint32_t channels,
                            uint32_t pixels, const uint32_t *element_strides, int interleave,
                            int swizzle, int, int fill) {
    TensorShape shape;
    if (!describe(&shape, {data_type, rank, address, dimensions, strides_bytes, element_strides,
                           interleave, swizzle, fill})) {
        return NOT_SUPPORTED;
    }
    std::array<int32_t, RANK_MAX - 2> lower{}, upper{};
    for (uint32_t i = 0; i + 2 < rank; ++i) {
        lower[i] = corner_lower[i];
        upper[i] = corner_upper[i];
    }
    std::string error;
    auto *const to = static_cast<TensorMap *>(map);
    return finish(
        to, twinstream::emulator::encode_im2col(to, shape, lower, upper, channels, pixels, &error),
        error);
}

} // extern "C"

// Tensor maps as the emulated driver encodes them: what is in them, which bit must be cleared, and
// what is refused.

#include <cstdint>

#include "../../driver/results.hpp"
#include "../../emulator/tensor_map.hpp"
#include "../check.hpp"
#include "../tests.hpp"

#define CALL(name, parameters, names) extern "C" int name parameters;
#include "../../driver/calls.inc"
#undef CALL

namespace twinstream::tests {

namespace {

using emulator::Swizzle;
using emulator::TensorMap;

// CUtensorMapDataType and CUtensorMapSwizzle.
constexpr int UINT8 = 0, FLOAT16 = 6, SWIZZLE_32B = 1, SWIZZLE_64B = 2, SWIZZLE_128B = 3;

// Images of 5 x 7 pixels, [n][y][x][channel].
struct Tensor {
    alignas(16) unsigned char memory[16];
    uint64_t dimensions[4] = {64, 7, 5, 2};
    uint64_t strides_bytes[3] = {128, 896, 4480};
    uint32_t steps[4] = {1, 1, 1, 1};
    uint32_t box[4] = {64, 7, 2, 1};

    int tile(TensorMap *map, int type, int swizzle) {
        return cuTensorMapEncodeTiled(map, type, 4, memory, dimensions, strides_bytes, box, steps,
                                      0, swizzle, 3, 0);
    }
};

} // namespace

void test_tensor_maps() {
    Tensor tensor;
    TensorMap map;
    if (tensor.tile(&map, FLOAT16, SWIZZLE_128B) != driver::SUCCESS ||
        map.copied_bytes() != 64 * 7 * 2 * 2 || map.swizzle != Swizzle::b128)
        fail("a tiled map is encoded as it is not described");
    if (map.spanned_bytes() != 2 * 4480 || (map.flags & TensorMap::large_flag) == 0)
        fail("a small map lacks the bit that must be cleared");
    if (tensor.tile(&map, UINT8, SWIZZLE_64B) != driver::SUCCESS ||
        map.copied_bytes() != 64 * 7 * 2 || map.swizzle != Swizzle::b64)
        fail("a map of bytes is encoded as it is not described");
    // Width first: the corners of an image that is not square, under a tap of 3 x 1.
    const int lower[2] = {-1, 0}, upper[2] = {-1, 0};
    uint32_t steps[4] = {1, 2, 1, 1};
    if (cuTensorMapEncodeIm2col(&map, FLOAT16, 4, tensor.memory, tensor.dimensions,
                                tensor.strides_bytes, const_cast<int *>(lower),
                                const_cast<int *>(upper), 64, 16, steps, 0, SWIZZLE_128B, 3,
                                0) != driver::SUCCESS ||
        map.corner_lower[0] != -1 || map.corner_lower[1] != 0 || map.element_strides[1] != 2 ||
        map.copied_bytes() != 64 * 16 * 2)
        fail("an im2col map is encoded as it is not described");
    if (tensor.tile(&map, FLOAT16, SWIZZLE_32B) != driver::NOT_SUPPORTED)
        fail("a map in a swizzle that is not emulated is encoded");
    tensor.box[1] = 257;
    if (tensor.tile(&map, FLOAT16, SWIZZLE_128B) != driver::INVALID_VALUE)
        fail("a map is encoded that a driver refuses");
}

} // namespace twinstream::tests

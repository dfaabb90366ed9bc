// Tensor maps: the shape of a tensor in device memory and of the pieces that the copy engine takes
// from it, as cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col describe them.
//
// Holds what the kernels to come need: elements of 1 to 8 bytes, no interleaving, no swizzle or
// that of 64 or 128 bytes, zeros outside. A map has the size of the driver's.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace twinstream::emulator {

constexpr std::uint32_t tensor_rank_max = 5;

// Bytes within which 16-byte chunks change places.
enum class Swizzle : std::uint8_t {
    none = 0,
    b64 = 64,
    b128 = 128,
};

// The address of a byte that would lie at `address` without the swizzle: bits 4 and up are changed
// by bits 7 and up, two or three of them. A pattern that does not begin at a multiple of its repeat
// is told by how many bytes of 128 it begins behind one.
constexpr std::uint32_t swizzled(std::uint32_t address, Swizzle swizzle, std::uint32_t base = 0) {
    const std::uint32_t mask = swizzle == Swizzle::b128 ? 7 : (swizzle == Swizzle::b64 ? 3 : 0);
    return address ^ (((address >> 7) - base) & mask) << 4;
}

// What a swizzled tile is aligned to.
constexpr std::uint32_t alignment_bytes(Swizzle swizzle) {
    return swizzle == Swizzle::none ? 128 : static_cast<std::uint32_t>(swizzle) * 8;
}

// All arrays run from the innermost dimension to the outermost.
struct TensorShape {
    const void *address;
    std::uint32_t rank;
    std::array<std::uint64_t, tensor_rank_max> dimensions;
    // Of dimension i + 1, in bytes; the innermost one is contiguous.
    std::array<std::uint64_t, tensor_rank_max - 1> strides_bytes;
    // Steps between the elements that are taken, per dimension; the innermost one is ignored.
    std::array<std::uint32_t, tensor_rank_max> element_strides;
    std::uint32_t element_bytes;
    Swizzle swizzle;
};

struct alignas(64) TensorMap {
    std::uint64_t address;
    // Word 1 of the driver's map, as far as one must know it; see driver/tensor_map_calls.cpp.
    std::uint64_t flags;
    std::array<std::uint64_t, tensor_rank_max - 1> strides_bytes;
    // The last coordinate within the tensor.
    std::array<std::uint32_t, tensor_rank_max> last;
    // Tiled: the box, in elements that it spans.
    std::array<std::uint16_t, tensor_rank_max> box;
    // im2col: where the pixels of an image lie, relative to its first and to its last pixel, and
    // how much one copy takes. Of the spatial dimensions, innermost first.
    std::array<std::int16_t, tensor_rank_max - 2> corner_lower;
    std::array<std::int16_t, tensor_rank_max - 2> corner_upper;
    std::uint16_t channels;
    std::uint16_t pixels;
    std::array<std::uint8_t, tensor_rank_max> element_strides;
    std::uint8_t rank;
    std::uint8_t element_bytes;
    Swizzle swizzle;
    bool is_im2col;
    unsigned char unused[25];

    // Set by drivers up to 13.1; a map that spans less than 128 KiB must not have it.
    static constexpr std::uint64_t large_flag = std::uint64_t{1} << 21;
    static constexpr std::uint64_t small_bytes = 131072;

    // What one copy writes.
    std::uint32_t copied_bytes() const;
    // Elements that a copy takes along a dimension of the box.
    std::uint32_t taken(std::uint32_t dimension) const;
    // Bytes from the tensor's first to its last.
    std::uint64_t spanned_bytes() const;
};
static_assert(sizeof(TensorMap) == 128, "CUtensorMap");

// Both refuse what the driver refuses, and what this emulator does not hold: *error says which.
bool encode_tiled(TensorMap *map, const TensorShape &shape,
                  const std::array<std::uint32_t, tensor_rank_max> &box, std::string *error);
bool encode_im2col(TensorMap *map, const TensorShape &shape,
                   const std::array<std::int32_t, tensor_rank_max - 2> &corner_lower,
                   const std::array<std::int32_t, tensor_rank_max - 2> &corner_upper,
                   std::uint32_t channels, std::uint32_t pixels, std::string *error);

} // namespace twinstream::emulator

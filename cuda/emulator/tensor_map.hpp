// Tensor maps: the shape of a tensor in device memory and of the pieces that the copy engine takes
// from it, as cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col describe them.
//
// Holds what the kernels to come need: 16-bit elements, no interleaving, no swizzle or that of 128
// bytes, zeros outside.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace twinstream::emulator {

constexpr std::uint32_t tensor_rank_max = 5;

// All arrays run from the innermost dimension to the outermost.
struct TensorShape {
    const void *address;
    std::uint32_t rank;
    std::array<std::uint64_t, tensor_rank_max> dimensions;
    // Of dimension i + 1, in bytes; the innermost one is contiguous.
    std::array<std::uint64_t, tensor_rank_max - 1> strides_bytes;
    // Steps between the elements that are taken, per dimension; the innermost one is ignored.
    std::array<std::uint32_t, tensor_rank_max> element_strides;
    bool is_swizzled;
};

struct TensorMap {
    TensorShape shape;
    bool is_im2col;
    // Tiled: the box, in elements that it spans.
    std::array<std::uint32_t, tensor_rank_max> box;
    // im2col: where the pixels of an image lie, relative to its first and to its last pixel, and
    // how much one copy takes. Of the spatial dimensions, innermost first.
    std::array<std::int32_t, tensor_rank_max - 2> corner_lower;
    std::array<std::int32_t, tensor_rank_max - 2> corner_upper;
    std::uint32_t channels;
    std::uint32_t pixels;

    // What one copy writes.
    std::uint32_t copied_bytes() const;
    // Elements that a copy takes along a dimension of the box.
    std::uint32_t taken(std::uint32_t dimension) const;
};

// Both refuse what the driver refuses, and what this emulator does not hold: *error says which.
bool encode_tiled(TensorMap *map, const TensorShape &shape,
                  const std::array<std::uint32_t, tensor_rank_max> &box, std::string *error);
bool encode_im2col(TensorMap *map, const TensorShape &shape,
                   const std::array<std::int32_t, tensor_rank_max - 2> &corner_lower,
                   const std::array<std::int32_t, tensor_rank_max - 2> &corner_upper,
                   std::uint32_t channels, std::uint32_t pixels, std::string *error);

// 128-byte swizzle: the 16-byte chunk of an address within its 128 bytes is changed by bits 7 to 9.
inline std::uint32_t swizzle_128(std::uint32_t address) {
    return address ^ (address >> 7 & 7) << 4;
}

} // namespace twinstream::emulator

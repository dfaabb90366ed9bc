// The rules for tensor maps.

#include "tensor_map.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t element_bytes = 2;
constexpr std::uint32_t swizzle_bytes = 128;

std::string refuse_shape(const TensorShape &shape) {
    if (reinterpret_cast<std::uintptr_t>(shape.address) % 16 != 0) {
        return "the address is not aligned to 16";
    }
    if (shape.rank == 0 || shape.rank > tensor_rank_max) {
        return "a tensor has 1 to 5 dimensions";
    }
    for (std::uint32_t i = 0; i < shape.rank; ++i) {
        if (shape.dimensions[i] == 0 || shape.dimensions[i] > std::uint64_t{1} << 32) {
            return "a dimension is 1 to 2^32";
        }
        if (i > 0 && (shape.element_strides[i] == 0 || shape.element_strides[i] > 8)) {
            return "an element stride is 1 to 8";
        }
        if (i > 0 && (shape.strides_bytes[i - 1] % 16 != 0 ||
                      shape.strides_bytes[i - 1] >= std::uint64_t{1} << 40)) {
            return "a stride is a multiple of 16 below 2^40";
        }
    }
    return {};
}

std::string refuse_row(const TensorShape &shape, std::uint32_t elements_len) {
    const std::uint32_t row_bytes = elements_len * element_bytes;
    if (row_bytes % 16 != 0) {
        return "a row of the box is not a multiple of 16 bytes";
    }
    // Shorter rows are allowed, but how they lie in shared memory is not known here.
    if (shape.is_swizzled && row_bytes != swizzle_bytes) {
        return "a row of a swizzled box has 128 bytes here";
    }
    return {};
}

} // namespace

std::uint32_t TensorMap::taken(std::uint32_t dimension) const {
    const std::uint32_t stride = dimension == 0 ? 1 : shape.element_strides[dimension];
    return (box[dimension] + stride - 1) / stride;
}

std::uint32_t TensorMap::copied_bytes() const {
    if (is_im2col) {
        return channels * pixels * element_bytes;
    }
    std::uint32_t elements_len = 1;
    for (std::uint32_t i = 0; i < shape.rank; ++i) {
        elements_len *= taken(i);
    }
    return elements_len * element_bytes;
}

bool encode_tiled(TensorMap *map, const TensorShape &shape,
                  const std::array<std::uint32_t, tensor_rank_max> &box, std::string *error) {
    *error = refuse_shape(shape);
    for (std::uint32_t i = 0; error->empty() && i < shape.rank; ++i) {
        if (box[i] == 0 || box[i] > 256) {
            *error = "a box spans 1 to 256 elements along a dimension";
        }
    }
    if (error->empty()) {
        *error = refuse_row(shape, box[0]);
    }
    if (!error->empty()) {
        return false;
    }
    *map = TensorMap{};
    map->shape = shape;
    map->box = box;
    return true;
}

bool encode_im2col(TensorMap *map, const TensorShape &shape,
                   const std::array<std::int32_t, tensor_rank_max - 2> &corner_lower,
                   const std::array<std::int32_t, tensor_rank_max - 2> &corner_upper,
                   std::uint32_t channels, std::uint32_t pixels, std::string *error) {
    *error = refuse_shape(shape);
    if (error->empty() && shape.rank < 3) {
        *error = "im2col takes 3 to 5 dimensions";
    }
    if (error->empty() && (channels == 0 || channels > 256 || pixels == 0 || pixels > 1024)) {
        *error = "im2col takes up to 256 channels of up to 1024 pixels";
    }
    // Bits of a corner in the map: 16, 8 or 5 of each spatial dimension.
    const std::int32_t limits[] = {32768, 128, 16};
    for (std::uint32_t i = 0; error->empty() && i < shape.rank - 2; ++i) {
        const std::int32_t limit = limits[shape.rank - 3];
        for (const std::int32_t corner : {corner_lower[i], corner_upper[i]}) {
            if (corner < -limit || corner >= limit) {
                *error = "a corner lies too far from the image";
            }
        }
    }
    if (error->empty()) {
        *error = refuse_row(shape, channels);
    }
    if (!error->empty()) {
        return false;
    }
    *map = TensorMap{};
    map->shape = shape;
    map->is_im2col = true;
    map->corner_lower = corner_lower;
    map->corner_upper = corner_upper;
    map->channels = channels;
    map->pixels = pixels;
    return true;
}

} // namespace twinstream::emulator

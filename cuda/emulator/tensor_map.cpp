// The rules for tensor maps.

#include "tensor_map.hpp"

namespace twinstream::emulator {
namespace {

std::string refuse_shape(const TensorShape &shape) {
    if (reinterpret_cast<std::uintptr_t>(shape.address) % 16 != 0) {
        return "the address is not aligned to 16";
    }
    if (shape.rank == 0 || shape.rank > tensor_rank_max) {
        return "a tensor has 1 to 5 dimensions";
    }
    if (shape.element_bytes != 1 && shape.element_bytes != 2 && shape.element_bytes != 4 &&
        shape.element_bytes != 8) {
        return "an element has 1, 2, 4 or 8 bytes";
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
    const std::uint32_t row_bytes = elements_len * shape.element_bytes;
    if (row_bytes % 16 != 0) {
        return "a row of the box is not a multiple of 16 bytes";
    }
    // Shorter rows are allowed, but how they lie in shared memory is not known here.
    const auto swizzle_bytes = static_cast<std::uint32_t>(shape.swizzle);
    if (swizzle_bytes != 0 && row_bytes != swizzle_bytes) {
        return "a row of a swizzled box has as many bytes as the swizzle here";
    }
    return {};
}

void describe(TensorMap *map, const TensorShape &shape) {
    *map = TensorMap{};
    map->address = reinterpret_cast<std::uintptr_t>(shape.address);
    map->rank = static_cast<std::uint8_t>(shape.rank);
    map->element_bytes = static_cast<std::uint8_t>(shape.element_bytes);
    map->swizzle = shape.swizzle;
    for (std::uint32_t i = 0; i < shape.rank; ++i) {
        map->last[i] = static_cast<std::uint32_t>(shape.dimensions[i] - 1);
        map->element_strides[i] =
            i == 0 ? std::uint8_t{1} : static_cast<std::uint8_t>(shape.element_strides[i]);
    }
    map->strides_bytes = shape.strides_bytes;
}

} // namespace

std::uint32_t TensorMap::taken(std::uint32_t dimension) const {
    const std::uint32_t stride = element_strides[dimension];
    return (box[dimension] + stride - 1) / stride;
}

std::uint32_t TensorMap::copied_bytes() const {
    std::uint32_t elements_len = 1;
    for (std::uint32_t i = 0; i < rank; ++i) {
        elements_len *= taken(i);
    }
    return (is_im2col ? std::uint32_t{channels} * pixels : elements_len) * element_bytes;
}

std::uint64_t TensorMap::spanned_bytes() const {
    std::uint64_t bytes = (std::uint64_t{last[0]} + 1) * element_bytes;
    for (std::uint32_t i = 1; i < rank; ++i) {
        bytes += last[i] * strides_bytes[i - 1];
    }
    return bytes;
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
    describe(map, shape);
    for (std::uint32_t i = 0; i < shape.rank; ++i) {
        map->box[i] = static_cast<std::uint16_t>(box[i]);
    }
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
    describe(map, shape);
    map->is_im2col = true;
    for (std::uint32_t i = 0; i + 2 < shape.rank; ++i) {
        map->corner_lower[i] = static_cast<std::int16_t>(corner_lower[i]);
        map->corner_upper[i] = static_cast<std::int16_t>(corner_upper[i]);
    }
    map->channels = static_cast<std::uint16_t>(channels);
    map->pixels = static_cast<std::uint16_t>(pixels);
    return true;
}

} // namespace twinstream::emulator

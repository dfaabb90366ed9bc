// What the convolutions on wgmma take in another form than the others: tensor maps, and weights in
// the swizzle (launch.h: twinstream_conv_wgmma_params).
#pragma once

#include "check.hpp"
#include "conv_cases.hpp"

extern "C" {
#define CALL(name, parameters, names) int name parameters;
#include "../driver/calls.inc"
#undef CALL
}

namespace twinstream::tests {

// Where the weight of an output channel in a step lies among all that are packed.
template <class Value>
std::size_t wgmma_index(unsigned output, unsigned step, unsigned in_step, unsigned step_len) {
    constexpr unsigned CHUNK_LEN = 16 / sizeof(Value);
    unsigned row = output % 64;
    if (sizeof(Value) == 1) row = row / 16 * 16 + row % 2 * 8 + row % 16 / 2;
    const std::size_t block = output / 64 * std::size_t{step_len} + step;
    const unsigned chunk = in_step / CHUNK_LEN ^ row % 8;
    return ((block * 64 + row) * 8 + chunk) * CHUNK_LEN + in_step % CHUNK_LEN;
}

// A tensor in memory, dimensions from the innermost.
template <class Value, unsigned RANK>
struct MappedTensor {
    std::uint64_t address;
    std::uint64_t dimensions[RANK];
    std::uint32_t element_strides[RANK];

    // CUtensorMapDataType, CUtensorMapSwizzle, CUtensorMapL2promotion.
    static constexpr int UINT8 = 0, FLOAT16 = 6, SWIZZLE_64B = 2, SWIZZLE_128B = 3, L2_256B = 3;
    static constexpr int TYPE = sizeof(Value) == 1 ? UINT8 : FLOAT16;

    std::array<std::uint64_t, RANK> strides_bytes() const {
        std::array<std::uint64_t, RANK> strides{};
        std::uint64_t bytes = sizeof(Value);
        for (unsigned i = 0; i < RANK; ++i) strides[i] = bytes *= dimensions[i];
        return strides;
    }
    // Drivers up to 13.1 leave a bit set that maps of less than 128 KiB must not have.
    void finish(int result, twinstream_tensor_map &map) const {
        if (result != 0) fail("a tensor map is refused: " + std::to_string(result));
        int version = 0;
        cuDriverGetVersion(&version);
        if (strides_bytes()[RANK - 1] < 131072 && version <= 13010)
            map.words[1] &= ~(std::uint64_t{1} << 21);
    }
    twinstream_tensor_map tile(const std::array<std::uint32_t, RANK> &box, int swizzle) const {
        twinstream_tensor_map map{};
        auto copy = *this;
        auto strides = strides_bytes();
        auto sides = box;
        finish(cuTensorMapEncodeTiled(&map, TYPE, RANK, reinterpret_cast<void *>(address),
                                      copy.dimensions, strides.data(), sides.data(),
                                      copy.element_strides, 0, swizzle, L2_256B, 0),
               map);
        return map;
    }
    twinstream_tensor_map pixels(std::array<int, 2> lower, std::array<int, 2> upper,
                                 unsigned channels, unsigned len) const {
        twinstream_tensor_map map{};
        auto copy = *this;
        auto strides = strides_bytes();
        finish(cuTensorMapEncodeIm2col(&map, TYPE, RANK, reinterpret_cast<void *>(address),
                                       copy.dimensions, strides.data(), lower.data(), upper.data(),
                                       channels, len, copy.element_strides, 0, SWIZZLE_128B,
                                       L2_256B, 0),
               map);
        return map;
    }
};

// The params of a case that is described for the other family already.
template <class Conv>
twinstream_conv_wgmma_params describe_for_wgmma(const Conv &conv) {
    using Value = typename Conv::Value;
    const Case &c = conv.c;
    const twinstream_conv_params &of = conv.p;
    twinstream_conv_wgmma_params p{};
    const auto int_of = [](unsigned value) { return static_cast<int>(value); };
    const auto pixels = [&](std::uint64_t address, unsigned channels, unsigned width,
                            unsigned height, unsigned stride, unsigned padding) {
        const MappedTensor<Value, 4> tensor{
            address, {channels, width, height, c.bucket}, {1, stride, stride, 1}};
        const auto upper = [&](unsigned outputs, unsigned inputs) {
            return int_of((outputs - 1) * stride - padding - (inputs - 1));
        };
        return tensor.pixels({-int_of(padding), -int_of(padding)},
                             {upper(of.output_width, width), upper(of.output_height, height)},
                             Conv::STEP_LEN, c.entry.m / std::max(c.entry.cluster, 1u));
    };
    p.input = pixels(of.input, of.channels, of.input_width, of.input_height, of.stride, of.padding);
    if (of.shortcut_channels != 0)
        p.shortcut = pixels(of.shortcut, of.shortcut_channels, of.shortcut_width,
                            of.shortcut_height, of.shortcut_stride, 0);
    const MappedTensor<Value, 2> results{
        of.output, {c.outputs, c.bucket * of.output_height * of.output_width}, {1, 1}};
    p.output = results.tile({64, c.entry.box},
                            sizeof(Value) == 1 ? results.SWIZZLE_64B : results.SWIZZLE_128B);
    if (of.residual != 0) p.residual = p.output;
    p.weights = of.weights;
    p.bias = of.bias;
    p.batch = of.batch;
    p.channels = of.channels;
    p.output_height = of.output_height;
    p.output_width = of.output_width;
    p.output_channels = of.output_channels;
    p.stride = of.stride;
    p.padding = of.padding;
    p.tap_row_first = of.tap_row_first;
    p.tap_rows = of.tap_rows;
    p.tap_column_first = of.tap_column_first;
    p.tap_columns = of.tap_columns;
    p.shortcut_channels = of.shortcut_channels;
    p.shortcut_stride = of.shortcut_stride;
    p.relu = of.relu;
    p.has_residual = of.residual != 0;
    return p;
}

} // namespace twinstream::tests

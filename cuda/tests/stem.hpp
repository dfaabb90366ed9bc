// What the tests of the stems of both types share: sizes, parameters, the launch.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "check.hpp"

namespace twinstream::tests {

inline unsigned halved(unsigned side) { return (side - 1) / 2 + 1; }

// Without addresses and normalisation.
inline twinstream_stem_params stem_sizes(unsigned height, unsigned width) {
    twinstream_stem_params p{};
    // With a gap, and not a multiple of the pixel's size.
    p.image_bytes = std::size_t{height} * width * 3 + 7;
    p.height = height;
    p.width = width;
    p.conv_height = halved(height);
    p.conv_width = halved(width);
    p.pooled_height = halved(p.conv_height);
    p.pooled_width = halved(p.conv_width);
    return p;
}

inline void launch_stem(const char *name, unsigned bucket, unsigned shared_bytes,
                        const twinstream_stem_params &p, const Batch &batch,
                        const std::string &what) {
    const unsigned across = (p.pooled_width - 1) / TWINSTREAM_STEM_POOLED_WIDTH + 1;
    const unsigned down = (p.pooled_height - 1) / TWINSTREAM_STEM_POOLED_HEIGHT + 1;
    launch(name, across * down, bucket, 1, TWINSTREAM_STEM_THREADS, shared_bytes, p, batch, what);
}

// The weights of a stem on wgmma (launch.h), of the other's in f16: [output][row][column][channel].
inline Buffer<std::uint16_t> stem_fragments(const std::vector<std::uint16_t> &filter) {
    Buffer<std::uint16_t> fragments(filter.size());
    for (unsigned i = 0; i < filter.size(); ++i) {
        const unsigned word = i / 2 % 4, lane = i / 8 % 32, warp = i / 256 % 4, half = i / 1024;
        const unsigned output = warp * 16 + lane / 4 * 2 + word % 2;
        const unsigned value = lane % 4 * 2 + word / 2 * 8 + i % 2;
        fragments[i] = filter[output * 7 * 32 + half * 16 + value];
    }
    return fragments;
}

// Launches a stem on wgmma, where the device has it, in strips of a row, of some and of all, by
// more blocks than there are strips, by two and by one; calls check(what) behind each.
template <class Value, class Check>
void each_stem_by_wgmma(const char *name, unsigned bucket, const twinstream_stem_params &p,
                        const std::vector<std::uint16_t> &filter, const Buffer<Value> &output,
                        const Batch &batch, const std::string &of, const Check &check) {
    if (!has_kernel(name)) return;
    const auto fragments = stem_fragments(filter);
    twinstream_stem_wgmma_params params{p, 0, 0};
    params.stem.weights = fragments.address();
    const unsigned most = bucket * p.pooled_height + 1;
    for (const auto &[strip_height, blocks] :
         {std::array<unsigned, 2>{1, most}, {3, 2}, {p.pooled_height, 1}}) {
        params.strip_height = strip_height;
        params.strips = (p.pooled_height - 1) / strip_height + 1;
        const std::string what = std::string(name) + " in strips of " +
                                 std::to_string(strip_height) + " by " + std::to_string(blocks) +
                                 " blocks, " + of;
        std::fill_n(reinterpret_cast<unsigned char *>(output.values()),
                    output.len() * sizeof(Value), static_cast<unsigned char>(0xff));
        launch(name, blocks, 1, 1, TWINSTREAM_STEM_WGMMA_THREADS,
               TWINSTREAM_STEM_WGMMA_SHARED_BYTES, params, batch, what);
        check(what);
    }
}

// Fails where two kernels did not leave the same bytes.
template <class Value>
void require_same(const std::vector<Value> &expected, const Buffer<Value> &found,
                  const std::string &what) {
    for (std::size_t i = 0; i < expected.size(); ++i)
        if (expected[i] != found[i])
            fail(what + ": [" + std::to_string(i) + "] differs from the other kernel's");
}

} // namespace twinstream::tests

// What the tests of all convolutions share: the tiles, and sizes around every edge of each.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "../sm80/tile.cuh"
#include "check.hpp"

namespace twinstream::tests {

struct Entry {
    const char *name;
    bool is_integer;
    // Of the family that takes twinstream_conv_wgmma_params.
    bool by_wgmma;
    unsigned m, n, threads, shared_bytes;
    // Blocks of a cluster; they have different channels of the same pixels. 0: as many as share K.
    unsigned cluster;
    // Pixels of a box, by wgmma.
    unsigned box;

    bool splits() const { return cluster == 0; }

    // Output channels are a multiple of this.
    unsigned channel_step() const { return std::max(n * cluster, 64u); }
};

constexpr Entry entries[] = {
#define TWINSTREAM_CONV_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, THREADS,           \
                             BLOCKS_MIN, SHARED_BYTES)                                             \
    {#NAME, sizeof(DTYPE) == 1, false, M, N, THREADS, SHARED_BYTES, 1, 0},
#define TWINSTREAM_CONV_WGMMA_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, THREADS,     \
                                   BLOCKS_MIN, SHARED_BYTES)                                       \
    {#NAME, sizeof(DTYPE) == 1, true, M, N, THREADS, SHARED_BYTES, 1, 64},
#define TWINSTREAM_CONV_PAIRS_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, THREADS,     \
                                   BLOCKS_MIN, SHARED_BYTES)                                       \
    {#NAME, sizeof(DTYPE) == 1, true, M, N, THREADS, SHARED_BYTES, 2, 64},
#define TWINSTREAM_CONV_SPLITS_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, THREADS,    \
                                    BLOCKS_MIN, SHARED_BYTES)                                      \
    {#NAME, sizeof(DTYPE) == 1, true, M, N, THREADS, SHARED_BYTES, 0, 8},
#include "../tiles.inc"
};

// The tiles of one type and family that the device runs, in the list's order.
inline std::vector<Entry> entries_of(bool is_integer, bool by_wgmma) {
    std::vector<Entry> list;
    for (const Entry &entry : entries)
        if (entry.is_integer == is_integer && entry.by_wgmma == by_wgmma && has_kernel(entry.name))
            list.push_back(entry);
    return list;
}

struct Case {
    Entry entry;
    unsigned len, bucket, height, width, channels, outputs, kernel, stride;
    bool residual, relu;
    // 0: no shortcut.
    unsigned shortcut_channels, shortcut_stride;
    unsigned split_k;
    Data data;

    unsigned padding() const { return kernel / 2; }
    unsigned out(unsigned side) const { return (side + 2 * padding() - kernel) / stride + 1; }
    std::string text() const {
        char line[200];
        std::snprintf(line, sizeof line,
                      "%s %s: %u of %u images %ux%ux%u to %u, kernel %u stride %u%s%s, shortcut %u "
                      "stride %u, split %u",
                      entry.name, data == Data::integers ? "integers" : "reals", len, bucket,
                      height, width, channels, outputs, kernel, stride,
                      residual ? ", residual" : "", relu ? ", relu" : "", shortcut_channels,
                      shortcut_stride, split_k);
        return line;
    }
};

// The taps on one axis that see a pixel from some output: the first one and how many follow.
inline std::array<unsigned, 2> taps_in_use(const Case &c, unsigned side) {
    unsigned first = c.kernel, end = 0;
    for (unsigned tap = 0; tap < c.kernel; ++tap)
        for (unsigned output = 0; output < c.out(side); ++output)
            if (output * c.stride + tap - c.padding() < side) {
                first = std::min(first, tap);
                end = std::max(end, tap + 1);
            }
    return {first, end - first};
}

// Shapes of the network and of its edges.
inline std::vector<Case> cases_of(const Entry &e) {
    const Data i = Data::integers, r = Data::reals;
    const unsigned wide = e.channel_step();
    // len bucket height width channels outputs kernel stride residual relu shortcut split data
    return {
        // One pixel, as layer 4 at 32x32: eight of nine taps see padding alone.
        {e, 1, 1, 1, 1, 512, wide, 3, 1, false, true, 0, 1, 1, i},
        {e, 9, 9, 1, 1, 128, wide, 1, 1, true, true, 0, 1, 2, i},
        {e, 3, 4, 2, 2, 64, wide, 3, 2, false, true, 0, 1, 1, i},
        // A step of K fewer than stages, and each number of steps from there.
        {e, 1, 1, 5, 3, 64, wide, 1, 1, true, true, 0, 1, 1, i},
        {e, 1, 2, 5, 3, 128, wide, 1, 1, true, false, 0, 1, 1, i},
        {e, 1, 1, 5, 3, 192, wide, 1, 1, false, true, 0, 1, 1, i},
        {e, 1, 1, 5, 3, 256, wide, 1, 1, true, true, 0, 1, 4, i},
        {e, 1, 1, 5, 3, 320, wide, 1, 1, true, true, 0, 1, 1, i},
        // Blocks' first convolutions and shortcuts at stride 1 and 2.
        {e, 2, 2, 7, 7, 64, wide * 2, 1, 1, false, true, 64, 1, 1, i},
        {e, 2, 4, 4, 5, 128, wide, 1, 1, false, true, 256, 2, 1, i},
        {e, 2, 2, 4, 5, 128, wide, 1, 1, false, true, 256, 2, 3, i},
        {e, 1, 1, 9, 8, 64, wide, 3, 2, false, true, 0, 1, 2, i},
        // Tile edges: one pixel fewer, as many, one more.
        {e, 1, 1, 1, e.m - 1, 64, wide, 1, 1, true, true, 0, 1, 1, i},
        {e, 1, 1, 1, e.m, 64, wide, 1, 1, true, true, 0, 1, 1, i},
        {e, 1, 1, 1, e.m + 1, 64, wide, 1, 1, true, true, 0, 1, 1, i},
        // Real numbers through all of it.
        {e, 2, 2, 7, 7, 192, wide, 3, 1, true, true, 0, 1, 1, r},
        {e, 2, 2, 7, 7, 192, wide, 3, 1, true, false, 64, 1, 5, r},
        // The deepest sum of the network, whole and in slices.
        {e, 1, 1, 3, 3, 512, wide, 3, 1, false, true, 0, 1, 1, r},
        {e, 1, 1, 3, 3, 512, wide, 3, 1, false, true, 0, 1, 7, i},
        {e, 1, 1, 2, 2, 2048, wide, 1, 1, false, true, 0, 1, 32, i},
    };
}

// Of these, and of more, what breaks by way of wgmma: a tile costs the same whatever is in it.
inline std::vector<Case> wgmma_cases_of(const Entry &e) {
    const Data i = Data::integers, r = Data::reals;
    const unsigned wide = e.channel_step();
    // len bucket height width channels outputs kernel stride residual relu shortcut split data
    return {
        // Taps that see padding alone; many images in a tile; fewer steps than stages.
        {e, 1, 1, 1, 1, 512, wide, 3, 1, false, true, 0, 1, 1, i},
        {e, 9, 9, 1, 1, 128, wide, 1, 1, true, true, 0, 1, 1, i},
        {e, 3, 4, 2, 2, 64, wide, 3, 2, false, true, 0, 1, 1, i},
        {e, 1, 2, 5, 3, 64, wide, 1, 1, true, false, 0, 1, 1, i},
        // Two maps, with images behind the batch; corners of images that are not square.
        {e, 2, 4, 4, 5, 128, wide, 1, 1, false, true, 256, 2, 1, i},
        {e, 1, 1, 9, 8, 64, wide, 3, 2, false, true, 0, 1, 1, i},
        // Tile edges, and as many tiles as have every place for results used again.
        {e, 1, 1, 1, e.m, 64, wide, 1, 1, true, true, 0, 1, 1, i},
        {e, 1, 1, 1, e.m + 1, 64, wide, 1, 1, true, true, 0, 1, 1, i},
        {e, 5, 7, 14, 13, 64, wide * 2, 1, 1, true, true, 0, 1, 1, i},
        // Real numbers, and sums beyond what f32 holds of integers.
        {e, 2, 2, 7, 7, 192, wide, 3, 1, true, false, 64, 1, 1, r},
        {e, 1, 1, 2, 2, 2048, wide, 1, 1, false, true, 0, 1, 1, i},
    };
}

// Of clusters that share K: each length of a cluster, with as few steps as blocks and with more
// steps of a block than stages; and blocks that have no pixels of their own.
inline std::vector<Case> split_cases_of(const Entry &e) {
    const Data i = Data::integers, r = Data::reals;
    // len bucket height width channels outputs kernel stride residual relu shortcut split data
    return {
        {e, 2, 3, 4, 5, 128, 128, 1, 1, true, false, 0, 1, 2, i},
        {e, 3, 3, 7, 5, 256, 64, 3, 1, false, true, 0, 1, 2, i},
        {e, 1, 2, 9, 8, 64, 64, 3, 2, true, true, 0, 1, 4, i},
        {e, 2, 5, 6, 7, 128, 64, 3, 1, false, true, 192, 2, 4, i},
        {e, 1, 1, 7, 7, 512, 128, 3, 1, true, true, 0, 1, 8, i},
        {e, 5, 5, 7, 7, 1024, 64, 1, 1, true, true, 0, 1, 8, r},
        {e, 2, 2, 7, 7, 192, 64, 3, 1, true, false, 64, 1, 8, r},
        {e, 1, 1, 1, 1, 512, 64, 3, 1, false, true, 0, 1, 8, i},
    };
}

// Rows as long as at 224x224.
inline std::vector<Case> long_cases(const std::vector<Entry> &of_type) {
    const Data i = Data::integers;
    const Entry &narrow = of_type[of_type[0].by_wgmma ? 3 : 1];
    return {
        {narrow, 1, 1, 56, 56, 64, 64, 3, 1, false, true, 0, 1, 1, i},
        {of_type[0], 1, 2, 28, 28, 128, 128, 3, 2, false, true, 0, 1, 1, i},
        {of_type[2], 1, 1, 56, 56, 64, 256, 1, 1, false, true, 64, 1, 1, i},
    };
}

inline Case random_case(Random &random, const std::vector<Entry> &of_type) {
    Case c{};
    c.entry = of_type[random.below(static_cast<unsigned>(of_type.size()))];
    c.len = random.below(9) + 1;
    c.bucket = c.len + random.below(4);
    c.kernel = random.below(2) * 2 + 1;
    c.stride = random.below(2) + 1;
    c.height = random.below(11) + 1;
    c.width = random.below(11) + 1;
    c.channels = (random.below(3) + 1) * 64;
    c.outputs = (random.below(2) + 1) * c.entry.channel_step();
    c.residual = random.below(2) != 0;
    c.relu = random.below(2) != 0;
    c.shortcut_channels = random.below(3) * 64;
    c.shortcut_stride = random.below(2) + 1;
    const unsigned taps = taps_in_use(c, c.height)[1] * taps_in_use(c, c.width)[1];
    c.split_k =
        random.below(2) ? 1 : random.below((taps * c.channels + c.shortcut_channels) / 64) + 1;
    c.data = random.below(2) ? Data::integers : Data::reals;
    return c;
}

// All shapes of ResNet-50's convolutions on images of so many pixels a side, as far as the tile
// computes them.
inline std::vector<Case> network_cases(const Entry &e, unsigned side, unsigned len,
                                       unsigned bucket) {
    std::vector<Case> cases;
    const auto add = [&](unsigned at, unsigned channels, unsigned outputs, unsigned kernel,
                         unsigned stride, bool residual, unsigned shortcut,
                         unsigned shortcut_stride) {
        if (outputs % e.channel_step() == 0)
            cases.push_back({e, len, bucket, at, at, channels, outputs, kernel, stride, residual,
                             true, shortcut, shortcut_stride, e.splits() ? 8u : 1u,
                             Data::integers});
    };
    unsigned before = 64, at = (side - 1) / 4 + 1;
    for (unsigned width = 64; width <= 512; width *= 2) {
        const unsigned stride = width == 64 ? 1 : 2, after = (at - 1) / stride + 1;
        // The first block, with its projection, and the others.
        add(at, before, width, 1, 1, false, 0, 1);
        add(at, width, width, 3, stride, false, 0, 1);
        add(after, width, 4 * width, 1, 1, false, before, stride);
        at = after;
        before = 4 * width;
        add(at, before, width, 1, 1, false, 0, 1);
        add(at, width, width, 3, 1, false, 0, 1);
        add(at, width, before, 1, 1, true, 0, 1);
    }
    return cases;
}

} // namespace twinstream::tests

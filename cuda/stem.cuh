// Where the stems keep what in shared memory (stem_block.cuh); the tests count banks with it.
#pragma once

#include "common.cuh"

namespace twinstream::stem_layout {

constexpr unsigned CHANNELS = 64;
constexpr unsigned POOLED_HEIGHT = TWINSTREAM_STEM_POOLED_HEIGHT;
constexpr unsigned POOLED_WIDTH = TWINSTREAM_STEM_POOLED_WIDTH;
constexpr unsigned THREADS = TWINSTREAM_STEM_THREADS;
// Pixels of the convolution under those of the pool.
constexpr unsigned CONV_HEIGHT = 2 * POOLED_HEIGHT + 1;
constexpr unsigned CONV_WIDTH = 2 * POOLED_WIDTH + 1;
constexpr unsigned CONV_PIXELS = CONV_HEIGHT * CONV_WIDTH;
// Pixels of the image under those; one column more than the kernel has, against zero weights.
constexpr unsigned PATCH_HEIGHT = 2 * CONV_HEIGHT + 5;
constexpr unsigned PATCH_WIDTH = 2 * CONV_WIDTH + 6;
constexpr unsigned PATCH_PIXELS = PATCH_HEIGHT * PATCH_WIDTH;
// Of them, what a thread prepares.
constexpr unsigned PIXELS_EACH = ceil_divide(PATCH_PIXELS, THREADS);
constexpr unsigned KERNEL_ROWS = 7;
constexpr unsigned WARP_ROWS = 32;

// What depends on the type of values.
template <class Value>
struct Layout {
    static constexpr unsigned PIXEL_BYTES = 4 * sizeof(Value);
    static constexpr unsigned PATCH_ROW_BYTES = PATCH_WIDTH * PIXEL_BYTES;
    static constexpr unsigned PATCH_BYTES = PATCH_HEIGHT * PATCH_ROW_BYTES;
    static constexpr unsigned FILTER_CHUNKS = KERNEL_ROWS * 8 * PIXEL_BYTES / CHUNK_BYTES;
    // Rows of weights an odd number of chunks apart: eight of them touch every bank once.
    static constexpr unsigned FILTER_STRIDE = (FILTER_CHUNKS + 1) * CHUNK_BYTES;
    // Rows of results 36 words apart, of integers 20: the words that a warp writes at a time lie in
    // different banks.
    static constexpr unsigned RESULT_STRIDE = CHANNELS * sizeof(Value) + CHUNK_BYTES;
    static constexpr unsigned SHARED_BYTES = PATCH_BYTES + CHANNELS * FILTER_STRIDE;

    static_assert(CONV_PIXELS <= THREADS / WARP_LEN * WARP_ROWS, "warps cover the convolution");
    static_assert(PATCH_BYTES % CHUNK_BYTES == 0, "weights follow the patch");
    static_assert(THREADS * RESULT_STRIDE <= SHARED_BYTES,
                  "results take the place of patch and weights");

    // Where the operand row of a pixel of the convolution begins.
    static constexpr TWINSTREAM_DEVICE unsigned pixel_offset(unsigned pixel) {
        return pixel / CONV_WIDTH * 2 * PATCH_ROW_BYTES + pixel % CONV_WIDTH * 2 * PIXEL_BYTES;
    }
};

} // namespace twinstream::stem_layout

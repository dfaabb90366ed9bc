// Where the stem of integers keeps what in shared memory (stem_i8.cu); the tests count banks with
// it.
#pragma once

#include "stem.cuh"

namespace twinstream::stem_i8_layout {

// Blocks are those of the stem.
using stem_layout::CHANNELS;
using stem_layout::CONV_HEIGHT;
using stem_layout::CONV_PIXELS;
using stem_layout::CONV_WIDTH;
using stem_layout::KERNEL_ROWS;
using stem_layout::PATCH_HEIGHT;
using stem_layout::PATCH_PIXELS;
using stem_layout::PATCH_WIDTH;
using stem_layout::PIXELS_EACH;
using stem_layout::POOLED_HEIGHT;
using stem_layout::POOLED_WIDTH;
using stem_layout::THREADS;
using stem_layout::WARP_ROWS;
static_assert(THREADS == TWINSTREAM_STEM_I8_THREADS, "as many threads");

constexpr unsigned PIXEL_BYTES = 4;
constexpr unsigned PATCH_ROW_BYTES = PATCH_WIDTH * PIXEL_BYTES;
constexpr unsigned PATCH_BYTES = PATCH_HEIGHT * PATCH_ROW_BYTES;
constexpr unsigned FILTER_CHUNKS = KERNEL_ROWS * 8 * PIXEL_BYTES / CHUNK_BYTES;
// Rows of weights an odd number of chunks apart: eight of them touch every bank once.
constexpr unsigned FILTER_STRIDE = (FILTER_CHUNKS + 1) * CHUNK_BYTES;
// Rows of results 20 words apart: what a warp writes at a time lies in different banks.
constexpr unsigned RESULT_STRIDE = CHANNELS + CHUNK_BYTES;

// Where the operand row of a pixel of the convolution begins.
constexpr TWINSTREAM_DEVICE unsigned pixel_offset(unsigned pixel) {
    return pixel / CONV_WIDTH * 2 * PATCH_ROW_BYTES + pixel % CONV_WIDTH * 2 * PIXEL_BYTES;
}

} // namespace twinstream::stem_i8_layout

// Convolution as a matrix product that never forms its A: rows are output pixels, columns output
// channels, K the taps times the input channels (launch.h: twinstream_conv_params).
//
// A unit of K is one tap and 64 channels. Of f16, a step is one unit, so a row of a stage is 128
// contiguous bytes of one input pixel; of 8-bit integers it is two, each by threads of its own, and
// where their number is odd, zeros follow. A table in shared memory gives each row its pixel and
// which taps see the image; it is made once a block, so that the inner loop has no division and no
// comparison: it adds an offset and tests a bit. Padding and rows beyond the batch are filled with
// zeros by the copy itself. The units of K run over channels outside and taps inside, so that the
// nine reads of a pixel follow one another. The shortcut's come last; of integers first, since its
// sums are scaled before the convolution's are added to them.
#pragma once

#include "../common.cuh"
#include "../ptx/ld_st.cuh"
#include "tile.cuh"

namespace twinstream {

// Where a row of the tile begins in an input.
struct ConvRow {
    // Distance from the input's first value to the pixel under tap (0, 0), which may lie outside,
    // in chunks.
    int32_t offset;
    // Bit t: the t-th tap in use sees the image.
    uint32_t valid;
};

template <class Tile>
constexpr bool IS_INTEGER = sizeof(typename Tile::Value) == 1;

// Shared memory of a block: the stages, the rows' entries for the input and for the shortcut's, the
// bias, and a flag: whether this block is the last of its tile. Integers have multipliers behind
// their bias, and the flag in the place of the rows, which are no longer read then: so the largest
// tile fits 99 KiB.
template <class Tile>
struct ConvShared {
    static constexpr unsigned ROWS = Tile::STAGES * Tile::STAGE_BYTES;
    static constexpr unsigned BIAS = ROWS + 2 * Tile::M * sizeof(ConvRow);
    static constexpr unsigned BIAS_END = BIAS + Tile::N * sizeof(float);
    static constexpr unsigned FLAG = IS_INTEGER<Tile> ? ROWS : BIAS_END;
    static constexpr unsigned BYTES =
        BIAS_END + (IS_INTEGER<Tile> ? Tile::N * sizeof(float) : CHUNK_BYTES);
};

// Channels of a unit of K.
constexpr unsigned UNIT_LEN = TWINSTREAM_CHANNEL_STEP;

// Steps of the convolution's own taps, of the shortcut, and of both.
template <class Tile>
TWINSTREAM_DEVICE uint32_t input_step_len(const twinstream_conv_params &p) {
    return ceil_divide(p.tap_rows * p.tap_columns * (p.channels / UNIT_LEN),
                       Tile::STEP_LEN / UNIT_LEN);
}
template <class Tile>
TWINSTREAM_DEVICE uint32_t shortcut_step_len(const twinstream_conv_params &p) {
    return ceil_divide(p.shortcut_channels / UNIT_LEN, Tile::STEP_LEN / UNIT_LEN);
}
template <class Tile>
TWINSTREAM_DEVICE uint32_t step_len_of(const twinstream_conv_params &p) {
    if constexpr (Tile::STEP_LEN == UNIT_LEN)
        return (p.tap_rows * p.tap_columns * p.channels + p.shortcut_channels) / UNIT_LEN;
    else
        return input_step_len<Tile>(p) + shortcut_step_len<Tile>(p);
}

// Where the tile begins in the output.
struct TileOffset {
    uint32_t first_pixel;
    uint32_t first_channel;
    // Pixels of the batch.
    uint32_t pixels;

    // Blocks that run together take all channels of few pixels: each input is then read from device
    // memory once, and the weights, which all blocks share, stay in the L2 cache.
    template <class Tile>
    static TWINSTREAM_DEVICE TileOffset of_block(const twinstream_conv_params &p) {
        const uint32_t index = blockIdx.y * gridDim.x + blockIdx.x;
        const uint32_t len = ptx::load_past_l1(&global<const twinstream_batch>(p.batch)->len);
        return {index / gridDim.y * Tile::M, index % gridDim.y * Tile::N,
                len * p.output_height * p.output_width};
    }
};

template <class Tile>
TWINSTREAM_DEVICE ConvRow locate_in_input(const twinstream_conv_params &p, uint32_t image,
                                          uint32_t output_y, uint32_t output_x) {
    const int32_t y = static_cast<int32_t>(output_y * p.stride) - static_cast<int32_t>(p.padding);
    const int32_t x = static_cast<int32_t>(output_x * p.stride) - static_cast<int32_t>(p.padding);
    uint32_t columns = 0, valid = 0;
    for (uint32_t i = 0; i < p.tap_columns; ++i) {
        const uint32_t seen = static_cast<uint32_t>(x) + p.tap_column_first + i < p.input_width;
        columns |= seen << i;
    }
    for (uint32_t i = 0; i < p.tap_rows; ++i)
        if (static_cast<uint32_t>(y) + p.tap_row_first + i < p.input_height)
            valid |= columns << i * p.tap_columns;
    const int32_t pixel =
        (static_cast<int32_t>(image * p.input_height) + y) * static_cast<int32_t>(p.input_width) +
        x;
    return {pixel * static_cast<int32_t>(p.channels / Tile::CHUNK_LEN), valid};
}

template <class Tile>
TWINSTREAM_DEVICE ConvRow locate_in_shortcut(const twinstream_conv_params &p, uint32_t image,
                                             uint32_t output_y, uint32_t output_x) {
    const uint32_t pixel =
        (image * p.shortcut_height + output_y * p.shortcut_stride) * p.shortcut_width +
        output_x * p.shortcut_stride;
    return {static_cast<int32_t>(pixel * (p.shortcut_channels / Tile::CHUNK_LEN)), 1};
}

// Fills both tables of rows; the second one only where there is a shortcut.
template <class Tile>
TWINSTREAM_DEVICE void locate_rows(ConvRow *rows, const twinstream_conv_params &p,
                                   const TileOffset &tile_offset) {
    for (uint32_t row = threadIdx.x; row < Tile::M; row += Tile::THREADS) {
        const uint32_t pixel = tile_offset.first_pixel + row;
        ConvRow in_input{0, 0}, in_shortcut{0, 0};
        if (pixel < tile_offset.pixels) {
            const uint32_t line = pixel / p.output_width, x = pixel % p.output_width;
            const uint32_t image = line / p.output_height, y = line % p.output_height;
            in_input = locate_in_input<Tile>(p, image, y, x);
            if (p.shortcut_channels != 0) in_shortcut = locate_in_shortcut<Tile>(p, image, y, x);
        }
        rows[row] = in_input;
        rows[Tile::M + row] = in_shortcut;
    }
}

// Copies the steps of K one after another into stages: a thread always the same chunk of every
// ROW_STEP-th row.
template <class Tile>
class ConvCopier {
   public:
    // The next weights are those of step `begin`.
    TWINSTREAM_DEVICE ConvCopier(const twinstream_conv_params &params,
                                 const TileOffset &tile_offset, const ConvRow *row_table,
                                 uint32_t begin)
        : p(params), table(row_table + threadIdx.x / ROW_CHUNKS),
          to(operand_offset(threadIdx.x / ROW_CHUNKS, threadIdx.x % ROW_CHUNKS)) {
        const uint32_t input_steps = input_step_len<Tile>(p);
        block_bytes = (input_steps + shortcut_step_len<Tile>(p)) * STEP_BYTES;
        weights = global<const unsigned char>(p.weights) +
                  static_cast<uint64_t>(tile_offset.first_channel / BLOCK_LEN) * block_bytes +
                  begin * STEP_BYTES + tile_offset.first_channel % BLOCK_LEN * ROW_BYTES +
                  threadIdx.x * CHUNK_BYTES;
    }

    // The next input values are those of step `begin`; the table of rows is complete.
    TWINSTREAM_DEVICE void enter(uint32_t begin) {
        const uint32_t input_steps = input_step_len<Tile>(p);
        if constexpr (IS_INTEGER<Tile>) {
            const uint32_t shortcut_steps = shortcut_step_len<Tile>(p);
            if (begin < shortcut_steps)
                enter_shortcut(begin);
            else
                enter_input(begin - shortcut_steps, input_steps);
        } else {
            if (begin < input_steps)
                enter_input(begin, input_steps);
            else
                enter_shortcut(begin - input_steps);
        }
    }

    // The weights of the next step; each step is copied by one call of either function.
    TWINSTREAM_DEVICE void copy_weights(uint32_t stage) {
        TWINSTREAM_UNROLL
        for (unsigned row = 0; row < Tile::N; row += ROW_STEP)
            ptx::cp_async_16(stage + Tile::A_BYTES + to + row * ROW_BYTES,
                             weights + static_cast<uint64_t>(row / BLOCK_LEN) * block_bytes +
                                 row % BLOCK_LEN * ROW_BYTES,
                             CHUNK_BYTES);
        weights += STEP_BYTES;
    }

    // The input values of the next step.
    TWINSTREAM_DEVICE void copy_input(uint32_t stage) {
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < Tile::M / ROW_STEP; ++i)
            ptx::cp_async_16(stage + to + i * ROW_STEP * ROW_BYTES,
                             input + static_cast<int64_t>(rows[i].offset) * CHUNK_BYTES,
                             rows[i].valid & tap ? CHUNK_BYTES : 0);
        advance();
    }

   private:
    static constexpr unsigned ROW_STEP = Tile::THREADS / ROW_CHUNKS;
    // Output channels whose weights lie together, and the bytes of a step of them.
    static constexpr unsigned BLOCK_LEN = 64;
    static constexpr unsigned STEP_BYTES = BLOCK_LEN * ROW_BYTES;
    // Units of a step, and how much of a row each of them is.
    static constexpr unsigned UNITS = Tile::STEP_LEN / UNIT_LEN;
    static constexpr unsigned UNIT_BYTES = ROW_BYTES / UNITS;
    static constexpr unsigned UNIT_CHUNKS = ROW_CHUNKS / UNITS;

    // Which unit of a step this thread copies from.
    static TWINSTREAM_DEVICE uint32_t unit_of(uint32_t step) {
        return step * UNITS + threadIdx.x % ROW_CHUNKS / UNIT_CHUNKS;
    }

    TWINSTREAM_DEVICE void enter_input(uint32_t step, uint32_t step_len) {
        const uint32_t taps = p.tap_rows * p.tap_columns, unit = unit_of(step);
        const int32_t width = static_cast<int32_t>(p.input_width);
        const int32_t pixel_bytes = static_cast<int32_t>(p.channels * sizeof(typename Tile::Value));
        read_rows(table);
        tap_rows = p.tap_rows;
        tap_columns = p.tap_columns;
        tap = 1u << unit % taps;
        tap_row = unit % taps / tap_columns;
        tap_column = unit % taps % tap_columns;
        to_column = pixel_bytes;
        to_row = (width - static_cast<int32_t>(tap_columns)) * pixel_bytes;
        to_block = UNIT_BYTES - static_cast<int32_t>(tap_rows) * width * pixel_bytes;
        input = global<const unsigned char>(p.input) + threadIdx.x % UNIT_CHUNKS * CHUNK_BYTES +
                (p.tap_row_first + tap_row) * p.input_width * pixel_bytes +
                (p.tap_column_first + tap_column) * pixel_bytes + unit / taps * UNIT_BYTES;
        steps_left = step_len - step;
        blocks_left = p.channels / UNIT_LEN - unit / taps;
        begin_units(unit, taps * (p.channels / UNIT_LEN));
    }

    TWINSTREAM_DEVICE void enter_shortcut(uint32_t step) {
        read_rows(table + Tile::M);
        tap_rows = tap_columns = 1;
        tap = 1;
        tap_row = tap_column = 0;
        to_column = UNIT_BYTES;
        to_row = to_block = 0;
        input = global<const unsigned char>(p.shortcut) + threadIdx.x % UNIT_CHUNKS * CHUNK_BYTES +
                unit_of(step) * UNIT_BYTES;
        steps_left = blocks_left = shortcut_step_len<Tile>(p) - step;
        begin_units(unit_of(step), p.shortcut_channels / UNIT_LEN);
    }

    TWINSTREAM_DEVICE void read_rows(const ConvRow *from) {
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < Tile::M / ROW_STEP; ++i) rows[i] = from[i * ROW_STEP];
    }

    // Where a step has several units, there may be none for this thread in the last one.
    TWINSTREAM_DEVICE void begin_units(uint32_t unit, uint32_t unit_len) {
        if constexpr (UNITS > 1) {
            units_left = static_cast<int32_t>(unit_len - unit);
            if (units_left <= 0) tap = 0;
        }
    }

    // To the next step; of integers behind the shortcut's last one to the input.
    TWINSTREAM_DEVICE void advance() {
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < UNITS; ++i) advance_unit();
        if constexpr (UNITS > 1) {
            units_left -= static_cast<int32_t>(UNITS);
            if (units_left <= 0) tap = 0;
            if (--steps_left == 0) enter_input(0, input_step_len<Tile>(p));
        }
    }

    // To the next tap, behind the last one to the next 64 channels; of f16 behind the input's last
    // ones to the shortcut. Asked here, where few steps come by, it costs the others nothing.
    TWINSTREAM_DEVICE void advance_unit() {
        input += to_column;
        tap <<= 1;
        if (++tap_column == tap_columns) {
            tap_column = 0;
            input += to_row;
            if (++tap_row == tap_rows) {
                tap_row = 0;
                tap = 1;
                input += to_block;
                if constexpr (UNITS == 1)
                    if (--blocks_left == 0) enter_shortcut(0);
            }
        }
    }

    const twinstream_conv_params &p;
    // The row of this thread's first copy, in the table of the input; the shortcut's follows.
    const ConvRow *table;
    // This thread's rows in the table in use.
    ConvRow rows[Tile::M / ROW_STEP];
    // Offset of the thread's first chunk in a stage.
    uint32_t to;
    const unsigned char *weights;
    // Bytes of all weights of BLOCK_LEN output channels.
    uint32_t block_bytes;
    // Where a row with offset 0 has its values of the next step.
    const unsigned char *input;
    // Bytes from tap to tap; what a new row of taps and a new block of channels add.
    int32_t to_column;
    int32_t to_row;
    int32_t to_block;
    // Until the other input begins: where a step has several units, steps, else blocks of channels.
    uint32_t steps_left;
    uint32_t blocks_left;
    // Where a step has several units: those from this thread's on.
    int32_t units_left;
    // The bit of the tap in ConvRow::valid.
    uint32_t tap;
    uint32_t tap_row;
    uint32_t tap_column;
    uint32_t tap_rows;
    uint32_t tap_columns;
};

} // namespace twinstream

// The tile of a block that multiplies by wgmma: its sizes, and where everything lies in shared
// memory.
//
// Output channels are the rows of wgmma and pixels its columns: pixels may then be any multiple of
// eight, and what belongs to a channel is the same for all sums of a thread but for two rows. A
// stage holds 128 bytes of K of N rows of weights and, behind them, of M rows of pixels, both in
// the 128-byte swizzle. A warpgroup multiplies 64 channels with its share of the pixels, and turns
// its sums into results box by box, 64 channels of 64 pixels, in places of its own. Knows nothing
// of convolutions.
#pragma once

#include "../common.cuh"
#include "../ptx/wgmma.cuh"

namespace twinstream {

// How values of a type are multiplied by warpgroups: what products are added up in, and the
// instruction, for 32 bytes of K.
template <class Value>
struct WarpgroupProduct;

template <>
struct WarpgroupProduct<f16> {
    using Sum = float;
    template <unsigned LEN>
    static TWINSTREAM_DEVICE void multiply(float (&sums)[LEN], uint64_t a, uint64_t b, bool adds) {
        ptx::wgmma_f16(sums, a, b, adds);
    }
};

template <>
struct WarpgroupProduct<i8> {
    using Sum = int32_t;
    template <unsigned LEN>
    static TWINSTREAM_DEVICE void multiply(int32_t (&sums)[LEN], uint64_t a, uint64_t b,
                                           bool adds) {
        ptx::wgmma_s8u8(sums, a, b, adds);
    }
};

constexpr unsigned WARPGROUP_LEN = 4 * WARP_LEN;

// What a step of K and the results are made of, whatever the tile.
template <class Value_>
struct WarpgroupValues {
    using Value = Value_;
    using Product = WarpgroupProduct<Value>;
    using Sum = typename Product::Sum;
    static constexpr bool IS_INTEGER = sizeof(Value) == 1;

    static constexpr unsigned ROW_BYTES = 128;
    // Values of K in a step.
    static constexpr unsigned STEP_LEN = ROW_BYTES / sizeof(Value);
    // What one wgmma takes of a row.
    static constexpr unsigned PART_BYTES = 32;
    // Output channels whose weights lie together, which are those of a warpgroup.
    static constexpr unsigned BLOCK_LEN = 64;
    static constexpr unsigned BLOCK_BYTES = BLOCK_LEN * ROW_BYTES;
    // A pixel of a box.
    static constexpr unsigned BOX_ROW_BYTES = BLOCK_LEN * sizeof(Value);
};

// M pixels by N channels of a block, as tiles.inc has them: WARPS_M x WARPS_N warps multiply, and a
// warpgroup besides copies. The CLUSTER blocks of a cluster multiply the same pixels, of which each
// copies a part for all.
template <class Value, unsigned M_, unsigned N_, unsigned WARPS_M, unsigned WARPS_N,
          unsigned STAGES_, unsigned CLUSTER_>
struct WarpgroupTile : WarpgroupValues<Value> {
    using WarpgroupValues<Value>::ROW_BYTES;
    using WarpgroupValues<Value>::BLOCK_LEN;
    static constexpr unsigned M = M_;
    static constexpr unsigned N = N_;
    static constexpr unsigned STAGES = STAGES_;
    static constexpr unsigned CLUSTER = CLUSTER_;
    // Warpgroups that multiply, and the threads of all.
    static constexpr unsigned GROUPS = WARPS_M * WARPS_N / 4;
    static constexpr unsigned THREADS = (GROUPS + 1) * WARPGROUP_LEN;

    static constexpr unsigned WEIGHTS_BYTES = N * ROW_BYTES;
    static constexpr unsigned STAGE_BYTES = WEIGHTS_BYTES + M * ROW_BYTES;
    // Pixels that a block copies.
    static constexpr unsigned COPIED = M / CLUSTER;

    // Of a warpgroup: pixels, boxes of them, and sums of a thread.
    static constexpr unsigned PIXELS = M / WARPS_M;
    static constexpr unsigned BOX_LEN = 64;
    static constexpr unsigned BOXES = PIXELS / BOX_LEN;
    static constexpr unsigned SUMS = PIXELS / 2;
    static constexpr unsigned BOX_BYTES = BOX_LEN * BLOCK_LEN * sizeof(Value);
    // Boxes that a warpgroup has places for: what stages leave of 224 KiB.
    static constexpr unsigned PLACES = (224 * 1024 - STAGES * STAGE_BYTES) / (GROUPS * BOX_BYTES);

    static_assert(WARPS_N * 16 == N, "a warp has 16 channels");
    static_assert(PIXELS % BOX_LEN == 0 && PLACES > 1, "one box leaves while the next is made");

    // First pixel and channel of a warpgroup within the tile.
    static TWINSTREAM_DEVICE uint32_t pixel_of(uint32_t group) {
        return group / (N / BLOCK_LEN) * PIXELS;
    }
    static TWINSTREAM_DEVICE uint32_t channel_of(uint32_t group) {
        return group % (N / BLOCK_LEN) * BLOCK_LEN;
    }
};

// The products of one step: 64 channels, whose weights lie at `weights`, with the pixels at
// `pixels`. A warpgroup; behind wgmma_fence.
template <class Tile, unsigned LEN>
TWINSTREAM_DEVICE void multiply_step(typename Tile::Sum (&sums)[LEN], uint32_t weights,
                                     uint32_t pixels, bool adds) {
    const uint64_t a = ptx::describe_rows_128(weights), b = ptx::describe_rows_128(pixels);
    TWINSTREAM_UNROLL
    for (unsigned part = 0; part < Tile::ROW_BYTES / Tile::PART_BYTES; ++part)
        Tile::Product::multiply(sums, a + part * Tile::PART_BYTES / CHUNK_BYTES,
                                b + part * Tile::PART_BYTES / CHUNK_BYTES, adds || part != 0);
}

// Byte offset of a chunk of a pixel within a box: in the swizzle of as many bytes as a row has.
template <class Tile>
constexpr TWINSTREAM_DEVICE unsigned box_offset(unsigned row, unsigned chunk) {
    constexpr unsigned CHUNKS = Tile::BOX_ROW_BYTES / CHUNK_BYTES;
    return row * Tile::BOX_ROW_BYTES + (chunk ^ row * CHUNKS / 8 % CHUNKS) * CHUNK_BYTES;
}

// Shared memory of a block: stages, boxes, and the barriers of both. A stage is `full` when its
// operands are there, and `empty` when all warps of the cluster have multiplied them. A place has
// `room` when the residual, or nothing, lies in it and results may be written, and is `ready` when
// they are.
template <class Tile>
class WarpgroupShared {
   public:
    static constexpr unsigned BYTES = 224 * 1024 + 256;

    explicit TWINSTREAM_DEVICE WarpgroupShared(uint32_t shared) : first(shared) {}

    TWINSTREAM_DEVICE uint32_t stage(uint32_t index) const {
        return first + index * Tile::STAGE_BYTES;
    }
    TWINSTREAM_DEVICE uint32_t box(uint32_t group, uint32_t place) const {
        return first + Tile::STAGES * Tile::STAGE_BYTES +
               (group * Tile::PLACES + place) * Tile::BOX_BYTES;
    }
    TWINSTREAM_DEVICE uint32_t full(uint32_t stage) const { return barrier(stage); }
    TWINSTREAM_DEVICE uint32_t empty(uint32_t stage) const { return barrier(Tile::STAGES + stage); }
    TWINSTREAM_DEVICE uint32_t room(uint32_t group, uint32_t place) const {
        return barrier(2 * Tile::STAGES + group * Tile::PLACES + place);
    }
    TWINSTREAM_DEVICE uint32_t ready(uint32_t group, uint32_t place) const {
        return barrier(2 * Tile::STAGES + (Tile::GROUPS + group) * Tile::PLACES + place);
    }

   private:
    static constexpr unsigned BARRIERS = 224 * 1024;
    static constexpr unsigned BARRIER_BYTES = 8;
    static_assert((Tile::STAGES + Tile::GROUPS * Tile::PLACES) * 2 * BARRIER_BYTES <=
                      BYTES - BARRIERS,
                  "barriers fit behind the boxes");

    TWINSTREAM_DEVICE uint32_t barrier(uint32_t index) const {
        return first + BARRIERS + index * BARRIER_BYTES;
    }

    uint32_t first;
};

// Stages or places in turns, and the parity of the phase that whoever walks them waits for next.
template <unsigned LEN>
struct Turn {
    uint32_t index;
    uint32_t parity;

    TWINSTREAM_DEVICE void advance() {
        if (++index == LEN) {
            index = 0;
            parity ^= 1;
        }
    }
};

} // namespace twinstream

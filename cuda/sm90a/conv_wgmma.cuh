// What a block of a convolution on wgmma does (launch.h: twinstream_conv_wgmma_params): tile after
// tile, with warps that copy, warps that multiply, and warps that send results off, all at work at
// the same time on different steps and tiles.
//
// The copy engine forms the rows of pixels itself (im2col), with zeros in the padding, and the
// weights lie in memory as they lie in a stage. One lane issues all copies of operands, one of each
// further warp the copies of a warpgroup's boxes. Wherever one of them waits for another, it is at
// a barrier in shared memory, and not forever.
#pragma once

#include "../ptx/barrier.cuh"
#include "../ptx/bulk.cuh"
#include "../ptx/cluster.cuh"
#include "../ptx/ld_st.cuh"
#include "../ptx/pdl.cuh"
#include "wgmma_results.cuh"
#include "wgmma_tile.cuh"

namespace twinstream {

// The tiles of a launch and the steps of each.
template <class Tile>
struct ConvTiles {
    uint32_t channel_tiles;
    // All of the batch.
    uint32_t len;
    uint32_t input_steps;
    uint32_t shortcut_steps;

    explicit TWINSTREAM_DEVICE ConvTiles(const twinstream_conv_wgmma_params &p)
        : channel_tiles(p.output_channels / Tile::N) {
        const uint32_t images = ptx::load_past_l1(&global<const twinstream_batch>(p.batch)->len);
        len = ceil_divide(images * p.output_height * p.output_width, Tile::M) * channel_tiles;
        input_steps = ceil_divide(p.channels, Tile::STEP_LEN) * p.tap_rows * p.tap_columns;
        shortcut_steps = ceil_divide(p.shortcut_channels, Tile::STEP_LEN);
    }

    TWINSTREAM_DEVICE uint32_t step_len() const { return input_steps + shortcut_steps; }
    // Blocks that run together take all channels of few pixels, as those of conv_block.cuh do.
    TWINSTREAM_DEVICE uint32_t first_pixel(uint32_t tile) const {
        return tile / channel_tiles * Tile::M;
    }
    TWINSTREAM_DEVICE uint32_t first_channel(uint32_t tile) const {
        return tile % channel_tiles * Tile::N;
    }
    // Of this block.
    TWINSTREAM_DEVICE uint32_t own_len() const {
        return blockIdx.x < len ? (len - 1 - blockIdx.x) / gridDim.x + 1 : 0;
    }
};

// The block's number in its cluster.
template <class Tile>
TWINSTREAM_DEVICE uint32_t rank() {
    return Tile::CLUSTER == 1 ? 0 : ptx::cluster_rank();
}

TWINSTREAM_DEVICE const TensorMap &map_of(const twinstream_tensor_map &map) {
    return reinterpret_cast<const TensorMap &>(map);
}

// Copies the operands of all steps of this block's tiles, one step a stage. One lane.
template <class Tile>
class OperandCopier {
   public:
    TWINSTREAM_DEVICE OperandCopier(const twinstream_conv_wgmma_params &params,
                                    const ConvTiles<Tile> &all_tiles,
                                    const WarpgroupShared<Tile> &shared_memory)
        : p(params), tiles(all_tiles), shared(shared_memory) {}

    // The weights of the first steps, which no kernel writes.
    TWINSTREAM_DEVICE void copy_first_weights() {
        if (tiles.own_len() == 0) return;
        enter(blockIdx.x);
        const uint32_t step_len = tiles.step_len();
        TWINSTREAM_ROLL
        for (; weights_ahead < Tile::STAGES && weights_ahead < step_len; ++weights_ahead)
            copy_weights(weights_ahead);
    }

    TWINSTREAM_DEVICE void run() {
        for (uint32_t tile = blockIdx.x; tile < tiles.len; tile += gridDim.x) {
            if (tile != blockIdx.x) enter(tile);
            const uint32_t pixel = tiles.first_pixel(tile) + rank<Tile>() * Tile::COPIED;
            const int32_t x = static_cast<int32_t>(pixel % p.output_width);
            const int32_t y = static_cast<int32_t>(pixel / p.output_width % p.output_height);
            const int32_t image = static_cast<int32_t>(pixel / p.output_width / p.output_height);
            if (Tile::IS_INTEGER) copy_shortcut(x, y, image);
            copy_input(x, y, image);
            if (!Tile::IS_INTEGER) copy_shortcut(x, y, image);
        }
    }

   private:
    TWINSTREAM_DEVICE void enter(uint32_t tile) {
        weights = global<const unsigned char>(p.weights) +
                  static_cast<uint64_t>(tiles.first_channel(tile) / Tile::BLOCK_LEN) *
                      tiles.step_len() * Tile::BLOCK_BYTES;
    }

    TWINSTREAM_DEVICE void copy_input(int32_t x, int32_t y, int32_t image) {
        const int32_t stride = static_cast<int32_t>(p.stride);
        const int32_t padding = static_cast<int32_t>(p.padding);
        const int32_t column = x * stride - padding, row = y * stride - padding;
        for (uint32_t channel = 0; channel < p.channels; channel += Tile::STEP_LEN)
            for (uint32_t tap_row = 0; tap_row < p.tap_rows; ++tap_row) {
                TWINSTREAM_ROLL
                for (uint32_t tap_column = 0; tap_column < p.tap_columns; ++tap_column)
                    copy_step(p.input, {static_cast<int32_t>(channel), column, row, image},
                              {static_cast<uint16_t>(p.tap_column_first + tap_column),
                               static_cast<uint16_t>(p.tap_row_first + tap_row)});
            }
    }

    TWINSTREAM_DEVICE void copy_shortcut(int32_t x, int32_t y, int32_t image) {
        const int32_t stride = static_cast<int32_t>(p.shortcut_stride);
        TWINSTREAM_ROLL
        for (uint32_t channel = 0; channel < p.shortcut_channels; channel += Tile::STEP_LEN)
            copy_step(p.shortcut, {static_cast<int32_t>(channel), x * stride, y * stride, image},
                      {0, 0});
    }

    TWINSTREAM_DEVICE void copy_step(const twinstream_tensor_map &map, const int32_t (&first)[4],
                                     const uint16_t (&tap)[2]) {
        if (weights_ahead != 0) {
            --weights_ahead;
        } else {
            ptx::barrier_wait(shared.empty(turn.index), turn.parity);
            copy_weights(turn.index);
        }
        const uint32_t pixels = shared.stage(turn.index) + Tile::WEIGHTS_BYTES +
                                rank<Tile>() * Tile::COPIED * Tile::ROW_BYTES;
        const uint32_t full = shared.full(turn.index);
        if constexpr (Tile::CLUSTER == 1)
            ptx::copy_im2col(pixels, map_of(map), first, tap, full);
        else
            ptx::copy_im2col_to_all(pixels, map_of(map), first, tap, full,
                                    (1u << Tile::CLUSTER) - 1);
        turn.advance();
    }

    // Those of the next step; the stage then waits for its pixels too.
    TWINSTREAM_DEVICE void copy_weights(uint32_t stage) {
        ptx::barrier_arrive_expect(shared.full(stage), Tile::STAGE_BYTES);
        TWINSTREAM_UNROLL
        for (unsigned block = 0; block < Tile::N / Tile::BLOCK_LEN; ++block)
            ptx::copy_bulk(shared.stage(stage) + block * Tile::BLOCK_BYTES,
                           weights +
                               static_cast<uint64_t>(block * tiles.step_len()) * Tile::BLOCK_BYTES,
                           Tile::BLOCK_BYTES, shared.full(stage));
        weights += Tile::BLOCK_BYTES;
    }

    const twinstream_conv_wgmma_params &p;
    const ConvTiles<Tile> &tiles;
    const WarpgroupShared<Tile> &shared;
    const unsigned char *weights = nullptr;
    // Steps whose weights are under way already.
    uint32_t weights_ahead = 0;
    // A stage is empty before its first use: the phase before the first counts as ended.
    Turn<Tile::STAGES> turn{0, 1};
};

// Brings a warpgroup's residuals and takes its results away, box by box. One lane.
template <class Tile>
class BoxCopier {
   public:
    TWINSTREAM_DEVICE BoxCopier(const twinstream_conv_wgmma_params &params,
                                const ConvTiles<Tile> &all_tiles,
                                const WarpgroupShared<Tile> &shared_memory, uint32_t of_group)
        : p(params), tiles(all_tiles), shared(shared_memory), group(of_group),
          box_len(all_tiles.own_len() * Tile::BOXES) {}

    TWINSTREAM_DEVICE void run() const {
        Turn<Tile::PLACES> turn{0, 0};
        for (uint32_t box = 0; box < Tile::PLACES && box < box_len; ++box) make_room(box, box);
        for (uint32_t box = 0; box < box_len; ++box) {
            ptx::barrier_wait(shared.ready(group, turn.index), turn.parity);
            ptx::store_tensor_2d(map_of(p.output), channel_of(box), pixel_of(box),
                                 shared.box(group, turn.index));
            ptx::bulk_commit();
            if (box + Tile::PLACES < box_len) {
                ptx::bulk_wait_read<0>();
                make_room(box + Tile::PLACES, turn.index);
            }
            turn.advance();
        }
        ptx::bulk_wait<0>();
    }

   private:
    TWINSTREAM_DEVICE void make_room(uint32_t box, uint32_t place) const {
        const uint32_t barrier = shared.room(group, place);
        if (p.has_residual) {
            ptx::barrier_arrive_expect(barrier, Tile::BOX_BYTES);
            ptx::copy_tensor_2d(shared.box(group, place), map_of(p.residual), channel_of(box),
                                pixel_of(box), barrier);
        } else {
            ptx::barrier_arrive(barrier);
        }
    }

    TWINSTREAM_DEVICE uint32_t tile_of(uint32_t box) const {
        return blockIdx.x + box / Tile::BOXES * gridDim.x;
    }
    TWINSTREAM_DEVICE int32_t channel_of(uint32_t box) const {
        return static_cast<int32_t>(tiles.first_channel(tile_of(box)) + Tile::channel_of(group));
    }
    TWINSTREAM_DEVICE int32_t pixel_of(uint32_t box) const {
        return static_cast<int32_t>(tiles.first_pixel(tile_of(box)) + Tile::pixel_of(group) +
                                    box % Tile::BOXES * Tile::BOX_LEN);
    }

    const twinstream_conv_wgmma_params &p;
    const ConvTiles<Tile> &tiles;
    const WarpgroupShared<Tile> &shared;
    uint32_t group;
    // Of all its tiles.
    uint32_t box_len;
};

// Multiplies all steps of this block's tiles and writes the results to boxes. A warpgroup.
template <class Tile>
class Multiplier {
   public:
    TWINSTREAM_DEVICE Multiplier(const twinstream_conv_wgmma_params &params,
                                 const ConvTiles<Tile> &all_tiles,
                                 const WarpgroupShared<Tile> &shared_memory, uint32_t of_group)
        : p(params), tiles(all_tiles), shared(shared_memory), group(of_group) {}

    TWINSTREAM_DEVICE void run() {
        for (uint32_t tile = blockIdx.x; tile < tiles.len; tile += gridDim.x) {
            const Scales<Tile> scales(p, tiles.first_channel(tile) + Tile::channel_of(group));
            typename Tile::Sum sums[Tile::SUMS];
            if constexpr (Tile::IS_INTEGER) {
                if (tiles.shortcut_steps != 0) {
                    multiply(sums, tiles.shortcut_steps, false);
                    scales.scale_shortcut(sums);
                }
                multiply(sums, tiles.input_steps, tiles.shortcut_steps != 0);
            } else {
                multiply(sums, tiles.step_len(), false);
            }
            write_results(sums, scales);
        }
    }

   private:
    TWINSTREAM_DEVICE void multiply(typename Tile::Sum (&sums)[Tile::SUMS], uint32_t step_len,
                                    bool adds) {
        uint32_t before = 0;
        TWINSTREAM_ROLL
        for (uint32_t step = 0; step < step_len; ++step) {
            ptx::barrier_wait(shared.full(turn.index), turn.parity);
            const uint32_t stage = shared.stage(turn.index);
            ptx::wgmma_fence();
            multiply_step<Tile>(sums, stage + Tile::channel_of(group) * Tile::ROW_BYTES,
                                stage + Tile::WEIGHTS_BYTES +
                                    Tile::pixel_of(group) * Tile::ROW_BYTES,
                                adds || step != 0);
            ptx::wgmma_commit();
            // The products of the step before have ended.
            ptx::wgmma_wait<1>();
            if (step != 0) release(before);
            before = turn.index;
            turn.advance();
        }
        ptx::wgmma_wait<0>();
        ptx::wgmma_settle(sums);
        release(before);
    }

    // Whoever copies into it may: this block, or any of the cluster.
    TWINSTREAM_DEVICE void release(uint32_t stage) const {
        const uint32_t lane = threadIdx.x % WARP_LEN, barrier = shared.empty(stage);
        if constexpr (Tile::CLUSTER == 1) {
            if (lane == 0) ptx::barrier_arrive(barrier);
        } else {
            if (lane < Tile::CLUSTER)
                ptx::barrier_arrive_relaxed_at(ptx::map_shared(barrier, lane));
        }
    }

    TWINSTREAM_DEVICE void write_results(const typename Tile::Sum (&sums)[Tile::SUMS],
                                         const Scales<Tile> &scales) {
        TWINSTREAM_UNROLL
        for (unsigned box = 0; box < Tile::BOXES; ++box) {
            ptx::barrier_wait(shared.room(group, places.index), places.parity);
            scales.write_box(sums, box, shared.box(group, places.index));
            ptx::fence_proxy_async_shared();
            __syncwarp();
            if (threadIdx.x % WARP_LEN == 0) ptx::barrier_arrive(shared.ready(group, places.index));
            places.advance();
        }
    }

    const twinstream_conv_wgmma_params &p;
    const ConvTiles<Tile> &tiles;
    const WarpgroupShared<Tile> &shared;
    uint32_t group;
    Turn<Tile::STAGES> turn{0, 0};
    Turn<Tile::PLACES> places{0, 0};
};

template <class Tile>
class ConvWarpgroups {
   public:
    TWINSTREAM_DEVICE ConvWarpgroups(const twinstream_conv_wgmma_params &params,
                                     unsigned char *shared_memory)
        : p(params), tiles(params), shared(ptx::shared_address(shared_memory)) {}

    TWINSTREAM_DEVICE void run() const {
        // The same in all lanes, and known to be: one lane's copies need no loop around them.
        const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / WARP_LEN, 0);
        OperandCopier<Tile> operands(p, tiles, shared);
        if (warp == FIRST_COPYING && ptx::elect()) {
            make_barriers();
            operands.copy_first_weights();
        }
        meet();
        ptx::wait_for_previous_kernel();
        ptx::allow_next_kernel();
        if (warp < FIRST_COPYING) {
            ptx::increase_registers<REGISTERS_MULTIPLYING>();
            Multiplier<Tile>(p, tiles, shared, warp / 4).run();
        } else {
            ptx::decrease_registers<REGISTERS_COPYING>();
            if (warp == FIRST_COPYING && ptx::elect())
                operands.run();
            else if (warp - FIRST_COPYING - 1 < Tile::GROUPS && ptx::elect())
                BoxCopier<Tile>(p, tiles, shared, warp - FIRST_COPYING - 1).run();
        }
        // No block ends while others may arrive at its barriers.
        if constexpr (Tile::CLUSTER > 1) meet();
    }

   private:
    static constexpr unsigned FIRST_COPYING = Tile::GROUPS * 4;
    // Of the 168 that each thread of three warpgroups begins with.
    static constexpr unsigned REGISTERS_MULTIPLYING = 232;
    static constexpr unsigned REGISTERS_COPYING = 40;

    // All threads of the cluster.
    TWINSTREAM_DEVICE void meet() const {
        if constexpr (Tile::CLUSTER == 1) {
            __syncthreads();
        } else {
            ptx::cluster_arrive();
            ptx::cluster_wait();
        }
    }

    TWINSTREAM_DEVICE void make_barriers() const {
        // The swizzle counts from multiples of 1,024.
        if (shared.stage(0) % 1024 != 0) ptx::trap();
        for (unsigned i = 0; i < Tile::STAGES; ++i) {
            ptx::barrier_init(shared.full(i), 1);
            ptx::barrier_init(shared.empty(i), FIRST_COPYING * Tile::CLUSTER);
        }
        for (unsigned group = 0; group < Tile::GROUPS; ++group)
            for (unsigned i = 0; i < Tile::PLACES; ++i) {
                ptx::barrier_init(shared.room(group, i), 1);
                ptx::barrier_init(shared.ready(group, i), 4);
            }
        ptx::fence_barrier_init();
    }

    const twinstream_conv_wgmma_params &p;
    const ConvTiles<Tile> tiles;
    const WarpgroupShared<Tile> shared;
};

} // namespace twinstream

// The entry point of a tile in tiles.inc.
#define TWINSTREAM_WARPGROUPS(CLUSTER, NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES,          \
                              THREADS_LEN, BLOCKS_MIN, SHARED_BYTES)                               \
    using Tile_##NAME = WarpgroupTile<DTYPE, M, N, WARPS_M, WARPS_N, STAGES, CLUSTER>;             \
    static_assert(ARCH == 90, #NAME ": not of this family");                                       \
    static_assert(WarpgroupShared<Tile_##NAME>::BYTES == SHARED_BYTES, #NAME ": see tiles.inc");   \
    static_assert(Tile_##NAME::THREADS == THREADS_LEN, #NAME ": see tiles.inc");                   \
    TWINSTREAM_KERNEL(NAME, twinstream_conv_wgmma_params, THREADS_LEN, BLOCKS_MIN) {               \
        TWINSTREAM_SHARED(shared);                                                                 \
        ConvWarpgroups<Tile_##NAME>(p, shared).run();                                              \
    }

// What a block of a convolution by clusters that share K does (launch.h:
// twinstream_conv_wgmma_params): one tile, for a warpgroup that multiplies and a warp that copies.
//
// Ahead of the wait for the kernel before, a block has its barriers, its first weights, its bias
// and the maps. The sums of a tile never leave the multiprocessors: each block of the cluster sends
// the others what they add up, to memory that serves for nothing else, so that the cluster's
// barrier at the start is all that a sender waits for. None ends before all have what was sent.
#pragma once

#include "conv_wgmma.cuh"
#include "split_tile.cuh"

namespace twinstream {

// Copies the operands of the block's steps, one a stage, and the residual of its boxes. One lane.
template <class Tile>
class SplitCopier {
   public:
    TWINSTREAM_DEVICE SplitCopier(const twinstream_conv_wgmma_params &params,
                                  const ConvTiles<Tile> &all_tiles,
                                  const SplitShared<Tile> &shared_memory,
                                  const SplitRank<Tile> &this_block, uint32_t tile)
        : p(params), tiles(all_tiles), shared(shared_memory), block(this_block),
          step_len(block.end_step(tiles.step_len()) - block.first_step(tiles.step_len())),
          channel(tiles.first_channel(tile)), pixel(tiles.first_pixel(tile)) {}

    // Whatever no kernel writes.
    TWINSTREAM_DEVICE void begin() {
        ptx::prefetch_map(map_of(p.input));
        ptx::prefetch_map(map_of(p.output));
        if (p.shortcut_channels != 0) ptx::prefetch_map(map_of(p.shortcut));
        if (p.has_residual) ptx::prefetch_map(map_of(p.residual));
        const uint32_t first = block.first_step(tiles.step_len());
        weights = global<const unsigned char>(p.weights) +
                  static_cast<uint64_t>(channel / Tile::BLOCK_LEN * tiles.step_len() + first) *
                      Tile::BLOCK_BYTES;
        TWINSTREAM_ROLL
        for (; weights_ahead < Tile::STAGES && weights_ahead < step_len; ++weights_ahead)
            copy_weights(weights_ahead);
        enter(first);
    }

    TWINSTREAM_DEVICE void run() {
        TWINSTREAM_ROLL
        for (uint32_t i = 0; i < step_len; ++i) {
            copy_step();
            advance();
        }
        if (p.has_residual) copy_residual();
    }

   private:
    // The first step, and the first pixel.
    TWINSTREAM_DEVICE void enter(uint32_t first) {
        const uint32_t before = Tile::IS_INTEGER ? tiles.shortcut_steps : tiles.input_steps;
        is_shortcut = Tile::IS_INTEGER == (first < before);
        const uint32_t step = first < before ? first : first - before;
        const uint32_t taps = is_shortcut ? 1 : p.tap_rows * p.tap_columns;
        first_channel = step / taps * Tile::STEP_LEN;
        tap_row = step % taps / p.tap_columns;
        tap_column = step % taps % p.tap_columns;
        x = static_cast<int32_t>(pixel % p.output_width);
        y = static_cast<int32_t>(pixel / p.output_width % p.output_height);
        image = static_cast<int32_t>(pixel / p.output_width / p.output_height);
    }

    TWINSTREAM_DEVICE void advance() {
        if (is_shortcut) {
            first_channel += Tile::STEP_LEN;
            if (Tile::IS_INTEGER && first_channel >= p.shortcut_channels) {
                is_shortcut = false;
                first_channel = 0;
            }
        } else if (++tap_column == p.tap_columns) {
            tap_column = 0;
            if (++tap_row == p.tap_rows) {
                tap_row = 0;
                first_channel += Tile::STEP_LEN;
                if (!Tile::IS_INTEGER && first_channel >= p.channels) {
                    is_shortcut = true;
                    first_channel = 0;
                }
            }
        }
    }

    TWINSTREAM_DEVICE void copy_step() {
        if (weights_ahead != 0) {
            --weights_ahead;
        } else {
            ptx::barrier_wait(shared.empty(turn.index), turn.parity);
            copy_weights(turn.index);
        }
        const uint32_t pixels = shared.stage(turn.index) + Tile::BLOCK_BYTES;
        const uint32_t full = shared.full(turn.index);
        const int32_t of_channel = static_cast<int32_t>(first_channel);
        if (is_shortcut) {
            const int32_t stride = static_cast<int32_t>(p.shortcut_stride);
            ptx::copy_im2col(pixels, map_of(p.shortcut),
                             {of_channel, x * stride, y * stride, image}, {0, 0}, full);
        } else {
            const int32_t stride = static_cast<int32_t>(p.stride);
            const int32_t padding = static_cast<int32_t>(p.padding);
            ptx::copy_im2col(pixels, map_of(p.input),
                             {of_channel, x * stride - padding, y * stride - padding, image},
                             {static_cast<uint16_t>(p.tap_column_first + tap_column),
                              static_cast<uint16_t>(p.tap_row_first + tap_row)},
                             full);
        }
        turn.advance();
    }

    // Those of the next step; the stage then waits for its pixels too.
    TWINSTREAM_DEVICE void copy_weights(uint32_t stage) {
        ptx::barrier_arrive_expect(shared.full(stage), Tile::STAGE_BYTES);
        ptx::copy_bulk(shared.stage(stage), weights, Tile::BLOCK_BYTES, shared.full(stage));
        weights += Tile::BLOCK_BYTES;
    }

    TWINSTREAM_DEVICE void copy_residual() const {
        ptx::barrier_arrive_expect(shared.ready(), block.own_len() * Tile::BOX_BYTES);
        TWINSTREAM_ROLL
        for (uint32_t box = block.rank; box < Tile::BOXES; box += block.last() + 1)
            ptx::copy_tensor_2d(shared.box(block.place(box)), map_of(p.residual),
                                static_cast<int32_t>(channel),
                                static_cast<int32_t>(pixel + box * Tile::BOX_LEN), shared.ready());
    }

    const twinstream_conv_wgmma_params &p;
    const ConvTiles<Tile> &tiles;
    const SplitShared<Tile> &shared;
    const SplitRank<Tile> &block;
    // The block's.
    const uint32_t step_len;
    // The tile's first.
    const uint32_t channel;
    const uint32_t pixel;
    int32_t x, y, image;
    // The step: its channels, and its tap.
    bool is_shortcut;
    uint32_t first_channel;
    uint32_t tap_row, tap_column;
    const unsigned char *weights;
    // Steps whose weights are under way already.
    uint32_t weights_ahead = 0;
    // A stage is empty before its first use: the phase before the first counts as ended.
    Turn<Tile::STAGES> turn{0, 1};
};

// Multiplies the block's steps, adds up what the cluster has of its boxes, and stores the results.
// A warpgroup.
template <class Tile>
class SplitMultiplier {
    using Sum = typename Tile::Sum;

   public:
    TWINSTREAM_DEVICE SplitMultiplier(const twinstream_conv_wgmma_params &params,
                                      const ConvTiles<Tile> &all_tiles,
                                      const SplitShared<Tile> &shared_memory,
                                      const SplitRank<Tile> &this_block, uint32_t of_tile)
        : p(params), tiles(all_tiles), shared(shared_memory), block(this_block), tile(of_tile) {}

    TWINSTREAM_DEVICE void run(const Scales<Tile> &scales) {
        const uint32_t step_len =
            block.end_step(tiles.step_len()) - block.first_step(tiles.step_len());
        Sum sums[Tile::SUMS];
        if constexpr (Tile::IS_INTEGER) {
            // With a shortcut the tile is one block's.
            const uint32_t shortcut_steps = tiles.shortcut_steps;
            if (shortcut_steps != 0) {
                multiply(sums, shortcut_steps, false);
                scales.scale_shortcut(sums);
            }
            multiply(sums, step_len - shortcut_steps, shortcut_steps != 0);
        } else {
            multiply(sums, step_len, false);
        }
        if (!block.is_alone()) join(sums);
        ptx::cluster_arrive_relaxed();
        if (p.has_residual) ptx::barrier_wait(shared.ready(), 0);
        TWINSTREAM_UNROLL
        for (unsigned box = 0; box < Tile::BOXES; ++box)
            if (block.is_own(box)) scales.write_eight(sums, box, shared.box(block.place(box)));
        ptx::fence_proxy_async_shared();
        ptx::barrier_sync(1, WARPGROUP_LEN);
        if (threadIdx.x < WARP_LEN && ptx::elect()) store();
    }

   private:
    TWINSTREAM_DEVICE void multiply(Sum (&sums)[Tile::SUMS], uint32_t step_len, bool adds) {
        uint32_t before = 0;
        TWINSTREAM_ROLL
        for (uint32_t step = 0; step < step_len; ++step) {
            ptx::barrier_wait(shared.full(turn.index), turn.parity);
            const uint32_t stage = shared.stage(turn.index);
            ptx::wgmma_fence();
            multiply_step<Tile>(sums, stage, stage + Tile::BLOCK_BYTES, adds || step != 0);
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

    TWINSTREAM_DEVICE void release(uint32_t stage) const {
        if (threadIdx.x % WARP_LEN == 0) ptx::barrier_arrive(shared.empty(stage));
    }

    // Sends sums of others' boxes to their blocks, and adds up those of the own ones, in the order
    // of ranks.
    TWINSTREAM_DEVICE void join(Sum (&sums)[Tile::SUMS]) const {
        TWINSTREAM_UNROLL
        for (unsigned box = 0; box < Tile::BOXES; ++box)
            if (!block.is_own(box)) send(sums, box);
        ptx::barrier_wait<ptx::Arrivals::cluster>(shared.joined(), 0);
        TWINSTREAM_UNROLL
        for (unsigned box = 0; box < Tile::BOXES; ++box)
            if (block.is_own(box)) add_up(sums, box);
    }

    TWINSTREAM_DEVICE void send(const Sum (&sums)[Tile::SUMS], unsigned box) const {
        const uint32_t to = block.owner(box);
        const uint32_t place = shared.sums(block.place(box), to, block.rank);
        uint32_t words[4];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i) words[i] = bits_of(sums[box * 4 + i]);
        ptx::store_async(ptx::map_shared(place, to), words, ptx::map_shared(shared.joined(), to));
    }

    TWINSTREAM_DEVICE void add_up(Sum (&sums)[Tile::SUMS], unsigned box) const {
        Sum totals[4] = {};
        TWINSTREAM_ROLL
        for (uint32_t rank = 0; rank <= block.last(); ++rank) {
            uint4 words = {bits_of(sums[box * 4]), bits_of(sums[box * 4 + 1]),
                           bits_of(sums[box * 4 + 2]), bits_of(sums[box * 4 + 3])};
            if (rank != block.rank) words = shared.sent(block.place(box), rank);
            add(totals[0], words.x);
            add(totals[1], words.y);
            add(totals[2], words.z);
            add(totals[3], words.w);
        }
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i) sums[box * 4 + i] = totals[i];
    }

    static TWINSTREAM_DEVICE uint32_t bits_of(float sum) { return __float_as_uint(sum); }
    static TWINSTREAM_DEVICE uint32_t bits_of(int32_t sum) { return static_cast<uint32_t>(sum); }
    static TWINSTREAM_DEVICE void add(float &sum, uint32_t bits) { sum += __uint_as_float(bits); }
    static TWINSTREAM_DEVICE void add(int32_t &sum, uint32_t bits) {
        sum += static_cast<int32_t>(bits);
    }

    // One lane.
    TWINSTREAM_DEVICE void store() const {
        const int32_t channel = static_cast<int32_t>(tiles.first_channel(tile));
        const uint32_t pixel = tiles.first_pixel(tile);
        TWINSTREAM_ROLL
        for (uint32_t box = block.rank; box < Tile::BOXES; box += block.last() + 1)
            ptx::store_tensor_2d(map_of(p.output), channel,
                                 static_cast<int32_t>(pixel + box * Tile::BOX_LEN),
                                 shared.box(block.place(box)));
        ptx::bulk_commit();
        ptx::bulk_wait<0>();
    }

    const twinstream_conv_wgmma_params &p;
    const ConvTiles<Tile> &tiles;
    const SplitShared<Tile> &shared;
    const SplitRank<Tile> &block;
    const uint32_t tile;
    Turn<Tile::STAGES> turn{0, 0};
};

template <class Tile>
class ConvSplit {
   public:
    TWINSTREAM_DEVICE ConvSplit(const twinstream_conv_wgmma_params &params,
                                unsigned char *shared_memory)
        : p(params), block(ptx::cluster_rank(), ptx::cluster_len()), tiles(params),
          shared(shared_memory, block) {}

    TWINSTREAM_DEVICE void run() const {
        // The same in all lanes, and known to be: one lane's copies need no loop around them.
        const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / WARP_LEN, 0);
        if (tile() >= tiles.len) {
            ptx::wait_for_previous_kernel();
            ptx::allow_next_kernel();
            return;
        }
        if (warp == COPYING) {
            copy();
        } else {
            const Scales<Tile> scales(p, tiles.first_channel(tile()));
            begin();
            SplitMultiplier<Tile>(p, tiles, shared, block, tile()).run(scales);
        }
        ptx::cluster_wait();
    }

   private:
    static constexpr unsigned COPYING = WARPGROUP_LEN / WARP_LEN;

    TWINSTREAM_DEVICE uint32_t tile() const { return blockIdx.x >> block.len_log2; }

    TWINSTREAM_DEVICE void copy() const {
        SplitCopier<Tile> copier(p, tiles, shared, block, tile());
        const bool is_copying = ptx::elect();
        if (is_copying) {
            make_barriers();
            copier.begin();
        }
        begin();
        if (is_copying) copier.run();
        ptx::cluster_arrive_relaxed();
    }

    // All threads of the cluster meet, and then wait for what the launch depends on.
    TWINSTREAM_DEVICE void begin() const {
        ptx::cluster_arrive();
        ptx::cluster_wait();
        ptx::wait_for_previous_kernel();
        ptx::allow_next_kernel();
    }

    TWINSTREAM_DEVICE void make_barriers() const {
        // The swizzle counts from multiples of 1,024.
        if (shared.stage(0) % 1024 != 0) ptx::trap();
        for (unsigned i = 0; i < Tile::STAGES; ++i) {
            ptx::barrier_init(shared.full(i), 1);
            ptx::barrier_init(shared.empty(i), COPYING);
        }
        ptx::barrier_init(shared.joined(), 1);
        ptx::barrier_init(shared.ready(), 1);
        ptx::fence_barrier_init();
        const uint32_t sent_bytes = block.own_len() * block.last() * Tile::PART_SUMS_BYTES;
        ptx::barrier_arrive_expect(shared.joined(), sent_bytes);
    }

    const twinstream_conv_wgmma_params &p;
    const SplitRank<Tile> block;
    const ConvTiles<Tile> tiles;
    const SplitShared<Tile> shared;
};

} // namespace twinstream

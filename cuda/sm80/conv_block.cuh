// What a block of a convolution does from start to end: prologue (the first copies), mainloop (step
// after step of K), the sum of the slices of split-K, epilogue (bias, residual, ReLU), store.
//
// The pipeline keeps STAGES - 1 steps in flight. The tile of the residual is copied as if it were
// one step more, so that it arrives while the last steps are multiplied; in the same place the
// results are then put together, each value read and replaced by one thread, and leave in whole
// rows.
#pragma once

#include "../ptx/mma.cuh"
#include "../ptx/pdl.cuh"
#include "conv.cuh"

namespace twinstream {

// Byte offset of a chunk in the tile of residuals and results, M rows of N f16 values: permuted so
// that the 4-byte accesses of a warp's accumulators (eight rows, one chunk) touch every bank once.
template <class Tile>
constexpr TWINSTREAM_DEVICE unsigned result_offset(unsigned row, unsigned chunk) {
    constexpr unsigned CHUNKS = Tile::N / CHUNK_LEN;
    constexpr unsigned PERMUTED = CHUNKS < ROW_CHUNKS ? CHUNKS : ROW_CHUNKS;
    // Rows that share a line of all banks differ by their offset in it already.
    return (row * CHUNKS + (chunk ^ row / (ROW_CHUNKS / PERMUTED) % PERMUTED)) * CHUNK_BYTES;
}

// The first step of slice `index` of split-K.
TWINSTREAM_DEVICE uint32_t slice_begin(const twinstream_conv_params &p, uint32_t index) {
    const uint32_t steps =
        (p.tap_rows * p.tap_columns * p.channels + p.shortcut_channels) / STEP_LEN;
    return steps * index / p.split_k;
}

template <class Tile>
class ConvBlock {
   public:
    TWINSTREAM_DEVICE ConvBlock(const twinstream_conv_params &params, unsigned char *shared_memory)
        : p(params), shared(shared_memory), stages(ptx::shared_address(shared_memory)),
          tile_offset(TileOffset::of_block<Tile>(params)) {}

    TWINSTREAM_DEVICE void run() {
        if (tile_offset.first_pixel >= tile_offset.pixels) {
            ptx::wait_for_previous_kernel();
            return;
        }
        const uint32_t begin = slice_begin(p, blockIdx.z);
        const uint32_t step_len = slice_begin(p, blockIdx.z + 1) - begin;
        ConvRow *const rows = reinterpret_cast<ConvRow *>(shared + ConvShared<Tile>::ROWS);
        locate_rows<Tile>(rows, p, tile_offset);
        ConvCopier<Tile> copier(p, tile_offset, rows, begin);
        prologue(copier, step_len);
        Accumulators<Tile> accumulators{};
        const uint32_t result_stage = mainloop(accumulators, copier, step_len);
        if (p.split_k > 1 && !reduce(accumulators)) return;
        epilogue(accumulators, result_stage);
        store(result_stage);
    }

   private:
    // Starts the first STAGES - 1 copies: weights and bias, which no kernel writes, before all
    // else.
    TWINSTREAM_DEVICE void prologue(ConvCopier<Tile> &copier, uint32_t step_len) {
        if (threadIdx.x < Tile::N * sizeof(float) / CHUNK_BYTES)
            ptx::cp_async_16(stages + ConvShared<Tile>::BIAS + threadIdx.x * CHUNK_BYTES,
                             global<const float>(p.bias) + tile_offset.first_channel +
                                 threadIdx.x * 4,
                             CHUNK_BYTES);
        TWINSTREAM_ROLL
        for (uint32_t step = 0; step < Tile::STAGES - 1 && step < step_len; ++step)
            copier.copy_weights(stages + step * Tile::STAGE_BYTES);
        ptx::wait_for_previous_kernel();
        ptx::allow_next_kernel();
        __syncthreads();
        TWINSTREAM_ROLL
        for (uint32_t step = 0; step < Tile::STAGES - 1; ++step) {
            if (step < step_len)
                copier.copy_input(stages + step * Tile::STAGE_BYTES);
            else if (step == step_len)
                copy_residual(stages + step * Tile::STAGE_BYTES);
            ptx::cp_async_commit();
        }
    }

    // Multiplies all steps; returns the stage that holds the residual and is free for the results.
    TWINSTREAM_DEVICE uint32_t mainloop(Accumulators<Tile> &accumulators, ConvCopier<Tile> &copier,
                                        uint32_t step_len) {
        constexpr unsigned PARTS = STEP_LEN / MMA_K;
        const WarpMma<Tile> warp_mma;
        Fragments<Tile> fragments[2];
        uint32_t stage = stages, freed = stages + (Tile::STAGES - 1) * Tile::STAGE_BYTES;
        ptx::cp_async_wait<Tile::STAGES - 2>();
        __syncthreads();
        warp_mma.load(fragments[0], stage, 0);
        TWINSTREAM_ROLL
        for (uint32_t step = 0; step < step_len; ++step) {
            TWINSTREAM_UNROLL
            for (unsigned part = 0; part < PARTS; ++part) {
                // The operands of the next part load while this one is multiplied.
                if (part + 1 < PARTS) {
                    warp_mma.load(fragments[(part + 1) % 2], stage, part + 1);
                } else {
                    freed = stage;
                    stage = next(stage);
                    ptx::cp_async_wait<Tile::STAGES - 2>();
                    __syncthreads();
                    if (step + 1 < step_len) warp_mma.load(fragments[0], stage, 0);
                }
                mma(accumulators, fragments[part % 2]);
                if (part == 0) copy_next(copier, step + Tile::STAGES - 1, step_len, freed);
            }
        }
        return stage;
    }

    TWINSTREAM_DEVICE uint32_t next(uint32_t stage) const {
        const bool last = stage == stages + (Tile::STAGES - 1) * Tile::STAGE_BYTES;
        return last ? stages : stage + Tile::STAGE_BYTES;
    }

    // Starts the copies of a step into the stage that all warps have left, and closes their group.
    TWINSTREAM_DEVICE void copy_next(ConvCopier<Tile> &copier, uint32_t step, uint32_t step_len,
                                     uint32_t stage) {
        if (step < step_len) {
            copier.copy_input(stage);
            copier.copy_weights(stage);
        } else if (step == step_len) {
            copy_residual(stage);
        }
        ptx::cp_async_commit();
    }

    static constexpr unsigned RESULT_CHUNKS = Tile::N / CHUNK_LEN;
    static constexpr unsigned RESULT_ROW_STEP = Tile::THREADS / RESULT_CHUNKS;
    static_assert(Tile::M * Tile::N * sizeof(f16) <= Tile::STAGE_BYTES, "results fit into a stage");

    // Distance from the output's first value to this thread's first chunk of the tile.
    TWINSTREAM_DEVICE uint64_t output_index() const {
        return static_cast<uint64_t>(tile_offset.first_pixel + threadIdx.x / RESULT_CHUNKS) *
                   p.output_channels +
               tile_offset.first_channel + threadIdx.x % RESULT_CHUNKS * CHUNK_LEN;
    }

    TWINSTREAM_DEVICE void copy_residual(uint32_t stage) const {
        if (p.residual == 0) return;
        const f16 *from = global<const f16>(p.residual) + output_index();
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < Tile::M / RESULT_ROW_STEP; ++i) {
            const unsigned row = threadIdx.x / RESULT_CHUNKS + i * RESULT_ROW_STEP;
            const bool inside = tile_offset.first_pixel + row < tile_offset.pixels;
            ptx::cp_async_16(stage + result_offset<Tile>(row, threadIdx.x % RESULT_CHUNKS), from,
                             inside ? CHUNK_BYTES : 0);
            from += RESULT_ROW_STEP * p.output_channels;
        }
    }

    // Leaves this block's accumulators to the block that comes last to the tile. In that block,
    // replaces them by the total over all slices, added in the slices' order whoever comes last,
    // and returns true.
    TWINSTREAM_DEVICE bool reduce(Accumulators<Tile> &accumulators) const {
        constexpr unsigned QUADS = Tile::MMAS_M * Tile::MMAS_N;
        const uint32_t tile = blockIdx.y * gridDim.x + blockIdx.x;
        float4 *const slices = global<float4>(p.partials) +
                               static_cast<uint64_t>(tile) * p.split_k * QUADS * Tile::THREADS +
                               threadIdx.x;
        float4 *const mine = slices + static_cast<uint64_t>(blockIdx.z) * QUADS * Tile::THREADS;
        TWINSTREAM_UNROLL
        for (unsigned quad = 0; quad < QUADS; ++quad) {
            const float (&from)[4] = accumulators.values[quad / Tile::MMAS_N][quad % Tile::MMAS_N];
            mine[quad * Tile::THREADS] = make_float4(from[0], from[1], from[2], from[3]);
        }
        if (!is_last_at(global<uint32_t>(p.semaphores) + tile)) return false;
        accumulators = Accumulators<Tile>{};
        // So many quads at a time as registers hold while they are on their way.
        constexpr unsigned AT_ONCE = QUADS < 8 ? QUADS : 8;
        TWINSTREAM_UNROLL
        for (unsigned first = 0; first < QUADS; first += AT_ONCE) {
            TWINSTREAM_UNROLL_BY(2)
            for (uint32_t slice = 0; slice < p.split_k; ++slice) {
                const float4 *const from =
                    slices + (static_cast<uint64_t>(slice) * QUADS + first) * Tile::THREADS;
                TWINSTREAM_UNROLL
                for (unsigned i = 0; i < AT_ONCE; ++i) {
                    const float4 part = ptx::ld_global_cg(from + i * Tile::THREADS);
                    const unsigned quad = first + i;
                    float (&to)[4] = accumulators.values[quad / Tile::MMAS_N][quad % Tile::MMAS_N];
                    to[0] += part.x;
                    to[1] += part.y;
                    to[2] += part.z;
                    to[3] += part.w;
                }
            }
        }
        return true;
    }

    // Whether all other blocks of the tile have come here before; if so, sets the semaphore back.
    TWINSTREAM_DEVICE bool is_last_at(uint32_t *semaphore) const {
        uint32_t *const flag = reinterpret_cast<uint32_t *>(shared + ConvShared<Tile>::FLAG);
        __syncthreads();
        if (threadIdx.x == 0) {
            const bool last = ptx::arrive(semaphore) == p.split_k - 1;
            if (last) *semaphore = 0;
            *flag = last;
        }
        __syncthreads();
        return *flag != 0;
    }

    // Turns accumulators into results: bias, residual, ReLU, in f32 and rounded once.
    TWINSTREAM_DEVICE void epilogue(const Accumulators<Tile> &accumulators,
                                    uint32_t result_stage) const {
        const WarpMma<Tile> warp_mma;
        const unsigned lane = threadIdx.x % WARP_LEN, group = lane / 4, pair = lane % 4;
        const float *const bias = reinterpret_cast<const float *>(shared + ConvShared<Tile>::BIAS);
        unsigned char *const results = shared + (result_stage - stages);
        const float lowest = p.relu ? 0.0f : -INFINITY;
        TWINSTREAM_UNROLL
        for (unsigned j = 0; j < Tile::MMAS_N; ++j) {
            const unsigned column = warp_mma.column + j * 8;
            const float2 shift = *reinterpret_cast<const float2 *>(bias + column + 2 * pair);
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < Tile::MMAS_M * 2; ++i) {
                const unsigned row = warp_mma.row + i * 8 + group;
                const float *const sum = accumulators.values[i / 2][j] + i % 2 * 2;
                uint32_t *const result = reinterpret_cast<uint32_t *>(
                    results + result_offset<Tile>(row, column / CHUNK_LEN) + pair * 4);
                const uint32_t added = p.residual == 0 ? 0 : *result;
                const float low = sum[0] + shift.x + ptx::unpack_f16(added);
                const float high = sum[1] + shift.y + ptx::unpack_f16(added >> 16);
                *result = ptx::pack_f16x2(fmaxf(low, lowest), fmaxf(high, lowest));
            }
        }
    }

    TWINSTREAM_DEVICE void store(uint32_t result_stage) const {
        __syncthreads();
        const unsigned char *const results = shared + (result_stage - stages);
        f16 *to = global<f16>(p.output) + output_index();
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < Tile::M / RESULT_ROW_STEP; ++i) {
            const unsigned row = threadIdx.x / RESULT_CHUNKS + i * RESULT_ROW_STEP;
            if (tile_offset.first_pixel + row < tile_offset.pixels)
                *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(
                    results + result_offset<Tile>(row, threadIdx.x % RESULT_CHUNKS));
            to += RESULT_ROW_STEP * p.output_channels;
        }
    }

    const twinstream_conv_params &p;
    unsigned char *shared;
    // Shared address of the first stage.
    uint32_t stages;
    TileOffset tile_offset;
};

} // namespace twinstream

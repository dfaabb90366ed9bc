// What a block of a convolution does from start to end: prologue (the first copies), mainloop (step
// after step of K), the sum of the slices of split-K, epilogue (bias, residual, ReLU; of integers
// their scales), store.
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

// Byte offset of a chunk in the tile of residuals and results, M rows of N values: permuted so that
// the accesses of a warp's accumulators (eight rows, one chunk, two values a lane) touch no bank
// twice.
template <class Tile>
constexpr TWINSTREAM_DEVICE unsigned result_offset(unsigned row, unsigned chunk) {
    constexpr unsigned CHUNKS = Tile::N / Tile::CHUNK_LEN;
    constexpr unsigned PERMUTED = CHUNKS < ROW_CHUNKS ? CHUNKS : ROW_CHUNKS;
    // Rows that share a line of all banks differ by their offset in it already.
    return (row * CHUNKS + (chunk ^ row / (ROW_CHUNKS / PERMUTED) % PERMUTED)) * CHUNK_BYTES;
}

// The first step of slice `index` of split-K.
template <class Tile>
TWINSTREAM_DEVICE uint32_t slice_begin(const twinstream_conv_params &p, uint32_t index) {
    return step_len_of<Tile>(p) * index / p.split_k;
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
        const uint32_t begin = slice_begin<Tile>(p, blockIdx.z);
        const uint32_t step_len = slice_begin<Tile>(p, blockIdx.z + 1) - begin;
        ConvRow *const rows = reinterpret_cast<ConvRow *>(shared + ConvShared<Tile>::ROWS);
        locate_rows<Tile>(rows, p, tile_offset);
        ConvCopier<Tile> copier(p, tile_offset, rows, begin);
        prologue(copier, begin, step_len);
        Accumulators<Tile> accumulators{};
        const uint32_t result_stage = mainloop(accumulators, copier, step_len);
        if (p.split_k > 1 && !reduce(accumulators)) return;
        epilogue(accumulators, result_stage);
        store(result_stage);
    }

   private:
    // Starts the first STAGES - 1 copies: weights and bias, which no kernel writes, before all
    // else.
    TWINSTREAM_DEVICE void prologue(ConvCopier<Tile> &copier, uint32_t begin, uint32_t step_len) {
        if (threadIdx.x < BIAS_CHUNKS)
            copy_bias(threadIdx.x, global<const float>(p.bias));
        else if (IS_INTEGER<Tile> && threadIdx.x < 2 * BIAS_CHUNKS)
            copy_bias(threadIdx.x, global<const float>(p.bias) + p.output_channels - Tile::N);
        TWINSTREAM_ROLL
        for (uint32_t step = 0; step < Tile::STAGES - 1 && step < step_len; ++step)
            copier.copy_weights(stages + step * Tile::STAGE_BYTES);
        ptx::wait_for_previous_kernel();
        ptx::allow_next_kernel();
        __syncthreads();
        copier.enter(begin);
        TWINSTREAM_ROLL
        for (uint32_t step = 0; step < Tile::STAGES - 1; ++step) {
            if (step < step_len)
                copier.copy_input(stages + step * Tile::STAGE_BYTES);
            else if (step == step_len)
                copy_residual(stages + step * Tile::STAGE_BYTES);
            ptx::cp_async_commit();
        }
    }

    static constexpr unsigned BIAS_CHUNKS = Tile::N * sizeof(float) / CHUNK_BYTES;

    TWINSTREAM_DEVICE void copy_bias(unsigned chunk, const float *from) const {
        ptx::cp_async_16(stages + ConvShared<Tile>::BIAS + chunk * CHUNK_BYTES,
                         from + tile_offset.first_channel + chunk * 4, CHUNK_BYTES);
    }

    // Multiplies all steps; returns the stage that holds the residual and is free for the results.
    TWINSTREAM_DEVICE uint32_t mainloop(Accumulators<Tile> &accumulators, ConvCopier<Tile> &copier,
                                        uint32_t step_len) {
        const WarpMma<Tile> warp_mma;
        Fragments<Tile> fragments[2];
        uint32_t stage = stages, freed = stages + (Tile::STAGES - 1) * Tile::STAGE_BYTES;
        ptx::cp_async_wait<Tile::STAGES - 2>();
        __syncthreads();
        warp_mma.load(fragments[0], stage, 0);
        TWINSTREAM_ROLL
        for (uint32_t step = 0; step < step_len; ++step) {
            if constexpr (IS_INTEGER<Tile>)
                if (step != 0 && step == shortcut_step_len<Tile>(p)) scale_shortcut(accumulators);
            TWINSTREAM_UNROLL
            for (unsigned part = 0; part < PART_LEN; ++part) {
                // The operands of the next part load while this one is multiplied.
                if (part + 1 < PART_LEN) {
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

    // Of integers: brings the shortcut's sums into the unit of the convolution's. A shortcut is
    // whole within a slice, so its steps are the slice's first.
    TWINSTREAM_DEVICE void scale_shortcut(Accumulators<Tile> &accumulators) const {
        const unsigned first_column = WarpMma<Tile>().column + threadIdx.x % 4 * 2;
        TWINSTREAM_UNROLL
        for (unsigned j = 0; j < Tile::MMAS_N; ++j) {
            const float2 multiplier = added_multiplier(first_column + j * 8);
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < Tile::MMAS_M; ++i) {
                int32_t (&sum)[4] = accumulators.values[i][j];
                TWINSTREAM_UNROLL
                for (unsigned k = 0; k < 4; ++k)
                    sum[k] = __float2int_rn(static_cast<float>(sum[k]) *
                                            (k % 2 == 0 ? multiplier.x : multiplier.y));
            }
        }
    }

    // Of integers: what the shortcut's sums, or the residual's values, are multiplied with in a
    // column of the tile and the next.
    TWINSTREAM_DEVICE float2 added_multiplier(unsigned column) const {
        return *reinterpret_cast<const float2 *>(global<const float>(p.bias) +
                                                 2 * p.output_channels + tile_offset.first_channel +
                                                 column);
    }

    static constexpr unsigned RESULT_CHUNKS = Tile::N / Tile::CHUNK_LEN;
    static constexpr unsigned RESULT_ROW_STEP = Tile::THREADS / RESULT_CHUNKS;
    // Rows of chunks that a thread copies; of small tiles not each has one.
    static constexpr unsigned RESULT_ROWS = ceil_divide(Tile::M, RESULT_ROW_STEP);
    static_assert(Tile::M * Tile::N * sizeof(typename Tile::Value) <= Tile::STAGE_BYTES,
                  "results fit into a stage");

    // Whether a row of chunks is in the tile and in the batch.
    TWINSTREAM_DEVICE bool has_result(unsigned row) const {
        if (RESULT_ROWS * RESULT_ROW_STEP > Tile::M && row >= Tile::M) return false;
        return tile_offset.first_pixel + row < tile_offset.pixels;
    }

    // Distance from the output's first value to this thread's first chunk of the tile.
    TWINSTREAM_DEVICE uint64_t output_index() const {
        return static_cast<uint64_t>(tile_offset.first_pixel + threadIdx.x / RESULT_CHUNKS) *
                   p.output_channels +
               tile_offset.first_channel + threadIdx.x % RESULT_CHUNKS * Tile::CHUNK_LEN;
    }

    TWINSTREAM_DEVICE void copy_residual(uint32_t stage) const {
        if (p.residual == 0) return;
        const auto *from = global<const typename Tile::Value>(p.residual) + output_index();
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < RESULT_ROWS; ++i) {
            const unsigned row = threadIdx.x / RESULT_CHUNKS + i * RESULT_ROW_STEP;
            ptx::cp_async_16(stage + result_offset<Tile>(row, threadIdx.x % RESULT_CHUNKS), from,
                             has_result(row) ? CHUNK_BYTES : 0);
            from += RESULT_ROW_STEP * p.output_channels;
        }
    }

    // Leaves this block's accumulators to the block that comes last to the tile. In that block,
    // replaces them by the total over all slices, added in the slices' order whoever comes last,
    // and returns true.
    TWINSTREAM_DEVICE bool reduce(Accumulators<Tile> &accumulators) const {
        constexpr unsigned QUADS = Tile::MMAS_M * Tile::MMAS_N;
        const uint32_t tile = blockIdx.y * gridDim.x + blockIdx.x;
        using Quad = typename Tile::Quad;
        Quad *const slices = global<Quad>(p.partials) +
                             static_cast<uint64_t>(tile) * p.split_k * QUADS * Tile::THREADS +
                             threadIdx.x;
        Quad *const mine = slices + static_cast<uint64_t>(blockIdx.z) * QUADS * Tile::THREADS;
        TWINSTREAM_UNROLL
        for (unsigned quad = 0; quad < QUADS; ++quad) {
            const auto &from = accumulators.values[quad / Tile::MMAS_N][quad % Tile::MMAS_N];
            mine[quad * Tile::THREADS] = Quad{from[0], from[1], from[2], from[3]};
        }
        if (!is_last_at(global<uint32_t>(p.semaphores) + tile)) return false;
        accumulators = Accumulators<Tile>{};
        // So many quads at a time as registers hold while they are on their way.
        constexpr unsigned AT_ONCE = QUADS < 8 ? QUADS : 8;
        TWINSTREAM_UNROLL
        for (unsigned first = 0; first < QUADS; first += AT_ONCE) {
            TWINSTREAM_UNROLL_BY(2)
            for (uint32_t slice = 0; slice < p.split_k; ++slice) {
                const Quad *const from =
                    slices + (static_cast<uint64_t>(slice) * QUADS + first) * Tile::THREADS;
                TWINSTREAM_UNROLL
                for (unsigned i = 0; i < AT_ONCE; ++i) {
                    const Quad part = ptx::ld_global_cg(from + i * Tile::THREADS);
                    const unsigned quad = first + i;
                    auto &to = accumulators.values[quad / Tile::MMAS_N][quad % Tile::MMAS_N];
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

    TWINSTREAM_DEVICE void epilogue(const Accumulators<Tile> &accumulators,
                                    uint32_t result_stage) const {
        if constexpr (IS_INTEGER<Tile>)
            integer_results(accumulators, result_stage);
        else
            f16_results(accumulators, result_stage);
    }

    // Turns accumulators into results: multiplier and bias, residual, each rounded once in f32;
    // then to the nearest integer, of two the even one. ReLU is where u8 begins.
    TWINSTREAM_DEVICE void integer_results(const Accumulators<Tile> &accumulators,
                                           uint32_t result_stage) const {
        const WarpMma<Tile> warp_mma;
        const unsigned lane = threadIdx.x % WARP_LEN, group = lane / 4, pair = lane % 4;
        const float *const bias = reinterpret_cast<const float *>(shared + ConvShared<Tile>::BIAS);
        unsigned char *const results = shared + (result_stage - stages);
        TWINSTREAM_UNROLL
        for (unsigned j = 0; j < Tile::MMAS_N; ++j) {
            const unsigned column = warp_mma.column + j * 8 + 2 * pair;
            const float2 shift = *reinterpret_cast<const float2 *>(bias + column);
            const float2 scale = *reinterpret_cast<const float2 *>(bias + Tile::N + column);
            float2 added_scale = make_float2(0.0f, 0.0f);
            if (p.residual != 0) added_scale = added_multiplier(column);
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < Tile::MMAS_M * 2; ++i) {
                const unsigned row = warp_mma.row + i * 8 + group;
                const int32_t *const sum = accumulators.values[i / 2][j] + i % 2 * 2;
                uint16_t *const result = reinterpret_cast<uint16_t *>(
                    results + result_offset<Tile>(row, column / Tile::CHUNK_LEN) +
                    column % Tile::CHUNK_LEN);
                float low = __fmaf_rn(static_cast<float>(sum[0]), scale.x, shift.x);
                float high = __fmaf_rn(static_cast<float>(sum[1]), scale.y, shift.y);
                if (p.residual != 0) {
                    const uint32_t added = *result;
                    low = __fmaf_rn(static_cast<float>(added & 0xff), added_scale.x, low);
                    high = __fmaf_rn(static_cast<float>(added >> 8), added_scale.y, high);
                }
                *result = static_cast<uint16_t>(round_to_u8(low) | round_to_u8(high) << 8);
            }
        }
    }

    // Turns accumulators into results: bias, residual, ReLU, in f32 and rounded once.
    TWINSTREAM_DEVICE void f16_results(const Accumulators<Tile> &accumulators,
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
                    results + result_offset<Tile>(row, column / Tile::CHUNK_LEN) + pair * 4);
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
        auto *to = global<typename Tile::Value>(p.output) + output_index();
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < RESULT_ROWS; ++i) {
            const unsigned row = threadIdx.x / RESULT_CHUNKS + i * RESULT_ROW_STEP;
            if (has_result(row))
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

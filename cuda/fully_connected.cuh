// The last layer of either type: logits = weights * features + bias, of integers scaled (launch.h:
// twinstream_fully_connected_params).
//
// A block computes 16 classes of up to 32 images; its eight warps take turns at blocks of 64 bytes
// of channels and add up their accumulators at the end. Nothing passes through shared memory
// before: a sum may run over K in any order that both operands share, so a lane reads 16
// consecutive bytes of a row and uses them as the operands of two instructions. Images beyond the
// batch are multiplied as zeros: what takes time at small batches is waiting for weights, and those
// are fetched into L2 while the kernel ahead still runs.
#pragma once

#include "product.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/pdl.cuh"

namespace twinstream {

// A matrix of which a block reads some rows, from the first on; rows from the end on are zeros.
template <class Value>
struct RowsRead {
    const Value *values;
    uint32_t first, end, channels;

    TWINSTREAM_DEVICE uint4 chunk(uint32_t row, uint32_t channel) const {
        if (first + row >= end) return make_uint4(0, 0, 0, 0);
        return *reinterpret_cast<const uint4 *>(
            values + static_cast<uint64_t>(first + row) * channels + channel);
    }
};

// CLASSES_ARE_ROWS: the rows of the matrix instruction (A), 16 at a time, are classes and its
// columns (B), eight at a time, images; else the other way round.
template <class Value, bool CLASSES_ARE_ROWS>
struct FullyConnected {
    using Sum = typename Product<Value>::Sum;
    using Quad = typename Product<Value>::Quad;
    static constexpr unsigned CLASSES = TWINSTREAM_FULLY_CONNECTED_CLASSES;
    static constexpr unsigned IMAGES = TWINSTREAM_FULLY_CONNECTED_IMAGES;
    static constexpr unsigned THREADS = TWINSTREAM_FULLY_CONNECTED_THREADS;
    static constexpr unsigned WARPS = THREADS / WARP_LEN;
    static constexpr unsigned ROWS = 16, COLUMNS = 8;
    static constexpr unsigned ROW_GROUPS = (CLASSES_ARE_ROWS ? CLASSES : IMAGES) / ROWS;
    static constexpr unsigned COLUMN_GROUPS = (CLASSES_ARE_ROWS ? IMAGES : CLASSES) / COLUMNS;
    static constexpr unsigned QUADS = ROW_GROUPS * COLUMN_GROUPS;
    static constexpr unsigned CHUNK_LEN = CHUNK_BYTES / sizeof(Value);
    // Channels that a warp reads at a time.
    static constexpr unsigned STEP = 4 * CHUNK_LEN;
    static constexpr unsigned SHARED_BYTES = WARPS * QUADS * WARP_LEN * sizeof(Quad);
    using Sums = Sum[ROW_GROUPS][COLUMN_GROUPS][4];

    const twinstream_fully_connected_params &p;

    TWINSTREAM_DEVICE uint32_t first_class() const { return blockIdx.x * CLASSES; }
    TWINSTREAM_DEVICE uint32_t first_image() const { return blockIdx.y * IMAGES; }

    // Sends for the block's weights.
    TWINSTREAM_DEVICE void prefetch_weights() const {
        constexpr unsigned LINE_LEN = 128 / sizeof(Value);
        const uint32_t lines = ceil_divide(p.channels, LINE_LEN);
        const Value *const weights = global<const Value>(p.weights);
        for (uint32_t i = threadIdx.x; i < CLASSES * lines; i += THREADS) {
            const uint32_t row = first_class() + i / lines;
            if (row < p.classes)
                ptx::prefetch_to_l2(weights + static_cast<uint64_t>(row) * p.channels +
                                    i % lines * LINE_LEN);
        }
    }

    // A warp's share of K.
    TWINSTREAM_DEVICE void mainloop(Sums &sums, uint32_t image_end) const {
        const unsigned lane = threadIdx.x % WARP_LEN, row = lane / 4;
        const RowsRead<Value> classes{global<const Value>(p.weights), first_class(), p.classes,
                                      p.channels};
        const RowsRead<Value> images{global<const Value>(p.input), first_image(), image_end,
                                     p.channels};
        const RowsRead<Value> &a = CLASSES_ARE_ROWS ? classes : images;
        const RowsRead<Value> &b = CLASSES_ARE_ROWS ? images : classes;
        for (uint32_t channel = threadIdx.x / WARP_LEN * STEP + lane % 4 * CHUNK_LEN;
             channel < p.channels; channel += WARPS * STEP) {
            uint4 columns[COLUMN_GROUPS];
            TWINSTREAM_UNROLL
            for (unsigned j = 0; j < COLUMN_GROUPS; ++j)
                columns[j] = b.chunk(j * COLUMNS + row, channel);
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < ROW_GROUPS; ++i) {
                const uint4 upper = a.chunk(i * ROWS + row, channel);
                const uint4 lower = a.chunk(i * ROWS + 8 + row, channel);
                const uint32_t first[4] = {upper.x, lower.x, upper.y, lower.y};
                const uint32_t second[4] = {upper.z, lower.z, upper.w, lower.w};
                TWINSTREAM_UNROLL
                for (unsigned j = 0; j < COLUMN_GROUPS; ++j) {
                    Product<Value>::mma(sums[i][j], first, columns[j].x, columns[j].y);
                    Product<Value>::mma(sums[i][j], second, columns[j].z, columns[j].w);
                }
            }
        }
    }

    TWINSTREAM_DEVICE float logit(float sum, uint32_t index) const {
        return sum + global<const float>(p.bias)[index];
    }
    TWINSTREAM_DEVICE float logit(int32_t sum, uint32_t index) const {
        const float *const bias = global<const float>(p.bias);
        return __fmaf_rn(static_cast<float>(sum), bias[p.classes + index], bias[index]);
    }

    TWINSTREAM_DEVICE void run(unsigned char *shared) const {
        Quad *const of_warps = reinterpret_cast<Quad *>(shared);
        const twinstream_batch *const batch = global<const twinstream_batch>(p.batch);
        prefetch_weights();
        ptx::wait_for_previous_kernel();
        ptx::allow_next_kernel();
        const uint32_t image_end = batch->len;
        if (first_image() >= image_end) return;
        Sums sums = {};
        mainloop(sums, image_end);
        TWINSTREAM_UNROLL
        for (unsigned quad = 0; quad < QUADS; ++quad) {
            const Sum(&from)[4] = sums[quad / COLUMN_GROUPS][quad % COLUMN_GROUPS];
            of_warps[(threadIdx.x / WARP_LEN * QUADS + quad) * WARP_LEN + threadIdx.x % WARP_LEN] =
                Quad{from[0], from[1], from[2], from[3]};
        }
        __syncthreads();
        if (threadIdx.x >= QUADS * WARP_LEN) return;

        Sum total[4] = {};
        for (unsigned i = 0; i < WARPS; ++i) {
            const Quad part = of_warps[i * QUADS * WARP_LEN + threadIdx.x];
            total[0] += part.x;
            total[1] += part.y;
            total[2] += part.z;
            total[3] += part.w;
        }
        float *const logits = global<float>(p.logits + batch->result * p.result_bytes);
        const unsigned lane = threadIdx.x % WARP_LEN, quad = threadIdx.x / WARP_LEN;
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const uint32_t row = quad / COLUMN_GROUPS * ROWS + lane / 4 + i / 2 * 8;
            const uint32_t column = quad % COLUMN_GROUPS * COLUMNS + lane % 4 * 2 + i % 2;
            const uint32_t index = first_class() + (CLASSES_ARE_ROWS ? row : column);
            const uint32_t image = first_image() + (CLASSES_ARE_ROWS ? column : row);
            if (image < image_end && index < p.classes)
                logits[static_cast<uint64_t>(image) * p.classes + index] = logit(total[i], index);
        }
    }
};

} // namespace twinstream

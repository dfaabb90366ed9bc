// The last layer of 8-bit integers: logits = weights * features, scaled, + bias (launch.h:
// twinstream_fully_connected_params).
//
// As fully_connected.cu has it, but for what is a row: images are the rows of the matrix
// instruction (A, unsigned) and classes its columns (B, signed). A block computes 16 classes of up
// to 32 images; its eight warps take turns at blocks of 64 channels. A lane reads 16 consecutive
// bytes of a row and uses them as the operands of two instructions.

#include "common.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/mma.cuh"
#include "ptx/pdl.cuh"

namespace twinstream::kernels {

namespace {

constexpr unsigned CLASSES = TWINSTREAM_FULLY_CONNECTED_CLASSES;
constexpr unsigned IMAGES = TWINSTREAM_FULLY_CONNECTED_IMAGES;
constexpr unsigned THREADS = TWINSTREAM_FULLY_CONNECTED_I8_THREADS;
constexpr unsigned WARPS = THREADS / WARP_LEN;
// Rows and columns of a matrix instruction, and how many of either a block has.
constexpr unsigned ROWS = 16, ROW_GROUPS = IMAGES / ROWS;
constexpr unsigned COLUMNS = 8, COLUMN_GROUPS = CLASSES / COLUMNS;
constexpr unsigned QUADS = ROW_GROUPS * COLUMN_GROUPS;
// Channels that a warp reads at a time.
constexpr unsigned STEP = 4 * CHUNK_BYTES;

static_assert(TWINSTREAM_FULLY_CONNECTED_I8_SHARED_BYTES ==
                  WARPS * QUADS * WARP_LEN * 4 * sizeof(int32_t),
              "launch.h must state the shared memory");

using Sums = int32_t[ROW_GROUPS][COLUMN_GROUPS][4];

// Sixteen bytes of row `row`, or zeros from row_end on.
TWINSTREAM_DEVICE uint4 read_row(const unsigned char *rows, uint32_t row, uint32_t row_end,
                                 uint32_t channels, uint32_t channel) {
    if (row >= row_end) return make_uint4(0, 0, 0, 0);
    return *reinterpret_cast<const uint4 *>(rows + static_cast<uint64_t>(row) * channels + channel);
}

// Sends for the block's weights.
TWINSTREAM_DEVICE void prefetch_weights(const twinstream_fully_connected_params &p) {
    constexpr unsigned LINE_BYTES = 128;
    const uint32_t lines = ceil_divide(p.channels, LINE_BYTES);
    const unsigned char *const weights = global<const unsigned char>(p.weights);
    for (uint32_t i = threadIdx.x; i < CLASSES * lines; i += THREADS) {
        const uint32_t row = blockIdx.x * CLASSES + i / lines;
        if (row < p.classes)
            ptx::prefetch_to_l2(weights + static_cast<uint64_t>(row) * p.channels +
                                i % lines * LINE_BYTES);
    }
}

// A warp's share of K.
TWINSTREAM_DEVICE void mainloop(Sums &sums, const twinstream_fully_connected_params &p,
                                uint32_t first_image, uint32_t image_end) {
    const unsigned lane = threadIdx.x % WARP_LEN, row = lane / 4;
    const uint32_t first_class = blockIdx.x * CLASSES;
    const unsigned char *const weights = global<const unsigned char>(p.weights);
    const unsigned char *const input = global<const unsigned char>(p.input);
    for (uint32_t channel = threadIdx.x / WARP_LEN * STEP + lane % 4 * CHUNK_BYTES;
         channel < p.channels; channel += WARPS * STEP) {
        uint4 classes[COLUMN_GROUPS];
        TWINSTREAM_UNROLL
        for (unsigned j = 0; j < COLUMN_GROUPS; ++j)
            classes[j] =
                read_row(weights, first_class + j * COLUMNS + row, p.classes, p.channels, channel);
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < ROW_GROUPS; ++i) {
            const uint32_t image = first_image + i * ROWS + row;
            const uint4 upper = read_row(input, image, image_end, p.channels, channel);
            const uint4 lower = read_row(input, image + 8, image_end, p.channels, channel);
            const uint32_t first[4] = {upper.x, lower.x, upper.y, lower.y};
            const uint32_t second[4] = {upper.z, lower.z, upper.w, lower.w};
            TWINSTREAM_UNROLL
            for (unsigned j = 0; j < COLUMN_GROUPS; ++j) {
                ptx::mma_m16n8k32(sums[i][j], first, classes[j].x, classes[j].y);
                ptx::mma_m16n8k32(sums[i][j], second, classes[j].z, classes[j].w);
            }
        }
    }
}

} // namespace

TWINSTREAM_KERNEL(fully_connected_i8, twinstream_fully_connected_params, THREADS, 2) {
    TWINSTREAM_SHARED(shared);
    int4 *const of_warps = reinterpret_cast<int4 *>(shared);
    const twinstream_batch *const batch = global<const twinstream_batch>(p.batch);
    const uint32_t first_image = blockIdx.y * IMAGES;
    prefetch_weights(p);
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    const uint32_t image_end = batch->len;
    if (first_image >= image_end) return;
    Sums sums = {};
    mainloop(sums, p, first_image, image_end);
    TWINSTREAM_UNROLL
    for (unsigned quad = 0; quad < QUADS; ++quad) {
        const int32_t (&from)[4] = sums[quad / COLUMN_GROUPS][quad % COLUMN_GROUPS];
        of_warps[(threadIdx.x / WARP_LEN * QUADS + quad) * WARP_LEN + threadIdx.x % WARP_LEN] =
            make_int4(from[0], from[1], from[2], from[3]);
    }
    __syncthreads();
    if (threadIdx.x >= QUADS * WARP_LEN) return;

    int32_t total[4] = {};
    for (unsigned i = 0; i < WARPS; ++i) {
        const int4 part = of_warps[i * QUADS * WARP_LEN + threadIdx.x];
        total[0] += part.x;
        total[1] += part.y;
        total[2] += part.z;
        total[3] += part.w;
    }
    float *const logits = global<float>(p.logits + batch->result * p.result_bytes);
    const float *const bias = global<const float>(p.bias);
    const unsigned lane = threadIdx.x % WARP_LEN, quad = threadIdx.x / WARP_LEN;
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < 4; ++i) {
        const uint32_t image = first_image + quad / COLUMN_GROUPS * ROWS + lane / 4 + i / 2 * 8;
        const uint32_t index =
            blockIdx.x * CLASSES + quad % COLUMN_GROUPS * COLUMNS + lane % 4 * 2 + i % 2;
        if (image < image_end && index < p.classes)
            logits[static_cast<uint64_t>(image) * p.classes + index] =
                __fmaf_rn(static_cast<float>(total[i]), bias[p.classes + index], bias[index]);
    }
}

} // namespace twinstream::kernels

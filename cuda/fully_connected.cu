// The last layer: logits = weights * features + bias (launch.h: twinstream_fully_connected_params).
//
// A block computes 16 classes of up to 32 images; its eight warps take turns at blocks of 32
// channels and add up their accumulators at the end. Classes are the rows of the matrix instruction
// (A) and images its columns (B), eight at a time. Nothing passes through shared memory before: a
// sum may run over K in any order that A and B share, so a lane reads 16 consecutive bytes of a row
// and uses them as the four pairs of values of two instructions. Images beyond the batch are
// multiplied as zeros: what takes time at small batches is waiting for weights, and those are
// fetched into L2 while the kernel ahead still runs.

#include "common.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/mma.cuh"
#include "ptx/pdl.cuh"

namespace twinstream::kernels {

namespace {

constexpr unsigned CLASSES = TWINSTREAM_FULLY_CONNECTED_CLASSES;
constexpr unsigned IMAGES = TWINSTREAM_FULLY_CONNECTED_IMAGES;
constexpr unsigned THREADS = TWINSTREAM_FULLY_CONNECTED_THREADS;
constexpr unsigned WARPS = THREADS / WARP_LEN;
// Images of one matrix instruction.
constexpr unsigned GROUP = 8;
constexpr unsigned GROUPS = IMAGES / GROUP;
// Channels that a warp reads at a time.
constexpr unsigned STEP = 4 * CHUNK_LEN;

static_assert(CLASSES == 16, "a matrix instruction has 16 rows");
static_assert(TWINSTREAM_FULLY_CONNECTED_SHARED_BYTES ==
                  WARPS * GROUPS * WARP_LEN * 4 * sizeof(float),
              "launch.h must state the shared memory");

// Sixteen bytes of row `row`, or zeros from row_end on.
TWINSTREAM_DEVICE uint4 read_row(const f16 *rows, uint32_t row, uint32_t row_end, uint32_t channels,
                                 uint32_t channel) {
    if (row >= row_end) return make_uint4(0, 0, 0, 0);
    return *reinterpret_cast<const uint4 *>(rows + static_cast<uint64_t>(row) * channels + channel);
}

// Sends for the block's weights.
TWINSTREAM_DEVICE void prefetch_weights(const twinstream_fully_connected_params &p) {
    constexpr unsigned LINE_LEN = 64;
    const uint32_t lines = p.channels / LINE_LEN;
    const f16 *const weights = global<const f16>(p.weights);
    for (uint32_t i = threadIdx.x; i < CLASSES * lines; i += THREADS) {
        const uint32_t row = blockIdx.x * CLASSES + i / lines;
        if (row < p.classes)
            ptx::prefetch_to_l2(weights + static_cast<uint64_t>(row) * p.channels +
                                i % lines * LINE_LEN);
    }
}

// A warp's share of K.
TWINSTREAM_DEVICE void mainloop(float (&accumulators)[GROUPS][4],
                                const twinstream_fully_connected_params &p, uint32_t first_image,
                                uint32_t image_end) {
    const unsigned lane = threadIdx.x % WARP_LEN, row = lane / 4;
    const uint32_t first_class = blockIdx.x * CLASSES;
    const f16 *const weights = global<const f16>(p.weights);
    const f16 *const input = global<const f16>(p.input);
    for (uint32_t channel = threadIdx.x / WARP_LEN * STEP + lane % 4 * CHUNK_LEN;
         channel < p.channels; channel += WARPS * STEP) {
        uint4 images[GROUPS];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < GROUPS; ++i)
            images[i] =
                read_row(input, first_image + i * GROUP + row, image_end, p.channels, channel);
        const uint4 upper = read_row(weights, first_class + row, p.classes, p.channels, channel);
        const uint4 lower =
            read_row(weights, first_class + 8 + row, p.classes, p.channels, channel);
        const uint32_t first[4] = {upper.x, lower.x, upper.y, lower.y};
        const uint32_t second[4] = {upper.z, lower.z, upper.w, lower.w};
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < GROUPS; ++i) {
            ptx::mma_m16n8k16(accumulators[i], first, images[i].x, images[i].y);
            ptx::mma_m16n8k16(accumulators[i], second, images[i].z, images[i].w);
        }
    }
}

} // namespace

TWINSTREAM_KERNEL(fully_connected, twinstream_fully_connected_params, THREADS, 2) {
    TWINSTREAM_SHARED(shared);
    float4 *const of_warps = reinterpret_cast<float4 *>(shared);
    const twinstream_batch *const batch = global<const twinstream_batch>(p.batch);
    const uint32_t first_image = blockIdx.y * IMAGES;
    prefetch_weights(p);
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    const uint32_t image_end = batch->len;
    if (first_image >= image_end) return;
    float accumulators[GROUPS][4] = {};
    mainloop(accumulators, p, first_image, image_end);
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < GROUPS; ++i)
        of_warps[(threadIdx.x / WARP_LEN * GROUPS + i) * WARP_LEN + threadIdx.x % WARP_LEN] =
            make_float4(accumulators[i][0], accumulators[i][1], accumulators[i][2],
                        accumulators[i][3]);
    __syncthreads();
    if (threadIdx.x >= GROUPS * WARP_LEN) return;

    float total[4] = {};
    for (unsigned i = 0; i < WARPS; ++i) {
        const float4 part = of_warps[i * GROUPS * WARP_LEN + threadIdx.x];
        total[0] += part.x;
        total[1] += part.y;
        total[2] += part.z;
        total[3] += part.w;
    }
    float *const logits = global<float>(p.logits + batch->result * p.result_bytes);
    const unsigned lane = threadIdx.x % WARP_LEN;
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < 4; ++i) {
        const uint32_t image = first_image + threadIdx.x / WARP_LEN * GROUP + lane % 4 * 2 + i % 2;
        const uint32_t index = blockIdx.x * CLASSES + lane / 4 + i / 2 * 8;
        if (image < image_end && index < p.classes)
            logits[static_cast<uint64_t>(image) * p.classes + index] =
                total[i] + global<const float>(p.bias)[index];
    }
}

} // namespace twinstream::kernels

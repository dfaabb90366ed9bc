// The k best classes of each image with their shares of the softmax (launch.h:
// twinstream_top_k_params).
//
// A block takes one image and makes a pass over its logits for each of the k classes: the best one
// below the one before. Logit and index form one 64-bit key, so that "best" is a plain maximum:
// NaN first, then larger logits in IEEE's total order, then lower indices.

#include "common.cuh"
#include "ptx/pdl.cuh"

namespace twinstream::kernels {

namespace {

constexpr unsigned THREADS = TWINSTREAM_TOP_K_THREADS;
constexpr unsigned WARPS = THREADS / WARP_LEN;

static_assert(TWINSTREAM_TOP_K_SHARED_BYTES == WARPS * sizeof(uint64_t),
              "launch.h must state the shared memory");

TWINSTREAM_DEVICE uint64_t key_of(float logit, uint32_t index) {
    // Whatever its sign and payload, which the devices choose: one above infinity.
    const uint32_t bits = logit != logit ? 0x7f800001 : __float_as_uint(logit);
    const uint32_t order = bits >> 31 ? ~bits : bits | 1u << 31;
    return static_cast<uint64_t>(order) << 32 | ~index;
}

TWINSTREAM_DEVICE uint32_t index_of(uint64_t key) { return ~static_cast<uint32_t>(key); }

TWINSTREAM_DEVICE uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

// The largest of the block's values, for every thread.
TWINSTREAM_DEVICE uint64_t largest_of_block(uint64_t value, uint64_t *of_warps) {
    TWINSTREAM_UNROLL
    for (unsigned lanes = 1; lanes < WARP_LEN; lanes *= 2) {
        const uint32_t low = __shfl_xor_sync(~0u, static_cast<uint32_t>(value), lanes);
        const uint32_t high = __shfl_xor_sync(~0u, static_cast<uint32_t>(value >> 32), lanes);
        value = larger(value, static_cast<uint64_t>(high) << 32 | low);
    }
    // Nobody may still be reading what the call before left here.
    __syncthreads();
    if (threadIdx.x % WARP_LEN == 0) of_warps[threadIdx.x / WARP_LEN] = value;
    __syncthreads();
    value = of_warps[0];
    TWINSTREAM_UNROLL
    for (unsigned i = 1; i < WARPS; ++i) value = larger(value, of_warps[i]);
    return value;
}

// The sum over the block's values, for every thread, in a fixed order.
TWINSTREAM_DEVICE float sum_of_block(float value, float *of_warps) {
    TWINSTREAM_UNROLL
    for (unsigned lanes = 1; lanes < WARP_LEN; lanes *= 2)
        value += __shfl_xor_sync(~0u, value, lanes);
    __syncthreads();
    if (threadIdx.x % WARP_LEN == 0) of_warps[threadIdx.x / WARP_LEN] = value;
    __syncthreads();
    value = 0.0f;
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < WARPS; ++i) value += of_warps[i];
    return value;
}

} // namespace

TWINSTREAM_KERNEL(top_k, twinstream_top_k_params, THREADS, 4) {
    TWINSTREAM_SHARED(shared);
    const twinstream_batch *const batch = global<const twinstream_batch>(p.batch);
    const uint32_t image = blockIdx.x;
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    if (image >= batch->len) return;
    const float *const logits =
        global<const float>(p.logits + batch->result * p.logits_result_bytes) +
        static_cast<uint64_t>(image) * p.classes;
    twinstream_class *const best =
        global<twinstream_class>(p.best + batch->result * p.best_result_bytes) +
        static_cast<uint64_t>(image) * p.k;

    uint64_t before = ~uint64_t{0};
    float largest = 0.0f, sum = 1.0f;
    for (uint32_t rank = 0; rank < p.k; ++rank) {
        uint64_t key = 0;
        for (uint32_t i = threadIdx.x; i < p.classes; i += THREADS) {
            const uint64_t other = key_of(logits[i], i);
            if (other < before) key = larger(key, other);
        }
        before = largest_of_block(key, reinterpret_cast<uint64_t *>(shared));
        const float logit = logits[index_of(before)];
        if (rank == 0) {
            largest = logit;
            sum = 0.0f;
            for (uint32_t i = threadIdx.x; i < p.classes; i += THREADS)
                sum += expf(logits[i] - largest);
            sum = sum_of_block(sum, reinterpret_cast<float *>(shared));
        }
        if (threadIdx.x == 0)
            best[rank] = {static_cast<float>(index_of(before)), expf(logit - largest) / sum};
    }
}

} // namespace twinstream::kernels

// Mean over all pixels of an image (launch.h: twinstream_average_pool_params).
//
// A block takes 64 channels of one image: eight threads read the 128 bytes of a pixel, 32 such
// groups take turns at the pixels. Sums are f32, in a fixed order.

#include "common.cuh"
#include "ptx/mma.cuh"
#include "ptx/pdl.cuh"

namespace twinstream::kernels {

namespace {

constexpr unsigned CHANNELS = 64;
constexpr unsigned GROUP = CHANNELS / CHUNK_LEN;
constexpr unsigned THREADS = TWINSTREAM_AVERAGE_POOL_THREADS;
constexpr unsigned WARPS = THREADS / WARP_LEN;

static_assert(TWINSTREAM_AVERAGE_POOL_SHARED_BYTES == WARPS * CHANNELS * sizeof(float),
              "launch.h must state the shared memory");

TWINSTREAM_DEVICE void add(float (&sums)[CHUNK_LEN], const uint4 &chunk) {
    const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < CHUNK_LEN; ++i) sums[i] += ptx::unpack_f16(words[i / 2] >> i % 2 * 16);
}

} // namespace

TWINSTREAM_KERNEL(average_pool, twinstream_average_pool_params, THREADS, 4) {
    TWINSTREAM_SHARED(shared);
    float *const of_warps = reinterpret_cast<float *>(shared);
    const uint32_t image = blockIdx.y, first_channel = blockIdx.x * CHANNELS;
    const unsigned lane = threadIdx.x % WARP_LEN, warp = threadIdx.x / WARP_LEN;
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    if (image >= global<const twinstream_batch>(p.batch)->len) return;

    const f16 *const input = global<const f16>(p.input) +
                             static_cast<uint64_t>(image) * p.pixels * p.channels + first_channel +
                             threadIdx.x % GROUP * CHUNK_LEN;
    float sums[CHUNK_LEN] = {};
    for (uint32_t pixel = threadIdx.x / GROUP; pixel < p.pixels; pixel += THREADS / GROUP)
        add(sums,
            *reinterpret_cast<const uint4 *>(input + static_cast<uint64_t>(pixel) * p.channels));
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < CHUNK_LEN; ++i) {
        sums[i] += __shfl_xor_sync(~0u, sums[i], GROUP);
        sums[i] += __shfl_xor_sync(~0u, sums[i], 2 * GROUP);
        if (lane < GROUP) of_warps[warp * CHANNELS + lane * CHUNK_LEN + i] = sums[i];
    }
    __syncthreads();
    if (threadIdx.x >= CHANNELS / 2) return;
    float low = 0.0f, high = 0.0f;
    for (unsigned i = 0; i < WARPS; ++i) {
        low += of_warps[i * CHANNELS + 2 * threadIdx.x];
        high += of_warps[i * CHANNELS + 2 * threadIdx.x + 1];
    }
    const float share = 1.0f / static_cast<float>(p.pixels);
    uint32_t *const output = global<uint32_t>(p.output);
    output[(static_cast<uint64_t>(image) * p.channels + first_channel) / 2 + threadIdx.x] =
        ptx::pack_f16x2(low * share, high * share);
}

} // namespace twinstream::kernels

// Mean over all pixels of an image of 8-bit integers (launch.h: twinstream_average_pool_params).
//
// A block takes 64 channels of one image: a thread adds up four channels, 16 such read the 64 bytes
// of a pixel, and 16 of these groups take turns at the pixels. Sums are exact.

#include "common.cuh"
#include "ptx/pdl.cuh"

namespace twinstream::kernels {

namespace {

constexpr unsigned CHANNELS = 64;
// Channels of a word, and threads that share a pixel.
constexpr unsigned WORD = 4;
constexpr unsigned GROUP = CHANNELS / WORD;
constexpr unsigned THREADS = TWINSTREAM_AVERAGE_POOL_I8_THREADS;
constexpr unsigned GROUPS = THREADS / GROUP;

static_assert(TWINSTREAM_AVERAGE_POOL_I8_SHARED_BYTES == GROUPS * CHANNELS * sizeof(uint32_t),
              "launch.h must state the shared memory");

} // namespace

TWINSTREAM_KERNEL(average_pool_i8, twinstream_average_pool_params, THREADS, 4) {
    TWINSTREAM_SHARED(shared);
    uint32_t *const of_groups = reinterpret_cast<uint32_t *>(shared);
    const uint32_t image = blockIdx.y, word = threadIdx.x % GROUP, group = threadIdx.x / GROUP;
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    if (image >= global<const twinstream_batch>(p.batch)->len) return;

    const uint32_t words = p.channels / WORD, first_word = blockIdx.x * GROUP + word;
    const uint32_t *const input = global<const uint32_t>(p.input) +
                                  static_cast<uint64_t>(image) * p.pixels * words + first_word;
    uint32_t sums[WORD] = {};
    for (uint32_t pixel = group; pixel < p.pixels; pixel += GROUPS) {
        const uint32_t values = input[static_cast<uint64_t>(pixel) * words];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < WORD; ++i) sums[i] += values >> 8 * i & 0xff;
    }
    *reinterpret_cast<uint4 *>(of_groups + threadIdx.x * WORD) =
        make_uint4(sums[0], sums[1], sums[2], sums[3]);
    __syncthreads();
    if (group != 0) return;
    const float multiplier = *global<const float>(p.multiplier);
    uint32_t means = 0;
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < WORD; ++i) {
        uint32_t sum = 0;
        for (unsigned other = 0; other < GROUPS; ++other)
            sum += of_groups[(other * GROUP + word) * WORD + i];
        means |= round_to_u8(static_cast<float>(sum) * multiplier) << 8 * i;
    }
    global<uint32_t>(p.output)[static_cast<uint64_t>(image) * words + first_word] = means;
}

} // namespace twinstream::kernels

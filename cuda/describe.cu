// The first kernel of a batch: fetches the description from the host (launch.h:
// twinstream_describe_params).
//
// A copy would do the same, but copies of one direction take turns, and the images of the next
// batch may be under way: computing would wait for megabytes.

#include "common.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/pdl.cuh"

namespace twinstream::kernels {

namespace {

constexpr unsigned THREADS = TWINSTREAM_DESCRIBE_THREADS;
constexpr unsigned WORDS = sizeof(twinstream_batch) / sizeof(uint32_t);

static_assert(WORDS <= THREADS, "a thread fetches one word");

} // namespace

TWINSTREAM_KERNEL(describe, twinstream_describe_params, THREADS, 1) {
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    const unsigned word = blockIdx.x * WORDS + threadIdx.x;
    if (threadIdx.x < WORDS)
        global<uint32_t>(p.batch)[word] =
            ptx::load_past_l1(global<const uint32_t>(p.source) + word);
}

} // namespace twinstream::kernels

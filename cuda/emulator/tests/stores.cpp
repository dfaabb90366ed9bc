// Plain stores of kernels, which the emulated device knows of where the compiler tells it (see
// accesses.cpp): to shared memory before a copy out of it or a product, to device memory before
// another block's copy. Argument: what is left out, or `none`.

#include <cstring>

#include "../../ptx/barrier.cuh"
#include "../../ptx/bulk.cuh"
#include "../../ptx/ld_st.cuh"
#include "../../ptx/wgmma.cuh"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
namespace ptx = twinstream::ptx;

constexpr std::uint32_t shared_bytes = 16 + 128 * 32;

struct Params {
    std::uint32_t *memory; // 128 words, then as many
    std::uint32_t *counter;
    const char *left_out;

    bool has(const char *part) const { return std::strcmp(left_out, part) != 0; }
};

// Every thread stores 32 bytes, which one copies and all multiply.
void copy_and_multiply(const Params &p) {
    auto *const own =
        reinterpret_cast<std::uint32_t *>(emulator::shared_memory() + 16) + threadIdx.x * 8;
    for (std::uint32_t i = 0; i < 8; ++i) own[i] = 0;
    // By the writers, not by the one who copies.
    if (p.has("shared") || threadIdx.x == 0) ptx::fence_proxy_async_shared();
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::store_bulk(p.memory, 16, 128);
        ptx::bulk_commit();
        ptx::bulk_wait<0>();
    }
    if (p.has("product")) return;
    own[0] = 1;
    __syncthreads();
    float sums[4];
    const std::uint64_t rows = ptx::describe_operand(16, ptx::OperandLayout::plain, 128, 256);
    ptx::wgmma_fence();
    ptx::wgmma_f16(sums, rows, rows, false);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
}

// Block 0 stores words that block 1 copies.
void hand_over(const Params &p) {
    if (blockIdx.x == 0) {
        p.memory[threadIdx.x] = threadIdx.x;
        if (p.has("global")) ptx::fence_proxy_async_global();
        __syncthreads();
        if (threadIdx.x == 0) ptx::add_release(p.counter, 1);
    } else if (threadIdx.x == 0) {
        ptx::barrier_init(0, 1);
        ptx::fence_barrier_init();
        while (ptx::load_acquire(p.counter) == 0) ptx::sleep_ns(20);
        if (p.has("reader")) ptx::fence_proxy_async_global();
        ptx::barrier_arrive_expect(0, 128);
        ptx::copy_bulk(16, p.memory, 128, 0);
        ptx::barrier_wait(0, 0);
    }
}

} // namespace

int main(int arguments_len, char **arguments) {
    CHECK(arguments_len == 2);
    alignas(16) static std::uint32_t memory[32];
    std::uint32_t counter = 0;
    const With with(0, 1);
    const Params params{memory, &counter, arguments[1]};
    std::string error = run<copy_and_multiply>(1, 128, shared_bytes, params);
    if (error.empty()) error = run<hand_over>(2, 32, shared_bytes, params);
    if (!error.empty()) std::puts(error.c_str());
    return error.empty() ? 0 : 1;
}

// How fast blocks fill shared memory from the L2 cache, by 16-byte copies (what the kernels
// use) and by bulk copies (what the Hopper path would).
//
// Every block reads the whole of a buffer that fits L2, from a place of its own, in pieces of 16
// KiB with three on their way. docs/KERNELS.md assumes 5.5 TB/s for all blocks of an H100 together.

#include <cuda/ptx>

#include "../ptx/ld_st.cuh"
#include "probe.hpp"

namespace twinstream::probes {

namespace {

constexpr unsigned PIECE_BYTES = 16384;
constexpr unsigned STAGES = 4;
constexpr unsigned THREADS = 128;
constexpr unsigned PIECES = 512;
constexpr unsigned SHARED_BYTES = STAGES * PIECE_BYTES;
// 16 MiB: well within 40 to 50 MB of L2.
constexpr unsigned BUFFER_PIECES = 1024;

__device__ const unsigned char *piece(const unsigned char *buffer, unsigned index) {
    return buffer + size_t{(blockIdx.x * 37 + index) % BUFFER_PIECES} * PIECE_BYTES;
}

__global__ void by_chunks(const unsigned char *buffer, uint32_t *result) {
    TWINSTREAM_SHARED(shared);
    const uint32_t first = ptx::shared_address(shared) + threadIdx.x * CHUNK_BYTES;
    const auto copy = [&](unsigned index) {
        if (index < PIECES)
            for (unsigned i = 0; i < PIECE_BYTES; i += THREADS * CHUNK_BYTES)
                ptx::cp_async_16(first + index % STAGES * PIECE_BYTES + i,
                                 piece(buffer, index) + threadIdx.x * CHUNK_BYTES + i, CHUNK_BYTES);
        ptx::cp_async_commit();
    };
    for (unsigned i = 0; i < STAGES - 1; ++i) copy(i);
    for (unsigned i = 0; i < PIECES; ++i) {
        ptx::cp_async_wait<STAGES - 2>();
        __syncthreads();
        copy(i + STAGES - 1);
    }
    ptx::cp_async_wait<0>();
    if (threadIdx.x == 0) result[blockIdx.x] = shared[0];
}

__global__ void by_bulk(const unsigned char *buffer, uint32_t *result) {
#if __CUDA_ARCH__ >= 900
    TWINSTREAM_SHARED(shared);
    __shared__ uint64_t arrived[STAGES];
    if (threadIdx.x == 0) {
        for (unsigned i = 0; i < STAGES; ++i) cuda::ptx::mbarrier_init(&arrived[i], 1);
        cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
    }
    __syncthreads();
    const auto copy = [&](unsigned index) {
        if (index >= PIECES || threadIdx.x != 0) return;
        // The two calls take it by reference, and a constant of the file has no place on the
        // device.
        const uint32_t bytes = PIECE_BYTES;
        uint64_t *const barrier = &arrived[index % STAGES];
        cuda::ptx::cp_async_bulk(cuda::ptx::space_shared, cuda::ptx::space_global,
                                 shared + index % STAGES * PIECE_BYTES, piece(buffer, index), bytes,
                                 barrier);
        cuda::ptx::mbarrier_arrive_expect_tx(cuda::ptx::sem_release, cuda::ptx::scope_cta,
                                             cuda::ptx::space_shared, barrier, bytes);
    };
    for (unsigned i = 0; i < STAGES - 1; ++i) copy(i);
    for (unsigned i = 0; i < PIECES; ++i) {
        while (!cuda::ptx::mbarrier_try_wait_parity(&arrived[i % STAGES], i / STAGES % 2)) {
        }
        __syncthreads();
        copy(i + STAGES - 1);
    }
    if (threadIdx.x == 0) result[blockIdx.x] = shared[0];
#endif
}

void measure(const char *way, void (*kernel)(const unsigned char *, uint32_t *),
             const unsigned char *buffer, uint32_t *result, unsigned blocks) {
    TWINSTREAM_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES));
    Timer timer;
    const double ns = median(21, [&] {
        return timer.ns(nullptr, [&] {
            kernel<<<blocks, THREADS, SHARED_BYTES>>>(buffer, result);
            TWINSTREAM_CHECK(cudaGetLastError());
        });
    });
    const double bytes = static_cast<double>(blocks) * PIECES * PIECE_BYTES;
    std::printf(
        "{\"probe\": \"shared_fill\", \"way\": \"%s\", \"blocks\": %u, \"tb_per_s\": %.2f}\n", way,
        blocks, bytes / ns / 1e3);
}

void run() {
    const cudaDeviceProp properties = device();
    unsigned char *buffer;
    uint32_t *result;
    TWINSTREAM_CHECK(cudaMalloc(&buffer, size_t{BUFFER_PIECES} * PIECE_BYTES));
    TWINSTREAM_CHECK(cudaMemset(buffer, 1, size_t{BUFFER_PIECES} * PIECE_BYTES));
    const unsigned multiprocessors = static_cast<unsigned>(properties.multiProcessorCount);
    TWINSTREAM_CHECK(cudaMalloc(&result, 3 * multiprocessors * sizeof *result));
    for (unsigned each = 1; each <= 3; ++each) {
        measure("chunks", by_chunks, buffer, result, each * multiprocessors);
        if (properties.major >= 9) measure("bulk", by_bulk, buffer, result, each * multiprocessors);
    }
}

} // namespace

} // namespace twinstream::probes

int main() { twinstream::probes::run(); }

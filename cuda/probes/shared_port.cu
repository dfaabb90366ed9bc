// Whether reads of shared memory and the copy engine's writes to it share one port of 128 bytes a
// clock.
//
// Decides what tiles on wgmma are bound by: their operands are read while the next ones arrive.
// Eight warps read a block's shared memory, by loads, or two warpgroups by wgmma with as few
// columns as there are, which takes more reads than products; alone, and while one lane has bulk
// copies of L2 arrive. The share of the bytes written that take the reads' time is 0 where there
// are two ports and 1 where there is one; half is assumed.

#include <cstdint>

#include "../ptx/barrier.cuh"
#include "../ptx/bulk.cuh"
#include "../ptx/ld_st.cuh"
#include "../ptx/wgmma.cuh"
#include "probe.hpp"

namespace twinstream::probes {

namespace {

constexpr unsigned READERS = 256;
constexpr unsigned THREADS = READERS + WARP_LEN;
constexpr unsigned STAGES = 8;
constexpr unsigned PIECE_BYTES = 8192;
// What is read, apart from what is written: 16 KiB of rows in the swizzle, and a pattern's slack.
constexpr unsigned READ_BYTES = 16384;
constexpr unsigned SHARED_BYTES = READ_BYTES + STAGES * PIECE_BYTES;
// Well within L2, the same for all blocks.
constexpr unsigned BUFFER_PIECES = 512;
constexpr unsigned STEPS = 4096;
// Loads of a step and warp; products of a step and warpgroup.
constexpr unsigned LOADS = 8;
constexpr unsigned PRODUCTS = 4;
constexpr unsigned PORT_BYTES_CLK = 128;

enum Reads : unsigned {
    NONE,
    LOADING,
    MULTIPLYING,
    READS_LEN
};
constexpr const char *READS_NAMES[READS_LEN] = {"none", "loads", "wgmma"};

struct Result {
    long long clocks;
    unsigned long long written_bytes;
};

// Bytes that all readers of a block read.
double read_bytes(Reads reads) {
    if (reads == LOADING) return double{STEPS} * LOADS * READERS * sizeof(uint4);
    // Of a product A's 64 rows and B's 8, of 32 bytes.
    return reads == MULTIPLYING ? double{STEPS} * PRODUCTS * 2 * (64 + 8) * 32 : 0.0;
}

[[maybe_unused]] __device__ void load(uint32_t region, uint32_t *result) {
    uint32_t sum = 0;
    const uint32_t first = region + threadIdx.x % WARP_LEN * sizeof(uint4);
    for (unsigned step = 0; step < STEPS; ++step) {
        uint32_t x[LOADS], y[LOADS], z[LOADS], w[LOADS];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < LOADS; ++i)
            asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(x[i]), "=r"(y[i]), "=r"(z[i]), "=r"(w[i])
                         : "r"(first + i * WARP_LEN * static_cast<uint32_t>(sizeof(uint4))));
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < LOADS; ++i) sum ^= x[i] ^ y[i] ^ z[i] ^ w[i];
    }
    // A use of what was read, which is no such number.
    if (sum == 0x12345678) *result = sum;
}

[[maybe_unused]] __device__ void multiply(uint32_t region, uint32_t *result) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    float sum[4] = {};
    const uint64_t rows = ptx::describe_rows_128(region + threadIdx.x / 128 * READ_BYTES / 2);
    ptx::wgmma_settle(sum);
    TWINSTREAM_ROLL
    for (unsigned step = 0; step < STEPS; ++step) {
        ptx::wgmma_fence();
        TWINSTREAM_UNROLL
        for (unsigned k = 0; k < PRODUCTS; ++k)
            ptx::wgmma_f16(sum, rows + 2 * k, rows + 2 * k, true);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(sum);
    if (sum[0] == 1.0f) *result = 1;
#endif
}

// One lane: copies until the readers are done, and waits for all of them.
[[maybe_unused]] __device__ unsigned long long
write(const unsigned char *buffer, uint32_t stages, uint32_t barriers, volatile unsigned *is_done) {
#if __CUDA_ARCH__ >= 900
    unsigned issued = 0, arrived = 0;
    bool goes_on = true;
    while (goes_on || arrived < issued) {
        goes_on = goes_on && !*is_done;
        if (goes_on && issued - arrived < STAGES) {
            const uint32_t barrier = barriers + issued % STAGES * 8;
            ptx::barrier_arrive_expect(barrier, PIECE_BYTES);
            ptx::copy_bulk(stages + issued % STAGES * PIECE_BYTES,
                           buffer + (blockIdx.x * 37 + issued) % BUFFER_PIECES * PIECE_BYTES,
                           PIECE_BYTES, barrier);
            ++issued;
        } else if (arrived < issued) {
            ptx::barrier_wait(barriers + arrived % STAGES * 8, arrived / STAGES % 2);
            ++arrived;
        }
    }
    return static_cast<unsigned long long>(arrived) * PIECE_BYTES;
#else
    return 0;
#endif
}

template <Reads READS>
__global__ void __launch_bounds__(THREADS)
    read_and_write(const unsigned char *buffer, bool writes, Result *results, uint32_t *unused) {
#if __CUDA_ARCH__ >= 900
    TWINSTREAM_SHARED(shared);
    __shared__ uint64_t barriers[STAGES];
    __shared__ unsigned is_done;
    const uint32_t region = ptx::shared_address(shared);
    for (unsigned i = threadIdx.x; i < READ_BYTES / sizeof(uint4); i += THREADS)
        reinterpret_cast<uint4 *>(shared)[i] = uint4{};
    if (threadIdx.x == 0) {
        is_done = 0;
        for (unsigned i = 0; i < STAGES; ++i)
            ptx::barrier_init(ptx::shared_address(&barriers[i]), 1);
        ptx::fence_barrier_init();
    }
    ptx::fence_proxy_async_shared();
    __syncthreads();
    // Or the compiler does not know that whole warps part ways, and serialises the products.
    if (__shfl_sync(~0u, threadIdx.x / WARP_LEN, 0) == READERS / WARP_LEN) {
        if (threadIdx.x == READERS && writes)
            results[blockIdx.x].written_bytes =
                write(buffer, region + READ_BYTES, ptx::shared_address(barriers), &is_done);
        return;
    }
    // That copies alone go on for.
    constexpr long long ALONE_CLOCKS = 200000;
    const long long begin = clock64();
    if constexpr (READS == LOADING) load(region, unused);
    if constexpr (READS == MULTIPLYING) multiply(region, unused);
    while (READS == NONE && clock64() - begin < ALONE_CLOCKS) {
    }
    // All readers, not the lane that copies.
    ptx::barrier_sync(1, READERS);
    if (threadIdx.x == 0) {
        results[blockIdx.x].clocks = clock64() - begin;
        *static_cast<volatile unsigned *>(&is_done) = 1;
    }
#endif
}

// Of the blocks, one a multiprocessor, the means.
template <Reads READS>
Result measure(const unsigned char *buffer, bool writes, Result *on_device, uint32_t *unused,
               unsigned blocks) {
    TWINSTREAM_CHECK(cudaFuncSetAttribute(
        read_and_write<READS>, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES));
    TWINSTREAM_CHECK(cudaMemset(on_device, 0, blocks * sizeof(Result)));
    // Once to warm up.
    for (unsigned i = 0; i < 2; ++i)
        read_and_write<READS><<<blocks, THREADS, SHARED_BYTES>>>(buffer, writes, on_device, unused);
    TWINSTREAM_CHECK(cudaGetLastError());
    std::vector<Result> results(blocks);
    TWINSTREAM_CHECK(
        cudaMemcpy(results.data(), on_device, blocks * sizeof(Result), cudaMemcpyDeviceToHost));
    Result sum{};
    for (const Result &each : results) {
        sum.clocks += each.clocks;
        sum.written_bytes += each.written_bytes;
    }
    const Result mean{sum.clocks / blocks, sum.written_bytes / blocks};
    const double clocks = static_cast<double>(mean.clocks);
    std::printf("{\"probe\": \"shared_port\", \"reads\": \"%s\", \"writes\": %s, \"clocks\": %lld, "
                "\"read_bytes_clk\": %.1f, \"written_bytes_clk\": %.1f}\n",
                READS_NAMES[READS], writes ? "true" : "false", mean.clocks,
                read_bytes(READS) / clocks, static_cast<double>(mean.written_bytes) / clocks);
    return mean;
}

// Reads alone, then with writes beside them.
template <Reads READS>
void compare(const char *figure, const unsigned char *buffer, Result *on_device, uint32_t *unused,
             unsigned blocks) {
    const Result alone = measure<READS>(buffer, false, on_device, unused, blocks);
    const Result both = measure<READS>(buffer, true, on_device, unused, blocks);
    const double longer = static_cast<double>(both.clocks - alone.clocks) * PORT_BYTES_CLK;
    const double share = longer / static_cast<double>(both.written_bytes);
    print_figure("shared_port", figure, std::min(std::max(share, 0.0), 1.0), "of the bytes written",
                 "whether tiles on wgmma are bound by reads and writes of shared memory together");
}

void run() {
    const cudaDeviceProp properties = device();
    if (properties.major != 9) {
        std::printf("{\"probe\": \"shared_port\", "
                    "\"skipped\": \"needs compute capability 9.x\"}\n");
        return;
    }
    const unsigned blocks = static_cast<unsigned>(properties.multiProcessorCount);
    unsigned char *buffer;
    Result *results;
    uint32_t *unused;
    TWINSTREAM_CHECK(cudaMalloc(&buffer, BUFFER_PIECES * PIECE_BYTES));
    TWINSTREAM_CHECK(cudaMemset(buffer, 1, BUFFER_PIECES * PIECE_BYTES));
    TWINSTREAM_CHECK(cudaMalloc(&results, blocks * sizeof(Result)));
    TWINSTREAM_CHECK(cudaMalloc(&unused, sizeof *unused));
    measure<NONE>(buffer, true, results, unused, blocks);
    compare<LOADING>("write_share_of_loads", buffer, results, unused, blocks);
    compare<MULTIPLYING>("write_share", buffer, results, unused, blocks);
}

} // namespace

} // namespace twinstream::probes

int main() { twinstream::probes::run(); }

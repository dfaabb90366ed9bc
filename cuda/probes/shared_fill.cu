// How fast blocks fill shared memory from the L2 cache: by 16-byte copies, which the kernels on
// mma.sync use, by bulk copies, and by copies of pixels by im2col maps, which those on wgmma use.
//
// Every block reads 8 MiB of a working set, from a place of its own, in pieces of 16 KiB with three
// on their way. All blocks of an H100 together are taken to get 35.7 bytes a clock and
// multiprocessor (scripts/sass_model/device.py), and L2 to hold 36 MB at that rate. A piece of the
// im2col copies is 128 pixels of 64 channels, of a tensor of 14 x 14 pixels of 256.

#include "tensor_copy.cuh"

namespace twinstream::probes {

namespace {

constexpr unsigned PIECE_BYTES = 16384;
constexpr unsigned STAGES = 4;
constexpr unsigned THREADS = 128;
constexpr unsigned PIECES = 512;
// The swizzle of the maps repeats so.
constexpr unsigned ALIGNMENT = 1024;
constexpr unsigned SHARED_BYTES = STAGES * PIECE_BYTES + ALIGNMENT;
// In MiB; well within L2, at its edge, and beyond.
constexpr unsigned SETS_MIB[] = {4, 8, 16, 24, 32, 36, 40, 44, 48};
constexpr unsigned SET_MIB_MAX = 48;
// What is compared with what is assumed: a set that is well within L2.
constexpr unsigned SET_MIB = 16;
// Sets up to here are to be read at a rate of their own, whatever the way.
constexpr unsigned HELD_MIB_MAX = 32;
constexpr unsigned MIB = 1 << 20;

constexpr unsigned CHANNELS = 256;
constexpr unsigned PIECE_CHANNELS = 64;
constexpr unsigned PIECE_PIXELS = PIECE_BYTES / 2 / PIECE_CHANNELS;
constexpr unsigned SIDE = 14;
constexpr unsigned IMAGE_BYTES = SIDE * SIDE * CHANNELS * 2;

enum Way : unsigned {
    CHUNKS,
    BULK,
    IM2COL,
    WAYS_LEN
};
constexpr const char *WAY_NAMES[WAYS_LEN] = {"chunks", "bulk", "im2col"};

struct Params {
    CUtensorMap map;
    const unsigned char *buffer;
    // Of the working set.
    unsigned pieces;
    // Clocks of each block.
    long long *clocks;
};

__device__ const unsigned char *piece(const Params &p, unsigned index) {
    return p.buffer + size_t{(blockIdx.x * 37 + index) % p.pieces} * PIECE_BYTES;
}

__global__ void by_chunks(const __grid_constant__ Params p) {
    TWINSTREAM_SHARED(shared);
    const long long begin = clock64();
    const uint32_t first = ptx::shared_address(shared) + threadIdx.x * CHUNK_BYTES;
    const auto copy = [&](unsigned index) {
        if (index < PIECES)
            for (unsigned i = 0; i < PIECE_BYTES; i += THREADS * CHUNK_BYTES)
                ptx::cp_async_16(first + index % STAGES * PIECE_BYTES + i,
                                 piece(p, index) + threadIdx.x * CHUNK_BYTES + i, CHUNK_BYTES);
        ptx::cp_async_commit();
    };
    for (unsigned i = 0; i < STAGES - 1; ++i) copy(i);
    for (unsigned i = 0; i < PIECES; ++i) {
        ptx::cp_async_wait<STAGES - 2>();
        __syncthreads();
        copy(i + STAGES - 1);
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
    if (threadIdx.x == 0) p.clocks[blockIdx.x] = clock64() - begin;
}

// The piece of the tensor that lies where the piece of memory would, in size and number.
[[maybe_unused]] __device__ Coordinates pixels_of(const Params &p, unsigned index) {
    const unsigned at = (blockIdx.x * 37 + index) % p.pieces;
    const unsigned pixel = at / (CHANNELS / PIECE_CHANNELS) * PIECE_PIXELS;
    const unsigned y = pixel / SIDE % SIDE;
    // From where the tap in the middle sees the pixel itself.
    return {{static_cast<int32_t>(at % (CHANNELS / PIECE_CHANNELS) * PIECE_CHANNELS),
             static_cast<int32_t>(pixel % SIDE) - 1, static_cast<int32_t>(y) - 1,
             static_cast<int32_t>(pixel / SIDE / SIDE)}};
}

template <bool IS_IM2COL>
__global__ void by_engine(const __grid_constant__ Params p) {
#if __CUDA_ARCH__ >= 900
    TWINSTREAM_SHARED(shared);
    __shared__ uint64_t arrived[STAGES];
    const uint32_t beyond = ptx::shared_address(shared) % ALIGNMENT;
    unsigned char *const stages = shared + (ALIGNMENT - beyond) % ALIGNMENT;
    if (threadIdx.x == 0) {
        for (unsigned i = 0; i < STAGES; ++i) cuda::ptx::mbarrier_init(&arrived[i], 1);
        cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
    }
    __syncthreads();
    const long long begin = clock64();
    const auto copy = [&](unsigned index) {
        if (index >= PIECES || threadIdx.x != 0) return;
        // The calls take it by reference, and a constant of the file has no place on the device.
        const uint32_t bytes = PIECE_BYTES;
        uint64_t *const barrier = &arrived[index % STAGES];
        unsigned char *const to = stages + index % STAGES * PIECE_BYTES;
        if constexpr (IS_IM2COL)
            start_copy<true>(to, &p.map, pixels_of(p, index), Tap{1, 1}, barrier);
        else
            cuda::ptx::cp_async_bulk(cuda::ptx::space_cluster, cuda::ptx::space_global, to,
                                     piece(p, index), bytes, barrier);
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
    if (threadIdx.x == 0) p.clocks[blockIdx.x] = clock64() - begin;
#endif
}

using Kernel = void (*)(Params);
constexpr Kernel KERNELS[WAYS_LEN] = {by_chunks, by_engine<false>, by_engine<true>};

// Bytes a clock and multiprocessor, of so many blocks on each.
double measure(Way way, const Params &params, unsigned set_mib, unsigned each,
               unsigned multiprocessors) {
    const Kernel kernel = KERNELS[way];
    TWINSTREAM_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES));
    const unsigned blocks = each * multiprocessors;
    Timer timer;
    const double ns = median(11, [&] {
        return timer.ns(nullptr, [&] {
            kernel<<<blocks, THREADS, SHARED_BYTES>>>(params);
            TWINSTREAM_CHECK(cudaGetLastError());
        });
    });
    std::vector<long long> clocks(blocks);
    TWINSTREAM_CHECK(cudaMemcpy(clocks.data(), params.clocks, blocks * sizeof clocks[0],
                                cudaMemcpyDeviceToHost));
    const double block_bytes = static_cast<double>(PIECES) * PIECE_BYTES;
    const double longest = static_cast<double>(*std::max_element(clocks.begin(), clocks.end()));
    const double bytes_clk = each * block_bytes / longest;
    std::printf("{\"probe\": \"shared_fill\", \"way\": \"%s\", \"set_mib\": %u, \"blocks\": %u, "
                "\"tb_per_s\": %.2f, \"bytes_clk\": %.2f}\n",
                WAY_NAMES[way], set_mib, blocks, blocks * block_bytes / ns / 1e3, bytes_clk);
    return bytes_clk;
}

// The best of one to three blocks a multiprocessor, of each set.
std::vector<double> rates(Way way, Params &params, unsigned multiprocessors) {
    std::vector<double> found;
    for (const unsigned set_mib : SETS_MIB) {
        params.pieces = set_mib * MIB / PIECE_BYTES;
        double best = 0.0;
        for (unsigned each = 1; each <= 3; ++each)
            best = std::max(best, measure(way, params, set_mib, each, multiprocessors));
        found.push_back(best);
    }
    return found;
}

void run() {
    const cudaDeviceProp properties = device();
    const unsigned multiprocessors = static_cast<unsigned>(properties.multiProcessorCount);
    // The last copies of pixels begin within the tensor and end within the memory.
    constexpr unsigned images = SET_MIB_MAX * MIB / IMAGE_BYTES + 2;
    Params params{};
    unsigned char *buffer;
    TWINSTREAM_CHECK(cudaMalloc(&buffer, size_t{images} * IMAGE_BYTES));
    TWINSTREAM_CHECK(cudaMemset(buffer, 1, size_t{images} * IMAGE_BYTES));
    TWINSTREAM_CHECK(cudaMalloc(&params.clocks, 3 * multiprocessors * sizeof(long long)));
    params.buffer = buffer;
    unsigned ways_len = 1;
    if (properties.major == 9) {
        const Tensor tensor{reinterpret_cast<const uint16_t *>(buffer),
                            {CHANNELS, SIDE, SIDE, images},
                            {CHANNELS * 2, SIDE * CHANNELS * 2, IMAGE_BYTES}};
        const CUresult status = encode_im2col(&params.map, tensor, PIECE_CHANNELS, PIECE_PIXELS,
                                              CU_TENSOR_MAP_SWIZZLE_128B);
        ways_len = status == CUDA_SUCCESS ? WAYS_LEN : IM2COL;
        if (status != CUDA_SUCCESS) std::fprintf(stderr, "im2col map: status %d\n", status);
    }
    double most = 0.0, least = 1e9;
    unsigned held_mib = SET_MIB_MAX;
    for (unsigned way = 0; way < ways_len; ++way) {
        const std::vector<double> found = rates(static_cast<Way>(way), params, multiprocessors);
        double of_set = 0.0;
        for (unsigned i = 0; i < found.size(); ++i) {
            if (SETS_MIB[i] == SET_MIB) of_set = found[i];
            if (SETS_MIB[i] <= HELD_MIB_MAX) least = std::min(least, found[i]);
        }
        most = std::max(most, of_set);
        // The last set before the first one that is slower by a tenth.
        for (unsigned i = 0; i < found.size(); ++i) {
            if (SETS_MIB[i] <= SET_MIB || found[i] >= 0.9 * of_set) continue;
            held_mib = std::min(held_mib, SETS_MIB[i - 1]);
            break;
        }
    }
    print_figure("shared_fill", "l2_bytes_clk", most, "B/clk/SM",
                 "what tiles and pairs of blocks gain: by the best way");
    print_figure("shared_fill", "l2_pessimist_bytes_clk", least, "B/clk/SM",
                 "the same, by the worst way and set up to 32 MiB");
    print_figure("shared_fill", "l2_held_mib", held_mib, "MiB",
                 "images of a chunk: the largest set at 0.9 of the rate");
}

} // namespace

} // namespace twinstream::probes

int main() { twinstream::probes::run(); }

// How fast the device's memory is where it is read and written, as layers do at large batches, and
// where it is only read.
//
// Decides what a layer takes at least whose tensors L2 does not hold. 3.0 of an H100's 3.35 TB/s
// are assumed.

#include <cstdint>

#include "probe.hpp"

namespace twinstream::probes {

namespace {

// Ten times an H100's L2.
constexpr size_t BYTES = size_t{512} << 20;
constexpr unsigned THREADS = 256;
// A thread's loads that are on their way together.
constexpr unsigned LOADS = 4;

template <bool WRITES>
__global__ void move(const uint4 *from, uint4 *to) {
    constexpr size_t len = BYTES / sizeof(uint4);
    const size_t threads = size_t{gridDim.x} * THREADS;
    uint4 sum{};
    for (size_t i = size_t{blockIdx.x} * THREADS + threadIdx.x; i < len; i += LOADS * threads) {
        uint4 values[LOADS];
        for (unsigned k = 0; k < LOADS; ++k)
            if (i + k * threads < len) values[k] = __ldcs(from + i + k * threads);
        for (unsigned k = 0; k < LOADS; ++k) {
            if (i + k * threads >= len) continue;
            if constexpr (WRITES)
                __stcs(to + i + k * threads, values[k]);
            else
                sum.x ^= values[k].x ^ values[k].y ^ values[k].z ^ values[k].w;
        }
    }
    // A use of what was read, which is no such number.
    if (!WRITES && sum.x == 0x12345678) to[0] = sum;
}

template <bool WRITES>
double tb_per_s(unsigned blocks, const uint4 *from, uint4 *to) {
    Timer timer;
    const double ns = median(11, [&] {
        return timer.ns(nullptr, [&] {
            move<WRITES><<<blocks, THREADS>>>(from, to);
            TWINSTREAM_CHECK(cudaGetLastError());
        });
    });
    const double rate = (WRITES ? 2.0 : 1.0) * BYTES / ns / 1e3;
    std::printf("{\"probe\": \"memory\", \"way\": \"%s\", \"blocks\": %u, \"tb_per_s\": %.3f}\n",
                WRITES ? "copy" : "read", blocks, rate);
    return rate;
}

void run() {
    const unsigned multiprocessors = static_cast<unsigned>(device().multiProcessorCount);
    uint4 *from, *to;
    TWINSTREAM_CHECK(cudaMalloc(&from, BYTES));
    TWINSTREAM_CHECK(cudaMalloc(&to, BYTES));
    TWINSTREAM_CHECK(cudaMemset(from, 1, BYTES));
    double best = 0.0;
    for (const unsigned each : {2u, 4u, 8u, 16u}) {
        tb_per_s<false>(each * multiprocessors, from, to);
        best = std::max(best, tb_per_s<true>(each * multiprocessors, from, to));
    }
    print_figure("memory", "hbm_tb_s", best, "TB/s",
                 "what layers take that are bound by memory, read and written alike");
}

} // namespace

} // namespace twinstream::probes

int main() { twinstream::probes::run(); }

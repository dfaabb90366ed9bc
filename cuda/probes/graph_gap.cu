// What a kernel costs in a CUDA graph beyond its work, with and without programmatic dependence,
// and with so much shared memory that the next one's blocks fit beside it or not.
//
// Captures chains of kernels as long as the network and times whole graphs. The kernels wait and
// allow exactly as ours do (ptx/pdl.cuh), and then wait for so many clocks. Of two such lengths
// follow the gap, which is what a chain would take that does nothing, and the clock. 0.7 and 1.0 µs
// are assumed.

#include "../ptx/pdl.cuh"
#include "probe.hpp"

namespace twinstream::probes {

namespace {

constexpr unsigned CHAIN_LEN = 54;
// What the kernels of a chain wait: some two and some six microseconds.
constexpr unsigned SHORT_CLOCKS = 3000, LONG_CLOCKS = 9000;

__global__ void step(uint32_t *counter, unsigned clocks) {
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    const long long begin = clock64();
    while (clock64() - begin < clocks) {
    }
    if (threadIdx.x == 0 && blockIdx.x == 0) ++*counter;
}

struct Chain {
    unsigned blocks;
    unsigned threads;
    unsigned shared_bytes;
    bool is_programmatic;
    // How the figure is called; none for what is told alone.
    const char *figure;
    const char *decides;
};

constexpr const char *GAPS = "what fewer, fused or persistent kernels gain at small batches";
// As many blocks as an H100 has multiprocessors: two of the small fit beside each other.
constexpr Chain CHAINS[] = {
    {1, 128, 0, false, nullptr, nullptr},
    {1, 128, 0, true, nullptr, nullptr},
    {16, 128, 0, false, nullptr, nullptr},
    {16, 128, 0, true, nullptr, nullptr},
    {528, 128, 0, false, nullptr, nullptr},
    {528, 128, 0, true, nullptr, nullptr},
    {132, 128, 100 << 10, false, "gap_plain_us", GAPS},
    {132, 128, 100 << 10, true, "gap_us", GAPS},
    {132, 384, 224 << 10, false, "gap_full_plain_us", GAPS},
    {132, 384, 224 << 10, true, "gap_full_us", "the same behind blocks that fill a multiprocessor"},
};

double kernel_ns(cudaStream_t stream, uint32_t *counter, const Chain &chain, unsigned clocks) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(chain.blocks);
    config.blockDim = dim3(chain.threads);
    config.dynamicSmemBytes = chain.shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = chain.is_programmatic ? 1 : 0;

    cudaGraph_t graph;
    cudaGraphExec_t executable;
    TWINSTREAM_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (unsigned i = 0; i < CHAIN_LEN; ++i)
        TWINSTREAM_CHECK(cudaLaunchKernelEx(&config, step, counter, clocks));
    TWINSTREAM_CHECK(cudaStreamEndCapture(stream, &graph));
    TWINSTREAM_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    Timer timer;
    const double ns = median(51, [&] {
        return timer.ns(stream, [&] { TWINSTREAM_CHECK(cudaGraphLaunch(executable, stream)); });
    });
    TWINSTREAM_CHECK(cudaGraphExecDestroy(executable));
    TWINSTREAM_CHECK(cudaGraphDestroy(graph));
    return ns / CHAIN_LEN;
}

void measure(cudaStream_t stream, uint32_t *counter, const Chain &chain) {
    TWINSTREAM_CHECK(cudaFuncSetAttribute(step, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(chain.shared_bytes)));
    const double empty_ns = kernel_ns(stream, counter, chain, 0);
    const double short_ns = kernel_ns(stream, counter, chain, SHORT_CLOCKS);
    const double long_ns = kernel_ns(stream, counter, chain, LONG_CLOCKS);
    const double clock_ns = (long_ns - short_ns) / (LONG_CLOCKS - SHORT_CLOCKS);
    const double gap_ns = short_ns - SHORT_CLOCKS * clock_ns;
    std::printf("{\"probe\": \"graph_gap\", \"blocks\": %u, \"shared_kib\": %u, "
                "\"programmatic\": %s, \"kernel_ns\": %.0f, \"gap_ns\": %.0f, \"ghz\": %.3f}\n",
                chain.blocks, chain.shared_bytes >> 10, chain.is_programmatic ? "true" : "false",
                empty_ns, gap_ns, 1.0 / clock_ns);
    if (chain.figure) print_figure("graph_gap", chain.figure, gap_ns / 1e3, "us", chain.decides);
}

void run() {
    const cudaDeviceProp properties = device();
    cudaStream_t stream;
    TWINSTREAM_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    uint32_t *counter;
    TWINSTREAM_CHECK(cudaMalloc(&counter, sizeof *counter));
    TWINSTREAM_CHECK(cudaMemset(counter, 0, sizeof *counter));
    for (const Chain &chain : CHAINS)
        if ((properties.major >= 9 || !chain.is_programmatic) &&
            chain.shared_bytes <= properties.sharedMemPerBlockOptin)
            measure(stream, counter, chain);
}

} // namespace

} // namespace twinstream::probes

int main() { twinstream::probes::run(); }

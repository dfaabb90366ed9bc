// What a kernel costs in a CUDA graph beyond its work, with and without programmatic
// dependence.
//
// Captures chains of kernels that do next to nothing, as long as the network, and times whole
// graphs. The kernels wait and allow exactly as ours do (ptx/pdl.cuh).

#include "../ptx/pdl.cuh"
#include "probe.hpp"

namespace twinstream::probes {

namespace {

constexpr unsigned CHAIN_LEN = 54;

__global__ void step(uint32_t *counter) {
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    if (threadIdx.x == 0 && blockIdx.x == 0) ++*counter;
}

double gap_ns(cudaStream_t stream, uint32_t *counter, unsigned blocks, bool programmatic) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(128);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = programmatic ? 1 : 0;

    cudaGraph_t graph;
    cudaGraphExec_t executable;
    TWINSTREAM_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (unsigned i = 0; i < CHAIN_LEN; ++i)
        TWINSTREAM_CHECK(cudaLaunchKernelEx(&config, step, counter));
    TWINSTREAM_CHECK(cudaStreamEndCapture(stream, &graph));
    TWINSTREAM_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    Timer timer;
    const double ns = median(101, [&] {
        return timer.ns(stream, [&] { TWINSTREAM_CHECK(cudaGraphLaunch(executable, stream)); });
    });
    TWINSTREAM_CHECK(cudaGraphExecDestroy(executable));
    TWINSTREAM_CHECK(cudaGraphDestroy(graph));
    return ns / CHAIN_LEN;
}

void run() {
    const cudaDeviceProp properties = device();
    cudaStream_t stream;
    TWINSTREAM_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    uint32_t *counter;
    TWINSTREAM_CHECK(cudaMalloc(&counter, sizeof *counter));
    TWINSTREAM_CHECK(cudaMemset(counter, 0, sizeof *counter));
    for (const unsigned blocks : {1u, 16u, 132u, 528u})
        for (const bool programmatic : {false, true}) {
            if (programmatic && properties.major < 9) continue;
            std::printf("{\"probe\": \"graph_gap\", \"blocks\": %u, \"programmatic\": %s, "
                        "\"kernel_ns\": %.0f}\n",
                        blocks, programmatic ? "true" : "false",
                        gap_ns(stream, counter, blocks, programmatic));
        }
}

} // namespace

} // namespace twinstream::probes

int main() { twinstream::probes::run(); }

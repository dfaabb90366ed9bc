// Whether two batches that compute at the same time, on two streams, end sooner than one after
// the other. The scheduler assumes that they do not.
//
// Two chains of kernels as long as the network; each kernel has as many blocks as a layer has at
// that batch length and multiplies in registers for about three microseconds.

#include "probe.hpp"

namespace twinstream::probes {

namespace {

constexpr unsigned CHAIN_LEN = 54;
constexpr unsigned THREADS = 128;
// Blocks as a share of the multiprocessors whose figures are told.
constexpr unsigned FEW_PERCENT = 25, ALL_PERCENT = 100;

__global__ void multiply(float *result, unsigned steps) {
    float value = static_cast<float>(threadIdx.x);
    for (unsigned i = 0; i < steps; ++i) value = value * 0.999f + 1.0f;
    result[blockIdx.x * THREADS + threadIdx.x] = value;
}

void enqueue(cudaStream_t stream, float *result, unsigned blocks) {
    for (unsigned i = 0; i < CHAIN_LEN; ++i) multiply<<<blocks, THREADS, 0, stream>>>(result, 1200);
    TWINSTREAM_CHECK(cudaGetLastError());
}

cudaGraphExec_t chain(cudaStream_t stream, float *result, unsigned blocks) {
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    TWINSTREAM_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    enqueue(stream, result, blocks);
    TWINSTREAM_CHECK(cudaStreamEndCapture(stream, &graph));
    TWINSTREAM_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    TWINSTREAM_CHECK(cudaGraphDestroy(graph));
    return executable;
}

void run() {
    const cudaDeviceProp properties = device();
    const unsigned multiprocessors = static_cast<unsigned>(properties.multiProcessorCount);
    cudaStream_t streams[2];
    float *results[2];
    cudaEvent_t joined;
    TWINSTREAM_CHECK(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming));
    for (unsigned i = 0; i < 2; ++i) {
        TWINSTREAM_CHECK(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
        TWINSTREAM_CHECK(cudaMalloc(&results[i], 64 * multiprocessors * THREADS * sizeof(float)));
    }
    Timer timer;
    for (const unsigned share_percent : {6u, 12u, 25u, 50u, 100u, 200u, 800u, 3200u}) {
        const unsigned blocks = std::max(1u, multiprocessors * share_percent / 100);
        const cudaGraphExec_t chains[2] = {chain(streams[0], results[0], blocks),
                                           chain(streams[1], results[1], blocks)};
        const double serial_ns = median(51, [&] {
            return timer.ns(streams[0], [&] {
                for (const cudaGraphExec_t each : chains)
                    TWINSTREAM_CHECK(cudaGraphLaunch(each, streams[0]));
            });
        });
        const double together_ns = median(51, [&] {
            return timer.ns(streams[0], [&] {
                TWINSTREAM_CHECK(cudaEventRecord(joined, streams[0]));
                TWINSTREAM_CHECK(cudaStreamWaitEvent(streams[1], joined, 0));
                for (unsigned i = 0; i < 2; ++i)
                    TWINSTREAM_CHECK(cudaGraphLaunch(chains[i], streams[i]));
                TWINSTREAM_CHECK(cudaEventRecord(joined, streams[1]));
                TWINSTREAM_CHECK(cudaStreamWaitEvent(streams[0], joined, 0));
            });
        });
        for (const cudaGraphExec_t each : chains) TWINSTREAM_CHECK(cudaGraphExecDestroy(each));
        std::printf("{\"probe\": \"two_streams\", \"blocks\": %u, \"serial_ns\": %.0f, "
                    "\"together_ns\": %.0f}\n",
                    blocks, serial_ns, together_ns);
        if (share_percent == FEW_PERCENT || share_percent == ALL_PERCENT)
            print_figure("two_streams",
                         share_percent == ALL_PERCENT ? "pair_rate" : "pair_rate_few",
                         serial_ns / together_ns, "x one after the other",
                         share_percent == ALL_PERCENT
                             ? "whether two batches of a block a multiprocessor gain side by side"
                             : "the same where each has blocks for a quarter of them");
    }
}

} // namespace

} // namespace twinstream::probes

int main() { twinstream::probes::run(); }

// What the probes share: error checks, times by events, and one JSON object a result on stdout.
//
// A probe answers one question about a GPU that the design depends on. It is a program of its own,
// built by scripts/cuda-probes.sh, and knows nothing of the engine.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace twinstream::probes {

inline void check(cudaError_t status, const char *what) {
    if (status != cudaSuccess) {
        std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
        std::exit(1);
    }
}
#define TWINSTREAM_CHECK(call) ::twinstream::probes::check((call), #call)

// What a probe's results come to: a figure that decides something. Its name is the one in
// scripts/sass_model/rates.json where the model has such a parameter.
inline void print_figure(const char *probe, const char *name, double value, const char *unit,
                         const char *decides) {
    std::printf("{\"probe\": \"%s\", \"figure\": \"%s\", \"value\": %.4g, \"unit\": \"%s\", "
                "\"decides\": \"%s\"}\n",
                probe, name, value, unit, decides);
}

// Median of what `measure` returns, of `len` calls after one that warms up.
template <class Measure>
double median(unsigned len, Measure measure) {
    measure();
    std::vector<double> values;
    for (unsigned i = 0; i < len; ++i) values.push_back(measure());
    std::nth_element(values.begin(), values.begin() + len / 2, values.end());
    return values[len / 2];
}

// Nanoseconds between two events around what `enqueue` puts on the stream.
class Timer {
   public:
    Timer() {
        TWINSTREAM_CHECK(cudaEventCreate(&begin));
        TWINSTREAM_CHECK(cudaEventCreate(&end));
    }
    ~Timer() {
        cudaEventDestroy(begin);
        cudaEventDestroy(end);
    }
    Timer(const Timer &) = delete;
    Timer &operator=(const Timer &) = delete;

    template <class Enqueue>
    double ns(cudaStream_t stream, Enqueue enqueue) {
        TWINSTREAM_CHECK(cudaEventRecord(begin, stream));
        enqueue();
        TWINSTREAM_CHECK(cudaEventRecord(end, stream));
        TWINSTREAM_CHECK(cudaEventSynchronize(end));
        float milliseconds = 0.0f;
        TWINSTREAM_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
        return milliseconds * 1e6;
    }

   private:
    cudaEvent_t begin, end;
};

// Nanoseconds that `work` keeps the host busy.
template <class Work>
double host_ns(Work work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin)
        .count();
}

// The device in use, checked to be there.
inline cudaDeviceProp device() {
    cudaDeviceProp properties;
    TWINSTREAM_CHECK(cudaGetDeviceProperties(&properties, 0));
    return properties;
}

} // namespace twinstream::probes

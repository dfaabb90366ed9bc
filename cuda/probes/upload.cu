// What it costs to bring images to the device: bandwidth of the copy engine and host time of a
// submission, from page-locked and pageable memory, beside a kernel that reads page-locked memory
// itself.

#include <cstring>

#include "probe.hpp"

namespace twinstream::probes {

namespace {

// 224 x 224 x 3 bytes.
constexpr size_t IMAGE_BYTES = 150528;
constexpr unsigned IMAGES_MAX = 256;

__global__ void read_mapped(const uint4 *from, uint4 *to, unsigned len) {
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < len; i += gridDim.x * blockDim.x)
        to[i] = from[i];
}

void print(const char *way, unsigned images, double device_ns, double submit_ns) {
    std::printf("{\"probe\": \"upload\", \"way\": \"%s\", \"images\": %u, \"device_ns\": %.0f, "
                "\"submit_ns\": %.0f, \"gb_per_s\": %.1f}\n",
                way, images, device_ns, submit_ns,
                static_cast<double>(images) * IMAGE_BYTES / device_ns);
}

template <class Enqueue>
double measure(const char *way, unsigned images, cudaStream_t stream, Enqueue enqueue) {
    Timer timer;
    const double device_ns = median(51, [&] { return timer.ns(stream, enqueue); });
    const double submit_ns = median(51, [&] {
        const double ns = host_ns(enqueue);
        TWINSTREAM_CHECK(cudaStreamSynchronize(stream));
        return ns;
    });
    print(way, images, device_ns, submit_ns);
    return device_ns;
}

void run() {
    const cudaDeviceProp properties = device();
    cudaStream_t stream;
    TWINSTREAM_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    void *locked, *mapped, *to;
    TWINSTREAM_CHECK(cudaHostAlloc(&locked, IMAGES_MAX * IMAGE_BYTES, cudaHostAllocMapped));
    TWINSTREAM_CHECK(cudaHostGetDevicePointer(&mapped, locked, 0));
    TWINSTREAM_CHECK(cudaMalloc(&to, IMAGES_MAX * IMAGE_BYTES));
    std::vector<unsigned char> pageable(IMAGES_MAX * IMAGE_BYTES, 1);
    std::memset(locked, 1, IMAGES_MAX * IMAGE_BYTES);
    for (unsigned images = 1; images <= IMAGES_MAX; images *= 2) {
        const size_t bytes = images * IMAGE_BYTES;
        const double locked_ns = measure("locked", images, stream, [&] {
            TWINSTREAM_CHECK(cudaMemcpyAsync(to, locked, bytes, cudaMemcpyHostToDevice, stream));
        });
        measure("pageable", images, stream, [&] {
            TWINSTREAM_CHECK(
                cudaMemcpyAsync(to, pageable.data(), bytes, cudaMemcpyHostToDevice, stream));
        });
        measure("kernel", images, stream, [&] {
            read_mapped<<<properties.multiProcessorCount, 256, 0, stream>>>(
                static_cast<const uint4 *>(mapped), static_cast<uint4 *>(to),
                static_cast<unsigned>(bytes / sizeof(uint4)));
            TWINSTREAM_CHECK(cudaGetLastError());
        });
        if (images == IMAGES_MAX)
            print_figure("upload", "upload_gb_s", static_cast<double>(bytes) / locked_ns, "GB/s",
                         "how many images a second can be uploaded at all");
    }
}

} // namespace

} // namespace twinstream::probes

int main() { twinstream::probes::run(); }

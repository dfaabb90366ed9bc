// See storage.hpp. TWINSTREAM_RING_CUDA is defined where the CUDA driver's calls are linked.
#include "storage.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "ring.h"

#ifdef TWINSTREAM_RING_CUDA
// The few driver calls in use, as cuda.h declares them: contexts are handles, results numbers.
extern "C" {
int cuCtxGetCurrent(void **context);
int cuCtxGetDevice(int *device);
int cuCtxPushCurrent_v2(void *context);
int cuCtxPopCurrent_v2(void **context);
int cuDevicePrimaryCtxRetain(void **context, int device);
int cuDevicePrimaryCtxRelease_v2(int device);
int cuMemHostAlloc(void **base, size_t len_bytes, unsigned flags);
int cuMemFreeHost(void *base);
}
#endif

namespace twinstream {
namespace {

std::atomic<uint32_t> fork_count{0};

// As the library is loaded: a process that forks later counts one more in its child.
[[maybe_unused]] const int is_registered =
    pthread_atfork(nullptr, nullptr, [] { fork_count.fetch_add(1, std::memory_order_relaxed); });

#ifdef TWINSTREAM_RING_CUDA
// Locked for every context, as a process may drive several devices.
constexpr unsigned PORTABLE = 1;

// Memory of the device whose primary context is current; base is nullptr where none is. The storage
// holds on to the context: it would take the memory with it, and results may outlive the engine.
Storage cuda_allocate(size_t len_bytes) {
    void *current = nullptr, *context = nullptr, *base = nullptr;
    int device = 0;
    if (cuCtxGetCurrent(&current) != 0 || current == nullptr) return {};
    if (cuCtxGetDevice(&device) != 0 || cuDevicePrimaryCtxRetain(&context, device) != 0) return {};
    // A context of the caller's own may end before the ring, and would take the memory with it.
    if (context != current || cuMemHostAlloc(&base, len_bytes, PORTABLE) != 0) {
        cuDevicePrimaryCtxRelease_v2(device);
        return {};
    }
    std::memset(base, 0, len_bytes);
    return {static_cast<uint8_t *>(base), len_bytes, TWINSTREAM_MEMORY_CUDA, context, device};
}

void cuda_free(const Storage &storage) {
    // Whatever thread drops the last handle, and whatever device that one uses.
    void *popped = nullptr;
    const bool is_pushed = cuCtxPushCurrent_v2(storage.context) == 0;
    cuMemFreeHost(storage.base);
    if (is_pushed) cuCtxPopCurrent_v2(&popped);
    cuDevicePrimaryCtxRelease_v2(storage.device);
}
#endif

} // namespace

Storage allocate_storage(size_t len_bytes, uint32_t memory_weakest) {
    size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    if (len_bytes > SIZE_MAX - page_bytes) return {};
    size_t whole_pages = (len_bytes + page_bytes - 1) / page_bytes * page_bytes;
#ifdef TWINSTREAM_RING_CUDA
    Storage registered = cuda_allocate(whole_pages);
    if (registered.base != nullptr) return registered;
#endif
    if (memory_weakest == TWINSTREAM_MEMORY_CUDA) return {};
    void *mapped =
        mmap(nullptr, whole_pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return {};
    Storage storage{};
    storage.base = static_cast<uint8_t *>(mapped);
    storage.len_bytes = whole_pages;
    storage.memory = TWINSTREAM_MEMORY_LOCKED;
    // Fails above the process's limit on locked memory.
    if (mlock(storage.base, storage.len_bytes) == 0) return storage;
    storage.memory = TWINSTREAM_MEMORY_PLAIN;
    if (memory_weakest != TWINSTREAM_MEMORY_PLAIN) {
        free_storage(storage);
        return {};
    }
    // Takes every page fault now, not on the request path.
    std::memset(storage.base, 0, storage.len_bytes);
    return storage;
}

void free_storage(const Storage &storage) {
#ifdef TWINSTREAM_RING_CUDA
    if (storage.memory == TWINSTREAM_MEMORY_CUDA) {
        cuda_free(storage);
        return;
    }
#endif
    // Unmapping unlocks.
    munmap(storage.base, storage.len_bytes);
}

} // namespace twinstream

extern "C" uint32_t twinstream_ring_fork_count() {
    return twinstream::fork_count.load(std::memory_order_relaxed);
}

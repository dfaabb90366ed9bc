// See storage.hpp. TWINSTREAM_RING_CUDA is defined where the CUDA runtime is linked.
#include "storage.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "ring.h"

#ifdef TWINSTREAM_RING_CUDA
#include <cuda_runtime_api.h>
#endif

namespace twinstream {
namespace {

#ifdef TWINSTREAM_RING_CUDA
uint8_t *cuda_allocate(size_t len_bytes) {
    void *base = nullptr;
    // Portable: locked for every context, as a process may drive several devices.
    if (cudaHostAlloc(&base, len_bytes, cudaHostAllocPortable) != cudaSuccess) {
        // Takes the error back, so that it is not mistaken for one of a later launch.
        cudaGetLastError();
        return nullptr;
    }
    return static_cast<uint8_t *>(base);
}
#endif

}  // namespace

Storage allocate_storage(size_t len_bytes, uint32_t memory_weakest) {
    size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    if (len_bytes > SIZE_MAX - page_bytes) return {};
    size_t whole_pages = (len_bytes + page_bytes - 1) / page_bytes * page_bytes;
#ifdef TWINSTREAM_RING_CUDA
    if (uint8_t *base = cuda_allocate(whole_pages)) {
        std::memset(base, 0, whole_pages);
        return {base, whole_pages, TWINSTREAM_MEMORY_CUDA};
    }
#endif
    if (memory_weakest == TWINSTREAM_MEMORY_CUDA) return {};
    void *mapped =
        mmap(nullptr, whole_pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return {};
    Storage storage{static_cast<uint8_t *>(mapped), whole_pages, TWINSTREAM_MEMORY_LOCKED};
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
        cudaFreeHost(storage.base);
        return;
    }
#endif
    // Unmapping unlocks.
    munmap(storage.base, storage.len_bytes);
}

}  // namespace twinstream

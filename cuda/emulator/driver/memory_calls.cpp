// Driver calls on memory; see driver.hpp.
//
// Stricter than a driver: an asynchronous copy must name page-locked memory on the host's side, and
// what other calls write arrives as late as it may.
#include <cstring>

#include "driver.hpp"

using namespace twinstream::driver;

namespace {

uint8_t *pointer(uint64_t address) { return reinterpret_cast<uint8_t *>(address); }

// Locked already: whether `len_bytes` at `address` are the current device's memory.
bool is_device(uint64_t address, size_t len_bytes) {
    if (holds(current()->memory, pointer(address), len_bytes)) return true;
    complain("%zu bytes at %p are not within device memory", len_bytes,
             static_cast<void *>(pointer(address)));
    return false;
}

// Portable memory is page-locked for every device.
bool is_pinned(const void *first, size_t len_bytes) {
    for (int ordinal = 0; ordinal < device_len(); ++ordinal) {
        if (holds(device(ordinal)->pinned, first, len_bytes)) return true;
    }
    complain("%zu bytes at %p are not within page-locked memory", len_bytes, first);
    return false;
}

// Queues work that is in order; with the lock held.
int queue(void *handle, Work work) {
    auto found = current()->streams.find(handle);
    if (found == current()->streams.end()) return INVALID_HANDLE;
    submit(found->second.get(), std::move(work));
    return SUCCESS;
}

int allocate_pinned(void **first, size_t len_bytes) {
    std::lock_guard guard(mutex());
    if (int result = ready_beside_captures()) return result;
    if (len_bytes == 0) return INVALID_VALUE;
    *first = allocate(&current()->pinned, len_bytes);
    return *first == nullptr ? OUT_OF_MEMORY : SUCCESS;
}

} // namespace

extern "C" {

int cuMemAlloc_v2(void *address, size_t len_bytes) {
    std::lock_guard guard(mutex());
    if (int result = ready_beside_captures()) return result;
    Device *device = current();
    if (len_bytes == 0) return INVALID_VALUE;
    if (len_bytes > device->options.memory_bytes - device->memory_used_bytes) return OUT_OF_MEMORY;
    uint8_t *first = allocate(&device->memory, len_bytes);
    if (first == nullptr) return OUT_OF_MEMORY;
    device->memory_used_bytes += len_bytes;
    *static_cast<uint64_t *>(address) = reinterpret_cast<uint64_t>(first);
    return SUCCESS;
}

int cuMemFree_v2(uint64_t address) {
    std::unique_lock lock(mutex());
    // A lost device still takes memory back.
    int result = ready(true);
    if (result == INVALID_CONTEXT || result == NOT_INITIALIZED) return result;
    Device *device = current();
    auto found = device->memory.find(pointer(address));
    if (found == device->memory.end()) return INVALID_VALUE;
    synchronize(device, lock);
    device->memory_used_bytes -= found->second.len_bytes;
    release(&device->memory, pointer(address));
    return result;
}

int cuMemGetInfo_v2(void *free_bytes, void *total_bytes) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    const size_t total = current()->options.memory_bytes;
    *static_cast<size_t *>(free_bytes) = total - current()->memory_used_bytes;
    *static_cast<size_t *>(total_bytes) = total;
    return SUCCESS;
}

int cuMemHostAlloc(void *first, size_t len_bytes, unsigned) {
    return allocate_pinned(static_cast<void **>(first), len_bytes);
}

int cuMemAllocHost_v2(void *first, size_t len_bytes) {
    return allocate_pinned(static_cast<void **>(first), len_bytes);
}

int cuMemFreeHost(void *first) {
    std::unique_lock lock(mutex());
    int result = ready(true);
    if (result == INVALID_CONTEXT || result == NOT_INITIALIZED) return result;
    synchronize(current(), lock);
    return release(&current()->pinned, static_cast<uint8_t *>(first)) ? result : INVALID_VALUE;
}

int cuMemcpyHtoD_v2(uint64_t to, void *from, size_t len_bytes) {
    std::lock_guard guard(mutex());
    if (int result = ready_beside_captures()) return result;
    if (!is_device(to, len_bytes)) return INVALID_VALUE;
    const uint8_t *first = static_cast<uint8_t *>(from);
    current()->writes.push_back({pointer(to), Bytes(first, first + len_bytes)});
    return SUCCESS;
}

// Waits for no stream, as where streams do not wait for the default one.
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t len_bytes) {
    std::lock_guard guard(mutex());
    if (int result = ready_beside_captures()) return result;
    if (!is_device(from, len_bytes)) return INVALID_VALUE;
    std::memcpy(to, pointer(from), len_bytes);
    return SUCCESS;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, void *from, size_t len_bytes, void *stream) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    if (!is_device(to, len_bytes) || !is_pinned(from, len_bytes)) return INVALID_VALUE;
    return queue(stream, Copy{pointer(to), static_cast<uint8_t *>(from), len_bytes});
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t len_bytes, void *stream) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    if (!is_device(from, len_bytes) || !is_pinned(to, len_bytes)) return INVALID_VALUE;
    return queue(stream, Copy{static_cast<uint8_t *>(to), pointer(from), len_bytes});
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t len_bytes, void *stream) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    if (!is_device(to, len_bytes) || !is_device(from, len_bytes)) return INVALID_VALUE;
    return queue(stream, Copy{pointer(to), pointer(from), len_bytes});
}

int cuMemsetD8_v2(uint64_t to, unsigned char value, size_t len_bytes) {
    std::lock_guard guard(mutex());
    if (int result = ready_beside_captures()) return result;
    if (!is_device(to, len_bytes)) return INVALID_VALUE;
    current()->writes.push_back({pointer(to), Bytes(len_bytes, value)});
    return SUCCESS;
}

} // extern "C"

// Memory of the emulated device and page-locked memory of the host: mapped with guards, poisoned.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(first, len) (static_cast<void>(first), static_cast<void>(len))
#define ASAN_UNPOISON_MEMORY_REGION(first, len) ASAN_POISON_MEMORY_REGION(first, len)
#endif

#include "../memory.hpp"
#include "driver.hpp"

namespace twinstream::driver {
namespace {

// What the driver guarantees for an allocation.
constexpr size_t ALIGN_BYTES = 256;

// The bytes between the data and the page behind it; AddressSanitizer, where there is one, lets
// nobody touch them before.
bool is_tail_untouched(const uint8_t *first, const Allocation &allocation) {
    const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const uint8_t *tail = first + allocation.len_bytes;
    const uint8_t *end = allocation.mapped + allocation.mapped_bytes - page_bytes;
    ASAN_UNPOISON_MEMORY_REGION(tail, static_cast<size_t>(end - tail));
    for (const uint8_t *byte = tail; byte < end; ++byte) {
        if (*byte != POISON) return false;
    }
    return true;
}

void unmap(const uint8_t *first, const Allocation &allocation) {
    if (!is_tail_untouched(first, allocation)) {
        complain("bytes were written behind an allocation of %zu", allocation.len_bytes);
    }
    emulator::remove_allocation(first);
    munmap(allocation.mapped, allocation.mapped_bytes);
}

} // namespace

uint8_t *allocate(Allocations *allocations, size_t len_bytes) {
    const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t data_bytes = (len_bytes + page_bytes - 1) / page_bytes * page_bytes;
    const size_t mapped_bytes = data_bytes + 2 * page_bytes;
    void *mapped = mmap(nullptr, mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    uint8_t *start = static_cast<uint8_t *>(mapped);
    mprotect(start + page_bytes, data_bytes, PROT_READ | PROT_WRITE);
    std::memset(start + page_bytes, POISON, data_bytes);
    uint8_t *first = start + page_bytes + (data_bytes - len_bytes) / ALIGN_BYTES * ALIGN_BYTES;
    const uint8_t *tail = first + len_bytes;
    ASAN_POISON_MEMORY_REGION(tail, static_cast<size_t>(start + page_bytes + data_bytes - tail));
    allocations->emplace(first, Allocation{start, mapped_bytes, len_bytes});
    emulator::add_allocation(first, len_bytes);
    return first;
}

bool release(Allocations *allocations, uint8_t *first) {
    auto found = allocations->find(first);
    if (found == allocations->end()) return false;
    unmap(first, found->second);
    allocations->erase(found);
    return true;
}

bool holds(const Allocations &allocations, const void *first, size_t len_bytes) {
    const uint8_t *address = static_cast<const uint8_t *>(first);
    auto next = allocations.upper_bound(const_cast<uint8_t *>(address));
    if (next == allocations.begin()) return false;
    const auto &[start, allocation] = *std::prev(next);
    const size_t offset = static_cast<size_t>(address - start);
    return offset <= allocation.len_bytes && len_bytes <= allocation.len_bytes - offset;
}

void release_all(Device *device) {
    for (Allocations *allocations : {&device->memory, &device->pinned}) {
        for (const auto &[first, allocation] : *allocations) unmap(first, allocation);
        allocations->clear();
    }
    device->memory_used_bytes = 0;
}

} // namespace twinstream::driver

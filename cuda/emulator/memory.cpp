// The allocations as an ordered map behind a reader-writer lock. Every host thread remembers where
// its last few answers lay, as kernels alternate between few allocations.

#include "memory.hpp"

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <new>
#include <shared_mutex>

namespace twinstream::emulator {
namespace {

struct Allocations {
    std::shared_mutex lock;
    std::map<std::uintptr_t, std::size_t> bytes_at;
    // Changes of the map so far.
    std::atomic<std::uint64_t> version{0};
};

// Never destroyed: a stream may still compute while the program exits.
Allocations &allocations() {
    alignas(Allocations) static unsigned char storage[sizeof(Allocations)];
    static Allocations &instance = *new (storage) Allocations;
    return instance;
}

struct Remembered {
    std::uint64_t version = 0;
    std::uintptr_t base = 0;
    std::size_t bytes = 0;
};
constexpr std::size_t remembered_len = 4;

bool holds(const Remembered &range, std::uintptr_t address, std::size_t bytes) {
    const std::uintptr_t offset = address - range.base;
    return offset <= range.bytes && range.bytes - offset >= bytes;
}

} // namespace

void add_allocation(const void *base, std::size_t bytes) {
    Allocations &known = allocations();
    const std::unique_lock<std::shared_mutex> guard(known.lock);
    known.bytes_at[reinterpret_cast<std::uintptr_t>(base)] = bytes;
    known.version += 1;
}

void remove_allocation(const void *base) {
    Allocations &known = allocations();
    const std::unique_lock<std::shared_mutex> guard(known.lock);
    known.bytes_at.erase(reinterpret_cast<std::uintptr_t>(base));
    known.version += 1;
}

bool is_device_memory(const void *at, std::size_t bytes) {
    thread_local Remembered remembered[remembered_len];
    thread_local std::size_t oldest = 0;
    Allocations &known = allocations();
    const std::uint64_t version = known.version.load(std::memory_order_acquire);
    if (version == 0) {
        return true;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    for (const Remembered &range : remembered) {
        if (range.version == version && holds(range, address, bytes)) {
            return true;
        }
    }
    const std::shared_lock<std::shared_mutex> guard(known.lock);
    auto next = known.bytes_at.upper_bound(address);
    if (next == known.bytes_at.begin()) {
        return false;
    }
    --next;
    const Remembered found{version, next->first, next->second};
    if (!holds(found, address, bytes)) {
        return false;
    }
    remembered[oldest] = found;
    oldest = (oldest + 1) % remembered_len;
    return true;
}

} // namespace twinstream::emulator

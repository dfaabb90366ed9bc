// The allocations as an ordered map behind a reader-writer lock.

#include "memory.hpp"

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <shared_mutex>

namespace twinstream::emulator {
namespace {

struct Allocations {
    std::shared_mutex lock;
    std::map<std::uintptr_t, std::size_t> bytes_at;
    std::atomic<bool> are_known{false};
};

Allocations &allocations() {
    static Allocations instance;
    return instance;
}

} // namespace

void add_allocation(const void *base, std::size_t bytes) {
    Allocations &known = allocations();
    const std::unique_lock<std::shared_mutex> guard(known.lock);
    known.bytes_at[reinterpret_cast<std::uintptr_t>(base)] = bytes;
    known.are_known = true;
}

void remove_allocation(const void *base) {
    Allocations &known = allocations();
    const std::unique_lock<std::shared_mutex> guard(known.lock);
    known.bytes_at.erase(reinterpret_cast<std::uintptr_t>(base));
}

bool is_device_memory(const void *at, std::size_t bytes) {
    Allocations &known = allocations();
    if (!known.are_known.load(std::memory_order_relaxed)) {
        return true;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    const std::shared_lock<std::shared_mutex> guard(known.lock);
    auto next = known.bytes_at.upper_bound(address);
    if (next == known.bytes_at.begin()) {
        return false;
    }
    --next;
    const std::uintptr_t offset = address - next->first;
    return offset <= next->second && next->second - offset >= bytes;
}

} // namespace twinstream::emulator

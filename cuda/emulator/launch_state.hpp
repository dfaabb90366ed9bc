// What the host threads of one launch share besides its blocks: what these have published to one
// another, and the time.
#pragma once

#include <atomic>
#include <cstdint>

#include "proxy.hpp"
#include "spin_lock.hpp"

namespace twinstream::emulator {

// Virtual time: it moves a little when it is looked at, and much when all clusters that are at work
// have found, since it last did, that nothing but waiting is left.
class Clock {
   public:
    std::uint64_t look();
    void add(std::uint64_t duration_ns) { now_ns_ += duration_ns; }
    // A cluster begins, waits for a while, or ends.
    void begin() { clusters_len_ += 1; }
    void pass();
    void end() { clusters_len_ -= 1; }

   private:
    SpinLock lock_;
    std::atomic<std::uint64_t> now_ns_{0};
    std::atomic<std::uint64_t> jumps_len_{0};
    std::atomic<std::uint32_t> clusters_len_{0};
    // Clusters that wait and have been counted since the last jump.
    std::uint32_t waiting_len_ = 0;
};

struct LaunchState {
    Published published;
    Clock clock;
};

} // namespace twinstream::emulator

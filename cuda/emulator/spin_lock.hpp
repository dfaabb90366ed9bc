// A lock that ThreadSanitizer does not see: blocks that take it are not thereby in an order.
#pragma once

#include <atomic>
#include <thread>

namespace twinstream::emulator {

class SpinLock {
   public:
    void lock() {
        while (is_taken_.test_and_set(std::memory_order_acquire)) {
            std::this_thread::yield();
        }
    }
    void unlock() { is_taken_.clear(std::memory_order_release); }

   private:
    std::atomic_flag is_taken_ = ATOMIC_FLAG_INIT;
};

} // namespace twinstream::emulator

// A lock that ThreadSanitizer does not see, nor what is done under it: blocks that take it are not
// thereby in an order, nor in a race.
#pragma once

#include <atomic>
#include <thread>

#include "race.hpp"

namespace twinstream::emulator {

class SpinLock {
   public:
    void lock() {
        while (is_taken_.test_and_set(std::memory_order_acquire)) {
            std::this_thread::yield();
        }
        begin_unseen();
    }
    void unlock() {
        end_unseen();
        is_taken_.clear(std::memory_order_release);
    }

   private:
    std::atomic_flag is_taken_ = ATOMIC_FLAG_INIT;
};

} // namespace twinstream::emulator

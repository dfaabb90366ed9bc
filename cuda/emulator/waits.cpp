// Time, giving up, and counters that blocks of a launch wait for.

#include <chrono>
#include <mutex>
#include <thread>

#include "block.hpp"
#include "hopper.hpp"

namespace twinstream::emulator {

std::uint64_t Clock::look() {
    constexpr std::uint64_t step_ns = 32;
    return now_ns_.fetch_add(step_ns);
}

void Clock::pass() {
    constexpr std::uint64_t jump_ns = 10'000'000, poll_ns = 1'000;
    constexpr int polls_len = 5;
    lock_.lock();
    const std::uint64_t jumps_len = jumps_len_;
    waiting_len_ += 1;
    if (waiting_len_ >= clusters_len_) {
        waiting_len_ = 0;
        jumps_len_ += 1;
        now_ns_ += jump_ns;
    }
    lock_.unlock();
    for (int i = 0; i < polls_len && jumps_len_ == jumps_len; ++i) {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    const std::lock_guard<SpinLock> guard(lock_);
    if (jumps_len_ == jumps_len) {
        waiting_len_ -= 1;
        now_ns_ += poll_ns;
    }
}

std::uint64_t global_timer_ns() { return current_block->launch().state->clock.look(); }

void sleep_ns(std::uint32_t duration_ns) {
    current_block->sleep(current_thread, "nanosleep", true);
    current_block->launch().state->clock.add(duration_ns);
}

void trap() {
    const Unwatched text;
    const std::string others = current_block->standing();
    current_block->fail("executes trap%s%s", others.empty() ? "" : "; ", others.c_str());
}

void add_release(std::uint32_t *counter, std::uint32_t value) {
    current_block->launch().state->published.release(counter, current_block->number());
    __atomic_fetch_add(counter, value, __ATOMIC_RELEASE);
}

std::uint32_t load_acquire(const std::uint32_t *counter) {
    const std::uint32_t value = __atomic_load_n(counter, __ATOMIC_ACQUIRE);
    current_block->launch().state->published.acquire(counter, current_block->number());
    return value;
}

} // namespace twinstream::emulator

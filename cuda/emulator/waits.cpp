// Time, giving up, and counters that blocks of a launch wait for.

#include "block.hpp"
#include "hopper.hpp"

namespace twinstream::emulator {

std::uint64_t global_timer_ns() {
    constexpr std::uint64_t step_ns = 32;
    return current_block->launch().state->clock_ns.fetch_add(step_ns);
}

void sleep_ns(std::uint32_t duration_ns) {
    current_block->sleep(current_thread, "nanosleep", true);
    current_block->launch().state->clock_ns += duration_ns;
}

void trap() {
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

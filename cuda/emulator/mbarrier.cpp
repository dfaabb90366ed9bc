// Arrivals, expected bytes and waits.

#include "mbarrier.hpp"

#include <cstring>

#include "cluster.hpp"
#include "hopper.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t arrivals_len_max = (1u << 20) - 1;
constexpr std::int32_t bytes_max = (1 << 20) - 1;
// What map_shared adds for rank 0.
constexpr std::uint32_t rank_bit = 24;

void end_phase_if_complete(Block &block, BarrierState *state) {
    if (state->missing == 0 && state->bytes == 0) {
        state->parity ^= 1u;
        state->missing = state->arrivals_len;
        block.wake(state);
    }
}

void expect(BarrierState *state, std::int32_t bytes) {
    const std::int64_t sum = state->bytes + bytes;
    if (sum > bytes_max || sum < -bytes_max) {
        current_block->fail("expects %lld bytes at a barrier, which counts to %d",
                            static_cast<long long>(sum), bytes_max);
    }
    state->bytes = sum;
}

void arrive_at(Block &block, BarrierState *state) {
    if (state->missing == 0) {
        current_block->fail("arrives at a barrier more often than it was made for");
    }
    state->missing -= 1u;
    order_release(state);
    end_phase_if_complete(block, state);
}

} // namespace

ClusterPlace locate(std::uint32_t place, const char *instruction) {
    if (place >> rank_bit == 0) {
        return {current_block, place};
    }
    Block &block = current_block->cluster().reach((place >> rank_bit) - 1, instruction);
    return {&block, place & ((1u << rank_bit) - 1)};
}

std::uint32_t place_of(std::uint32_t shared, std::uint32_t rank) {
    return shared | (rank + 1) << rank_bit;
}

BarrierState *barrier_at(const ClusterPlace &place, const char *instruction, bool is_async) {
    current_block->check_shared(place.shared, sizeof(BarrierState), sizeof(BarrierState),
                                instruction);
    auto *state = reinterpret_cast<BarrierState *>(place.block->shared() + place.shared);
    if (state->is_foreign || state->arrivals_len == 0) {
        current_block->fail("uses byte %u of shared memory as a barrier with %s, but none is there",
                            place.shared, instruction);
    }
    if ((is_async || place.block != current_block) && !state->is_fenced) {
        current_block->fail("uses the barrier at byte %u of shared memory with %s, but no "
                            "fence.mbarrier_init has followed its making",
                            place.shared, instruction);
    }
    return state;
}

void complete_bytes(Block &block, BarrierState *state, std::uint32_t bytes) {
    expect(state, -static_cast<std::int32_t>(bytes));
    end_phase_if_complete(block, state);
}

void barrier_init(std::uint32_t barrier, std::uint32_t arrivals_len) {
    if (arrivals_len == 0 || arrivals_len > arrivals_len_max) {
        current_block->fail("makes a barrier for %u arrivals", arrivals_len);
    }
    unsigned char *const at = current_block->check_shared(barrier, sizeof(BarrierState),
                                                          sizeof(BarrierState), "mbarrier.init");
    BarrierState state{};
    state.arrivals_len = arrivals_len;
    state.missing = arrivals_len;
    std::memcpy(at, &state, sizeof state);
    current_thread->barriers.push_back(barrier);
}

void fence_barrier_init() {
    for (const std::uint32_t barrier : current_thread->barriers) {
        reinterpret_cast<BarrierState *>(current_block->shared() + barrier)->is_fenced = 1;
    }
    current_thread->barriers.clear();
}

void barrier_arrive(std::uint32_t place) {
    const ClusterPlace at = locate(place, "mbarrier.arrive");
    arrive_at(*at.block, barrier_at(at, "mbarrier.arrive", false));
}

void barrier_arrive_expect(std::uint32_t barrier, std::uint32_t bytes) {
    BarrierState *const state =
        barrier_at({current_block, barrier}, "mbarrier.arrive.expect_tx", false);
    expect(state, static_cast<std::int32_t>(bytes));
    arrive_at(*current_block, state);
}

bool barrier_try_wait(std::uint32_t barrier, std::uint32_t parity) {
    static const char name[] = "mbarrier.try_wait";
    BarrierState *const state = barrier_at({current_block, barrier}, name, false);
    if (state->parity == (parity & 1)) {
        current_block->sleep(state, name, true);
    }
    order_acquire(state);
    return state->parity != (parity & 1);
}

} // namespace twinstream::emulator

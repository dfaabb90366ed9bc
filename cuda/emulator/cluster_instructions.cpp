// What blocks of a cluster do to one another.

#include <cstring>

#include "cluster.hpp"
#include "hopper.hpp"
#include "mbarrier.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t all_lanes = 0xffffffffu;

void do_nothing(void *const *, std::uint32_t) {}

} // namespace

std::uint32_t cluster_rank() { return current_block->cluster().rank(*current_block); }

std::uint32_t cluster_len() { return current_block->cluster().len(); }

std::uint32_t map_shared(std::uint32_t shared, std::uint32_t rank) {
    static const char name[] = "mapa";
    current_block->check_shared(shared, 1, 1, name);
    if (rank >= cluster_len()) {
        current_block->fail("executes mapa for block %u of its cluster, which has %u", rank,
                            cluster_len());
    }
    return place_of(shared, rank);
}

void cluster_arrive() {
    static const WarpInstruction instruction{"barrier.cluster.arrive", do_nothing};
    current_block->execute(instruction, all_lanes, nullptr);
    current_block->cluster().arrive();
}

void cluster_wait() {
    static const WarpInstruction instruction{"barrier.cluster.wait", do_nothing};
    current_block->execute(instruction, all_lanes, nullptr);
    current_block->cluster().wait();
}

void store_async(std::uint32_t place, const std::uint32_t (&values)[4],
                 std::uint32_t barrier_place) {
    static const char name[] = "st.async";
    const ClusterPlace to = locate(place, name), barrier = locate(barrier_place, name);
    if (to.block != barrier.block) {
        current_block->fail("executes st.async with data and barrier in different blocks");
    }
    current_block->check_shared(to.shared, sizeof values, sizeof values, name);
    BarrierState *const state = barrier_at(barrier, name, false);
    std::memset(to.block->shared() + to.shared, poison, sizeof values);
    order_release(state);
    const std::uint32_t rank = current_block->cluster().rank(*to.block);
    std::array<std::uint32_t, 4> kept;
    std::memcpy(kept.data(), values, sizeof values);
    current_block->defer(name, [=] {
        Block &block = current_block->cluster().reach(rank, name);
        std::memcpy(block.shared() + to.shared, kept.data(), sizeof kept);
        complete_bytes(block, state, sizeof kept);
    });
}

} // namespace twinstream::emulator

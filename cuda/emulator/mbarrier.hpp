// Barriers in shared memory, for the instructions that report to them.
//
// A barrier's state lies in its 8 bytes of shared memory, so that overwriting it is seen. Knows no
// copies.
#pragma once

#include <cstdint>

#include "block.hpp"

namespace twinstream::emulator {

// Poisoned memory has is_foreign set, so that a barrier that was never made is told.
struct BarrierState {
    std::uint64_t arrivals_len : 20; // of every phase
    std::uint64_t missing : 20;      // arrivals of this phase
    std::int64_t bytes : 21;         // expected and not yet copied
    std::uint64_t is_fenced : 1;     // other blocks and the copy engine see it
    std::uint64_t parity : 1;        // of this phase
    std::uint64_t is_foreign : 1;
};
static_assert(sizeof(BarrierState) == 8);

// A byte of shared memory somewhere in the cluster.
struct ClusterPlace {
    Block *block;
    std::uint32_t shared;
};

// What an address stands for; fails where that block has ended.
ClusterPlace locate(std::uint32_t place, const char *instruction);
// The address of `shared` in the block of that rank.
std::uint32_t place_of(std::uint32_t shared, std::uint32_t rank);

// The barrier there; fails where none is, or one that the instruction cannot see yet.
BarrierState *barrier_at(const ClusterPlace &place, const char *instruction, bool is_async);
// That many bytes less are missing, at a barrier of that block.
void complete_bytes(Block &block, BarrierState *state, std::uint32_t bytes);

} // namespace twinstream::emulator

// The matrix product of one warp, for the instructions that are made of it.
#pragma once

#include <cstdint>

#include "block.hpp"

namespace twinstream::emulator {

// What a lane gives: its fragments as in mma.m16n8k16. The sum is updated in place.
struct Fragments {
    float *sum;
    const std::uint32_t *a;
    std::uint32_t b_low;
    std::uint32_t b_high;
};

// The best there is for this processor; operands[lane] points to Fragments. The mask is all lanes.
using MultiplyWarp = void (*)(void *const operands[warp_lanes], std::uint32_t mask);
MultiplyWarp multiply_warp();

} // namespace twinstream::emulator

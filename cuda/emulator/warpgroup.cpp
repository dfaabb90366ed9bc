// One lane out of a warp, and registers that warpgroups hand to one another.

#include "block.hpp"
#include "hopper.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t all_lanes = 0xffffffffu;

void do_nothing(void *const *, std::uint32_t) {}

// Once a warp, by its lowest lane, after all have come.
void set_registers(const WarpInstruction &instruction, std::uint32_t count, bool is_increase) {
    Block &block = *current_block;
    if (count < 24 || count > 256 || count % 8 != 0) {
        block.fail("executes %s for %u registers, not a multiple of 8 from 24 to 256",
                   instruction.name, count);
    }
    block.execute(instruction, all_lanes, nullptr);
    if (current_thread->lane() == 0) {
        if (is_increase ? count < block.registers() : count > block.registers()) {
            block.fail("executes %s for %u registers, where it has %u", instruction.name, count,
                       block.registers());
        }
        block.follow_warpgroup(instruction.name, count);
        block.set_registers(count);
    }
    block.execute(instruction, all_lanes, nullptr);
}

} // namespace

bool elect() {
    static const WarpInstruction instruction{"elect.sync", do_nothing};
    Block &block = *current_block;
    block.execute(instruction, all_lanes, nullptr);
    // Any lane will do; with a seed it is not the first.
    return current_thread->lane() == (block.launch().seed + current_thread->warp()) % warp_lanes;
}

void increase_registers(std::uint32_t count) {
    static const WarpInstruction instruction{"setmaxnreg.inc", do_nothing};
    set_registers(instruction, count, true);
}

void decrease_registers(std::uint32_t count) {
    static const WarpInstruction instruction{"setmaxnreg.dec", do_nothing};
    set_registers(instruction, count, false);
}

} // namespace twinstream::emulator

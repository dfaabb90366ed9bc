// One lane out of a warp, and registers that warpgroups hand to one another.

#include <set>
#include <vector>

#include "../../ptx/cluster.cuh"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
namespace ptx = twinstream::ptx;

struct Elections {
    std::uint32_t *elected; // [64][2]
};

void elect(const Elections &p) {
    for (std::uint32_t i = 0; i < 2; ++i) p.elected[threadIdx.x * 2 + i] = ptx::elect();
}

// One lane a warp, always the same; which one, nobody may count on.
void check_elections() {
    std::set<std::uint32_t> lanes;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
        const With with(seed, 1);
        std::vector<std::uint32_t> elected(128);
        check_is(run<elect>(1, 64, 0, Elections{elected.data()}), "");
        for (std::uint32_t warp = 0; warp < 2; ++warp) {
            std::uint32_t elected_len = 0;
            for (std::uint32_t lane = 0; lane < 32; ++lane) {
                const std::uint32_t at = (warp * 32 + lane) * 2;
                CHECK(elected[at] == elected[at + 1]);
                elected_len += elected[at];
                if (elected[at] != 0) lanes.insert(lane);
            }
            CHECK(elected_len == 1);
        }
    }
    CHECK(lanes.size() > 2);
}

struct Case {
    int number;
};

// 384 threads begin with 168 registers each.
void hand_on(const Case &p) {
    const std::uint32_t group = threadIdx.x / 128, warp = threadIdx.x / 32;
    if (group == 2) {
        switch (p.number) {
        case 1: // of 40 one must do without
            emulator::decrease_registers(48);
            break;
        case 2:
            emulator::decrease_registers(44);
            break;
        case 3:
            emulator::decrease_registers(176);
            break;
        case 4: // not the whole warpgroup
            if (warp != 9) emulator::decrease_registers(40);
            break;
        case 5:
            emulator::decrease_registers(warp == 10 ? 32 : 40);
            break;
        default:
            emulator::decrease_registers(40);
            break;
        }
    } else if (p.number == 6) {
        emulator::increase_registers(160);
    } else {
        emulator::increase_registers(232);
    }
}

void check_registers() {
    const std::string parts[] = {
        "",
        "kernel: block (0,0,0) cannot go on: ",
        "executes setmaxnreg.dec for 44 registers, not a multiple of 8 from 24 to 256",
        "executes setmaxnreg.dec for 176 registers, where it has 168",
        "kernel: block (0,0,0) cannot go on: ",
        "executes setmaxnreg.dec where another warp of its warpgroup has executed something else",
        "executes setmaxnreg.inc for 160 registers, where it has 168",
    };
    for (int number = 0; number < 7; ++number) {
        const std::string error = run<hand_on>(1, 384, 0, Case{number});
        if (error.empty() != parts[number].empty() ||
            error.find(parts[number]) == std::string::npos) {
            check_is(error, parts[number]);
        }
    }
}

} // namespace

void check_warpgroups() {
    check_elections();
    check_registers();
}

// Races that no order of execution of the emulator need show, for ThreadSanitizer to find.
// Argument: `shared` (a barrier is missing), `warp` (a __syncwarp is missing), `copy` (a barrier is
// missing before a copy into a buffer), `blocks` (two blocks write one word), or `none` of them.

#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;

struct Params {
    std::uint32_t *memory; // 64 words
    char race;
};

void touch(const Params &p) {
    auto *shared = reinterpret_cast<std::uint32_t *>(emulator::shared_memory());
    const std::uint32_t self = threadIdx.x;
    if (p.race != 'c') {
        shared[self] = self;
    } else if (self >= 32) {
        shared[self - 32] = 0;
    }
    if (p.race == 'n' || p.race == 'b') {
        __syncthreads();
    } else if (p.race == 's' || p.race == 'c') {
        __syncwarp();
    }
    if (p.race == 'c') {
        if (self < 8) {
            emulator::cp_async_16(self * 16, p.memory + self * 4, 16);
            emulator::cp_async_commit();
            emulator::cp_async_wait(0);
        }
        return;
    }
    // From another warp, or from another lane of the same one.
    const std::uint32_t seen = shared[p.race == 'w' ? self ^ 1 : (self + 32) % 64];
    if (blockIdx.x == 0 || (p.race == 'b' && self == 5)) {
        p.memory[self] = seen;
    }
}

} // namespace

int main(int arguments_len, char **arguments) {
    CHECK(arguments_len == 2);
    std::uint32_t memory[64] = {};
    const With with(0, 2);
    check_is(run<touch>(64, 64, 512, Params{memory, arguments[1][0]}), "");
    return 0;
}

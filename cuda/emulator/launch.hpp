// Entry of the emulated device: runs a kernel over a grid on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace twinstream::emulator {

struct Kernel {
    const char *name;
    std::size_t params_bytes;
    void (*run)(const void *params);
};

struct Settings {
    // 0: threads and blocks in ascending order; else in an order drawn from it.
    std::uint64_t seed;
    // Blocks of a launch that run at the same time, each on a host thread.
    unsigned host_threads;
};

// Those of the next launch. At first the seed is TWINSTREAM_EMULATOR_SEED, or 0, and the host
// threads are TWINSTREAM_EMULATOR_THREADS, or as many as the machine has.
Settings settings();
void set_settings(const Settings &settings);

// Runs all blocks of the grid and returns 0; or describes in *error what went wrong first, and
// returns 1 with the launch's effects in part. *params is copied before the first block. Any number
// of host threads may call at the same time.
int run_kernel(const Kernel &kernel, const unsigned grid[3], const unsigned block[3],
               unsigned shared_bytes, const void *params, std::string *error);

} // namespace twinstream::emulator

// The same for the kernel of that name in cuda/kernels.inc. No such kernel: error, 1.
extern "C" int twinstream_emulated_launch(const char *name, const unsigned grid[3],
                                          const unsigned block[3], unsigned shared_bytes,
                                          const void *params, std::string *error);

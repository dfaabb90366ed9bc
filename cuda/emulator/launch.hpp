// Entry of the emulated device: runs a kernel over a grid on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace twinstream::emulator {

struct Kernel {
    const char *name;
    std::size_t params_bytes;
    void (*run)(const void *params);
    // Blocks that share a multiprocessor's registers, by the kernel's launch bounds; null: one.
    const unsigned *blocks_min = nullptr;
};

// How much of a kernel a launch runs.
struct Grid {
    unsigned blocks[3];
    // In threads.
    unsigned block[3];
    unsigned shared_bytes;
    // Blocks of a cluster, neighbours along x.
    unsigned cluster_len = 1;
    // It may begin before the kernel ahead of it has ended, as programmatic dependent launch
    // allows, and every thread of it must wait for that kernel.
    bool is_dependent = false;
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

// One launch of a kernel over a grid. Any number of host threads may run one each at a time.
class GridRun {
   public:
    // *params is copied.
    GridRun(const Kernel &kernel, const Grid &grid, const void *params);
    ~GridRun();
    GridRun(const GridRun &) = delete;
    GridRun &operator=(const GridRun &) = delete;

    // The kernel ahead is still to run: takes one cluster of a dependent launch as far as it goes
    // without it. Call `finish` on the same host thread then.
    void begin_early();
    // Runs all that is left and returns 0; or describes in *error what went wrong first, and
    // returns 1 with the launch's effects in part.
    int finish(std::string *error);

   private:
    struct State;
    std::unique_ptr<State> state_;
};

// Runs a launch that depends on none.
int run_kernel(const Kernel &kernel, const Grid &grid, const void *params, std::string *error);

// The kernel of that name in cuda/kernels.inc; null: there is none.
const Kernel *find_kernel(const char *name);

} // namespace twinstream::emulator

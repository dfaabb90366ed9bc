// Programmatic dependence: what a kernel does before the one ahead of it has ended, and that it
// waits.

#include <algorithm>
#include <vector>

#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;

struct Values {
    const std::uint32_t *input;
    std::uint32_t *output; // one a thread
};

unsigned place() { return blockIdx.x * 64 + threadIdx.x; }

void produce(const Values &p) { p.output[place()] = p.input[place()] + 1; }

// Threads meet at barriers on both sides of the wait.
void consume(const Values &p) {
    auto *shared = reinterpret_cast<std::uint32_t *>(emulator::shared_memory());
    shared[threadIdx.x] = 1;
    __syncthreads();
    const std::uint32_t other = shared[63 - threadIdx.x];
    emulator::wait_for_previous_kernel();
    __syncthreads();
    shared[threadIdx.x] = p.input[place()];
    p.output[place()] = shared[threadIdx.x] + other;
}

#ifndef TWINSTREAM_RACE_CHECK // which finds these races, and reports them
void consume_too_soon(const Values &p) {
    const std::uint32_t value = p.input[place()];
    emulator::wait_for_previous_kernel();
    p.output[place()] = value + 1;
}

void copy_too_soon(const Values &p) {
    if (threadIdx.x % 4 == 0) {
        emulator::cp_async_16(threadIdx.x * 4, p.input + place(), 16);
        emulator::cp_async_commit();
    }
    emulator::wait_for_previous_kernel();
    emulator::cp_async_wait(0);
    __syncthreads();
    const auto *shared = reinterpret_cast<const std::uint32_t *>(emulator::shared_memory());
    p.output[place()] = shared[threadIdx.x] + 1;
}
#endif

void leave_without_waiting(const Values &) {
    if (threadIdx.x != 7) {
        emulator::wait_for_previous_kernel();
    }
}

void stop_before_waiting(const Values &) {
    if (threadIdx.x < 32) {
        __syncthreads();
    }
    emulator::wait_for_previous_kernel();
}

template <void kernel(const Values &)>
emulator::GridRun launch(const Values &p, bool dependent) {
    const emulator::Kernel entry{"kernel", sizeof p,
                                 [](const void *at) { kernel(*static_cast<const Values *>(at)); }};
    const emulator::Grid grid{{3, 1, 1}, {64, 1, 1}, 256, 1, dependent};
    return emulator::GridRun(entry, grid, &p);
}

// Values behind a kernel and one that depends on it, which begins first; or its error.
template <void kernel(const Values &)>
std::string chain(std::vector<std::uint32_t> &last) {
    std::vector<std::uint32_t> first(192, 5), middle(192, 100);
    last.assign(192, 0);
    emulator::GridRun producer = launch<produce>({first.data(), middle.data()}, false);
    emulator::GridRun consumer = launch<kernel>({middle.data(), last.data()}, true);
    consumer.begin_early();
    std::string error;
    CHECK(producer.finish(&error) == 0);
    consumer.finish(&error);
    return error;
}

} // namespace

void check_dependence() {
    for (const std::uint64_t seed : {0, 1, 2}) {
        const With with(seed, 2);
        std::vector<std::uint32_t> values;
        check_is(chain<consume>(values), "");
        CHECK(values == std::vector<std::uint32_t>(192, 7));

#ifndef TWINSTREAM_RACE_CHECK
        for (const auto chain_of : {chain<consume_too_soon>, chain<copy_too_soon>}) {
            check_is(chain_of(values), "");
            // One block found what was there before.
            CHECK(std::count(values.begin(), values.end(), 101u) == 64);
        }
#endif
    }
    std::vector<std::uint32_t> values;
    check_is(chain<leave_without_waiting>(values),
             "kernel: block (0,0,0), thread (7,0,0) exits without having waited for the kernel "
             "before");
    check_is(chain<stop_before_waiting>(values),
             "kernel: block (0,0,0) cannot go on: 32 of 64 threads at __syncthreads, 32 of 64 "
             "threads exited");

    // One that never finishes frees what it has.
    std::vector<std::uint32_t> input(192), output(192);
    launch<consume>({input.data(), output.data()}, true).begin_early();
}

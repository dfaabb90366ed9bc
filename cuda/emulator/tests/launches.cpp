// Launches: indices and sizes, limits, atomics between blocks on several host threads, and several
// launches at the same time.

#include <thread>
#include <vector>

#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;

struct Output {
    std::uint32_t *values;
};

void write_indices(const Output &p) {
    const std::uint32_t block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const std::uint32_t thread =
        threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    p.values[block * 24 + thread] += 1 + blockIdx.z * 1000 + threadIdx.z * 100 + threadIdx.y;
}

emulator::Kernel kernel_of(void (*run)(const void *), std::size_t params_bytes) {
    return {"kernel", params_bytes, run};
}

void check_indices() {
    const emulator::Kernel kernel =
        kernel_of([](const void *params) { write_indices(*static_cast<const Output *>(params)); },
                  sizeof(Output));
    const emulator::Grid grid{{2, 3, 4}, {4, 2, 3}, 0};
    std::vector<std::uint32_t> values(24 * 24, 0);
    const Output params{values.data()};
    std::string error;
    CHECK(emulator::run_kernel(kernel, grid, &params, &error) == 0);
    for (std::uint32_t i = 0; i < values.size(); ++i) {
        const std::uint32_t block_index = i / 24, thread = i % 24;
        CHECK(values[i] == 1 + block_index / 6 * 1000 + thread / 8 * 100 + thread / 4 % 2);
    }
}

void check_limits() {
    const emulator::Kernel kernel = kernel_of([](const void *) {}, sizeof(Output));
    const Output params{nullptr};
    const auto refusal = [&](unsigned blocks, unsigned threads, unsigned shared_bytes) {
        const emulator::Grid grid{{blocks, 1, 1}, {threads, 1, 1}, shared_bytes};
        std::string error;
        emulator::run_kernel(kernel, grid, &params, &error);
        return error;
    };
    check_is(refusal(1, 1024, 232448), "");
    check_is(refusal(0, 32, 0), "kernel: the grid is empty or too large");
    check_is(refusal(1, 1025, 0), "kernel: a block has 1 to 1024 threads, at most 64 in z");
    check_is(refusal(1, 32, 232449),
             "kernel: 232449 bytes of shared memory are more than the 232448 there are");
}

struct Sums {
    const std::uint32_t *values; // 64 a block
    std::uint32_t *partial;      // one a block
    std::uint32_t *arrived;
    std::uint32_t *total;
    float *total_float;
};

// The last block to arrive adds up what all blocks left: the pattern of split sums.
void sum_up(const Sums &p) {
    auto *shared = reinterpret_cast<std::uint32_t *>(emulator::shared_memory());
    if (threadIdx.x == 0) {
        shared[0] = 0;
    }
    __syncthreads();
    atomicAdd(shared, p.values[blockIdx.x * 64 + threadIdx.x]);
    atomicAdd(p.total_float, 1.0f);
    __syncthreads();
    if (threadIdx.x == 0) {
        p.partial[blockIdx.x] = shared[0];
        __threadfence();
        if (emulator::arrive(p.arrived) == gridDim.x - 1) {
            std::uint32_t total = 0;
            for (unsigned block = 0; block < gridDim.x; ++block) {
                total += emulator::ld_global_cg(&p.partial[block]);
            }
            *p.total = total;
            *p.arrived = 0;
        }
    }
}

void check_sums(unsigned rounds) {
    constexpr std::uint32_t blocks = 100;
    std::vector<std::uint32_t> values(blocks * 64), partial(blocks);
    std::uint32_t expected = 0, arrived = 0;
    for (std::uint32_t i = 0; i < values.size(); ++i) {
        values[i] = i * i;
        expected += values[i];
    }
    for (unsigned round = 0; round < rounds; ++round) {
        std::uint32_t total = 0;
        float total_float = 0;
        const Sums params{values.data(), partial.data(), &arrived, &total, &total_float};
        check_is(run<sum_up>(blocks, 64, 256, params), "");
        CHECK(total == expected);
        CHECK(arrived == 0);
        CHECK(total_float == 6400.0f);
    }
}

void check_host_threads() {
    const With with(7, 4);
    check_sums(5);
    // As two streams that compute at the same time.
    std::thread other(check_sums, 5);
    check_sums(5);
    other.join();
}

void fail_late(const Output &p) {
    atomicAdd(p.values, 1u);
    if (blockIdx.x == 5 && threadIdx.x != 0) {
        __syncthreads();
    }
}

// The first error ends the launch and names its block.
void check_failing_block() {
    std::uint32_t started = 0;
    const With with(0, 1);
    check_is(run<fail_late>(1000, 32, 0, Output{&started}),
             "kernel: block (5,0,0) cannot go on: 31 of 32 threads at __syncthreads, 1 of 32 "
             "threads exited; warp 0: lanes 1-31 at __syncthreads, lanes 0 exited");
    CHECK(started == 6 * 32);
}

void update(const Output &p) {
    atomicMax(&p.values[0], threadIdx.x ^ 21);
    atomicInc(&p.values[1], 9);
    atomicExch(&p.values[2], 5);
    atomicCAS(&p.values[3], threadIdx.x, threadIdx.x + 1);
}

void check_atomics() {
    const With with(0, 1);
    std::vector<std::uint32_t> values(4, 0);
    check_is(run<update>(1, 32, 0, Output{values.data()}), "");
    CHECK((values == std::vector<std::uint32_t>{31, 2, 5, 32}));
}

} // namespace

void check_launches() {
    check_indices();
    check_limits();
    check_host_threads();
    check_failing_block();
    check_atomics();
}

// Linear copies of the copy engine: when they read and write, in both directions, and what is
// refused.

#include <vector>

#include "../../ptx/barrier.cuh"
#include "../../ptx/bulk.cuh"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
namespace ptx = twinstream::ptx;

constexpr std::uint32_t nan_bits = 0xffffffffu;
constexpr std::uint32_t data_at = 16;

std::uint32_t &word(std::uint32_t at) {
    return *reinterpret_cast<std::uint32_t *>(emulator::shared_memory() + at);
}

struct Copies {
    std::uint32_t *memory; // 16 words
    std::uint32_t *seen;
};

// One thread; `seen` records each moment.
void load(const Copies &p) {
    ptx::barrier_init(0, 1);
    ptx::fence_barrier_init();
    ptx::barrier_arrive_expect(0, 32);
    ptx::copy_bulk(data_at, p.memory, 16, 0);
    ptx::copy_bulk(data_at + 16, p.memory + 4, 16, 0);
    p.seen[0] = word(data_at);
    p.memory[4] += 1000; // read only when nothing else is left to do
    ptx::barrier_wait(0, 0);
    p.seen[1] = word(data_at);
    p.seen[2] = word(data_at + 16);
}

void store(const Copies &p) {
    for (std::uint32_t i = 0; i < 8; ++i) word(data_at + i * 4) = 100 + i;
    ptx::fence_proxy_async_shared();
    ptx::store_bulk(p.memory, data_at, 16);
    ptx::bulk_commit();
    ptx::store_bulk(p.memory + 4, data_at + 16, 16);
    ptx::bulk_commit();
    p.seen[0] = p.memory[0]; // neither read nor written
    ptx::bulk_wait_read<1>();
    word(data_at) = 7; // has been read
    p.seen[1] = p.memory[0];
    ptx::bulk_wait<1>();
    p.seen[2] = p.memory[0];
    word(data_at + 16) = 8; // has not
    p.seen[3] = p.memory[4];
    ptx::bulk_wait<0>();
    p.seen[4] = p.memory[4];
}

void check_moments() {
    const With with(0, 1);
    alignas(16) std::uint32_t memory[16];
    for (std::uint32_t i = 0; i < 16; ++i) memory[i] = i + 1;
    std::vector<std::uint32_t> seen(3);
    check_is(run<load>(1, 1, 64, Copies{memory, seen.data()}), "");
    CHECK((seen == std::vector<std::uint32_t>{nan_bits, 1, 1005}));
    seen.resize(5);
    check_is(run<store>(1, 1, 64, Copies{memory, seen.data()}), "");
    CHECK((seen == std::vector<std::uint32_t>{nan_bits, nan_bits, 100, nan_bits, 8}));
    CHECK(memory[3] == 103 && memory[7] == 107 && memory[8] == 9);
}

struct Case {
    std::uint32_t *memory;
    int number;
};

void go_astray(const Case &p) {
    ptx::barrier_init(0, 1);
    ptx::fence_barrier_init();
    switch (p.number) {
    case 0:
        ptx::copy_bulk(data_at, p.memory + 1, 16, 0);
        break;
    case 1:
        ptx::copy_bulk(data_at, p.memory, 24, 0);
        break;
    case 2:
        ptx::copy_bulk(data_at + 8, p.memory, 16, 0);
        break;
    case 3:
        ptx::copy_bulk(data_at, p.memory, 64, 0);
        break;
    case 4:
        ptx::prefetch_bulk(p.memory, 8);
        break;
    case 5: // a store that is in no group
        ptx::store_bulk(p.memory, data_at, 16);
        ptx::bulk_wait_read<0>();
        break;
    default: // a rank that is not there
        ptx::copy_bulk_to_all(data_at, p.memory, 16, 0, 3);
        break;
    }
}

void check_misuse() {
    const std::string thread = "kernel: block (0,0,0), thread (0,0,0) ";
    const std::string unaligned = " bytes or an address that are no multiple of 16";
    const std::string expected[] = {
        thread + "executes cp.async.bulk.shared.global for 16" + unaligned,
        thread + "executes cp.async.bulk.shared.global for 24" + unaligned,
        thread + "reaches byte 24 of shared memory with cp.async.bulk.shared.global, which is not "
                 "aligned to 16",
        thread + "reaches byte 16 of shared memory with cp.async.bulk.shared.global; it has 64",
        thread + "executes cp.async.bulk.prefetch.L2 for 8" + unaligned,
        thread + "exits with cp.async.bulk.global.shared that has not read shared memory for all "
                 "that it waited for",
        thread + "reaches block 1 of its cluster with cp.async.bulk.shared.global, which has 1",
    };
    alignas(16) std::uint32_t memory[16] = {};
    for (int number = 0; number < 7; ++number) {
        check_is(run<go_astray>(1, 1, 64, Case{memory, number}), expected[number]);
    }
}

} // namespace

void check_bulk_copies() {
    check_moments();
    check_misuse();
}

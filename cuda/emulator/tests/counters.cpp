// Blocks of one launch that wait for one another's results: items claimed in order, counters, and
// copies of what other blocks stored. What is not published and acquired may not be read. And waits
// that are given up.

#include <vector>

#include "../../ptx/barrier.cuh"
#include "../../ptx/bulk.cuh"
#include "../../ptx/ld_st.cuh"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
namespace ptx = twinstream::ptx;

enum Part {
    nothing,
    wait_for_store,
    release,
    acquisition,
    fence_of_reader,
    fence_of_results,
    barrier_before_store,
    wait_for_copy,
};

// Item i adds one to what item i - 2 left, 64 words in each slot; the first two start from zeros.
constexpr std::uint32_t items = 12, words = 64, bytes = words * 4;
constexpr std::uint32_t full_at = 2 * bytes, item_at = full_at + 8;

struct Items {
    std::uint32_t *slots;    // [items + 2][words], the first two zeros
    std::uint32_t *counters; // [items + 2], the first two 1
    std::uint32_t *claimed;
    Part left_out;

    bool has(Part part) const { return left_out != part; }
};

std::uint32_t claim(const Items &p) {
    std::uint32_t item;
    if (threadIdx.x == 0) {
        item = atomicAdd(p.claimed, 1u);
        std::memcpy(emulator::shared_memory() + item_at, &item, 4);
    }
    __syncthreads();
    std::memcpy(&item, emulator::shared_memory() + item_at, 4);
    __syncthreads();
    return item;
}

void load(const Items &p, std::uint32_t item) {
    if (p.has(acquisition)) {
        while (ptx::load_acquire(p.counters + item) == 0) ptx::sleep_ns(20);
    }
    if (p.has(fence_of_reader)) ptx::fence_proxy_async_global();
    ptx::barrier_arrive_expect(full_at, bytes);
    ptx::copy_bulk(0, p.slots + item * words, bytes, full_at);
}

void work_off(const Items &p) {
    if (threadIdx.x == 0) {
        ptx::barrier_init(full_at, 1);
        ptx::fence_barrier_init();
    }
    __syncthreads();
    std::uint32_t phase = 0;
    for (std::uint32_t item = claim(p); item < items; item = claim(p)) {
        if (threadIdx.x == 0) load(p, item);
        if (p.has(wait_for_copy)) ptx::barrier_wait(full_at, phase);
        phase ^= 1;
        std::uint32_t word;
        std::memcpy(&word, emulator::shared_memory() + threadIdx.x * 4, 4);
        word += 1;
        std::memcpy(emulator::shared_memory() + bytes + threadIdx.x * 4, &word, 4);
        emulator::note_write(bytes + threadIdx.x * 4, 4);
        if (p.has(fence_of_results)) ptx::fence_proxy_async_shared();
        if (p.has(barrier_before_store)) __syncthreads();
        if (threadIdx.x == 0) {
            ptx::store_bulk(p.slots + (item + 2) * words, bytes, bytes);
            ptx::bulk_commit();
            if (p.has(wait_for_store)) {
                ptx::bulk_wait<0>();
            } else {
                ptx::bulk_wait_read<0>();
            }
            if (p.has(release)) {
                ptx::add_release(p.counters + item + 2, 1);
            } else {
                atomicAdd(p.counters + item + 2, 1u);
            }
        }
    }
}

std::string outcome(Part left_out, std::uint64_t seed, unsigned host_threads) {
    const With with(seed, host_threads);
    std::vector<std::uint32_t> memory((items + 2) * words + 4), counters(items + 2);
    std::uint32_t *const slots =
        memory.data() + (reinterpret_cast<std::uintptr_t>(memory.data()) % 16 == 0 ? 0 : 2);
    counters[0] = counters[1] = 1;
    std::uint32_t claimed = 0;
    const std::string error =
        run<work_off>(3, words, item_at + 8, Items{slots, counters.data(), &claimed, left_out});
    bool is_right = true;
    for (std::uint32_t i = 0; i < items * words; ++i) {
        is_right = is_right && slots[2 * words + i] == i / words / 2 + 1;
    }
    return error.empty() && !is_right ? "wrong" : error;
}

void check_items() {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
        check_is(outcome(nothing, seed, 1), "");
        check_is(outcome(nothing, seed, 3), "");
    }
}

// Block 1 copies what block 0 stored: from its own memory of the order of things, not by chance.
struct Handed {
    std::uint32_t *words; // [64]
    std::uint32_t *counter;
    Part left_out;

    bool has(Part part) const { return left_out != part; }
};

void store(const Handed &p) {
    std::uint32_t *const shared = reinterpret_cast<std::uint32_t *>(emulator::shared_memory());
    for (std::uint32_t i = 0; i < words; ++i) shared[i] = i;
    emulator::note_write(0, bytes);
    if (p.has(fence_of_results)) ptx::fence_proxy_async_shared();
    ptx::store_bulk(p.words, 0, bytes);
    ptx::bulk_commit();
    if (p.has(wait_for_store)) ptx::bulk_wait<0>();
    if (p.has(release)) {
        ptx::add_release(p.counter, 1);
    } else {
        atomicAdd(p.counter, 1u);
    }
    ptx::bulk_wait_read<0>();
}

void fetch(const Handed &p) {
    ptx::barrier_init(full_at, 1);
    ptx::fence_barrier_init();
    if (p.has(acquisition)) {
        while (ptx::load_acquire(p.counter) == 0) ptx::sleep_ns(20);
    }
    if (p.has(fence_of_reader)) ptx::fence_proxy_async_global();
    ptx::barrier_arrive_expect(full_at, bytes);
    ptx::copy_bulk(0, p.words, bytes, full_at);
    ptx::barrier_wait(full_at, 0);
}

void hand_over(const Handed &p) {
    if (blockIdx.x == 0) {
        store(p);
    } else {
        fetch(p);
    }
}

void check_handing_over() {
    const With with(0, 1); // block 0 ends before block 1 begins
    const std::string reader = "kernel: block (1,0,0), thread (0,0,0) reads 256 bytes of device "
                               "memory with cp.async.bulk.shared.global that block number 0 ";
    const std::string not_acquired = reader + "wrote, without acquire and fence.proxy.async";
    const struct {
        Part left_out;
        std::string error;
    } cases[] = {
        {nothing, ""},
        {release, not_acquired},
        {acquisition, not_acquired},
        {fence_of_reader, not_acquired},
        {wait_for_store, not_acquired},
        {fence_of_results, "kernel: block (0,0,0), thread (0,0,0) reaches byte 0 of shared memory "
                           "with cp.async.bulk.global.shared, where thread (0,0,0) has written "
                           "without fence.proxy.async"},
    };
    for (const auto &[left_out, error] : cases) {
        alignas(16) std::uint32_t handed[words];
        std::uint32_t counter = 0;
        check_is(run<hand_over>(2, 1, item_at, Handed{handed, &counter, left_out}), error);
    }
}

// A wait for what never comes ends the launch, and quickly: no time passes but the device's.
void wait_for_ever(const Handed &p) {
    if (p.left_out == acquisition) {
        const std::uint64_t start_ns = ptx::global_timer_ns();
        while (ptx::load_acquire(p.counter) == 0) {
            ptx::sleep_ns(20);
            if (ptx::global_timer_ns() - start_ns > 1'000'000'000) ptx::trap();
        }
    }
    ptx::barrier_init(full_at, 1);
    if (threadIdx.x == 0) __syncthreads();
    ptx::barrier_wait(full_at, 0);
}

void check_giving_up() {
    std::uint32_t counter = 0;
    check_is(run<wait_for_ever>(1, 32, item_at, Handed{nullptr, &counter, nothing}),
             "kernel: block (0,0,0), thread (1,0,0) executes trap; 1 of 32 threads at "
             "__syncthreads, 30 of 32 threads ready");
    const With with(0, 2);
    const std::string error =
        run<wait_for_ever>(2, 1, item_at, Handed{nullptr, &counter, acquisition});
    CHECK(error.find("executes trap") != std::string::npos);
}

} // namespace

void check_counters() {
    check_items();
    check_handing_over();
    check_giving_up();
#ifndef TWINSTREAM_RACE_CHECK
    for (const Part part : {fence_of_results, barrier_before_store, wait_for_copy}) {
        int noticed_len = 0;
        for (std::uint64_t seed = 0; seed < 8; ++seed) {
            noticed_len += !outcome(part, seed, 1).empty();
        }
        CHECK(noticed_len > 0);
    }
#endif
}

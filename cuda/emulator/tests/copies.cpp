// cp.async: that a copy is seen neither too early nor too late, and what is refused.

#include <vector>

#include "../memory.hpp"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;

constexpr std::uint32_t nan_bits = 0xffffffffu;

struct Copies {
    std::uint32_t *source; // [32][4], and what is seen of it goes to
    std::uint32_t *seen;
};

std::uint32_t word(unsigned chunk) {
    std::uint32_t value;
    std::memcpy(&value, emulator::shared_memory() + chunk * 16, sizeof value);
    return value;
}

// One thread, three groups; `seen` records each moment.
void groups(const Copies &p) {
    std::memset(emulator::shared_memory(), 0, 64);
    std::uint32_t *seen = p.seen;
    emulator::cp_async_16(0, p.source, 16);
    emulator::cp_async_commit();
    emulator::cp_async_16(16, p.source + 4, 16);
    emulator::cp_async_16(32, nullptr, 0);
    emulator::cp_async_commit();
    emulator::cp_async_16(48, p.source + 8, 16);
    *seen++ = word(0); // issued, not waited for
    *seen++ = word(2);
    emulator::cp_async_wait(1);
    *seen++ = word(0); // the older of two groups
    *seen++ = word(1);
    p.source[4] += 1000; // read only when the copy is waited for
    emulator::cp_async_wait(0);
    *seen++ = word(1);
    *seen++ = word(2);
    *seen++ = word(3); // in no group yet
    emulator::cp_async_commit();
    emulator::cp_async_wait(0);
    *seen++ = word(3);
}

void check_lateness() {
    std::vector<std::uint32_t> source(128), seen(8);
    for (std::uint32_t i = 0; i < 128; ++i) {
        source[i] = i + 1;
    }
    check_is(run<groups>(1, 1, 64, Copies{source.data(), seen.data()}), "");
    const std::vector<std::uint32_t> expected = {nan_bits, nan_bits, 1,        nan_bits,
                                                 1005,     0,        nan_bits, 9};
    CHECK(seen == expected);
}

// Two warps share a buffer; the first refills it while the second may still read.
template <bool has_barrier>
void refill(const Copies &p) {
    const std::uint32_t chunk = threadIdx.x % 32;
    if (threadIdx.x < 32) {
        emulator::cp_async_16(chunk * 16, p.source + chunk * 4, 16);
        emulator::cp_async_commit();
        emulator::cp_async_wait(0);
    }
    __syncthreads();
    if (threadIdx.x >= 32) {
        p.seen[chunk] = word(chunk);
    }
    if (has_barrier) {
        __syncthreads();
    }
    if (threadIdx.x < 32) {
        emulator::cp_async_16(chunk * 16, p.source + chunk * 4, 16);
        emulator::cp_async_commit();
        emulator::cp_async_wait(0);
    }
}

void check_refill() {
    std::vector<std::uint32_t> source(128), seen(32), expected(32);
    for (std::uint32_t i = 0; i < 128; ++i) {
        source[i] = i;
        expected[i / 4] = i / 4 * 4;
    }
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
        const With with(seed, 1);
        check_is(run<refill<true>>(1, 64, 512, Copies{source.data(), seen.data()}), "");
        CHECK(seen == expected);
    }
}

// A barrier is missing between the reads of one warp and the copies of another. Every copy puts
// there what was there, so that only its NaN in between can tell.
#ifndef TWINSTREAM_RACE_CHECK
void overwrite(const Copies &p) {
    const std::uint32_t chunk = threadIdx.x % 32;
    std::memset(emulator::shared_memory() + chunk * 16, 0, 16);
    __syncthreads();
    if (threadIdx.x < 32) {
        emulator::cp_async_16(chunk * 16, p.source + chunk * 4, 16);
        emulator::cp_async_commit();
    } else {
        p.seen[chunk] = word(chunk);
    }
    __syncthreads();
    emulator::cp_async_wait(0);
}

void check_overwrite() {
    int caught_len = 0;
    for (std::uint64_t seed = 0; seed < 16; ++seed) {
        const With with(seed, 1);
        std::vector<std::uint32_t> source(128, 0), seen(32);
        check_is(run<overwrite>(1, 64, 512, Copies{source.data(), seen.data()}), "");
        caught_len += seen != std::vector<std::uint32_t>(32, 0);
    }
    CHECK(caught_len > 4);
}
#else
void check_overwrite() {}
#endif

struct Misuse {
    const unsigned char *source;
    std::uint32_t at;
    std::uint32_t bytes;
};

void copy_once(const Misuse &p) {
    emulator::cp_async_16(p.at, p.source, p.bytes);
    emulator::cp_async_commit();
    emulator::cp_async_wait(0);
}

void copy_and_exit(const Misuse &p) {
    emulator::cp_async_16(p.at, p.source, p.bytes);
    emulator::cp_async_commit();
}

void copy_for_ever(const Misuse &p) {
    for (;;) {
        emulator::cp_async_16(p.at, p.source, p.bytes);
    }
}

void check_misuse() {
    const std::string thread = "kernel: block (0,0,0), thread (0,0,0) ";
    alignas(16) unsigned char memory[48] = {};
    check_is(run<copy_once>(1, 1, 64, Misuse{memory, 48, 16}), "");
    check_is(run<copy_once>(1, 1, 64, Misuse{memory, 64, 16}),
             thread + "reaches byte 64 of shared memory with cp.async; it has 64");
    check_is(run<copy_once>(1, 1, 40, Misuse{memory, 32, 16}),
             thread + "reaches byte 32 of shared memory with cp.async; it has 40");
    check_is(run<copy_once>(1, 1, 64, Misuse{memory, 8, 16}),
             thread + "reaches byte 8 of shared memory with cp.async, which is not aligned to 16");
    check_is(run<copy_once>(1, 1, 64, Misuse{memory + 4, 0, 16}),
             thread + "copies with cp.async from an address that is not aligned to 16");
    check_is(run<copy_once>(1, 1, 64, Misuse{memory, 0, 8}),
             thread + "copies 8 bytes with cp.async, not 0 or 16");
    check_is(run<copy_and_exit>(1, 1, 64, Misuse{memory, 0, 16}),
             thread + "exits with 1 asynchronous copies that it never waited for");
    check_is(run<copy_for_ever>(1, 1, 64, Misuse{memory, 0, 16}),
             thread + "issues copies with cp.async and never waits for them");

    // Once allocations are known, copies must stay within one.
    emulator::add_allocation(memory, 32);
    check_is(run<copy_once>(1, 1, 64, Misuse{memory + 16, 0, 16}), "");
    check_is(run<copy_once>(1, 1, 64, Misuse{memory + 32, 0, 16}),
             thread + "copies with cp.async from outside device memory");
    check_is(run<copy_once>(1, 1, 64, Misuse{memory + 32, 0, 0}), "");
    emulator::remove_allocation(memory);
    check_is(run<copy_once>(1, 1, 64, Misuse{memory, 0, 16}),
             thread + "copies with cp.async from outside device memory");
}

} // namespace

void check_copies() {
    check_lateness();
    check_refill();
    check_overwrite();
    check_misuse();
}

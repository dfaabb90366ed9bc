// Clusters of blocks: pairs, of which each block copies half of what both read; partial sums that
// go to one block's memory; and what a block may not do to another. Each fence, barrier, wait and
// flip left out shows.

#include <random>
#include <vector>

#include "../../ptx/barrier.cuh"
#include "../../ptx/bulk.cuh"
#include "../../ptx/cluster.cuh"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
namespace ptx = twinstream::ptx;

enum Part {
    nothing,
    fence_after_init,
    barrier_after_init,
    wait_for_empty,
    producer_flip,
    wait_for_full,
    consumer_flip,
    arrival_at_peers,
    barrier_before_exit,
    parts_len,
};

// Both blocks of a pair read all of `source`, step by step; each copies half of a step to both.
constexpr std::uint32_t steps = 7, stages = 2;
constexpr std::uint32_t stage_words = 256, half_words = stage_words / 2;
constexpr std::uint32_t stage_bytes = stage_words * 4;
constexpr std::uint32_t full_at = stages * stage_bytes;
constexpr std::uint32_t empty_at = full_at + stages * 8;
constexpr std::uint32_t pair_shared_bytes = empty_at + stages * 8;

struct Pair {
    const std::uint32_t *source; // [steps][stage_words]
    std::uint32_t *sums;         // [blocks][32]
    Part left_out;

    bool has(Part part) const { return left_out != part; }
};

void copy_halves(const Pair &p) {
    const std::uint32_t rank = ptx::cluster_rank();
    std::uint32_t phase = 1;
    for (std::uint32_t step = 0; step < steps; ++step) {
        const std::uint32_t stage = step % stages;
        if (p.has(wait_for_empty)) ptx::barrier_wait(empty_at + stage * 8, phase);
        ptx::barrier_arrive_expect(full_at + stage * 8, stage_bytes);
        const std::uint32_t half = rank * half_words;
        ptx::copy_bulk_to_all(stage * stage_bytes + half * 4, p.source + step * stage_words + half,
                              half_words * 4, full_at + stage * 8, 3);
        if (stage + 1 == stages && p.has(producer_flip)) phase ^= 1;
    }
}

void add_up(const Pair &p) {
    std::uint32_t phase = 0, sum = 0;
    for (std::uint32_t step = 0; step < steps; ++step) {
        const std::uint32_t stage = step % stages, lane = threadIdx.x % 32;
        if (p.has(wait_for_full)) ptx::barrier_wait(full_at + stage * 8, phase);
        std::uint32_t words[stage_words];
        std::memcpy(words, emulator::shared_memory() + stage * stage_bytes, sizeof words);
        for (std::uint32_t i = lane; i < stage_words; i += 32) sum += words[i] * (step + 1);
        __syncwarp();
        if (lane < 2 && p.has(arrival_at_peers)) {
            ptx::barrier_arrive_at(ptx::map_shared(empty_at + stage * 8, lane));
        }
        if (stage + 1 == stages && p.has(consumer_flip)) phase ^= 1;
    }
    p.sums[blockIdx.x * 32 + threadIdx.x % 32] = sum;
}

void share(const Pair &p) {
    if (threadIdx.x == 0) {
        for (std::uint32_t i = 0; i < stages; ++i) {
            ptx::barrier_init(full_at + i * 8, 1);
            ptx::barrier_init(empty_at + i * 8, 2);
        }
        if (p.has(fence_after_init)) ptx::fence_barrier_init();
    }
    if (p.has(barrier_after_init)) {
        ptx::cluster_arrive();
        ptx::cluster_wait();
    } else {
        __syncthreads();
    }
    if (threadIdx.x < 32) {
        if (ptx::elect()) copy_halves(p);
        __syncwarp();
    } else {
        add_up(p);
    }
    if (p.has(barrier_before_exit)) {
        ptx::cluster_arrive();
        ptx::cluster_wait();
    }
}

std::string outcome(Part left_out, std::uint64_t seed) {
    const With with(seed, 2);
    alignas(16) static std::uint32_t source[steps * stage_words];
    for (std::uint32_t i = 0; i < steps * stage_words; ++i) {
        source[i] = i * 2654435761u >> 8;
    }
    std::vector<std::uint32_t> sums(8 * 32);
    const std::string error =
        run<share>(8, 64, pair_shared_bytes, Pair{source, sums.data(), left_out}, 2);
    bool is_right = true;
    for (std::uint32_t i = 0; i < sums.size(); ++i) {
        std::uint32_t sum = 0;
        for (std::uint32_t at = i % 32; at < steps * stage_words; at += 32) {
            sum += source[at] * (at / stage_words + 1);
        }
        is_right = is_right && sums[i] == sum;
    }
    return error.empty() && !is_right ? "wrong" : error;
}

void check_pairs() {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
        check_is(outcome(nothing, seed), "");
    }
#ifndef TWINSTREAM_RACE_CHECK
    for (int part = nothing + 1; part < parts_len; ++part) {
        int noticed_len = 0;
        for (std::uint64_t seed = 0; seed < 12; ++seed) {
            noticed_len += !outcome(static_cast<Part>(part), seed).empty();
        }
        if (noticed_len == 0) {
            std::fprintf(stderr, "part %d of the pair is not missed\n", part);
        }
        CHECK(noticed_len > 0);
    }
#endif
}

// Blocks 1 to 3 send their sums to block 0, which adds them in the order of ranks.
enum Join {
    all,
    ready,         // block 0 says that its memory may be written
    expectation,   // of the bytes that come
    wait_for_sums, // before they are read
};

constexpr std::uint32_t blocks = 4, sums_at = 64, ready_at = 0, arrived_at = 8;
constexpr std::uint32_t block_sums_bytes = 32 * 16;

struct Sums {
    float *total; // [32][4]
    Join left_out;
    bool has(Join part) const { return left_out != part; }
};

void receive(const Sums &p, const float (&own)[4]) {
    const std::uint32_t lane = threadIdx.x;
    // What lay there before was this block's.
    std::memset(emulator::shared_memory() + sums_at + lane * 16, 0, 16);
    emulator::note_write(sums_at + lane * 16, 16);
    __syncwarp();
    if (lane == 0 && p.has(expectation)) {
        ptx::barrier_arrive_expect(arrived_at, (blocks - 1) * block_sums_bytes);
    } else if (lane == 0) {
        ptx::barrier_arrive(arrived_at);
    }
    __syncwarp();
    if (lane > 0 && lane < blocks && p.has(ready)) {
        ptx::barrier_arrive_at(ptx::map_shared(ready_at, lane));
    }
    if (p.has(wait_for_sums)) ptx::barrier_wait<ptx::Arrivals::cluster>(arrived_at, 0);
    for (std::uint32_t i = 0; i < 4; ++i) {
        float sum = own[i];
        for (std::uint32_t rank = 1; rank < blocks; ++rank) {
            float part;
            std::memcpy(&part,
                        emulator::shared_memory() + sums_at + (rank - 1) * block_sums_bytes +
                            lane * 16 + i * 4,
                        4);
            sum += part;
        }
        p.total[lane * 4 + i] = sum;
    }
}

void send(const Sums &p, const float (&own)[4]) {
    std::uint32_t bits[4];
    std::memcpy(bits, own, sizeof bits);
    if (p.has(ready)) ptx::barrier_wait<ptx::Arrivals::cluster>(ready_at, 0);
    const std::uint32_t at =
        sums_at + (ptx::cluster_rank() - 1) * block_sums_bytes + threadIdx.x * 16;
    ptx::store_async(ptx::map_shared(at, 0), bits, ptx::map_shared(arrived_at, 0));
}

void join(const Sums &p) {
    if (threadIdx.x == 0) {
        ptx::barrier_init(ready_at, 1);
        ptx::barrier_init(arrived_at, 1);
        ptx::fence_barrier_init();
    }
    ptx::cluster_arrive();
    ptx::cluster_wait();
    const auto base = static_cast<float>(ptx::cluster_rank() * 1000 + threadIdx.x);
    const float own[4] = {base, base + 0.25f, base + 0.5f, base + 0.75f};
    if (ptx::cluster_rank() == 0) {
        receive(p, own);
    } else {
        send(p, own);
    }
    __syncwarp();
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

std::string outcome(Join left_out, std::uint64_t seed) {
    const With with(seed, 1);
    std::vector<float> total(128);
    const std::string error =
        run<join>(blocks, 32, sums_at + 3 * block_sums_bytes, Sums{total.data(), left_out}, blocks);
    bool is_right = true;
    for (std::uint32_t i = 0; i < 128; ++i) {
        const float base = static_cast<float>(i / 4) + static_cast<float>(i % 4) / 4;
        is_right = is_right && total[i] == 6000 + 4 * base;
    }
    return error.empty() && !is_right ? "wrong" : error;
}

void check_joins() {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
        check_is(outcome(all, seed), "");
    }
#ifndef TWINSTREAM_RACE_CHECK
    for (const Join part : {ready, expectation, wait_for_sums}) {
        int noticed_len = 0;
        for (std::uint64_t seed = 0; seed < 12; ++seed) {
            noticed_len += !outcome(part, seed).empty();
        }
        CHECK(noticed_len > 0);
    }
#endif
}

struct Case {
    int number;
};

void go_astray(const Case &p) {
    const bool is_first = threadIdx.x == 0;
    if (is_first) ptx::barrier_init(8, 1);
    if (p.number != 0) ptx::fence_barrier_init();
    ptx::cluster_arrive();
    if (p.number == 1) ptx::cluster_arrive();
    ptx::cluster_wait();
    if (p.number == 2) ptx::cluster_wait();
    if (p.number == 3) ptx::map_shared(8, 2);
    if (p.number == 4 && ptx::cluster_rank() == 1) return;
    if (p.number == 4) ptx::sleep_ns(100);
    if (is_first) ptx::barrier_arrive_at(ptx::map_shared(8, ptx::cluster_rank() ^ 1));
    if (p.number == 5) ptx::barrier_arrive_at(ptx::map_shared(8, 0) + 8);
    ptx::barrier_wait(8, 0);
    __syncwarp();
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

void check_misuse() {
    const With with(0, 1);
    const std::string parts[] = {
        "uses the barrier at byte 8 of shared memory with mbarrier.arrive, but no "
        "fence.mbarrier_init has followed its making",
        "arrives at the barrier of its cluster twice without waiting",
        "waits at the barrier of its cluster without having arrived",
        "executes mapa for block 2 of its cluster, which has 2",
        "reaches block 1 of its cluster with mbarrier.arrive, which has ended",
        "uses byte 16 of shared memory as a barrier with mbarrier.arrive, but none is there",
    };
    for (int number = 0; number < 6; ++number) {
        const std::string error = run<go_astray>(2, 32, 64, Case{number}, 2);
        if (error.find(parts[number]) == std::string::npos) {
            check_is(error, parts[number]);
        }
    }
    check_is(run<go_astray>(3, 32, 64, Case{9}, 2),
             "kernel: a cluster has 1 to 8 blocks, and the grid whole clusters along x");
    check_is(run<go_astray>(2, 32, 64, Case{9}, 2), "");
}

} // namespace

void check_clusters() {
    check_pairs();
    check_joins();
    check_misuse();
}

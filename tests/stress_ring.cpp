// Drives the C functions of the ring from several threads; scripts/sanitize.sh builds it under
// ThreadSanitizer and AddressSanitizer. Every request must be taken once with its own image, every
// slot come back, every wake-up arrive. Arguments: requests of each producer, seed.
#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "ring.h"

namespace {

constexpr uint32_t kProducers = 3;
constexpr uint64_t kImageBytes = 3072;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                   \
            std::abort();                                                                          \
        }                                                                                          \
    } while (0)

// What a thread parks on.
class Bell {
   public:
    void ring() {
        std::lock_guard<std::mutex> guard(mutex_);
        rung_ = true;
        condition_.notify_one();
    }
    void wait() {
        std::unique_lock<std::mutex> guard(mutex_);
        condition_.wait(guard, [this] { return rung_; });
        rung_ = false;
    }

   private:
    std::mutex mutex_;
    std::condition_variable condition_;
    bool rung_ = false;
};

struct Shared {
    twinstream_ring *ring = nullptr;
    twinstream_ring_layout layout{};
    Bell bell;
    std::atomic<uint32_t> producing{kProducers};

    uint8_t *image(uint32_t slot) const { return layout.base + slot * layout.stride_bytes; }
};

// An image that starts with the request's identity and goes on with words that follow from it.
int32_t release(twinstream_ring *ring, twinstream_run run) {
    uint32_t is_awaited = 7;
    const int32_t status = twinstream_ring_release(ring, run, &is_awaited);
    CHECK(is_awaited == 0 || status == TWINSTREAM_RING_ARGUMENT);
    return status;
}

void paint(uint8_t *image, uint64_t producer, uint64_t number) {
    uint64_t word = producer << 32 | number;
    for (uint64_t at = 0; at < kImageBytes; at += 8) {
        std::memcpy(image + at, &word, 8);
        word = word * 6364136223846793005u + 1442695040888963407u;
    }
}

uint64_t checked_identity(const uint8_t *image) {
    uint64_t identity;
    std::memcpy(&identity, image, 8);
    uint8_t expected[kImageBytes];
    paint(expected, identity >> 32, identity & 0xffffffffu);
    CHECK(std::memcmp(image, expected, kImageBytes) == 0);
    return identity;
}

void produce(Shared &shared, uint32_t producer, uint64_t len, uint64_t seed) {
    std::mt19937_64 random(seed + producer);
    for (uint64_t number = 0; number < len;) {
        const uint64_t left = std::min<uint64_t>(5, len - number);
        const uint32_t len_max = static_cast<uint32_t>(1 + random() % left);
        twinstream_run run{0, 0};
        int32_t status = twinstream_ring_lease(shared.ring, len_max, 0, &run);
        if (status == TWINSTREAM_RING_FULL) {
            std::this_thread::yield();
            continue;
        }
        CHECK(status == TWINSTREAM_RING_OK && run.len >= 1 && run.len <= len_max);
        for (uint32_t slot = run.first; slot < run.first + run.len; ++slot) {
            paint(shared.image(slot), producer, number);
            if (random() % 16 == 0) {
                CHECK(release(shared.ring, {slot, 1}) == TWINSTREAM_RING_OK);
                continue;
            }
            uint32_t sleeps = 0;
            CHECK(twinstream_ring_commit(shared.ring, slot, &sleeps) == TWINSTREAM_RING_OK);
            if (sleeps != 0) shared.bell.ring();
            ++number;
        }
    }
    shared.producing.fetch_sub(1, std::memory_order_release);
    shared.bell.ring();
}

uint64_t consume(Shared &shared, uint64_t len, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<std::vector<bool>> seen(kProducers, std::vector<bool>(len));
    std::vector<uint32_t> held;
    uint64_t taken = 0;
    auto release_one = [&] {
        std::swap(held[random() % held.size()], held.back());
        checked_identity(shared.image(held.back()));
        CHECK(release(shared.ring, {held.back(), 1}) == TWINSTREAM_RING_OK);
        held.pop_back();
    };
    for (;;) {
        bool finished = shared.producing.load(std::memory_order_acquire) == 0;
        twinstream_run run;
        twinstream_ring_take(shared.ring, 1 + random() % 40, &run);
        for (uint32_t slot = run.first; slot < run.first + run.len; ++slot) {
            uint64_t identity = checked_identity(shared.image(slot));
            auto place = seen[identity >> 32].begin() + (identity & 0xffffffffu);
            CHECK(!*place);
            *place = true;
            held.push_back(slot);
            ++taken;
        }
        if (run.len == 0) {
            if (finished) break;
            while (!held.empty()) release_one();
            if (twinstream_ring_sleep(shared.ring)) {
                // A producer that ended in between rings as well.
                if (shared.producing.load(std::memory_order_acquire) != 0) shared.bell.wait();
                twinstream_ring_wake(shared.ring);
            }
        }
        while (!held.empty() && random() % 3 != 0) release_one();
    }
    while (!held.empty()) release_one();
    return taken;
}

void stress(uint32_t slot_len, uint64_t len, uint64_t seed) {
    Shared shared;
    CHECK(twinstream_ring_create(slot_len, kImageBytes, TWINSTREAM_MEMORY_PLAIN, &shared.ring) ==
          TWINSTREAM_RING_OK);
    twinstream_ring_describe(shared.ring, &shared.layout);
    std::vector<std::thread> producers;
    for (uint32_t producer = 0; producer < kProducers; ++producer) {
        producers.emplace_back([&, producer] { produce(shared, producer, len, seed); });
    }
    uint64_t taken = consume(shared, len, seed + kProducers);
    for (std::thread &producer : producers) producer.join();
    CHECK(taken == kProducers * len);
    twinstream_run run{0, 0};
    twinstream_ring_close(shared.ring);
    for (uint32_t leased = 0; leased < slot_len; ++leased) {
        CHECK(twinstream_ring_lease(shared.ring, 1, 0, &run) == TWINSTREAM_RING_OK && run.len == 1);
    }
    const uint32_t slot = run.first;
    CHECK(twinstream_ring_lease(shared.ring, 1, 0, &run) == TWINSTREAM_RING_FULL);
    CHECK(twinstream_ring_lease(shared.ring, 0, 0, &run) == TWINSTREAM_RING_ARGUMENT);
    uint32_t sleeps = 0;
    CHECK(twinstream_ring_commit(shared.ring, slot, &sleeps) == TWINSTREAM_RING_CLOSED);
    CHECK(release(shared.ring, {0, slot_len}) == TWINSTREAM_RING_OK);
    CHECK(release(shared.ring, {0, 1}) == TWINSTREAM_RING_MISUSE);
    CHECK(release(shared.ring, {slot_len, 1}) == TWINSTREAM_RING_ARGUMENT);
    twinstream_ring_destroy(shared.ring);
}

// Neighbours come as one run, across the borders of bitmap words, up to the storage's end and to
// the length asked for.
void check_runs() {
    constexpr uint32_t slot_len = 100;
    twinstream_ring *ring = nullptr;
    CHECK(twinstream_ring_create(slot_len, 1, TWINSTREAM_MEMORY_PLAIN, &ring) ==
          TWINSTREAM_RING_OK);
    auto commit_next = [&](uint32_t len) {
        while (len != 0) {
            twinstream_run run{0, 0};
            CHECK(twinstream_ring_lease(ring, len, 0, &run) == TWINSTREAM_RING_OK);
            // Within a word of 32 slots a run is as long as it can be.
            CHECK(run.len == std::min({len, 32 - run.first % 32, slot_len - run.first}));
            for (uint32_t slot = run.first; slot < run.first + run.len; ++slot) {
                uint32_t sleeps = 0;
                CHECK(twinstream_ring_commit(ring, slot, &sleeps) == TWINSTREAM_RING_OK);
                CHECK(twinstream_ring_commit(ring, slot, &sleeps) == TWINSTREAM_RING_MISUSE);
            }
            len -= run.len;
        }
    };
    auto expect = [&](uint32_t len_max, uint32_t first, uint32_t len) {
        twinstream_run run{7, 7};
        twinstream_ring_take(ring, len_max, &run);
        CHECK(run.len == len && (len == 0 || run.first == first));
        if (len != 0) CHECK(release(ring, run) == TWINSTREAM_RING_OK);
    };
    expect(1000, 0, 0);
    commit_next(90);
    expect(0, 0, 0);
    expect(10, 0, 10);
    expect(1000, 10, 80);
    commit_next(75);
    expect(1000, 90, 10);
    expect(64, 0, 64);
    expect(1000, 64, 1);
    expect(1000, 0, 0);
    twinstream_ring_destroy(ring);
}

} // namespace

int main(int argc, char **argv) {
    uint64_t len = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 5000;
    uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}();
    std::printf("%" PRIu64 " requests each of %" PRIu32 " producers, seed %" PRIu64 "\n", len,
                kProducers, seed);
    check_runs();
    for (uint32_t slot_len : {1u, 2u, 33u, 200u}) stress(slot_len, len, seed);
    std::printf("all taken once, unmixed, all slots back\n");
}

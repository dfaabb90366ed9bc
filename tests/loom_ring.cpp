// The production protocol over atomics that the model checker controls; see loom_ring.rs.
#include "protocol.hpp"

extern "C" {
// Defined in loom_ring.rs. An order is 0 relaxed, 1 acquire, 2 release.
void *loom_word_new(uint64_t value);
void loom_word_free(void *word);
uint64_t loom_word_load(void *word);
void loom_word_store(void *word, uint64_t value);
uint64_t loom_word_or(void *word, uint64_t bits, int32_t order);
uint64_t loom_word_and(void *word, uint64_t bits, int32_t order);
uint32_t loom_word_exchange(void *word, uint64_t *expected, uint64_t desired, int32_t order);
}

namespace {

int32_t number(std::memory_order order) {
    switch (order) {
    case std::memory_order_relaxed:
        return 0;
    case std::memory_order_acquire:
        return 1;
    case std::memory_order_release:
        return 2;
    // The protocol uses no other.
    default:
        return -1;
    }
}

// What std::atomic<uint64_t> is to production.
class Word {
   public:
    Word() : word_(loom_word_new(0)) {}
    ~Word() { loom_word_free(word_); }
    Word(const Word &) = delete;
    Word &operator=(const Word &) = delete;

    uint64_t load(std::memory_order) const { return loom_word_load(word_); }
    void store(uint64_t value, std::memory_order) { loom_word_store(word_, value); }
    uint64_t fetch_or(uint64_t bits, std::memory_order order) {
        return loom_word_or(word_, bits, number(order));
    }
    uint64_t fetch_and(uint64_t bits, std::memory_order order) {
        return loom_word_and(word_, bits, number(order));
    }
    bool compare_exchange_weak(uint64_t &expected, uint64_t desired, std::memory_order success,
                               std::memory_order) {
        return loom_word_exchange(word_, &expected, desired, number(success)) != 0;
    }

   private:
    void *word_;
};

using Protocol = twinstream::Protocol<Word>;
using PaddedWord = twinstream::PaddedWord<Word>;

struct Ring {
    explicit Ring(uint32_t slot_len)
        : words(new PaddedWord[2 * Protocol::word_len(slot_len)]), bits(words, slot_len) {}
    ~Ring() { delete[] words; }

    PaddedWord *words;
    Protocol bits;
};

} // namespace

extern "C" {

Ring *loom_ring_new(uint32_t slot_len) { return new Ring(slot_len); }
void loom_ring_free(Ring *ring) { delete ring; }
int32_t loom_ring_lease(Ring *ring, uint32_t len_max, uint32_t is_next, twinstream_run *run) {
    return ring->bits.lease(len_max, is_next != 0, run);
}
int32_t loom_ring_commit(Ring *ring, uint32_t slot, uint32_t *sleeps) {
    return ring->bits.commit(slot, sleeps);
}
void loom_ring_take(Ring *ring, uint32_t len_max, twinstream_run *run) {
    *run = ring->bits.take(len_max);
}
int32_t loom_ring_release(Ring *ring, uint32_t slot, uint32_t *is_awaited) {
    return ring->bits.release({slot, 1}, is_awaited);
}
void loom_ring_await(Ring *ring, uint32_t is_awaited) { ring->bits.await(is_awaited != 0); }
int32_t loom_ring_sleep(Ring *ring) { return ring->bits.sleep(); }
void loom_ring_wake(Ring *ring) { ring->bits.wake(); }
void loom_ring_close(Ring *ring) { ring->bits.close(); }

} // extern "C"

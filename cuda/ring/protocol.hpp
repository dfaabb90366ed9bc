// The ring's lock-free protocol: which slots are free, which are committed.
//
// Invariant: a slot's bit is set in at most one of the two bitmaps; in neither it has one owner,
// the thread that cleared it. Knows slot numbers alone: no memory, no bytes, no way to block.
//
// Word is an atomic uint64_t: std::atomic, or a stand-in that runs the very same code under a model
// checker. It offers load, store, compare_exchange_weak, fetch_or and fetch_and.
//
// One argument carries every memory order below. After construction the words of both bitmaps
// are changed by read-modify-write operations alone, so a release that set a bit heads a release
// sequence to which every later change of the word belongs: whoever clears the bit with acquire
// sees all that the thread that set it had done. Orders are therefore
//   release  on the operation that sets a bit (the owner lets go),
//   acquire  on the operation that clears it (the next owner takes hold),
//   relaxed  elsewhere: a plain load only proposes, and the read-modify-write decides.
#ifndef TWINSTREAM_RING_PROTOCOL_HPP
#define TWINSTREAM_RING_PROTOCOL_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ring.h"

namespace twinstream {

// Slots whose bits share a word: the lower half. The upper half leaves room for the flags.
constexpr uint32_t kWordSlots = 32;
constexpr uint64_t kSlotBits = 0xffffffffu;
// After so many slots leases may begin anew; a chunk across that place takes two copies, so it is
// some chunks long.
constexpr uint32_t kAnewSlots = 2 * kWordSlots;
// In every word of the free bitmap alike; set and cleared by whoever serves those who wait for
// slots.
constexpr uint64_t kAwaited = uint64_t{1} << 63;
// In every word of the committed bitmap alike; set and cleared by the consumer.
constexpr uint64_t kClosed = uint64_t{1} << 62;
constexpr uint64_t kAsleep = uint64_t{1} << 63;
// Two lines, as processors prefetch lines in pairs.
constexpr size_t kApartBytes = 128;

// The bits from `first` on, `len` of them; 1 <= len and first + len <= kWordSlots.
constexpr uint64_t run_bits(uint32_t first, uint32_t len) {
    return ((uint64_t{1} << len) - 1) << first;
}

constexpr uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }

// Index of the lowest set bit; `bits` is not 0.
inline uint32_t lowest(uint64_t bits) { return static_cast<uint32_t>(__builtin_ctzll(bits)); }

template <class Word>
struct alignas(kApartBytes) PaddedWord {
    Word bits;
};

template <class Word>
class Protocol {
   public:
    static constexpr uint32_t word_len(uint32_t slot_len) {
        return (slot_len + kWordSlots - 1) / kWordSlots;
    }

    // `words` are 2 * word_len(slot_len) words of value 0 that outlive the protocol and that no
    // other thread uses yet.
    Protocol(PaddedWord<Word> *words, uint32_t slot_len)
        : free_(words), committed_(words + word_len(slot_len)), slot_len_(slot_len),
          word_len_(word_len(slot_len)), lease_hint_{}, take_cursor_(0) {
        for (uint32_t word = 0; word < word_len_; ++word) {
            uint32_t len = min(kWordSlots, slot_len_ - word * kWordSlots);
            // Relaxed: whatever hands the finished ring to other threads publishes these too.
            free_[word].bits.store(run_bits(0, len), std::memory_order_relaxed);
        }
    }

    // See twinstream_ring_lease.
    int32_t lease(uint32_t len_max, bool is_next, twinstream_run *run) {
        if (len_max == 0) return TWINSTREAM_RING_ARGUMENT;
        // Relaxed, here and in the store below: only a hint of where to begin. A stale one costs
        // a gap in a later run, which the next turn around the storage closes.
        uint32_t start = static_cast<uint32_t>(lease_hint_.bits.load(std::memory_order_relaxed));
        // Where the storage's beginning is free by then, it begins anew: few slots in use move
        // through few, which caches still hold.
        if (start % kAnewSlots == 0 && (free_[0].bits.load(std::memory_order_relaxed) &
                                        kSlotBits) == run_bits(0, first_len())) {
            start = 0;
        }
        bool found = sweep(start, [&](uint32_t word, uint64_t allowed) {
            uint64_t seen = free_[word].bits.load(std::memory_order_relaxed);
            while ((seen & kAwaited) == 0 || is_next) {
                uint64_t free = seen & allowed & kSlotBits;
                if (free == 0) return false;
                uint32_t bit = lowest(free);
                // Bit kWordSlots is 0, so the negation has a bit set and the count ends there.
                uint32_t len = min(lowest(~(free >> bit)), len_max);
                // Acquire: the previous owner's reads and writes of the slot came before its
                // release, hence come before ours. A failure reloads `seen` and means that another
                // thread's lease or release succeeded, so some thread always gets on. That the word
                // may have changed and changed back does no harm: it has no meaning but its bits.
                if (free_[word].bits.compare_exchange_weak(seen, seen & ~run_bits(bit, len),
                                                           std::memory_order_acquire,
                                                           std::memory_order_relaxed)) {
                    *run = {word * kWordSlots + bit, len};
                    lease_hint_.bits.store(next(run->first + len - 1), std::memory_order_relaxed);
                    return true;
                }
            }
            return false;
        });
        return found ? TWINSTREAM_RING_OK : TWINSTREAM_RING_FULL;
    }

    // See twinstream_ring_used_len.
    uint32_t used_len() const {
        uint32_t free_len = 0;
        for (uint32_t word = 0; word < word_len_; ++word) {
            // Relaxed: a count for whoever watches, outdated as it is told.
            uint64_t bits = free_[word].bits.load(std::memory_order_relaxed) & kSlotBits;
            for (; bits != 0; bits &= bits - 1) ++free_len;
        }
        return slot_len_ - free_len;
    }

    // See twinstream_ring_commit.
    int32_t commit(uint32_t slot, uint32_t *consumer_sleeps) {
        if (slot >= slot_len_) return TWINSTREAM_RING_ARGUMENT;
        Word &word = committed_[slot / kWordSlots].bits;
        uint64_t bit = run_bits(slot % kWordSlots, 1);
        // Mostly right, as the consumer keeps up. A try that fails brings the word as a load would,
        // and brings it to be written: it comes from the consumer's core once, not twice.
        uint64_t seen = 0;
        do {
            // The flags live in the word that the commit changes, so the word's own order of
            // changes decides: this commit comes before `close` or `sleep` and is seen by it, or
            // after and sees its flag. Flags in a word of their own would need sequential
            // consistency.
            if ((seen & kClosed) != 0) return TWINSTREAM_RING_CLOSED;
            if ((seen & bit) != 0) return TWINSTREAM_RING_MISUSE;
            // Release: the image, and all that goes with it, before the bit.
        } while (!word.compare_exchange_weak(seen, seen | bit, std::memory_order_release,
                                             std::memory_order_relaxed));
        *consumer_sleeps = (seen & kAsleep) != 0;
        return TWINSTREAM_RING_OK;
    }

    // See twinstream_ring_take. Only the consumer clears committed bits, so those that it has seen
    // stay set until it clears them itself.
    twinstream_run take(uint32_t len_max) {
        twinstream_run run{0, 0};
        if (len_max == 0) return run;
        bool found = sweep(take_cursor_, [&](uint32_t word, uint64_t allowed) {
            uint64_t seen =
                committed_[word].bits.load(std::memory_order_relaxed) & allowed & kSlotBits;
            if (seen == 0) return false;
            run.first = word * kWordSlots + lowest(seen);
            return true;
        });
        if (!found) return run;
        // The run goes on into the next word as long as it reaches the end of this one.
        uint32_t slot = run.first;
        while (run.len < len_max && slot < slot_len_) {
            uint32_t got = take_in_word(slot, len_max - run.len);
            run.len += got;
            slot += got;
            if (got == 0 || slot % kWordSlots != 0) break;
        }
        take_cursor_ = next(run.first + run.len - 1);
        return run;
    }

    // See twinstream_ring_release. One operation for each word that the run touches.
    int32_t release(twinstream_run run, uint32_t *is_awaited) {
        if (run.len == 0 || run.first >= slot_len_ || run.len > slot_len_ - run.first) {
            return TWINSTREAM_RING_ARGUMENT;
        }
        int32_t status = TWINSTREAM_RING_OK;
        uint64_t seen = 0;
        while (run.len != 0) {
            uint32_t first = run.first % kWordSlots;
            uint32_t len = min(run.len, kWordSlots - first);
            uint64_t bits = run_bits(first, len);
            // Release: this owner's reads and writes of the slots before the next owner's.
            uint64_t before =
                free_[run.first / kWordSlots].bits.fetch_or(bits, std::memory_order_release);
            if ((before & bits) != 0) status = TWINSTREAM_RING_MISUSE;
            seen |= before;
            run.first += len;
            run.len -= len;
        }
        *is_awaited = (seen & kAwaited) != 0;
        return status;
    }

    // See twinstream_ring_await. A word's own order of changes decides, as for the other flags: a
    // release comes before this one, and a lease that follows meets the slot; or it sees the flag.
    void await(bool is_awaited) {
        for (uint32_t word = 0; word < word_len_; ++word) {
            // Relaxed: publishes nothing. As a read-modify-write it keeps the release sequences.
            if (is_awaited) {
                free_[word].bits.fetch_or(kAwaited, std::memory_order_relaxed);
            } else {
                free_[word].bits.fetch_and(~kAwaited, std::memory_order_relaxed);
            }
        }
    }

    // See twinstream_ring_sleep.
    bool sleep() {
        // A bit that is set already was committed before the flag, by a producer that will not wake
        // the consumer; one set later is by a producer that sees the flag.
        if ((set_flag(kAsleep) & kSlotBits) == 0) return true;
        wake();
        return false;
    }

    // See twinstream_ring_wake.
    void wake() {
        for (uint32_t word = 0; word < word_len_; ++word) {
            // Relaxed: publishes nothing. As a read-modify-write it keeps the release sequences.
            committed_[word].bits.fetch_and(~kAsleep, std::memory_order_relaxed);
        }
    }

    // See twinstream_ring_close.
    void close() { set_flag(kClosed); }

   private:
    // Slots of the first word.
    uint32_t first_len() const { return min(kWordSlots, slot_len_); }

    uint32_t next(uint32_t slot) const { return slot + 1 == slot_len_ ? 0 : slot + 1; }

    // Calls visit(word, allowed bits) from `start` once around until it returns true; the first
    // word's bits below `start` come last.
    template <class Visit>
    bool sweep(uint32_t start, Visit visit) {
        uint32_t word = start / kWordSlots;
        uint64_t from_start = ~uint64_t{0} << (start % kWordSlots);
        if (visit(word, from_start)) return true;
        for (uint32_t step = 1; step < word_len_; ++step) {
            word = word + 1 == word_len_ ? 0 : word + 1;
            if (visit(word, ~uint64_t{0})) return true;
        }
        return visit(start / kWordSlots, ~from_start);
    }

    // Takes the committed slots from `slot` on, to the end of its word at most; returns how many.
    uint32_t take_in_word(uint32_t slot, uint32_t len_max) {
        Word &word = committed_[slot / kWordSlots].bits;
        uint32_t first = slot % kWordSlots;
        uint64_t seen = (word.load(std::memory_order_relaxed) & kSlotBits) >> first;
        // Bit kWordSlots is 0, so ~seen has a bit set and the count ends there.
        uint32_t len = min(lowest(~seen), len_max);
        // Acquire: what the producers wrote before their commits.
        if (len != 0) word.fetch_and(~run_bits(first, len), std::memory_order_acquire);
        return len;
    }

    // Sets a flag in every committed word; returns all bits that were set before.
    uint64_t set_flag(uint64_t flag) {
        uint64_t before = 0;
        for (uint32_t word = 0; word < word_len_; ++word) {
            // Relaxed: see commit; and whoever acts on a set bit takes it with acquire.
            before |= committed_[word].bits.fetch_or(flag, std::memory_order_relaxed);
        }
        return before;
    }

    PaddedWord<Word> *const free_;
    PaddedWord<Word> *const committed_;
    const uint32_t slot_len_;
    const uint32_t word_len_;
    PaddedWord<Word> lease_hint_;
    // The consumer's own.
    alignas(kApartBytes) uint32_t take_cursor_;
};

} // namespace twinstream

#endif

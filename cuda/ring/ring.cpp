// The C functions of ring.h: the protocol over std::atomic, joined to its storage.
//
// Needs no C++ runtime: no exceptions, no operator new, no static initialisation.
#include "ring.h"

#include <cstdlib>
#include <new>

#include "protocol.hpp"
#include "storage.hpp"

using Word = std::atomic<uint64_t>;
using Bits = twinstream::Protocol<Word>;
using PaddedWord = twinstream::PaddedWord<Word>;

static_assert(Word::is_always_lock_free, "the protocol would not be lock-free");
// The same sizes are checked where the functions are bound.
static_assert(sizeof(twinstream_run) == 8 && alignof(twinstream_run) == 4);
static_assert(offsetof(twinstream_run, len) == 4);
static_assert(sizeof(twinstream_ring_layout) == 24 && alignof(twinstream_ring_layout) == 8);
static_assert(offsetof(twinstream_ring_layout, stride_bytes) == 8);
static_assert(offsetof(twinstream_ring_layout, slot_len) == 16);
static_assert(offsetof(twinstream_ring_layout, memory) == 20);

struct twinstream_ring {
    Bits bits;
    twinstream_ring_layout layout;
    twinstream::Storage storage;
    PaddedWord *words;
};

namespace {

// Bytes from one slot to the next; 0 where the sizes are out of range.
uint64_t stride_for(uint32_t slot_len, uint64_t slot_bytes) {
    constexpr uint64_t align = TWINSTREAM_RING_SLOT_ALIGN_BYTES;
    if (slot_len == 0 || slot_len > TWINSTREAM_RING_SLOT_LEN_MAX || slot_bytes == 0) return 0;
    if (slot_bytes > SIZE_MAX / slot_len - align) return 0;
    return (slot_bytes + align - 1) / align * align;
}

PaddedWord *make_words(uint32_t slot_len) {
    size_t len = 2 * size_t{Bits::word_len(slot_len)};
    void *room = std::aligned_alloc(alignof(PaddedWord), len * sizeof(PaddedWord));
    if (room == nullptr) return nullptr;
    PaddedWord *words = static_cast<PaddedWord *>(room);
    for (size_t word = 0; word < len; ++word) new (words + word) PaddedWord{};
    return words;
}

} // namespace

extern "C" {

int32_t twinstream_ring_create(uint32_t slot_len, uint64_t slot_bytes, uint32_t memory_weakest,
                               twinstream_ring **ring) {
    uint64_t stride_bytes = stride_for(slot_len, slot_bytes);
    if (stride_bytes == 0 || ring == nullptr || memory_weakest < TWINSTREAM_MEMORY_CUDA ||
        memory_weakest > TWINSTREAM_MEMORY_PLAIN) {
        return TWINSTREAM_RING_ARGUMENT;
    }
    twinstream::Storage storage =
        twinstream::allocate_storage(stride_bytes * slot_len, memory_weakest);
    PaddedWord *words = make_words(slot_len);
    void *room = std::aligned_alloc(alignof(twinstream_ring), sizeof(twinstream_ring));
    if (storage.base == nullptr || words == nullptr || room == nullptr) {
        if (storage.base != nullptr) twinstream::free_storage(storage);
        std::free(words);
        std::free(room);
        return TWINSTREAM_RING_MEMORY;
    }
    twinstream_ring_layout layout{storage.base, stride_bytes, slot_len, storage.memory};
    *ring = new (room) twinstream_ring{Bits(words, slot_len), layout, storage, words};
    return TWINSTREAM_RING_OK;
}

void twinstream_ring_destroy(twinstream_ring *ring) {
    if (ring == nullptr) return;
    // All members are trivially destructible.
    twinstream::free_storage(ring->storage);
    std::free(ring->words);
    std::free(ring);
}

void twinstream_ring_describe(const twinstream_ring *ring, twinstream_ring_layout *layout) {
    *layout = ring->layout;
}

int32_t twinstream_ring_lease(twinstream_ring *ring, uint32_t len_max, uint32_t is_next,
                              twinstream_run *run) {
    return ring->bits.lease(len_max, is_next != 0, run);
}

uint32_t twinstream_ring_used_len(const twinstream_ring *ring) { return ring->bits.used_len(); }

int32_t twinstream_ring_commit(twinstream_ring *ring, uint32_t slot, uint32_t *consumer_sleeps) {
    return ring->bits.commit(slot, consumer_sleeps);
}

void twinstream_ring_take(twinstream_ring *ring, uint32_t len_max, twinstream_run *run) {
    *run = ring->bits.take(len_max);
}

int32_t twinstream_ring_release(twinstream_ring *ring, twinstream_run run, uint32_t *is_awaited) {
    return ring->bits.release(run, is_awaited);
}

void twinstream_ring_await(twinstream_ring *ring, uint32_t is_awaited) {
    ring->bits.await(is_awaited != 0);
}

int32_t twinstream_ring_sleep(twinstream_ring *ring) { return ring->bits.sleep(); }

void twinstream_ring_wake(twinstream_ring *ring) { ring->bits.wake(); }

void twinstream_ring_close(twinstream_ring *ring) { ring->bits.close(); }

} // extern "C"

/* Page-locked image slots that many threads fill and one thread empties: the C interface.
 *
 * A slot is free, leased, committed or taken, and moves only along
 *
 *     free --lease--> leased --commit--> committed --take--> taken --release--> free
 *                        `-------------------release---------------------------'
 *
 * Whoever moved a slot to `leased` or `taken` owns its bytes until moving it on. Any number of
 * threads may lease, commit and release at the same time; take, sleep, wake and close belong to one
 * thread, the consumer. No call blocks, allocates or enters the system, but for create and destroy.
 *
 * Two bitmaps hold all of the state, rather than a circular buffer with a head and a tail or two
 * queues of slot numbers:
 * - a slow decoder, a lease given back unused or a slot released late (priorities, drops) holds up
 *   no other slot, which strict ring order would;
 * - a lease takes the next free slot in address order and a take sweeps in the same order, so the
 *   slots that wait together lie together and go to the device in one copy, two where the storage
 *   wraps. Free slots that pass through a queue come back in the order of their release and stay
 *   shuffled for good; a bitmap forgets the order by itself;
 * - slots of one owner may be handed over as one: it commits the first and tells the consumer,
 *   beside the bytes, which others come with it. These are taken with it;
 * - a thread that is stopped inside any call delays nobody: each call takes effect in a single
 *   atomic operation. In a queue, a producer stopped between its two hides all that come after.
 * The price: slots are taken in address order from where the last take ended, not in the strict
 * order of commits. Every slot that was committed when a sweep began is taken by that sweep's end.
 *
 * Why each memory order suffices stands in protocol.hpp, the whole in docs/RING.md.
 */
#ifndef TWINSTREAM_RING_H
#define TWINSTREAM_RING_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twinstream_ring twinstream_ring;

/* Slots of a ring at most: a sweep over all of them, as when an idle consumer looks, stays at a few
 * microseconds. */
#define TWINSTREAM_RING_SLOT_LEN_MAX 65536u

/* Slots lie a multiple of this apart, so that no two share a cache line. */
#define TWINSTREAM_RING_SLOT_ALIGN_BYTES 64u

/* Outcomes of a call. Values are never reused. */
enum {
    TWINSTREAM_RING_OK = 0,
    /* An argument is out of range; nothing was done. */
    TWINSTREAM_RING_ARGUMENT = 1,
    /* The system gave no memory, or no page-locked memory where that was demanded. */
    TWINSTREAM_RING_MEMORY = 2,
    /* No free slot was met. */
    TWINSTREAM_RING_FULL = 3,
    /* The consumer has closed the ring; the slot is still leased by the caller. */
    TWINSTREAM_RING_CLOSED = 4,
    /* The slot was not in the state that the call moves it from, as far as that can be told. */
    TWINSTREAM_RING_MISUSE = 5
};

/* How the pages of a ring are held in memory, the strongest first. Values are never reused. */
enum {
    /* Page-locked and registered with CUDA: copies run at full speed, beside the host. */
    TWINSTREAM_MEMORY_CUDA = 1,
    /* Locked by the system: never swapped out, but CUDA stages its copies. */
    TWINSTREAM_MEMORY_LOCKED = 2,
    /* Ordinary pages. */
    TWINSTREAM_MEMORY_PLAIN = 3
};

/* Adjacent slots; a run never crosses the end of the storage. */
typedef struct {
    uint32_t first;
    uint32_t len;
} twinstream_run;

typedef struct {
    /* First byte of slot 0, on a page border; slot i begins i * stride_bytes later. */
    uint8_t *base;
    uint64_t stride_bytes;
    uint32_t slot_len;
    /* One of TWINSTREAM_MEMORY_*: what was got. */
    uint32_t memory;
} twinstream_ring_layout;

/* Makes a ring of slot_len zeroed slots of slot_bytes each and stores it in *ring.
 * Asks for the strongest memory there is and falls back, but never below memory_weakest (one of
 * TWINSTREAM_MEMORY_*). ARGUMENT: a size is 0, above the limit or overflows, or the pointer is
 * NULL. MEMORY: as the status says. */
int32_t twinstream_ring_create(uint32_t slot_len, uint64_t slot_bytes, uint32_t memory_weakest,
                               twinstream_ring **ring);

/* Frees the ring; NULL is allowed. No other call may be running or follow, no copy be under way. */
void twinstream_ring_destroy(twinstream_ring *ring);

/* Where the slots lie; the same throughout the ring's life. Any thread. */
void twinstream_ring_describe(const twinstream_ring *ring, twinstream_ring_layout *layout);

/* Leases the next free slot and those after it, at most len_max, as one run within 32 slots; after
 * every 64 slots it begins anew where the first 32 are free. ARGUMENT: len_max is 0. FULL: no free
 * slot was met in one sweep; one that is freed during the sweep may be missed. While slots are
 * awaited, those that are free are for who says is_next: it is FULL for all others. Any thread. */
int32_t twinstream_ring_lease(twinstream_ring *ring, uint32_t len_max, uint32_t is_next,
                              twinstream_run *run);

/* How many slots are not free, as they were met one after the other. Any thread. */
uint32_t twinstream_ring_used_len(const twinstream_ring *ring);

/* Hands a leased slot to the consumer; all that the caller wrote before is visible to whoever takes
 * it. *consumer_sleeps becomes 1 where the consumer must be woken, else 0. CLOSED: the slot stays
 * leased. Any thread. */
int32_t twinstream_ring_commit(twinstream_ring *ring, uint32_t slot, uint32_t *consumer_sleeps);

/* Takes the next committed slots, at most len_max, as one run; run->len is 0 where none is
 * committed. Also works after close. The consumer alone. */
void twinstream_ring_take(twinstream_ring *ring, uint32_t len_max, twinstream_run *run);

/* Frees slots that the caller leased or took, in any order. *is_awaited becomes 1 where slots are
 * awaited, else 0. ARGUMENT: beyond the last slot, or empty. MISUSE: one of them was free already.
 * Any thread. */
int32_t twinstream_ring_release(twinstream_ring *ring, twinstream_run run, uint32_t *is_awaited);

/* Announces that slots are awaited, or withdraws it. A slot that is freed before the announcement
 * is met by a lease after it; who frees one later is told. One thread at a time, any. */
void twinstream_ring_await(twinstream_ring *ring, uint32_t is_awaited);

/* Announces that the consumer is about to block. Returns 1: nothing is committed, and every commit
 * from here on says consumer_sleeps, until wake. Returns 0: something is committed, and the
 * announcement is withdrawn. The consumer alone. */
int32_t twinstream_ring_sleep(twinstream_ring *ring);

/* Withdraws the announcement. The consumer alone. */
void twinstream_ring_wake(twinstream_ring *ring);

/* Refuses all later commits. What was committed before can still be taken; once take finds none,
 * none will follow. The consumer alone. */
void twinstream_ring_close(twinstream_ring *ring);

/* How many forks lie between this process and the one that loaded the library: it differs from what
 * it was at a ring's creation where the ring is another process's. Any thread. */
uint32_t twinstream_ring_fork_count(void);

#ifdef __cplusplus
}
#endif

#endif

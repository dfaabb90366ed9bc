// The memory that slots lie in: page-aligned, faulted in, page-locked where the system lets us.
//
// Invariant: the pages stay where they are from allocation to free. Knows no slots.
#ifndef TWINSTREAM_RING_STORAGE_HPP
#define TWINSTREAM_RING_STORAGE_HPP

#include <cstddef>
#include <cstdint>

namespace twinstream {

struct Storage {
    // nullptr: nothing is held.
    uint8_t *base = nullptr;
    // Whole pages.
    size_t len_bytes = 0;
    // One of TWINSTREAM_MEMORY_*.
    uint32_t memory = 0;
    // The CUDA context that the memory is registered with, and its device; of no meaning for memory
    // of other kinds.
    void *context = nullptr;
    int device = 0;
};

// Zeroed memory of at least len_bytes, of the strongest kind that is to be had and no weaker than
// memory_weakest; base is nullptr where there is none. Memory is registered with CUDA where a
// context is current on the calling thread.
Storage allocate_storage(size_t len_bytes, uint32_t memory_weakest);

void free_storage(const Storage &storage);

} // namespace twinstream

#endif

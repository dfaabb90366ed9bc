// Work of the copy engine, whatever it copies: destinations that are hidden until it has ended,
// blocks that it goes to, and groups of a thread's stores.
#pragma once

#include <cstdint>
#include <functional>

namespace twinstream::emulator {

// A copy into shared memory: `fill` writes its bytes to where it is told, when it is performed.
struct BulkLoad {
    const char *name;
    std::uint32_t shared;
    std::uint32_t bytes;
    std::uint32_t align_bytes;
    std::uint32_t barrier;
    std::uint16_t ranks; // 0: the block itself
    std::function<void(unsigned char *data)> fill;
};

void start_load(const BulkLoad &load);

// A copy out of shared memory; `write` takes what it read there, when it is performed.
void start_store(const char *name, std::uint32_t shared, std::uint32_t bytes,
                 std::uint32_t align_bytes, std::function<void(const unsigned char *data)> write);

} // namespace twinstream::emulator

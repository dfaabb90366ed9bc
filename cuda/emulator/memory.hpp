// Which host addresses are device memory, as far as the driver double has said.
//
// Until it names a first allocation, every address passes: kernels then run on plain arrays. After
// that, an asynchronous copy or a bulk instruction that leaves an allocation is an error of the
// thread that issued it. Plain loads and stores are AddressSanitizer's to check.
#pragma once

#include <cstddef>

namespace twinstream::emulator {

// Both are safe to call at any time from any host thread.
void add_allocation(const void *base, std::size_t bytes);
void remove_allocation(const void *base);

// Whether [at, at + bytes) lies within one allocation, or none was ever added.
bool is_device_memory(const void *at, std::size_t bytes);

} // namespace twinstream::emulator

// What the emulator reads and writes for a thread, ThreadSanitizer is told by hand.
#pragma once

#include <cstddef>

namespace twinstream::emulator {

#ifdef TWINSTREAM_RACE_CHECK
extern "C" void __tsan_read_range(void *at, unsigned long bytes);
extern "C" void __tsan_write_range(void *at, unsigned long bytes);
inline void tell_read(const void *at, std::size_t bytes) {
    __tsan_read_range(const_cast<void *>(at), bytes);
}
inline void tell_write(void *at, std::size_t bytes) { __tsan_write_range(at, bytes); }
#else
inline void tell_read(const void *, std::size_t) {}
inline void tell_write(void *, std::size_t) {}
#endif

} // namespace twinstream::emulator

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

// Between the two it sees nothing of this thread, not even that memory is taken and given back.
extern "C" void AnnotateIgnoreWritesBegin(const char *file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char *file, int line);
inline void begin_unseen() { AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
inline void end_unseen() { AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }
#else
inline void tell_read(const void *, std::size_t) {}
inline void tell_write(void *, std::size_t) {}
inline void begin_unseen() {}
inline void end_unseen() {}
#endif

} // namespace twinstream::emulator

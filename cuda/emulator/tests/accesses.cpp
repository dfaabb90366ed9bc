// What the compiler calls before loads and stores of code compiled with -fsanitize=thread, in a
// program that is linked without ThreadSanitizer: stores of kernels become known to the shadows of
// proxy.hpp. Loads are nobody's business here.

#include <cstddef>
#include <cstdint>

#include "../block.hpp"
#include "../hopper.hpp"

namespace {

namespace emulator = twinstream::emulator;

void store(void *at, std::size_t bytes) {
    emulator::Block *const block = emulator::current_block;
    if (block == nullptr || emulator::current_thread == nullptr || block->is_stack(at)) {
        return;
    }
    const auto offset =
        reinterpret_cast<std::uintptr_t>(at) - reinterpret_cast<std::uintptr_t>(block->shared());
    if (offset < block->launch().shared_bytes) {
        emulator::note_write(static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(bytes));
    } else {
        block->launch().state->published.write(at, bytes, block->number(),
                                               emulator::current_thread->number);
    }
}

} // namespace

// The names are the compiler's.
#define TWINSTREAM_ACCESS(bytes)                                                                   \
    void __tsan_read##bytes(void *) {}                                                             \
    void __tsan_unaligned_read##bytes(void *) {}                                                   \
    void __tsan_write##bytes(void *at) { store(at, bytes); }                                       \
    void __tsan_unaligned_write##bytes(void *at) { store(at, bytes); }
#define TWINSTREAM_ATOMIC(bits)                                                                    \
    using Value##bits = std::uint##bits##_t;                                                       \
    Value##bits __tsan_atomic##bits##_load(const volatile Value##bits *at, int) {                  \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                              \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile Value##bits *at, Value##bits value, int) {           \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                             \
    }                                                                                              \
    Value##bits __tsan_atomic##bits##_exchange(volatile Value##bits *at, Value##bits value, int) { \
        return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                   \
    }                                                                                              \
    Value##bits __tsan_atomic##bits##_fetch_add(volatile Value##bits *at, Value##bits value,       \
                                                int) {                                             \
        return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);                                    \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_strong(                                             \
        volatile Value##bits *at, Value##bits *expected, Value##bits value, int, int) {            \
        return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST,           \
                                           __ATOMIC_SEQ_CST);                                      \
    }
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void *) {}
void __tsan_vptr_update(void *, void *) {}
void __tsan_read_range(void *, std::size_t) {}
void __tsan_write_range(void *at, std::size_t bytes) { store(at, bytes); }
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
TWINSTREAM_ACCESS(1)
TWINSTREAM_ACCESS(2)
TWINSTREAM_ACCESS(4)
TWINSTREAM_ACCESS(8)
TWINSTREAM_ACCESS(16)
TWINSTREAM_ATOMIC(8)
TWINSTREAM_ATOMIC(32)
TWINSTREAM_ATOMIC(64)
}

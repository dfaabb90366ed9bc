// Fibers: threads of execution that change places only where they say so, on one host thread.
//
// A switch saves the registers that a function call must keep and costs a few nanoseconds. A fiber
// stays on the host thread that made it. The sanitizers are told of every switch. Knows nothing of
// CUDA.
//
// With TWINSTREAM_RACE_CHECK defined, ThreadSanitizer takes every fiber for a thread and a switch
// for no order at all: it sees what emulated threads race for, although they run one at a time.
// Kernels are then compiled with -fsanitize=thread and the emulator without, as its own state is
// not theirs.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define TWINSTREAM_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TWINSTREAM_ADDRESS_SANITIZER 1
#endif
#endif

namespace twinstream::emulator {

// Where a suspended fiber, or the host thread itself, goes on.
struct Context {
    void *stack_pointer = nullptr;
#ifdef TWINSTREAM_ADDRESS_SANITIZER
    void *fake_stack = nullptr;
    const void *stack_bottom = nullptr;
    std::size_t stack_bytes = 0;
#endif
#ifdef TWINSTREAM_RACE_CHECK
    void *sanitizer_fiber = nullptr;
#endif
};

// Suspends `from`, which is running, and resumes `to`. Returns when someone switches back.
void switch_fiber(Context &from, Context &to);

// Equally sized stacks in one mapping, each above a page that must not be touched, so that an
// overflow stops the program at once. Pages that no fiber touches cost nothing.
class Stacks {
   public:
    explicit Stacks(std::size_t stacks_len);
    ~Stacks();
    Stacks(const Stacks &) = delete;
    Stacks &operator=(const Stacks &) = delete;

    // Makes `context` begin in `entry`, which must never return, on the stack of that number.
    // Whatever ran on that stack before is dropped without clean-up.
    void prepare(std::size_t number, Context &context, void (*entry)());
    // Whether an address lies on one of them.
    bool holds(const void *at) const;
    // Frees what the sanitizers hold for a prepared context.
    static void retire(Context &context);

   private:
    std::size_t page_bytes_;
    std::size_t stride_bytes_;
    std::size_t mapped_bytes_;
    // Of the stacks so far used, each has its guard page.
    std::size_t guarded_len_ = 0;
    unsigned char *base_;
};

// Must be the first call in every fiber's entry function.
void enter_fiber(Context &self);

// What came before a release of `object` is visible after a later acquire of it; empty unless races
// are checked.
#ifdef TWINSTREAM_RACE_CHECK
void order_release(void *object);
void order_acquire(void *object);
// Releases in the name of a suspended fiber.
void order_release_for(const Context &context, void *object);
#else
inline void order_release(void *) {}
inline void order_acquire(void *) {}
inline void order_release_for(const Context &, void *) {}
#endif

// While one lives, what the calling fiber does is none of the kernel's doing and not checked.
#ifdef TWINSTREAM_RACE_CHECK
class Unwatched {
   public:
    Unwatched();
    ~Unwatched();
    Unwatched(const Unwatched &) = delete;
    Unwatched &operator=(const Unwatched &) = delete;
};
#else
struct [[maybe_unused]] Unwatched {};
#endif

} // namespace twinstream::emulator

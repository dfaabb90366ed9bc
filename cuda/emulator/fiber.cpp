// The switch itself in assembly, the stacks, and what the sanitizers want to hear.

#include "fiber.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#ifdef TWINSTREAM_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef TWINSTREAM_RACE_CHECK
#include <sanitizer/tsan_interface.h>
#endif

#ifdef TWINSTREAM_RACE_CHECK
// Of ThreadSanitizer's runtime, which has no header for them.
extern "C" void AnnotateIgnoreReadsBegin(const char *file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char *file, int line);
extern "C" void AnnotateIgnoreWritesBegin(const char *file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char *file, int line);
#endif

extern "C" void twinstream_emulator_switch(void **saved, void *resumed);

#if defined(__x86_64__)
// The kept registers go on the old stack, its pointer to *saved; then the same from the new one.
asm(R"(
    .text
    .p2align 4
    .globl twinstream_emulator_switch
    .hidden twinstream_emulator_switch
    .type twinstream_emulator_switch, @function
twinstream_emulator_switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size twinstream_emulator_switch, .-twinstream_emulator_switch
)");
#elif defined(__aarch64__)
asm(R"(
    .text
    .p2align 4
    .globl twinstream_emulator_switch
    .hidden twinstream_emulator_switch
    .type twinstream_emulator_switch, %function
twinstream_emulator_switch:
    .cfi_startproc
    stp x19, x20, [sp, #-160]!
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x19, x20, [sp], #160
    ret
    .cfi_endproc
    .size twinstream_emulator_switch, .-twinstream_emulator_switch
)");
#else
#error "the emulated device has a context switch for x86-64 and aarch64 only"
#endif

namespace twinstream::emulator {
namespace {

#if defined(TWINSTREAM_ADDRESS_SANITIZER) || defined(TWINSTREAM_RACE_CHECK)
// Instrumented code has larger frames.
constexpr std::size_t stack_bytes = 512 * 1024;
#else
constexpr std::size_t stack_bytes = 128 * 1024;
#endif

// The tops of the stacks would all fall into the same few cache sets, as their distance is a
// multiple of the page. They are moved apart by an odd number of cache lines each.
constexpr std::size_t colours_len = 64;
constexpr std::size_t colour_bytes = 7 * 64;

#ifdef TWINSTREAM_ADDRESS_SANITIZER
// Who ran before the switch: its stack is known only once the switch is done.
__thread Context *switched_from = nullptr;
#endif

} // namespace

void switch_fiber(Context &from, Context &to) {
#ifdef TWINSTREAM_ADDRESS_SANITIZER
    switched_from = &from;
    __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_bottom, to.stack_bytes);
#endif
#ifdef TWINSTREAM_RACE_CHECK
    if (from.sanitizer_fiber == nullptr) {
        from.sanitizer_fiber = __tsan_get_current_fiber();
    }
    __tsan_switch_to_fiber(to.sanitizer_fiber, __tsan_switch_to_fiber_no_sync);
#endif
    twinstream_emulator_switch(&from.stack_pointer, to.stack_pointer);
#ifdef TWINSTREAM_ADDRESS_SANITIZER
    enter_fiber(from);
#endif
}

void enter_fiber(Context &self) {
#ifdef TWINSTREAM_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(self.fake_stack, &switched_from->stack_bottom,
                                    &switched_from->stack_bytes);
#else
    (void)self;
#endif
}

Stacks::Stacks(std::size_t stacks_len)
    : page_bytes_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    stride_bytes_ = stack_bytes + page_bytes_;
    mapped_bytes_ = stacks_len * stride_bytes_;
    void *mapped = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        std::perror("emulated device: no memory for the stacks of a block");
        std::abort();
    }
    base_ = static_cast<unsigned char *>(mapped);
}

Stacks::~Stacks() { munmap(base_, mapped_bytes_); }

void Stacks::prepare(std::size_t number, Context &context, void (*entry)()) {
    // Each costs a mapping, of which the system allows a process some 65,000.
    for (; guarded_len_ <= number; ++guarded_len_) {
        if (mprotect(base_ + guarded_len_ * stride_bytes_, page_bytes_, PROT_NONE) != 0) {
            std::perror("emulated device: no guard page below a stack");
            std::abort();
        }
    }
    unsigned char *end = base_ + (number + 1) * stride_bytes_;
    unsigned char *top = end - number % colours_len * colour_bytes;
    retire(context);
#ifdef TWINSTREAM_ADDRESS_SANITIZER
    __asan_unpoison_memory_region(end - stack_bytes, stack_bytes);
    context.fake_stack = nullptr;
    context.stack_bottom = end - stack_bytes;
    context.stack_bytes = stack_bytes;
#endif
#ifdef TWINSTREAM_RACE_CHECK
    context.sanitizer_fiber = __tsan_create_fiber(0);
#endif
    auto *words = reinterpret_cast<std::uintptr_t *>(top);
#if defined(__x86_64__)
    // Six registers, the entry as return address, and a null one above it that ends back traces.
    for (int word = 1; word <= 8; ++word) {
        words[-word] = 0;
    }
    words[-2] = reinterpret_cast<std::uintptr_t>(entry);
    context.stack_pointer = words - 8;
#else
    // Twenty registers; x30, the link register, is the twelfth.
    for (int word = 1; word <= 20; ++word) {
        words[-word] = 0;
    }
    words[-20 + 11] = reinterpret_cast<std::uintptr_t>(entry);
    context.stack_pointer = words - 20;
#endif
}

bool Stacks::holds(const void *at) const {
    const auto *byte = static_cast<const unsigned char *>(at);
    return base_ <= byte && byte < base_ + mapped_bytes_;
}

void Stacks::retire(Context &context) {
#ifdef TWINSTREAM_RACE_CHECK
    if (context.sanitizer_fiber != nullptr) {
        __tsan_destroy_fiber(context.sanitizer_fiber);
        context.sanitizer_fiber = nullptr;
    }
#else
    (void)context;
#endif
}

#ifdef TWINSTREAM_RACE_CHECK
void order_release(void *object) { __tsan_release(object); }
void order_acquire(void *object) { __tsan_acquire(object); }

Unwatched::Unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

Unwatched::~Unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

void order_release_for(const Context &context, void *object) {
    void *const self = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(context.sanitizer_fiber, __tsan_switch_to_fiber_no_sync);
    __tsan_release(object);
    __tsan_switch_to_fiber(self, __tsan_switch_to_fiber_no_sync);
}
#endif

} // namespace twinstream::emulator

// Loads, stores and copies, each instruction as one small function: asm for the device, a call of
// the same name in twinstream::emulator for the host.
//
// Addresses of shared memory are 32-bit offsets into the shared window (shared_address), as the
// instructions want them. This file knows nothing of tiles or layers.
#pragma once

#include "../common.cuh"

namespace twinstream::ptx {

// Address of a byte of shared memory as the instructions below take it.
TWINSTREAM_DEVICE uint32_t shared_address(const void *pointer) {
#if defined(__CUDACC__)
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
#else
    return emulator::shared_address(pointer);
#endif
}

// Starts an asynchronous copy of 16 bytes from global to shared memory, both 16-byte aligned. Only
// the first source_bytes (0 or 16) are read; the rest becomes zero. With 0, source may point
// anywhere.
TWINSTREAM_DEVICE void cp_async_16(uint32_t shared, const void *source, uint32_t source_bytes) {
#if defined(__CUDACC__)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared),
                 "l"(__cvta_generic_to_global(source)), "r"(source_bytes)
                 : "memory");
#else
    emulator::cp_async_16(shared, source, source_bytes);
#endif
}

// Closes the group of this thread's copies since the last commit; a group may be empty.
TWINSTREAM_DEVICE void cp_async_commit() {
#if defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulator::cp_async_commit();
#endif
}

// Waits until at most `pending` of this thread's latest groups are unfinished; their bytes are then
// visible to this thread, and to others after a barrier.
template <unsigned pending>
TWINSTREAM_DEVICE void cp_async_wait() {
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#else
    emulator::cp_async_wait(pending);
#endif
}

// Reads 16 bytes of global memory that another block may have written during this kernel.
TWINSTREAM_DEVICE float4 ld_global_cg(const float4 *source) {
#if defined(__CUDACC__)
    float4 value;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "l"(__cvta_generic_to_global(source))
                 : "memory");
    return value;
#else
    return emulator::ld_global_cg(source);
#endif
}

TWINSTREAM_DEVICE int4 ld_global_cg(const int4 *source) {
#if defined(__CUDACC__)
    int4 value;
    asm volatile("ld.global.cg.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(__cvta_generic_to_global(source))
                 : "memory");
    return value;
#else
    return emulator::ld_global_cg(source);
#endif
}

// Reads a word past the L1 cache: of the host's memory, or one that work before this kernel wrote
// and that is wanted ahead of the wait, when L1 may still hold what it was for an earlier batch.
TWINSTREAM_DEVICE uint32_t load_past_l1(const uint32_t *source) {
#if defined(__CUDACC__)
    uint32_t value;
    asm volatile("ld.relaxed.sys.global.u32 %0, [%1];"
                 : "=r"(value)
                 : "l"(__cvta_generic_to_global(source))
                 : "memory");
    return value;
#else
    return *source;
#endif
}

// Fetches the cache line of an address into L2, where it has to come from device memory.
TWINSTREAM_DEVICE void prefetch_to_l2(const void *address) {
#if defined(__CUDACC__)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(address)));
#else
    static_cast<void>(address);
#endif
}

// Adds 1 to a counter of global memory and returns what it was. What the caller, and the threads
// that met it at a barrier before, wrote earlier is visible to whoever reads the new value so; and
// the other way round.
TWINSTREAM_DEVICE uint32_t arrive(uint32_t *counter) {
#if defined(__CUDACC__)
    uint32_t before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
                 : "=r"(before)
                 : "l"(__cvta_generic_to_global(counter))
                 : "memory");
    return before;
#else
    return emulator::arrive(counter);
#endif
}

// Adds to a counter of global memory. What this thread, and those that met it at a barrier before,
// wrote earlier is visible to whoever reads the new value with load_acquire.
TWINSTREAM_DEVICE void add_release(uint32_t *counter, uint32_t value) {
#if defined(__CUDACC__)
    asm volatile(
        "red.release.gpu.global.add.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(counter)),
        "r"(value)
        : "memory");
#else
    emulator::add_release(counter, value);
#endif
}

TWINSTREAM_DEVICE uint32_t load_acquire(const uint32_t *counter) {
#if defined(__CUDACC__)
    uint32_t value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                 : "=r"(value)
                 : "l"(__cvta_generic_to_global(counter))
                 : "memory");
    return value;
#else
    return emulator::load_acquire(counter);
#endif
}

} // namespace twinstream::ptx

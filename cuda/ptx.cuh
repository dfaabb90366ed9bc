// Every PTX instruction that the kernels use, each as one small function: asm for the device, a
// call of the same name in twinstream::emulator for the host. The only file with asm.
//
// Addresses of shared memory are 32-bit offsets into the shared window (shared_address), as the
// instructions want them. This file knows nothing of tiles or layers.
#pragma once

#include "common.cuh"

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
TWINSTREAM_DEVICE void copy_async_16(uint32_t shared, const void *source, uint32_t source_bytes) {
#if defined(__CUDACC__)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared),
                 "l"(__cvta_generic_to_global(source)), "r"(source_bytes)
                 : "memory");
#else
    emulator::copy_async_16(shared, source, source_bytes);
#endif
}

// Closes the group of this thread's copies since the last commit; a group may be empty.
TWINSTREAM_DEVICE void copy_async_commit() {
#if defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulator::copy_async_commit();
#endif
}

// Waits until at most `pending` of this thread's latest groups are unfinished; their bytes are then
// visible to this thread, and to others after a barrier.
template <unsigned pending>
TWINSTREAM_DEVICE void copy_async_wait() {
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#else
    emulator::copy_async_wait(pending);
#endif
}

// Loads four 8x8 matrices of f16, whose rows of 16 bytes start at the addresses of lanes 0-7, 8-15,
// 16-23 and 24-31. Lane l gets of each matrix row l / 4, columns 2 (l % 4) and the next. The whole
// warp.
TWINSTREAM_DEVICE void load_matrix_x4(uint32_t (&to)[4], uint32_t shared) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared)
                 : "memory");
#else
    emulator::load_matrix_x4(to, shared);
#endif
}

// sum += a * b for a 16x16, b 16x8 (f16) and sum 16x8 (f32). With g = lane / 4 and t = lane % 4:
// a holds rows g, g + 8, g, g + 8 at columns 2t, 2t, 2t + 8, 2t + 8 (each and the next);
// b column g at rows 2t and 2t + 8 (each and the next); sum rows g, g, g + 8, g + 8 at columns 2t,
// 2t + 1, 2t, 2t + 1. The whole warp.
TWINSTREAM_DEVICE void multiply_add_16x8x16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b_low,
                                            uint32_t b_high) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
#else
    emulator::multiply_add_16x8x16(sum, a, b_low, b_high);
#endif
}

// Two values rounded to nearest even f16, `low` in the lower half.
TWINSTREAM_DEVICE uint32_t pack_f16x2(float low, float high) {
#if defined(__CUDACC__)
    uint32_t packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
#else
    return emulator::pack_f16x2(low, high);
#endif
}

// The f16 value in the lower 16 bits.
TWINSTREAM_DEVICE float unpack_f16(uint32_t packed) {
#if defined(__CUDACC__)
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<uint16_t>(packed)));
    return value;
#else
    return emulator::unpack_f16(packed);
#endif
}

// Larger of each pair of f16 values.
TWINSTREAM_DEVICE uint32_t max_f16x2(uint32_t a, uint32_t b) {
#if defined(__CUDACC__)
    uint32_t larger;
    asm("max.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
#else
    return emulator::max_f16x2(a, b);
#endif
}

// Reads 16 bytes of global memory that another block may have written during this kernel.
TWINSTREAM_DEVICE float4 load_shared_with_blocks(const float4 *source) {
#if defined(__CUDACC__)
    float4 value;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "l"(__cvta_generic_to_global(source))
                 : "memory");
    return value;
#else
    return emulator::load_shared_with_blocks(source);
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

// Lets the next kernel of the stream start, where it was launched with programmatic dependence,
// once all blocks have come here or ended.
TWINSTREAM_DEVICE void allow_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Waits until the kernel before has ended and its writes are visible; at once without programmatic
// dependence. Nothing may be written before, and only read what no kernel writes, or none but
// `describe`, past L1: each kernel waits before it allows the next, so that those ahead of the one
// before have ended in any case.
TWINSTREAM_DEVICE void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#elif !defined(__CUDACC__)
    emulator::wait_for_previous_kernel();
#endif
}

} // namespace twinstream::ptx

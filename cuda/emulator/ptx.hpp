// What the PTX instructions in use do, for the host bodies of cuda/ptx.cuh.
//
// Lanes, fragments and groups are numbered as in the PTX ISA. A lane that is missing, an address
// outside shared memory and a wrong alignment are errors of the launch, never undefined.
#pragma once

#include <cstdint>
#include <cstring>

namespace twinstream::emulator {

// First byte of the block's dynamic shared memory, aligned to 1,024 bytes.
void *dynamic_shared();

// cp.async: reads `bytes` (4, 8 or 16) from global to shared memory, or writes zeros where !is_valid
// (the source is then never read). The destination holds NaN from the call until the wait that
// guarantees the copy; only then is the source read. So neither reading too early nor overwriting
// what others still read goes unnoticed.
void cp_async(void *shared, const void *global, std::uint32_t bytes, bool is_valid);
inline void cp_async_16(void *shared, const void *global, bool is_valid) {
    cp_async(shared, global, 16, is_valid);
}
void cp_async_commit();
// Waits until at most `groups_len` of the newest groups of the calling thread are outstanding.
void cp_async_wait_group(std::uint32_t groups_len);
template <std::uint32_t groups_len> inline void cp_async_wait() { cp_async_wait_group(groups_len); }
// Also waits for copies in no group.
void cp_async_wait_all();

// bar.sync over all threads of the block; with a count, over the first `threads_len` to come.
void barrier_sync(std::uint32_t number);
void barrier_sync(std::uint32_t number, std::uint32_t threads_len);
void barrier_arrive(std::uint32_t number, std::uint32_t threads_len);
void syncwarp(std::uint32_t mask);

// ldmatrix / stmatrix of 8x8 matrices of 16-bit values: lanes 8i to 8i + 7 give the rows of matrix i.
void ldmatrix_x1(std::uint32_t (&r)[1], const void *shared);
void ldmatrix_x2(std::uint32_t (&r)[2], const void *shared);
void ldmatrix_x4(std::uint32_t (&r)[4], const void *shared);
void ldmatrix_x1_trans(std::uint32_t (&r)[1], const void *shared);
void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void *shared);
void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void *shared);
void stmatrix_x2(void *shared, const std::uint32_t (&r)[2]);
void stmatrix_x4(void *shared, const std::uint32_t (&r)[4]);

// mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32: d += a * b. Products are exact; they are added
// to d one after the other in the order of k, each sum rounded to nearest. Tensor cores add several
// products at once with fewer rounding steps and truncate, so results differ by a few units in the
// last place of the largest partial sum.
void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);

// shfl.sync: `mode` is 'i'ndex, 'x'or, 'u'p or 'd'own. Reading a lane outside the mask is an error.
std::uint32_t shuffle_bits(std::uint32_t mask, std::uint32_t bits, std::int32_t lanes,
                           std::int32_t width, char mode);
std::uint32_t ballot(std::uint32_t mask, bool predicate);

template <class Value>
inline Value shuffle(std::uint32_t mask, Value value, std::int32_t lanes, std::int32_t width,
                     char mode) {
    static_assert(sizeof(Value) == sizeof(std::uint32_t), "shuffles move 32 bits");
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = shuffle_bits(mask, bits, lanes, width, mode);
    std::memcpy(&value, &bits, sizeof bits);
    return value;
}

} // namespace twinstream::emulator

// What the PTX instructions in use do, for the host bodies of cuda/ptx/.
//
// Lanes, fragments and groups are numbered as in the PTX ISA. A lane that is missing, an address
// outside shared memory and a wrong alignment are errors of the launch, never undefined.
#pragma once

#include <cstdint>
#include <cstring>

#include "f16.hpp"

namespace twinstream::emulator {

// First byte of the block's dynamic shared memory, aligned to 1,024 bytes.
unsigned char *shared_memory();
// Its address in the shared window, which the instructions take.
std::uint32_t shared_address(const void *pointer);

// cp.async of 16 bytes from global to shared memory; writes zeros where source_bytes is 0 (the
// source is then never read). The destination holds NaN from the call until the wait that
// guarantees the copy; only then is the source read. So neither reading too early nor overwriting
// what others still read goes unnoticed.
void cp_async_16(std::uint32_t shared, const void *source, std::uint32_t source_bytes);
void cp_async_commit();
// Waits until at most `pending` of the newest groups of the calling thread are outstanding.
void cp_async_wait(std::uint32_t pending);

// bar.sync over all threads of the block; with a count, over the first `threads_len` to come.
void barrier_sync(std::uint32_t number);
void barrier_sync(std::uint32_t number, std::uint32_t threads_len);
void barrier_arrive(std::uint32_t number, std::uint32_t threads_len);
void syncwarp(std::uint32_t mask);

// ldmatrix and stmatrix of 8x8 matrices of 16-bit values: lanes 8i to 8i + 7 give the addresses of
// the rows of matrix i, 16 bytes each.
void ldmatrix_x1(std::uint32_t (&to)[1], std::uint32_t shared);
void ldmatrix_x2(std::uint32_t (&to)[2], std::uint32_t shared);
void ldmatrix_x4(std::uint32_t (&to)[4], std::uint32_t shared);
void ldmatrix_x1_transposed(std::uint32_t (&to)[1], std::uint32_t shared);
void ldmatrix_x2_transposed(std::uint32_t (&to)[2], std::uint32_t shared);
void ldmatrix_x4_transposed(std::uint32_t (&to)[4], std::uint32_t shared);
void store_matrix_x2(std::uint32_t shared, const std::uint32_t (&from)[2]);
void store_matrix_x4(std::uint32_t shared, const std::uint32_t (&from)[4]);
void store_matrix_x1_transposed(std::uint32_t shared, const std::uint32_t (&from)[1]);
void store_matrix_x2_transposed(std::uint32_t shared, const std::uint32_t (&from)[2]);
void store_matrix_x4_transposed(std::uint32_t shared, const std::uint32_t (&from)[4]);

// mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32: sum += a * b. Products are exact; they are
// added one after the other in the order of k, each sum rounded to nearest. Tensor cores add
// several products at once with fewer rounding steps and truncate, so results differ by a few units
// in the last place of the largest partial sum.
void mma_m16n8k16(float (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                  std::uint32_t b_high);

// mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32: sum += a * b, modulo 2^32.
void mma_m16n8k32(std::int32_t (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                  std::uint32_t b_high);

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

// atom.acq_rel.gpu.add of 1; returns the value before.
inline std::uint32_t arrive(std::uint32_t *counter) {
    return __atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL);
}

// ld.global.cg: memory is coherent here, so a plain load.
template <class Value>
inline Value ld_global_cg(const Value *source) {
    return *source;
}

// griddepcontrol.wait.
void wait_for_previous_kernel();

} // namespace twinstream::emulator

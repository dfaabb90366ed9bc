// What the instructions of sm_90a do that a warp-specialised kernel needs: barriers in shared
// memory, tensor copies by the copy engine, and matrix products of a warpgroup that read shared
// memory.
//
// As in ptx.hpp, work in the background ends as late as allowed, its destination holds NaN until
// then, and misuse is an error of the launch. Kernels of sm_80 use nothing of this.
#pragma once

#include <cstdint>

#include "tensor_map.hpp"

namespace twinstream::emulator {

// mbarrier: 8 bytes of shared memory, aligned to 8, at the address `barrier`. A phase ends when as
// many arrivals as it was made for have come and all expected bytes have been copied.
void barrier_init(std::uint32_t barrier, std::uint32_t arrivals_len);
void barrier_arrive(std::uint32_t barrier);
// mbarrier.arrive.expect_tx
void barrier_arrive_expect(std::uint32_t barrier, std::uint32_t bytes);
// mbarrier.try_wait.parity, repeated until it succeeds: waits for the end of the phase of that
// parity, 0 for the first phase. Returns at once if the current phase has the other parity.
void barrier_wait(std::uint32_t barrier, std::uint32_t parity);

// cp.async.bulk.tensor.<rank>d.shared.global.mbarrier::complete_tx::bytes.tile: the box whose first
// element has these coordinates, innermost first. Elements outside the tensor become zero; all
// bytes of the box count at the barrier. The destination is aligned to 128 bytes, or to 1,024 where
// the map swizzles.
void copy_tensor(std::uint32_t shared, const TensorMap &map, const std::int32_t *coordinates,
                 std::uint32_t barrier);
// The same with .im2col: pixels from the one at these coordinates on, channels innermost, as many
// as the map says; each read at a distance of `offsets` (innermost spatial dimension first).
void copy_im2col(std::uint32_t shared, const TensorMap &map, const std::int32_t *coordinates,
                 const std::uint16_t *offsets, std::uint32_t barrier);

// wgmma.fence, commit_group and wait_group, executed by whole warps.
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(std::uint32_t pending);

// wgmma.mma_async.m64n<columns>k16.f32.f16.f16, both operands K-major in shared memory. Element i
// of the sum is at row 16 w + lane / 4 + 8 (i / 2 % 2), column 8 (i / 4) + 2 (lane % 4) + i % 2, w
// being the warp's number in its warpgroup. Operands are read and sums written at the wait; the
// sums hold NaN until then and must stay where they are. Rounds as mma_m16n8k16 does.
void wgmma_m64k16(float *sum, std::uint32_t columns, std::uint64_t left, std::uint64_t right,
                  bool adds);

// Descriptor of an operand of 64 K values a row in the 128-byte swizzle: rows of 128 bytes from
// `shared` on, a multiple of 1,024. Later steps of 16 values add 32 bytes to the address.
inline std::uint64_t wgmma_descriptor(std::uint32_t shared) {
    const std::uint64_t rows_of_eight_bytes = 1024;
    return (shared >> 4 & 0x3fffu) | std::uint64_t{1} << 16 | (rows_of_eight_bytes >> 4) << 32 |
           std::uint64_t{1} << 62;
}

} // namespace twinstream::emulator

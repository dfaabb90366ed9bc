// What the instructions of sm_90a do that a warp-specialised kernel needs: barriers in shared
// memory, copies by the copy engine in both directions, matrix products of a warpgroup, clusters of
// blocks, and fences between what threads and the copy engine see.
//
// As in ptx.hpp, work in the background ends as late as allowed, its destination holds NaN until
// then, and misuse is an error of the launch. Kernels of sm_80 use nothing of this.
//
// `shared` is an address of the block's own shared memory; `place` may also be what map_shared gave
// for another block of the cluster.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor_map.hpp"

namespace twinstream::emulator {

// mbarrier.cpp

// mbarrier: 8 bytes of shared memory, aligned to 8, at the address `barrier`. A phase ends when as
// many arrivals as it was made for have come and all expected bytes have been copied.
void barrier_init(std::uint32_t barrier, std::uint32_t arrivals_len);
// fence.mbarrier_init.release.cluster: before it the copy engine and other blocks see no barrier.
void fence_barrier_init();
// mbarrier.arrive, also at a barrier of another block.
void barrier_arrive(std::uint32_t place);
// mbarrier.arrive.expect_tx
void barrier_arrive_expect(std::uint32_t barrier, std::uint32_t bytes);
// mbarrier.try_wait.parity: whether the phase of that parity, 0 for the first, has ended. May
// suspend for a while: here, until it has, or nothing else is left to happen.
bool barrier_try_wait(std::uint32_t barrier, std::uint32_t parity);

// tensor_copy.cpp

// cp.async.bulk.tensor.<rank>d.shared::cluster.global.mbarrier::complete_tx::bytes.tile: the box
// whose first element has these coordinates, innermost first. Elements outside the tensor become
// zero; all bytes of the box count at the barrier. The destination is aligned to 128 bytes, or to
// the map's swizzle. With a mask of ranks (.multicast::cluster) the box goes to each of these
// blocks, at the same address as here, and counts at the barrier at the same address there.
void copy_tensor(std::uint32_t shared, const TensorMap &map, const std::int32_t *coordinates,
                 std::uint32_t barrier, std::uint16_t ranks = 0);
// The same with .im2col: pixels from the one at these coordinates on, channels innermost, as many
// as the map says; each read at a distance of `offsets` (innermost spatial dimension first).
void copy_im2col(std::uint32_t shared, const TensorMap &map, const std::int32_t *coordinates,
                 const std::uint16_t *offsets, std::uint32_t barrier, std::uint16_t ranks = 0);
// cp.async.bulk.tensor.<rank>d.global.shared::cta.bulk_group.tile: the other way. Elements outside
// the tensor are not written.
void store_tensor(const TensorMap &map, const std::int32_t *coordinates, std::uint32_t shared);

// bulk.cpp

// cp.async.bulk.shared::cluster.global, with a mask of ranks as above; all aligned to 16 bytes.
void copy_bulk(std::uint32_t shared, const void *source, std::uint32_t bytes, std::uint32_t barrier,
               std::uint16_t ranks = 0);
// cp.async.bulk.global.shared::cta.bulk_group
void store_bulk(void *to, std::uint32_t shared, std::uint32_t bytes);
// cp.async.bulk.prefetch.L2: only checks its operands.
void prefetch_bulk(const void *source, std::uint32_t bytes);
// cp.async.bulk.commit_group and wait_group, of the calling thread's stores. Shared memory is read
// as late as the wait; `bulk_wait_read` is content with that, and memory is written as late as
// `bulk_wait`, or the thread's end.
void bulk_commit();
void bulk_wait(std::uint32_t pending);
void bulk_wait_read(std::uint32_t pending);

// proxy.cpp

// fence.proxy.async.shared::cta and .global: what the calling thread wrote, copies and products may
// read that are issued behind a barrier. The latter also lets its own copies read what it has
// acquired from other blocks.
void fence_proxy_async_shared();
void fence_proxy_async_global();

// warpgroup.cpp

// elect.sync with a full mask: true for one lane, always the same.
bool elect();
// setmaxnreg.inc and .dec: registers of a thread from now on, for a whole warpgroup.
void increase_registers(std::uint32_t count);
void decrease_registers(std::uint32_t count);

// cluster_instructions.cpp

std::uint32_t cluster_rank();
std::uint32_t cluster_len();
// mapa.shared::cluster: where the block of that rank has what lies at `shared` here.
std::uint32_t map_shared(std::uint32_t shared, std::uint32_t rank);
// barrier.cluster.arrive and .wait; lanes of a warp wait for one another.
void cluster_arrive();
void cluster_wait();
// st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32: 16 bytes to a block of the cluster,
// counted at a barrier of that block.
void store_async(std::uint32_t place, const std::uint32_t (&values)[4],
                 std::uint32_t barrier_place);

// waits.cpp

// %globaltimer: virtual; it also moves where nothing but waiting is left.
std::uint64_t global_timer_ns();
// Goes on when nothing else of the cluster can.
void sleep_ns(std::uint32_t duration_ns);
// Ends the launch with an error.
[[noreturn]] void trap();
// red.release.gpu.add and ld.acquire.gpu on a counter of device memory.
void add_release(std::uint32_t *counter, std::uint32_t value);
std::uint32_t load_acquire(const std::uint32_t *counter);

// wgmma.cpp

// wgmma.fence, commit_group and wait_group, executed by whole warps.
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(std::uint32_t pending);

// wgmma.mma_async.m64n<columns>k16.f32.f16.f16: sum = a * b, or added to it, both operands K-major
// in shared memory, described as the ISA describes them. Element i of the sum is at row 16 w +
// lane / 4 + 8 (i / 2 % 2), column 8 (i / 4) + 2 (lane % 4) + i % 2, w being the warp's number in
// its warpgroup. Operands are read and sums written at the wait; the sums hold NaN until then and
// must stay where they are. Rounds as mma_m16n8k16 does.
void wgmma_f16(float *sum, std::uint32_t columns, std::uint64_t a, std::uint64_t b, bool adds);
// The same with a in registers: of lane l, with g = l / 4 and t = l % 4, rows g, g + 8, g, g + 8 of
// the warp's 16 at columns 2t, 2t, 2t + 8, 2t + 8, each and the next. They must stay where and as
// they are until the wait.
void wgmma_f16(float *sum, std::uint32_t columns, const std::uint32_t (&a)[4], std::uint64_t b,
               bool adds);
// wgmma.mma_async.m64n<columns>k32.s32.s8.u8; in registers, four values stand in the place of two.
void wgmma_s8u8(std::int32_t *sum, std::uint32_t columns, std::uint64_t a, std::uint64_t b,
                bool adds);
void wgmma_s8u8(std::int32_t *sum, std::uint32_t columns, const std::uint32_t (&a)[4],
                std::uint64_t b, bool adds);

// For this folder: a thread wrote to shared memory; the copy engine or a matrix unit, told so at
// that moment of the shadow, reads it, or a thread's copy reads device memory.
void note_write(std::uint32_t shared, std::uint32_t bytes);
void check_async_read(std::uint32_t shared, std::uint32_t bytes, std::uint32_t since,
                      const char *instruction);
void check_async_global_read(const void *at, std::size_t bytes, const char *instruction);

} // namespace twinstream::emulator

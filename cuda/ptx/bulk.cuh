// Copies by the copy engine of sm_90, each as one small function: asm for the device, a call of the
// same name in twinstream::emulator for the host.
//
// One thread issues a copy for all. Copies into shared memory count their bytes at a barrier of
// barrier.cuh; copies out of it are waited for by the thread that issued them. This file knows
// nothing of tiles or layers.
#pragma once

#include "../common.cuh"

namespace twinstream {

#if defined(__CUDACC__)
// CUtensorMap, which must lie in a kernel's parameters.
struct alignas(64) TensorMap {
    uint64_t words[16];
};
#else
using emulator::TensorMap;
#endif

} // namespace twinstream

namespace twinstream::ptx {

// All addresses and `bytes` are multiples of 16.
TWINSTREAM_DEVICE void copy_bulk(uint32_t shared, const void *source, uint32_t bytes,
                                 uint32_t barrier) {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(shared),
                 "l"(__cvta_generic_to_global(source)), "r"(bytes), "r"(barrier)
                 : "memory");
#else
    emulator::copy_bulk(shared, source, bytes, barrier);
#endif
}

// To each block of the cluster whose bit is set in `ranks`, at the same addresses there.
TWINSTREAM_DEVICE void copy_bulk_to_all(uint32_t shared, const void *source, uint32_t bytes,
                                        uint32_t barrier, uint16_t ranks) {
#if defined(__CUDACC__)
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1], %2, [%3], %4;" ::"r"(shared),
        "l"(__cvta_generic_to_global(source)), "r"(bytes), "r"(barrier), "h"(ranks)
        : "memory");
#else
    emulator::copy_bulk(shared, source, bytes, barrier, ranks);
#endif
}

TWINSTREAM_DEVICE void store_bulk(void *to, uint32_t shared, uint32_t bytes) {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(
                     __cvta_generic_to_global(to)),
                 "r"(shared), "r"(bytes)
                 : "memory");
#else
    emulator::store_bulk(to, shared, bytes);
#endif
}

// Fetches what a later copy reads into L2.
TWINSTREAM_DEVICE void prefetch_bulk(const void *source, uint32_t bytes) {
#if defined(__CUDACC__)
    asm volatile(
        "cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(source)),
        "r"(bytes)
        : "memory");
#else
    emulator::prefetch_bulk(source, bytes);
#endif
}

// Fetches a map ahead of the first copy by it.
TWINSTREAM_DEVICE void prefetch_map(const TensorMap &map) {
#if defined(__CUDACC__)
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#else
    static_cast<void>(map);
#endif
}

// The box of a two-dimensional map whose first element is (x, y), zeros outside the tensor.
TWINSTREAM_DEVICE void copy_tensor_2d(uint32_t shared, const TensorMap &map, int32_t x, int32_t y,
                                      uint32_t barrier) {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared),
                 "l"(&map), "r"(x), "r"(y), "r"(barrier)
                 : "memory");
#else
    const int32_t coordinates[] = {x, y};
    emulator::copy_tensor(shared, map, coordinates, barrier);
#endif
}

// The same of a map of four dimensions.
TWINSTREAM_DEVICE void copy_tensor_4d(uint32_t shared, const TensorMap &map,
                                      const int32_t (&first)[4], uint32_t barrier) {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared),
                 "l"(&map), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(barrier)
                 : "memory");
#else
    emulator::copy_tensor(shared, map, first, barrier);
#endif
}

// Pixels from the one at (channel, x, y, image) on, of each the one under the tap (tap_x, tap_y).
TWINSTREAM_DEVICE void copy_im2col(uint32_t shared, const TensorMap &map, const int32_t (&first)[4],
                                   const uint16_t (&tap)[2], uint32_t barrier) {
#if defined(__CUDACC__)
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};" ::"r"(shared),
        "l"(&map), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(barrier),
        "h"(tap[0]), "h"(tap[1])
        : "memory");
#else
    emulator::copy_im2col(shared, map, first, tap, barrier);
#endif
}

// To each block of the cluster whose bit is set in `ranks`, at the same addresses there.
TWINSTREAM_DEVICE void copy_im2col_to_all(uint32_t shared, const TensorMap &map,
                                          const int32_t (&first)[4], const uint16_t (&tap)[2],
                                          uint32_t barrier, uint16_t ranks) {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::"
                 "bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8}, %9;" ::"r"(shared),
                 "l"(&map), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]),
                 "r"(barrier), "h"(tap[0]), "h"(tap[1]), "h"(ranks)
                 : "memory");
#else
    emulator::copy_im2col(shared, map, first, tap, barrier, ranks);
#endif
}

// The box at (x, y) to the tensor; what lies outside of that is left out.
TWINSTREAM_DEVICE void store_tensor_2d(const TensorMap &map, int32_t x, int32_t y,
                                       uint32_t shared) {
#if defined(__CUDACC__)
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map),
        "r"(x), "r"(y), "r"(shared)
        : "memory");
#else
    const int32_t coordinates[] = {x, y};
    emulator::store_tensor(map, coordinates, shared);
#endif
}

TWINSTREAM_DEVICE void store_tensor_4d(const TensorMap &map, const int32_t (&first)[4],
                                       uint32_t shared) {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group "
                 "[%0, {%1, %2, %3, %4}], [%5];" ::"l"(&map),
                 "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(shared)
                 : "memory");
#else
    emulator::store_tensor(map, first, shared);
#endif
}

// Closes the group of this thread's stores since the last commit.
TWINSTREAM_DEVICE void bulk_commit() {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#else
    emulator::bulk_commit();
#endif
}

// Waits until at most `pending` of this thread's latest groups have yet to read shared memory.
template <unsigned pending>
TWINSTREAM_DEVICE void bulk_wait_read() {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
#else
    emulator::bulk_wait_read(pending);
#endif
}

// Waits until at most `pending` of them have yet to be written and visible.
template <unsigned pending>
TWINSTREAM_DEVICE void bulk_wait() {
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(pending) : "memory");
#else
    emulator::bulk_wait(pending);
#endif
}

} // namespace twinstream::ptx

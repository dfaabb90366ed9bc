// Warps and warpgroups that do different work in one block, and blocks of a cluster that reach one
// another's shared memory (sm_90): asm for the device, a call of the same name in
// twinstream::emulator for the host.
#pragma once

#include "../common.cuh"

namespace twinstream::ptx {

// True for one lane of the warp, always the same. The whole warp.
TWINSTREAM_DEVICE bool elect() {
#if defined(__CUDACC__)
    uint32_t is_elected;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "elect.sync _|p, 0xffffffff;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(is_elected));
    return is_elected != 0;
#else
    return emulator::elect();
#endif
}

// A thread has `count` registers from now on; waits until others of the block have given back as
// many as that takes. The whole warpgroup.
template <unsigned count>
TWINSTREAM_DEVICE void increase_registers() {
#if defined(__CUDACC__)
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
#else
    emulator::increase_registers(count);
#endif
}

template <unsigned count>
TWINSTREAM_DEVICE void decrease_registers() {
#if defined(__CUDACC__)
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
#else
    emulator::decrease_registers(count);
#endif
}

// The block's number in its cluster.
TWINSTREAM_DEVICE uint32_t cluster_rank() {
#if defined(__CUDACC__)
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
#else
    return emulator::cluster_rank();
#endif
}

// Blocks of the cluster.
TWINSTREAM_DEVICE uint32_t cluster_len() {
#if defined(__CUDACC__)
    uint32_t len;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(len));
    return len;
#else
    return emulator::cluster_len();
#endif
}

// Where the block of that rank has what lies at `shared` in this one.
TWINSTREAM_DEVICE uint32_t map_shared(uint32_t shared, uint32_t rank) {
#if defined(__CUDACC__)
    uint32_t place;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(place) : "r"(shared), "r"(rank));
    return place;
#else
    return emulator::map_shared(shared, rank);
#endif
}

// The barrier of all threads of the cluster, of whom those of a warp need not come together. Behind
// it no block ends while others may reach it before.
TWINSTREAM_DEVICE void cluster_arrive() {
#if defined(__CUDACC__)
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#else
    emulator::cluster_arrive();
#endif
}

// The same of threads whose writes are no matter to whoever waits, which spares a fence over the
// whole device.
TWINSTREAM_DEVICE void cluster_arrive_relaxed() {
#if defined(__CUDACC__)
    asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#else
    emulator::cluster_arrive();
#endif
}

TWINSTREAM_DEVICE void cluster_wait() {
#if defined(__CUDACC__)
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#else
    emulator::cluster_wait();
#endif
}

// Writes 16 bytes to a block of the cluster, which are counted at a barrier of the same block.
TWINSTREAM_DEVICE void store_async(uint32_t place, const uint32_t (&values)[4],
                                   uint32_t barrier_place) {
#if defined(__CUDACC__)
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 "
                 "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(place),
                 "r"(values[0]), "r"(values[1]), "r"(values[2]), "r"(values[3]), "r"(barrier_place)
                 : "memory");
#else
    emulator::store_async(place, values, barrier_place);
#endif
}

} // namespace twinstream::ptx

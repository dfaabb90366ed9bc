// Barriers of sm_90 in shared memory (mbarrier), barriers of a part of a block, and fences between
// what threads and what the copy engine see, each as one small function: asm for the device, a call
// of the same name in twinstream::emulator for the host.
//
// `barrier` is the address in the shared window of 8 bytes, aligned to 8. Knows no copies.
#pragma once

#include "../common.cuh"

namespace twinstream::ptx {

// Makes a barrier whose phases end when so many arrivals and all expected bytes have come.
TWINSTREAM_DEVICE void barrier_init(uint32_t barrier, uint32_t arrivals_len) {
#if defined(__CUDACC__)
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals_len)
                 : "memory");
#else
    emulator::barrier_init(barrier, arrivals_len);
#endif
}

// Shows the barriers that this thread made to the copy engine and to other blocks of the cluster,
// once a barrier of the block or of the cluster follows.
TWINSTREAM_DEVICE void fence_barrier_init() {
#if defined(__CUDACC__)
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    emulator::fence_barrier_init();
#endif
}

TWINSTREAM_DEVICE void barrier_arrive(uint32_t barrier) {
#if defined(__CUDACC__)
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#else
    emulator::barrier_arrive(barrier);
#endif
}

// Arrives at a barrier of another block, or of this one, by what map_shared gave for it.
TWINSTREAM_DEVICE void barrier_arrive_at(uint32_t place) {
#if defined(__CUDACC__)
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(place)
                 : "memory");
#else
    emulator::barrier_arrive(place);
#endif
}

// The same of threads that have only read: what they wrote need not be visible to whoever waits,
// which spares a fence over the whole device.
TWINSTREAM_DEVICE void barrier_arrive_relaxed_at(uint32_t place) {
#if defined(__CUDACC__)
    asm volatile("mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%0];" ::"r"(place)
                 : "memory");
#else
    emulator::barrier_arrive(place);
#endif
}

// Arrives, and makes the phase wait for so many bytes of copies.
TWINSTREAM_DEVICE void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
#if defined(__CUDACC__)
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
#else
    emulator::barrier_arrive_expect(barrier, bytes);
#endif
}

// Who arrives at a barrier and writes before that: threads of this block, or of others too. The
// latter costs what this multiprocessor has in L1.
enum class Arrivals {
    block,
    cluster,
};

// Whether the phase of that parity, 0 for the first, has ended; waits for that a short while. True
// as well where the phase under way has the other parity. What copies wrote, and what threads wrote
// before they arrived, is then visible.
template <Arrivals from = Arrivals::block>
TWINSTREAM_DEVICE bool barrier_try_wait(uint32_t barrier, uint32_t parity) {
#if defined(__CUDACC__)
    uint32_t has_ended;
    if constexpr (from == Arrivals::block)
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}"
                     : "=r"(has_ended)
                     : "r"(barrier), "r"(parity)
                     : "memory");
    else
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}"
                     : "=r"(has_ended)
                     : "r"(barrier), "r"(parity)
                     : "memory");
    return has_ended != 0;
#else
    return emulator::barrier_try_wait(barrier, parity);
#endif
}

TWINSTREAM_DEVICE uint64_t global_timer_ns() {
#if defined(__CUDACC__)
    uint64_t time_ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time_ns));
    return time_ns;
#else
    return emulator::global_timer_ns();
#endif
}

// Lets others go on for about so long.
TWINSTREAM_DEVICE void sleep_ns(uint32_t duration_ns) {
#if defined(__CUDACC__)
    asm volatile("nanosleep.u32 %0;" ::"r"(duration_ns));
#else
    emulator::sleep_ns(duration_ns);
#endif
}

// Ends the launch with an error, and the context with it.
TWINSTREAM_DEVICE void trap() {
#if defined(__CUDACC__)
    asm volatile("trap;");
#else
    emulator::trap();
#endif
}

// Waits as barrier_try_wait does, but ends the launch where that takes two seconds: what is awaited
// then never comes, and a block that went on would leave copies behind that land in another's
// memory.
template <Arrivals from = Arrivals::block>
TWINSTREAM_DEVICE void barrier_wait(uint32_t barrier, uint32_t parity) {
    constexpr uint64_t WAIT_NS_MAX = 2000000000;
    if (barrier_try_wait<from>(barrier, parity)) return;
    const uint64_t start_ns = global_timer_ns();
    while (!barrier_try_wait<from>(barrier, parity)) {
        if (global_timer_ns() - start_ns > WAIT_NS_MAX) trap();
    }
}

// bar.sync `number`, from 1 to 15, over the first threads_len to come, a multiple of 32.
TWINSTREAM_DEVICE void barrier_sync(uint32_t number, uint32_t threads_len) {
#if defined(__CUDACC__)
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads_len) : "memory");
#else
    emulator::barrier_sync(number, threads_len);
#endif
}

// What this thread has written to shared memory, copies out of it and wgmma may read that are
// issued behind a barrier, and copies into it overwrite.
TWINSTREAM_DEVICE void fence_proxy_async_shared() {
#if defined(__CUDACC__)
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
    emulator::fence_proxy_async_shared();
#endif
}

// The same of device memory, for copies of whoever sees it; and where this thread has acquired what
// others wrote, for its own copies.
TWINSTREAM_DEVICE void fence_proxy_async_global() {
#if defined(__CUDACC__)
    asm volatile("fence.proxy.async.global;" ::: "memory");
#else
    emulator::fence_proxy_async_global();
#endif
}

} // namespace twinstream::ptx

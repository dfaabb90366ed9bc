// Programmatic dependent launch: how a kernel and the next one of its stream overlap. On devices
// without it, and where a launch does not ask for it, neither function does anything.
#pragma once

#include "../common.cuh"

namespace twinstream::ptx {

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

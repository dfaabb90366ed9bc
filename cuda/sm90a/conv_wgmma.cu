// Entry points of the convolution on wgmma, one a tile that tiles.inc lists for this family.

#include "../common.cuh"
#include "../ptx/barrier.cuh"
#include "../ptx/pdl.cuh"

namespace twinstream::kernels {

#define TWINSTREAM_CONV_WGMMA_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, THREADS_LEN, \
                                   BLOCKS_MIN, SHARED_BYTES)                                       \
    TWINSTREAM_KERNEL(NAME, twinstream_conv_wgmma_params, THREADS_LEN, BLOCKS_MIN) {               \
        ptx::wait_for_previous_kernel();                                                           \
        if (p.channels != 0) ptx::trap();                                                          \
    }
#include "../tiles.inc"

} // namespace twinstream::kernels

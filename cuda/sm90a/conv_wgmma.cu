// Entry points of the convolution on wgmma, one a tile that tiles.inc lists for this family.

#include "conv_wgmma.cuh"

namespace twinstream::kernels {

#define TWINSTREAM_CONV_WGMMA_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, THREADS_LEN, \
                                   BLOCKS_MIN, SHARED_BYTES)                                       \
    using Tile_##NAME = WarpgroupTile<DTYPE, M, N, WARPS_M, WARPS_N, STAGES>;                      \
    static_assert(ARCH == 90, #NAME ": not of this family");                                       \
    static_assert(WarpgroupShared<Tile_##NAME>::BYTES == SHARED_BYTES, #NAME ": see tiles.inc");   \
    static_assert(Tile_##NAME::THREADS == THREADS_LEN, #NAME ": see tiles.inc");                   \
    TWINSTREAM_KERNEL(NAME, twinstream_conv_wgmma_params, THREADS_LEN, BLOCKS_MIN) {               \
        TWINSTREAM_SHARED(shared);                                                                 \
        ConvWarpgroups<Tile_##NAME>(p, shared).run();                                              \
    }
#include "../tiles.inc"

} // namespace twinstream::kernels

// Entry points of the convolution, one a tile. All M x N tiles fit the shared memory of every
// target; docs/KERNELS.md lists how many blocks a multiprocessor holds.

#include "conv_block.cuh"

namespace twinstream::kernels {

#define TWINSTREAM_CONV(M, N, WARPS_M, WARPS_N, STAGES, BLOCKS_MIN)                        \
    using Tile_##M##x##N = Tile<M, N, WARPS_M, WARPS_N, STAGES>;                           \
    static_assert(TWINSTREAM_CONV_##M##x##N##_M == M && TWINSTREAM_CONV_##M##x##N##_N == N \
                      && TWINSTREAM_CONV_##M##x##N##_THREADS == Tile_##M##x##N::THREADS    \
                      && TWINSTREAM_CONV_##M##x##N##_SHARED_BYTES                          \
                             == ConvShared<Tile_##M##x##N>::BYTES,                         \
                  "launch.h must state the tile's sizes");                                 \
    TWINSTREAM_KERNEL(conv_##M##x##N, twinstream_conv_params, Tile_##M##x##N::THREADS,     \
                      BLOCKS_MIN) {                                                        \
        TWINSTREAM_SHARED(shared);                                                         \
        ConvBlock<Tile_##M##x##N>(p, shared).run();                                        \
    }

TWINSTREAM_CONV(128, 128, 2, 2, 3, 2)
TWINSTREAM_CONV(128, 64, 2, 2, 3, 3)
TWINSTREAM_CONV(64, 64, 2, 2, 4, 3)
TWINSTREAM_CONV(64, 32, 2, 2, 4, 4)
TWINSTREAM_CONV(32, 64, 2, 2, 4, 4)
TWINSTREAM_CONV(16, 64, 1, 4, 6, 3)

} // namespace twinstream::kernels

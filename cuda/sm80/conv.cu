// Entry points of the convolution, one a tile that tiles.inc lists for this family. All tiles fit
// the shared memory of every target; docs/KERNELS.md lists how many blocks a multiprocessor holds.

#include "conv_block.cuh"

namespace twinstream::kernels {

#define TWINSTREAM_CONV_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, THREADS_LEN,       \
                             BLOCKS_MIN, SHARED_BYTES)                                             \
    using Tile_##NAME = Tile<DTYPE, M, N, WARPS_M, WARPS_N, STAGES>;                               \
    static_assert(ARCH == 80, #NAME ": not of this family");                                       \
    static_assert(ConvShared<Tile_##NAME>::BYTES == SHARED_BYTES, #NAME ": see tiles.inc");        \
    static_assert(Tile_##NAME::THREADS == THREADS_LEN, #NAME ": see tiles.inc");                   \
    TWINSTREAM_KERNEL(NAME, twinstream_conv_params, THREADS_LEN, BLOCKS_MIN) {                     \
        TWINSTREAM_SHARED(shared);                                                                 \
        ConvBlock<Tile_##NAME>(p, shared).run();                                                   \
    }
#include "../tiles.inc"

} // namespace twinstream::kernels

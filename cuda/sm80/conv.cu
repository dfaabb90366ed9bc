// Entry points of the convolution, one a tile of tiles.inc. All tiles fit the shared memory of every
// target; docs/KERNELS.md lists how many blocks a multiprocessor holds.

#include "conv_block.cuh"

namespace twinstream::kernels {

#define TWINSTREAM_TILE(NAME, M, N, WARPS_M, WARPS_N, STAGES, BLOCKS_MIN, SHARED_BYTES)           \
    using Tile_##NAME = Tile<M, N, WARPS_M, WARPS_N, STAGES>;                                     \
    static_assert(ConvShared<Tile_##NAME>::BYTES == SHARED_BYTES, #NAME ": see tiles.inc");        \
    TWINSTREAM_KERNEL(NAME, twinstream_conv_params, Tile_##NAME::THREADS, BLOCKS_MIN) {           \
        TWINSTREAM_SHARED(shared);                                                                \
        ConvBlock<Tile_##NAME>(p, shared).run();                                                  \
    }
#include "../tiles.inc"

} // namespace twinstream::kernels

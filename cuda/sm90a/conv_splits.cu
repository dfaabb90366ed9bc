// Entry points of the same by clusters that share sums, one a tile that tiles.inc lists for this
// family.

#include "conv_splits.cuh"

namespace twinstream::kernels {

#define TWINSTREAM_CONV_SPLITS_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES,             \
                                    THREADS_LEN, BLOCKS_MIN, SHARED_BYTES)                         \
    using Tile_##NAME = SplitTile<DTYPE, M, STAGES>;                                               \
    static_assert(ARCH == 90, #NAME ": not of this family");                                       \
    static_assert(N == Tile_##NAME::BLOCK_LEN && WARPS_M == 1 && WARPS_N == 4,                     \
                  #NAME ": see tiles.inc");                                                        \
    static_assert(SplitShared<Tile_##NAME>::BYTES == SHARED_BYTES, #NAME ": see tiles.inc");       \
    static_assert(Tile_##NAME::THREADS == THREADS_LEN, #NAME ": see tiles.inc");                   \
    TWINSTREAM_KERNEL(NAME, twinstream_conv_wgmma_params, THREADS_LEN, BLOCKS_MIN) {               \
        TWINSTREAM_SHARED(shared);                                                                 \
        ConvSplit<Tile_##NAME>(p, shared).run();                                                   \
    }
#include "../tiles.inc"

} // namespace twinstream::kernels

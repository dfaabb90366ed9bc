// Entry points of the same for clusters of two blocks, one a tile that tiles.inc lists for this
// family.

#include "conv_wgmma.cuh"

namespace twinstream::kernels {

#define TWINSTREAM_CONV_PAIRS_TILE(...) TWINSTREAM_WARPGROUPS(2, __VA_ARGS__)
#include "../tiles.inc"

} // namespace twinstream::kernels

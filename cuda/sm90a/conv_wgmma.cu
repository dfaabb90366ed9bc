// Entry points of the convolution on wgmma, one a tile that tiles.inc lists for this family.

#include "conv_wgmma.cuh"

namespace twinstream::kernels {

#define TWINSTREAM_CONV_WGMMA_TILE(...) TWINSTREAM_WARPGROUPS(1, __VA_ARGS__)
#include "../tiles.inc"

} // namespace twinstream::kernels

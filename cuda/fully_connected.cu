// The last layer in f16. Classes are the rows of the matrix instruction, so that one image costs
// one group of columns.

#include "fully_connected.cuh"

namespace twinstream::kernels {

using Classes = FullyConnected<f16, true>;
static_assert(Classes::SHARED_BYTES == TWINSTREAM_FULLY_CONNECTED_SHARED_BYTES,
              "launch.h must state the shared memory");

TWINSTREAM_KERNEL(fully_connected, twinstream_fully_connected_params, Classes::THREADS, 4) {
    TWINSTREAM_SHARED(shared);
    Classes{p}.run(shared);
}

} // namespace twinstream::kernels

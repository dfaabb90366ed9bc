// The last layer of 8-bit integers. Images are the rows of the matrix instruction, which are
// unsigned.

#include "fully_connected.cuh"

namespace twinstream::kernels {

using ClassesI8 = FullyConnected<i8, false>;
static_assert(ClassesI8::SHARED_BYTES == TWINSTREAM_FULLY_CONNECTED_I8_SHARED_BYTES,
              "launch.h must state the shared memory");
static_assert(ClassesI8::THREADS == TWINSTREAM_FULLY_CONNECTED_I8_THREADS, "as many threads");

TWINSTREAM_KERNEL(fully_connected_i8, twinstream_fully_connected_params, ClassesI8::THREADS, 2) {
    TWINSTREAM_SHARED(shared);
    ClassesI8{p}.run(shared);
}

} // namespace twinstream::kernels

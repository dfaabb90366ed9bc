// What the tests have on the emulated device alone.

#include <cstdio>

#include "../tests.hpp"

// The emulated driver knows the kernels by name and looks at no image.
extern "C" const void *const twinstream_modules[] = {"", nullptr};

void twinstream::tests::test_beyond_devices() {
    test_swizzle();
    test_tensor_maps();
}

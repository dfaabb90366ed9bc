// What the tests leave out on a GPU, in words: nothing is left out silently.

#include <cstdio>

#include "../tests.hpp"

void twinstream::tests::test_beyond_devices() {
    std::printf("LEFT to the emulated device: bank conflicts, by counting; shared memory full of "
                "NaN, copies as late as may be, orders drawn from seeds; races (but see "
                "compute-sanitizer)\n");
}

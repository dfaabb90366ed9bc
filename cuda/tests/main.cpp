// Runs the kernels on the emulated device against scalar references.
// Arguments, both optional: the number of random convolutions, the seed.

#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests.hpp"

int main(int argument_len, char **arguments) {
    const unsigned random_len =
        argument_len > 1 ? static_cast<unsigned>(std::strtoul(arguments[1], nullptr, 10)) : 60;
    const std::uint64_t seed =
        argument_len > 2 ? std::strtoull(arguments[2], nullptr, 10) : std::random_device{}();
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    twinstream::tests::test_swizzle();
    twinstream::tests::test_pool_and_classes(seed);
    twinstream::tests::test_stem(seed);
    twinstream::tests::test_conv(seed, random_len);
}

// Runs the kernels on a device, the emulated or a real one, against scalar references.
// Arguments, both optional: the number of random convolutions, or `network` for the convolutions on
// wgmma with every shape of the network and nothing else; the seed. Status 1: something failed; 77:
// there is no device.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "check.hpp"
#include "tests.hpp"

int main(int argument_len, char **arguments) {
    using namespace twinstream::tests;
    const bool of_network = argument_len > 1 && std::strcmp(arguments[1], "network") == 0;
    const unsigned random_len =
        argument_len > 1 ? static_cast<unsigned>(std::strtoul(arguments[1], nullptr, 10)) : 60;
    const std::uint64_t seed =
        argument_len > 2 ? std::strtoull(arguments[2], nullptr, 10) : std::random_device{}();
    open_device();
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    if (of_network) {
        test_conv_network(seed);
        test_conv_i8_network(seed);
    } else {
        test_beyond_devices();
        test_pool_and_classes(seed);
        test_prove();
        test_stem(seed);
        test_layers_i8(seed);
        test_conv(seed, random_len);
        test_conv_i8(seed, random_len);
    }
    close_device();
    if (all_failed_len == 0) return 0;
    std::printf("%u cases failed\n", all_failed_len);
    return 1;
}

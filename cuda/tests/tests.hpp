// The subjects of the kernel tests.
#pragma once

#include <cstdint>

namespace twinstream::tests {

void test_conv(std::uint64_t seed, unsigned random_len);
void test_conv_i8(std::uint64_t seed, unsigned random_len);
// The convolutions on wgmma with every shape of the network, which takes minutes.
void test_conv_network(std::uint64_t seed);
void test_conv_i8_network(std::uint64_t seed);
void test_layers_i8(std::uint64_t seed);
void test_stem(std::uint64_t seed);
void test_pool_and_classes(std::uint64_t seed);
void test_prove();
// What no device shows: the program for GPUs says that it leaves it out.
void test_beyond_devices();
// The parts of it: bank conflicts, by counting; tensor maps of the emulated driver.
void test_swizzle();
void test_tensor_maps();

} // namespace twinstream::tests

// The subjects of the kernel tests; each ends the program with a message at the first failure.
#pragma once

#include <cstdint>

namespace twinstream::tests {

void test_swizzle();
void test_conv(std::uint64_t seed, unsigned random_len);
void test_stem(std::uint64_t seed);
void test_pool_and_classes(std::uint64_t seed);

} // namespace twinstream::tests

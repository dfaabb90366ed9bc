// Self tests of the emulated device. Argument, optional: the seed of their random parts.

#include <random>

#include "check.hpp"

int main(int arguments_len, char **arguments) {
    const std::uint64_t seed =
        arguments_len > 1 ? std::strtoull(arguments[1], nullptr, 10) : std::random_device{}();
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    check_fragments(seed);
    check_order();
    check_launches();
    check_dependence();
    check_bulk_copies();
    check_tensor_copies(seed);
    check_products(seed);
    check_pipeline(seed);
    check_warpgroups();
    check_clusters();
    check_counters();
    // Last, as it makes known what is device memory and what is not.
    check_copies();
    std::puts("passed");
    return 0;
}

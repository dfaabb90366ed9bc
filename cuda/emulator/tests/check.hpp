// What the self tests share: a check that ends the program, and a launch of a function as a kernel.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "../cuda.hpp"
#include "../launch.hpp"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);           \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (false)

// Runs `kernel`, which takes one parameter struct, and returns the error, empty if none.
template <auto kernel, class Params>
std::string run(unsigned blocks, unsigned threads, unsigned shared_bytes, const Params &params,
                unsigned cluster_len = 1) {
    const twinstream::emulator::Kernel entry{
        "kernel", sizeof(Params), [](const void *at) { kernel(*static_cast<const Params *>(at)); }};
    const twinstream::emulator::Grid grid{
        {blocks, 1, 1}, {threads, 1, 1}, shared_bytes, cluster_len};
    std::string error;
    const int status = twinstream::emulator::run_kernel(entry, grid, &params, &error);
    CHECK((status == 0) == error.empty());
    return error;
}

inline void check_is(const std::string &text, const std::string &expected) {
    if (text != expected) {
        std::fprintf(stderr, "\"%s\" instead of \"%s\"\n", text.c_str(), expected.c_str());
        std::exit(1);
    }
}

// Settings for as long as it lives.
class With {
   public:
    With(std::uint64_t seed, unsigned host_threads) : before_(twinstream::emulator::settings()) {
        twinstream::emulator::set_settings({seed, host_threads});
    }
    ~With() { twinstream::emulator::set_settings(before_); }
    With(const With &) = delete;
    With &operator=(const With &) = delete;

   private:
    twinstream::emulator::Settings before_;
};

// The subjects, one a file. `seed` draws the random parts.
void check_fragments(std::uint64_t seed);
void check_copies();
void check_order();
void check_launches();
void check_dependence();
void check_bulk_copies();
void check_tensor_copies(std::uint64_t seed);
void check_products(std::uint64_t seed);
void check_pipeline(std::uint64_t seed);
void check_warpgroups();
void check_clusters();
void check_counters();

// Checks of the self tests: the first that fails says where and ends the program.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "../launch.hpp"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);           \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (false)

// Runs a callable of one parameter struct as a kernel; returns the error, empty if none.
template <class Params, void kernel(const Params &)>
std::string run(const char *name, unsigned blocks, unsigned threads, unsigned shared_bytes,
                const Params &params) {
    const twinstream::emulator::Kernel entry{
        name, sizeof(Params), [](const void *at) { kernel(*static_cast<const Params *>(at)); }};
    const unsigned grid[3] = {blocks, 1, 1};
    const unsigned block[3] = {threads, 1, 1};
    std::string error;
    const int status =
        twinstream::emulator::run_kernel(entry, grid, block, shared_bytes, &params, &error);
    CHECK((status == 0) == error.empty());
    return error;
}

inline void check_contains(const std::string &text, const char *part) {
    if (text.find(part) == std::string::npos) {
        std::fprintf(stderr, "\"%s\" does not hold \"%s\"\n", text.c_str(), part);
        std::exit(1);
    }
}

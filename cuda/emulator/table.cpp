// The kernels that cuda/kernels.inc lists, by name.

#include <cstring>

#include "../kernels.inc"
#include "../launch.h"
#include "launch.hpp"

namespace twinstream::kernels {
#define TWINSTREAM_DECLARE(name, params_type) void name(const params_type &);
TWINSTREAM_KERNELS(TWINSTREAM_DECLARE)
#undef TWINSTREAM_DECLARE
} // namespace twinstream::kernels

namespace {

template <class Params, void kernel(const Params &)> void run(const void *params) {
    kernel(*static_cast<const Params *>(params));
}

#define TWINSTREAM_ENTRY(name, params_type)                                                        \
    {#name, sizeof(params_type), run<params_type, twinstream::kernels::name>},
constexpr twinstream::emulator::Kernel kernels[] = {TWINSTREAM_KERNELS(TWINSTREAM_ENTRY)};
#undef TWINSTREAM_ENTRY

} // namespace

extern "C" int twinstream_emulated_launch(const char *name, const unsigned grid[3],
                                          const unsigned block[3], unsigned shared_bytes,
                                          const void *params, std::string *error) {
    for (const twinstream::emulator::Kernel &kernel : kernels) {
        if (std::strcmp(kernel.name, name) == 0) {
            return twinstream::emulator::run_kernel(kernel, grid, block, shared_bytes, params,
                                                    error);
        }
    }
    *error = std::string("no kernel is called ") + name;
    return 1;
}

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
constexpr twinstream::emulator::Kernel table[] = {TWINSTREAM_KERNELS(TWINSTREAM_ENTRY)};
#undef TWINSTREAM_ENTRY

} // namespace

const twinstream::emulator::Kernel *twinstream::emulator::find_kernel(const char *name) {
    for (const Kernel &kernel : table) {
        if (std::strcmp(kernel.name, name) == 0) {
            return &kernel;
        }
    }
    return nullptr;
}

// The kernels that cuda/kernels.inc lists, and those of driver/faulty.inc, by name.

#include <cstring>

#include "../launch.h"
#include "../prove.h"
#include "launch.hpp"

namespace twinstream::kernels {
#define TWINSTREAM_ENTRY(name, params_type)                                                        \
    void name(const params_type &);                                                                \
    extern const unsigned name##_blocks_min;
#include "../kernels.inc"
#define TWINSTREAM_ENTRY(name, params_type)                                                        \
    void name(const params_type &);                                                                \
    extern const unsigned name##_blocks_min;
#include "driver/faulty.inc"
} // namespace twinstream::kernels

namespace {

template <class Params, void kernel(const Params &)>
void run(const void *params) {
    kernel(*static_cast<const Params *>(params));
}

constexpr twinstream::emulator::Kernel table[] = {
#define TWINSTREAM_ENTRY(name, params_type)                                                        \
    {#name, sizeof(params_type), run<params_type, twinstream::kernels::name>,                      \
     &twinstream::kernels::name##_blocks_min},
#include "../kernels.inc"
#define TWINSTREAM_ENTRY(name, params_type)                                                        \
    {#name, sizeof(params_type), run<params_type, twinstream::kernels::name>,                      \
     &twinstream::kernels::name##_blocks_min},
#include "driver/faulty.inc"
};

} // namespace

const twinstream::emulator::Kernel *twinstream::emulator::find_kernel(const char *name) {
    for (const Kernel &kernel : table) {
        if (std::strcmp(kernel.name, name) == 0) {
            return &kernel;
        }
    }
    return nullptr;
}

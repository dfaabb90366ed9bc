// Driver calls on devices, contexts and modules; see driver.hpp.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../../launch.h"
#include "../../prove.h"
#include "driver.hpp"

namespace twinstream::driver {
namespace {

// Tests use one each, beside one another.
constexpr int DEVICE_LEN_DEFAULT = 10;
constexpr int DEVICE_LEN_MAX = 16;
constexpr twinstream_emulated_options OPTIONS_DEFAULT = {1, uint64_t{8} << 30, 0, 1, 0, 0, 90};
// A kernel may use so much dynamic shared memory unless it is allowed more.
constexpr int SHARED_BYTES_DEFAULT = 48 << 10;

// The stack of current contexts; the last one counts.
thread_local std::vector<Device *> contexts;
bool is_initialized = false;

// What an H100 answers, but for the multiprocessors, which are few: plans for a small device split
// and tile as those for a large one do at small batches.
struct Attribute {
    int number, value;
};
constexpr Attribute ATTRIBUTES[] = {
    {1, 1024},              // threads a block
    {8, 49152},             // shared memory a block
    {10, 32},               // threads a warp
    {13, 1980000},          // clock, kHz
    {16, 8},                // multiprocessors
    {36, 2619000},          // memory clock, kHz
    {37, 5120},             // memory bus, bits
    {40, 3},                // copy engines
    {75, 9},       {76, 0}, // compute capability
    {81, 233472},           // shared memory a multiprocessor
    {97, 232448},           // shared memory a block may be allowed
};

} // namespace

std::mutex &mutex() {
    // Never destroyed: streams of forgotten devices live to the end of the process.
    static auto *const lock = new std::mutex;
    return *lock;
}

int device_len() {
    static const int len = [] {
        const char *text = std::getenv("TWINSTREAM_EMULATED_DEVICES");
        return text == nullptr ? DEVICE_LEN_DEFAULT : std::atoi(text);
    }();
    return len < DEVICE_LEN_MAX ? len : DEVICE_LEN_MAX;
}

Device *device(int ordinal) {
    static auto *const devices = [] {
        auto *made = new Device[DEVICE_LEN_MAX];
        for (int i = 0; i < DEVICE_LEN_MAX; ++i) {
            made[i].ordinal = i;
            made[i].options = OPTIONS_DEFAULT;
            made[i].random = Random(OPTIONS_DEFAULT.seed);
        }
        return made;
    }();
    return 0 <= ordinal && ordinal < device_len() ? &devices[ordinal] : nullptr;
}

Device *current() { return contexts.empty() ? nullptr : contexts.back(); }

int ready(bool needs_context) {
    if (!is_initialized) return NOT_INITIALIZED;
    if (!needs_context) return SUCCESS;
    if (current() == nullptr || current()->retain_len == 0) return INVALID_CONTEXT;
    return current()->lost;
}

void complain(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fputs("emulated device: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
}

} // namespace twinstream::driver

using namespace twinstream::driver;

extern "C" {

int twinstream_driver_last_result(void) { return last_result; }
int twinstream_driver_is_present(void) { return device_len() > 0; }

int twinstream_emulated_configure(int ordinal, const twinstream_emulated_options *options) {
    std::lock_guard guard(mutex());
    Device *found = device(ordinal);
    if (found == nullptr) return INVALID_DEVICE;
    found->options = *options;
    found->random = Random(options->seed);
    found->lost = SUCCESS;
    found->work_len = 0;
    return SUCCESS;
}

int cuInit(unsigned) {
    std::lock_guard guard(mutex());
    if (device_len() <= 0) return NO_DEVICE;
    is_initialized = true;
    return SUCCESS;
}

int cuGetErrorString(int result, const char **text) {
    *text = words(result);
    return SUCCESS;
}

int cuGetErrorName(int, const char **text) {
    *text = "CUDA_ERROR";
    return SUCCESS;
}

int cuDeviceGetCount(void *count) {
    std::lock_guard guard(mutex());
    if (int result = ready(false)) return result;
    *static_cast<int *>(count) = device_len();
    return SUCCESS;
}

int cuDeviceGet(void *number, int ordinal) {
    std::lock_guard guard(mutex());
    if (int result = ready(false)) return result;
    if (device(ordinal) == nullptr) return INVALID_DEVICE;
    *static_cast<int *>(number) = ordinal;
    return SUCCESS;
}

int cuDeviceGetName(void *name, int len, int ordinal) {
    if (device(ordinal) == nullptr) return INVALID_DEVICE;
    std::snprintf(static_cast<char *>(name), static_cast<size_t>(len), "Emulated device %d",
                  ordinal);
    return SUCCESS;
}

int cuDeviceGetUuid_v2(void *uuid, int ordinal) {
    if (device(ordinal) == nullptr) return INVALID_DEVICE;
    uint8_t *bytes = static_cast<uint8_t *>(uuid);
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(0x10 * ordinal + i);
    return SUCCESS;
}

int cuDeviceTotalMem_v2(void *bytes, int ordinal) {
    std::lock_guard guard(mutex());
    if (device(ordinal) == nullptr) return INVALID_DEVICE;
    *static_cast<size_t *>(bytes) = device(ordinal)->options.memory_bytes;
    return SUCCESS;
}

int cuDeviceGetAttribute(void *value, int number, int ordinal) {
    if (device(ordinal) == nullptr) return INVALID_DEVICE;
    for (const Attribute &attribute : ATTRIBUTES) {
        if (attribute.number != number) continue;
        *static_cast<int *>(value) = attribute.value;
        return SUCCESS;
    }
    complain("device attribute %d is not emulated", number);
    return INVALID_VALUE;
}

int cuDevicePrimaryCtxRetain(void *context, int ordinal) {
    std::lock_guard guard(mutex());
    if (int result = ready(false)) return result;
    Device *found = device(ordinal);
    if (found == nullptr) return INVALID_DEVICE;
    if (found->lost != SUCCESS) return found->lost;
    ++found->retain_len;
    *static_cast<void **>(context) = found;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int ordinal) {
    std::unique_lock lock(mutex());
    Device *found = device(ordinal);
    if (found == nullptr) return INVALID_DEVICE;
    if (found->retain_len == 0) return INVALID_CONTEXT;
    if (--found->retain_len > 0) return SUCCESS;
    // The context's end takes everything with it.
    for (auto &[handle, stream] : found->streams) {
        stream->is_closing = true;
        stream->arrived.notify_one();
    }
    found->streams.clear();
    found->changed.wait(lock, [&] { return found->stream_len == 0; });
    found->events.clear();
    release_all(found);
    return SUCCESS;
}

int cuCtxPushCurrent_v2(void *context) {
    contexts.push_back(static_cast<Device *>(context));
    return SUCCESS;
}

int cuCtxPopCurrent_v2(void *context) {
    if (contexts.empty()) return INVALID_CONTEXT;
    *static_cast<void **>(context) = contexts.back();
    contexts.pop_back();
    return SUCCESS;
}

int cuCtxSetCurrent(void *context) {
    if (!contexts.empty()) contexts.pop_back();
    return context == nullptr ? SUCCESS : cuCtxPushCurrent_v2(context);
}

int cuCtxGetCurrent(void *context) {
    std::lock_guard guard(mutex());
    if (int result = ready(false)) return result;
    *static_cast<void **>(context) = current();
    return SUCCESS;
}

int cuCtxSynchronize(void) {
    std::unique_lock lock(mutex());
    if (int result = ready_beside_captures()) return result;
    synchronize(current(), lock);
    return current()->lost;
}

int cuCtxGetDevice(void *ordinal) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    *static_cast<int *>(ordinal) = current()->ordinal;
    return SUCCESS;
}

int cuModuleLoadDataEx(void *module, void *, unsigned, void *, void *) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto loaded = std::make_unique<Module>();
#define TWINSTREAM_ENTRY(name, params)                                                             \
    loaded->functions[#name] =                                                                     \
        std::make_unique<Function>(Function{#name, sizeof(params), SHARED_BYTES_DEFAULT});
#include "../../kernels.inc"
#define TWINSTREAM_ENTRY(name, params)                                                             \
    loaded->functions[#name] =                                                                     \
        std::make_unique<Function>(Function{#name, sizeof(params), SHARED_BYTES_DEFAULT});
#include "faulty.inc"
    *static_cast<Module **>(module) = loaded.release();
    return SUCCESS;
}

int cuModuleLoadData(void *module, void *image) {
    return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

int cuModuleUnload(void *module) {
    std::lock_guard guard(mutex());
    int result = ready(true);
    if (result == INVALID_CONTEXT || result == NOT_INITIALIZED) return result;
    delete static_cast<Module *>(module);
    return result;
}

int cuModuleGetFunction(void *function, void *module, void *name) {
    const auto &functions = static_cast<Module *>(module)->functions;
    auto found = functions.find(static_cast<const char *>(name));
    if (found == functions.end()) return NOT_FOUND;
    *static_cast<Function **>(function) = found->second.get();
    return SUCCESS;
}

int cuFuncGetAttribute(void *value, int attribute, void *) {
    constexpr int PTX_VERSION = 5;
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    if (attribute != PTX_VERSION) return NOT_SUPPORTED;
    *static_cast<int *>(value) = static_cast<int>(current()->options.ptx_version);
    return SUCCESS;
}

int cuFuncSetAttribute(void *function, int attribute, int value) {
    constexpr int SHARED_BYTES_MAX = 8, SHARED_CARVEOUT = 9;
    if (attribute == SHARED_CARVEOUT) return 0 <= value && value <= 100 ? SUCCESS : INVALID_VALUE;
    if (attribute != SHARED_BYTES_MAX) return NOT_SUPPORTED;
    if (value > 232448) return INVALID_VALUE;
    static_cast<Function *>(function)->shared_bytes_max = value;
    return SUCCESS;
}

} // extern "C"

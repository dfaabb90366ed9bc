// Driver calls behind device.hpp. A call that fails ends the program: the errors of kernels stay
// with the device, so no later test could be believed.

#include "device.hpp"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

#include "check.hpp"

extern "C" {
#define CALL(name, parameters, names) int name parameters;
#include "../driver/calls.inc"
#undef CALL
int cuGetErrorString(int result, const char **text);
int twinstream_driver_is_present(void);

// The images to load kernels from, and a null behind them.
extern const void *const twinstream_modules[];
}

namespace twinstream::tests {
namespace {

// CUresult.
constexpr int SUCCESS = 0, NO_DEVICE = 100, NO_BINARY_FOR_GPU = 209, NOT_FOUND = 500;
// CU_FUNC_ATTRIBUTE_PTX_VERSION, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
constexpr int PTX_VERSION = 5, MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
// Kernels compiled for this architecture and later ones wait for the kernel ahead (ptx/pdl.cuh).
constexpr int WAITING_VERSION = 90;
// CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL.
constexpr unsigned NON_BLOCKING = 1;
constexpr int THREAD_LOCAL_CAPTURE = 1;

// CUlaunchAttribute: a number that says which, and a union.
struct LaunchAttribute {
    alignas(8) int id;
    alignas(8) int value[16];
};

// CUlaunchConfig.
struct LaunchConfig {
    unsigned grid[3], block[3];
    unsigned shared_bytes;
    void *stream;
    const LaunchAttribute *attributes;
    unsigned attribute_len;
};

static_assert(sizeof(LaunchAttribute) == 72 && sizeof(LaunchConfig) == 56, "as in cuda.h");

// CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION.
constexpr LaunchAttribute DEPENDENT{6, {1}};
constexpr int CLUSTER_DIMENSION = 4;

struct Function {
    void *handle;
    bool waits;
};

std::vector<void *> modules;
std::map<std::string, Function> functions;
// All memory that there is.
std::set<Memory *> memories;
void *stream = nullptr;

[[noreturn]] void stop(const std::string &what) {
    std::printf("FAILED %s\n", what.c_str());
    std::exit(1);
}

void check(int result, const std::string &call) {
    if (result == SUCCESS) return;
    const char *text = nullptr;
    cuGetErrorString(result, &text);
    stop(call + ": " + std::to_string(result) + ", " + (text == nullptr ? "?" : text));
}

[[noreturn]] void skip(const char *why) {
    std::printf("%s\n", why);
    std::exit(77);
}

// The kernel, wherever it is.
int find(const char *kernel, void **handle) {
    int result = NOT_FOUND;
    for (std::size_t i = 0; i < modules.size() && result == NOT_FOUND; ++i)
        result = cuModuleGetFunction(handle, modules[i], const_cast<char *>(kernel));
    return result;
}

// Allowed to use all the shared memory that it asks for.
Function function(const Launch &launch) {
    const auto known = functions.find(launch.kernel);
    if (known != functions.end()) return known->second;
    Function found{};
    check(find(launch.kernel, &found.handle), std::string("finding the kernel ") + launch.kernel);
    int version = 0;
    check(cuFuncGetAttribute(&version, PTX_VERSION, found.handle), "cuFuncGetAttribute");
    found.waits = version >= WAITING_VERSION;
    check(cuFuncSetAttribute(found.handle, MAX_DYNAMIC_SHARED_SIZE_BYTES,
                             static_cast<int>(launch.shared_bytes)),
          "cuFuncSetAttribute");
    return functions[launch.kernel] = found;
}

void enqueue(const Launch &launch, bool in_graph) {
    const Function kernel = function(launch);
    std::vector<LaunchAttribute> attributes;
    if (in_graph && launch.may_begin_early && kernel.waits) attributes.push_back(DEPENDENT);
    if (launch.cluster_len > 1)
        attributes.push_back({CLUSTER_DIMENSION, {static_cast<int>(launch.cluster_len), 1, 1}});
    LaunchConfig config{{launch.grid[0], launch.grid[1], launch.grid[2]},
                        {launch.threads, 1, 1},
                        launch.shared_bytes,
                        stream,
                        attributes.data(),
                        static_cast<unsigned>(attributes.size())};
    void *params[] = {const_cast<void *>(launch.params)};
    check(cuLaunchKernelEx(&config, kernel.handle, params, nullptr),
          std::string("launching ") + launch.kernel);
}

void run_graph(std::initializer_list<Launch> launches, const std::string &what) {
    void *graph = nullptr, *executable = nullptr;
    check(cuStreamBeginCapture_v2(stream, THREAD_LOCAL_CAPTURE), "cuStreamBeginCapture");
    for (const Launch &launch : launches) enqueue(launch, true);
    check(cuStreamEndCapture(stream, &graph), "cuStreamEndCapture");
    check(cuGraphInstantiateWithFlags(&executable, graph, 0), "cuGraphInstantiate");
    check(cuGraphDestroy(graph), "cuGraphDestroy");
    check(cuGraphLaunch(executable, stream), "cuGraphLaunch");
    check(cuStreamSynchronize(stream), what + ", as a graph");
    check(cuGraphExecDestroy(executable), "cuGraphExecDestroy");
}

void upload() {
    for (Memory *memory : memories)
        if (memory->address != 0)
            check(cuMemcpyHtoD_v2(memory->address, memory->bytes.data(), memory->bytes.size()),
                  "cuMemcpyHtoD");
    // The copies may end after the calls, and no stream waits for them.
    check(cuCtxSynchronize(), "cuCtxSynchronize");
}

void download() {
    for (Memory *memory : memories)
        if (memory->address != 0)
            check(cuMemcpyDtoH_v2(memory->bytes.data(), memory->address, memory->bytes.size()),
                  "cuMemcpyDtoH");
}

// What the host has of all memory.
std::vector<std::vector<unsigned char>> contents() {
    std::vector<std::vector<unsigned char>> all;
    for (const Memory *memory : memories) all.push_back(memory->bytes);
    return all;
}

void set_contents(std::vector<std::vector<unsigned char>> all) {
    auto next = all.begin();
    for (Memory *memory : memories) memory->bytes = std::move(*next++);
}

} // namespace

void open_device() {
    if (!twinstream_driver_is_present()) skip("no CUDA driver: no kernel was tested");
    const int result = cuInit(0);
    int len = 0;
    if (result == SUCCESS) check(cuDeviceGetCount(&len), "cuDeviceGetCount");
    if (result == NO_DEVICE || (result == SUCCESS && len == 0))
        skip("no CUDA device: no kernel was tested");
    check(result, "cuInit");
    int device = 0;
    char name[100] = "";
    void *context = nullptr;
    check(cuDeviceGet(&device, 0), "cuDeviceGet");
    check(cuDeviceGetName(name, sizeof name, device), "cuDeviceGetName");
    check(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
    check(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    check(cuStreamCreateWithPriority(&stream, NON_BLOCKING, 0), "cuStreamCreateWithPriority");
    for (const void *const *image = twinstream_modules; *image != nullptr; ++image) {
        void *module = nullptr;
        const int loaded = cuModuleLoadData(&module, const_cast<void *>(*image));
        if (loaded == NO_BINARY_FOR_GPU) continue;
        check(loaded, "cuModuleLoadData");
        modules.push_back(module);
    }
    std::printf("device: %s\n", name);
}

void close_device() {
    for (void *module : modules) check(cuModuleUnload(module), "cuModuleUnload");
    check(cuStreamDestroy_v2(stream), "cuStreamDestroy");
    check(cuDevicePrimaryCtxRelease_v2(0), "cuDevicePrimaryCtxRelease");
}

bool has_kernel(const char *name) {
    void *handle = nullptr;
    const int result = find(name, &handle);
    if (result != NOT_FOUND) check(result, std::string("finding the kernel ") + name);
    return result == SUCCESS;
}

Memory::Memory(std::size_t len_bytes) : bytes(len_bytes, 0xff) {
    if (len_bytes > 0) check(cuMemAlloc_v2(&address, len_bytes), "cuMemAlloc");
    memories.insert(this);
}

Memory::~Memory() {
    memories.erase(this);
    if (address != 0) check(cuMemFree_v2(address), "cuMemFree");
}

PageLocked::PageLocked(std::size_t len_bytes) {
    check(cuMemHostAlloc(&first, len_bytes, 0), "cuMemHostAlloc");
}

PageLocked::~PageLocked() { check(cuMemFreeHost(first), "cuMemFreeHost"); }

void run(std::initializer_list<Launch> launches, const std::string &what) {
    const auto before = contents();
    upload();
    for (const Launch &launch : launches) enqueue(launch, false);
    check(cuStreamSynchronize(stream), what);
    download();
    auto one_by_one = contents();
    set_contents(before);
    upload();
    run_graph(launches, what);
    download();
    if (contents() != one_by_one)
        fail(what + ": one by one and as a graph the kernels leave different bytes");
}

} // namespace twinstream::tests

// Finds the CUDA driver when it is first called, so that one binary runs with and without it.
//
// Invariant: a call returns what the driver returned, 100 (no device) where there is no driver, 500
// (not found) where the driver lacks the call, and nothing that CUDA 11.4 did not know: the crate
// `cust` holds results in an enumeration of those, so a later one comes back as 999 (unknown) and
// is kept for twinstream_driver_last_result. Knows no call's meaning.
#include <dlfcn.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "results.hpp"

namespace {

using twinstream::driver::filtered;

void *driver() {
    static std::atomic<void *> opened{nullptr};
    void *library = opened.load(std::memory_order_acquire);
    if (library == nullptr) {
        // Threads that race here get the same handle. It is never closed: calls may come until the
        // process ends.
        library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
        if (library != nullptr) opened.store(library, std::memory_order_release);
    }
    return library;
}

// The driver's function; nullptr where there is none.
void *find(const char *name, std::atomic<void *> *place) {
    void *call = place->load(std::memory_order_acquire);
    if (call != nullptr) return call;
    void *library = driver();
    if (library == nullptr) return nullptr;
    call = dlsym(library, name);
    if (call != nullptr) place->store(call, std::memory_order_release);
    return call;
}

int missing() {
    return driver() == nullptr ? twinstream::driver::NO_DEVICE : twinstream::driver::NOT_FOUND;
}

// Asks the driver for a text; own words where there is no driver, or it has none for this result.
int text_of(const char *call_name, std::atomic<void *> *place, int result, const char *own,
            const char **text) {
    using Call = int (*)(int, const char **);
    *text = nullptr;
    if (void *call = find(call_name, place)) reinterpret_cast<Call>(call)(result, text);
    if (*text == nullptr) *text = own;
    return 0;
}

} // namespace

extern "C" {

#define CALL(name, parameters, names)                                                              \
    int name parameters {                                                                          \
        static std::atomic<void *> place{nullptr};                                                 \
        void *call = find(#name, &place);                                                          \
        if (call == nullptr) return missing();                                                     \
        return filtered(reinterpret_cast<int(*) parameters>(call) names);                          \
    }
#include "calls.inc"
#undef CALL

int cuGetErrorString(int result, const char **text) {
    static std::atomic<void *> place{nullptr};
    return text_of("cuGetErrorString", &place, result, twinstream::driver::words(result), text);
}

int cuGetErrorName(int result, const char **text) {
    static std::atomic<void *> place{nullptr};
    return text_of("cuGetErrorName", &place, result, "CUDA_ERROR", text);
}

int twinstream_driver_last_result(void) { return twinstream::driver::last_result; }

// Whether there is a driver to call.
int twinstream_driver_is_present(void) { return driver() != nullptr; }

} // extern "C"

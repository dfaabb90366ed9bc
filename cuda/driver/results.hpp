// Results of driver calls: those that `cust` can hold, and words where no driver offers any.
#ifndef TWINSTREAM_DRIVER_RESULTS_HPP
#define TWINSTREAM_DRIVER_RESULTS_HPP

namespace twinstream::driver {

constexpr int SUCCESS = 0;
constexpr int INVALID_VALUE = 1;
constexpr int OUT_OF_MEMORY = 2;
constexpr int NOT_INITIALIZED = 3;
constexpr int NO_DEVICE = 100;
constexpr int INVALID_DEVICE = 101;
constexpr int INVALID_CONTEXT = 201;
constexpr int INVALID_HANDLE = 400;
constexpr int NOT_FOUND = 500;
constexpr int NOT_READY = 600;
constexpr int LAUNCH_OUT_OF_RESOURCES = 701;
constexpr int LAUNCH_FAILED = 719;
constexpr int NOT_SUPPORTED = 801;
constexpr int CAPTURE_UNSUPPORTED = 900;
constexpr int UNKNOWN = 999;

// The last result on this thread that `filtered` replaced.
inline thread_local int last_result = SUCCESS;

struct Range {
    int first, last;
};

// What CUDA 11.4 knew (CUresult in its cuda.h).
constexpr Range KNOWN[] = {{0, 8},     {34, 34},   {100, 102}, {200, 202}, {205, 224},
                           {300, 304}, {400, 401}, {500, 500}, {600, 600}, {700, 705},
                           {708, 720}, {800, 809}, {900, 911}, {999, 999}};

inline int filtered(int result) {
    last_result = result;
    for (const Range &range : KNOWN) {
        if (range.first <= result && result <= range.last) return result;
    }
    return UNKNOWN;
}

inline const char *words(int result) {
    switch (result) {
    case SUCCESS:
        return "no error";
    case INVALID_VALUE:
        return "invalid argument";
    case OUT_OF_MEMORY:
        return "out of memory";
    case NOT_INITIALIZED:
        return "initialization error";
    case NO_DEVICE:
        return "no CUDA driver or no device";
    case INVALID_DEVICE:
        return "invalid device ordinal";
    case INVALID_CONTEXT:
        return "invalid device context";
    case INVALID_HANDLE:
        return "invalid resource handle";
    case NOT_FOUND:
        return "named symbol not found";
    case NOT_READY:
        return "device not ready";
    case LAUNCH_OUT_OF_RESOURCES:
        return "too many resources requested for launch";
    case LAUNCH_FAILED:
        return "unspecified launch failure";
    case NOT_SUPPORTED:
        return "operation not supported";
    case CAPTURE_UNSUPPORTED:
        return "operation not permitted while a stream is capturing";
    default:
        return "unknown error";
    }
}

} // namespace twinstream::driver

#endif

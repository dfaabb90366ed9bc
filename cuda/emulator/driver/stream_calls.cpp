// Driver calls on streams, events, graphs and launches; see driver.hpp.
#include <cstring>

#include "driver.hpp"

using namespace twinstream::driver;

namespace {

constexpr unsigned THREADS_MAX = 1024;

// CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, …_PROGRAMMATIC_STREAM_SERIALIZATION.
constexpr int CLUSTER_DIMENSION = 4, PROGRAMMATIC_STREAM_SERIALIZATION = 6;

// CUlaunchAttribute.
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

// CUstreamCaptureMode: what captures forbid a thread, and what a capture forbids others.
constexpr int GLOBAL = 0, RELAXED = 2;
thread_local int capture_mode = GLOBAL;

// With the lock held, as below: nullptr for what is no stream of the current device.
std::shared_ptr<Stream> stream_of(void *handle) {
    auto found = current()->streams.find(handle);
    return found == current()->streams.end() ? nullptr : found->second;
}

Event *event_of(void *handle) {
    return current()->events.count(handle) > 0 ? static_cast<Event *>(handle) : nullptr;
}

// Whether the device refuses this launch, as its options demand.
bool is_refused() { return current()->random.chance(current()->options.refuse_launch_one_in); }

int create_stream(void *stream) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto made = start_stream(current());
    *static_cast<void **>(stream) = made.get();
    current()->streams.emplace(made.get(), std::move(made));
    return SUCCESS;
}

// Ends only when all queued work is done, so the last graph and event may go before.
int destroy_stream(void *handle) {
    std::lock_guard guard(mutex());
    int result = ready(true);
    if (result == INVALID_CONTEXT || result == NOT_INITIALIZED) return result;
    auto stream = stream_of(handle);
    if (stream == nullptr) return INVALID_HANDLE;
    stream->is_closing = true;
    stream->arrived.notify_one();
    current()->streams.erase(handle);
    return result;
}

} // namespace

int twinstream::driver::ready_beside_captures() {
    if (int result = ready(true)) return result;
    if (capture_mode == RELAXED) return SUCCESS;
    for (int ordinal = 0; ordinal < device_len(); ++ordinal) {
        for (const auto &[handle, stream] : device(ordinal)->streams) {
            if (stream->capture == nullptr) continue;
            const bool is_own = stream->capture_thread == std::this_thread::get_id();
            const bool is_forbidden =
                is_own ? stream->capture_mode != RELAXED
                       : capture_mode == GLOBAL && stream->capture_mode == GLOBAL;
            if (is_forbidden) return CAPTURE_UNSUPPORTED;
        }
    }
    return SUCCESS;
}

extern "C" {

int cuStreamCreateWithPriority(void *stream, unsigned, int) { return create_stream(stream); }
int cuStreamDestroy_v2(void *stream) { return destroy_stream(stream); }

int cuCtxGetStreamPriorityRange(void *least, void *greatest) {
    *static_cast<int *>(least) = 0;
    *static_cast<int *>(greatest) = -5;
    return SUCCESS;
}

int cuStreamSynchronize(void *handle) {
    std::unique_lock lock(mutex());
    if (int result = ready(true)) return result;
    auto stream = stream_of(handle);
    if (stream == nullptr || stream->capture != nullptr) return INVALID_HANDLE;
    Device *device = current();
    auto ticket = std::make_shared<Ticket>();
    submit(stream.get(), Record{ticket});
    wait(device, ticket, lock);
    return device->lost;
}

int cuStreamWaitEvent(void *handle, void *event_handle, unsigned) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto stream = stream_of(handle);
    Event *event = event_of(event_handle);
    if (stream == nullptr || event == nullptr || stream->capture != nullptr) return INVALID_HANDLE;
    if (event->ticket != nullptr) submit(stream.get(), Wait{event->ticket});
    return SUCCESS;
}

int cuThreadExchangeStreamCaptureMode(void *mode) {
    std::swap(*static_cast<int *>(mode), capture_mode);
    return SUCCESS;
}

int cuStreamBeginCapture_v2(void *handle, int mode) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto stream = stream_of(handle);
    if (stream == nullptr || stream->capture != nullptr) return INVALID_HANDLE;
    stream->capture = std::make_shared<Graph>();
    stream->capture_thread = std::this_thread::get_id();
    stream->capture_mode = mode;
    return SUCCESS;
}

int cuStreamEndCapture(void *handle, void *graph) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto stream = stream_of(handle);
    if (stream == nullptr || stream->capture == nullptr) return INVALID_HANDLE;
    auto *owned = new std::shared_ptr<Graph>(std::move(stream->capture));
    stream->capture = nullptr;
    *static_cast<void **>(graph) = owned;
    return SUCCESS;
}

int cuGraphInstantiateWithFlags(void *executable, void *graph, uint64_t) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto *made = new std::shared_ptr<Graph>(*static_cast<std::shared_ptr<Graph> *>(graph));
    *static_cast<void **>(executable) = made;
    return SUCCESS;
}

int cuGraphDestroy(void *graph) {
    delete static_cast<std::shared_ptr<Graph> *>(graph);
    return SUCCESS;
}

// Launches that are under way keep what they replay.
int cuGraphExecDestroy(void *executable) { return cuGraphDestroy(executable); }

// The first launch would do it as well.
int cuGraphUpload(void *, void *handle) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto stream = stream_of(handle);
    return stream == nullptr || stream->capture != nullptr ? INVALID_HANDLE : SUCCESS;
}

int cuGraphLaunch(void *executable, void *handle) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto stream = stream_of(handle);
    if (stream == nullptr || stream->capture != nullptr) return INVALID_HANDLE;
    if (is_refused()) return LAUNCH_OUT_OF_RESOURCES;
    submit(stream.get(), Replay{*static_cast<std::shared_ptr<Graph> *>(executable)});
    return SUCCESS;
}

int cuLaunchKernelEx(void *config, void *handle, void *params, void *) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    const auto &[grid, block, shared_bytes, stream_handle, attributes, attribute_len] =
        *static_cast<const LaunchConfig *>(config);
    auto stream = stream_of(stream_handle);
    const auto *function = static_cast<Function *>(handle);
    if (stream == nullptr) return INVALID_HANDLE;
    const unsigned thread_len = block[0] * block[1] * block[2];
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535 ||
        thread_len == 0 || thread_len > THREADS_MAX ||
        shared_bytes > static_cast<unsigned>(function->shared_bytes_max)) {
        complain("kernel %s: a grid of %u x %u x %u, %u threads, %u bytes of shared memory",
                 function->name.c_str(), grid[0], grid[1], grid[2], thread_len, shared_bytes);
        return INVALID_VALUE;
    }
    twinstream::emulator::Grid run{
        {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared_bytes};
    for (unsigned i = 0; i < attribute_len; ++i) {
        const auto &[id, value] = attributes[i];
        if (id == PROGRAMMATIC_STREAM_SERIALIZATION) {
            run.is_dependent = value[0] != 0;
        } else if (id == CLUSTER_DIMENSION && value[1] == 1 && value[2] == 1) {
            run.cluster_len = static_cast<unsigned>(value[0]);
        } else {
            return NOT_SUPPORTED;
        }
    }
    if (stream->capture == nullptr && is_refused()) return LAUNCH_OUT_OF_RESOURCES;
    const size_t unit_bytes = sizeof(std::max_align_t);
    std::vector<std::max_align_t> copy((function->params_bytes + unit_bytes - 1) / unit_bytes);
    std::memcpy(copy.data(), *static_cast<void **>(params), function->params_bytes);
    submit(stream.get(), Kernel{function->name, run, std::move(copy)});
    return SUCCESS;
}

int cuEventCreate(void *event, unsigned) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto *made = new Event;
    current()->events.insert(made);
    *static_cast<Event **>(event) = made;
    return SUCCESS;
}

// Who waits for it holds its ticket.
int cuEventDestroy_v2(void *handle) {
    std::lock_guard guard(mutex());
    int result = ready(true);
    if (result == INVALID_CONTEXT || result == NOT_INITIALIZED) return result;
    Event *event = event_of(handle);
    if (event == nullptr) return INVALID_HANDLE;
    current()->events.erase(handle);
    delete event;
    return result;
}

int cuEventRecord(void *handle, void *stream_handle) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    auto stream = stream_of(stream_handle);
    Event *event = event_of(handle);
    if (stream == nullptr || event == nullptr || stream->capture != nullptr) return INVALID_HANDLE;
    event->ticket = std::make_shared<Ticket>();
    submit(stream.get(), Record{event->ticket});
    return SUCCESS;
}

int cuEventQuery(void *handle) {
    std::lock_guard guard(mutex());
    if (int result = ready_beside_captures()) return result;
    Event *event = event_of(handle);
    if (event == nullptr) return INVALID_HANDLE;
    return event->ticket == nullptr || event->ticket->is_done ? SUCCESS : NOT_READY;
}

int cuEventSynchronize(void *handle) {
    std::unique_lock lock(mutex());
    if (int result = ready(true)) return result;
    Device *device = current();
    Event *event = event_of(handle);
    if (event == nullptr) return INVALID_HANDLE;
    // The ticket, not the event: that may be destroyed or recorded anew meanwhile.
    if (auto ticket = event->ticket) wait(device, ticket, lock);
    return device->lost;
}

int cuEventElapsedTime(void *milliseconds, void *start_handle, void *end_handle) {
    std::lock_guard guard(mutex());
    if (int result = ready(true)) return result;
    Event *start = event_of(start_handle), *end = event_of(end_handle);
    if (start == nullptr || end == nullptr || start->ticket == nullptr || end->ticket == nullptr) {
        return INVALID_HANDLE;
    }
    if (!start->ticket->is_done || !end->ticket->is_done) return NOT_READY;
    const std::chrono::duration<float, std::milli> elapsed = end->ticket->at - start->ticket->at;
    *static_cast<float *>(milliseconds) = elapsed.count();
    return SUCCESS;
}

} // extern "C"

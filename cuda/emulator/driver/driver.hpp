// The emulated driver's objects: devices with memory, streams that are host threads, events that
// are tickets, graphs that are captured queues.
//
// Invariant: what a stream still needs lives until it was used, whatever was destroyed meanwhile.
// Everything but the bytes of memory is guarded by `mutex()`. Knows no kernel.
#ifndef TWINSTREAM_EMULATED_DRIVER_HPP
#define TWINSTREAM_EMULATED_DRIVER_HPP

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "../../driver/results.hpp"
#include "../launch.hpp"
#include "../split_mix.h"
#include "options.h"

namespace twinstream::driver {

using Bytes = std::vector<uint8_t>;

class Random {
   public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() { return twinstream_split_mix(&state_); }
    bool chance(uint32_t one_in) { return one_in > 0 && next() % one_in == 0; }

   private:
    uint64_t state_;
};

// One recording of an event: what waits for it keeps it.
struct Ticket {
    bool is_done = false;
    std::chrono::steady_clock::time_point at;
};

struct Event {
    // The latest recording; none: queries succeed, as the driver's do.
    std::shared_ptr<Ticket> ticket;
};

struct Function {
    std::string name;
    size_t params_bytes;
    int shared_bytes_max;
};

struct Module {
    std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Copy {
    uint8_t *to;
    const uint8_t *from;
    size_t len_bytes;
};

// A call that returns before its bytes are there, on a stream that no other waits for.
struct Write {
    uint8_t *to;
    Bytes bytes;
};

struct Kernel {
    std::string name;
    emulator::Grid grid;
    // Aligned as the parameters demand.
    std::vector<std::max_align_t> params;
};

struct Record {
    std::shared_ptr<Ticket> ticket;
};

struct Wait {
    std::shared_ptr<Ticket> ticket;
};

struct Graph;

struct Replay {
    std::shared_ptr<const Graph> graph;
};

using Work = std::variant<Copy, Kernel, Record, Wait, Replay>;

struct Graph {
    std::vector<Work> works;
};

struct Device;

struct Stream {
    Device *device;
    Random random;
    std::deque<Work> queue;
    std::condition_variable arrived;
    // Copies that the stream has reached and may put off; its thread alone touches them.
    std::vector<Copy> late;
    // Set while calls are captured instead of queued, by this thread and in this mode.
    std::shared_ptr<Graph> capture;
    std::thread::id capture_thread;
    int capture_mode = 0;
    bool is_closing = false;
    Stream(Device *owner, uint64_t seed) : device(owner), random(seed) {}
};

// One mapping with inaccessible pages on both sides; the data ends as close to the second as its
// alignment allows, and the bytes between are checked when it is freed.
struct Allocation {
    uint8_t *mapped;
    size_t mapped_bytes;
    size_t len_bytes;
};

// By the address of the first byte.
using Allocations = std::map<uint8_t *, Allocation>;

struct Device {
    int ordinal = 0;
    twinstream_emulated_options options{};
    std::condition_variable changed;
    // Of the primary context; its handle is the device itself.
    int retain_len = 0;
    int stream_len = 0;
    // Sticky: SUCCESS, or what every call returns from now on.
    int lost = SUCCESS;
    uint32_t work_len = 0;
    Random random{0};
    Allocations memory, pinned;
    size_t memory_used_bytes = 0;
    // Not done before somebody waits for the whole device.
    std::vector<Write> writes;
    std::map<void *, std::shared_ptr<Stream>> streams;
    std::set<void *> events;
};

constexpr uint8_t POISON = 0xff; // A NaN in every floating-point type.

std::mutex &mutex();

// Whether a call may go on: SUCCESS, or what it returns. With the lock held.
int ready(bool needs_context);

// Nullptr where there is no such device.
Device *device(int ordinal);
int device_len();

// The device whose context is current on this thread; nullptr: none.
Device *current();

// The same for calls that a stream capture may forbid: one of this thread, or of any other,
// depending on the modes of both. With the lock held.
int ready_beside_captures();

// memory.cpp: nullptr where the system gives none.
uint8_t *allocate(Allocations *allocations, size_t len_bytes);
// False: nothing begins there.
bool release(Allocations *allocations, uint8_t *first);
bool holds(const Allocations &allocations, const void *first, size_t len_bytes);
void release_all(Device *device);

// stream.cpp
std::shared_ptr<Stream> start_stream(Device *device);
// Queues or captures, as the stream is; call with the lock held.
void submit(Stream *stream, Work work);
// Waits with `lock` until all that was queued on the device is done.
void synchronize(Device *device, std::unique_lock<std::mutex> &lock);
void wait(Device *device, const std::shared_ptr<Ticket> &ticket,
          std::unique_lock<std::mutex> &lock);

// Says on stderr what a real driver would only answer with a number.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace twinstream::driver

#endif

// The device of the kernel tests, over the CUDA driver's calls: its memory, and kernels by name.
//
// The emulated driver or a real one answers these calls, whichever the program is linked with; the
// tests do not know which. Only device 0 is used. Knows no kernel's parameters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace twinstream::tests {

// Opens the device and loads the kernels. Where there is no driver or no device it ends the program
// with status 77 and says so.
void open_device();
// At the end, when all memory is gone.
void close_device();

// Whether the device runs the kernel: not those that were compiled for others alone.
bool has_kernel(const char *name);

// Memory of the device and what the host has of it. Every byte is 0xff at first: NaN as f16 and as
// f32.
class Memory {
   public:
    explicit Memory(std::size_t len_bytes);
    ~Memory();
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    // On the device; 0 where it is empty.
    std::uint64_t address = 0;
    // On the host: `run` copies it to the device, and back.
    std::vector<unsigned char> bytes;
};

// Page-locked memory of the host, which kernels read by the same address.
class PageLocked {
   public:
    explicit PageLocked(std::size_t len_bytes);
    ~PageLocked();
    PageLocked(const PageLocked &) = delete;
    PageLocked &operator=(const PageLocked &) = delete;

    void *first = nullptr;
};

struct Launch {
    const char *kernel;
    unsigned grid[3];
    unsigned threads;
    unsigned shared_bytes;
    // Its parameter struct.
    const void *params;
    // It may begin before the kernel ahead has ended, if it is compiled to wait for that itself.
    bool may_begin_early;
    // Blocks of a cluster, along x.
    unsigned cluster_len;
};

// Copies all `Memory` to the device, runs the kernels one after another, and copies it back. Does
// it twice from the same contents: launch by launch, and as one graph in which kernels begin
// early. Fails, as `what`, where both do not leave the same bytes.
void run(std::initializer_list<Launch> launches, const std::string &what);

} // namespace twinstream::tests

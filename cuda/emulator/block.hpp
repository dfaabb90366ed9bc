// One block of threads at work: a fiber a thread, barriers, and instructions that a warp executes
// together.
//
// A thread runs until it has to wait; then the next one that can go on does. When none can, the
// block has failed, and the report says where every thread stands. Knows no particular instruction:
// an instruction of a warp is a name and a function over the operands of its lanes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "fiber.hpp"

namespace twinstream::emulator {

constexpr std::uint32_t warp_lanes = 32;
constexpr std::uint32_t block_threads_max = 1024;
constexpr std::uint32_t block_warps_max = block_threads_max / warp_lanes;
constexpr std::uint32_t block_barriers = 16;
// What a block can have on sm_90; smaller devices have less.
constexpr std::uint32_t shared_bytes_max = 232448;
// What memory holds before it is written: a NaN for every floating-point type, far outside as
// index.
constexpr int poison = 0xff;

struct Dimensions {
    std::uint32_t x = 1, y = 1, z = 1;
};

// An instruction that the lanes in a mask execute together. `perform` runs once, when the last of
// them has arrived; operands[lane] is what that lane gave, null for lanes that take no part.
struct WarpInstruction {
    const char *name;
    void (*perform)(void *const operands[warp_lanes], std::uint32_t mask);
    // Whether what a lane wrote before is visible to the others after it.
    bool orders_memory = false;
};

// An asynchronous copy of 16 bytes that was issued and not yet performed.
struct Copy {
    void *shared;
    const void *source; // null: zeros
    std::uint32_t group;
};

// A product of a warpgroup that was issued and not yet waited for; see hopper.hpp.
struct Product {
    float *sum;
    std::uint32_t columns;
    std::uint64_t left;
    std::uint64_t right;
    bool adds;
    std::uint32_t group;
    // The sums before, where they are not those of an earlier product in the list.
    std::vector<float> before;
};

struct Thread {
    Context context;
    Dimensions index;
    std::uint32_t number = 0; // in the block
    std::vector<Copy> copies;
    std::size_t copies_done = 0;
    std::uint32_t copy_groups = 0; // committed so far
    std::vector<Product> products;
    std::uint32_t product_groups = 0; // committed so far
    bool has_fenced = false;          // since it last waited for products
    bool has_waited = false;          // for the kernel before

    std::uint32_t lane() const { return number % warp_lanes; }
    std::uint32_t warp() const { return number / warp_lanes; }
};

// What all blocks of a launch have in common.
struct Launch {
    const char *kernel;
    void (*run)(const void *params);
    const void *params;
    Dimensions grid;
    Dimensions block;
    std::uint32_t shared_bytes;
    std::uint64_t seed; // 0: lowest thread first
    bool is_dependent;  // every thread must wait for the kernel before
};

// Runs blocks on the calling host thread, one after the other. The stacks are kept between blocks.
class Block {
   public:
    Block();
    ~Block();
    Block(const Block &) = delete;
    Block &operator=(const Block &) = delete;

    // Runs the block of that index to its end. False: it failed, and `error` says how.
    bool run(const Launch &launch, Dimensions index, std::string &error);
    // The same in two parts on one host thread: as far as it goes while the kernel before has not
    // ended, and the rest.
    void begin_early(const Launch &launch, Dimensions index);
    bool finish(std::string &error);
    // Drops a block that began early, where it stands.
    void abandon();

    // All below is called by emulated threads.

    // Waits for the lanes in `mask` to execute the same instruction with the same mask.
    void execute(const WarpInstruction &instruction, std::uint32_t mask, void *operands);
    // Barrier `number`, which opens when `threads_len` threads have arrived.
    void wait_at_barrier(std::uint32_t number, std::uint32_t threads_len);
    void arrive_at_barrier(std::uint32_t number, std::uint32_t threads_len);
    // Whether the kernel before has yet to run.
    bool is_early() const { return is_early_; }
    // Suspends the calling thread until the kernel before has ended.
    void wait_for_previous_kernel();
    // Suspends the calling thread until `wake` is called for the same address.
    void sleep(const void *at, const char *what);
    void wake(const void *at);
    // Leaves work to the copy engine, which does it in order of arrival when no thread can go on;
    // with a seed, some of it earlier. `what` names it.
    void defer(const char *what, std::function<void()> work);
    // Ends the block with an error that names kernel, block and the calling thread; formats as
    // printf. The thread's stack is dropped, so the caller must hold nothing that needs clean-up.
    [[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 2, 3)));

    const Launch &launch() const { return *launch_; }
    Dimensions index() const { return index_; }
    std::uint32_t threads_len() const { return threads_len_; }
    unsigned char *shared() const { return shared_; }
    // The byte at that offset; fails unless it is aligned and `bytes` from there lie in shared
    // memory.
    unsigned char *check_shared(std::uint32_t offset, std::uint32_t bytes,
                                std::uint32_t align_bytes, const char *instruction);

   private:
    struct Barrier {
        std::uint32_t arrived = 0;
        std::uint32_t expected = 0;
        std::array<std::uint32_t, block_warps_max> waiting{};
    };
    struct Sleeper {
        Thread *thread;
        const void *at;
        const char *what;
    };
    struct Deferred {
        const char *what;
        std::function<void()> work;
    };
    struct Warp {
        std::uint32_t runnable = 0;
        std::uint32_t at_instruction = 0;
        // Of the lanes at an instruction.
        std::array<void *, warp_lanes> operands{};
        std::array<const WarpInstruction *, warp_lanes> instructions{};
        std::array<std::uint32_t, warp_lanes> masks{};

        // Whether all lanes in `mask` wait at the same instruction with the same mask.
        bool is_complete(const WarpInstruction &instruction, std::uint32_t mask) const;
    };

    static void thread_main();
    void start(const Launch &launch, Dimensions index);
    void go_on();
    void end();
    void exit_thread();
    void suspend();
    void work_off_deferred();
    Thread *choose();
    std::uint32_t pick(std::uint32_t bits);
    void order_all(std::uint32_t warp, std::uint32_t lanes);
    void make_runnable(std::uint32_t warp, std::uint32_t lanes);
    void count_arrival(std::uint32_t number, std::uint32_t threads_len);
    std::uint32_t random(std::uint32_t bound);
    std::string place() const;
    std::string whereabouts(const Thread &thread) const;
    void report(const char *what);
    void report_deadlock();

    Stacks stacks_{block_threads_max};
    std::vector<Thread> threads_;
    std::array<Warp, block_warps_max> warps_;
    std::array<Barrier, block_barriers> barriers_;
    std::vector<Sleeper> sleepers_;
    std::deque<Deferred> deferred_;
    Context host_;
    const Launch *launch_ = nullptr;
    Dimensions index_;
    std::uint32_t threads_len_ = 0;
    // Fibers that are ready on this host thread.
    std::uint32_t prepared_len_ = 0;
    std::thread::id host_thread_;
    std::uint32_t runnable_warps_ = 0;
    std::uint32_t exited_len_ = 0;
    std::uint64_t random_state_ = 0;
    unsigned char *shared_ = nullptr;
    // The kernel before has not ended; the block stops where it needs it.
    bool is_early_ = false;
    std::string error_;
};

// The block that the calling host thread runs, and its thread that runs now.
extern __thread Block *current_block;
extern __thread Thread *current_thread;

} // namespace twinstream::emulator

// One block of threads at work: a fiber a thread, barriers, and instructions that a warp executes
// together.
//
// A thread runs until it has to wait; then the next one that can go on does. When none can, the
// cluster decides, see cluster.hpp. Knows no particular instruction: an instruction of a warp is a
// name and a function over the operands of its lanes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "fiber.hpp"
#include "launch_state.hpp"
#include "proxy.hpp"

namespace twinstream::emulator {

constexpr std::uint32_t warp_lanes = 32;
constexpr std::uint32_t warpgroup_warps = 4;
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

// A product of a warpgroup that was issued and not yet waited for; see wgmma.cpp.
struct Product {
    void *sum; // of 4-byte values, half as many as columns
    std::uint32_t columns;
    bool is_integer;
    bool adds;
    // Null: the descriptor counts. Else four registers, and what was in them.
    const std::uint32_t *a_registers;
    std::array<std::uint32_t, 4> a_kept;
    std::uint64_t a;
    std::uint64_t b;
    std::uint32_t group;
    std::uint32_t issued; // when, as SharedShadow counts
    // The sums before, where they are not those of an earlier product in the list.
    std::vector<std::uint32_t> before;
};

// A bulk copy out of shared memory that was issued and has not ended; see bulk.cpp.
struct BulkStore {
    const char *name;
    std::uint32_t shared;
    std::uint32_t bytes;
    std::uint32_t issued; // when, as SharedShadow counts
    std::uint32_t group;
    // What it found in shared memory; empty: it has yet to read.
    std::vector<unsigned char> data;
    std::function<void(const unsigned char *data)> write;
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
    std::vector<BulkStore> stores;
    std::uint32_t store_groups = 0;      // committed so far
    std::vector<std::uint32_t> barriers; // made, and not yet fenced
    bool has_waited = false;             // for the kernel before
    bool has_arrived = false;            // at the cluster's barrier, and not waited
    std::uint32_t arrival = 0;           // the number of that barrier's phase
    // Of what other blocks have published, what its copies may read.
    Published::Seen seen;

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
    std::uint32_t cluster_len; // blocks of a cluster, neighbours along x
    std::uint32_t registers;   // of a thread, at its start
    std::uint64_t seed;        // 0: lowest thread first
    bool is_dependent;         // every thread must wait for the kernel before
    LaunchState *state;
};

class Cluster;

// What ends a thread of a block that fails, or work of the copy engine.
struct Failed {};

// One block at a time, on the calling host thread. The stacks are kept between blocks.
class Block {
   public:
    Block();
    ~Block();
    Block(const Block &) = delete;
    Block &operator=(const Block &) = delete;

    // Makes ready the block of that index, in the cluster that drives it.
    void start(const Launch &launch, Dimensions index, Cluster &cluster);
    // Runs threads until all have ended, none can go on, or the turn is another block's.
    void go_on();
    bool can_go_on() const { return runnable_warps_ != 0; }
    // Whether the copy engine has work that this block gave it.
    bool has_deferred() const { return !deferred_.empty(); }
    // Does the newest piece of it, or with a seed any. False: that failed.
    bool work_off_deferred();
    bool has_ended() const { return exited_len_ == threads_len_; }
    const std::string &error() const { return error_; }
    void report_deadlock();
    // Lets threads go on that wait for a while or for the kernel before.
    bool wake_timed();
    void end_early();
    // Frees what the block had; where it has not ended, it is dropped where it stands.
    void end();

    // All below is called by emulated threads.

    // Waits for the lanes in `mask` to execute the same instruction with the same mask.
    void execute(const WarpInstruction &instruction, std::uint32_t mask, void *operands);
    // Barrier `number`, which opens when `threads_len` threads have arrived.
    void wait_at_barrier(std::uint32_t number, std::uint32_t threads_len);
    void arrive_at_barrier(std::uint32_t number, std::uint32_t threads_len);
    // Whether the kernel before has yet to run.
    bool is_early() const;
    // Suspends the calling thread until the kernel before has ended.
    void wait_for_previous_kernel();
    // Suspends the calling thread until `wake` is called for the same address; a timed one also
    // goes on when nothing else can.
    void sleep(const void *at, const char *what, bool is_timed = false);
    void wake(const void *at);
    // Compares what the calling warp does with what the other warps of its warpgroup did at that
    // point of theirs; once a warp. `signature` tells one instruction and its operands from others.
    void follow_warpgroup(const char *instruction, std::uint64_t signature);
    // Of a lane of the calling warp.
    std::uint32_t registers() const;
    // Takes registers from what the block has free or gives some back; once a warp. Waits for them.
    void set_registers(std::uint32_t count);
    // Leaves work to the copy engine, which does the newest first when no thread can go on, so that
    // what was given first ends as late as it may; with a seed, in any order, and some earlier.
    // `what` names it.
    void defer(const char *what, std::function<void()> work);
    // Ends the block with an error that names kernel, block and the calling thread; formats as
    // printf. Throws Failed.
    [[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 2, 3)));

    const Launch &launch() const { return *launch_; }
    Dimensions index() const { return index_; }
    std::uint32_t threads_len() const { return threads_len_; }
    unsigned char *shared() const { return shared_; }
    SharedShadow &shadow() { return shadow_; }
    Cluster &cluster() const { return *cluster_; }
    std::uint32_t number() const;
    const Thread &thread(std::uint32_t number) const { return threads_[number]; }
    bool is_stack(const void *at) const { return stacks_.holds(at); }
    // A number below `bound`; 0 without a seed.
    std::uint32_t draw(std::uint32_t bound) { return random_state_ == 0 ? 0 : random(bound); }
    // "128 of 160 threads at …", of those that cannot go on.
    std::string standing() const;
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
        bool is_timed;
    };
    struct Deferred {
        Thread *thread;
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
        std::uint32_t registers = 0; // of a lane
        std::uint64_t followed = 0;  // instructions of the warpgroup

        // Whether all lanes in `mask` wait at the same instruction with the same mask.
        bool is_complete(const WarpInstruction &instruction, std::uint32_t mask) const;
    };

    // What some warp of a warpgroup has executed and some other not yet, by place in the sequence.
    // In one piece: threads that allocate would look like a race where one frees what another got.
    struct Warpgroup {
        std::uint64_t first = 0, end = 0;
        std::array<std::uint64_t, 1024> signatures{};

        std::uint64_t &signature(std::uint64_t place) {
            return signatures[place % signatures.size()];
        }
    };

    static void thread_main();
    void prepare_thread(std::uint32_t number);
    void exit_thread(bool has_failed);
    void check_exit();
    void suspend();
    bool leaves_its_turn();
    Thread *choose();
    std::uint32_t pick(std::uint32_t bits);
    std::uint32_t draw_warp();
    void order_all(std::uint32_t warp, std::uint32_t lanes);
    void make_runnable(std::uint32_t warp, std::uint32_t lanes);
    void count_arrival(std::uint32_t number, std::uint32_t threads_len);
    std::uint32_t random(std::uint32_t bound);
    std::string place() const;
    std::string whereabouts(const Thread &thread) const;
    void report(const char *what);

    Stacks stacks_{block_threads_max};
    std::vector<Thread> threads_;
    std::array<Warp, block_warps_max> warps_;
    std::array<Barrier, block_barriers> barriers_;
    std::vector<Sleeper> sleepers_;
    std::vector<Deferred> deferred_;
    std::array<Warpgroup, block_warps_max / warpgroup_warps> warpgroups_;
    SharedShadow shadow_;
    Context host_;
    Cluster *cluster_ = nullptr;
    const Launch *launch_ = nullptr;
    Dimensions index_;
    std::uint32_t threads_len_ = 0;
    // Fibers that are ready on this host thread.
    std::uint32_t prepared_len_ = 0;
    std::thread::id host_thread_;
    std::uint32_t runnable_warps_ = 0;
    // With a seed: those that go on when no others can.
    std::uint32_t last_warps_ = 0;
    std::uint32_t exited_len_ = 0;
    std::uint64_t random_state_ = 0;
    std::uint32_t free_registers_ = 0;
    unsigned char *shared_ = nullptr;
    std::string error_;
};

// The block that the calling host thread runs, and its thread that runs now.
extern __thread Block *current_block;
extern __thread Thread *current_thread;

} // namespace twinstream::emulator

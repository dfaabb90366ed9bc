// Which thread of a block goes on, barriers, warp instructions and the report of a deadlock.

#include "cluster.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include "split_mix.h"

namespace twinstream::emulator {

__thread Block *current_block = nullptr;
__thread Thread *current_thread = nullptr;

namespace {

// Enough for 128-byte swizzles, which repeat every 1,024 bytes.
constexpr std::size_t shared_align_bytes = 1024;

// Neighbouring numbers give unrelated ones; never zero.
std::uint64_t mix(std::uint64_t value) {
    value = twinstream_split_mix(&value);
    return value == 0 ? 1 : value;
}

std::string triple(Dimensions value) {
    return "(" + std::to_string(value.x) + "," + std::to_string(value.y) + "," +
           std::to_string(value.z) + ")";
}

// "0-15,31" for a mask of lanes.
std::string ranges(std::uint32_t mask) {
    std::string text;
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        if ((mask >> lane & 1) == 0) {
            continue;
        }
        std::uint32_t last = lane;
        while (last + 1 < warp_lanes && (mask >> (last + 1) & 1) != 0) {
            ++last;
        }
        text += (text.empty() ? "" : ",") + std::to_string(lane);
        text += last > lane ? "-" + std::to_string(last) : "";
        lane = last;
    }
    return text;
}

} // namespace

Block::Block() : threads_(block_threads_max) { sleepers_.reserve(block_threads_max); }

Block::~Block() {
    for (Thread &thread : threads_) {
        Stacks::retire(thread.context);
    }
}

void Block::end() {
    if (!has_ended()) {
        prepared_len_ = 0; // the threads stopped somewhere in the kernel
        for (std::uint32_t i = 0; i < threads_len_; ++i) {
            order_release_for(threads_[i].context, &host_);
        }
    }
    order_acquire(&host_);
    ::operator delete(shared_, std::align_val_t{shared_align_bytes});
}

bool Block::is_early() const { return cluster_->is_early(); }

std::uint32_t Block::number() const {
    return (index_.z * launch_->grid.y + index_.y) * launch_->grid.x + index_.x;
}

void Block::go_on() {
    current_block = this;
    current_thread = nullptr;
    host_ = Context{}; // of this host thread, not of the one that ran the block before
    order_release(this);
    current_thread = choose();
    switch_fiber(host_, current_thread->context);
    current_thread = nullptr;
    current_block = nullptr;
}

void Block::start(const Launch &launch, Dimensions index, Cluster &cluster) {
    if (host_thread_ != std::this_thread::get_id()) {
        // A fiber may keep the address of thread-local variables, so it must not change threads.
        host_thread_ = std::this_thread::get_id();
        prepared_len_ = 0;
    }
    launch_ = &launch;
    index_ = index;
    cluster_ = &cluster;
    error_.clear();
    threads_len_ = launch.block.x * launch.block.y * launch.block.z;
    exited_len_ = 0;
    warps_.fill(Warp{});
    barriers_.fill(Barrier{});
    warpgroups_.fill(Warpgroup{});
    sleepers_.clear();
    deferred_.clear();
    shadow_.reset(launch.shared_bytes, threads_len_);
    runnable_warps_ = 0;
    free_registers_ = 0;
    random_state_ = launch.seed == 0 ? 0 : mix(launch.seed + number());
    last_warps_ = random_state_ == 0 ? 0 : draw_warp();
    for (std::uint32_t i = 0; i < threads_len_; ++i) {
        prepare_thread(i);
    }
    prepared_len_ = prepared_len_ > threads_len_ ? prepared_len_ : threads_len_;
    // An allocation for every block: the sanitizers then know its exact size, and that nothing in
    // it outlives the block.
    shared_ = static_cast<unsigned char *>(
        ::operator new(launch.shared_bytes, std::align_val_t{shared_align_bytes}));
    std::memset(shared_, poison, launch.shared_bytes);
}

void Block::prepare_thread(std::uint32_t number) {
    Thread &thread = threads_[number];
    if (number >= prepared_len_) {
        stacks_.prepare(number, thread.context, thread_main);
    }
    const Dimensions size = launch_->block;
    thread.number = number;
    thread.index = {number % size.x, number / size.x % size.y, number / (size.x * size.y)};
    thread.copies.clear();
    thread.copies_done = 0;
    thread.copy_groups = 0;
    thread.products.clear();
    thread.product_groups = 0;
    thread.has_fenced = false;
    thread.stores.clear();
    thread.store_groups = 0;
    thread.barriers.clear();
    thread.has_waited = false;
    thread.has_arrived = false;
    thread.seen.clear();
    warps_[thread.warp()].registers = launch_->registers;
    make_runnable(thread.warp(), 1u << thread.lane());
}

// A fiber serves the thread of its number in one block after the other.
void Block::thread_main() {
    enter_fiber(current_thread->context);
    for (;;) {
        order_acquire(current_block);
        const Launch &launch = current_block->launch();
        bool has_failed = false;
        try {
            launch.run(launch.params);
            current_block->check_exit();
        } catch (const Failed &) {
            has_failed = true;
        }
        current_block->exit_thread(has_failed);
    }
}

void Block::exit_thread(bool has_failed) {
    Thread &self = *current_thread;
    if (has_failed) {
        switch_fiber(self.context, host_);
        std::abort(); // a thread of a failed block is never resumed
    }
    order_release(&host_);
    exited_len_ += 1;
    if (has_ended()) {
        switch_fiber(self.context, host_);
    } else {
        suspend();
    }
}

void Block::check_exit() {
    Thread &self = *current_thread;
    if (launch_->is_dependent && !self.has_waited) {
        // The kernel behind would then wait for this one and not for the one before.
        fail("exits without having waited for the kernel before");
    }
    if (self.copies_done < self.copies.size()) {
        fail("exits with %zu asynchronous copies that it never waited for",
             self.copies.size() - self.copies_done);
    }
    if (!self.products.empty()) {
        fail("exits with %zu products that it never waited for", self.products.size());
    }
    for (const BulkStore &store : self.stores) {
        if (store.data.empty()) {
            fail("exits with %s that has not read shared memory for all that it waited for",
                 store.name);
        }
        store.write(store.data.data()); // which the end of the kernel waits for
    }
    if (exited_len_ + 1 != threads_len_) {
        return;
    }
    if (!deferred_.empty()) {
        fail("exits last, before %s has ended", deferred_.front().what);
    }
    for (std::uint32_t group = 0; group < warpgroups_.size(); ++group) {
        if (warpgroups_[group].first < warpgroups_[group].end) {
            fail("exits last, and a warp of warpgroup %u has left out what others of it executed",
                 group);
        }
    }
}

void Block::fail(const char *format, ...) {
    char what[256];
    va_list values;
    va_start(values, format);
    std::vsnprintf(what, sizeof what, format, values);
    va_end(values);
    {
        const Unwatched text;
        report(what);
    }
    throw Failed{};
}

// Goes on with another thread. Where none can go on, the cluster decides; then this thread may be
// the next to run or another.
void Block::suspend() {
    Thread *const self = current_thread;
    Thread *const next = leaves_its_turn() ? nullptr : choose();
    if (next == nullptr) {
        current_thread = nullptr;
        switch_fiber(self->context, host_);
    } else if (next != self) {
        current_thread = next;
        switch_fiber(self->context, next->context);
    }
}

// With a seed, lets other blocks and the copy engine go on at any moment.
bool Block::leaves_its_turn() {
    return random_state_ != 0 && (cluster_->len() > 1 || !deferred_.empty()) && random(16) == 0;
}

bool Block::work_off_deferred() {
    const Unwatched copy_engine;
    const auto len = static_cast<std::uint32_t>(deferred_.size());
    const bool is_newest = random_state_ == 0 || random(2) == 0;
    const auto place = deferred_.begin() + (is_newest ? len - 1 : random(len));
    const Deferred deferred = std::move(*place);
    deferred_.erase(place);
    current_block = this;
    current_thread = deferred.thread;
    bool has_succeeded = true;
    try {
        deferred.work();
    } catch (const Failed &) {
        has_succeeded = false;
    }
    current_thread = nullptr;
    current_block = nullptr;
    return has_succeeded;
}

void Block::defer(const char *what, std::function<void()> work) {
    const Unwatched copy_engine;
    deferred_.push_back({current_thread, what, std::move(work)});
}

void Block::end_early() { wake(cluster_); }

void Block::wait_for_previous_kernel() {
    current_thread->has_waited = true;
    if (is_early()) {
        sleep(cluster_, "griddepcontrol.wait");
        order_acquire(this);
    }
}

void Block::sleep(const void *at, const char *what, bool is_timed) {
    sleepers_.push_back({current_thread, at, what, is_timed});
    suspend();
}

bool Block::wake_timed() {
    bool is_any_awake = false;
    for (std::size_t i = sleepers_.size(); i-- > 0;) {
        if (sleepers_[i].is_timed) {
            const Thread &thread = *sleepers_[i].thread;
            make_runnable(thread.warp(), 1u << thread.lane());
            sleepers_[i] = sleepers_.back();
            sleepers_.pop_back();
            is_any_awake = true;
        }
    }
    return is_any_awake;
}

void Block::wake(const void *at) {
    for (std::size_t i = 0; i < sleepers_.size();) {
        if (sleepers_[i].at == at) {
            const Thread &thread = *sleepers_[i].thread;
            make_runnable(thread.warp(), 1u << thread.lane());
            sleepers_[i] = sleepers_.back();
            sleepers_.pop_back();
        } else {
            i += 1;
        }
    }
}

// Stays with the warp that ran last, so that its lanes meet soon; with a seed, leaves it at times,
// and keeps one warp behind all others for a while.
Thread *Block::choose() {
    if (runnable_warps_ == 0) {
        return nullptr;
    }
    std::uint32_t warp = current_thread == nullptr ? 0 : current_thread->warp();
    const bool moves_on = random_state_ != 0 && random(8) == 0;
    if (random_state_ != 0 && random(512) == 0) {
        last_warps_ = draw_warp();
    }
    const std::uint32_t first_warps = runnable_warps_ & ~last_warps_;
    const std::uint32_t candidates = first_warps != 0 ? first_warps : runnable_warps_;
    if (moves_on || (candidates >> warp & 1) == 0) {
        warp = pick(candidates);
    }
    std::uint32_t &lanes = warps_[warp].runnable;
    const std::uint32_t lane = pick(lanes);
    lanes &= ~(1u << lane);
    if (lanes == 0) {
        runnable_warps_ &= ~(1u << warp);
    }
    return &threads_[warp * warp_lanes + lane];
}

// The lowest bit set, or with a seed any.
std::uint32_t Block::pick(std::uint32_t bits) {
    if (random_state_ != 0) {
        const auto bits_len = static_cast<std::uint32_t>(__builtin_popcount(bits));
        for (std::uint32_t skipped = random(bits_len); skipped > 0; --skipped) {
            bits &= bits - 1;
        }
    }
    return static_cast<std::uint32_t>(__builtin_ctz(bits));
}

std::uint32_t Block::draw_warp() {
    return 1u << random((threads_len_ + warp_lanes - 1) / warp_lanes);
}

void Block::make_runnable(std::uint32_t warp, std::uint32_t lanes) {
    warps_[warp].runnable |= lanes;
    if (lanes != 0) {
        runnable_warps_ |= 1u << warp;
    }
}

bool Block::Warp::is_complete(const WarpInstruction &instruction, std::uint32_t mask) const {
    if ((at_instruction & mask) != mask) {
        return false;
    }
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
        const auto lane = static_cast<std::uint32_t>(__builtin_ctz(rest));
        if (instructions[lane] != &instruction || masks[lane] != mask) {
            return false;
        }
    }
    return true;
}

void Block::execute(const WarpInstruction &instruction, std::uint32_t mask, void *operands) {
    const Thread &self = *current_thread;
    const std::uint32_t lane = self.lane();
    if ((mask >> lane & 1) == 0) {
        fail("executes %s with a mask that leaves it out", instruction.name);
    }
    Warp &warp = warps_[self.warp()];
    warp.operands[lane] = operands;
    warp.instructions[lane] = &instruction;
    warp.masks[lane] = mask;
    warp.at_instruction |= 1u << lane;
    if (instruction.orders_memory) {
        order_release(&warp.operands[lane]);
    }
    if (warp.is_complete(instruction, mask)) {
        for (std::uint32_t i = 0; instruction.orders_memory && i < warp_lanes; ++i) {
            if ((mask >> i & 1) != 0) {
                order_acquire(&warp.operands[i]);
            }
        }
        instruction.perform(warp.operands.data(), mask);
        if (instruction.orders_memory) {
            order_all(self.warp(), mask);
        }
        warp.at_instruction &= ~mask;
        make_runnable(self.warp(), mask & ~(1u << lane));
    } else {
        suspend();
    }
    if (instruction.orders_memory) {
        order_acquire(current_thread);
    }
}

// Lets the threads in `lanes` see, once they acquire themselves, what the caller sees. No thread
// that runs ahead adds to it, as one would to an object that all share.
void Block::order_all(std::uint32_t warp, std::uint32_t lanes) {
#ifdef TWINSTREAM_RACE_CHECK
    for (; lanes != 0; lanes &= lanes - 1) {
        order_release(
            &threads_[warp * warp_lanes + static_cast<std::uint32_t>(__builtin_ctz(lanes))]);
    }
#else
    (void)warp, (void)lanes;
#endif
}

void Block::follow_warpgroup(const char *instruction, std::uint64_t signature) {
    const std::uint32_t warp = current_thread->warp(), group = warp / warpgroup_warps;
    if ((group + 1) * warpgroup_warps * warp_lanes > threads_len_) {
        fail("executes %s in a warpgroup that lacks warps", instruction);
    }
    Warpgroup &common = warpgroups_[group];
    std::uint64_t &followed = warps_[warp].followed;
    if (followed == common.end) {
        if (common.end - common.first == common.signatures.size()) {
            fail("executes %s too many instructions ahead of its warpgroup", instruction);
        }
        common.signature(followed) = signature;
        common.end += 1;
    } else if (common.signature(followed) != signature) {
        fail("executes %s where another warp of its warpgroup has executed something else",
             instruction);
    }
    followed += 1;
    while (common.first < common.end) {
        for (std::uint32_t i = 0; i < warpgroup_warps; ++i) {
            if (warps_[group * warpgroup_warps + i].followed == common.first) {
                return;
            }
        }
        common.first += 1;
    }
}

std::uint32_t Block::registers() const { return warps_[current_thread->warp()].registers; }

void Block::set_registers(std::uint32_t count) {
    std::uint32_t &registers = warps_[current_thread->warp()].registers;
    while (count > registers && (count - registers) * warp_lanes > free_registers_) {
        sleep(&free_registers_, "setmaxnreg");
    }
    free_registers_ -= (count - registers) * warp_lanes;
    registers = count;
    wake(&free_registers_);
}

void Block::count_arrival(std::uint32_t number, std::uint32_t threads_len) {
    if (number >= block_barriers || threads_len == 0 || threads_len % warp_lanes != 0) {
        // Barrier 0 over all threads of a block that is no multiple of a warp is __syncthreads.
        if (number != 0 || threads_len != threads_len_) {
            fail("uses barrier %u for %u threads: there are 16, for multiples of 32 threads",
                 number, threads_len);
        }
    }
    Barrier &barrier = barriers_[number];
    if (barrier.arrived != 0 && barrier.expected != threads_len) {
        fail("arrives at barrier %u for %u threads where others wait for %u", number, threads_len,
             barrier.expected);
    }
    barrier.expected = threads_len;
    barrier.arrived += 1;
    order_release(&barrier);
    if (barrier.arrived == threads_len) {
        order_acquire(&barrier);
        for (std::uint32_t warp = 0; warp < block_warps_max; ++warp) {
            order_all(warp, barrier.waiting[warp]);
            make_runnable(warp, barrier.waiting[warp]);
        }
        barrier = Barrier{};
    }
}

void Block::wait_at_barrier(std::uint32_t number, std::uint32_t threads_len) {
    const std::uint32_t warp = current_thread->warp();
    const std::uint32_t bit = 1u << current_thread->lane();
    // Entered first, so that the last to come is released with the others.
    if (number < block_barriers) {
        barriers_[number].waiting[warp] |= bit;
    }
    count_arrival(number, threads_len);
    suspend();
    order_acquire(current_thread);
}

void Block::arrive_at_barrier(std::uint32_t number, std::uint32_t threads_len) {
    count_arrival(number, threads_len);
}

std::uint32_t Block::random(std::uint32_t bound) {
    // xorshift64*; the state is never zero here.
    random_state_ ^= random_state_ >> 12;
    random_state_ ^= random_state_ << 25;
    random_state_ ^= random_state_ >> 27;
    const std::uint64_t high = random_state_ * 0x2545f4914f6cdd1du >> 32;
    return static_cast<std::uint32_t>(high * bound >> 32);
}

unsigned char *Block::check_shared(std::uint32_t offset, std::uint32_t bytes,
                                   std::uint32_t align_bytes, const char *instruction) {
    if (offset > launch_->shared_bytes || launch_->shared_bytes - offset < bytes) {
        fail("reaches byte %u of shared memory with %s; it has %u", offset, instruction,
             launch_->shared_bytes);
    }
    if (offset % align_bytes != 0) {
        fail("reaches byte %u of shared memory with %s, which is not aligned to %u", offset,
             instruction, align_bytes);
    }
    return shared_ + offset;
}

std::string Block::place() const {
    return std::string(launch_->kernel) + ": block " + triple(index_);
}

void Block::report(const char *what) {
    error_ = place() + ", thread " + triple(current_thread->index) + " " + what;
}

// Of a thread that does not run.
std::string Block::whereabouts(const Thread &thread) const {
    const std::uint32_t bit = 1u << thread.lane();
    const Warp &warp = warps_[thread.warp()];
    if ((warp.runnable & bit) != 0) {
        return "ready";
    }
    if ((warp.at_instruction & bit) != 0) {
        return std::string("at ") + warp.instructions[thread.lane()]->name;
    }
    for (std::uint32_t number = 0; number < block_barriers; ++number) {
        if ((barriers_[number].waiting[thread.warp()] & bit) != 0) {
            return number == 0 ? "at __syncthreads" : "at barrier " + std::to_string(number);
        }
    }
    for (const Sleeper &sleeper : sleepers_) {
        if (sleeper.thread == &thread) {
            return std::string("at ") + sleeper.what;
        }
    }
    return "exited";
}

std::string Block::standing() const {
    std::map<std::string, std::uint32_t> places;
    for (std::uint32_t i = 0; i < threads_len_; ++i) {
        if (&threads_[i] != current_thread) {
            places[whereabouts(threads_[i])] += 1;
        }
    }
    std::string text;
    for (const auto &[at, threads_len] : places) {
        text += (text.empty() ? "" : ", ") + std::to_string(threads_len) + " of " +
                std::to_string(threads_len_) + " threads " + at;
    }
    return text;
}

void Block::report_deadlock() {
    std::string &text = error_;
    text = place() + " cannot go on: " + standing();
    // The first warp whose lanes went different ways shows which.
    for (std::uint32_t warp = 0; warp * warp_lanes < threads_len_; ++warp) {
        std::map<std::string, std::uint32_t> lanes;
        for (std::uint32_t i = warp * warp_lanes; i < threads_len_ && i < (warp + 1) * warp_lanes;
             ++i) {
            lanes[whereabouts(threads_[i])] |= 1u << i % warp_lanes;
        }
        if (lanes.size() > 1) {
            text += "; warp " + std::to_string(warp);
            const char *separator = ": lanes ";
            for (const auto &[at, mask] : lanes) {
                text += separator + ranges(mask) + " " + at;
                separator = ", lanes ";
            }
            break;
        }
    }
}

} // namespace twinstream::emulator

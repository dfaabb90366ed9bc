// Turns of blocks, and the barrier of a cluster.

#include "cluster.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t pauses_len_max = 1 << 20;

} // namespace

bool Cluster::run(const Launch &launch, Dimensions first, std::string &error) {
    start(launch, first);
    go_on();
    return finish(error);
}

void Cluster::begin_early(const Launch &launch, Dimensions first) {
    start(launch, first);
    is_early_ = true;
    go_on();
}

bool Cluster::finish(std::string &error) {
    if (is_early_ && first_failed() == nullptr) {
        is_early_ = false;
        for (std::uint32_t i = 0; i < len_; ++i) {
            blocks_[i]->end_early();
        }
        go_on();
    }
    const Block *const failed = first_failed();
    abandon();
    error = failed == nullptr ? "" : failed->error();
    return error.empty();
}

void Cluster::abandon() {
    is_early_ = false;
    launch_->state->clock.end();
    for (std::uint32_t i = 0; i < len_; ++i) {
        blocks_[i]->end();
    }
}

void Cluster::start(const Launch &launch, Dimensions first) {
    launch_ = &launch;
    len_ = launch.cluster_len;
    threads_arrived_ = phase_ = pauses_len_ = 0;
    launch.state->clock.begin();
    while (blocks_.size() < len_) {
        blocks_.push_back(std::make_unique<Block>());
    }
    for (std::uint32_t i = 0; i < len_; ++i) {
        blocks_[i]->start(launch, {first.x + i, first.y, first.z}, *this);
    }
}

// Until all blocks have ended, one has failed, or all need the kernel before.
void Cluster::go_on() {
    while (first_failed() == nullptr) {
        if (Block *const next = choose()) {
            next->go_on();
            continue;
        }
        if (work_off_deferred()) {
            continue;
        }
        Block *stuck = nullptr;
        for (std::uint32_t i = len_; i-- > 0;) {
            stuck = blocks_[i]->has_ended() ? stuck : blocks_[i].get();
        }
        if (stuck == nullptr || is_early_) {
            return;
        }
        if (!pass_time()) {
            stuck->report_deadlock();
        }
    }
}

// The first block that can go on, or with a seed any; now and then the copy engine instead.
Block *Cluster::choose() {
    const std::uint32_t first = blocks_[0]->draw(len_);
    if (blocks_[0]->draw(4) == 3) {
        work_off_deferred();
    }
    for (std::uint32_t i = 0; i < len_; ++i) {
        Block *const block = blocks_[(first + i) % len_].get();
        if (block->can_go_on()) {
            return first_failed() == nullptr ? block : nullptr;
        }
    }
    return nullptr;
}

bool Cluster::work_off_deferred() {
    const std::uint32_t first = blocks_[0]->draw(len_);
    for (std::uint32_t i = 0; i < len_; ++i) {
        Block &block = *blocks_[(first + i) % len_];
        if (block.has_deferred()) {
            block.work_off_deferred();
            return true;
        }
    }
    return false;
}

// False: nobody waits just for a while, or all have done so for too long.
bool Cluster::pass_time() {
    if (++pauses_len_ > pauses_len_max) {
        return false;
    }
    bool is_any_awake = false;
    for (std::uint32_t i = 0; i < len_; ++i) {
        is_any_awake |= blocks_[i]->wake_timed();
    }
    if (is_any_awake) {
        launch_->state->clock.pass();
    }
    return is_any_awake;
}

Block *Cluster::first_failed() {
    for (std::uint32_t i = 0; i < len_; ++i) {
        if (!blocks_[i]->error().empty()) {
            return blocks_[i].get();
        }
    }
    return nullptr;
}

std::uint32_t Cluster::rank(const Block &block) const {
    std::uint32_t rank = 0;
    while (blocks_[rank].get() != &block) {
        rank += 1;
    }
    return rank;
}

Block &Cluster::reach(std::uint32_t rank, const char *instruction) {
    if (rank >= len_) {
        current_block->fail("reaches block %u of its cluster with %s, which has %u", rank,
                            instruction, len_);
    }
    if (blocks_[rank]->has_ended()) {
        current_block->fail("reaches block %u of its cluster with %s, which has ended", rank,
                            instruction);
    }
    return *blocks_[rank];
}

void Cluster::arrive() {
    Thread &self = *current_thread;
    if (self.has_arrived) {
        current_block->fail("arrives at the barrier of its cluster twice without waiting");
    }
    self.has_arrived = true;
    self.arrival = phase_;
    order_release(this);
    threads_arrived_ += 1;
    if (threads_arrived_ == len_ * current_block->threads_len()) {
        threads_arrived_ = 0;
        phase_ += 1;
        for (std::uint32_t i = 0; i < len_; ++i) {
            blocks_[i]->wake(this);
        }
    }
}

void Cluster::wait() {
    Thread &self = *current_thread;
    if (!self.has_arrived) {
        current_block->fail("waits at the barrier of its cluster without having arrived");
    }
    while (self.arrival == phase_) {
        current_block->sleep(this, "barrier.cluster.wait");
    }
    self.has_arrived = false;
    order_acquire(this);
}

} // namespace twinstream::emulator

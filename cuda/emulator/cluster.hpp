// The blocks of a cluster at work, all on one host thread: whose turn it is, the barrier of the
// cluster, and what happens when no thread can go on.
//
// A launch without clusters has clusters of one block. Then the copy engine works off what it was
// given, at last time passes for those who only wait for a while; when nothing is left to happen,
// the cluster has failed, and the report says where every thread stands.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "block.hpp"

namespace twinstream::emulator {

constexpr std::uint32_t cluster_len_max = 8;

// Runs clusters on the calling host thread, one after the other.
class Cluster {
   public:
    // Runs the cluster whose first block has that index. False: it failed, and `error` says how.
    bool run(const Launch &launch, Dimensions first, std::string &error);
    // The same in two parts on one host thread: as far as it goes while the kernel before has not
    // ended, and the rest.
    void begin_early(const Launch &launch, Dimensions first);
    bool finish(std::string &error);
    // Drops a cluster that began early, where it stands.
    void abandon();

    // All below is called by emulated threads.

    bool is_early() const { return is_early_; }
    std::uint32_t len() const { return len_; }
    std::uint32_t rank(const Block &block) const;
    // A block that others may still reach; fails where it has ended.
    Block &reach(std::uint32_t rank, const char *instruction);
    // barrier.cluster: all threads of all blocks.
    void arrive();
    void wait();

   private:
    void start(const Launch &launch, Dimensions first);
    void go_on();
    Block *choose();
    bool work_off_deferred();
    bool pass_time();
    Block *first_failed();

    std::vector<std::unique_ptr<Block>> blocks_;
    const Launch *launch_ = nullptr;
    std::uint32_t len_ = 0;
    std::uint32_t threads_arrived_ = 0;
    std::uint32_t phase_ = 0;
    // How often time passed so far.
    std::uint32_t pauses_len_ = 0;
    // The kernel before has not ended; the cluster stops where it needs it.
    bool is_early_ = false;
};

} // namespace twinstream::emulator

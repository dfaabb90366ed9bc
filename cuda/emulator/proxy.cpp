// The shadows, and the fences that lift them.

#include "proxy.hpp"

#include <algorithm>
#include <mutex>

#include "block.hpp"
#include "cluster.hpp"
#include "hopper.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t word_bytes = 4;
// Writers that are no threads.
constexpr std::uint32_t nobody = 0xffffffffu;
constexpr std::uint32_t copy_engine = 0xfffffffeu;

} // namespace

void SharedShadow::reset(std::uint32_t bytes, std::uint32_t threads_len) {
    bytes_ = bytes;
    moment_ = 0;
    threads_len_ = threads_len;
    words_.clear();
    fences_.assign(threads_len, 0);
}

void SharedShadow::mark(std::uint32_t shared, std::uint32_t bytes, std::uint32_t writer) {
    if (words_.empty()) {
        words_.assign(bytes_ / word_bytes + 1, {0, nobody});
    }
    moment_ += 1;
    const std::uint32_t last = (shared + bytes - 1) / word_bytes;
    std::fill(words_.begin() + shared / word_bytes, words_.begin() + last + 1,
              Word{moment_, writer});
}

void SharedShadow::write(std::uint32_t shared, std::uint32_t bytes, std::uint32_t thread) {
    mark(shared, bytes, thread);
}

void SharedShadow::write_async(std::uint32_t shared, std::uint32_t bytes) {
    mark(shared, bytes, copy_engine);
}

void SharedShadow::fence(std::uint32_t thread) { fences_[thread] = ++moment_; }

bool SharedShadow::is_hidden(std::uint32_t shared, std::uint32_t bytes, std::uint32_t since,
                             Fault *fault) const {
    const std::uint32_t last = (shared + bytes - 1) / word_bytes;
    for (std::uint32_t i = shared / word_bytes; !words_.empty() && i <= last; ++i) {
        const Word &word = words_[i];
        const bool is_hidden = word.writer < threads_len_ && fences_[word.writer] < word.moment;
        if (is_hidden || word.moment > since) {
            *fault = {std::max(i * word_bytes, shared), word.writer, !is_hidden};
            return true;
        }
    }
    return false;
}

Published::Piece &Published::piece(std::uintptr_t number) {
    constexpr std::size_t pieces_len = page_bytes / piece_bytes;
    std::unique_ptr<Page> &page = pages_[number / pieces_len];
    if (page == nullptr) {
        page = std::make_unique<Page>();
    }
    return (*page)[number % pieces_len];
}

void Published::begin_write(const void *at, std::size_t bytes, std::uint32_t block) {
    const std::lock_guard<SpinLock> guard(lock_);
    is_used_ = true;
    const auto first = reinterpret_cast<std::uintptr_t>(at);
    for (std::uintptr_t i = first / piece_bytes; i * piece_bytes < first + bytes; ++i) {
        piece(i) = {block, unfinished};
    }
}

void Published::end_write(const void *at, std::size_t bytes, std::uint32_t block) {
    const std::lock_guard<SpinLock> guard(lock_);
    const std::uint32_t epoch = writers_[block].epoch;
    const auto first = reinterpret_cast<std::uintptr_t>(at);
    for (std::uintptr_t i = first / piece_bytes; i * piece_bytes < first + bytes; ++i) {
        piece(i) = {block, epoch};
    }
}

void Published::write(const void *at, std::size_t bytes, std::uint32_t block,
                      std::uint32_t thread) {
    begin_write(at, bytes, block);
    const std::lock_guard<SpinLock> guard(lock_);
    const auto first = reinterpret_cast<std::uintptr_t>(at);
    std::vector<std::uintptr_t> &stored = writers_[block].stored[thread];
    for (std::uintptr_t i = first / piece_bytes; i * piece_bytes < first + bytes; ++i) {
        if (stored.empty() || stored.back() != i) {
            stored.push_back(i);
        }
    }
}

void Published::fence(std::uint32_t block, std::uint32_t thread) {
    const std::lock_guard<SpinLock> guard(lock_);
    Writer &writer = writers_[block];
    for (const std::uintptr_t number : writer.stored[thread]) {
        if (piece(number).block == block) {
            piece(number).epoch = writer.epoch;
        }
    }
    writer.stored[thread].clear();
}

void Published::release(const void *counter, std::uint32_t block) {
    const std::lock_guard<SpinLock> guard(lock_);
    Writer &writer = writers_[block];
    Seen &seen = released_[counter];
    for (const auto &[other, epoch] : writer.acquired) {
        seen[other] = std::max(seen[other], epoch);
    }
    seen[block] = writer.epoch;
    writer.epoch += 1;
}

void Published::acquire(const void *counter, std::uint32_t block) {
    const std::lock_guard<SpinLock> guard(lock_);
    for (const auto &[other, epoch] : released_[counter]) {
        std::uint32_t &acquired = writers_[block].acquired[other];
        acquired = std::max(acquired, epoch);
    }
}

Published::Seen Published::acquired(std::uint32_t block) {
    const std::lock_guard<SpinLock> guard(lock_);
    return writers_[block].acquired;
}

bool Published::is_hidden(const void *at, std::size_t bytes, std::uint32_t block, const Seen &seen,
                          Fault *fault) {
    if (!is_used_) {
        return false;
    }
    const std::lock_guard<SpinLock> guard(lock_);
    const auto first = reinterpret_cast<std::uintptr_t>(at);
    for (std::uintptr_t i = first / piece_bytes; i * piece_bytes < first + bytes; ++i) {
        const Piece &found = piece(i);
        if (found.block == nobody || (found.block == block && found.epoch != unfinished)) {
            continue;
        }
        const auto known = seen.find(found.block);
        if (found.epoch == unfinished || known == seen.end() || known->second < found.epoch) {
            *fault = {found.block, found.epoch == unfinished};
            return true;
        }
    }
    return false;
}

void fence_proxy_async_shared() {
    current_block->shadow().fence(current_thread->number);
    fence_barrier_init(); // whose words are shared memory, too
}

void fence_proxy_async_global() {
    Published &published = current_block->launch().state->published;
    published.fence(current_block->number(), current_thread->number);
    current_thread->seen = published.acquired(current_block->number());
}

void note_write(std::uint32_t shared, std::uint32_t bytes) {
    current_block->shadow().write(shared, bytes, current_thread->number);
}

void check_async_read(std::uint32_t shared, std::uint32_t bytes, std::uint32_t since,
                      const char *instruction) {
    SharedShadow::Fault fault;
    if (!current_block->shadow().is_hidden(shared, bytes, since, &fault)) {
        return;
    }
    if (fault.is_late) {
        current_block->fail("reads byte %u of shared memory with %s, where others have written "
                            "since it began",
                            fault.byte, instruction);
    }
    const Dimensions writer = current_block->thread(fault.thread).index;
    current_block->fail("reaches byte %u of shared memory with %s, where thread (%u,%u,%u) has "
                        "written without fence.proxy.async",
                        fault.byte, instruction, writer.x, writer.y, writer.z);
}

void check_async_global_read(const void *at, std::size_t bytes, const char *instruction) {
    Published::Fault fault;
    if (!current_block->launch().state->published.is_hidden(at, bytes, current_block->number(),
                                                            current_thread->seen, &fault)) {
        return;
    }
    current_block->fail(fault.is_unfinished
                            ? "reads %zu bytes of device memory with %s that block number %u has "
                              "not finished writing: no wait or fence.proxy.async"
                            : "reads %zu bytes of device memory with %s that block number %u "
                              "wrote, without acquire and fence.proxy.async",
                        bytes, instruction, fault.block);
}

} // namespace twinstream::emulator

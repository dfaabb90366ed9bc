// What copy engine and matrix units may see of memory that threads write.
//
// They read it through the asynchronous proxy, threads write it through the generic one, and only a
// fence.proxy.async between makes the one see the other. Who wrote what is known of the
// instructions in this folder, and of every store where kernels are compiled to tell of them (see
// tests/accesses.cpp). Knows no threads, only their numbers.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "spin_lock.hpp"

namespace twinstream::emulator {

// Of a block's shared memory, word by word: who wrote it last, and when. Moments are counted by
// what happens to the shadow.
class SharedShadow {
   public:
    struct Fault {
        std::uint32_t byte;
        std::uint32_t thread;
        // Written after the reader was told to read; else by a thread that has not fenced since.
        bool is_late;
    };

    // Forgets all; for `bytes` of shared memory.
    void reset(std::uint32_t bytes, std::uint32_t threads_len);
    std::uint32_t now() { return ++moment_; }
    void write(std::uint32_t shared, std::uint32_t bytes, std::uint32_t thread);
    void write_async(std::uint32_t shared, std::uint32_t bytes);
    void fence(std::uint32_t thread);
    // Whether the asynchronous proxy, told so at that moment, may not read all of this.
    bool is_hidden(std::uint32_t shared, std::uint32_t bytes, std::uint32_t since,
                   Fault *fault) const;

   private:
    struct Word {
        std::uint32_t moment;
        std::uint32_t writer;
    };
    void mark(std::uint32_t shared, std::uint32_t bytes, std::uint32_t writer);

    std::uint32_t bytes_ = 0;
    std::uint32_t moment_ = 0;
    std::uint32_t threads_len_ = 0;
    // Empty until something is written.
    std::vector<Word> words_;
    // Of each thread, its latest fence.
    std::vector<std::uint32_t> fences_;
};

// Of device memory, in pieces of 16 bytes: which block of the launch wrote it, and what of that the
// blocks have published to one another. Any host thread may call.
class Published {
   public:
    // How much of each block's writes: its epochs up to that one.
    using Seen = std::map<std::uint32_t, std::uint32_t>;
    struct Fault {
        std::uint32_t block;
        // The writer itself has not come far enough; else the reader has not seen that it has.
        bool is_unfinished;
    };

    // A block stores, and later its store has ended, or its thread has fenced.
    void begin_write(const void *at, std::size_t bytes, std::uint32_t block);
    void end_write(const void *at, std::size_t bytes, std::uint32_t block);
    // A thread stores; `fence` ends all its writes.
    void write(const void *at, std::size_t bytes, std::uint32_t block, std::uint32_t thread);
    void fence(std::uint32_t block, std::uint32_t thread);
    // A block releases to a counter what has ended, and what it has acquired; or acquires.
    void release(const void *counter, std::uint32_t block);
    void acquire(const void *counter, std::uint32_t block);
    // What the block has acquired so far, for a thread that fences.
    Seen acquired(std::uint32_t block);
    // Whether a copy of `block`, for a thread that has seen so much, may not read all of this.
    bool is_hidden(const void *at, std::size_t bytes, std::uint32_t block, const Seen &seen,
                   Fault *fault);

   private:
    static constexpr std::size_t piece_bytes = 16;
    static constexpr std::size_t page_bytes = 4096;
    static constexpr std::uint32_t nobody = 0xffffffffu;
    static constexpr std::uint32_t unfinished = 0xffffffffu;
    struct Piece {
        std::uint32_t block = nobody;
        std::uint32_t epoch = 0;
    };
    using Page = std::array<Piece, page_bytes / piece_bytes>;
    struct Writer {
        std::uint32_t epoch = 1;
        Seen acquired;
        // Of each thread, pieces that it stored since it fenced last.
        std::unordered_map<std::uint32_t, std::vector<std::uintptr_t>> stored;
    };
    Piece &piece(std::uintptr_t number);

    SpinLock lock_;
    // Whether anything was written at all.
    std::atomic<bool> is_used_{false};
    std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;
    std::unordered_map<std::uint32_t, Writer> writers_;
    std::unordered_map<const void *, Seen> released_;
};

} // namespace twinstream::emulator

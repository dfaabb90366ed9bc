// Asynchronous copies, barriers, shuffles and 8x8 matrix loads and stores.

#include "ptx.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "block.hpp"
#include "memory.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t all_lanes = 0xffffffffu;
// More than any pipeline holds; a loop that never waits ends here.
constexpr std::size_t copies_len_max = 4096;

void perform(const Copy &copy) {
    if (copy.is_valid) {
        std::memcpy(copy.shared, copy.global, copy.bytes);
    } else {
        std::memset(copy.shared, 0, copy.bytes);
    }
}

// Performs all copies of groups before `group`.
void perform_until(Thread &thread, std::uint32_t group) {
    while (thread.copies_done < thread.copies.size() &&
           thread.copies[thread.copies_done].group < group) {
        perform(thread.copies[thread.copies_done]);
        thread.copies_done += 1;
    }
    if (thread.copies_done == thread.copies.size()) {
        thread.copies.clear();
        thread.copies_done = 0;
    }
}

// One row of 16 bytes of an 8x8 matrix.
struct Row {
    std::uint16_t values[8];
};

struct LoadMatrix {
    std::uint32_t *results;
    Row row; // read by the lane itself, as its own access to shared memory
};

// Lane l gets, of each matrix, the values in row l / 4, columns 2 (l % 4) and the next; of the
// transposed one, those in column l / 4, rows 2 (l % 4) and the next.
template <std::uint32_t matrices_len, bool is_transposed>
void load_matrices(void *const operands[warp_lanes], std::uint32_t) {
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        for (std::uint32_t matrix = 0; matrix < matrices_len; ++matrix) {
            const auto row = [&](std::uint32_t number) -> const Row & {
                return static_cast<const LoadMatrix *>(operands[matrix * 8 + number])->row;
            };
            const std::uint32_t outer = lane / 4;
            const std::uint32_t inner = lane % 4 * 2;
            std::uint32_t low = 0, high = 0;
            if (is_transposed) {
                low = row(inner).values[outer];
                high = row(inner + 1).values[outer];
            } else {
                low = row(outer).values[inner];
                high = row(outer).values[inner + 1];
            }
            static_cast<LoadMatrix *>(operands[lane])->results[matrix] = low | high << 16;
        }
    }
}

template <std::uint32_t matrices_len, bool is_transposed>
void load(const char *name, std::uint32_t *results, const void *shared) {
    static const WarpInstruction instruction{name, load_matrices<matrices_len, is_transposed>};
    LoadMatrix operands;
    operands.results = results;
    if (current_thread->lane() < matrices_len * 8) {
        current_block->check_shared(shared, sizeof(Row), name);
        std::memcpy(&operands.row, shared, sizeof(Row));
    }
    current_block->execute(instruction, all_lanes, &operands);
}

struct StoreMatrix {
    std::uint32_t values[4];
    Row row; // written by the lane itself once it is complete
};

template <std::uint32_t matrices_len>
void store_matrices(void *const operands[warp_lanes], std::uint32_t) {
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        const auto *from = static_cast<const StoreMatrix *>(operands[lane]);
        for (std::uint32_t matrix = 0; matrix < matrices_len; ++matrix) {
            auto *to = static_cast<StoreMatrix *>(operands[matrix * 8 + lane / 4]);
            std::memcpy(&to->row.values[lane % 4 * 2], &from->values[matrix], 4);
        }
    }
}

template <std::uint32_t matrices_len>
void store(const char *name, void *shared, const std::uint32_t *values) {
    static const WarpInstruction instruction{name, store_matrices<matrices_len>};
    StoreMatrix operands;
    std::copy_n(values, matrices_len, operands.values);
    const bool has_row = current_thread->lane() < matrices_len * 8;
    if (has_row) {
        current_block->check_shared(shared, sizeof(Row), name);
    }
    current_block->execute(instruction, all_lanes, &operands);
    if (has_row) {
        std::memcpy(shared, &operands.row, sizeof(Row));
    }
}

struct Shuffle {
    std::uint32_t given;
    std::uint32_t source; // lane, worked out by the reader
    std::uint32_t taken;
};

void exchange(void *const operands[warp_lanes], std::uint32_t mask) {
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
        auto *lane = static_cast<Shuffle *>(operands[__builtin_ctz(rest)]);
        lane->taken = static_cast<const Shuffle *>(operands[lane->source])->given;
    }
}

struct Ballot {
    bool predicate;
    std::uint32_t result;
};

void vote(void *const operands[warp_lanes], std::uint32_t mask) {
    std::uint32_t result = 0;
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
        const auto lane = static_cast<std::uint32_t>(__builtin_ctz(rest));
        result |= std::uint32_t{static_cast<const Ballot *>(operands[lane])->predicate} << lane;
    }
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
        static_cast<Ballot *>(operands[__builtin_ctz(rest)])->result = result;
    }
}

} // namespace

void *dynamic_shared() { return current_block->shared(); }

void cp_async(void *shared, const void *global, std::uint32_t bytes, bool is_valid) {
    Block &block = *current_block;
    Thread &self = *current_thread;
    block.check_shared(shared, bytes, "cp.async");
    if (is_valid) {
        if (reinterpret_cast<std::uintptr_t>(global) % bytes != 0) {
            block.fail("cp.async from an address that is not aligned to " + std::to_string(bytes));
        }
        if (!is_device_memory(global, bytes)) {
            block.fail("cp.async from outside device memory");
        }
    }
    if (self.copies.size() == copies_len_max) {
        block.fail("issues copies with cp.async and never waits for them");
    }
    std::memset(shared, 0xff, bytes);
    self.copies.push_back({static_cast<unsigned char *>(shared),
                           static_cast<const unsigned char *>(global), bytes, is_valid,
                           self.copy_groups});
}

void cp_async_commit() { current_thread->copy_groups += 1; }

void cp_async_wait_group(std::uint32_t groups_len) {
    Thread &self = *current_thread;
    if (self.copy_groups > groups_len) {
        perform_until(self, self.copy_groups - groups_len);
    }
}

void cp_async_wait_all() { perform_until(*current_thread, ~0u); }

void barrier_sync(std::uint32_t number) {
    current_block->wait_at_barrier(number, current_block->threads_len());
}

void barrier_sync(std::uint32_t number, std::uint32_t threads_len) {
    current_block->wait_at_barrier(number, threads_len);
}

void barrier_arrive(std::uint32_t number, std::uint32_t threads_len) {
    current_block->arrive_at_barrier(number, threads_len);
}

void syncwarp(std::uint32_t mask) {
    static const WarpInstruction instruction{"__syncwarp",
                                             [](void *const *, std::uint32_t) {}};
    current_block->execute(instruction, mask, nullptr);
}

void ldmatrix_x1(std::uint32_t (&r)[1], const void *shared) {
    load<1, false>("ldmatrix.x1", r, shared);
}
void ldmatrix_x2(std::uint32_t (&r)[2], const void *shared) {
    load<2, false>("ldmatrix.x2", r, shared);
}
void ldmatrix_x4(std::uint32_t (&r)[4], const void *shared) {
    load<4, false>("ldmatrix.x4", r, shared);
}
void ldmatrix_x1_trans(std::uint32_t (&r)[1], const void *shared) {
    load<1, true>("ldmatrix.x1.trans", r, shared);
}
void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void *shared) {
    load<2, true>("ldmatrix.x2.trans", r, shared);
}
void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void *shared) {
    load<4, true>("ldmatrix.x4.trans", r, shared);
}
void stmatrix_x2(void *shared, const std::uint32_t (&r)[2]) {
    store<2>("stmatrix.x2", shared, r);
}
void stmatrix_x4(void *shared, const std::uint32_t (&r)[4]) {
    store<4>("stmatrix.x4", shared, r);
}

std::uint32_t shuffle_bits(std::uint32_t mask, std::uint32_t bits, std::int32_t lanes,
                           std::int32_t width, char mode) {
    static const WarpInstruction instruction{"__shfl_sync", exchange};
    const auto self = static_cast<std::int32_t>(current_thread->lane());
    const std::int32_t first = self & ~(width - 1);
    std::int32_t source = self;
    switch (mode) {
    case 'i':
        source = first | (lanes & (width - 1));
        break;
    case 'x':
        // Only parts that lie behind are out of reach.
        source = (self ^ lanes) < first + width ? self ^ lanes : self;
        break;
    case 'u':
        source = self - lanes >= first ? self - lanes : self;
        break;
    default:
        source = self + lanes < first + width ? self + lanes : self;
        break;
    }
    if ((mask >> source & 1) == 0) {
        current_block->fail("shuffles from lane " + std::to_string(source) +
                            ", which takes no part");
    }
    Shuffle operands{bits, static_cast<std::uint32_t>(source), 0};
    current_block->execute(instruction, mask, &operands);
    return operands.taken;
}

std::uint32_t ballot(std::uint32_t mask, bool predicate) {
    static const WarpInstruction instruction{"__ballot_sync", vote};
    Ballot operands{predicate, 0};
    current_block->execute(instruction, mask, &operands);
    return operands.result;
}

} // namespace twinstream::emulator

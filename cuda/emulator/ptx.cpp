// Asynchronous copies, barriers, shuffles and 8x8 matrix loads and stores.

#include "ptx.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "block.hpp"
#include "hopper.hpp"
#include "memory.hpp"
#include "race.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t all_lanes = 0xffffffffu;
// More than any pipeline holds; a loop that never waits ends here.
constexpr std::size_t copies_len_max = 4096;

// What a copy and a row of an 8x8 matrix hold.
struct Row {
    std::uint16_t values[8];
};

// What a thread does to a row, and others are to know of.
void read_row(const void *at) { tell_read(at, sizeof(Row)); }
void write_row(void *at) {
    tell_write(at, sizeof(Row));
    note_write(shared_address(at), sizeof(Row));
}

void perform(const Copy &copy) {
    write_row(copy.shared);
    if (copy.source != nullptr) {
        read_row(copy.source);
        std::memcpy(copy.shared, copy.source, sizeof(Row));
    } else {
        std::memset(copy.shared, 0, sizeof(Row));
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

struct Ldmatrix {
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
                return static_cast<const Ldmatrix *>(operands[matrix * 8 + number])->row;
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
            static_cast<Ldmatrix *>(operands[lane])->results[matrix] = low | high << 16;
        }
    }
}

template <std::uint32_t matrices_len, bool is_transposed>
void load(const char *name, std::uint32_t *results, std::uint32_t shared) {
    static const WarpInstruction instruction{name, load_matrices<matrices_len, is_transposed>};
    Ldmatrix operands;
    operands.results = results;
    if (current_thread->lane() < matrices_len * 8) {
        const unsigned char *row =
            current_block->check_shared(shared, sizeof(Row), sizeof(Row), name);
        read_row(row);
        std::memcpy(&operands.row, row, sizeof(Row));
    }
    current_block->execute(instruction, all_lanes, &operands);
}

struct StoreMatrix {
    std::uint32_t values[4];
    Row row; // written by the lane itself once it is complete
};

template <std::uint32_t matrices_len, bool is_transposed>
void store_matrices(void *const operands[warp_lanes], std::uint32_t) {
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        const auto *from = static_cast<const StoreMatrix *>(operands[lane]);
        for (std::uint32_t matrix = 0; matrix < matrices_len; ++matrix) {
            const std::uint32_t outer = lane / 4, inner = lane % 4 * 2;
            std::uint16_t pair[2];
            std::memcpy(pair, &from->values[matrix], sizeof pair);
            for (std::uint32_t i = 0; i < 2; ++i) {
                const std::uint32_t row = is_transposed ? inner + i : outer;
                const std::uint32_t column = is_transposed ? outer : inner + i;
                static_cast<StoreMatrix *>(operands[matrix * 8 + row])->row.values[column] =
                    pair[i];
            }
        }
    }
}

template <std::uint32_t matrices_len, bool is_transposed>
void store(const char *name, std::uint32_t shared, const std::uint32_t *values) {
    static const WarpInstruction instruction{name, store_matrices<matrices_len, is_transposed>};
    StoreMatrix operands;
    std::copy_n(values, matrices_len, operands.values);
    unsigned char *row = nullptr;
    if (current_thread->lane() < matrices_len * 8) {
        row = current_block->check_shared(shared, sizeof(Row), sizeof(Row), name);
    }
    current_block->execute(instruction, all_lanes, &operands);
    if (row != nullptr) {
        write_row(row);
        std::memcpy(row, &operands.row, sizeof(Row));
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

unsigned char *shared_memory() { return current_block->shared(); }

std::uint32_t shared_address(const void *pointer) {
    const auto offset = static_cast<const unsigned char *>(pointer) - current_block->shared();
    if (offset < 0 || offset > current_block->launch().shared_bytes) {
        current_block->fail("takes an address outside shared memory for one in it");
    }
    return static_cast<std::uint32_t>(offset);
}

void cp_async_16(std::uint32_t shared, const void *source, std::uint32_t source_bytes) {
    Block &block = *current_block;
    Thread &self = *current_thread;
    unsigned char *const to = block.check_shared(shared, sizeof(Row), sizeof(Row), "cp.async");
    if (source_bytes != 0) {
        if (source_bytes != sizeof(Row)) {
            block.fail("copies %u bytes with cp.async, not 0 or 16", source_bytes);
        }
        if (reinterpret_cast<std::uintptr_t>(source) % sizeof(Row) != 0) {
            block.fail("copies with cp.async from an address that is not aligned to 16");
        }
        if (!is_device_memory(source, sizeof(Row))) {
            block.fail("copies with cp.async from outside device memory");
        }
    }
    if (self.copies.size() == copies_len_max) {
        block.fail("issues copies with cp.async and never waits for them");
    }
    write_row(to);
    std::memset(to, poison, sizeof(Row));
    self.copies.push_back({to, source_bytes == 0 ? nullptr : source, self.copy_groups});
}

void cp_async_commit() { current_thread->copy_groups += 1; }

void cp_async_wait(std::uint32_t pending) {
    Thread &self = *current_thread;
    if (self.copy_groups > pending) {
        perform_until(self, self.copy_groups - pending);
    }
}

void barrier_sync(std::uint32_t number) {
    current_block->wait_at_barrier(number, current_block->threads_len());
}

void barrier_sync(std::uint32_t number, std::uint32_t threads_len) {
    current_block->wait_at_barrier(number, threads_len);
}

void wait_for_previous_kernel() {
    if (current_block->is_early()) {
        // Copies otherwise end as late as they may; here the earliest moment is the one that shows
        // a copy of what the kernel before is still to write.
        perform_until(*current_thread, current_thread->copy_groups + 1);
    }
    current_block->wait_for_previous_kernel();
}

void barrier_arrive(std::uint32_t number, std::uint32_t threads_len) {
    current_block->arrive_at_barrier(number, threads_len);
}

void syncwarp(std::uint32_t mask) {
    static const WarpInstruction instruction{"__syncwarp", [](void *const *, std::uint32_t) {},
                                             true};
    current_block->execute(instruction, mask, nullptr);
}

void ldmatrix_x1(std::uint32_t (&to)[1], std::uint32_t shared) {
    load<1, false>("ldmatrix.x1", to, shared);
}
void ldmatrix_x2(std::uint32_t (&to)[2], std::uint32_t shared) {
    load<2, false>("ldmatrix.x2", to, shared);
}
void ldmatrix_x4(std::uint32_t (&to)[4], std::uint32_t shared) {
    load<4, false>("ldmatrix.x4", to, shared);
}
void ldmatrix_x1_transposed(std::uint32_t (&to)[1], std::uint32_t shared) {
    load<1, true>("ldmatrix.x1.trans", to, shared);
}
void ldmatrix_x2_transposed(std::uint32_t (&to)[2], std::uint32_t shared) {
    load<2, true>("ldmatrix.x2.trans", to, shared);
}
void ldmatrix_x4_transposed(std::uint32_t (&to)[4], std::uint32_t shared) {
    load<4, true>("ldmatrix.x4.trans", to, shared);
}
void store_matrix_x2(std::uint32_t shared, const std::uint32_t (&from)[2]) {
    store<2, false>("stmatrix.x2", shared, from);
}
void store_matrix_x4(std::uint32_t shared, const std::uint32_t (&from)[4]) {
    store<4, false>("stmatrix.x4", shared, from);
}
void store_matrix_x1_transposed(std::uint32_t shared, const std::uint32_t (&from)[1]) {
    store<1, true>("stmatrix.x1.trans", shared, from);
}
void store_matrix_x2_transposed(std::uint32_t shared, const std::uint32_t (&from)[2]) {
    store<2, true>("stmatrix.x2.trans", shared, from);
}
void store_matrix_x4_transposed(std::uint32_t shared, const std::uint32_t (&from)[4]) {
    store<4, true>("stmatrix.x4.trans", shared, from);
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
        current_block->fail("shuffles from lane %d, which takes no part", source);
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

// Barriers in shared memory, and the tensor copies that report to them.
//
// The state of a barrier lies in its 8 bytes of shared memory, so that overwriting it is seen.
// Copies are left to the block's copy engine; what they were told is kept by value until then.

#include <array>
#include <cstring>

#include "block.hpp"
#include "hopper.hpp"
#include "memory.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t arrivals_len_max = (1u << 20) - 1;
constexpr std::int32_t bytes_max = (1 << 20) - 1;
constexpr std::size_t element_bytes = 2;

// Poisoned memory has is_foreign set, so that a barrier that was never made is told.
struct State {
    std::uint64_t arrivals_len : 20; // of every phase
    std::uint64_t missing : 20;      // arrivals of this phase
    std::int64_t bytes : 22;         // expected and not yet copied
    std::uint64_t parity : 1;        // of this phase
    std::uint64_t is_foreign : 1;
};
static_assert(sizeof(State) == 8);

State *state_at(std::uint32_t barrier, const char *instruction) {
    auto *state = reinterpret_cast<State *>(
        current_block->check_shared(barrier, sizeof(State), sizeof(State), instruction));
    if (state->is_foreign || state->arrivals_len == 0) {
        current_block->fail("uses byte %u of shared memory as a barrier with %s, but none is there",
                            barrier, instruction);
    }
    return state;
}

void end_phase_if_complete(State *state) {
    if (state->missing == 0 && state->bytes == 0) {
        state->parity ^= 1u;
        state->missing = state->arrivals_len;
        current_block->wake(state);
    }
}

void expect(State *state, std::int32_t bytes) {
    const std::int64_t sum = state->bytes + bytes;
    if (sum > bytes_max || sum < -bytes_max) {
        current_block->fail("expects %lld bytes at a barrier, which counts to %d",
                            static_cast<long long>(sum), bytes_max);
    }
    state->bytes = sum;
}

void arrive_at(State *state) {
    if (state->missing == 0) {
        current_block->fail("arrives at a barrier more often than it was made for");
    }
    state->missing -= 1u;
    order_release(state);
    end_phase_if_complete(state);
}

// Where a copy puts its rows: one after the other, swizzled where the map says so.
void put(std::uint32_t shared, const TensorMap &map, const void *row, std::uint32_t row_bytes) {
    const auto *from = static_cast<const unsigned char *>(row);
    for (std::uint32_t chunk = 0; chunk < row_bytes; chunk += 16) {
        const std::uint32_t at = shared + chunk;
        std::memcpy(current_block->shared() + (map.shape.is_swizzled ? swizzle_128(at) : at),
                    from + chunk, 16);
    }
}

using Coordinates = std::array<std::int64_t, tensor_rank_max>;

// Elements of one row from these coordinates on; zero where one lies outside the tensor.
void read_row(const TensorShape &shape, const Coordinates &first, std::uint32_t elements_len,
              std::uint16_t *row) {
    std::memset(row, 0, elements_len * element_bytes);
    const auto *base = static_cast<const unsigned char *>(shape.address);
    for (std::uint32_t i = 1; i < shape.rank; ++i) {
        if (first[i] < 0 || static_cast<std::uint64_t>(first[i]) >= shape.dimensions[i]) {
            return;
        }
        base += static_cast<std::uint64_t>(first[i]) * shape.strides_bytes[i - 1];
    }
    for (std::uint32_t i = 0; i < elements_len; ++i) {
        const std::int64_t at = first[0] + i;
        if (at >= 0 && static_cast<std::uint64_t>(at) < shape.dimensions[0]) {
            const unsigned char *element = base + static_cast<std::size_t>(at) * element_bytes;
            if (!is_device_memory(element, element_bytes)) {
                current_block->fail("copies a tensor from outside device memory");
            }
            std::memcpy(&row[i], element, element_bytes);
        }
    }
}

void copy_box(std::uint32_t shared, const TensorMap &map, const Coordinates &first) {
    std::uint32_t rows_len = 1;
    for (std::uint32_t i = 1; i < map.shape.rank; ++i) {
        rows_len *= map.taken(i);
    }
    const std::uint32_t row_bytes = map.taken(0) * element_bytes;
    for (std::uint32_t number = 0; number < rows_len; ++number) {
        Coordinates at = first;
        std::uint32_t rest = number;
        for (std::uint32_t i = 1; i < map.shape.rank; ++i) {
            at[i] += rest % map.taken(i) * map.shape.element_strides[i];
            rest /= map.taken(i);
        }
        std::uint16_t row[256];
        read_row(map.shape, at, map.taken(0), row);
        put(shared + number * row_bytes, map, row, row_bytes);
    }
}

// From pixel to pixel within the corners of an image, then to the next image.
void step(const TensorMap &map, Coordinates &at) {
    const std::uint32_t last = map.shape.rank - 1;
    for (std::uint32_t i = 1; i < last; ++i) {
        const auto end =
            static_cast<std::int64_t>(map.shape.dimensions[i]) + map.corner_upper[i - 1];
        at[i] += map.shape.element_strides[i];
        if (at[i] < end) {
            return;
        }
        at[i] = map.corner_lower[i - 1];
    }
    at[last] += 1;
}

void copy_pixels(std::uint32_t shared, const TensorMap &map, Coordinates at,
                 const std::array<std::uint16_t, tensor_rank_max - 2> &offsets) {
    const std::uint32_t row_bytes = map.channels * element_bytes;
    for (std::uint32_t pixel = 0; pixel < map.pixels; ++pixel) {
        Coordinates read = at;
        for (std::uint32_t i = 1; i + 1 < map.shape.rank; ++i) {
            read[i] += offsets[i - 1];
        }
        std::uint16_t row[256];
        read_row(map.shape, read, map.channels, row);
        put(shared + pixel * row_bytes, map, row, row_bytes);
        step(map, at);
    }
}

// Checks, poisons and leaves the copy to the engine.
template <class Perform>
void start_copy(std::uint32_t shared, const TensorMap &map, std::uint32_t barrier,
                Perform perform) {
    static const char name[] = "cp.async.bulk.tensor";
    const std::uint32_t bytes = map.copied_bytes();
    current_block->check_shared(shared, bytes, map.shape.is_swizzled ? 1024 : 128, name);
    State *const state = state_at(barrier, name);
    std::memset(current_block->shared() + shared, poison, bytes);
    order_release(state);
    current_block->defer(name, [=] {
        perform();
        expect(state, -static_cast<std::int32_t>(bytes));
        end_phase_if_complete(state);
    });
}

Coordinates widen(const TensorMap &map, const std::int32_t *coordinates) {
    Coordinates wide{};
    for (std::uint32_t i = 0; i < map.shape.rank; ++i) {
        wide[i] = coordinates[i];
    }
    return wide;
}

} // namespace

void barrier_init(std::uint32_t barrier, std::uint32_t arrivals_len) {
    if (arrivals_len == 0 || arrivals_len > arrivals_len_max) {
        current_block->fail("makes a barrier for %u arrivals", arrivals_len);
    }
    unsigned char *const at =
        current_block->check_shared(barrier, sizeof(State), sizeof(State), "mbarrier.init");
    State state{};
    state.arrivals_len = arrivals_len;
    state.missing = arrivals_len;
    std::memcpy(at, &state, sizeof state);
}

void barrier_arrive(std::uint32_t barrier) { arrive_at(state_at(barrier, "mbarrier.arrive")); }

void barrier_arrive_expect(std::uint32_t barrier, std::uint32_t bytes) {
    State *const state = state_at(barrier, "mbarrier.arrive.expect_tx");
    expect(state, static_cast<std::int32_t>(bytes));
    arrive_at(state);
}

void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
    State *const state = state_at(barrier, "mbarrier.try_wait");
    while (state->parity == (parity & 1)) {
        current_block->sleep(state, "mbarrier.try_wait");
    }
    order_acquire(state);
}

void copy_tensor(std::uint32_t shared, const TensorMap &map, const std::int32_t *coordinates,
                 std::uint32_t barrier) {
    if (map.is_im2col) {
        current_block->fail("copies a tile with an im2col map");
    }
    const Coordinates first = widen(map, coordinates);
    start_copy(shared, map, barrier, [=] { copy_box(shared, map, first); });
}

void copy_im2col(std::uint32_t shared, const TensorMap &map, const std::int32_t *coordinates,
                 const std::uint16_t *offsets, std::uint32_t barrier) {
    if (!map.is_im2col) {
        current_block->fail("copies pixels with a tiled map");
    }
    std::array<std::uint16_t, tensor_rank_max - 2> by{};
    for (std::uint32_t i = 0; i + 2 < map.shape.rank; ++i) {
        by[i] = offsets[i];
    }
    const Coordinates first = widen(map, coordinates);
    start_copy(shared, map, barrier, [=] { copy_pixels(shared, map, first, by); });
}

} // namespace twinstream::emulator

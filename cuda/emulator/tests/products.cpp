// Products of a warpgroup: every legal number of columns, operands from registers and from all
// layouts of shared memory, against the ISA's formulas; and what is refused.

#include <cmath>
#include <random>
#include <vector>

#include "../../ptx/wgmma.cuh"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
namespace ptx = twinstream::ptx;
using ptx::OperandLayout;

constexpr std::uint32_t region_bytes = 49152;
constexpr std::uint32_t k_bytes = 32;

// An operand within a region of shared memory.
struct Operand {
    std::uint32_t start;
    OperandLayout layout;
    std::uint32_t leading_bytes, stride_bytes;
    std::uint32_t base_offset;

    std::uint64_t descriptor() const {
        return ptx::describe_operand(start, layout, leading_bytes, stride_bytes) |
               std::uint64_t{base_offset} << 49;
    }
    // Where a byte of K of a row lies. Without a swizzle: core matrices of eight rows of 16 bytes.
    // With one: rows of 64 or 128 bytes, whose chunks are permuted by where they lie in a pattern
    // of eight, which begins at a multiple of its size or as the base offset says.
    std::uint32_t at(std::uint32_t row, std::uint32_t byte) const {
        const std::uint32_t core = row / 8, in_core = row % 8;
        if (layout == OperandLayout::plain) {
            return start + core * stride_bytes + in_core * 16 + byte / 16 * leading_bytes +
                   byte % 16;
        }
        const bool is_128 = layout == OperandLayout::swizzle_128;
        const std::uint32_t linear =
            start + core * stride_bytes + in_core * (is_128 ? 128 : 64) + byte;
        const std::uint32_t line = (linear / 128 + 8 - base_offset) % (is_128 ? 8 : 4);
        const std::uint32_t chunk = linear / 16 % 8 ^ line;
        return linear / 128 * 128 + chunk * 16 + linear % 16;
    }
};

struct Product {
    Operand a, b;
    bool has_a_in_registers, is_integer;
    std::uint32_t columns;
    const unsigned char *memory;
    std::uint32_t *sums; // [128 threads][128], in and out
    std::uint32_t *early;
};

// Registers i of lane l hold, with g = l / 4 and t = l % 4, of f16: (g, 2t), (g + 8, 2t),
// (g, 2t + 8), (g + 8, 2t + 8), each and the next; of bytes 4t and 4t + 16, each and three more.
void load_registers(const Product &p, std::uint32_t (&registers)[4]) {
    const std::uint32_t warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4;
    const std::uint32_t member = threadIdx.x % 4;
    for (std::uint32_t i = 0; i < 4; ++i) {
        const std::uint32_t row = warp * 16 + group + (i == 1 || i == 3 ? 8 : 0);
        const std::uint32_t byte = member * 4 + (i >= 2 ? 16 : 0);
        std::memcpy(&registers[i], p.memory + p.a.at(row, byte), 4);
    }
}

template <class Sum, class Left>
void multiply_with(const Product &p, Sum *sums, const Left &a) {
    if constexpr (sizeof(Sum) == 4 && Sum(0.5f) == Sum(0)) {
        emulator::wgmma_s8u8(sums, p.columns, a, p.b.descriptor(), true);
    } else {
        emulator::wgmma_f16(sums, p.columns, a, p.b.descriptor(), true);
    }
}

template <class Sum>
void multiply(const Product &p) {
    if (threadIdx.x == 0) {
        std::memcpy(emulator::shared_memory(), p.memory, region_bytes);
    }
    emulator::fence_proxy_async_shared();
    __syncthreads();
    Sum sums[128];
    std::uint32_t registers[4];
    std::memcpy(sums, p.sums + threadIdx.x * 128, sizeof sums);
    load_registers(p, registers);
    ptx::wgmma_fence();
    if (p.has_a_in_registers) {
        multiply_with(p, sums, registers);
    } else {
        multiply_with(p, sums, p.a.descriptor());
    }
    ptx::wgmma_commit();
    std::memcpy(&p.early[threadIdx.x], sums, 4);
    ptx::wgmma_wait<0>();
    std::memcpy(p.sums + threadIdx.x * 128, sums, sizeof sums);
}

template <class Sum>
Sum expected_sum(const Product &p, std::uint32_t row, std::uint32_t column) {
    Sum sum = 0;
    for (std::uint32_t k = 0; k < (p.is_integer ? k_bytes : k_bytes / 2); ++k) {
        const std::uint32_t byte = p.is_integer ? k : k * 2;
        const unsigned char *const a = p.memory + p.a.at(row, byte);
        const unsigned char *const b = p.memory + p.b.at(column, byte);
        if (p.is_integer) {
            sum += static_cast<Sum>(static_cast<std::int8_t>(*a) * *b);
        } else {
            sum += static_cast<Sum>(
                emulator::unpack_f16(a[0] | static_cast<std::uint32_t>(a[1]) << 8) *
                emulator::unpack_f16(b[0] | static_cast<std::uint32_t>(b[1]) << 8));
        }
    }
    return sum;
}

// Whole numbers, so that every sum is exact.
template <class Sum>
void check_product(Product p, std::mt19937_64 &random) {
    std::vector<unsigned char> memory(region_bytes);
    for (std::size_t i = 0; i < memory.size(); i += 2) {
        const int whole = static_cast<int>(random() % 9) - 4;
        const std::uint16_t bits = p.is_integer ? static_cast<std::uint16_t>(random())
                                                : emulator::round_to_f16(static_cast<float>(whole));
        std::memcpy(&memory[i], &bits, 2);
    }
    std::vector<Sum> sums(128 * 128);
    for (Sum &sum : sums) {
        sum = static_cast<Sum>(static_cast<int>(random() % 100) - 50);
    }
    const std::vector<Sum> before = sums;
    std::vector<std::uint32_t> early(128);
    p.memory = memory.data();
    p.sums = reinterpret_cast<std::uint32_t *>(sums.data());
    p.early = early.data();
    check_is(run<multiply<Sum>>(1, 128, region_bytes, p), "");
    for (std::uint32_t thread = 0; thread < 128; ++thread) {
        CHECK(early[thread] == 0xffffffffu);
        for (std::uint32_t i = 0; i < 128; ++i) {
            const std::uint32_t row = thread / 32 * 16 + thread % 32 / 4 + (i % 4 >= 2 ? 8 : 0);
            const std::uint32_t column = i / 4 * 8 + thread % 4 * 2 + i % 2;
            const Sum added = i * 2 < p.columns ? expected_sum<Sum>(p, row, column) : Sum(0);
            CHECK(sums[thread * 128 + i] == before[thread * 128 + i] + added);
        }
    }
}

Operand draw_operand(std::mt19937_64 &random, std::uint32_t rows) {
    const auto below = [&](std::uint32_t bound) {
        return static_cast<std::uint32_t>(random() % bound);
    };
    switch (random() % 5) {
    case 0: // two core matrices beside one another
        return {below(64) * 16, OperandLayout::plain, 128, 256, 0};
    case 1: // rows that overlap: the next 16 bytes of a row are the next row
        return {below(64) * 16, OperandLayout::plain, 16, 128, 0};
    case 2: // planes of eight values, rows any number of planes' rows apart
        return {below(64) * 16, OperandLayout::plain, 16 * (rows + below(9)), 128, 0};
    case 3: // from any row on: rows lie where a pattern from 0 on has them
        return {below(16) * 64 + below(3) * 16, OperandLayout::swizzle_64, 16, 512, 0};
    default: // the pattern begins at some line
        return {below(8) * 1024 % 8192 + below(7) * 16 % 112, OperandLayout::swizzle_128, 16, 1024,
                below(8)};
    }
}

void check_layouts(std::mt19937_64 &random) {
    for (int round = 0; round < 60; ++round) {
        Product p{};
        p.is_integer = round % 2 != 0;
        p.has_a_in_registers = random() % 3 == 0;
        const std::uint32_t count = static_cast<std::uint32_t>(random() % 16);
        p.columns = p.is_integer ? (count == 0   ? 8
                                    : count == 1 ? 24
                                                 : (count + 1) * 16)
                                 : (count * 2 + 1 + random() % 2) * 8;
        p.columns = p.columns > 256 ? 256 : p.columns;
        p.a = draw_operand(random, 64);
        p.b = draw_operand(random, p.columns);
        if (p.is_integer) {
            check_product<std::int32_t>(p, random);
        } else {
            check_product<float>(p, random);
        }
    }
}

struct Case {
    int number;
};

void go_astray(const Case &p) {
    float sums[32] = {};
    std::int32_t integers[32] = {};
    std::uint32_t registers[4] = {1, 2, 3, 4};
    const std::uint64_t a = ptx::describe_rows_128(0), b = ptx::describe_rows_128(8192);
    const std::uint32_t warp = threadIdx.x / 32;
    if (p.number != 0) {
        ptx::wgmma_fence();
    }
    switch (p.number) {
    case 1: // an eighth row of 128 bytes, and beyond the swizzle's
        emulator::wgmma_f16(sums, 8, a + 7, b, false);
        break;
    case 2: // a layout that is not there
        emulator::wgmma_f16(sums, 8, a | std::uint64_t{3} << 62, b, false);
        break;
    case 3:
        emulator::wgmma_f16(sums, 12, a, b, false);
        break;
    case 4: // legal of f16 alone
        emulator::wgmma_s8u8(integers, 40, a, b, false);
        break;
    case 5: // beyond shared memory
        emulator::wgmma_f16(sums, 64, a, ptx::describe_rows_128(15360), false);
        break;
    case 6:
        emulator::wgmma_f16(sums, 8, registers, b, false);
        ptx::wgmma_commit();
        registers[2] += 1;
        ptx::wgmma_wait<0>();
        break;
    case 7: // one warp multiplies something else
        emulator::wgmma_f16(sums, warp == 2 ? 16 : 8, a, b, false);
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        break;
    case 8: // one warp leaves it out
        if (warp != 1) {
            emulator::wgmma_f16(sums, 8, a, b, false);
            ptx::wgmma_commit();
            ptx::wgmma_wait<0>();
        }
        return;
    default:
        emulator::wgmma_f16(sums, 8, a, b, false);
        break;
    }
}

void check_misuse() {
    const std::string lacks_fence = "executes wgmma without wgmma.fence since it last waited";
    const std::string parts[] = {
        lacks_fence,
        "gives wgmma the descriptor 4000004000010007, whose rows leave the swizzle",
        "gives wgmma the descriptor c000004000010000, of a layout that is not emulated",
        "executes wgmma for 12 columns",
        "executes wgmma for 40 columns",
        "reaches byte 16384 of shared memory with wgmma.mma_async; it has 16384",
        "changed registers of a that wgmma still read",
        "executes wgmma.mma_async where another warp of its warpgroup has executed something else",
        "exits last, and a warp of warpgroup 0 has left out what others of it executed",
    };
    for (int number = 0; number < 9; ++number) {
        const std::string error = run<go_astray>(1, 128, 16384, Case{number});
        if (error.find(parts[number]) == std::string::npos) {
            check_is(error, parts[number]);
        }
    }
    const std::string error = run<go_astray>(1, 96, 16384, Case{9});
    CHECK(error.find("executes wgmma.mma_async in a warpgroup that lacks warps") !=
          std::string::npos);
}

} // namespace

void check_products(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    check_layouts(random);
    check_misuse();
}

// wgmma: products of a warpgroup that read operands from shared memory, in the background.
//
// Every warp computes its own 16 of the 64 rows when it waits.

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "hopper.hpp"
#include "mma.hpp"
#include "race.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t all_lanes = 0xffffffffu;
constexpr std::size_t products_len_max = 1024;
constexpr std::uint32_t chunk_bytes = 16;
// K of one instruction, of f16 and of 8-bit integers alike.
constexpr std::uint32_t step_bytes = 32;
constexpr std::uint32_t step_chunks = step_bytes / chunk_bytes;
constexpr const char *name = "wgmma.mma_async";

// A K-major operand as its descriptor has it.
struct Operand {
    std::uint32_t start;
    std::uint32_t leading_bytes; // to the next chunk of K, where nothing is swizzled
    std::uint32_t stride_bytes;  // to the next eight rows
    std::uint32_t base_offset;
    Swizzle swizzle;

    // Where 16 bytes of a row lie.
    std::uint32_t chunk(std::uint32_t row, std::uint32_t chunk) const {
        const std::uint32_t eight_rows = start + row / 8 * stride_bytes;
        if (swizzle == Swizzle::none) {
            return eight_rows + row % 8 * chunk_bytes + chunk * leading_bytes;
        }
        const std::uint32_t row_bytes = static_cast<std::uint32_t>(swizzle);
        return swizzled(eight_rows + row % 8 * row_bytes + chunk * chunk_bytes, swizzle,
                        base_offset);
    }
};

Operand decode(std::uint64_t bits) {
    constexpr std::uint64_t known_bits = 0xc00e3fff3fff3fffu;
    constexpr Swizzle swizzles[] = {Swizzle::none, Swizzle::b128, Swizzle::b64};
    const std::uint64_t layout = bits >> 62;
    if (layout == 3 || (bits & ~known_bits) != 0) {
        current_block->fail("gives wgmma the descriptor %016llx, of a layout that is not emulated",
                            static_cast<unsigned long long>(bits));
    }
    const auto field = [bits](unsigned shift) {
        return static_cast<std::uint32_t>(bits >> shift & 0x3fff) << 4;
    };
    const Operand operand{field(0), field(16), field(32),
                          static_cast<std::uint32_t>(bits >> 49 & 7), swizzles[layout]};
    const std::uint32_t row_bytes = static_cast<std::uint32_t>(operand.swizzle);
    const bool is_swizzled = operand.swizzle != Swizzle::none;
    if (is_swizzled ? operand.start % row_bytes + step_bytes > row_bytes
                    : operand.base_offset != 0) {
        current_block->fail("gives wgmma the descriptor %016llx, whose rows leave the swizzle",
                            static_cast<unsigned long long>(bits));
    }
    return operand;
}

// Rows of an operand that one warp reads, or answers for: all four read all of b.
void check_rows(const Operand &operand, std::uint32_t first, std::uint32_t end,
                std::uint32_t issued, bool is_issue) {
    for (std::uint32_t row = first; row < end; ++row) {
        for (std::uint32_t chunk = 0; chunk < step_chunks; ++chunk) {
            const std::uint32_t at = operand.chunk(row, chunk);
            const unsigned char *const bytes =
                current_block->check_shared(at, chunk_bytes, chunk_bytes, name);
            check_async_read(at, chunk_bytes, issued, name);
            if (is_issue) {
                tell_read(bytes, chunk_bytes);
            }
        }
    }
}

void check_operands(const Product &product, std::uint32_t warp, bool is_issue) {
    if (product.a_registers == nullptr) {
        check_rows(decode(product.a), warp * 16, warp * 16 + 16, product.issued, is_issue);
    }
    const std::uint32_t eights = product.columns / 8;
    check_rows(decode(product.b), eights * warp / 4 * 8, eights * (warp + 1) / 4 * 8,
               product.issued, is_issue);
}

// Four bytes of a row: two values of K or four.
std::uint32_t word_at(const Operand &operand, std::uint32_t row, std::uint32_t word) {
    std::uint32_t value;
    std::memcpy(&value,
                current_block->shared() + operand.chunk(row, word / 4) + word % 4 * sizeof value,
                sizeof value);
    return value;
}

using Left = std::uint32_t[warp_lanes][4];

// The fragments of a: lane l has words t and t + 4 of rows g and g + 8, alternating.
void gather(const std::array<Product *, warp_lanes> &of_lanes, std::uint32_t first_row,
            Left &left) {
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        const Product &own = *of_lanes[lane];
        if (own.a_registers != nullptr) {
            if (!std::equal(own.a_kept.begin(), own.a_kept.end(), own.a_registers)) {
                current_block->fail("changed registers of a that wgmma still read");
            }
            std::copy(own.a_kept.begin(), own.a_kept.end(), left[lane]);
            continue;
        }
        const Operand a = decode(own.a);
        for (std::uint32_t i = 0; i < 4; ++i) {
            left[lane][i] = word_at(a, first_row + lane / 4 + i % 2 * 8, lane % 4 + i / 2 * 4);
        }
    }
}

void multiply_f16(const std::array<Product *, warp_lanes> &of_lanes, const Left &left) {
    const Product &product = *of_lanes[0];
    const Operand b = decode(product.b);
    Fragments fragments[warp_lanes];
    void *operands[warp_lanes];
    for (std::uint32_t column = 0; column < product.columns; column += 8) {
        for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
            const std::uint32_t row = column + lane / 4, word = lane % 4;
            fragments[lane] = {static_cast<float *>(of_lanes[lane]->sum) + column / 2, left[lane],
                               word_at(b, row, word), word_at(b, row, word + 4)};
            operands[lane] = &fragments[lane];
        }
        multiply_warp()(operands, all_lanes);
    }
}

void multiply_integers(const std::array<Product *, warp_lanes> &of_lanes, const Left &left) {
    std::int8_t a[16][step_bytes];
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        for (std::uint32_t i = 0; i < 4; ++i) {
            std::memcpy(&a[lane / 4 + i % 2 * 8][lane % 4 * 4 + i / 2 * 16], &left[lane][i], 4);
        }
    }
    const Operand operand = decode(of_lanes[0]->b);
    for (std::uint32_t column = 0; column < of_lanes[0]->columns; ++column) {
        std::uint8_t b[step_bytes];
        for (std::uint32_t chunk = 0; chunk < step_chunks; ++chunk) {
            std::memcpy(b + chunk * chunk_bytes,
                        current_block->shared() + operand.chunk(column, chunk), chunk_bytes);
        }
        for (std::uint32_t row = 0; row < 16; ++row) {
            std::int32_t sum = 0;
            for (std::uint32_t k = 0; k < step_bytes; ++k) {
                sum += a[row][k] * b[k];
            }
            const std::uint32_t lane = row % 8 * 4 + column % 8 / 2;
            const std::uint32_t at = column / 8 * 4 + row / 8 * 2 + column % 2;
            auto *const to = static_cast<std::uint32_t *>(of_lanes[lane]->sum) + at;
            *to += static_cast<std::uint32_t>(sum); // wraps around
        }
    }
}

void multiply(const std::array<Product *, warp_lanes> &of_lanes, std::uint32_t warp) {
    const Product &product = *of_lanes[0];
    check_operands(product, warp, false);
    for (Product *const own : of_lanes) {
        auto *const sum = static_cast<std::uint32_t *>(own->sum);
        std::copy(own->before.begin(), own->before.end(), sum);
        if (!own->adds) {
            std::fill_n(sum, own->columns / 2, 0);
        }
    }
    Left left;
    gather(of_lanes, warp * 16, left);
    if (product.is_integer) {
        multiply_integers(of_lanes, left);
    } else {
        multiply_f16(of_lanes, left);
    }
}

// Takes the sums out of the thread's sight until the product is waited for; one that follows
// another on the same sums takes over what that leaves.
void hide(Product &product, std::uint32_t lane_products_before, const Thread &thread) {
    for (std::uint32_t i = 0; i < lane_products_before; ++i) {
        if (thread.products[i].sum == product.sum) {
            return;
        }
    }
    auto *const sum = static_cast<std::uint32_t *>(product.sum);
    product.before.assign(sum, sum + product.columns / 2);
    std::memset(sum, poison, product.columns / 2 * sizeof *sum);
}

struct Wait {
    Thread *thread;
    std::uint32_t pending;
};

void finish(void *const operands[warp_lanes], std::uint32_t) {
    const Unwatched lists_of_other_lanes;
    const auto lane_thread = [&](std::uint32_t lane) -> Thread & {
        return *static_cast<const Wait *>(operands[lane])->thread;
    };
    const Thread &first = lane_thread(0);
    const std::uint32_t pending = static_cast<const Wait *>(operands[0])->pending;
    std::uint32_t done = 0;
    while (done < first.products.size() &&
           first.products[done].group + pending < first.product_groups) {
        std::array<Product *, warp_lanes> of_lanes;
        for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
            of_lanes[lane] = &lane_thread(lane).products[done];
        }
        multiply(of_lanes, first.warp() % warpgroup_warps);
        done += 1;
    }
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        std::vector<Product> &products = lane_thread(lane).products;
        products.erase(products.begin(), products.begin() + done);
        for (std::uint32_t i = 0; done != 0 && i < products.size(); ++i) {
            if (products[i].before.empty()) {
                hide(products[i], i, lane_thread(lane));
            }
        }
    }
}

std::uint64_t signature_of(const Product &product) {
    const std::uint64_t prime = 0x100000001b3u;
    std::uint64_t value = product.columns * 8u + product.is_integer * 4u + product.adds * 2u +
                          (product.a_registers != nullptr);
    for (const std::uint64_t part : {product.a, product.b}) {
        value = (value ^ part) * prime;
    }
    return value;
}

// Lanes or warps that name different operands would each mean another product.
void issue(void *const operands[warp_lanes], std::uint32_t) {
    const auto &first = *static_cast<const Product *>(operands[0]);
    const std::uint32_t now = current_block->shadow().now();
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        auto &product = *static_cast<Product *>(operands[lane]);
        product.issued = now;
        if (signature_of(product) != signature_of(first)) {
            current_block->fail("executes wgmma with other operands than its warp");
        }
    }
    check_operands(first, current_thread->warp() % warpgroup_warps, true);
    current_block->follow_warpgroup(name, signature_of(first));
}

void start(Product product) {
    static const WarpInstruction instruction{name, issue};
    Thread &self = *current_thread;
    const std::uint32_t columns = product.columns;
    const bool is_legal =
        columns % 8 == 0 && columns >= 8 && columns <= 256 &&
        (!product.is_integer || columns % 16 == 0 || columns == 8 || columns == 24);
    if (!is_legal) {
        current_block->fail("executes wgmma for %u columns", columns);
    }
    if (!self.has_fenced) {
        current_block->fail("executes wgmma without wgmma.fence since it last waited");
    }
    if (self.products.size() == products_len_max) {
        current_block->fail("executes wgmma and never waits for it");
    }
    if (product.a_registers != nullptr) {
        std::copy_n(product.a_registers, 4, product.a_kept.begin());
    }
    product.group = self.product_groups;
    {
        const Unwatched own_list;
        self.products.push_back(std::move(product));
        hide(self.products.back(), static_cast<std::uint32_t>(self.products.size() - 1), self);
    }
    current_block->execute(instruction, all_lanes, &self.products.back());
}

Product product_of(void *sum, std::uint32_t columns, bool is_integer, bool adds,
                   const std::uint32_t *a_registers, std::uint64_t a, std::uint64_t b) {
    return {sum, columns, is_integer, adds, a_registers, {}, a, b, 0, 0, {}};
}

} // namespace

void wgmma_fence() { current_thread->has_fenced = true; }

void wgmma_commit() { current_thread->product_groups += 1; }

void wgmma_wait(std::uint32_t pending) {
    // What was read, was for all lanes; any of them may tell others so.
    static const WarpInstruction instruction{"wgmma.wait_group", finish, true};
    current_thread->has_fenced = false;
    Wait operands{current_thread, pending};
    current_block->execute(instruction, all_lanes, &operands);
}

void wgmma_f16(float *sum, std::uint32_t columns, std::uint64_t a, std::uint64_t b, bool adds) {
    start(product_of(sum, columns, false, adds, nullptr, a, b));
}

void wgmma_f16(float *sum, std::uint32_t columns, const std::uint32_t (&a)[4], std::uint64_t b,
               bool adds) {
    start(product_of(sum, columns, false, adds, a, 0, b));
}

void wgmma_s8u8(std::int32_t *sum, std::uint32_t columns, std::uint64_t a, std::uint64_t b,
                bool adds) {
    start(product_of(sum, columns, true, adds, nullptr, a, b));
}

void wgmma_s8u8(std::int32_t *sum, std::uint32_t columns, const std::uint32_t (&a)[4],
                std::uint64_t b, bool adds) {
    start(product_of(sum, columns, true, adds, a, 0, b));
}

} // namespace twinstream::emulator

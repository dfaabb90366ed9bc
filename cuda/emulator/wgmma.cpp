// wgmma: products of a warpgroup that read both operands from shared memory, in the background.
//
// Every warp computes its own 16 of the 64 rows when it waits. That all four warps of the warpgroup
// take part is not checked.

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "hopper.hpp"
#include "mma.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t all_lanes = 0xffffffffu;
constexpr std::size_t products_len_max = 1024;
constexpr std::uint32_t row_bytes = 128;
constexpr std::uint32_t swizzle_span_bytes = 1024;

struct Descriptor {
    std::uint32_t start;
    std::uint32_t eight_rows_bytes;
};

// Only what wgmma_descriptor makes: K-major, 128-byte swizzle, a pattern that begins at its tile.
Descriptor decode(std::uint64_t bits, std::uint32_t rows_len) {
    const Descriptor descriptor{static_cast<std::uint32_t>(bits & 0x3fff) << 4,
                                static_cast<std::uint32_t>(bits >> 32 & 0x3fff) << 4};
    const std::uint64_t layout = bits >> 62, base_offset = bits >> 49 & 7;
    if (layout != 1 || base_offset != 0 || descriptor.start % swizzle_span_bytes >= row_bytes) {
        current_block->fail("gives wgmma the descriptor %016llx, of a layout that is not emulated",
                            static_cast<unsigned long long>(bits));
    }
    // Whole rows, as the swizzle moves values within them.
    current_block->check_shared(descriptor.start / swizzle_span_bytes * swizzle_span_bytes,
                                (rows_len / 8 - 1) * descriptor.eight_rows_bytes + 8 * row_bytes,
                                swizzle_span_bytes, "wgmma");
    return descriptor;
}

// Two neighbouring values of K in a row.
std::uint32_t pair_at(const Descriptor &operand, std::uint32_t row, std::uint32_t k) {
    const std::uint32_t at =
        operand.start + row / 8 * operand.eight_rows_bytes + row % 8 * row_bytes + k * 2;
    std::uint32_t pair;
    std::memcpy(&pair, current_block->shared() + swizzle_128(at), sizeof pair);
    return pair;
}

void multiply(const std::array<Product *, warp_lanes> &of_lanes, std::uint32_t first_row) {
    const Product &product = *of_lanes[0];
    const Descriptor left = decode(product.left, 64);
    const Descriptor right = decode(product.right, product.columns);
    std::uint32_t a[warp_lanes][4];
    Fragments fragments[warp_lanes];
    void *operands[warp_lanes];
    for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
        Product &own = *of_lanes[lane];
        if (!own.before.empty()) {
            std::copy(own.before.begin(), own.before.end(), own.sum);
        }
        if (!own.adds) {
            std::fill_n(own.sum, own.columns / 2, 0.0f);
        }
        const std::uint32_t row = first_row + lane / 4, k = lane % 4 * 2;
        a[lane][0] = pair_at(left, row, k);
        a[lane][1] = pair_at(left, row + 8, k);
        a[lane][2] = pair_at(left, row, k + 8);
        a[lane][3] = pair_at(left, row + 8, k + 8);
        operands[lane] = &fragments[lane];
    }
    for (std::uint32_t column = 0; column < product.columns; column += 8) {
        for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
            const std::uint32_t row = column + lane / 4, k = lane % 4 * 2;
            fragments[lane] = {of_lanes[lane]->sum + column / 2, a[lane], pair_at(right, row, k),
                               pair_at(right, row, k + 8)};
        }
        multiply_warp()(operands, all_lanes);
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
    product.before.assign(product.sum, product.sum + product.columns / 2);
    std::memset(product.sum, poison, product.columns / 2 * sizeof(float));
}

struct Wait {
    Thread *thread;
    std::uint32_t pending;
};

void finish(void *const operands[warp_lanes], std::uint32_t) {
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
        multiply(of_lanes, first.warp() % 4 * 16);
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

// Lanes that name different operands would each mean another product.
void compare(void *const operands[warp_lanes], std::uint32_t) {
    const auto *first = static_cast<const Product *>(operands[0]);
    for (std::uint32_t lane = 1; lane < warp_lanes; ++lane) {
        const auto *product = static_cast<const Product *>(operands[lane]);
        if (product->left != first->left || product->right != first->right ||
            product->columns != first->columns || product->adds != first->adds) {
            current_block->fail("executes wgmma with other operands than its warp");
        }
    }
}

} // namespace

void wgmma_fence() { current_thread->has_fenced = true; }

void wgmma_commit() { current_thread->product_groups += 1; }

void wgmma_wait(std::uint32_t pending) {
    static const WarpInstruction instruction{"wgmma.wait_group", finish};
    const Unwatched lists_of_other_lanes;
    current_thread->has_fenced = false;
    Wait operands{current_thread, pending};
    current_block->execute(instruction, all_lanes, &operands);
}

void wgmma_m64k16(float *sum, std::uint32_t columns, std::uint64_t left, std::uint64_t right,
                  bool adds) {
    static const WarpInstruction instruction{"wgmma.mma_async", compare};
    Thread &self = *current_thread;
    if (columns == 0 || columns > 256 || columns % 8 != 0) {
        current_block->fail("executes wgmma for %u columns", columns);
    }
    if (!self.has_fenced) {
        current_block->fail("executes wgmma without wgmma.fence since it last waited");
    }
    if (self.products.size() == products_len_max) {
        current_block->fail("executes wgmma and never waits for it");
    }
    decode(left, 64);
    decode(right, columns);
    const Unwatched lists_of_other_lanes;
    self.products.push_back({sum, columns, left, right, adds, self.product_groups, {}});
    hide(self.products.back(), static_cast<std::uint32_t>(self.products.size() - 1), self);
    current_block->execute(instruction, all_lanes, &self.products.back());
}

} // namespace twinstream::emulator

// A block's share of a matrix product: the tile's sizes, where its operands lie in shared memory,
// and the multiplication of one stage by tensor cores.
//
// A stage holds 128 bytes of K, 64 values of f16 or 128 of 8 bits, for M rows of A and N rows of B,
// both K-major: a row is all banks of shared memory once. Its eight 16-byte chunks are permuted by
// chunk ^ (row % 8), so that eight rows at the same chunk (what ldmatrix reads at a time) as well
// as eight chunks of the same row (what copies write at a time) touch every bank once. Knows
// nothing of convolutions: who fills the stages is up to the caller.
#pragma once

#include "../product.cuh"

namespace twinstream {

// Bytes of K in a stage, and so of a row of it.
constexpr unsigned ROW_BYTES = 128;
constexpr unsigned ROW_CHUNKS = ROW_BYTES / CHUNK_BYTES;
// One matrix instruction takes two chunks of K, whatever the type: so many parts has a stage.
constexpr unsigned PART_LEN = ROW_CHUNKS / 2;

// Byte offset of a chunk within operand rows of ROW_BYTES.
constexpr TWINSTREAM_DEVICE unsigned operand_offset(unsigned row, unsigned chunk) {
    return row * ROW_BYTES + (chunk ^ row % ROW_CHUNKS) * CHUNK_BYTES;
}

// M x N outputs of a block, computed by WARPS_M x WARPS_N warps out of STAGES stages.
template <class Value_, unsigned M_, unsigned N_, unsigned WARPS_M_, unsigned WARPS_N_,
          unsigned STAGES_>
struct Tile {
    using Value = Value_;
    using Sum = typename Product<Value>::Sum;
    using Quad = typename Product<Value>::Quad;
    static constexpr unsigned M = M_;
    static constexpr unsigned N = N_;
    static constexpr unsigned WARPS_M = WARPS_M_;
    static constexpr unsigned STAGES = STAGES_;
    static constexpr unsigned THREADS = WARPS_M_ * WARPS_N_ * WARP_LEN;
    // Values in a chunk, and values of K in a stage.
    static constexpr unsigned CHUNK_LEN = CHUNK_BYTES / sizeof(Value);
    static constexpr unsigned STEP_LEN = ROW_BYTES / sizeof(Value);
    static constexpr unsigned WARP_M = M / WARPS_M_;
    static constexpr unsigned WARP_N = N / WARPS_N_;
    // Matrix instructions a warp and part of a stage: each 16 rows by 8 columns.
    static constexpr unsigned MMAS_M = WARP_M / 16;
    static constexpr unsigned MMAS_N = WARP_N / 8;
    static constexpr unsigned A_BYTES = M * ROW_BYTES;
    static constexpr unsigned STAGE_BYTES = (M + N) * ROW_BYTES;

    static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0, "ldmatrix loads 16 rows at a time");
    static_assert(THREADS % (8 * ROW_CHUNKS) == 0, "a thread's copies all have the same row % 8");
    static_assert(STAGES >= 2, "one stage is multiplied while others fill");
};

// What a warp multiplies at a time, and what it adds up.
template <class Tile>
struct Fragments {
    uint32_t a[Tile::MMAS_M][4];
    // Two neighbouring groups of 8 columns each.
    uint32_t b[Tile::MMAS_N / 2][4];
};

// sum[i][j] is the warp's 16 x 8 outputs at row 16 i and column 8 j, laid out as ptx/mma.cuh says.
template <class Tile>
struct Accumulators {
    typename Tile::Sum values[Tile::MMAS_M][Tile::MMAS_N][4];
};

// Where a lane reads its rows of a stage, and what of the tile its warp computes.
template <class Tile>
struct WarpMma {
    // First row and column of the warp within the tile.
    unsigned row;
    unsigned column;
    uint32_t a_offset;
    uint32_t b_offset;

    TWINSTREAM_DEVICE WarpMma() {
        const unsigned lane = threadIdx.x % WARP_LEN, warp = threadIdx.x / WARP_LEN;
        row = warp % Tile::WARPS_M * Tile::WARP_M;
        column = warp / Tile::WARPS_M * Tile::WARP_N;
        // Lanes 0-15 name the 16 rows at the first chunk of K, lanes 16-31 the same at the next.
        a_offset = operand_offset(row + lane % 16, lane / 16);
        // Lanes 0-7 name 8 columns at the first chunk of K, 8-15 at the next, 16-31 the next 8
        // columns.
        b_offset = Tile::A_BYTES + operand_offset(column + lane % 8 + lane / 16 * 8, lane / 8 % 2);
    }

    // Loads the operands of the stage's part_index-th part.
    TWINSTREAM_DEVICE void load(Fragments<Tile> &to, uint32_t stage, unsigned part_index) const {
        // The chunk's number is even at part 0, so stepping to another part flips bits 5 and 6
        // alone: it commutes with the permutation.
        const uint32_t a = stage + (a_offset ^ part_index * 2 * CHUNK_BYTES);
        const uint32_t b = stage + (b_offset ^ part_index * 2 * CHUNK_BYTES);
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < Tile::MMAS_M; ++i)
            ptx::ldmatrix_x4(to.a[i], a + i * 16 * ROW_BYTES);
        TWINSTREAM_UNROLL
        for (unsigned j = 0; j < Tile::MMAS_N / 2; ++j)
            ptx::ldmatrix_x4(to.b[j], b + j * 16 * ROW_BYTES);
    }
};

template <class Tile>
TWINSTREAM_DEVICE void mma(Accumulators<Tile> &accumulators, const Fragments<Tile> &of) {
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < Tile::MMAS_M; ++i) {
        TWINSTREAM_UNROLL
        for (unsigned j = 0; j < Tile::MMAS_N; ++j) {
            const uint32_t (&b)[4] = of.b[j / 2];
            Product<typename Tile::Value>::mma(accumulators.values[i][j], of.a[i], b[j % 2 * 2],
                                               b[j % 2 * 2 + 1]);
        }
    }
}

} // namespace twinstream

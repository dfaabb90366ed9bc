// The tile of a block that takes part of K: its sizes, and where everything lies in shared memory.
//
// The blocks of a cluster, one, two, four or eight, multiply the same 64 channels with the same
// pixels, each by its own steps of K. Then each adds up the sums of all for its boxes of eight
// pixels and makes them results. But for the largest tile, two blocks fit a multiprocessor. Knows
// nothing of convolutions.
#pragma once

#include "../ptx/ld_st.cuh"
#include "wgmma_tile.cuh"

namespace twinstream {

template <class Value, unsigned M_, unsigned STAGES_>
struct SplitTile : WarpgroupValues<Value> {
    using WarpgroupValues<Value>::ROW_BYTES;
    using WarpgroupValues<Value>::BLOCK_LEN;
    using WarpgroupValues<Value>::BLOCK_BYTES;
    static constexpr unsigned M = M_;
    static constexpr unsigned N = BLOCK_LEN;
    static constexpr unsigned STAGES = STAGES_;
    // A warpgroup multiplies, and a warp copies.
    static constexpr unsigned THREADS = WARPGROUP_LEN + WARP_LEN;

    static constexpr unsigned STAGE_BYTES = BLOCK_BYTES + M * ROW_BYTES;
    // Sums of a thread, four of eight pixels.
    static constexpr unsigned SUMS = M / 2;
    static constexpr unsigned BOX_LEN = 8;
    static constexpr unsigned BOXES = M / BOX_LEN;
    static constexpr unsigned BOX_BYTES = BOX_LEN * WarpgroupValues<Value>::BOX_ROW_BYTES;
    // What one block has of the sums of another for a box: 16 bytes a thread.
    static constexpr unsigned PART_SUMS_BYTES = WARPGROUP_LEN * CHUNK_BYTES;

    static constexpr unsigned CLUSTER_MAX = 8;

    static_assert(M % BOX_LEN == 0, "a box has eight pixels");
};

// A block's part of a tile: of K, and of the boxes, which are dealt out to the blocks one by one.
template <class Tile>
struct SplitRank {
    uint32_t rank;
    // Blocks of the cluster, a power of two.
    uint32_t len_log2;

    TWINSTREAM_DEVICE SplitRank(uint32_t own_rank, uint32_t cluster_len)
        : rank(own_rank), len_log2(31 - __clz(static_cast<int>(cluster_len))) {}

    TWINSTREAM_DEVICE uint32_t last() const { return (1u << len_log2) - 1; }
    TWINSTREAM_DEVICE bool is_alone() const { return len_log2 == 0; }

    // The first of so many steps that is the block's, and the first that is the next one's.
    TWINSTREAM_DEVICE uint32_t first_step(uint32_t step_len) const {
        return rank * step_len >> len_log2;
    }
    TWINSTREAM_DEVICE uint32_t end_step(uint32_t step_len) const {
        return (rank + 1) * step_len >> len_log2;
    }

    // Whose a box is, and the how many-th of that block's.
    TWINSTREAM_DEVICE uint32_t owner(uint32_t box) const { return box & last(); }
    TWINSTREAM_DEVICE uint32_t place(uint32_t box) const { return box >> len_log2; }
    TWINSTREAM_DEVICE bool is_own(uint32_t box) const { return owner(box) == rank; }
    TWINSTREAM_DEVICE uint32_t own_len() const { return (Tile::BOXES + last() - rank) >> len_log2; }
    TWINSTREAM_DEVICE uint32_t own_len_max() const { return (Tile::BOXES + last()) >> len_log2; }
};

// Shared memory of a block: stages, its own boxes, the sums that others send it for these, and
// barriers. A stage is `full` when its operands are there, and `empty` when all warps have
// multiplied them. The block's sums are `joined` when those of all others have come. Its boxes are
// `ready` when the residual lies there.
template <class Tile>
class SplitShared {
   public:
    // Boxes, and sums for them, by clusters of so many blocks.
    static constexpr TWINSTREAM_DEVICE unsigned joining_bytes(unsigned cluster_len) {
        return ceil_divide(Tile::BOXES, cluster_len) *
               (Tile::BOX_BYTES + (cluster_len - 1) * Tile::PART_SUMS_BYTES);
    }
    static constexpr TWINSTREAM_DEVICE unsigned joining_bytes_max() {
        unsigned bytes = 0;
        for (unsigned len = 1; len <= Tile::CLUSTER_MAX; len *= 2)
            bytes = joining_bytes(len) > bytes ? joining_bytes(len) : bytes;
        return bytes;
    }
    static constexpr unsigned BARRIERS = Tile::STAGES * Tile::STAGE_BYTES + joining_bytes_max();
    static constexpr unsigned BYTES = BARRIERS + 128;

    TWINSTREAM_DEVICE SplitShared(const unsigned char *shared, const SplitRank<Tile> &of_block)
        : memory(shared), first(ptx::shared_address(shared)), block(of_block) {}

    TWINSTREAM_DEVICE uint32_t stage(uint32_t index) const {
        return first + index * Tile::STAGE_BYTES;
    }
    // Of its owner.
    TWINSTREAM_DEVICE uint32_t box(uint32_t place) const {
        return first + BOXES + place * Tile::BOX_BYTES;
    }
    // Where a thread's sums of a box go, in the memory of the box's owner, from another block; and
    // what came.
    TWINSTREAM_DEVICE uint32_t sums(uint32_t place, uint32_t owner, uint32_t from) const {
        return first + sums_offset(place, owner, from);
    }
    TWINSTREAM_DEVICE uint4 sent(uint32_t place, uint32_t from) const {
        return *reinterpret_cast<const uint4 *>(memory + sums_offset(place, block.rank, from));
    }
    TWINSTREAM_DEVICE uint32_t full(uint32_t stage) const { return barrier(stage); }
    TWINSTREAM_DEVICE uint32_t empty(uint32_t stage) const { return barrier(Tile::STAGES + stage); }
    TWINSTREAM_DEVICE uint32_t joined() const { return barrier(2 * Tile::STAGES); }
    TWINSTREAM_DEVICE uint32_t ready() const { return barrier(2 * Tile::STAGES + 1); }

   private:
    static constexpr unsigned BOXES = Tile::STAGES * Tile::STAGE_BYTES;
    static constexpr unsigned BARRIER_BYTES = 8;
    static_assert((Tile::STAGES + 1) * 2 * BARRIER_BYTES <= BYTES - BARRIERS,
                  "barriers fit behind the sums");

    // The others of a cluster are numbered from the owner's next one on.
    TWINSTREAM_DEVICE uint32_t sums_offset(uint32_t place, uint32_t owner, uint32_t from) const {
        const uint32_t number = (from - owner - 1) & block.last();
        return BOXES + block.own_len_max() * Tile::BOX_BYTES +
               (place * block.last() + number) * Tile::PART_SUMS_BYTES + threadIdx.x * CHUNK_BYTES;
    }
    TWINSTREAM_DEVICE uint32_t barrier(uint32_t index) const {
        return first + BARRIERS + index * BARRIER_BYTES;
    }

    const unsigned char *memory;
    uint32_t first;
    SplitRank<Tile> block;
};

} // namespace twinstream

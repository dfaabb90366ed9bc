// Shared memory without bank conflicts, by counting: for every access pattern of the kernels, the
// lanes that the hardware serves at a time touch each bank once. A bank is 4 bytes wide and there
// are 32; of a 16-byte access eight lanes are served at a time, of a 4-byte access all 32.

#include <set>
#include <vector>

#include "../../emulator/tensor_map.hpp"
#include "../../sm80/conv_block.cuh"
#include "../../sm90a/wgmma_tile.cuh"
#include "../../stem.cuh"
#include "../check.hpp"
#include "../tests.hpp"

namespace twinstream::tests {

namespace {

// Fails where two of the accesses, each of `bytes` at its offset, share a bank.
template <class Offset>
void require_free(const char *what, unsigned accesses, unsigned bytes, Offset offset) {
    std::set<unsigned> banks;
    for (unsigned i = 0; i < accesses; ++i) {
        const unsigned first = offset(i) / 4;
        for (unsigned word = 0; word < bytes / 4; ++word)
            if (!banks.insert((first + word) % 32).second)
                fail(std::string("bank conflict: ") + what);
    }
}

void test_operands() {
    for (unsigned row = 0; row < 256; row += 8)
        for (unsigned chunk = 0; chunk < ROW_CHUNKS; ++chunk)
            require_free("ldmatrix of eight rows", 8, 16,
                         [&](unsigned i) { return operand_offset(row + i, chunk); });
    for (unsigned row = 0; row < 256; ++row)
        require_free("copy of a row", 8, 16, [&](unsigned i) { return operand_offset(row, i); });
    // What WarpMma::load assumes: a step along K flips bits of the offset, whatever the row.
    for (unsigned row = 0; row < 256; ++row)
        for (unsigned half = 0; half < 2; ++half)
            for (unsigned part = 0; part < PART_LEN; ++part)
                if (operand_offset(row, 2 * part + half) !=
                    (operand_offset(row, half) ^ part * 2 * CHUNK_BYTES))
                    fail("a step along K does not commute with the permutation");
}

template <class Tile>
void test_results() {
    constexpr unsigned CHUNKS = Tile::N / Tile::CHUNK_LEN;
    // Words of a row that four lanes access, each two values.
    constexpr unsigned WORDS = 2 * sizeof(typename Tile::Value);
    for (unsigned row = 0; row < Tile::M; row += 8)
        for (unsigned chunk = 0; chunk < CHUNKS; ++chunk)
            require_free("sums of a warp", 8 * WORDS, 4, [&](unsigned i) {
                return result_offset<Tile>(row + i / WORDS, chunk) + i % WORDS * 4;
            });
    std::set<unsigned> all;
    for (unsigned i = 0; i < Tile::M * CHUNKS; i += 8)
        require_free("chunks of results", 8, 16, [&](unsigned lane) {
            const unsigned offset = result_offset<Tile>((i + lane) / CHUNKS, (i + lane) % CHUNKS);
            if (offset >= Tile::M * Tile::N * sizeof(typename Tile::Value) ||
                !all.insert(offset).second)
                fail("two chunks of results share a place");
            return offset;
        });
}

// Of a box, whose rows stmatrix writes and ldmatrix reads by eight; all chunks have places of their
// own, which repeat where the swizzle does.
template <class Tile>
void test_boxes() {
    constexpr unsigned CHUNKS = Tile::BOX_ROW_BYTES / CHUNK_BYTES;
    std::set<unsigned> all;
    for (unsigned row = 0; row < Tile::BOX_LEN; row += 8)
        for (unsigned chunk = 0; chunk < CHUNKS; ++chunk)
            require_free("eight rows of a box", 8, 16, [&](unsigned i) {
                const unsigned offset = box_offset<Tile>(row + i, chunk);
                const emulator::Swizzle swizzle =
                    CHUNKS == 8 ? emulator::Swizzle::b128 : emulator::Swizzle::b64;
                const unsigned plain = (row + i) * Tile::BOX_ROW_BYTES + chunk * CHUNK_BYTES;
                if (offset != emulator::swizzled(plain, swizzle) || !all.insert(offset).second)
                    fail("a chunk of a box lies where the copy engine does not have it");
                return offset;
            });
}

void test_all() {
    test_operands();
#define TWINSTREAM_CONV_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, ...)               \
    test_results<Tile<DTYPE, M, N, WARPS_M, WARPS_N, STAGES>>();
#define TWINSTREAM_CONV_WGMMA_TILE(NAME, ARCH, DTYPE, M, N, WARPS_M, WARPS_N, STAGES, ...)         \
    test_boxes<WarpgroupTile<DTYPE, M, N, WARPS_M, WARPS_N, STAGES, 1>>();
#include "../../tiles.inc"
    // The stem; of its pixels, groups of eight that go on in the next row do share banks.
    using namespace stem_layout;
    using Stem = Layout<f16>;
    using StemI8 = Layout<i8>;
    for (unsigned row = 0; row < CONV_HEIGHT; ++row)
        for (unsigned column = 0; column + 8 <= CONV_WIDTH; ++column)
            require_free("pixels of the stem", 8, 16, [&](unsigned i) {
                return Stem::pixel_offset(row * CONV_WIDTH + column + i);
            });
    require_free("weights of the stem", 8, 16, [](unsigned i) { return i * Stem::FILTER_STRIDE; });
    require_free("sums of the stem", 32, 4,
                 [](unsigned i) { return i / 4 * Stem::RESULT_STRIDE + i % 4 * 4; });
    // That of integers, whose lanes read one word of a pixel, and write two to a word.
    for (unsigned column = 0; column + 8 <= CONV_WIDTH; ++column) {
        std::set<unsigned> words;
        for (unsigned lane = 0; lane < 32; ++lane)
            words.insert(StemI8::pixel_offset(column + lane / 4) / 4 + lane % 4);
        const std::vector<unsigned> list(words.begin(), words.end());
        require_free("pixels of the stem of integers", static_cast<unsigned>(list.size()), 4,
                     [&](unsigned i) { return list[i] * 4; });
    }
    require_free("weights of the stem of integers", 8, 16,
                 [](unsigned i) { return i * StemI8::FILTER_STRIDE; });
    require_free("sums of the stem of integers", 16, 4,
                 [](unsigned i) { return i / 2 * StemI8::RESULT_STRIDE + i % 2 * 4; });
}

} // namespace

void test_swizzle() {
    Subject subject("shared memory without bank conflicts");
    subject.attempt([] {
        test_all();
        return 0.0;
    });
    subject.report();
}

} // namespace twinstream::tests

// From a warpgroup's sums to results in a box: bias, residual, ReLU; of integers their scales. The
// same operations in the same order as in sm80/conv_block.cuh, so that results are the same.
//
// A thread has pixels in pairs and of each two channels, in rows g and g + 8 of its warp's 16
// (g = lane / 4): of f16 channels g and g + 8; of integers, whose weights lie in that order, 2 g
// and 2 g + 1, which together are one element of the matrices that stmatrix transposes and writes.
// The residual is read from where the result goes, by the same lanes.
#pragma once

#include "../ptx/mma.cuh"
#include "wgmma_tile.cuh"

namespace twinstream {

// What the two channels of a thread are scaled with.
template <class Tile>
class Scales {
   public:
    // Channels from first_channel on are the warpgroup's.
    TWINSTREAM_DEVICE Scales(const twinstream_conv_wgmma_params &p, uint32_t first_channel)
        : has_residual(p.has_residual != 0), lowest(p.relu ? 0.0f : -INFINITY) {
        const unsigned group = threadIdx.x % WARP_LEN / 4;
        const float *const own = global<const float>(p.bias) + first_channel + warp_of_group() * 16;
        const uint32_t len = p.output_channels;
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 2; ++i) {
            const float *const of_row = own + (Tile::IS_INTEGER ? 2 * group + i : group + 8 * i);
            bias[i] = of_row[0];
            if constexpr (Tile::IS_INTEGER) {
                multiplier[i] = of_row[len];
                if (has_residual || p.shortcut_channels != 0) added[i] = of_row[2 * len];
            }
        }
    }

    // Of integers: brings the shortcut's sums into the unit of the convolution's.
    TWINSTREAM_DEVICE void scale_shortcut(int32_t (&sums)[Tile::SUMS]) const {
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < Tile::SUMS; ++i)
            sums[i] = __float2int_rn(static_cast<float>(sums[i]) * added[i / 2 % 2]);
        ptx::wgmma_settle(sums);
    }

    // Replaces the residual in a box, if there is one, by the results of the warpgroup's
    // `box_index`-th 64 pixels.
    TWINSTREAM_DEVICE void write_box(const typename Tile::Sum (&sums)[Tile::SUMS],
                                     unsigned box_index, uint32_t box) const {
        if (has_residual)
            write_box_of<true>(sums, box_index, box);
        else
            write_box_of<false>(sums, box_index, box);
    }

    // The same where a box has eight pixels.
    TWINSTREAM_DEVICE void write_eight(const typename Tile::Sum (&sums)[Tile::SUMS],
                                       unsigned box_index, uint32_t box) const {
        if (has_residual)
            write_eight_of<true>(sums + box_index * 4, box);
        else
            write_eight_of<false>(sums + box_index * 4, box);
    }

   private:
    template <bool ADDS>
    TWINSTREAM_DEVICE void write_eight_of(const typename Tile::Sum *sums, uint32_t box) const {
        constexpr unsigned MATRICES = Tile::IS_INTEGER ? 1 : 2;
        const unsigned lane = threadIdx.x % WARP_LEN;
        const uint32_t at =
            box + box_offset<Tile>(lane % 8, warp_of_group() * MATRICES + lane / 8 % MATRICES);
        uint32_t values[MATRICES] = {};
        if constexpr (ADDS) ptx::ldmatrix_transposed(values, at);
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < MATRICES; ++i) values[i] = results_of<ADDS>(sums, i, values[i]);
        ptx::store_matrix_transposed(at, values);
    }

    template <bool ADDS>
    TWINSTREAM_DEVICE void write_box_of(const typename Tile::Sum (&sums)[Tile::SUMS],
                                        unsigned box_index, uint32_t box) const {
        constexpr unsigned ROWS_AT_ONCE = Tile::IS_INTEGER ? 32 : 16;
        const uint32_t place = box + place_of_lane();
        TWINSTREAM_UNROLL
        for (unsigned row = 0; row < Tile::BOX_LEN; row += ROWS_AT_ONCE) {
            const uint32_t at = place + row * Tile::BOX_ROW_BYTES;
            // Sums of eight pixels and two rows are four.
            const unsigned first = (box_index * Tile::BOX_LEN + row) / 8 * 4;
            uint32_t values[4] = {};
            if constexpr (ADDS) ptx::ldmatrix_x4_transposed(values, at);
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < 4; ++i)
                values[i] = results_of<ADDS>(sums + first, i, values[i]);
            ptx::store_matrix_x4_transposed(at, values);
        }
    }

    static TWINSTREAM_DEVICE unsigned warp_of_group() { return threadIdx.x / WARP_LEN % 4; }

    // Which row of a matrix a lane names, from the box's first byte on: four matrices are of f16
    // 16 pixels of two chunks, of integers 32 pixels of one.
    static TWINSTREAM_DEVICE uint32_t place_of_lane() {
        const unsigned lane = threadIdx.x % WARP_LEN;
        if constexpr (Tile::IS_INTEGER)
            return box_offset<Tile>(lane, warp_of_group());
        else
            return box_offset<Tile>(lane / 16 * 8 + lane % 8, warp_of_group() * 2 + lane / 8 % 2);
    }

    // What a lane has of a matrix, of four that are written at once: of f16 a pair of pixels of one
    // row.
    template <bool ADDS>
    TWINSTREAM_DEVICE uint32_t results_of(const float *sums, unsigned matrix,
                                          uint32_t residual) const {
        const unsigned row = matrix % 2, first = matrix / 2 * 4 + row * 2;
        float low = sums[first] + bias[row], high = sums[first + 1] + bias[row];
        if constexpr (ADDS) {
            low += ptx::unpack_f16(residual);
            high += ptx::unpack_f16(residual >> 16);
        }
        return ptx::pack_f16x2(fmaxf(low, lowest), fmaxf(high, lowest));
    }

    // Of integers both rows, a byte each: those of the first pixel, then those of the second. Bytes
    // become numbers, and these bytes, without the conversions of the slowest pipe: of 2^23 and a
    // byte, the byte is the last of the number's bits.
    template <bool ADDS>
    TWINSTREAM_DEVICE uint32_t results_of(const int32_t *sums, unsigned matrix,
                                          uint32_t residual) const {
        constexpr float SHIFT = 8388608.0f;
        constexpr uint32_t SHIFT_BITS = 0x4b000000;
        uint32_t bits[4];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = i % 2, pixel = i / 2;
            float value = __fmaf_rn(static_cast<float>(sums[matrix * 4 + row * 2 + pixel]),
                                    multiplier[row], bias[row]);
            if constexpr (ADDS) {
                const uint32_t byte = __byte_perm(residual, SHIFT_BITS, 0x7440 | i);
                value = __fmaf_rn(__uint_as_float(byte) - SHIFT, added[row], value);
            }
            bits[i] = __float_as_uint(fminf(fmaxf(value, 0.0f), 255.0f) + SHIFT);
        }
        return __byte_perm(__byte_perm(bits[0], bits[1], 0x0040),
                           __byte_perm(bits[2], bits[3], 0x0040), 0x5410);
    }

    bool has_residual;
    float lowest;
    float bias[2];
    float multiplier[2];
    float added[2];
};

} // namespace twinstream

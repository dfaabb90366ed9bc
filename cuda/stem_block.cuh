// The first layer of either type in one pass over the image: 7x7 convolution at stride 2, ReLU and
// 3x3 max pool at stride 2 (launch.h: twinstream_stem_params). Here is what both types have in
// common; a stem derives from StemBlock, and run_stem says what it adds.
//
// A block computes 8 x 7 pooled pixels. They need 17 x 15 pixels of the convolution, 255 of the 256
// rows that eight warps multiply, and those 39 x 36 pixels of the image, which go once into shared
// memory with a fourth, zero channel. A kernel row is then 8 pixels x 4 channels = 32 values that
// lie together, and operand rows are read right where they overlap, without im2col. The
// convolution's output (12.8 MB of f16 for 8 images of 224 x 224) never leaves the chip.
#pragma once

#include "product.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/pdl.cuh"
#include "stem.cuh"

namespace twinstream {

template <class Value>
struct StemBlock {
    using Layout = stem_layout::Layout<Value>;
    // A warp's 32 pixels of the convolution by all channels.
    using Sums = typename Product<Value>::Sum[2][stem_layout::CHANNELS / 8][4];

    const twinstream_stem_params &p;
    unsigned char *shared;
    // First pooled pixel of the block.
    int32_t pooled_y;
    int32_t pooled_x;

    // First pixel of the convolution, which may lie one before the image.
    TWINSTREAM_DEVICE int32_t conv_y() const { return 2 * pooled_y - 1; }
    TWINSTREAM_DEVICE int32_t conv_x() const { return 2 * pooled_x - 1; }

    TWINSTREAM_DEVICE void copy_weights() const {
        constexpr unsigned CHUNKS = Layout::FILTER_CHUNKS;
        const unsigned char *const weights = global<const unsigned char>(p.weights);
        for (unsigned i = threadIdx.x; i < stem_layout::CHANNELS * CHUNKS;
             i += stem_layout::THREADS)
            ptx::cp_async_16(ptx::shared_address(shared + Layout::PATCH_BYTES) +
                                 i / CHUNKS * Layout::FILTER_STRIDE + i % CHUNKS * CHUNK_BYTES,
                             weights + i * CHUNK_BYTES, CHUNK_BYTES);
        ptx::cp_async_commit();
    }

    // Has put(to, bytes, inside) write each pixel of the patch: its three bytes, and whether it
    // lies in the image; if not, they are any.
    template <class Put>
    TWINSTREAM_DEVICE void fill_patch(const uint8_t *image, const Put &put) const {
        using namespace stem_layout;
        const int32_t first_y = 2 * conv_y() - 3, first_x = 2 * conv_x() - 3;
        // All loads before the first store: else each would wait for the one before.
        uint8_t bytes[PIXELS_EACH][3];
        bool inside[PIXELS_EACH];
        TWINSTREAM_UNROLL
        for (unsigned n = 0; n < PIXELS_EACH; ++n) {
            const unsigned i = threadIdx.x + n * THREADS;
            const uint32_t y = first_y + static_cast<int32_t>(i / PATCH_WIDTH);
            const uint32_t x = first_x + static_cast<int32_t>(i % PATCH_WIDTH);
            inside[n] = y < p.height && x < p.width;
            const uint64_t pixel = inside[n] ? static_cast<uint64_t>(y) * p.width + x : 0;
            TWINSTREAM_UNROLL
            for (unsigned c = 0; c < 3; ++c) bytes[n][c] = image[pixel * 3 + c];
        }
        TWINSTREAM_UNROLL
        for (unsigned n = 0; n < PIXELS_EACH; ++n) {
            const unsigned i = threadIdx.x + n * THREADS;
            if (i < PATCH_PIXELS) put(shared + i * Layout::PIXEL_BYTES, bytes[n], inside[n]);
        }
    }

    // Where the operand row of one of the warp's pixels begins in shared memory.
    TWINSTREAM_DEVICE unsigned operand_offset(unsigned warp_row) const {
        using namespace stem_layout;
        const unsigned row = threadIdx.x / WARP_LEN * WARP_ROWS + warp_row;
        return Layout::pixel_offset(row < CONV_PIXELS ? row : CONV_PIXELS - 1);
    }

    // Adds the products of the pixels' values with the weights of a step of K.
    TWINSTREAM_DEVICE void multiply(Sums &sums, const uint32_t (&a)[2][4], unsigned step) const {
        const unsigned lane = threadIdx.x % WARP_LEN;
        const uint32_t filter = ptx::shared_address(shared + Layout::PATCH_BYTES) +
                                (lane % 8 + lane / 16 * 8) * Layout::FILTER_STRIDE +
                                lane / 8 % 2 * CHUNK_BYTES + step * 2 * CHUNK_BYTES;
        TWINSTREAM_UNROLL
        for (unsigned j = 0; j < stem_layout::CHANNELS / 8; j += 2) {
            uint32_t b[4];
            ptx::ldmatrix_x4(b, filter + j * 8 * Layout::FILTER_STRIDE);
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < 2; ++i) {
                Product<Value>::mma(sums[i][j], a[i], b[0], b[1]);
                Product<Value>::mma(sums[i][j + 1], a[i], b[2], b[3]);
            }
        }
    }

    // Calls put(i, to, y, x, inside) for the lane's four pixels of the convolution: where a pixel's
    // results go, where it is, and whether it lies in the convolution. If not, they must be 0,
    // which no maximum of the pool sees: each window has a pixel inside, and none is negative.
    template <class Put>
    TWINSTREAM_DEVICE void each_pixel(const Put &put) const {
        using namespace stem_layout;
        const unsigned lane = threadIdx.x % WARP_LEN, warp = threadIdx.x / WARP_LEN;
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = warp * WARP_ROWS + i * 8 + lane / 4;
            const uint32_t y = conv_y() + static_cast<int32_t>(row / CONV_WIDTH);
            const uint32_t x = conv_x() + static_cast<int32_t>(row % CONV_WIDTH);
            const bool inside = y < p.conv_height && x < p.conv_width;
            put(i, shared + row * Layout::RESULT_STRIDE, y, x, inside);
        }
    }

    // `larger` has the maxima of the values of two words.
    template <class Larger>
    TWINSTREAM_DEVICE void pool(Value *output, const Larger &larger) const {
        using namespace stem_layout;
        constexpr unsigned LEN = CHUNK_BYTES / sizeof(Value), CHUNKS = CHANNELS / LEN;
        for (unsigned i = threadIdx.x; i < POOLED_HEIGHT * POOLED_WIDTH * CHUNKS; i += THREADS) {
            const unsigned chunk = i % CHUNKS, y = i / CHUNKS / POOLED_WIDTH;
            const unsigned x = i / CHUNKS % POOLED_WIDTH;
            if (pooled_y + y >= p.pooled_height || pooled_x + x >= p.pooled_width) continue;
            uint4 largest = make_uint4(0, 0, 0, 0);
            TWINSTREAM_UNROLL
            for (unsigned tap = 0; tap < 9; ++tap) {
                const unsigned row = (2 * y + tap / 3) * CONV_WIDTH + 2 * x + tap % 3;
                const uint4 value = *reinterpret_cast<const uint4 *>(
                    shared + row * Layout::RESULT_STRIDE + chunk * CHUNK_BYTES);
                largest = make_uint4(larger(largest.x, value.x), larger(largest.y, value.y),
                                     larger(largest.z, value.z), larger(largest.w, value.w));
            }
            const uint64_t pixel =
                static_cast<uint64_t>(pooled_y + y) * p.pooled_width + pooled_x + x;
            *reinterpret_cast<uint4 *>(output + pixel * CHANNELS + chunk * LEN) = largest;
        }
    }
};

// Runs a Stem, which derives from StemBlock<Value>: prepare(image) fills the patch, mainloop(sums)
// multiplies, put_results(sums) puts results in the place of patch and weights, finish(output)
// pools them.
template <class Stem, class Value>
TWINSTREAM_DEVICE void run_stem(const twinstream_stem_params &p, unsigned char *shared) {
    using namespace stem_layout;
    const uint32_t tiles_x = ceil_divide(p.pooled_width, POOLED_WIDTH);
    const uint32_t image = blockIdx.y;
    const twinstream_batch *const batch = global<const twinstream_batch>(p.batch);
    const Stem stem{{p, shared, static_cast<int32_t>(blockIdx.x / tiles_x * POOLED_HEIGHT),
                     static_cast<int32_t>(blockIdx.x % tiles_x * POOLED_WIDTH)}};
    stem.copy_weights();
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    if (image >= batch->len) {
        ptx::cp_async_wait<0>();
        return;
    }
    stem.prepare(global<const uint8_t>(p.images) + batch->slots[image] * p.image_bytes);
    ptx::cp_async_wait<0>();
    __syncthreads();
    typename Stem::Sums sums = {};
    stem.mainloop(sums);
    __syncthreads();
    stem.put_results(sums);
    __syncthreads();
    const uint64_t pooled_pixels = static_cast<uint64_t>(p.pooled_height) * p.pooled_width;
    stem.finish(global<Value>(p.output) + image * pooled_pixels * CHANNELS);
}

} // namespace twinstream

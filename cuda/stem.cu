// The first layer in one pass over the image: normalisation, 7x7 convolution at stride 2, bias,
// ReLU and 3x3 max pool at stride 2 (launch.h: twinstream_stem_params).
//
// A block computes 8 x 7 pooled pixels. They need 17 x 15 pixels of the convolution, 255 of the 256
// rows that eight warps multiply, and those 39 x 36 pixels of the image, which are normalised once
// into shared memory with a fourth, zero channel. A kernel row is then 8 pixels x 4 channels = 32
// values that lie together, and the operand rows of neighbouring output pixels are 16 bytes apart:
// ldmatrix reads them right where they overlap, without im2col; only where eight of them go on in
// the next row of pixels, two share a bank. The convolution's output (12.8 MB for 8 images of 224 x
// 224) never leaves the chip.

#include "common.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/mma.cuh"
#include "ptx/pdl.cuh"
#include "stem.cuh"

namespace twinstream::kernels {

using namespace stem_layout;

namespace {

static_assert(CONV_PIXELS <= THREADS / WARP_LEN * WARP_ROWS, "warps cover the convolution");
static_assert(PATCH_BYTES % CHUNK_BYTES == 0, "weights follow the patch");
static_assert(TWINSTREAM_STEM_SHARED_BYTES == PATCH_BYTES + CHANNELS * FILTER_STRIDE,
              "launch.h must state the shared memory");
static_assert(THREADS * RESULT_STRIDE <= TWINSTREAM_STEM_SHARED_BYTES,
              "results take the place of patch and weights");

struct Stem {
    const twinstream_stem_params &p;
    unsigned char *shared;
    // First pooled pixel of the block.
    int32_t pooled_y;
    int32_t pooled_x;

    // First pixel of the convolution, which may lie one before the image.
    TWINSTREAM_DEVICE int32_t conv_y() const { return 2 * pooled_y - 1; }
    TWINSTREAM_DEVICE int32_t conv_x() const { return 2 * pooled_x - 1; }

    TWINSTREAM_DEVICE void copy_weights() const {
        const f16 *const weights = global<const f16>(p.weights);
        for (unsigned i = threadIdx.x; i < CHANNELS * FILTER_CHUNKS; i += THREADS)
            ptx::cp_async_16(ptx::shared_address(shared + PATCH_BYTES) +
                                 i / FILTER_CHUNKS * FILTER_STRIDE +
                                 i % FILTER_CHUNKS * CHUNK_BYTES,
                             weights + i * CHUNK_LEN, CHUNK_BYTES);
        ptx::cp_async_commit();
    }

    TWINSTREAM_DEVICE void normalise_patch(const uint8_t *image) const {
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
            // Any byte of the image will do in the place of what lies outside.
            const uint64_t pixel = inside[n] ? static_cast<uint64_t>(y) * p.width + x : 0;
            TWINSTREAM_UNROLL
            for (unsigned c = 0; c < 3; ++c) bytes[n][c] = image[pixel * 3 + c];
        }
        TWINSTREAM_UNROLL
        for (unsigned n = 0; n < PIXELS_EACH; ++n) {
            const unsigned i = threadIdx.x + n * THREADS;
            float values[3];
            TWINSTREAM_UNROLL
            for (unsigned c = 0; c < 3; ++c)
                values[c] = static_cast<float>(bytes[n][c]) * p.scale[c] + p.shift[c];
            const uint32_t low = ptx::pack_f16x2(values[0], values[1]);
            const uint32_t high = ptx::pack_f16x2(values[2], 0.0f);
            if (i < PATCH_PIXELS)
                *reinterpret_cast<uint2 *>(shared + i * PIXEL_BYTES) =
                    inside[n] ? make_uint2(low, high) : make_uint2(0, 0);
        }
    }

    // This lane's accumulators: its warp's 32 pixels of the convolution by all channels.
    TWINSTREAM_DEVICE void mainloop(float (&accumulators)[2][CHANNELS / 8][4]) const {
        const unsigned lane = threadIdx.x % WARP_LEN, warp = threadIdx.x / WARP_LEN;
        uint32_t pixels[2];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned row = warp * WARP_ROWS + i * 16 + lane % 16;
            const unsigned pixel = row < CONV_PIXELS ? row : CONV_PIXELS - 1;
            pixels[i] = ptx::shared_address(shared) + pixel_offset(pixel) + lane / 16 * CHUNK_BYTES;
        }
        const uint32_t filter = ptx::shared_address(shared + PATCH_BYTES) +
                                (lane % 8 + lane / 16 * 8) * FILTER_STRIDE +
                                lane / 8 % 2 * CHUNK_BYTES;
        TWINSTREAM_UNROLL_BY(2)
        for (unsigned step = 0; step < KERNEL_ROWS * 2; ++step) {
            const unsigned offset = step / 2 * PATCH_ROW_BYTES + step % 2 * 2 * CHUNK_BYTES;
            uint32_t a[2][4];
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < 2; ++i) ptx::ldmatrix_x4(a[i], pixels[i] + offset);
            TWINSTREAM_UNROLL
            for (unsigned j = 0; j < CHANNELS / 8; j += 2) {
                uint32_t b[4];
                ptx::ldmatrix_x4(b, filter + j * 8 * FILTER_STRIDE + step * 2 * CHUNK_BYTES);
                TWINSTREAM_UNROLL
                for (unsigned i = 0; i < 2; ++i) {
                    ptx::mma_m16n8k16(accumulators[i][j], a[i], b[0], b[1]);
                    ptx::mma_m16n8k16(accumulators[i][j + 1], a[i], b[2], b[3]);
                }
            }
        }
    }

    // Bias and ReLU; pixels outside the convolution become 0, which no maximum of the pool sees:
    // each window has a pixel inside, and none is negative.
    TWINSTREAM_DEVICE void put_results(const float (&accumulators)[2][CHANNELS / 8][4]) const {
        const unsigned lane = threadIdx.x % WARP_LEN, warp = threadIdx.x / WARP_LEN;
        const float *const bias = global<const float>(p.bias);
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = warp * WARP_ROWS + i * 8 + lane / 4;
            const uint32_t y = conv_y() + static_cast<int32_t>(row / CONV_WIDTH);
            const uint32_t x = conv_x() + static_cast<int32_t>(row % CONV_WIDTH);
            const bool inside = y < p.conv_height && x < p.conv_width;
            TWINSTREAM_UNROLL
            for (unsigned j = 0; j < CHANNELS / 8; ++j) {
                const unsigned column = j * 8 + lane % 4 * 2;
                const float2 shift = *reinterpret_cast<const float2 *>(bias + column);
                const float low = fmaxf(accumulators[i / 2][j][i % 2 * 2] + shift.x, 0.0f);
                const float high = fmaxf(accumulators[i / 2][j][i % 2 * 2 + 1] + shift.y, 0.0f);
                *reinterpret_cast<uint32_t *>(shared + row * RESULT_STRIDE + column * sizeof(f16)) =
                    inside ? ptx::pack_f16x2(low, high) : 0;
            }
        }
    }

    TWINSTREAM_DEVICE void pool(f16 *output) const {
        constexpr unsigned CHUNKS = CHANNELS / CHUNK_LEN;
        for (unsigned i = threadIdx.x; i < POOLED_HEIGHT * POOLED_WIDTH * CHUNKS; i += THREADS) {
            const unsigned chunk = i % CHUNKS, y = i / CHUNKS / POOLED_WIDTH;
            const unsigned x = i / CHUNKS % POOLED_WIDTH;
            if (pooled_y + y >= p.pooled_height || pooled_x + x >= p.pooled_width) continue;
            uint4 largest = make_uint4(0, 0, 0, 0);
            TWINSTREAM_UNROLL
            for (unsigned tap = 0; tap < 9; ++tap) {
                const unsigned row = (2 * y + tap / 3) * CONV_WIDTH + 2 * x + tap % 3;
                const uint4 value = *reinterpret_cast<const uint4 *>(shared + row * RESULT_STRIDE +
                                                                     chunk * CHUNK_BYTES);
                largest = make_uint4(
                    ptx::max_f16x2(largest.x, value.x), ptx::max_f16x2(largest.y, value.y),
                    ptx::max_f16x2(largest.z, value.z), ptx::max_f16x2(largest.w, value.w));
            }
            const uint64_t pixel =
                static_cast<uint64_t>(pooled_y + y) * p.pooled_width + pooled_x + x;
            *reinterpret_cast<uint4 *>(output + pixel * CHANNELS + chunk * CHUNK_LEN) = largest;
        }
    }
};

} // namespace

TWINSTREAM_KERNEL(stem, twinstream_stem_params, THREADS, 2) {
    TWINSTREAM_SHARED(shared);
    const uint32_t tiles_x = ceil_divide(p.pooled_width, POOLED_WIDTH);
    const uint32_t image = blockIdx.y;
    const twinstream_batch *const batch = global<const twinstream_batch>(p.batch);
    const Stem stem{p, shared, static_cast<int32_t>(blockIdx.x / tiles_x * POOLED_HEIGHT),
                    static_cast<int32_t>(blockIdx.x % tiles_x * POOLED_WIDTH)};
    stem.copy_weights();
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    if (image >= batch->len) {
        ptx::cp_async_wait<0>();
        return;
    }
    stem.normalise_patch(global<const uint8_t>(p.images) + batch->slots[image] * p.image_bytes);
    ptx::cp_async_wait<0>();
    __syncthreads();
    float accumulators[2][CHANNELS / 8][4] = {};
    stem.mainloop(accumulators);
    __syncthreads();
    stem.put_results(accumulators);
    __syncthreads();
    const uint64_t pooled_pixels = static_cast<uint64_t>(p.pooled_height) * p.pooled_width;
    stem.pool(global<f16>(p.output) + image * pooled_pixels * CHANNELS);
}

} // namespace twinstream::kernels

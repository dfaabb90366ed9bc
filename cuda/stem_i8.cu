// The first layer of 8-bit integers in one pass over the image: 7x7 convolution at stride 2 of the
// pixels as they are, scales, and 3x3 max pool at stride 2 (launch.h: twinstream_stem_i8_params).
//
// Blocks and pixels are those of stem.cu. With a fourth, zero channel a kernel row is 32 values:
// one step of the matrix instruction. Neighbouring output pixels are eight bytes apart, which
// ldmatrix cannot read, so a lane reads its words of them itself.

#include "common.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/mma.cuh"
#include "ptx/pdl.cuh"
#include "stem_i8.cuh"

namespace twinstream::kernels {

using namespace stem_i8_layout;

namespace {

static_assert(CONV_PIXELS <= THREADS / WARP_LEN * WARP_ROWS, "warps cover the convolution");
static_assert(PATCH_BYTES % CHUNK_BYTES == 0, "weights follow the patch");
static_assert(TWINSTREAM_STEM_I8_SHARED_BYTES == PATCH_BYTES + CHANNELS * FILTER_STRIDE,
              "launch.h must state the shared memory");
static_assert(THREADS * RESULT_STRIDE <= TWINSTREAM_STEM_I8_SHARED_BYTES,
              "results take the place of patch and weights");

using Sums = int32_t[2][CHANNELS / 8][4];

struct StemI8 {
    const twinstream_stem_i8_params &p;
    unsigned char *shared;
    // First pooled pixel of the block.
    int32_t pooled_y;
    int32_t pooled_x;

    // First pixel of the convolution, which may lie one before the image.
    TWINSTREAM_DEVICE int32_t conv_y() const { return 2 * pooled_y - 1; }
    TWINSTREAM_DEVICE int32_t conv_x() const { return 2 * pooled_x - 1; }

    TWINSTREAM_DEVICE void copy_weights() const {
        const unsigned char *const weights = global<const unsigned char>(p.weights);
        for (unsigned i = threadIdx.x; i < CHANNELS * FILTER_CHUNKS; i += THREADS)
            ptx::cp_async_16(ptx::shared_address(shared + PATCH_BYTES) +
                                 i / FILTER_CHUNKS * FILTER_STRIDE +
                                 i % FILTER_CHUNKS * CHUNK_BYTES,
                             weights + i * CHUNK_BYTES, CHUNK_BYTES);
        ptx::cp_async_commit();
    }

    TWINSTREAM_DEVICE void copy_patch(const uint8_t *image) const {
        const int32_t first_y = 2 * conv_y() - 3, first_x = 2 * conv_x() - 3;
        // All loads before the first store: else each would wait for the one before.
        uint32_t words[PIXELS_EACH];
        TWINSTREAM_UNROLL
        for (unsigned n = 0; n < PIXELS_EACH; ++n) {
            const unsigned i = threadIdx.x + n * THREADS;
            const uint32_t y = first_y + static_cast<int32_t>(i / PATCH_WIDTH);
            const uint32_t x = first_x + static_cast<int32_t>(i % PATCH_WIDTH);
            const bool inside = y < p.height && x < p.width;
            // Any byte of the image will do in the place of what lies outside.
            const uint8_t *const pixel =
                image + (inside ? static_cast<uint64_t>(y) * p.width + x : 0) * 3;
            const uint32_t word = pixel[0] | pixel[1] << 8 | pixel[2] << 16;
            words[n] = inside ? word : 0;
        }
        TWINSTREAM_UNROLL
        for (unsigned n = 0; n < PIXELS_EACH; ++n) {
            const unsigned i = threadIdx.x + n * THREADS;
            if (i < PATCH_PIXELS)
                *reinterpret_cast<uint32_t *>(shared + i * PIXEL_BYTES) = words[n];
        }
    }

    // This lane's sums: its warp's 32 pixels of the convolution by all channels.
    TWINSTREAM_DEVICE void mainloop(Sums &sums) const {
        const unsigned lane = threadIdx.x % WARP_LEN, warp = threadIdx.x / WARP_LEN;
        // The lane's words of its four pixels.
        const unsigned char *pixels[4];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = warp * WARP_ROWS + i * 8 + lane / 4;
            const unsigned pixel = row < CONV_PIXELS ? row : CONV_PIXELS - 1;
            pixels[i] = shared + pixel_offset(pixel) + lane % 4 * PIXEL_BYTES;
        }
        const uint32_t filter = ptx::shared_address(shared + PATCH_BYTES) +
                                (lane % 8 + lane / 16 * 8) * FILTER_STRIDE +
                                lane / 8 % 2 * CHUNK_BYTES;
        TWINSTREAM_UNROLL_BY(1)
        for (unsigned step = 0; step < KERNEL_ROWS; ++step) {
            uint32_t a[2][4];
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < 8; ++i)
                a[i / 4][i % 4] = *reinterpret_cast<const uint32_t *>(
                    pixels[i / 4 * 2 + i % 2] + step * PATCH_ROW_BYTES + i % 4 / 2 * CHUNK_BYTES);
            TWINSTREAM_UNROLL
            for (unsigned j = 0; j < CHANNELS / 8; j += 2) {
                uint32_t b[4];
                ptx::ldmatrix_x4(b, filter + j * 8 * FILTER_STRIDE + step * 2 * CHUNK_BYTES);
                TWINSTREAM_UNROLL
                for (unsigned i = 0; i < 2; ++i) {
                    ptx::mma_m16n8k32(sums[i][j], a[i], b[0], b[1]);
                    ptx::mma_m16n8k32(sums[i][j + 1], a[i], b[2], b[3]);
                }
            }
        }
    }

    // Scales and bias; pixels outside the convolution become 0, which no maximum of the pool sees:
    // each window has a pixel inside, and none is negative.
    TWINSTREAM_DEVICE void put_results(const Sums &sums) const {
        constexpr unsigned BORDERS = TWINSTREAM_STEM_I8_BORDERS;
        const unsigned lane = threadIdx.x % WARP_LEN, warp = threadIdx.x / WARP_LEN;
        const float *const multiplier =
            global<const float>(p.bias) + BORDERS * BORDERS * CHANNELS + lane % 4 * 2;
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = warp * WARP_ROWS + i * 8 + lane / 4;
            const uint32_t y = conv_y() + static_cast<int32_t>(row / CONV_WIDTH);
            const uint32_t x = conv_x() + static_cast<int32_t>(row % CONV_WIDTH);
            const bool inside = y < p.conv_height && x < p.conv_width;
            const unsigned border =
                inside ? border_of(y, p.conv_height) * BORDERS + border_of(x, p.conv_width) : 0;
            const float *const bias =
                global<const float>(p.bias) + border * CHANNELS + lane % 4 * 2;
            TWINSTREAM_UNROLL
            for (unsigned j = 0; j < CHANNELS / 8; ++j) {
                const float2 shift = *reinterpret_cast<const float2 *>(bias + j * 8);
                const float2 scale = *reinterpret_cast<const float2 *>(multiplier + j * 8);
                const int32_t *const sum = sums[i / 2][j] + i % 2 * 2;
                const uint32_t low =
                    round_to_u8(__fmaf_rn(static_cast<float>(sum[0]), scale.x, shift.x));
                const uint32_t high =
                    round_to_u8(__fmaf_rn(static_cast<float>(sum[1]), scale.y, shift.y));
                *reinterpret_cast<uint16_t *>(shared + row * RESULT_STRIDE + j * 8 + lane % 4 * 2) =
                    static_cast<uint16_t>(inside ? low | high << 8 : 0);
            }
        }
    }

    TWINSTREAM_DEVICE void pool(unsigned char *output) const {
        constexpr unsigned CHUNKS = CHANNELS / CHUNK_BYTES;
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
                largest = make_uint4(__vmaxu4(largest.x, value.x), __vmaxu4(largest.y, value.y),
                                     __vmaxu4(largest.z, value.z), __vmaxu4(largest.w, value.w));
            }
            const uint64_t pixel =
                static_cast<uint64_t>(pooled_y + y) * p.pooled_width + pooled_x + x;
            *reinterpret_cast<uint4 *>(output + pixel * CHANNELS + chunk * CHUNK_BYTES) = largest;
        }
    }

    // Which taps on one axis see the image from this pixel of `side` (launch.h).
    static TWINSTREAM_DEVICE uint32_t border_of(uint32_t at, uint32_t side) {
        constexpr uint32_t BORDERS = TWINSTREAM_STEM_I8_BORDERS;
        if (at < 2) return at;
        return at + 2 < side ? 2 : at + BORDERS - side;
    }
};

} // namespace

TWINSTREAM_KERNEL(stem_i8, twinstream_stem_i8_params, THREADS, 2) {
    TWINSTREAM_SHARED(shared);
    const uint32_t tiles_x = ceil_divide(p.pooled_width, POOLED_WIDTH);
    const uint32_t image = blockIdx.y;
    const twinstream_batch *const batch = global<const twinstream_batch>(p.batch);
    const StemI8 stem{p, shared, static_cast<int32_t>(blockIdx.x / tiles_x * POOLED_HEIGHT),
                      static_cast<int32_t>(blockIdx.x % tiles_x * POOLED_WIDTH)};
    stem.copy_weights();
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    if (image >= batch->len) {
        ptx::cp_async_wait<0>();
        return;
    }
    stem.copy_patch(global<const uint8_t>(p.images) + batch->slots[image] * p.image_bytes);
    ptx::cp_async_wait<0>();
    __syncthreads();
    Sums sums = {};
    stem.mainloop(sums);
    __syncthreads();
    stem.put_results(sums);
    __syncthreads();
    const uint64_t pooled_pixels = static_cast<uint64_t>(p.pooled_height) * p.pooled_width;
    stem.pool(global<unsigned char>(p.output) + image * pooled_pixels * CHANNELS);
}

} // namespace twinstream::kernels

// The stem of 8-bit integers, from the pixels as they are.
//
// A kernel row is one step of the matrix instruction. Neighbouring output pixels are eight bytes
// apart, which ldmatrix cannot read, so a lane reads its words of them itself.

#include "stem_block.cuh"

namespace twinstream::kernels {

using namespace stem_layout;

namespace {

struct StemI8 : StemBlock<i8> {
    TWINSTREAM_DEVICE void prepare(const uint8_t *image) const {
        fill_patch(image, [](unsigned char *to, const uint8_t (&bytes)[3], bool inside) {
            const uint32_t word = bytes[0] | bytes[1] << 8 | bytes[2] << 16;
            *reinterpret_cast<uint32_t *>(to) = inside ? word : 0;
        });
    }

    TWINSTREAM_DEVICE void mainloop(Sums &sums) const {
        const unsigned lane = threadIdx.x % WARP_LEN;
        // The lane's words of its four pixels.
        const unsigned char *pixels[4];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 4; ++i)
            pixels[i] = shared + operand_offset(i * 8 + lane / 4) + lane % 4 * Layout::PIXEL_BYTES;
        TWINSTREAM_ROLL
        for (unsigned step = 0; step < KERNEL_ROWS; ++step) {
            const unsigned offset = step * Layout::PATCH_ROW_BYTES;
            uint32_t a[2][4];
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < 8; ++i)
                a[i / 4][i % 4] = *reinterpret_cast<const uint32_t *>(
                    pixels[i / 4 * 2 + i % 2] + offset + i % 4 / 2 * CHUNK_BYTES);
            multiply(sums, a, step);
        }
    }

    // Scales and bias.
    TWINSTREAM_DEVICE void put_results(const Sums &sums) const {
        constexpr unsigned BORDERS = TWINSTREAM_STEM_I8_BORDERS;
        const unsigned first_column = threadIdx.x % WARP_LEN % 4 * 2;
        const float *const biases = global<const float>(p.bias) + first_column;
        const float *const multiplier = biases + BORDERS * BORDERS * CHANNELS;
        each_pixel([&](unsigned i, unsigned char *to, uint32_t y, uint32_t x, bool inside) {
            const unsigned border =
                inside ? border_of(y, p.conv_height) * BORDERS + border_of(x, p.conv_width) : 0;
            const float *const bias = biases + border * CHANNELS;
            TWINSTREAM_UNROLL
            for (unsigned j = 0; j < CHANNELS / 8; ++j) {
                const float2 shift = *reinterpret_cast<const float2 *>(bias + j * 8);
                const float2 scale = *reinterpret_cast<const float2 *>(multiplier + j * 8);
                const int32_t *const sum = sums[i / 2][j] + i % 2 * 2;
                const uint32_t low =
                    round_to_u8(__fmaf_rn(static_cast<float>(sum[0]), scale.x, shift.x));
                const uint32_t high =
                    round_to_u8(__fmaf_rn(static_cast<float>(sum[1]), scale.y, shift.y));
                *reinterpret_cast<uint16_t *>(to + j * 8 + first_column) =
                    static_cast<uint16_t>(inside ? low | high << 8 : 0);
            }
        });
    }

    TWINSTREAM_DEVICE void finish(i8 *output) const {
        pool(output, [](uint32_t a, uint32_t b) { return __vmaxu4(a, b); });
    }

    // Which taps on one axis see the image from this pixel of `side` (launch.h).
    static TWINSTREAM_DEVICE uint32_t border_of(uint32_t at, uint32_t side) {
        constexpr uint32_t BORDERS = TWINSTREAM_STEM_I8_BORDERS;
        if (at < 2) return at;
        return at + 2 < side ? 2 : at + BORDERS - side;
    }
};

static_assert(TWINSTREAM_STEM_I8_SHARED_BYTES == StemI8::Layout::SHARED_BYTES,
              "launch.h must state the shared memory");
static_assert(TWINSTREAM_STEM_I8_THREADS == THREADS, "as many threads");

} // namespace

TWINSTREAM_KERNEL(stem_i8, twinstream_stem_params, THREADS, 2) {
    TWINSTREAM_SHARED(shared);
    run_stem<StemI8, i8>(p, shared);
}

} // namespace twinstream::kernels

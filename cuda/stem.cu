// The stem in f16, which normalises pixels.
//
// The operand rows of neighbouring output pixels are 16 bytes apart, where ldmatrix reads them;
// only where eight of them go on in the next row of pixels, two share a bank.

#include "stem_block.cuh"

namespace twinstream::kernels {

using namespace stem_layout;

namespace {

struct Stem : StemBlock<f16> {
    TWINSTREAM_DEVICE void prepare(const uint8_t *image) const {
        fill_patch(image, [&](unsigned char *to, const uint8_t (&bytes)[3], bool inside) {
            float values[3];
            TWINSTREAM_UNROLL
            for (unsigned c = 0; c < 3; ++c)
                values[c] = static_cast<float>(bytes[c]) * p.scale[c] + p.shift[c];
            const uint32_t low = ptx::pack_f16x2(values[0], values[1]);
            const uint32_t high = ptx::pack_f16x2(values[2], 0.0f);
            *reinterpret_cast<uint2 *>(to) = inside ? make_uint2(low, high) : make_uint2(0, 0);
        });
    }

    TWINSTREAM_DEVICE void mainloop(Sums &sums) const {
        const unsigned lane = threadIdx.x % WARP_LEN;
        uint32_t pixels[2];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 2; ++i)
            pixels[i] = ptx::shared_address(shared) + operand_offset(i * 16 + lane % 16) +
                        lane / 16 * CHUNK_BYTES;
        TWINSTREAM_UNROLL_BY(2)
        for (unsigned step = 0; step < KERNEL_ROWS * 2; ++step) {
            const unsigned offset = step / 2 * Layout::PATCH_ROW_BYTES + step % 2 * 2 * CHUNK_BYTES;
            uint32_t a[2][4];
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < 2; ++i) ptx::ldmatrix_x4(a[i], pixels[i] + offset);
            multiply(sums, a, step);
        }
    }

    // Bias and ReLU.
    TWINSTREAM_DEVICE void put_results(const Sums &sums) const {
        const unsigned lane = threadIdx.x % WARP_LEN;
        const float *const bias = global<const float>(p.bias);
        each_pixel([&](unsigned i, unsigned char *to, uint32_t, uint32_t, bool inside) {
            TWINSTREAM_UNROLL
            for (unsigned j = 0; j < CHANNELS / 8; ++j) {
                const unsigned column = j * 8 + lane % 4 * 2;
                const float2 shift = *reinterpret_cast<const float2 *>(bias + column);
                const float low = fmaxf(sums[i / 2][j][i % 2 * 2] + shift.x, 0.0f);
                const float high = fmaxf(sums[i / 2][j][i % 2 * 2 + 1] + shift.y, 0.0f);
                *reinterpret_cast<uint32_t *>(to + column * sizeof(f16)) =
                    inside ? ptx::pack_f16x2(low, high) : 0;
            }
        });
    }

    TWINSTREAM_DEVICE void finish(f16 *output) const {
        pool(output, [](uint32_t a, uint32_t b) { return ptx::max_f16x2(a, b); });
    }
};

static_assert(TWINSTREAM_STEM_SHARED_BYTES == Stem::Layout::SHARED_BYTES,
              "launch.h must state the shared memory");

} // namespace

TWINSTREAM_KERNEL(stem, twinstream_stem_params, THREADS, 2) {
    TWINSTREAM_SHARED(shared);
    run_stem<Stem, f16>(p, shared);
}

} // namespace twinstream::kernels

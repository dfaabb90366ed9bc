// The stem of either type on wgmma (launch.h: twinstream_stem_wgmma_params).
//
// Output channels are the rows of wgmma, and a row of the convolution's pixels its columns. In
// shared memory a pixel of the image has four channels of f16, 8 bytes, so that the operand rows of
// neighbouring output pixels, 64 bytes each, lie 16 bytes apart: without swizzle, an operand whose
// next 16 bytes of K are those of the next row. It is read where the rows overlap, without im2col;
// the weights stay in registers.
//
// A warpgroup walks down a strip, row by row of the convolution, and pools in registers. Beside it
// two warps keep a ring of the image's rows filled, two rows for each of the convolution's: a pair.
// Of integers, pixels and weights are integers in f16, whose products and sums are exact.

#include "../ptx/barrier.cuh"
#include "../ptx/cluster.cuh"
#include "../ptx/ld_st.cuh"
#include "../ptx/mma.cuh"
#include "../ptx/pdl.cuh"
#include "../ptx/wgmma.cuh"

namespace twinstream::kernels {

namespace {

constexpr unsigned CHANNELS = 64;
constexpr unsigned WIDTH = TWINSTREAM_STEM_WGMMA_WIDTH;
constexpr unsigned GROUPS = TWINSTREAM_STEM_WGMMA_GROUPS;
constexpr unsigned GROUP_WARPS = 4;
// Warps that fill the ring of a warpgroup, each one row of a pair.
constexpr unsigned FILLING_WARPS = 2;
constexpr unsigned THREADS = GROUPS * (GROUP_WARPS + FILLING_WARPS) * WARP_LEN;
constexpr unsigned KERNEL_ROWS = 7;
// Of a kernel row: products with 16 values of K each.
constexpr unsigned HALVES = 2;
constexpr unsigned SUMS = WIDTH / 2;
// Words of two pixels, of which a thread has those of two channels.
constexpr unsigned EIGHTS = WIDTH / 8;
constexpr unsigned WORDS = 2 * EIGHTS;
constexpr unsigned PIXEL_BYTES = 8;
// Of the image, under a row of the convolution: from three pixels ahead of it; one more than the
// kernel has, against zero weights.
constexpr unsigned ROW_PIXELS = 2 * WIDTH + 6;
constexpr unsigned ROW_BYTES = ROW_PIXELS * PIXEL_BYTES;
constexpr unsigned PIXELS_EACH = ceil_divide(ROW_PIXELS, WARP_LEN);
constexpr unsigned PAIR_BYTES = 2 * ROW_BYTES;
// Pairs of a ring, and those that a row of the convolution sees, of the last one a row.
constexpr unsigned PAIRS = 8;
constexpr unsigned PAIRS_SEEN = 4;
// Of the 168 that each thread of three warpgroups begins with.
constexpr unsigned REGISTERS_MULTIPLYING = 208;
constexpr unsigned REGISTERS_FILLING = 88;
static_assert(ROW_BYTES % CHUNK_BYTES == 0, "rows begin where operands may");

// Shared memory of a block. A pair of a ring is `full` when both rows are there, and `empty` when
// all warps have multiplied them. Pairs are counted from the first that the warpgroup ever sees.
class Rings {
   public:
    static constexpr unsigned BARRIERS = GROUPS * PAIRS * PAIR_BYTES;
    static constexpr unsigned BARRIER_BYTES = 8;
    static constexpr unsigned BYTES = BARRIERS + GROUPS * PAIRS * 2 * BARRIER_BYTES;

    explicit TWINSTREAM_DEVICE Rings(unsigned char *shared_memory)
        : shared(shared_memory), first(ptx::shared_address(shared_memory)) {}

    TWINSTREAM_DEVICE void make_barriers() const {
        for (unsigned group = 0; group < GROUPS; ++group)
            for (unsigned pair = 0; pair < PAIRS; ++pair) {
                ptx::barrier_init(full(group, pair), FILLING_WARPS);
                ptx::barrier_init(empty(group, pair), GROUP_WARPS);
            }
    }

    // Where row `row` of those from the pair on begins.
    TWINSTREAM_DEVICE unsigned char *row(uint32_t group, uint32_t pair, uint32_t row) const {
        return shared + row_offset(group, pair, row);
    }
    TWINSTREAM_DEVICE uint32_t row_address(uint32_t group, uint32_t pair, uint32_t row) const {
        return first + row_offset(group, pair, row);
    }
    TWINSTREAM_DEVICE uint32_t full(uint32_t group, uint32_t pair) const {
        return first + BARRIERS + place(group, pair) * BARRIER_BYTES;
    }
    TWINSTREAM_DEVICE uint32_t empty(uint32_t group, uint32_t pair) const {
        return full(group, pair) + GROUPS * PAIRS * BARRIER_BYTES;
    }
    // Of the phase of `full` that ends with this pair.
    static TWINSTREAM_DEVICE uint32_t parity(uint32_t pair) { return pair / PAIRS % 2; }

   private:
    static TWINSTREAM_DEVICE uint32_t place(uint32_t group, uint32_t pair) {
        return group * PAIRS + pair % PAIRS;
    }
    static TWINSTREAM_DEVICE uint32_t row_offset(uint32_t group, uint32_t pair, uint32_t row) {
        return place(group, pair + row / 2) * PAIR_BYTES + row % 2 * ROW_BYTES;
    }

    unsigned char *shared;
    uint32_t first;
};

// Pooled rows of an image, and the rows of the convolution under them.
struct Strip {
    uint32_t image;
    uint32_t pooled_first;
    uint32_t conv_first;
    uint32_t conv_end;

    TWINSTREAM_DEVICE Strip(const twinstream_stem_wgmma_params &p, uint32_t index)
        : image(index / p.strips), pooled_first(index % p.strips * p.strip_height),
          conv_first(pooled_first == 0 ? 0 : 2 * pooled_first - 1),
          conv_end(min(2 * (pooled_first + p.strip_height), p.stem.conv_height)) {}
};

// Calls run(strip) for each strip of a warpgroup, one after another.
template <class Run>
TWINSTREAM_DEVICE void each_strip(const twinstream_stem_wgmma_params &p, uint32_t group,
                                  const Run &run) {
    const uint32_t len = global<const twinstream_batch>(p.stem.batch)->len * p.strips;
    TWINSTREAM_ROLL
    for (uint32_t i = group * gridDim.x + blockIdx.x; i < len; i += GROUPS * gridDim.x)
        run(Strip(p, i));
}

// Fills one row of each pair of a ring. A warp.
template <class Value>
class Filler {
   public:
    TWINSTREAM_DEVICE Filler(const twinstream_stem_params &params, const Rings &all_rings,
                             uint32_t of_group, uint32_t of_row)
        : p(params), rings(all_rings), group(of_group), row(of_row) {}

    TWINSTREAM_DEVICE void run(const Strip &strip) {
        const twinstream_batch *const batch = global<const twinstream_batch>(p.batch);
        const uint8_t *const image =
            global<const uint8_t>(p.images) + batch->slots[strip.image] * p.image_bytes;
        const uint32_t len = strip.conv_end - strip.conv_first + PAIRS_SEEN - 1;
        TWINSTREAM_ROLL
        for (uint32_t i = 0; i < len; ++i) {
            // Above the image it is beyond any height.
            fill(image, 2 * (strip.conv_first + i) + row - 3);
            ++pair;
        }
    }

   private:
    TWINSTREAM_DEVICE void fill(const uint8_t *image, uint32_t y) const {
        const uint32_t lane = threadIdx.x % WARP_LEN;
        const uint8_t *const pixels = image + static_cast<uint64_t>(y) * p.width * 3;
        const auto is_inside = [&](uint32_t x) { return y < p.height && x - 3 < p.width; };
        // All loads before the first store: else each would wait for the one before.
        uint8_t bytes[PIXELS_EACH][3];
        TWINSTREAM_UNROLL
        for (unsigned n = 0; n < PIXELS_EACH; ++n) {
            const uint32_t x = lane + n * WARP_LEN;
            TWINSTREAM_UNROLL
            for (unsigned c = 0; c < 3; ++c)
                bytes[n][c] = is_inside(x) ? pixels[(x - 3) * 3 + c] : 0;
        }
        // A pair is empty before its first use: the phase before the first counts as ended.
        ptx::barrier_wait(rings.empty(group, pair), Rings::parity(pair) ^ 1);
        auto *const to = reinterpret_cast<uint2 *>(rings.row(group, pair, row));
        TWINSTREAM_UNROLL
        for (unsigned n = 0; n < PIXELS_EACH; ++n) {
            const uint32_t x = lane + n * WARP_LEN;
            if (x < ROW_PIXELS) to[x] = is_inside(x) ? values_of(bytes[n]) : make_uint2(0, 0);
        }
        ptx::fence_proxy_async_shared();
        __syncwarp();
        if (lane == 0) ptx::barrier_arrive(rings.full(group, pair));
    }

    TWINSTREAM_DEVICE uint2 values_of(const uint8_t (&bytes)[3]) const {
        float values[3];
        TWINSTREAM_UNROLL
        for (unsigned c = 0; c < 3; ++c) {
            // Not by the conversion of the slowest pipe: of 2^23 and a byte, the byte is the last
            // of the number's bits.
            values[c] = __uint_as_float(0x4b000000 | bytes[c]) - 8388608.0f;
            if (sizeof(Value) == sizeof(f16)) values[c] = values[c] * p.scale[c] + p.shift[c];
        }
        return make_uint2(ptx::pack_f16x2(values[0], values[1]), ptx::pack_f16x2(values[2], 0.0f));
    }

    const twinstream_stem_params &p;
    const Rings &rings;
    uint32_t group;
    uint32_t row;
    // The next one.
    uint32_t pair = 0;
};

// From sums to results, for the two output channels from `channel` on that a thread has: as a word
// of two pixels, of integers too, whose bytes as f16 are in the same order.
template <class Value>
class Results;

template <>
class Results<f16> {
   public:
    TWINSTREAM_DEVICE Results(const twinstream_stem_params &p, uint32_t channel)
        : bias(*reinterpret_cast<const float2 *>(global<const float>(p.bias) + channel)) {}

    TWINSTREAM_DEVICE void enter_row(uint32_t) {}
    // Of the four sums of two channels of two pixels; the pool takes what is negative for 0.
    TWINSTREAM_DEVICE void words_of(const float *sums, uint32_t, uint32_t *words) const {
        words[0] = ptx::pack_f16x2(sums[0] + bias.x, sums[1] + bias.x);
        words[1] = ptx::pack_f16x2(sums[2] + bias.y, sums[3] + bias.y);
    }
    static TWINSTREAM_DEVICE void put(f16 *to, uint32_t channels) {
        *reinterpret_cast<uint32_t *>(to) = channels;
    }

   private:
    float2 bias;
};

template <>
class Results<i8> {
   public:
    TWINSTREAM_DEVICE Results(const twinstream_stem_params &params, uint32_t channel)
        : p(params), biases(global<const float>(params.bias) + channel),
          multiplier(pair_at(BORDERS * BORDERS)) {}

    TWINSTREAM_DEVICE void enter_row(uint32_t y) {
        row_border = border_of(y, p.conv_height) * BORDERS;
        bias = pair_at(row_border + BETWEEN);
    }
    TWINSTREAM_DEVICE void words_of(const float *sums, uint32_t x, uint32_t *words) const {
        float2 shifts[2] = {bias, bias};
        // Few of the eights have others, all lanes of a warp alike.
        if (x < 8 || x / 8 * 8 + 8 + BETWEEN > p.conv_width) {
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < 2; ++i)
                shifts[i] = pair_at(row_border + border_of(x + i, p.conv_width));
        }
        uint32_t bits[4];
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < 2; ++i) {
            bits[i] = bits_of(__fmaf_rn(sums[i], multiplier.x, shifts[i].x));
            bits[i + 2] = bits_of(__fmaf_rn(sums[i + 2], multiplier.y, shifts[i].y));
        }
        words[0] = __byte_perm(bits[0], bits[1], 0x5410);
        words[1] = __byte_perm(bits[2], bits[3], 0x5410);
    }
    static TWINSTREAM_DEVICE void put(i8 *to, uint32_t channels) {
        *reinterpret_cast<uint16_t *>(to) = static_cast<uint16_t>(__byte_perm(channels, 0, 0x20));
    }

   private:
    static constexpr uint32_t BORDERS = TWINSTREAM_STEM_I8_BORDERS;
    static constexpr uint32_t BETWEEN = 2;

    // Which taps on one axis see the image from this pixel of `side` (launch.h); any of them for
    // one that lies behind.
    static TWINSTREAM_DEVICE uint32_t border_of(uint32_t at, uint32_t side) {
        if (at < BETWEEN) return at;
        return at + 2 < side ? BETWEEN : min(at + BORDERS - side, BORDERS - 1);
    }
    // The nearest integer from 0 to 255, of two the even one, as the number's last bits.
    static TWINSTREAM_DEVICE uint32_t bits_of(float value) {
        return __float_as_uint(fminf(fmaxf(value, 0.0f), 255.0f) + 8388608.0f);
    }
    TWINSTREAM_DEVICE float2 pair_at(uint32_t border) const {
        return *reinterpret_cast<const float2 *>(biases + border * CHANNELS);
    }

    const twinstream_stem_params &p;
    const float *biases;
    float2 multiplier;
    uint32_t row_border = 0;
    float2 bias{};
};

// Multiplies and pools. A warpgroup.
template <class Value>
class Multiplier {
   public:
    // Weights and biases, which no kernel writes.
    TWINSTREAM_DEVICE Multiplier(const twinstream_stem_params &params, const Rings &all_rings,
                                 uint32_t of_group)
        : p(params), rings(all_rings), group(of_group), results(params, channel()) {
        const uint4 *const packed = global<const uint4>(p.weights) + threadIdx.x % GROUP_THREADS;
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < KERNEL_ROWS * HALVES; ++i) {
            const uint4 own = packed[i * GROUP_THREADS];
            weights[i][0] = own.x;
            weights[i][1] = own.y;
            weights[i][2] = own.z;
            weights[i][3] = own.w;
        }
    }

    TWINSTREAM_DEVICE void run(const Strip &strip) {
        // Maxima of the rows of the convolution that the next pooled row sees; none is negative.
        uint32_t largest[WORDS] = {};
        TWINSTREAM_ROLL
        for (uint32_t y = strip.conv_first; y < strip.conv_end; ++y) {
            float sums[SUMS];
            multiply(sums);
            release();
            results.enter_row(y);
            uint32_t words[WORDS];
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < EIGHTS; ++i)
                results.words_of(sums + 4 * i, 8 * i + pixel(), words + 2 * i);
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < WORDS; ++i) largest[i] = ptx::max_f16x2(largest[i], words[i]);
            const bool is_last_seen = y % 2 == 1 || y + 1 == p.conv_height;
            if (is_last_seen && y / 2 >= strip.pooled_first)
                write_row(largest, (static_cast<uint64_t>(strip.image) * p.pooled_height + y / 2) *
                                       p.pooled_width);
            TWINSTREAM_UNROLL
            for (unsigned i = 0; i < WORDS; ++i) largest[i] = y % 2 == 1 ? words[i] : largest[i];
        }
        // What the last row saw besides.
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < PAIRS_SEEN - 1; ++i) release();
    }

   private:
    static constexpr unsigned GROUP_THREADS = GROUP_WARPS * WARP_LEN;

    static TWINSTREAM_DEVICE uint32_t lane() { return threadIdx.x % WARP_LEN; }
    // The first of the thread's two channels, and of its two pixels of each eight.
    static TWINSTREAM_DEVICE uint32_t channel() {
        return threadIdx.x / WARP_LEN % GROUP_WARPS * 16 + lane() / 4 * 2;
    }
    static TWINSTREAM_DEVICE uint32_t pixel() { return lane() % 4 * 2; }

    TWINSTREAM_DEVICE void multiply(float (&sums)[SUMS]) {
        TWINSTREAM_ROLL
        for (; pairs_full < pair + PAIRS_SEEN; ++pairs_full)
            ptx::barrier_wait(rings.full(group, pairs_full), Rings::parity(pairs_full));
        ptx::wgmma_fence();
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < KERNEL_ROWS * HALVES; ++i) {
            const uint64_t pixels =
                ptx::describe_operand(rings.row_address(group, pair, i / HALVES),
                                      ptx::OperandLayout::plain, CHUNK_BYTES, 8 * CHUNK_BYTES);
            ptx::wgmma_f16(sums, weights[i], pixels + i % HALVES * 2, i != 0);
        }
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        ptx::wgmma_settle(sums);
    }

    // The first pair that the row of the convolution saw, and the next one does not.
    TWINSTREAM_DEVICE void release() {
        if (lane() == 0) ptx::barrier_arrive(rings.empty(group, pair));
        ++pair;
    }

    // Maxima along a row, where pooled pixel x sees pixels 2 x - 1 to 2 x + 1.
    TWINSTREAM_DEVICE void write_row(const uint32_t (&largest)[WORDS], uint64_t first) const {
        Value *const output = global<Value>(p.output) + first * CHANNELS + channel();
        const int32_t lane_before = static_cast<int32_t>(lane() / 4 * 4 + (lane() + 3) % 4);
        uint32_t odd_before = 0;
        TWINSTREAM_UNROLL
        for (unsigned i = 0; i < EIGHTS; ++i) {
            // Of both channels, the thread's even and its odd pixel.
            const uint32_t even = __byte_perm(largest[2 * i], largest[2 * i + 1], 0x5410);
            uint32_t odd = __byte_perm(largest[2 * i], largest[2 * i + 1], 0x7632);
            if (8 * i + pixel() + 1 >= p.conv_width) odd = 0;
            // The odd pixel before, which the first of four lanes has from the eight before.
            const uint32_t given = lane() % 4 == 3 ? odd_before : odd;
            const uint32_t before = __shfl_sync(0xffffffff, given, lane_before);
            odd_before = odd;
            const uint32_t x = 4 * i + pixel() / 2;
            if (x < p.pooled_width)
                Results<Value>::put(
                    output + x * CHANNELS,
                    ptx::max_f16x2(ptx::max_f16x2(even, odd), ptx::max_f16x2(before, 0)));
        }
    }

    const twinstream_stem_params &p;
    const Rings &rings;
    uint32_t group;
    Results<Value> results;
    uint32_t weights[KERNEL_ROWS * HALVES][4];
    // The first that the next row of the convolution sees, and those known to have come.
    uint32_t pair = 0;
    uint32_t pairs_full = 0;
};

template <class Value>
TWINSTREAM_DEVICE void run_stem(const twinstream_stem_wgmma_params &p, unsigned char *shared) {
    const Rings rings(shared);
    // The same in all lanes, and known to be.
    const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / WARP_LEN, 0);
    if (threadIdx.x == 0) rings.make_barriers();
    __syncthreads();
    if (warp < GROUPS * GROUP_WARPS) {
        ptx::increase_registers<REGISTERS_MULTIPLYING>();
        const uint32_t group = warp / GROUP_WARPS;
        Multiplier<Value> multiplier(p.stem, rings, group);
        ptx::wait_for_previous_kernel();
        ptx::allow_next_kernel();
        each_strip(p, group, [&](const Strip &strip) { multiplier.run(strip); });
    } else {
        ptx::decrease_registers<REGISTERS_FILLING>();
        const uint32_t filling = warp - GROUPS * GROUP_WARPS, group = filling / FILLING_WARPS;
        Filler<Value> filler(p.stem, rings, group, filling % FILLING_WARPS);
        ptx::wait_for_previous_kernel();
        ptx::allow_next_kernel();
        each_strip(p, group, [&](const Strip &strip) { filler.run(strip); });
    }
}

static_assert(TWINSTREAM_STEM_WGMMA_SHARED_BYTES == Rings::BYTES &&
                  TWINSTREAM_STEM_I8_WGMMA_SHARED_BYTES == Rings::BYTES,
              "launch.h must state the shared memory");
static_assert(TWINSTREAM_STEM_WGMMA_THREADS == THREADS &&
                  TWINSTREAM_STEM_I8_WGMMA_THREADS == THREADS &&
                  TWINSTREAM_STEM_I8_WGMMA_GROUPS == GROUPS,
              "launch.h must state the threads");

} // namespace

TWINSTREAM_KERNEL(stem_wgmma, twinstream_stem_wgmma_params, THREADS, 1) {
    TWINSTREAM_SHARED(shared);
    run_stem<f16>(p, shared);
}

TWINSTREAM_KERNEL(stem_i8_wgmma, twinstream_stem_wgmma_params, THREADS, 1) {
    TWINSTREAM_SHARED(shared);
    run_stem<i8>(p, shared);
}

} // namespace twinstream::kernels

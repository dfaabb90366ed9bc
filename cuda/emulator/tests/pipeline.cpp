// A small convolution as warp-specialised kernels have it: one warpgroup copies weights and pixels
// for two that multiply, and results leave through shared memory. Right in every order; and without
// any one of its fences, barriers, waits and flips of a phase, wrong or refused.

#include <random>
#include <vector>

#include "../../ptx/barrier.cuh"
#include "../../ptx/bulk.cuh"
#include "../../ptx/cluster.cuh"
#include "../../ptx/mma.cuh"
#include "../../ptx/wgmma.cuh"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
namespace ptx = twinstream::ptx;
using emulator::Swizzle;
using twinstream::TensorMap;

// A 3x3 convolution with padding 1, from 64 channels to 128, on images that are not square.
constexpr std::uint32_t images = 2, height = 5, width = 7, taps = 9;
constexpr std::uint32_t pixels = images * height * width;
constexpr std::uint32_t channels_in = 64, channels_out = 128;
// A tile: all channels of so many pixels; the last one is cut off.
constexpr std::uint32_t tile_pixels = 16;
constexpr std::uint32_t tiles = (pixels + tile_pixels - 1) / tile_pixels;
constexpr std::uint32_t stages = 2;
constexpr std::uint32_t row_bytes = 128;
constexpr std::uint32_t weights_bytes = channels_out * row_bytes;
constexpr std::uint32_t pixels_bytes = tile_pixels * row_bytes;
constexpr std::uint32_t stage_bytes = weights_bytes + pixels_bytes;
constexpr std::uint32_t results_at = stages * stage_bytes;
constexpr std::uint32_t full_at = results_at + 2 * pixels_bytes;
constexpr std::uint32_t empty_at = full_at + stages * 8;
constexpr std::uint32_t residual_full_at = empty_at + stages * 8;
constexpr std::uint32_t residual_empty_at = residual_full_at + 2 * 8;
constexpr std::uint32_t shared_bytes = residual_empty_at + 2 * 8;

enum Part {
    nothing,
    fence_after_init,
    barrier_after_init,
    registers_given_back,
    wait_for_empty,
    producer_flip,
    expectation,
    wait_for_full,
    consumer_flip,
    fence_of_sums,
    commit_of_sums,
    wait_for_sums,
    arrival_at_empty,
    fence_of_results,
    barrier_before_store,
    commit_of_store,
    // Where results have memory of their own:
    wait_for_store,
    wait_for_reading,
    barrier_after_reading,
    // Where the residual lies there first:
    wait_for_residual,
    wait_for_room,
    wait_before_room,
    arrival_at_room,
    parts_len,
};

struct Params {
    TensorMap input, residual, output;
    const unsigned char *weights; // a block of 128 rows in the swizzle for each tap
    Part left_out;

    bool has(Part part) const { return left_out != part; }
};

void set_up(const Params &p) {
    if (threadIdx.x == 0) {
        for (std::uint32_t i = 0; i < stages; ++i) {
            ptx::barrier_init(full_at + i * 8, 1);
            ptx::barrier_init(empty_at + i * 8, 8);
        }
        for (std::uint32_t i = 0; i < 2; ++i) {
            ptx::barrier_init(residual_full_at + i * 8, 1);
            ptx::barrier_init(residual_empty_at + i * 8, 1);
        }
        if (p.has(fence_after_init)) ptx::fence_barrier_init();
    }
    if (p.has(barrier_after_init)) __syncthreads();
}

template <bool has_residual>
void produce(const Params &p) {
    std::uint32_t stage = 0, phase = 1;
    for (std::uint32_t tile = 0; tile < tiles; ++tile) {
        const std::uint32_t first = tile * tile_pixels;
        const auto x = static_cast<std::int32_t>(first % width);
        const auto y = static_cast<std::int32_t>(first / width % height);
        const auto n = static_cast<std::int32_t>(first / width / height);
        for (std::uint32_t group = 0; has_residual && group < 2; ++group) {
            const std::uint32_t barrier = residual_full_at + group * 8;
            if (p.has(wait_for_room)) {
                ptx::barrier_wait(residual_empty_at + group * 8, (tile & 1) ^ 1);
            }
            ptx::barrier_arrive_expect(barrier, pixels_bytes);
            ptx::copy_tensor_2d(results_at + group * pixels_bytes, p.residual,
                                static_cast<std::int32_t>(group * 64),
                                static_cast<std::int32_t>(first), barrier);
        }
        for (std::uint16_t tap = 0; tap < taps; ++tap) {
            const std::uint32_t at = stage * stage_bytes, full = full_at + stage * 8;
            if (p.has(wait_for_empty)) ptx::barrier_wait(empty_at + stage * 8, phase);
            if (p.has(expectation)) {
                ptx::barrier_arrive_expect(full, stage_bytes);
            } else {
                ptx::barrier_arrive(full);
            }
            ptx::copy_bulk(at, p.weights + tap * weights_bytes, weights_bytes, full);
            ptx::copy_im2col(
                at + weights_bytes, p.input, {0, x - 1, y - 1, n},
                {static_cast<std::uint16_t>(tap % 3), static_cast<std::uint16_t>(tap / 3)}, full);
            if (++stage == stages) {
                stage = 0;
                if (p.has(producer_flip)) phase ^= 1;
            }
        }
    }
}

// Where four 8x8 matrices of the results begin: for 16 pixels, 16 channels of this warp.
std::uint32_t matrix_row(std::uint32_t results) {
    const std::uint32_t lane = threadIdx.x % 32;
    const std::uint32_t row = lane / 16 * 8 + lane % 8;
    const std::uint32_t chunk = threadIdx.x / 32 % 4 * 2 + lane / 8 % 2;
    return results + row * row_bytes + ((chunk ^ row % 8) << 4);
}

template <bool has_residual>
void leave(const Params &p, const float (&sums)[tile_pixels / 2], std::uint32_t tile) {
    const std::uint32_t group = threadIdx.x / 128;
    const std::uint32_t results = results_at + group * pixels_bytes, at = matrix_row(results);
    const bool is_first = threadIdx.x % 128 == 0;
    std::uint32_t values[4] = {};
    if (has_residual) {
        if (p.has(wait_for_residual)) ptx::barrier_wait(residual_full_at + group * 8, tile & 1);
        ptx::ldmatrix_x4_transposed(values, at);
    } else {
        if (is_first && p.has(wait_for_reading)) ptx::bulk_wait_read<0>();
        if (p.has(barrier_after_reading)) ptx::barrier_sync(1 + group, 128);
    }
    for (std::uint32_t i = 0; i < 4; ++i) {
        const float *const pair = sums + i / 2 * 4 + i % 2 * 2;
        values[i] = ptx::pack_f16x2(ptx::unpack_f16(values[i]) + pair[0],
                                    ptx::unpack_f16(values[i] >> 16) + pair[1]);
    }
    ptx::store_matrix_x4_transposed(at, values);
    if (p.has(fence_of_results)) ptx::fence_proxy_async_shared();
    if (p.has(barrier_before_store)) ptx::barrier_sync(1 + group, 128);
    if (is_first) {
        ptx::store_tensor_2d(p.output, static_cast<std::int32_t>(group * 64),
                             static_cast<std::int32_t>(tile * tile_pixels), results);
        if (p.has(commit_of_store)) ptx::bulk_commit();
        if (has_residual) {
            if (p.has(wait_before_room)) ptx::bulk_wait_read<0>();
            if (p.has(arrival_at_room)) ptx::barrier_arrive(residual_empty_at + group * 8);
        }
    }
}

template <bool has_residual>
void consume(const Params &p) {
    const std::uint32_t group = threadIdx.x / 128;
    std::uint32_t stage = 0, phase = 0;
    for (std::uint32_t tile = 0; tile < tiles; ++tile) {
        float sums[tile_pixels / 2];
        for (std::uint32_t tap = 0; tap < taps; ++tap) {
            const std::uint32_t at = stage * stage_bytes;
            if (p.has(wait_for_full)) ptx::barrier_wait(full_at + stage * 8, phase);
            if (p.has(fence_of_sums)) ptx::wgmma_fence();
            const std::uint64_t a = ptx::describe_rows_128(at + group * 64 * row_bytes);
            const std::uint64_t b = ptx::describe_rows_128(at + weights_bytes);
            for (std::uint32_t k = 0; k < 4; ++k) {
                ptx::wgmma_f16(sums, a + k * 2, b + k * 2, (tap | k) != 0);
            }
            if (p.has(commit_of_sums)) ptx::wgmma_commit();
            if (p.has(wait_for_sums)) ptx::wgmma_wait<0>();
            if (threadIdx.x % 32 == 0 && p.has(arrival_at_empty)) {
                ptx::barrier_arrive(empty_at + stage * 8);
            }
            if (++stage == stages) {
                stage = 0;
                if (p.has(consumer_flip)) phase ^= 1;
            }
        }
        leave<has_residual>(p, sums, tile);
    }
    if (!has_residual && threadIdx.x % 128 == 0 && p.has(wait_for_store)) ptx::bulk_wait_read<0>();
}

template <bool has_residual>
void convolve(const Params &p) {
    set_up(p);
    if (threadIdx.x >= 256) {
        if (p.has(registers_given_back)) ptx::decrease_registers<40>();
        if (threadIdx.x < 288 && ptx::elect()) produce<has_residual>(p);
    } else {
        ptx::increase_registers<232>();
        consume<has_residual>(p);
    }
}

// Tensors as f16, aligned as device memory is, and what the output must be.
struct Tensors {
    std::vector<std::uint16_t> input, residual, output;
    std::vector<std::uint16_t> weights, expected[2];

    explicit Tensors(std::mt19937_64 &random)
        : input(pixels * channels_in), residual(pixels * channels_out),
          output(pixels * channels_out), weights(taps * channels_out * channels_in) {
        const auto draw = [&](std::vector<std::uint16_t> &values) {
            for (std::uint16_t &value : values) {
                value =
                    emulator::round_to_f16(static_cast<float>(static_cast<int>(random() % 5) - 2));
            }
        };
        draw(input), draw(residual), draw(weights);
        for (std::uint32_t pixel = 0; pixel < pixels; ++pixel) {
            for (std::uint32_t channel = 0; channel < channels_out; ++channel) {
                const float sum = convolved(pixel, channel);
                const float before = emulator::unpack_f16(residual[pixel * channels_out + channel]);
                expected[0].push_back(emulator::round_to_f16(sum));
                expected[1].push_back(emulator::round_to_f16(sum + before));
            }
        }
    }
    float convolved(std::uint32_t pixel, std::uint32_t channel) const {
        float sum = 0;
        for (std::uint32_t tap = 0; tap < taps; ++tap) {
            const std::uint32_t x = pixel % width + tap % 3 - 1;
            const std::uint32_t y = pixel / width % height + tap / 3 - 1;
            const std::uint32_t n = pixel / width / height;
            for (std::uint32_t c = 0; x < width && y < height && c < channels_in; ++c) {
                sum += emulator::unpack_f16(input[((n * height + y) * width + x) * 64 + c]) *
                       emulator::unpack_f16(weights[(tap * channels_out + channel) * 64 + c]);
            }
        }
        return sum;
    }
    // Chunk c of row r lies at chunk c ^ r % 8.
    std::vector<std::uint16_t> packed_weights() const {
        std::vector<std::uint16_t> packed(weights.size());
        for (std::uint32_t i = 0; i < weights.size(); ++i) {
            const std::uint32_t row = i / 64, chunk = i % 64 / 8;
            packed[row * 64 + (chunk ^ row % 8) * 8 + i % 8] = weights[i];
        }
        return packed;
    }
    Params params() {
        Params params{};
        std::string error;
        const std::uint64_t pixel = channels_in * 2;
        CHECK(emulator::encode_im2col(&params.input,
                                      {input.data(),
                                       4,
                                       {channels_in, width, height, images},
                                       {pixel, pixel * width, pixel * width * height},
                                       {1, 1, 1, 1},
                                       2,
                                       Swizzle::b128},
                                      {-1, -1, 0}, {-1, -1, 0}, channels_in, tile_pixels, &error));
        const auto encode = [&](TensorMap *map, const std::vector<std::uint16_t> &values) {
            CHECK(emulator::encode_tiled(map,
                                         {values.data(),
                                          2,
                                          {channels_out, pixels},
                                          {channels_out * 2},
                                          {1, 1},
                                          2,
                                          Swizzle::b128},
                                         {64, tile_pixels}, &error));
        };
        encode(&params.residual, residual);
        encode(&params.output, output);
        return params;
    }
};

template <bool has_residual>
std::string outcome(Tensors &tensors, Part left_out, std::uint64_t seed) {
    const With with(seed, 1);
    Params params = tensors.params();
    const std::vector<std::uint16_t> packed = tensors.packed_weights();
    params.weights = reinterpret_cast<const unsigned char *>(packed.data());
    params.left_out = left_out;
    std::fill(tensors.output.begin(), tensors.output.end(), std::uint16_t{0});
    const std::string error = run<convolve<has_residual>>(1, 384, shared_bytes, params);
    const bool is_right = tensors.output == tensors.expected[has_residual];
    return error.empty() && !is_right ? "wrong" : error;
}

template <bool has_residual>
void check(Tensors &tensors) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
        check_is(outcome<has_residual>(tensors, nothing, seed), "");
    }
#ifndef TWINSTREAM_RACE_CHECK // which reports what is missing by itself
    for (int part = nothing + 1; part < parts_len; ++part) {
        if (part >= wait_for_store && (part >= wait_for_residual) != has_residual) {
            continue;
        }
        int noticed_len = 0;
        for (std::uint64_t seed = 0; seed < 8; ++seed) {
            noticed_len += !outcome<has_residual>(tensors, static_cast<Part>(part), seed).empty();
        }
        if (noticed_len == 0) {
            std::fprintf(stderr, "part %d of the pipeline is not missed\n", part);
        }
        CHECK(noticed_len > 0);
    }
#endif
}

} // namespace

void check_pipeline(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    Tensors tensors(random);
    check<false>(tensors);
    check<true>(tensors);
}

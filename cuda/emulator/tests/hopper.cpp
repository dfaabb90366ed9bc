// sm_90a: tensor copies against a plain reading of their definition, barriers in shared memory, and
// products of a warpgroup fed by such copies.

#include <cmath>
#include <random>
#include <vector>

#include "../hopper.hpp"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
using emulator::TensorMap;
using emulator::TensorShape;

// Copies lie at 1,024 and above, barriers below.
constexpr std::uint32_t data_at = 1024;

// f16 [images][height][width][channels]
struct Images {
    std::uint32_t images, height, width, channels;
    std::vector<std::uint16_t> values;

    Images(std::uint32_t n, std::uint32_t h, std::uint32_t w, std::uint32_t c)
        : images(n), height(h), width(w), channels(c), values(std::size_t{n} * h * w * c) {
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] = static_cast<std::uint16_t>(i % 65521 + 1);
        }
    }
    TensorShape shape(std::uint32_t stride, bool is_swizzled) const {
        const std::uint64_t pixel = channels * 2, row = pixel * width, image = row * height;
        return {values.data(),
                4,
                {channels, width, height, images},
                {pixel, row, image},
                {1, stride, stride, 1},
                is_swizzled};
    }
    // 0 outside.
    std::uint16_t at(std::int64_t n, std::int64_t y, std::int64_t x, std::int64_t c) const {
        const bool is_inside = n >= 0 && n < images && y >= 0 && y < height && x >= 0 &&
                               x < width && c >= 0 && c < channels;
        return is_inside
                   ? values[static_cast<std::size_t>(((n * height + y) * width + x) * channels + c)]
                   : 0;
    }
};

struct Load {
    TensorMap map;
    std::int32_t coordinates[4];
    std::uint16_t offsets[2];
    std::uint16_t *results;
    std::uint16_t *early;
};

void load(const Load &p) {
    if (threadIdx.x == 0) {
        emulator::barrier_init(8, 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        emulator::barrier_arrive_expect(8, p.map.copied_bytes());
        if (p.map.is_im2col) {
            emulator::copy_im2col(data_at, p.map, p.coordinates, p.offsets, 8);
        } else {
            emulator::copy_tensor(data_at, p.map, p.coordinates, 8);
        }
        std::memcpy(p.early, emulator::shared_memory() + data_at, sizeof *p.early);
    }
    emulator::barrier_wait(8, 0);
    if (threadIdx.x == 33) {
        std::memcpy(p.results, emulator::shared_memory() + data_at, p.map.copied_bytes());
    }
}

// The value at that row and column of a copy, rows of `row_bytes`.
std::uint16_t value_at(const std::vector<std::uint16_t> &copied, std::uint32_t row,
                       std::uint32_t row_bytes, std::uint32_t column, bool is_swizzled) {
    std::uint32_t at = row * row_bytes + column * 2;
    if (is_swizzled) {
        // Chunk c of row r of eight rows of 128 bytes lies at chunk c ^ r.
        at = row * 128 + ((column / 8) ^ (row % 8)) * 16 + column % 8 * 2;
    }
    return copied[at / 2];
}

std::vector<std::uint16_t> copied(Load &params) {
    std::vector<std::uint16_t> results(params.map.copied_bytes() / 2);
    std::uint16_t early = 0;
    params.results = results.data();
    params.early = &early;
    check_is(run<load>(1, 64, data_at + params.map.copied_bytes(), params), "");
    CHECK(early == 0xffff);
    return results;
}

void check_tiles(std::mt19937_64 &random) {
    const Images images(3, 7, 9, 72);
    for (int round = 0; round < 60; ++round) {
        const bool is_swizzled = round % 2 == 0;
        const std::uint32_t stride = 1 + static_cast<std::uint32_t>(random() % 3);
        const auto draw = [&](int low, int high) {
            return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
        };
        const std::uint32_t row = is_swizzled ? 64 : static_cast<std::uint32_t>(draw(1, 9)) * 8;
        Load params{};
        std::string error;
        const std::array<std::uint32_t, 5> box{row, static_cast<std::uint32_t>(draw(1, 11)),
                                               static_cast<std::uint32_t>(draw(1, 8)),
                                               static_cast<std::uint32_t>(draw(1, 3))};
        CHECK(emulator::encode_tiled(&params.map, images.shape(stride, is_swizzled), box, &error));
        const std::int32_t first[4] = {draw(-20, 70), draw(-4, 9), draw(-4, 7), draw(-1, 3)};
        std::copy(first, first + 4, params.coordinates);
        const std::vector<std::uint16_t> results = copied(params);
        const std::uint32_t width = (box[1] + stride - 1) / stride;
        const std::uint32_t height = (box[2] + stride - 1) / stride;
        CHECK(results.size() == std::size_t{row} * width * height * box[3]);
        for (std::uint32_t i = 0; i < results.size(); ++i) {
            const std::uint32_t c = i % row, number = i / row;
            const std::uint32_t x = number % width, y = number / width % height;
            const std::uint32_t n = number / width / height;
            CHECK(value_at(results, number, row * 2, c, is_swizzled) ==
                  images.at(first[3] + n, first[2] + std::int64_t{y} * stride,
                            first[1] + std::int64_t{x} * stride, first[0] + c));
        }
    }
}

// What a convolution reads: for each of its outputs, row by row, the pixel under one tap.
void check_im2col() {
    const Images images(2, 6, 5, 128);
    for (std::uint32_t side : {1u, 3u, 7u}) {
        for (std::uint32_t stride : {1u, 2u}) {
            const auto padding = static_cast<std::int32_t>(side / 2);
            const std::int32_t upper = padding - static_cast<std::int32_t>(side - 1);
            const std::uint32_t height = (6 - 1) / stride + 1, width = (5 - 1) / stride + 1;
            const std::uint32_t pixels = 48; // more than a batch has at stride 2
            Load params{};
            std::string error;
            CHECK(emulator::encode_im2col(&params.map, images.shape(stride, true),
                                          {-padding, -padding, 0}, {upper, upper, 0}, 64, pixels,
                                          &error));
            for (std::uint32_t tap = 0; tap < side * side; ++tap) {
                const std::uint32_t first = tap % (height * width);
                params.offsets[0] = static_cast<std::uint16_t>(tap % side);
                params.offsets[1] = static_cast<std::uint16_t>(tap / side);
                params.coordinates[0] = 64;
                params.coordinates[1] = static_cast<std::int32_t>(first % width * stride) - padding;
                params.coordinates[2] = static_cast<std::int32_t>(first / width * stride) - padding;
                params.coordinates[3] = 0;
                const std::vector<std::uint16_t> results = copied(params);
                for (std::uint32_t i = 0; i < pixels * 64; ++i) {
                    const std::uint32_t output = first + i / 64;
                    const std::uint32_t n = output / (height * width);
                    const std::uint32_t y = output / width % height, x = output % width;
                    CHECK(value_at(results, i / 64, 128, i % 64, true) ==
                          images.at(n, std::int64_t{y} * stride + tap / side - padding,
                                    std::int64_t{x} * stride + tap % side - padding, 64 + i % 64));
                }
            }
        }
    }
}

struct Product {
    TensorMap left, right; // [64 rows][256 of K], [columns][256 of K]
    std::uint32_t columns;
    float *sums; // [64][columns]
    float *early;
};

constexpr std::uint32_t stages_len = 2;
constexpr std::uint32_t steps_len = 4;

// One thread copies, four warps multiply: barriers 0 and 8 are full, 16 and 24 empty.
void multiply(const Product &p) {
    const std::uint32_t stage_bytes = (64 + p.columns) * 128;
    if (threadIdx.x == 0) {
        for (std::uint32_t stage = 0; stage < stages_len; ++stage) {
            emulator::barrier_init(stage * 8, 1);
            emulator::barrier_init(16 + stage * 8, 128);
        }
    }
    __syncthreads();
    if (threadIdx.x >= 128) {
        for (std::uint32_t step = 0; threadIdx.x == 128 && step < steps_len; ++step) {
            const std::uint32_t stage = step % stages_len, round = step / stages_len;
            const std::uint32_t at = data_at + stage * stage_bytes;
            const std::int32_t coordinates[2] = {static_cast<std::int32_t>(step * 64), 0};
            emulator::barrier_wait(16 + stage * 8, (round & 1) ^ 1);
            emulator::barrier_arrive_expect(stage * 8, stage_bytes);
            emulator::copy_tensor(at, p.left, coordinates, stage * 8);
            emulator::copy_tensor(at + 64 * 128, p.right, coordinates, stage * 8);
        }
        return;
    }
    float sums[128];
    for (std::uint32_t step = 0; step < steps_len; ++step) {
        const std::uint32_t stage = step % stages_len, round = step / stages_len;
        const std::uint32_t at = data_at + stage * stage_bytes;
        emulator::barrier_wait(stage * 8, round & 1);
        emulator::wgmma_fence();
        for (std::uint32_t k = 0; k < 64; k += 16) {
            emulator::wgmma_m64k16(sums, p.columns, emulator::wgmma_descriptor(at + k * 2),
                                   emulator::wgmma_descriptor(at + 64 * 128 + k * 2),
                                   step + k != 0);
        }
        emulator::wgmma_commit();
        p.early[threadIdx.x] = sums[0];
        emulator::wgmma_wait(0);
        emulator::barrier_arrive(16 + stage * 8);
    }
    const std::uint32_t lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
    for (std::uint32_t i = 0; i < p.columns / 2; ++i) {
        const std::uint32_t column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        p.sums[(row + i / 2 % 2 * 8) * p.columns + column] = sums[i];
    }
}

void check_products(std::mt19937_64 &random) {
    constexpr std::uint32_t k_len = steps_len * 64;
    for (const std::uint32_t columns : {8u, 64u, 104u, 256u}) {
        const With with(columns == 64 ? random() : 0, 1);
        std::vector<std::uint16_t> left(64 * k_len), right(columns * k_len);
        for (auto *values : {&left, &right}) {
            for (std::uint16_t &value : *values) {
                const int whole = static_cast<int>(random() % 9) - 4;
                value = emulator::round_to_f16(static_cast<float>(whole));
            }
        }
        std::vector<float> sums(64 * columns), early(128);
        Product params{};
        std::string error;
        const auto encode = [&](TensorMap *map, const std::vector<std::uint16_t> &values,
                                std::uint32_t rows) {
            const TensorShape shape{values.data(), 2, {k_len, rows}, {k_len * 2}, {1, 1}, true};
            CHECK(emulator::encode_tiled(map, shape, {64, rows}, &error));
        };
        encode(&params.left, left, 64);
        encode(&params.right, right, columns);
        params.columns = columns;
        params.sums = sums.data();
        params.early = early.data();
        check_is(run<multiply>(1, 160, data_at + stages_len * (64 + columns) * 128, params), "");
        for (std::uint32_t i = 0; i < 64 * columns; ++i) {
            float expected = 0;
            for (std::uint32_t k = 0; k < k_len; ++k) {
                expected += emulator::unpack_f16(left[i / columns * k_len + k]) *
                            emulator::unpack_f16(right[i % columns * k_len + k]);
            }
            CHECK(sums[i] == expected);
        }
        for (const float value : early) {
            CHECK(std::isnan(value));
        }
    }
}

struct Case {
    TensorMap map;
    int number;
};

void go_astray(const Case &p) {
    const std::int32_t coordinates[4] = {0, 0, 0, 0};
    float sums[4] = {};
    if (p.number != 0) {
        emulator::barrier_init(8, 2);
    }
    switch (p.number) {
    case 0:
        emulator::barrier_arrive(8);
        break;
    case 1: // one arrival is missing
        emulator::barrier_arrive(8);
        emulator::barrier_wait(8, 0);
        break;
    case 2: // fewer bytes come than are expected
        emulator::barrier_arrive(8);
        emulator::barrier_arrive_expect(8, p.map.copied_bytes() + 16);
        emulator::copy_tensor(data_at, p.map, coordinates, 8);
        emulator::barrier_wait(8, 0);
        break;
    case 3:
        emulator::copy_tensor(data_at, p.map, coordinates, 8);
        break;
    case 4:
        emulator::copy_tensor(data_at + 64, p.map, coordinates, 8);
        break;
    case 5:
        emulator::barrier_arrive_expect(8, 16);
        emulator::barrier_arrive(8);
        emulator::barrier_arrive(8);
        break;
    case 6:
        emulator::wgmma_m64k16(sums, 8, 0, 0, true);
        break;
    default:
        emulator::wgmma_fence();
        emulator::wgmma_m64k16(sums, 8, emulator::wgmma_descriptor(2048),
                               emulator::wgmma_descriptor(2048 + 128), true);
        break;
    }
}

void check_misuse() {
    const Images images(1, 4, 4, 8);
    std::string error;
    Case params{};
    CHECK(emulator::encode_tiled(&params.map, images.shape(1, false), {8, 4, 4, 1}, &error));
    const std::string thread = "kernel: block (0,0,0), thread (0,0,0) ";
    const std::string waits = "kernel: block (0,0,0) cannot go on: 1 of 1 threads at "
                              "mbarrier.try_wait";
    const std::string expected[] = {
        thread + "uses byte 8 of shared memory as a barrier with mbarrier.arrive, but none is "
                 "there",
        waits,
        waits,
        thread + "exits last, before cp.async.bulk.tensor has ended",
        thread + "reaches byte 1088 of shared memory with cp.async.bulk.tensor, which is not "
                 "aligned to 128",
        thread + "arrives at a barrier more often than it was made for",
        thread + "executes wgmma without wgmma.fence since it last waited",
        thread + "gives wgmma the descriptor 4000004000010088, of a layout that is not emulated",
    };
    for (params.number = 0; params.number < 8; ++params.number) {
        check_is(run<go_astray>(1, 1, 16384, params),
                 expected[static_cast<std::size_t>(params.number)]);
    }
    // What the driver would refuse.
    TensorShape shape = images.shape(1, false);
    CHECK(!emulator::encode_tiled(&params.map, shape, {8, 4, 257, 1}, &error));
    CHECK(!emulator::encode_tiled(&params.map, shape, {4, 4, 4, 1}, &error));
    CHECK(!emulator::encode_im2col(&params.map, shape, {-129, 0, 0}, {}, 8, 4, &error));
    shape.strides_bytes[0] = 8;
    CHECK(!emulator::encode_tiled(&params.map, shape, {8, 4, 4, 1}, &error));
}

} // namespace

void check_hopper(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    check_tiles(random);
    check_im2col();
    check_products(random);
    check_misuse();
}

// Stem, average pool and fully connected layer of 8-bit integers against scalar references, bit for
// bit.

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "stem.hpp"
#include "tests.hpp"

namespace twinstream::tests {

namespace {

constexpr unsigned BORDERS = TWINSTREAM_STEM_I8_BORDERS;

// The class of a pixel on one axis, as launch.h has it.
unsigned border_of(unsigned at, unsigned side) {
    const std::array<unsigned, 4> classes{0, 1, 3, 4};
    const std::array<unsigned, 4> pixels{0, 1, side - 2, side - 1};
    for (unsigned i = 0; i < 4; ++i)
        if (at == pixels[i]) return classes[i];
    return 2;
}

double test_stem(Random &random, unsigned len, unsigned bucket, unsigned height, unsigned width) {
    const std::string what = "stem_i8: " + std::to_string(len) + " of " + std::to_string(bucket) +
                             " images " + std::to_string(height) + "x" + std::to_string(width);
    twinstream_stem_params p = stem_sizes(height, width);
    const auto images = random_u8(random, (len + 2) * p.image_bytes);
    auto filter = random_s8(random, 64 * 7 * 7 * 3);
    // Results of the first channel are halves, which go to the even neighbour.
    std::fill_n(filter.begin(), 7 * 7 * 3, std::int8_t{0});
    filter[(3 * 7 + 3) * 3] = 1;
    Buffer<std::uint8_t> packed(64 * 7 * 8 * 4);
    std::fill_n(packed.values(), packed.len(), std::uint8_t{0});
    for (unsigned i = 0; i < filter.size(); ++i)
        packed[i / 21 * 32 + i % 21 / 3 * 4 + i % 3] = static_cast<std::uint8_t>(filter[i]);
    Buffer<float> scales((BORDERS * BORDERS + 1) * 64);
    for (unsigned i = 0; i < scales.len(); ++i)
        scales[i] = i < BORDERS * BORDERS * 64 ? random_between(random, -50.0f, 200.0f)
                                               : random_between(random, 2e-4f, 7e-4f);
    scales[BORDERS * BORDERS * 64] = 0.5f;
    for (unsigned border = 0; border < BORDERS * BORDERS; ++border)
        scales[border * 64] = static_cast<float>(border);
    const std::size_t pixels = std::size_t{p.pooled_height} * p.pooled_width;
    const Buffer<std::uint8_t> output(bucket * pixels * 64);
    const Batch batch(len, 1);
    // Slots in any order, not one after the other.
    for (unsigned i = 0; i < len; ++i) batch.host().slots[i] = (i * 5 + 2) % (len + 2);
    p.images = images.address();
    p.batch = batch.address();
    p.weights = packed.address();
    p.bias = scales.address();
    p.output = output.address();
    launch_stem("stem_i8", bucket, TWINSTREAM_STEM_I8_SHARED_BYTES, p, batch, what);

    const auto conv = [&](unsigned image, unsigned y, unsigned x, unsigned o) {
        std::int32_t sum = 0;
        for (unsigned tap = 0; tap < 7 * 7 * 3; ++tap) {
            const unsigned in_y = 2 * y + tap / 21 - 3, in_x = 2 * x + tap % 21 / 3 - 3;
            if (in_y >= height || in_x >= width) continue;
            sum += images[batch.host().slots[image] * p.image_bytes + (in_y * width + in_x) * 3 +
                          tap % 3] *
                   filter[o * 7 * 7 * 3 + tap];
        }
        const unsigned border = border_of(y, p.conv_height) * BORDERS + border_of(x, p.conv_width);
        return to_u8(std::fma(static_cast<float>(sum), scales[BORDERS * BORDERS * 64 + o],
                              scales[border * 64 + o]));
    };
    Worst worst;
    // All of small images; of large ones every seventh value, which meets all channels and edges.
    for (std::size_t i = 0; i < len * pixels * 64; i += pixels > 400 ? 7 : 1) {
        const auto image = static_cast<unsigned>(i / 64 / pixels);
        const auto y = static_cast<unsigned>(i / 64 % pixels / p.pooled_width);
        const auto x = static_cast<unsigned>(i / 64 % p.pooled_width);
        std::uint8_t largest = 0;
        for (unsigned tap = 0; tap < 9; ++tap) {
            const unsigned conv_y = 2 * y + tap / 3 - 1, conv_x = 2 * x + tap % 3 - 1;
            if (conv_y >= p.conv_height || conv_x >= p.conv_width) continue;
            largest = std::max(largest, conv(image, conv_y, conv_x, static_cast<unsigned>(i % 64)));
        }
        worst.compare_exactly(i, output[i], largest);
    }
    worst.require(what);
    if (!output.untouched(len * pixels * 64)) fail(what + ": wrote beyond the batch");

    const std::vector<std::uint8_t> expected(output.values(), output.values() + output.len());
    std::vector<std::uint16_t> integers;
    for (unsigned i = 0; i < packed.len(); ++i)
        integers.push_back(to_f16(static_cast<std::int8_t>(packed[i])));
    each_stem_by_wgmma("stem_i8_wgmma", bucket, p, integers, output, batch, what,
                       [&](const std::string &which) { require_same(expected, output, which); });
    return worst.ratio;
}

double test_average_pool(Random &random, unsigned len, unsigned bucket, unsigned pixels,
                         unsigned channels) {
    const std::string what = "average_pool_i8: " + std::to_string(len) + " images, " +
                             std::to_string(pixels) + " pixels, " + std::to_string(channels) +
                             " channels";
    const auto input = random_u8(random, std::size_t{len} * pixels * channels);
    Buffer<float> multiplier(1);
    multiplier[0] = random_between(random, 0.5f, 2.5f) / static_cast<float>(pixels);
    const Buffer<std::uint8_t> output(std::size_t{bucket} * channels);
    const Batch batch(len, 0);
    const twinstream_average_pool_params p{
        input.address(), multiplier.address(), output.address(), batch.address(), pixels, channels};
    launch("average_pool_i8", channels / 64, bucket, 1, TWINSTREAM_AVERAGE_POOL_I8_THREADS,
           TWINSTREAM_AVERAGE_POOL_I8_SHARED_BYTES, p, batch, what);
    Worst worst;
    for (std::size_t i = 0; i < std::size_t{len} * channels; ++i) {
        std::uint32_t sum = 0;
        for (unsigned pixel = 0; pixel < pixels; ++pixel)
            sum += input[(i / channels * pixels + pixel) * channels + i % channels];
        worst.compare_exactly(i, output[i], to_u8(static_cast<float>(sum) * multiplier[0]));
    }
    worst.require(what);
    if (!output.untouched(std::size_t{len} * channels)) fail(what + ": wrote beyond the batch");
    return worst.ratio;
}

double test_fully_connected(Random &random, unsigned len, unsigned bucket, unsigned channels,
                            unsigned classes) {
    const std::string what = "fully_connected_i8: " + std::to_string(len) + " images, " +
                             std::to_string(channels) + " channels, " + std::to_string(classes) +
                             " classes";
    const auto input = random_u8(random, std::size_t{len} * channels);
    const auto weights = random_s8(random, std::size_t{classes} * channels);
    Buffer<std::uint8_t> packed(weights.size());
    std::copy(weights.begin(), weights.end(), packed.values());
    Buffer<float> scales(std::size_t{classes} * 2);
    for (unsigned i = 0; i < scales.len(); ++i)
        scales[i] = i < classes ? random_between(random, -1.0f, 1.0f)
                                : random_between(random, 1e-5f, 1e-3f);
    const std::size_t result_len = std::size_t{bucket} * classes;
    const Buffer<float> logits(result_len * TWINSTREAM_RESULT_LEN);
    const Batch batch(len, 2);
    const twinstream_fully_connected_params p{
        input.address(), packed.address(),           scales.address(), logits.address(),
        batch.address(), result_len * sizeof(float), channels,         classes};
    launch("fully_connected_i8", (classes - 1) / TWINSTREAM_FULLY_CONNECTED_CLASSES + 1,
           (bucket - 1) / TWINSTREAM_FULLY_CONNECTED_IMAGES + 1, 1,
           TWINSTREAM_FULLY_CONNECTED_I8_THREADS, TWINSTREAM_FULLY_CONNECTED_I8_SHARED_BYTES, p,
           batch, what);
    Worst worst;
    for (std::size_t i = 0; i < std::size_t{len} * classes; ++i) {
        const std::size_t image = i / classes, index = i % classes;
        std::int32_t sum = 0;
        for (unsigned channel = 0; channel < channels; ++channel)
            sum += input[image * channels + channel] * weights[index * channels + channel];
        worst.compare_exactly(
            i, logits[2 * result_len + i],
            std::fma(static_cast<float>(sum), scales[classes + index], scales[index]));
    }
    worst.require(what);
    if (!logits.untouched(2 * result_len + std::size_t{len} * classes) || logits[0] == logits[0])
        fail(what + ": wrote beyond the batch");
    return worst.ratio;
}

} // namespace

void test_layers_i8(std::uint64_t seed) {
    Random random(seed);
    Subject stem("stem_i8");
    // The smallest image, odd sides, one pixel beyond a tile, and the size of ImageNet.
    for (const auto &[len, bucket, height, width] : {std::array<unsigned, 4>{3, 5, 32, 32},
                                                     {2, 2, 33, 57},
                                                     {1, 1, 65, 34},
                                                     {9, 9, 35, 40},
                                                     {1, 1, 38, 223},
                                                     {1, 1, 224, 224}})
        stem.attempt([&, l = len, b = bucket, h = height, w = width] {
            return test_stem(random, l, b, h, w);
        });
    stem.report();

    Subject pool("average_pool_i8");
    for (const unsigned pixels : {1u, 2u, 15u, 16u, 17u, 49u, 70u})
        pool.attempt(
            [&] { return test_average_pool(random, 3, 4, pixels, 64 * (pixels % 3 + 1)); });
    pool.attempt([&] { return test_average_pool(random, 1, 1, 49, 2048); });
    pool.report();

    Subject logits("fully_connected_i8");
    for (const unsigned len : {1u, 7u, 16u, 17u, 33u})
        for (const unsigned classes : {1u, 10u, 16u, 17u, 40u})
            logits.attempt(
                [&] { return test_fully_connected(random, len, len + 3, 64 * len, classes); });
    logits.attempt([&] { return test_fully_connected(random, 2, 2, 2048, 1000); });
    logits.report();
}

} // namespace twinstream::tests

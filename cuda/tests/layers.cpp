// Stem, average pool, fully connected layer and best classes against scalar references.

#include <algorithm>
#include <numeric>

#include "stem.hpp"
#include "tests.hpp"

namespace twinstream::tests {

namespace {

struct StemCase {
    unsigned len, bucket, height, width;
    Data data;
};

struct Stem {
    StemCase c;
    std::string what;
    twinstream_stem_params p;
    // [output][row][column of 8][channel of 4], as launch.h prescribes; also what the reference
    // reads.
    Buffer<std::uint16_t> filter, output;
    Buffer<float> bias;
    Buffer<std::uint8_t> images;
    Batch batch;

    Stem(const StemCase &of, Random &random)
        : c(of), what("stem: " + std::to_string(c.len) + " of " + std::to_string(c.bucket) +
                      " images " + std::to_string(c.height) + "x" + std::to_string(c.width)),
          p(stem_sizes(c.height, c.width)),
          filter(random_f16(random, 64 * 7 * 8 * 4, c.data, 0.25f)),
          output(std::size_t{c.bucket} * p.pooled_height * p.pooled_width * 64),
          bias(random_f32(random, 64, c.data, 1.0f)), images((c.len + 2) * p.image_bytes),
          batch(c.len, 1) {
        for (unsigned i = 0; i < filter.len(); ++i)
            if (i % 4 == 3 || i / 4 % 8 == 7) filter[i] = 0;
        for (unsigned i = 0; i < images.len(); ++i)
            images[i] = static_cast<std::uint8_t>(c.data == Data::integers ? random.below(8)
                                                                           : random.below(256));
        // Slots in any order, not one after the other.
        for (unsigned i = 0; i < c.len; ++i) batch.host().slots[i] = (i * 5 + 2) % (c.len + 2);
        p.images = images.address();
        p.batch = batch.address();
        p.weights = filter.address();
        p.bias = bias.address();
        p.output = output.address();
        for (unsigned i = 0; i < 3; ++i) {
            // Integers again: pixels of 0 to 7 become -3 to 4, and so on.
            p.scale[i] = c.data == Data::integers ? 1.0f : 0.017f + 0.001f * static_cast<float>(i);
            p.shift[i] = c.data == Data::integers ? -3.0f : -2.1f + 0.1f * static_cast<float>(i);
        }
    }

    Sum conv(unsigned image, unsigned y, unsigned x, unsigned o) const {
        Sum sum;
        for (unsigned row = 0; row < 7; ++row)
            for (unsigned column = 0; column < 7; ++column) {
                const unsigned in_y = 2 * y + row - 3, in_x = 2 * x + column - 3;
                if (in_y >= c.height || in_x >= c.width) continue;
                for (unsigned i = 0; i < 3; ++i) {
                    const std::uint8_t value = images[batch.host().slots[image] * p.image_bytes +
                                                      (in_y * c.width + in_x) * 3 + i];
                    const double weight = from_f16(filter[((o * 7 + row) * 8 + column) * 4 + i]);
                    // nvcc fuses the two, which rounds once; a host compiler may not.
                    const float pixel = static_cast<float>(value);
                    const double once = from_f16(to_f16(std::fma(pixel, p.scale[i], p.shift[i])));
                    const double twice = from_f16(to_f16(pixel * p.scale[i] + p.shift[i]));
                    sum.add(twice * weight);
                    sum.spread += std::fabs((once - twice) * weight);
                }
            }
        sum.add(bias[o]);
        return sum;
    }

    void compare(Worst &worst, unsigned image, unsigned y, unsigned x, unsigned o) const {
        double largest = 0.0, error = 0.0;
        for (unsigned tap = 0; tap < 9; ++tap) {
            const unsigned conv_y = 2 * y + tap / 3 - 1, conv_x = 2 * x + tap % 3 - 1;
            if (conv_y >= p.conv_height || conv_x >= p.conv_width) continue;
            const Sum sum = conv(image, conv_y, conv_x, o);
            largest = std::max(largest, sum.value);
            error = std::max(error, sum_error(148.0, sum.magnitude) + sum.spread);
        }
        const std::size_t index =
            ((std::size_t{image} * p.pooled_height + y) * p.pooled_width + x) * 64 + o;
        if (c.data == Data::integers)
            worst.compare_exactly(index, from_f16(output[index]),
                                  from_f16(to_f16(static_cast<float>(largest))));
        else
            worst.compare(index, from_f16(output[index]), largest, error + f16_error(largest));
    }

    double run() const {
        launch_stem("stem", c.bucket, TWINSTREAM_STEM_SHARED_BYTES, p, batch, what);
        double worst = check(what);
        const std::vector<std::uint16_t> expected(output.values(), output.values() + output.len());
        const std::vector<std::uint16_t> weights(filter.values(), filter.values() + filter.len());
        each_stem_by_wgmma("stem_wgmma", c.bucket, p, weights, output, batch, what,
                           [&](const std::string &which) {
                               if (c.data == Data::integers)
                                   require_same(expected, output, which);
                               else
                                   worst = std::max(worst, check(which));
                           });
        return worst;
    }

    double check(const std::string &which) const {
        Worst worst;
        const std::size_t pixels = std::size_t{p.pooled_height} * p.pooled_width;
        // All of small images; of large ones every seventh value, which meets all channels and
        // edges.
        const std::size_t step = pixels > 400 ? 7 : 1;
        for (std::size_t i = 0; i < c.len * pixels * 64; i += step)
            compare(worst, static_cast<unsigned>(i / 64 / pixels),
                    static_cast<unsigned>(i / 64 % pixels / p.pooled_width),
                    static_cast<unsigned>(i / 64 % p.pooled_width), static_cast<unsigned>(i % 64));
        worst.require(which);
        if (!output.untouched(c.len * pixels * 64)) fail(which + ": wrote beyond the batch");
        return worst.ratio;
    }
};

double test_describe(Random &random) {
    const Batch batch(3, 2);
    for (std::uint32_t &slot : batch.host().slots) slot = random.below(1000);
    const Buffer<twinstream_batch> to(1);
    twinstream_describe_params params = batch.to_device();
    params.batch = to.address();
    run({describe(params)}, "describe");
    if (std::memcmp(&to[0], &batch.host(), sizeof(twinstream_batch)) != 0)
        fail("describe: the copy differs");
    return 0.0;
}

double test_average_pool(Random &random, unsigned len, unsigned bucket, unsigned pixels,
                         unsigned channels) {
    const std::string what = "average_pool: " + std::to_string(len) + " images, " +
                             std::to_string(pixels) + " pixels, " + std::to_string(channels) +
                             " channels";
    const auto input = random_f16(random, std::size_t{len} * pixels * channels, Data::reals, 2.0f);
    const Buffer<std::uint16_t> output(std::size_t{bucket} * channels);
    const Batch batch(len, 0);
    const twinstream_average_pool_params p{input.address(), 0,      output.address(),
                                           batch.address(), pixels, channels};
    launch("average_pool", channels / 64, bucket, 1, TWINSTREAM_AVERAGE_POOL_THREADS,
           TWINSTREAM_AVERAGE_POOL_SHARED_BYTES, p, batch, what);
    Worst worst;
    for (std::size_t i = 0; i < std::size_t{len} * channels; ++i) {
        Sum sum;
        for (unsigned pixel = 0; pixel < pixels; ++pixel)
            sum.add(from_f16(input[(i / channels * pixels + pixel) * channels + i % channels]));
        const double mean = sum.value / pixels;
        worst.compare(i, from_f16(output[i]), mean,
                      sum_error(pixels, sum.magnitude / pixels) + f16_error(mean) +
                          std::ldexp(std::fabs(mean), -23));
    }
    worst.require(what);
    if (!output.untouched(std::size_t{len} * channels)) fail(what + ": wrote beyond the batch");
    return worst.ratio;
}

double test_fully_connected(Random &random, unsigned len, unsigned bucket, unsigned channels,
                            unsigned classes, Data data) {
    const std::string what = "fully_connected: " + std::to_string(len) + " images, " +
                             std::to_string(channels) + " channels, " + std::to_string(classes) +
                             " classes";
    const auto input = random_f16(random, std::size_t{len} * channels, data, 1.0f);
    const auto weights = random_f16(random, std::size_t{classes} * channels, data, 1.0f);
    const auto bias = random_f32(random, classes, data, 1.0f);
    const std::size_t result_len = std::size_t{bucket} * classes;
    const Buffer<float> logits(result_len * TWINSTREAM_RESULT_LEN);
    const Batch batch(len, 2);
    const twinstream_fully_connected_params p{
        input.address(), weights.address(),          bias.address(), logits.address(),
        batch.address(), result_len * sizeof(float), channels,       classes};
    launch("fully_connected", (classes - 1) / TWINSTREAM_FULLY_CONNECTED_CLASSES + 1,
           (bucket - 1) / TWINSTREAM_FULLY_CONNECTED_IMAGES + 1, 1,
           TWINSTREAM_FULLY_CONNECTED_THREADS, TWINSTREAM_FULLY_CONNECTED_SHARED_BYTES, p, batch,
           what);
    Worst worst;
    for (std::size_t i = 0; i < std::size_t{len} * classes; ++i) {
        Sum sum;
        for (unsigned channel = 0; channel < channels; ++channel)
            sum.add(double{from_f16(input[i / classes * channels + channel])} *
                    double{from_f16(weights[i % classes * channels + channel])});
        sum.add(bias[i % classes]);
        const float logit = logits[2 * result_len + i];
        if (data == Data::integers)
            worst.compare_exactly(i, logit, sum.value);
        else
            worst.compare(i, logit, sum.value, sum_error(channels + 1.0, sum.magnitude));
    }
    worst.require(what);
    if (!logits.untouched(2 * result_len + std::size_t{len} * classes) || logits[0] == logits[0])
        fail(what + ": wrote beyond the batch");
    return worst.ratio;
}

double test_top_k(Random &random, unsigned len, unsigned bucket, unsigned classes, unsigned k,
                  bool has_nan = false) {
    const std::string what = "top_k: " + std::to_string(len) + " images, " + std::to_string(k) +
                             " of " + std::to_string(classes) + " classes";
    const std::size_t logit_len = std::size_t{bucket} * classes, best_len = std::size_t{bucket} * k;
    Buffer<float> logits(logit_len * TWINSTREAM_RESULT_LEN);
    const Buffer<twinstream_class> best(best_len * TWINSTREAM_RESULT_LEN);
    // Few values and hence many ties; some far below the others.
    for (std::size_t i = 0; i < len * std::size_t{classes}; ++i)
        logits[3 * logit_len + i] =
            random.below(9) == 0 ? -200.0f : static_cast<float>(random.below(12)) - 6.5f;
    // NaN of either sign comes first, even with every bit set.
    if (has_nan)
        for (unsigned image = 0; image < len; ++image)
            for (const unsigned i : {0u, classes / 2}) {
                const std::uint32_t bits = i == 0 ? 0x7fffffff : 0xffc00000;
                std::memcpy(&logits[3 * logit_len + std::size_t{image} * classes + i], &bits, 4);
            }
    const Batch batch(len, 3);
    const twinstream_top_k_params p{logits.address(),
                                    best.address(),
                                    batch.address(),
                                    logit_len * sizeof(float),
                                    best_len * sizeof(twinstream_class),
                                    classes,
                                    k};
    launch("top_k", bucket, 1, 1, TWINSTREAM_TOP_K_THREADS, TWINSTREAM_TOP_K_SHARED_BYTES, p, batch,
           what);
    Worst worst;
    for (unsigned image = 0; image < len; ++image) {
        const float *const of = &logits[3 * logit_len + std::size_t{image} * classes];
        std::vector<unsigned> order(classes);
        std::iota(order.begin(), order.end(), 0u);
        std::stable_sort(order.begin(), order.end(), [&](unsigned a, unsigned b) {
            return of[a] > of[b] || (std::isnan(of[a]) && !std::isnan(of[b]));
        });
        double total = 0.0;
        for (unsigned i = 0; i < classes; ++i) total += std::exp(double{of[i]} - of[order[0]]);
        for (unsigned rank = 0; rank < k; ++rank) {
            const std::size_t index = 3 * best_len + std::size_t{image} * k + rank;
            if (best[index].index != static_cast<float>(order[rank]))
                fail(what + ": rank " + std::to_string(rank) + " is class " +
                     std::to_string(best[index].index) + ", expected " +
                     std::to_string(order[rank]));
            if (has_nan) continue; // all shares are NaN
            const double share = std::exp(double{of[order[rank]]} - of[order[0]]) / total;
            // A few units in the last place for exp and the quotient, besides the sum's roundings.
            worst.compare(index, best[index].probability, share,
                          share * (std::ldexp(8.0, -24) + sum_error(classes, 1.0)) + 1e-40);
        }
    }
    worst.require(what);
    if (!best.untouched(3 * best_len + std::size_t{len} * k))
        fail(what + ": wrote beyond the batch");
    return worst.ratio;
}

} // namespace

void test_stem(std::uint64_t seed) {
    Random random(seed);
    Subject stem("stem");
    // The smallest image, odd sides, one pixel beyond a tile, and the size of ImageNet.
    for (const StemCase &c : {StemCase{3, 5, 32, 32, Data::integers},
                              {1, 1, 32, 32, Data::reals},
                              {2, 2, 33, 57, Data::integers},
                              {1, 1, 65, 34, Data::reals},
                              {9, 9, 35, 40, Data::integers},
                              {1, 1, 38, 223, Data::integers},
                              {1, 1, 224, 224, Data::reals}})
        stem.attempt([&] { return Stem(c, random).run(); });
    stem.report();
}

void test_pool_and_classes(std::uint64_t seed) {
    Random random(seed);
    Subject batches("describe");
    batches.attempt([&] { return test_describe(random); });
    batches.report();

    Subject pool("average_pool");
    for (const unsigned pixels : {1u, 2u, 31u, 32u, 33u, 49u, 70u})
        pool.attempt(
            [&] { return test_average_pool(random, 3, 4, pixels, 64 * (pixels % 3 + 1)); });
    pool.attempt([&] { return test_average_pool(random, 1, 1, 49, 2048); });
    pool.report();

    Subject logits("fully_connected");
    for (const Data data : {Data::integers, Data::reals})
        for (const unsigned len : {1u, 7u, 8u, 9u, 33u})
            for (const unsigned classes : {1u, 10u, 16u, 17u, 40u})
                logits.attempt([&] {
                    return test_fully_connected(random, len, len + 3, 64 * len, classes, data);
                });
    logits.attempt([&] { return test_fully_connected(random, 2, 2, 2048, 1000, Data::reals); });
    logits.report();

    Subject best("top_k");
    for (const unsigned classes : {1u, 2u, 10u, 255u, 256u, 257u, 1000u})
        best.attempt([&] { return test_top_k(random, 3, 5, classes, std::min(classes, 7u)); });
    for (const unsigned classes : {5u, 300u})
        best.attempt([&] { return test_top_k(random, 2, 2, classes, 5, true); });
    best.report();
}

} // namespace twinstream::tests

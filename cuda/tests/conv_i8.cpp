// The convolutions of 8-bit integers against a scalar reference, bit for bit: what conv.cpp tries
// of those in f16, as far as these compute it.

#include "conv_base.hpp"
#include "tests.hpp"

namespace twinstream::tests {

namespace {

struct Integers {
    using Value = std::uint8_t;
    using Weight = std::int8_t;
    using Partial = std::int32_t;
    static constexpr bool SHORTCUT_FIRST = true;

    static std::vector<Weight> weights(Random &random, std::size_t len, Data) {
        return random_s8(random, len);
    }
    static Buffer<Value> values(Random &random, std::size_t len, Data) {
        return random_u8(random, len);
    }
};

struct ConvI8 : ConvBase<Integers> {
    ConvI8(const Case &of, Random &random) : ConvBase(as_integers(of), random) {
        scales = Buffer<float>(std::size_t{c.outputs} * 3);
        // Sums of random products have this standard deviation; so most results are within u8.
        const float deviation = 147.0f * 73.0f * std::sqrt(static_cast<float>(own_len(c)));
        for (unsigned o = 0; o < c.outputs; ++o) {
            scales[o] = random_between(random, -20.0f, 200.0f);
            scales[c.outputs + o] = random_between(random, 20.0f, 80.0f) / deviation;
            scales[2 * c.outputs + o] = random_between(random, 0.1f, 1.5f);
            if (o % 8 < 4) make_delicate(o);
        }
        prepare();
    }

    // One that integers compute: always with ReLU, not with both a residual and a shortcut, and
    // whole with a shortcut.
    static Case as_integers(Case c) {
        c.data = Data::integers;
        c.relu = true;
        if (c.shortcut_channels != 0) {
            c.residual = false;
            c.split_k = 1;
        }
        c.split_k = std::min(c.split_k, step_len(c));
        return c;
    }

    // Has a channel depend on how it is rounded. Of some such channels results are halves, which go
    // to the even neighbour. Of the others one product is off a half, on the side where
    // the odd neighbour is, by less than f32 holds of it: by `fma` the sum is off too, while a
    // product that was rounded before has it at the half.
    void make_delicate(unsigned o) {
        const auto one = filter.begin() + std::ptrdiff_t{o} * c.kernel * c.kernel * c.channels;
        std::fill_n(one, c.kernel * c.kernel * c.channels, std::int8_t{0});
        std::fill_n(shortcut_filter.begin() + std::ptrdiff_t{o} * c.shortcut_channels,
                    c.shortcut_channels, std::int8_t{0});
        // The first output's sum is its first input in channel 0.
        const unsigned seen = (c.padding() * c.kernel + c.padding()) * c.channels;
        float &bias = scales[o], &multiplier = scales[c.outputs + o];
        const float added = scales[2 * c.outputs + o];
        if (o % 4 < 2) {
            one[seen] = 1;
            multiplier = 0.5f;
            bias = 3.0f;
        } else if (c.residual) {
            residual[o] = 63;
            bias = below_half(63.0, added);
        } else {
            one[seen] = 1;
            multiplier = added;
            bias = below_half(input[0], added);
        }
    }

    // What a product, as f32 rounds it, is to be added to for a half, whose even neighbour lies on
    // the other side than the exact product.
    static float below_half(double factor, float multiplier) {
        const double product = factor * double{multiplier};
        const auto rounded = static_cast<float>(product);
        return (product > double{rounded} ? 10.5f : 11.5f) - rounded;
    }

    std::uint8_t reference(const Output &at) const {
        const float added = scales[2 * c.outputs + at.channel];
        std::int32_t sum = 0;
        const auto add = [&](std::uint8_t value, std::int8_t weight) { sum += value * weight; };
        shortcut_products(at, add);
        sum = static_cast<std::int32_t>(std::nearbyint(static_cast<float>(sum) * added));
        own_products(at, add);
        float value =
            std::fma(static_cast<float>(sum), scales[c.outputs + at.channel], scales[at.channel]);
        if (c.residual) value = std::fma(static_cast<float>(residual[at.index]), added, value);
        return to_u8(value);
    }

    double run() const {
        std::size_t inside_len = 0;
        const double ratio = run_and_compare([&](Worst &worst, const Output &at) {
            const std::uint8_t expected = reference(at);
            worst.compare_exactly(at.index, output[at.index], expected);
            inside_len += expected > 0 && expected < 255 ? 1 : 0;
        });
        if (inside_len * 4 < output_len(c.len) / stride_of_outputs())
            fail(c.text() + ": hardly tells any apart");
        return ratio;
    }
};

} // namespace

void test_conv_i8(std::uint64_t seed, unsigned random_len) {
    test_tiles<ConvI8>("conv_i8", entries_of(true, false), seed, random_len);
    test_tiles<ConvI8>("conv_i8_wgmma", entries_of(true, true), seed, random_len);
}

void test_conv_i8_network(std::uint64_t seed) {
    test_network<ConvI8>(entries_of(true, true), seed);
}

} // namespace twinstream::tests

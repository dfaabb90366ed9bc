// The convolutions in f16 against a scalar reference in double precision: sizes around every edge
// of every tile, strides, taps that only see padding, residual, projection shortcut, split-K, short
// batches.

#include "conv_base.hpp"
#include "tests.hpp"

namespace twinstream::tests {

namespace {

struct Halves {
    using Value = std::uint16_t;
    using Weight = std::uint16_t;
    using Partial = float;
    static constexpr bool SHORTCUT_FIRST = false;

    static std::vector<Weight> weights(Random &random, std::size_t len, Data data) {
        std::vector<Weight> weights(len);
        for (Weight &weight : weights) weight = to_f16(random.value(data, 1.0f));
        return weights;
    }
    static Buffer<Value> values(Random &random, std::size_t len, Data data) {
        return random_f16(random, len, data, 1.0f);
    }
};

struct Conv : ConvBase<Halves> {
    Conv(const Case &of, Random &random) : ConvBase(of, random) {
        scales = random_f32(random, c.outputs, c.data, 1.0f);
        prepare();
    }

    Sum reference(const Output &at) const {
        Sum sum;
        const auto add = [&](std::uint16_t a, std::uint16_t b) {
            sum.add(double{from_f16(a)} * double{from_f16(b)});
        };
        own_products(at, add);
        shortcut_products(at, add);
        sum.add(scales[at.channel]);
        if (c.residual) sum.add(from_f16(residual[at.index]));
        return sum;
    }

    double run() const {
        const double terms = own_len(c) + c.shortcut_channels + 2.0;
        return run_and_compare([&](Worst &worst, const Output &at) {
            const Sum sum = reference(at);
            const double value = c.relu ? std::max(sum.value, 0.0) : sum.value;
            const double found = from_f16(output[at.index]);
            if (c.data == Data::integers)
                worst.compare_exactly(at.index, found, from_f16(to_f16(static_cast<float>(value))));
            else
                worst.compare(at.index, found, value,
                              sum_error(terms, sum.magnitude) + f16_error(value));
        });
    }
};

} // namespace

void test_conv(std::uint64_t seed, unsigned random_len) {
    test_tiles<Conv>("conv", entries_of(false, false), seed, random_len);
    test_tiles<Conv>("conv_wgmma", entries_of(false, true), seed, random_len);
}

void test_conv_network(std::uint64_t seed) { test_network<Conv>(entries_of(false, true), seed); }

} // namespace twinstream::tests

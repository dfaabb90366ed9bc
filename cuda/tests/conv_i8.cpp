// The convolutions of 8-bit integers against a scalar reference, bit for bit: what conv.cpp tries
// of those in f16, as far as these compute it.

#include <algorithm>
#include <vector>

#include "conv_cases.hpp"
#include "tests.hpp"

namespace twinstream::tests {

namespace {

// Values of K in a step.
constexpr unsigned STEP_LEN = 128;

unsigned steps_of(unsigned values) { return (values + STEP_LEN - 1) / STEP_LEN; }

struct ConvI8 {
    Case c;
    twinstream_conv_params p{};
    // As in conv.cpp.
    std::vector<std::int8_t> filter, shortcut_filter;
    std::vector<std::uint8_t> residual;
    Buffer<std::uint8_t> input, shortcut, packed, output;
    // Bias, multiplier, and that of what is added.
    Buffer<float> scales;
    Buffer<std::int32_t> partials;
    Buffer<std::uint32_t> semaphores;
    Batch batch;
    unsigned grid_x, grid_y;

    ConvI8(const Case &of, Random &random)
        : c(as_integers(of)),
          filter(random_s8(random, std::size_t{c.outputs} * c.kernel * c.kernel * c.channels)),
          shortcut_filter(random_s8(random, std::size_t{c.outputs} * c.shortcut_channels)),
          residual(c.residual ? output_len(c.len) : 0),
          input(random_u8(random, std::size_t{c.len} * c.height * c.width * c.channels)),
          shortcut(random_u8(random, shortcut_len())),
          packed(std::size_t{c.outputs} * step_len(c) * STEP_LEN), output(output_len(c.bucket)),
          scales(std::size_t{c.outputs} * 3), partials(0), semaphores(0), batch(c.len, 0) {
        grid_x = (c.bucket * c.out(c.height) * c.out(c.width) + c.entry.m - 1) / c.entry.m;
        grid_y = c.outputs / c.entry.n;
        for (std::uint8_t &value : residual) value = static_cast<std::uint8_t>(random.below(256));
        // Sums of random products have this standard deviation; so most results are within u8.
        const float deviation = 147.0f * 73.0f * std::sqrt(static_cast<float>(own_len(c)));
        for (unsigned o = 0; o < c.outputs; ++o) {
            scales[o] = random_between(random, -20.0f, 200.0f);
            scales[c.outputs + o] = random_between(random, 20.0f, 80.0f) / deviation;
            scales[2 * c.outputs + o] = random_between(random, 0.1f, 1.5f);
            if (o % 8 < 4) make_delicate(o);
        }
        pack();
        describe();
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
    static unsigned own_len(const Case &c) {
        return taps_in_use(c, c.height)[1] * taps_in_use(c, c.width)[1] * c.channels;
    }
    static unsigned step_len(const Case &c) {
        return steps_of(own_len(c)) + steps_of(c.shortcut_channels);
    }
    std::size_t output_len(unsigned images) const {
        return std::size_t{images} * c.out(c.height) * c.out(c.width) * c.outputs;
    }
    unsigned shortcut_side(unsigned side) const {
        return (c.out(side) - 1) * c.shortcut_stride + 1;
    }
    std::size_t shortcut_len() const {
        return std::size_t{c.len} * shortcut_side(c.height) * shortcut_side(c.width) *
               c.shortcut_channels;
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
    // What a product, as f32 rounds it, is to be added to for a half, whose even neighbour is on
    // the other side than the product.
    static float below_half(double factor, float multiplier) {
        const double product = factor * double{multiplier};
        const auto rounded = static_cast<float>(product);
        return (product > double{rounded} ? 10.5f : 11.5f) - rounded;
    }

    // Into the order that launch.h prescribes.
    void pack() {
        const auto [row_first, row_len] = taps_in_use(c, c.height);
        const auto [column_first, column_len] = taps_in_use(c, c.width);
        std::fill_n(packed.values(), packed.len(), std::uint8_t{0});
        for (unsigned o = 0; o < c.outputs; ++o) {
            std::size_t k = 0;
            const auto put = [&](std::int8_t value) {
                const std::size_t step = o / 64 * step_len(c) + k / STEP_LEN;
                packed[(step * 64 + o % 64) * STEP_LEN + k % STEP_LEN] =
                    static_cast<std::uint8_t>(value);
                ++k;
            };
            for (unsigned i = 0; i < c.shortcut_channels; ++i)
                put(shortcut_filter[std::size_t{o} * c.shortcut_channels + i]);
            k = std::size_t{steps_of(c.shortcut_channels)} * STEP_LEN;
            for (unsigned block = 0; block < c.channels; block += 64)
                for (unsigned row = row_first; row < row_first + row_len; ++row)
                    for (unsigned column = column_first; column < column_first + column_len;
                         ++column)
                        for (unsigned i = 0; i < 64; ++i)
                            put(filter[((std::size_t{o} * c.kernel + row) * c.kernel + column) *
                                           c.channels +
                                       block + i]);
        }
    }

    void describe() {
        p.input = input.address();
        p.weights = packed.address();
        p.bias = scales.address();
        p.output = output.address();
        p.batch = batch.address();
        if (c.residual) {
            // In place, as the arena has it.
            std::copy(residual.begin(), residual.end(), output.values());
            p.residual = output.address();
        }
        if (c.shortcut_channels != 0) p.shortcut = shortcut.address();
        if (c.split_k > 1) {
            const std::size_t tiles = std::size_t{grid_x} * grid_y;
            partials = Buffer<std::int32_t>(tiles * c.split_k * c.entry.m * c.entry.n);
            semaphores = Buffer<std::uint32_t>(tiles);
            std::fill_n(semaphores.values(), tiles, 0u);
            p.partials = partials.address();
            p.semaphores = semaphores.address();
        }
        p.input_height = c.height;
        p.input_width = c.width;
        p.channels = c.channels;
        p.output_height = c.out(c.height);
        p.output_width = c.out(c.width);
        p.output_channels = c.outputs;
        p.stride = c.stride;
        p.padding = c.padding();
        p.tap_row_first = taps_in_use(c, c.height)[0];
        p.tap_rows = taps_in_use(c, c.height)[1];
        p.tap_column_first = taps_in_use(c, c.width)[0];
        p.tap_columns = taps_in_use(c, c.width)[1];
        p.shortcut_height = shortcut_side(c.height);
        p.shortcut_width = shortcut_side(c.width);
        p.shortcut_channels = c.shortcut_channels;
        p.shortcut_stride = c.shortcut_stride;
        p.relu = 1;
        p.split_k = c.split_k;
    }

    std::uint8_t reference(unsigned image, unsigned y, unsigned x, unsigned o,
                           std::size_t index) const {
        const float added = scales[2 * c.outputs + o];
        std::int32_t sum = 0;
        const std::size_t from =
            (std::size_t{image} * shortcut_side(c.height) + y * c.shortcut_stride) *
                shortcut_side(c.width) +
            x * c.shortcut_stride;
        for (unsigned i = 0; i < c.shortcut_channels; ++i)
            sum += shortcut[from * c.shortcut_channels + i] *
                   shortcut_filter[std::size_t{o} * c.shortcut_channels + i];
        sum = static_cast<std::int32_t>(std::nearbyint(static_cast<float>(sum) * added));
        for (unsigned row = 0; row < c.kernel; ++row)
            for (unsigned column = 0; column < c.kernel; ++column) {
                const unsigned in_y = y * c.stride + row - c.padding();
                const unsigned in_x = x * c.stride + column - c.padding();
                if (in_y >= c.height || in_x >= c.width) continue;
                const std::size_t pixel = (std::size_t{image} * c.height + in_y) * c.width + in_x;
                const std::size_t tap = (std::size_t{o} * c.kernel + row) * c.kernel + column;
                for (unsigned i = 0; i < c.channels; ++i)
                    sum += input[pixel * c.channels + i] * filter[tap * c.channels + i];
            }
        float value = std::fma(static_cast<float>(sum), scales[c.outputs + o], scales[o]);
        if (c.residual) value = std::fma(static_cast<float>(residual[index]), added, value);
        return to_u8(value);
    }

    // Every output where that is cheap; else a stride that is coprime to all sizes.
    double compare() const {
        Worst worst;
        const unsigned height = c.out(c.height), width = c.out(c.width);
        const std::size_t step = output_len(c.len) * step_len(c) * STEP_LEN > 20'000'000 ? 101 : 1;
        std::size_t inside_len = 0;
        for (std::size_t index = 0; index < output_len(c.len); index += step) {
            const std::size_t pixel = index / c.outputs;
            const std::uint8_t expected = reference(
                static_cast<unsigned>(pixel / width / height),
                static_cast<unsigned>(pixel / width % height), static_cast<unsigned>(pixel % width),
                static_cast<unsigned>(index % c.outputs), index);
            worst.compare_exactly(index, output[index], expected);
            inside_len += expected > 0 && expected < 255 ? 1 : 0;
        }
        worst.require(c.text());
        if (inside_len * 4 < output_len(c.len) / step) fail(c.text() + ": hardly tells any apart");
        if (!output.untouched(output_len(c.len))) fail(c.text() + ": wrote beyond the batch");
        for (std::size_t i = 0; i < semaphores.len(); ++i)
            if (semaphores[i] != 0)
                fail(c.text() + ": counter " + std::to_string(i) + " was not set back");
        return worst.ratio;
    }

    double run() const {
        launch(c.entry.name, grid_x, grid_y, c.split_k, c.entry.threads, c.entry.shared_bytes, p,
               batch, c.text());
        return compare();
    }
};

} // namespace

void test_conv_i8(std::uint64_t seed, unsigned random_len) {
    Random random(seed);
    const auto attempt = [&](Subject &subject, const Case &c) {
        subject.attempt([&] { return ConvI8(c, random).run(); });
    };
    const std::vector<Entry> tiles = entries_of(true);
    for (const Entry &entry : tiles) {
        Subject subject(entry.name);
        for (const Case &c : cases_of(entry)) attempt(subject, c);
        subject.report();
    }
    Subject long_rows("conv_i8, rows as long as at 224x224");
    for (const Case &c : long_cases(tiles)) attempt(long_rows, c);
    long_rows.report();
    Subject any("conv_i8, random cases");
    for (unsigned i = 0; i < random_len; ++i) attempt(any, random_case(random, tiles));
    any.report();
}

} // namespace twinstream::tests

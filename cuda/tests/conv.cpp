// The convolutions in f16 against a scalar reference in double precision: sizes around every edge
// of every tile, strides, taps that only see padding, residual, projection shortcut, split-K, short
// batches.

#include <algorithm>
#include <vector>

#include "conv_cases.hpp"
#include "tests.hpp"

namespace twinstream::tests {

namespace {

struct Conv {
    Case c;
    twinstream_conv_params p{};
    // For the reference alone: [output][row][column][channel] of the whole kernel, and
    // [output][channel] of the shortcut.
    std::vector<std::uint16_t> filter, shortcut_filter, residual;
    Buffer<std::uint16_t> input, shortcut, packed, output;
    Buffer<float> bias, partials;
    Buffer<std::uint32_t> semaphores;
    Batch batch;
    unsigned grid_x, grid_y;

    Conv(const Case &of, Random &random)
        : c(of),
          filter(f16_list(random, std::size_t{c.outputs} * c.kernel * c.kernel * c.channels)),
          shortcut_filter(f16_list(random, std::size_t{c.outputs} * c.shortcut_channels)),
          residual(f16_list(random, c.residual ? output_len(c.len) : 0)),
          input(random_f16(random, std::size_t{c.len} * c.height * c.width * c.channels, c.data,
                           1.0f)),
          shortcut(random_f16(random, shortcut_len(), c.data, 1.0f)),
          packed(std::size_t{c.outputs} * k_len()), output(output_len(c.bucket)),
          bias(random_f32(random, c.outputs, c.data, 1.0f)), partials(0), semaphores(0),
          batch(c.len, 0) {
        grid_x = (c.bucket * c.out(c.height) * c.out(c.width) + c.entry.m - 1) / c.entry.m;
        grid_y = c.outputs / c.entry.n;
        pack();
        describe();
    }

    std::vector<std::uint16_t> f16_list(Random &random, std::size_t len) const {
        std::vector<std::uint16_t> values(len);
        for (std::uint16_t &value : values) value = to_f16(random.value(c.data, 1.0f));
        return values;
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
    std::size_t k_len() const {
        return std::size_t{taps_in_use(c, c.height)[1]} * taps_in_use(c, c.width)[1] * c.channels +
               c.shortcut_channels;
    }

    // Into the order that launch.h prescribes.
    void pack() {
        const auto [row_first, row_len] = taps_in_use(c, c.height);
        const auto [column_first, column_len] = taps_in_use(c, c.width);
        for (unsigned o = 0; o < c.outputs; ++o) {
            std::size_t k = 0;
            const auto put = [&](std::uint16_t value) {
                packed[(o / 64 * k_len() / 64 + k / 64) * 4096 + o % 64 * 64 + k % 64] = value;
                ++k;
            };
            for (unsigned block = 0; block < c.channels; block += 64)
                for (unsigned row = row_first; row < row_first + row_len; ++row)
                    for (unsigned column = column_first; column < column_first + column_len;
                         ++column)
                        for (unsigned i = 0; i < 64; ++i)
                            put(filter[((std::size_t{o} * c.kernel + row) * c.kernel + column) *
                                           c.channels +
                                       block + i]);
            for (unsigned i = 0; i < c.shortcut_channels; ++i)
                put(shortcut_filter[std::size_t{o} * c.shortcut_channels + i]);
        }
    }

    void describe() {
        p.input = input.address();
        p.weights = packed.address();
        p.bias = bias.address();
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
            partials = Buffer<float>(tiles * c.split_k * c.entry.m * c.entry.n);
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
        p.relu = c.relu;
        p.split_k = c.split_k;
    }

    Sum reference(unsigned image, unsigned y, unsigned x, unsigned o, std::size_t index) const {
        Sum sum;
        const auto add = [&](std::uint16_t a, std::uint16_t b) {
            sum.add(double{from_f16(a)} * double{from_f16(b)});
        };
        for (unsigned row = 0; row < c.kernel; ++row)
            for (unsigned column = 0; column < c.kernel; ++column) {
                const unsigned in_y = y * c.stride + row - c.padding();
                const unsigned in_x = x * c.stride + column - c.padding();
                if (in_y >= c.height || in_x >= c.width) continue;
                const std::size_t pixel = (std::size_t{image} * c.height + in_y) * c.width + in_x;
                const std::size_t tap = (std::size_t{o} * c.kernel + row) * c.kernel + column;
                for (unsigned i = 0; i < c.channels; ++i)
                    add(input[pixel * c.channels + i], filter[tap * c.channels + i]);
            }
        const std::size_t pixel =
            (std::size_t{image} * shortcut_side(c.height) + y * c.shortcut_stride) *
                shortcut_side(c.width) +
            x * c.shortcut_stride;
        for (unsigned i = 0; i < c.shortcut_channels; ++i)
            add(shortcut[pixel * c.shortcut_channels + i],
                shortcut_filter[std::size_t{o} * c.shortcut_channels + i]);
        sum.add(bias[o]);
        if (c.residual) sum.add(from_f16(residual[index]));
        return sum;
    }

    // Every output where that is cheap; else a stride that is coprime to all sizes.
    double compare() const {
        Worst worst;
        const unsigned height = c.out(c.height), width = c.out(c.width);
        const std::size_t step = output_len(c.len) * k_len() > 20'000'000 ? 101 : 1;
        for (std::size_t index = 0; index < output_len(c.len); index += step) {
            const std::size_t pixel = index / c.outputs;
            const Sum sum = reference(static_cast<unsigned>(pixel / width / height),
                                      static_cast<unsigned>(pixel / width % height),
                                      static_cast<unsigned>(pixel % width),
                                      static_cast<unsigned>(index % c.outputs), index);
            const double value = c.relu ? std::max(sum.value, 0.0) : sum.value;
            if (c.data == Data::integers)
                worst.compare_exactly(index, from_f16(output[index]),
                                      from_f16(to_f16(static_cast<float>(value))));
            else
                worst.compare(index, from_f16(output[index]), value,
                              sum_error(static_cast<double>(k_len() + 2), sum.magnitude) +
                                  f16_error(value));
        }
        worst.require(c.text());
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

void test_conv(std::uint64_t seed, unsigned random_len) {
    Random random(seed);
    const auto attempt = [&](Subject &subject, const Case &c) {
        subject.attempt([&] { return Conv(c, random).run(); });
    };
    const std::vector<Entry> tiles = entries_of(false);
    for (const Entry &entry : tiles) {
        Subject subject(entry.name);
        for (const Case &c : cases_of(entry)) attempt(subject, c);
        subject.report();
    }
    Subject long_rows("conv, rows as long as at 224x224");
    for (const Case &c : long_cases(tiles)) attempt(long_rows, c);
    long_rows.report();
    Subject any("conv, random cases");
    for (unsigned i = 0; i < random_len; ++i) attempt(any, random_case(random, tiles));
    any.report();
}

} // namespace twinstream::tests

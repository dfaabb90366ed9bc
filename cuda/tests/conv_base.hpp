// What the tests of the convolutions of both types share: operands in memory, their layout, the
// launch, and which outputs are looked at. Which values are right, whoever derives from it knows.
#pragma once

#include <algorithm>
#include <vector>

#include "conv_cases.hpp"
#include "conv_wgmma.hpp"

namespace twinstream::tests {

// An output, and where it lies in memory.
struct Output {
    unsigned image, y, x, channel;
    std::size_t index;
};

// `Numbers` says of a type: Value, of activations; Weight, as the reference reads it; Partial, what
// sums are kept in; SHORTCUT_FIRST, whether its terms come first in K; and it draws values and
// weights.
template <class Numbers>
struct ConvBase {
    using Value = typename Numbers::Value;
    // Values of K in a step.
    static constexpr unsigned STEP_LEN = 128 / sizeof(Value);

    Case c;
    twinstream_conv_params p{};
    twinstream_conv_wgmma_params wgmma_params{};
    // For the reference alone: [output][row][column][channel] of the whole kernel, and
    // [output][channel] of the shortcut.
    std::vector<typename Numbers::Weight> filter, shortcut_filter;
    Buffer<Value> residual, input, shortcut, packed, output;
    // The bias; of integers also the multiplier, and that of what is added.
    Buffer<float> scales;
    Buffer<typename Numbers::Partial> partials;
    Buffer<std::uint32_t> semaphores;
    Batch batch;
    unsigned grid_x, grid_y;

    // Without scales; prepare() goes on where these are there.
    ConvBase(const Case &of, Random &random)
        : c(of), filter(Numbers::weights(
                     random, std::size_t{c.outputs} * c.kernel * c.kernel * c.channels, c.data)),
          shortcut_filter(
              Numbers::weights(random, std::size_t{c.outputs} * c.shortcut_channels, c.data)),
          residual(Numbers::values(random, c.residual ? output_len(c.len) : 0, c.data)),
          input(in_memory(Numbers::values(
              random, std::size_t{c.len} * c.height * c.width * c.channels, c.data))),
          shortcut(in_memory(Numbers::values(random, shortcut_len(), c.data))),
          packed(std::size_t{c.outputs} * step_len(c) * STEP_LEN), output(output_len(c.bucket)),
          scales(0), partials(0), semaphores(0), batch(c.len, 0) {
        if (c.entry.by_wgmma && !c.entry.splits()) c.split_k = 1;
        if (c.entry.splits()) c.split_k = cluster_of(c);
        grid_x = (c.bucket * c.out(c.height) * c.out(c.width) + c.entry.m - 1) / c.entry.m;
        grid_y = c.outputs / c.entry.n;
    }

    void prepare() {
        if (c.entry.by_wgmma)
            pack_for_wgmma();
        else
            pack();
        describe();
        if (c.entry.by_wgmma) wgmma_params = describe_for_wgmma(*this);
    }

    // A cluster has one, two, four or eight blocks, and no more than steps.
    static unsigned cluster_of(const Case &c) {
        unsigned len = 1;
        while (len < 8 && 2 * len <= c.split_k && 2 * len <= step_len(c)) len *= 2;
        return len;
    }

    // What the batch's images are, and where the kernel has maps of the whole bucket, NaN behind
    // them.
    Buffer<Value> in_memory(Buffer<Value> values) const {
        if (!c.entry.by_wgmma) return values;
        Buffer<Value> all(values.len() / c.len * c.bucket);
        std::copy_n(values.values(), values.len(), all.values());
        return all;
    }

    static unsigned own_len(const Case &c) {
        return taps_in_use(c, c.height)[1] * taps_in_use(c, c.width)[1] * c.channels;
    }
    static unsigned steps_of(unsigned values) { return (values + STEP_LEN - 1) / STEP_LEN; }
    static unsigned step_len(const Case &c) {
        const unsigned own = c.entry.by_wgmma ? steps_of(c.channels) * (own_len(c) / c.channels)
                                              : steps_of(own_len(c));
        return own + steps_of(c.shortcut_channels);
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

    // Into the order that launch.h prescribes.
    void pack() {
        const auto [row_first, row_len] = taps_in_use(c, c.height);
        const auto [column_first, column_len] = taps_in_use(c, c.width);
        std::fill_n(packed.values(), packed.len(), Value{0});
        for (unsigned o = 0; o < c.outputs; ++o) {
            std::size_t k = 0;
            const auto put = [&](typename Numbers::Weight value) {
                const std::size_t step = o / 64 * step_len(c) + k / STEP_LEN;
                packed[(step * 64 + o % 64) * STEP_LEN + k % STEP_LEN] = static_cast<Value>(value);
                ++k;
            };
            const auto put_shortcut = [&] {
                for (unsigned i = 0; i < c.shortcut_channels; ++i)
                    put(shortcut_filter[std::size_t{o} * c.shortcut_channels + i]);
            };
            if (Numbers::SHORTCUT_FIRST) {
                put_shortcut();
                k = std::size_t{steps_of(c.shortcut_channels)} * STEP_LEN;
            }
            for (unsigned block = 0; block < c.channels; block += 64)
                for (unsigned row = row_first; row < row_first + row_len; ++row)
                    for (unsigned column = column_first; column < column_first + column_len;
                         ++column)
                        for (unsigned i = 0; i < 64; ++i)
                            put(filter[((std::size_t{o} * c.kernel + row) * c.kernel + column) *
                                           c.channels +
                                       block + i]);
            if (!Numbers::SHORTCUT_FIRST) put_shortcut();
        }
    }

    // The same for wgmma: a step is one tap, and every row lies in the swizzle.
    void pack_for_wgmma() {
        const auto [row_first, row_len] = taps_in_use(c, c.height);
        const auto [column_first, column_len] = taps_in_use(c, c.width);
        std::fill_n(packed.values(), packed.len(), Value{0});
        unsigned step = 0;
        // weight(output, channel) is that of one tap.
        const auto put_step = [&](unsigned first, unsigned channels, const auto &weight) {
            for (unsigned o = 0; o < c.outputs; ++o)
                for (unsigned i = 0; i < STEP_LEN && first + i < channels; ++i)
                    packed[wgmma_index<Value>(o, step, i, step_len(c))] =
                        static_cast<Value>(weight(o, first + i));
            ++step;
        };
        const auto put_shortcut = [&] {
            for (unsigned first = 0; first < c.shortcut_channels; first += STEP_LEN)
                put_step(first, c.shortcut_channels, [&](unsigned o, unsigned i) {
                    return shortcut_filter[std::size_t{o} * c.shortcut_channels + i];
                });
        };
        if (Numbers::SHORTCUT_FIRST) put_shortcut();
        for (unsigned first = 0; first < c.channels; first += STEP_LEN)
            for (unsigned row = row_first; row < row_first + row_len; ++row)
                for (unsigned column = column_first; column < column_first + column_len; ++column)
                    put_step(
                        first, c.channels, [&, row = row, column = column](unsigned o, unsigned i) {
                            return filter[((std::size_t{o} * c.kernel + row) * c.kernel + column) *
                                              c.channels +
                                          i];
                        });
        if (!Numbers::SHORTCUT_FIRST) put_shortcut();
    }

    void describe() {
        p.input = input.address();
        p.weights = packed.address();
        p.bias = scales.address();
        p.output = output.address();
        p.batch = batch.address();
        if (c.residual) {
            // In place, as the arena has it.
            std::copy_n(residual.values(), residual.len(), output.values());
            p.residual = output.address();
        }
        if (c.shortcut_channels != 0) p.shortcut = shortcut.address();
        if (c.split_k > 1 && !c.entry.by_wgmma) {
            const std::size_t tiles = std::size_t{grid_x} * grid_y;
            partials = Buffer<typename Numbers::Partial>(tiles * c.split_k * c.entry.m * c.entry.n);
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

    // Calls add(value, weight) for each product of an output's own sum.
    template <class Add>
    void own_products(const Output &at, const Add &add) const {
        for (unsigned row = 0; row < c.kernel; ++row)
            for (unsigned column = 0; column < c.kernel; ++column) {
                const unsigned in_y = at.y * c.stride + row - c.padding();
                const unsigned in_x = at.x * c.stride + column - c.padding();
                if (in_y >= c.height || in_x >= c.width) continue;
                const std::size_t pixel =
                    (std::size_t{at.image} * c.height + in_y) * c.width + in_x;
                const std::size_t tap =
                    (std::size_t{at.channel} * c.kernel + row) * c.kernel + column;
                for (unsigned i = 0; i < c.channels; ++i)
                    add(input[pixel * c.channels + i], filter[tap * c.channels + i]);
            }
    }

    // The same of the projection's sum.
    template <class Add>
    void shortcut_products(const Output &at, const Add &add) const {
        const std::size_t pixel =
            (std::size_t{at.image} * shortcut_side(c.height) + at.y * c.shortcut_stride) *
                shortcut_side(c.width) +
            at.x * c.shortcut_stride;
        for (unsigned i = 0; i < c.shortcut_channels; ++i)
            add(shortcut[pixel * c.shortcut_channels + i],
                shortcut_filter[std::size_t{at.channel} * c.shortcut_channels + i]);
    }

    // Launches the kernel and has compare_one(worst, output) look at every output where that is
    // cheap; else at a stride that is coprime to all sizes.
    template <class Compare>
    double run_and_compare(const Compare &compare_one) const {
        if (c.entry.by_wgmma)
            launch(c.entry.name, wgmma_blocks(), 1, 1, c.entry.threads, c.entry.shared_bytes,
                   wgmma_params, batch, c.text(), cluster_len());
        else
            launch(c.entry.name, grid_x, grid_y, c.split_k, c.entry.threads, c.entry.shared_bytes,
                   p, batch, c.text());
        Worst worst;
        const unsigned height = c.out(c.height), width = c.out(c.width);
        for (std::size_t index = 0; index < output_len(c.len); index += stride_of_outputs()) {
            const std::size_t pixel = index / c.outputs;
            compare_one(worst, Output{static_cast<unsigned>(pixel / width / height),
                                      static_cast<unsigned>(pixel / width % height),
                                      static_cast<unsigned>(pixel % width),
                                      static_cast<unsigned>(index % c.outputs), index});
        }
        worst.require(c.text());
        if (!output.untouched(written_len())) fail(c.text() + ": wrote beyond the batch");
        for (std::size_t i = 0; i < semaphores.len(); ++i)
            if (semaphores[i] != 0)
                fail(c.text() + ": counter " + std::to_string(i) + " was not set back");
        return worst.ratio;
    }
    // Of wgmma whole tiles are written.
    std::size_t written_len() const {
        if (!c.entry.by_wgmma) return output_len(c.len);
        const std::size_t pixels = output_len(c.len) / c.outputs;
        const std::size_t tiles = (pixels + c.entry.m - 1) / c.entry.m;
        return std::min(tiles * c.entry.m * c.outputs, output_len(c.bucket));
    }
    unsigned cluster_len() const { return c.entry.splits() ? c.split_k : c.entry.cluster; }
    // From one cluster to one more than there are tiles for; a cluster a tile where it shares K.
    unsigned wgmma_blocks() const {
        if (c.entry.splits()) return grid_x * grid_y * c.split_k;
        const unsigned clusters = grid_x * grid_y / c.entry.cluster;
        return (1 + (c.height * 7 + c.len) % (clusters + 1)) * c.entry.cluster;
    }
    std::size_t stride_of_outputs() const {
        return output_len(c.len) * step_len(c) * STEP_LEN > 20'000'000 ? 101 : 1;
    }
};

// Every shape of the network by every tile: minutes.
template <class Conv>
void test_network(const std::vector<Entry> &tiles, std::uint64_t seed) {
    Random random(seed);
    for (const Entry &entry : tiles) {
        Subject subject(std::string(entry.name) + ", the network's shapes");
        // An odd batch of small images, then one of large ones.
        for (const Case &c : network_cases(entry, 32, 5, 7))
            subject.attempt([&] { return Conv(c, random).run(); });
        for (const Case &c : network_cases(entry, 224, 1, 1))
            subject.attempt([&] { return Conv(c, random).run(); });
        subject.report();
    }
}

// All cases for the tiles of one type; their subjects are called by `name`.
template <class Conv>
void test_tiles(const std::string &name, const std::vector<Entry> &tiles, std::uint64_t seed,
                unsigned random_len) {
    Random random(seed);
    const auto attempt = [&](Subject &subject, const Case &c) {
        subject.attempt([&] { return Conv(c, random).run(); });
    };
    if (tiles.empty()) {
        std::printf("%s: not for this device\n", name.c_str());
        return;
    }
    for (const Entry &entry : tiles) {
        Subject subject(entry.name);
        for (const Case &c : entry.by_wgmma ? wgmma_cases_of(entry) : cases_of(entry))
            attempt(subject, c);
        if (entry.splits())
            for (const Case &c : split_cases_of(entry)) attempt(subject, c);
        subject.report();
    }
    Subject long_rows(name + ", rows as long as at 224x224");
    for (const Case &c : long_cases(tiles)) attempt(long_rows, c);
    long_rows.report();
    Subject any(name + ", random cases");
    for (unsigned i = 0; i < random_len; ++i) attempt(any, random_case(random, tiles));
    any.report();
}

} // namespace twinstream::tests

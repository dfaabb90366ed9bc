// The kernels that prove others: what they write, and which differences they find.

#include <array>

#include "../prove.h"
#include "check.hpp"
#include "tests.hpp"

namespace twinstream::tests {

namespace {

// More chunks than a grid of these tests has threads.
constexpr unsigned BLOCKS = 3, CHUNKS = 1000, LEN = 8 * CHUNKS;

Launch launch(const char *name, unsigned threads, const void *params) {
    return {name, {BLOCKS, 1, 1}, threads, 0, params, true, 1};
}

// Values of a kind, with a chunk behind them that is left alone.
Buffer<std::uint8_t> filled(std::uint32_t values, std::uint32_t seed) {
    Buffer<std::uint8_t> to(16 * (CHUNKS + 1));
    const twinstream_prove_fill_params params = {to.address(), CHUNKS, seed, values};
    run({launch("prove_fill", TWINSTREAM_PROVE_FILL_THREADS, &params)}, "prove_fill");
    if (!to.untouched(16 * CHUNKS)) fail("prove_fill writes beyond its memory");
    return to;
}

bool equal(const Buffer<std::uint8_t> &one, const Buffer<std::uint8_t> &other) {
    return std::memcmp(one.values(), other.values(), one.len()) == 0;
}

// Bytes of a kind are from 0 to `last`, each about as often as any other, or twice.
void check_bytes(std::uint32_t values, unsigned last) {
    const Buffer<std::uint8_t> to = filled(values, 1);
    std::vector<unsigned> often(256);
    for (unsigned i = 0; i < 16 * CHUNKS; ++i) ++often[to[i]];
    for (unsigned value = 0; value < 256; ++value) {
        const unsigned even = value <= last ? 16 * CHUNKS / (last + 1) : 0;
        if (often[value] < even / 2 || often[value] > 2 * even) fail("prove_fill: bytes");
    }
}

void check_fill() {
    const auto is_all = [](const Buffer<std::uint8_t> &to, unsigned value) {
        return std::all_of(to.values(), to.values() + 16 * CHUNKS,
                           [&](std::uint8_t byte) { return byte == value; });
    };
    if (!is_all(filled(TWINSTREAM_PROVE_ONES, 1), 0xff)) fail("prove_fill: ones");
    if (!is_all(filled(TWINSTREAM_PROVE_ZEROS, 1), 0)) fail("prove_fill: zeros");
    check_bytes(TWINSTREAM_PROVE_BYTES, 255);
    check_bytes(TWINSTREAM_PROVE_SMALL_BYTES, 2);
    const Buffer<std::uint8_t> halves = filled(TWINSTREAM_PROVE_SMALL_HALVES, 1);
    unsigned often[3] = {};
    for (unsigned i = 0; i < LEN; ++i) {
        const float value = from_f16(reinterpret_cast<const std::uint16_t *>(halves.values())[i]);
        if (value != 0.0f && value != 1.0f && value != 2.0f) fail("prove_fill: halves");
        ++often[static_cast<unsigned>(value)];
    }
    for (const unsigned len : often)
        if (len < LEN / 4 || len > LEN / 2) fail("prove_fill: halves are not even");
    if (!equal(halves, filled(TWINSTREAM_PROVE_SMALL_HALVES, 1))) fail("prove_fill: one seed");
    if (equal(halves, filled(TWINSTREAM_PROVE_SMALL_HALVES, 2))) fail("prove_fill: two seeds");
}

// What a comparison of f16 values finds, with these put in the place of equal ones.
struct Compared {
    Buffer<std::uint16_t> found{LEN}, expected{LEN}, magnitudes{LEN};
    Buffer<std::uint32_t> difference{3};
    bool is_bounded;

    explicit Compared(bool bounded) : is_bounded(bounded) {
        for (unsigned i = 0; i < LEN; ++i) {
            found[i] = expected[i] = to_f16(static_cast<float>(i % 100));
            magnitudes[i] = to_f16(100.0f);
        }
        for (unsigned i = 0; i < 3; ++i) difference[i] = 0;
    }

    // Values, the first of them, and how far they are away at most.
    void require(unsigned len, unsigned first, float worst, unsigned value_bytes = 2) {
        const twinstream_prove_compare_params params = {found.address(),
                                                        expected.address(),
                                                        is_bounded ? magnitudes.address() : 0,
                                                        difference.address(),
                                                        CHUNKS,
                                                        value_bytes,
                                                        0.01f,
                                                        0.125f,
                                                        0.25f};
        run({launch("prove_compare", TWINSTREAM_PROVE_COMPARE_THREADS, &params)}, "prove_compare");
        float found_worst;
        std::memcpy(&found_worst, &difference[2], sizeof found_worst);
        if (difference[0] != len || (len > 0 && ~difference[1] != first) || found_worst != worst)
            fail("prove_compare: " + std::to_string(difference[0]) + " values, first " +
                 std::to_string(~difference[1]) + ", by " + std::to_string(found_worst));
    }
};

void check_compare() {
    const std::uint16_t nan = 0x7e00;
    for (const bool is_bounded : {false, true}) Compared(is_bounded).require(0, 0, 0.0f);
    Compared bits(false);
    // The same bits, and zeros of either sign, are equal.
    bits.found[0] = 0x8000;
    bits.found[1] = bits.expected[1] = nan;
    // Of one thread.
    bits.found[7999] = to_f16(100.0f);
    bits.found[1850] = to_f16(48.0f);
    bits.require(2, 1850, 2.0f);
    Compared bytes(false);
    reinterpret_cast<std::uint8_t *>(bytes.found.values())[4097] ^= 0x80;
    bytes.require(1, 4097, 128.0f, 1);
    // 100 * 0.01 + 8 * 0.125 + 0.25 is allowed.
    Compared within(true);
    within.found[8] = to_f16(10.25f);
    within.found[108] = to_f16(5.75f);
    within.require(0, 0, 0.0f);
    Compared beyond(true);
    beyond.found[8] = to_f16(10.5f);
    beyond.found[108] = to_f16(5.5f);
    beyond.require(2, 8, 2.5f);
    // What is no number is within no bound, nor is a sum whose terms f16 does not hold.
    for (Buffer<std::uint16_t> Compared::*const part : {&Compared::found, &Compared::expected}) {
        Compared without_number(true);
        (without_number.*part)[5] = nan;
        without_number.require(1, 5, INFINITY);
    }
    Compared both(true);
    both.found[5] = both.expected[5] = nan;
    both.require(1, 5, INFINITY);
    Compared large(true);
    large.magnitudes[5] = 0x7c00;
    large.require(1, 5, 0.0f);
}

} // namespace

void test_prove() {
    Subject subject("prove_fill, prove_compare");
    subject.attempt([] { return check_fill(), 0.0; });
    subject.attempt([] { return check_compare(), 0.0; });
    subject.report();
}

} // namespace twinstream::tests

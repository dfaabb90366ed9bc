// What the kernel tests share: random numbers, f16 on the host, device buffers, launches and the
// comparison of results.
//
// Two kinds of data: small integers, whose sums are exact in f32 in whatever order they are added,
// so that results must agree bit for bit; and real numbers, compared within a bound derived from
// the number of roundings. Buffers end where their data ends and are filled with NaN, so that a
// read too far shows, in the result or under AddressSanitizer.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../emulator/f16.hpp"
#include "../emulator/launch.hpp"
#include "../launch.h"

namespace twinstream::tests {

inline std::uint16_t to_f16(float value) {
    return static_cast<std::uint16_t>(emulator::pack_f16x2(value, 0.0f));
}
inline float from_f16(std::uint16_t bits) { return emulator::unpack_f16(bits); }

enum class Data { integers, reals };

class Random {
public:
    explicit Random(std::uint64_t seed) : engine(seed) {}
    // 0 to end - 1.
    unsigned below(unsigned end) { return static_cast<unsigned>(engine() % end); }
    // An integer from -3 to 3, or a real number from -scale to scale; representable in f16.
    float value(Data data, float scale) {
        if (data == Data::integers)
            return static_cast<float>(static_cast<int>(below(7)) - 3);
        const float unit = static_cast<float>(engine() >> 40) / static_cast<float>(1 << 23) - 1.0f;
        return from_f16(to_f16(unit * scale));
    }

private:
    std::mt19937_64 engine;
};

// Device memory of `len` values, every byte 0xff at first: NaN as f16 and as f32.
template <class Value>
class Buffer {
public:
    explicit Buffer(std::size_t len)
        : values(
              static_cast<Value *>(std::aligned_alloc(16, (len * sizeof(Value) + 15) / 16 * 16))),
          value_len(len) {
        std::memset(values.get(), 0xff, (len * sizeof(Value) + 15) / 16 * 16);
    }
    Value &operator[](std::size_t index) { return values.get()[index]; }
    const Value &operator[](std::size_t index) const { return values.get()[index]; }
    std::size_t len() const { return value_len; }
    std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(values.get()); }
    bool untouched(std::size_t from) const {
        const auto *const bytes = reinterpret_cast<const unsigned char *>(values.get());
        for (std::size_t i = from * sizeof(Value); i < value_len * sizeof(Value); ++i)
            if (bytes[i] != 0xff)
                return false;
        return true;
    }

private:
    struct Free {
        void operator()(Value *pointer) const { std::free(pointer); }
    };
    std::unique_ptr<Value, Free> values;
    std::size_t value_len;
};

inline Buffer<std::uint16_t> random_f16(Random &random, std::size_t len, Data data, float scale) {
    Buffer<std::uint16_t> buffer(len);
    for (std::size_t i = 0; i < len; ++i)
        buffer[i] = to_f16(random.value(data, scale));
    return buffer;
}

inline Buffer<float> random_f32(Random &random, std::size_t len, Data data, float scale) {
    Buffer<float> buffer(len);
    for (std::size_t i = 0; i < len; ++i)
        buffer[i] = random.value(data, scale);
    return buffer;
}

inline Buffer<twinstream_batch> batch_of(unsigned len, unsigned result) {
    Buffer<twinstream_batch> batch(1);
    batch[0].len = len;
    batch[0].result = result;
    return batch;
}

[[noreturn]] inline void fail(const std::string &what) {
    std::printf("FAILED %s\n", what.c_str());
    std::exit(1);
}

template <class Params>
void launch(const char *name, unsigned x, unsigned y, unsigned z, unsigned threads,
            unsigned shared_bytes, const Params &params, const std::string &what) {
    const unsigned grid[3] = {x, y, z}, block[3] = {threads, 1, 1};
    const emulator::Kernel *const kernel = emulator::find_kernel(name);
    if (kernel == nullptr)
        fail(what + ": no kernel is called " + name);
    std::string error;
    if (emulator::run_kernel(*kernel, grid, block, shared_bytes, &params, &error) != 0)
        fail(what + ": " + error);
}

// A sum by the reference: its value and the sum of its terms' magnitudes.
struct Sum {
    double value = 0.0;
    double magnitude = 0.0;
    void add(double term) {
        value += term;
        magnitude += std::fabs(term);
    }
};

// The worst of many results, measured in the error that was allowed.
struct Worst {
    double ratio = 0.0;
    double found = 0.0;
    double expected = 0.0;
    std::size_t index = 0;

    // `error` is the allowed distance; NaN never agrees.
    void compare(std::size_t at, double result, double reference, double error) {
        const double distance = std::fabs(result - reference);
        const double share = distance / error;
        if (!(share <= ratio))
            *this = {std::isnan(share) ? INFINITY : share, result, reference, at};
    }
    void compare_exactly(std::size_t at, double result, double reference) {
        if (!(result == reference))
            *this = {INFINITY, result, reference, at};
    }
    void require(const std::string &what) const {
        if (ratio > 1.0)
            fail(what + ": element " + std::to_string(index) + " is " + std::to_string(found)
                 + ", expected " + std::to_string(expected) + " (" + std::to_string(ratio)
                 + " of the error allowed)");
    }
};

// Error allowed for an f32 sum of `terms` products: the emulated tensor core rounds after every
// addition, each time by half a unit in the last place (2^-24) of a partial sum. Roundings are as
// often up as down, so that n of them add up to about sqrt(n); four times that leaves chance no
// part. A real tensor core truncates what it adds at once and stays within twice this.
inline double sum_error(double terms, double magnitude) {
    return 4.0 * std::sqrt(terms) * std::ldexp(magnitude, -24);
}

// Rounding to f16 besides: half a unit in the last place, 2^-11 of the value or 2^-25 near zero.
inline double f16_error(double value) {
    return std::ldexp(std::fabs(value), -11) + std::ldexp(1.0, -25);
}

} // namespace twinstream::tests

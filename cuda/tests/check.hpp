// What the kernel tests share: random numbers, f16 on the host, buffers, launches and the
// comparison of results. Knows no kernel but `describe`, which brings each its batch.
//
// Two kinds of data: small integers, whose sums are exact in f32 in whatever order they are added,
// so that results must agree bit for bit; and real numbers, compared within a bound derived from
// the number of roundings. Buffers end where their data ends and are filled with NaN: a read too
// far shows in the result, or by AddressSanitizer on the emulated device, or by compute-sanitizer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../emulator/f16.hpp"
#include "../launch.h"
#include "device.hpp"

namespace twinstream::tests {

inline std::uint16_t to_f16(float value) {
    return static_cast<std::uint16_t>(emulator::pack_f16x2(value, 0.0f));
}
inline float from_f16(std::uint16_t bits) { return emulator::unpack_f16(bits); }

enum class Data {
    integers,
    reals
};

class Random {
   public:
    explicit Random(std::uint64_t seed) : engine(seed) {}
    // 0 to end - 1.
    unsigned below(unsigned end) { return static_cast<unsigned>(engine() % end); }
    // An integer from -3 to 3, or a real number from -scale to scale; representable in f16.
    float value(Data data, float scale) {
        if (data == Data::integers) return static_cast<float>(static_cast<int>(below(7)) - 3);
        const float unit = static_cast<float>(engine() >> 40) / static_cast<float>(1 << 23) - 1.0f;
        return from_f16(to_f16(unit * scale));
    }

   private:
    std::mt19937_64 engine;
};

// `len` values in memory of the device, every byte 0xff at first.
template <class Value>
class Buffer {
   public:
    explicit Buffer(std::size_t len)
        : memory(std::make_unique<Memory>(len * sizeof(Value))), value_len(len) {}
    Value &operator[](std::size_t index) { return values()[index]; }
    const Value &operator[](std::size_t index) const { return values()[index]; }
    Value *values() const { return reinterpret_cast<Value *>(memory->bytes.data()); }
    std::size_t len() const { return value_len; }
    std::uint64_t address() const { return memory->address; }
    bool untouched(std::size_t from) const {
        for (std::size_t i = from * sizeof(Value); i < memory->bytes.size(); ++i)
            if (memory->bytes[i] != 0xff) return false;
        return true;
    }

   private:
    std::unique_ptr<Memory> memory;
    std::size_t value_len;
};

inline Buffer<std::uint16_t> random_f16(Random &random, std::size_t len, Data data, float scale) {
    Buffer<std::uint16_t> buffer(len);
    for (std::size_t i = 0; i < len; ++i) buffer[i] = to_f16(random.value(data, scale));
    return buffer;
}

inline Buffer<float> random_f32(Random &random, std::size_t len, Data data, float scale) {
    Buffer<float> buffer(len);
    for (std::size_t i = 0; i < len; ++i) buffer[i] = random.value(data, scale);
    return buffer;
}

// Any byte: u8 or s8, which is none below -127.
inline Buffer<std::uint8_t> random_u8(Random &random, std::size_t len) {
    Buffer<std::uint8_t> buffer(len);
    for (std::size_t i = 0; i < len; ++i) buffer[i] = static_cast<std::uint8_t>(random.below(256));
    return buffer;
}

inline std::vector<std::int8_t> random_s8(Random &random, std::size_t len) {
    std::vector<std::int8_t> values(len);
    for (std::int8_t &value : values)
        value = static_cast<std::int8_t>(static_cast<int>(random.below(255)) - 127);
    return values;
}

// From low to high.
inline float random_between(Random &random, float low, float high) {
    return low + (high - low) * static_cast<float>(random.below(1 << 20)) / (1 << 20);
}

// What launch.h calls to_u8.
inline std::uint8_t to_u8(float value) {
    return static_cast<std::uint8_t>(std::clamp(std::nearbyint(value), 0.0f, 255.0f));
}

// A case that did not hold; the next one is tried.
struct Failure {
    std::string what;
};

[[noreturn]] inline void fail(const std::string &what) { throw Failure{what}; }

// Cases that failed so far.
inline unsigned all_failed_len = 0;

// The cases of a subject: each is tried, whatever became of the one before.
class Subject {
   public:
    explicit Subject(std::string of) : name(std::move(of)) {}
    // `run` returns its worst share of the error allowed, or throws a Failure.
    template <class Case>
    void attempt(const Case &run) {
        ++case_len;
        try {
            worst = std::max(worst, run());
        } catch (const Failure &failure) {
            ++all_failed_len;
            if (failed_len++ < SHOWN_LEN_MAX) std::printf("FAILED %s\n", failure.what.c_str());
        }
    }
    void report() const {
        std::printf("%s: %u of %u cases agree, worst %.2f of the error allowed\n", name.c_str(),
                    case_len - failed_len, case_len, worst);
        std::fflush(stdout);
    }

   private:
    static constexpr unsigned SHOWN_LEN_MAX = 5;
    std::string name;
    unsigned case_len = 0, failed_len = 0;
    double worst = 0.0;
};

// The description of a batch on the host, and its place on the device.
class Batch {
   public:
    Batch(unsigned len, unsigned result) {
        std::memset(source.first, 0xff, sizeof(twinstream_batch));
        host().len = len;
        host().result = result;
    }
    twinstream_batch &host() const { return *static_cast<twinstream_batch *>(source.first); }
    std::uint64_t address() const { return device.address; }
    twinstream_describe_params to_device() const { return {host_address(), device.address}; }
    twinstream_describe_params to_nowhere() const { return {host_address(), unread.address}; }

   private:
    std::uint64_t host_address() const { return reinterpret_cast<std::uint64_t>(source.first); }

    PageLocked source{sizeof(twinstream_batch)};
    Memory device{sizeof(twinstream_batch)}, unread{sizeof(twinstream_batch)};
};

inline Launch describe(const twinstream_describe_params &params) {
    return {"describe",
            {1, 1, 1},
            TWINSTREAM_DESCRIBE_THREADS,
            TWINSTREAM_DESCRIBE_SHARED_BYTES,
            &params,
            false,
            1};
}

// Runs a kernel behind the one that brings it its batch, as the product does. One more stands
// between the two, as there: kernels look at the batch before they wait for the kernel ahead.
template <class Params>
void launch(const char *name, unsigned x, unsigned y, unsigned z, unsigned threads,
            unsigned shared_bytes, const Params &params, const Batch &batch,
            const std::string &what, unsigned cluster_len = 1) {
    const twinstream_describe_params batch_params = batch.to_device(), next = batch.to_nowhere();
    run({describe(batch_params),
         describe(next),
         {name, {x, y, z}, threads, shared_bytes, &params, true, cluster_len}},
        what);
}

// A sum by the reference: its value, the sum of its terms' magnitudes, and how far apart values lie
// that are right as well, where a device may round a term in two ways.
struct Sum {
    double value = 0.0;
    double magnitude = 0.0;
    double spread = 0.0;
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
        if (!(result == reference)) *this = {INFINITY, result, reference, at};
    }
    void require(const std::string &what) const {
        if (ratio > 1.0)
            fail(what + ": element " + std::to_string(index) + " is " + std::to_string(found) +
                 ", expected " + std::to_string(expected) + " (" + std::to_string(ratio) +
                 " of the error allowed)");
    }
};

// Error allowed for an f32 sum of `terms` products, on any device and in any order of addition. The
// emulated tensor core rounds after every addition by at most half a unit in the last place (2^-24)
// of a partial sum, as often up as down: n roundings add up to about sqrt(n), and four times that
// leaves chance no part. A real one aligns several products and the sum with the largest of them,
// cuts them off behind 24 bits or a few more, adds, and cuts the total off again. What is cut off
// the products is as often above as below zero; what is cut off the total pulls it towards zero
// each time, by at most 2^-23 of a partial sum. Data here are spread evenly around zero, so a
// partial sum is hardly above 4 / sqrt(n) of the magnitudes' sum; n / 4 cuts of that, with four
// products added at once, come to 2 sqrt(n) 2^-24 at the very most, half of what is allowed. (With
// the emulated one made to cut off so, 4, 8 or 16 products at a time, logits took 0.03 of it.)
inline double sum_error(double terms, double magnitude) {
    return 4.0 * std::sqrt(terms) * std::ldexp(magnitude, -24);
}

// Rounding to f16 besides: half a unit in the last place, 2^-11 of the value or 2^-25 near zero.
inline double f16_error(double value) {
    return std::ldexp(std::fabs(value), -11) + std::ldexp(1.0, -25);
}

} // namespace twinstream::tests

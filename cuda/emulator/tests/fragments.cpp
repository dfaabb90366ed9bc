// Which lane holds which element: matrix instructions and shuffles against the formulas of the PTX
// ISA ("Matrix fragments for mma.m16n8k16" and "mma.m16n8k32", ldmatrix, stmatrix), 16-bit
// conversions against the compiler's.

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
using emulator::round_to_f16;

struct Product {
    const float *a; // [16][16]
    const float *b; // [16][8]
    float *d;       // [16][8]
};

// The ISA numbers the elements of a fragment: a0 … a7, b0 … b3, c0 … c3.
void multiply(const Product &p) {
    const unsigned group = threadIdx.x >> 2, member = threadIdx.x % 4;
    std::uint16_t a[8], b[4];
    for (unsigned i = 0; i < 8; ++i) {
        const bool is_upper = i < 2 || (4 <= i && i < 6);
        const unsigned row = is_upper ? group : group + 8;
        const unsigned column = member * 2 + (i & 1) + (i < 4 ? 0 : 8);
        a[i] = round_to_f16(p.a[row * 16 + column]);
    }
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = member * 2 + (i & 1) + (i < 2 ? 0 : 8);
        b[i] = round_to_f16(p.b[row * 8 + group]);
    }
    std::uint32_t a_words[4], b_words[2];
    std::memcpy(a_words, a, sizeof a);
    std::memcpy(b_words, b, sizeof b);
    float sum[4];
    const auto place = [&](unsigned i) {
        return (i < 2 ? group : group + 8) * 8 + member * 2 + (i & 1);
    };
    for (unsigned i = 0; i < 4; ++i) {
        sum[i] = p.d[place(i)];
    }
    emulator::mma_m16n8k16(sum, a_words, b_words[0], b_words[1]);
    for (unsigned i = 0; i < 4; ++i) {
        p.d[place(i)] = sum[i];
    }
}

void check_products(std::mt19937_64 &random) {
    for (int round = 0; round < 200; ++round) {
        // Small whole numbers: every sum is exact, so any order must give the same.
        std::vector<float> a(256), b(128), d(128), expected(128);
        const auto draw = [&] { return static_cast<float>(static_cast<int>(random() % 65) - 32); };
        for (auto *values : {&a, &b, &d}) {
            for (float &value : *values) {
                value = draw();
            }
        }
        for (unsigned row = 0; row < 16; ++row) {
            for (unsigned column = 0; column < 8; ++column) {
                float sum = d[row * 8 + column];
                for (unsigned k = 0; k < 16; ++k) {
                    sum += a[row * 16 + k] * b[k * 8 + column];
                }
                expected[row * 8 + column] = sum;
            }
        }
        check_is(run<multiply>(1, 32, 0, Product{a.data(), b.data(), d.data()}), "");
        CHECK(d == expected);
    }
    // Special values stay where they are: one infinity makes one row infinite, or NaN against
    // zeros.
    std::vector<float> a(256, 1.0f), b(128, 1.0f), d(128, 0.0f);
    a[3 * 16 + 5] = INFINITY;
    b[7 * 8 + 2] = NAN;
    a[9 * 16 + 9] = -0x1p-24f; // subnormal
    check_is(run<multiply>(1, 32, 0, Product{a.data(), b.data(), d.data()}), "");
    for (unsigned i = 0; i < 128; ++i) {
        if (i % 8 == 2) {
            CHECK(std::isnan(d[i]));
        } else if (i / 8 == 3) {
            CHECK(d[i] == INFINITY);
        } else {
            CHECK(d[i] == (i / 8 == 9 ? 15.0f - 0x1p-24f : 16.0f));
        }
    }
}

struct IntegerProduct {
    const std::uint8_t *a; // [16][32]
    const std::int8_t *b;  // [32][8]
    std::int32_t *d;       // [16][8]
};

// Elements a0 … a15, b0 … b7 and c0 … c3 of the ISA.
void multiply_integers(const IntegerProduct &p) {
    const unsigned group = threadIdx.x >> 2, member = threadIdx.x % 4;
    std::uint8_t a[16];
    std::int8_t b[8];
    for (unsigned i = 0; i < 16; ++i) {
        const bool is_upper = i < 4 || (8 <= i && i < 12);
        const unsigned row = is_upper ? group : group + 8;
        const unsigned column = member * 4 + (i & 3) + (i < 8 ? 0 : 16);
        a[i] = p.a[row * 32 + column];
    }
    for (unsigned i = 0; i < 8; ++i) {
        const unsigned row = member * 4 + (i & 3) + (i < 4 ? 0 : 16);
        b[i] = p.b[row * 8 + group];
    }
    std::uint32_t a_words[4], b_words[2];
    std::memcpy(a_words, a, sizeof a);
    std::memcpy(b_words, b, sizeof b);
    std::int32_t sum[4];
    const auto place = [&](unsigned i) {
        return (i < 2 ? group : group + 8) * 8 + member * 2 + (i & 1);
    };
    for (unsigned i = 0; i < 4; ++i) {
        sum[i] = p.d[place(i)];
    }
    emulator::mma_m16n8k32(sum, a_words, b_words[0], b_words[1]);
    for (unsigned i = 0; i < 4; ++i) {
        p.d[place(i)] = sum[i];
    }
}

void check_integer_products(std::mt19937_64 &random) {
    for (int round = 0; round < 200; ++round) {
        std::vector<std::uint8_t> a(512);
        std::vector<std::int8_t> b(256);
        std::vector<std::int32_t> d(128), expected(128);
        for (auto &value : a) {
            value = static_cast<std::uint8_t>(random());
        }
        for (auto &value : b) {
            value = static_cast<std::int8_t>(random());
        }
        for (auto &value : d) {
            value = static_cast<std::int32_t>(random());
        }
        for (unsigned row = 0; row < 16; ++row) {
            for (unsigned column = 0; column < 8; ++column) {
                std::int64_t sum = d[row * 8 + column];
                for (unsigned k = 0; k < 32; ++k) {
                    sum += std::int64_t{a[row * 32 + k]} * b[k * 8 + column];
                }
                expected[row * 8 + column] = static_cast<std::int32_t>(sum);
            }
        }
        check_is(run<multiply_integers>(1, 32, 0, IntegerProduct{a.data(), b.data(), d.data()}),
                 "");
        CHECK(d == expected);
    }
}

struct Matrices {
    std::uint16_t *results; // [lane][matrix][2]
    int kind;
};

// Element (row, column) of matrix m has the value 64 m + 8 row + column; rows lie 32 bytes apart.
void load(const Matrices &p) {
    auto *shared = reinterpret_cast<std::uint16_t *>(emulator::shared_memory());
    for (unsigned column = 0; column < 8; ++column) {
        shared[threadIdx.x * 16 + column] = static_cast<std::uint16_t>(threadIdx.x * 8 + column);
    }
    __syncwarp();
    std::uint32_t one[1] = {0}, two[2] = {0}, four[4] = {0};
    // The lanes beyond the last matrix may name any address.
    const auto at = [&](unsigned rows) {
        return threadIdx.x < rows ? emulator::shared_address(shared + threadIdx.x * 16) : ~0u;
    };
    switch (p.kind) {
    case 0:
        emulator::ldmatrix_x1(one, at(8));
        break;
    case 1:
        emulator::ldmatrix_x2(two, at(16));
        break;
    case 2:
        emulator::ldmatrix_x4(four, at(32));
        break;
    case 3:
        emulator::ldmatrix_x1_transposed(one, at(8));
        break;
    case 4:
        emulator::ldmatrix_x2_transposed(two, at(16));
        break;
    default:
        emulator::ldmatrix_x4_transposed(four, at(32));
        break;
    }
    const std::uint32_t *loaded[] = {one, two, four};
    std::memcpy(p.results + threadIdx.x * 8, loaded[p.kind % 3], 4u << p.kind % 3);
}

void check_loads() {
    for (int kind = 0; kind < 6; ++kind) {
        std::vector<std::uint16_t> results(32 * 8);
        check_is(run<load>(1, 32, 1024, Matrices{results.data(), kind}), "");
        for (unsigned lane = 0; lane < 32; ++lane) {
            for (unsigned matrix = 0; matrix < 1u << kind % 3; ++matrix) {
                for (unsigned half = 0; half < 2; ++half) {
                    unsigned row = lane / 4, column = lane % 4 * 2 + half;
                    if (kind >= 3) {
                        std::swap(row, column);
                    }
                    CHECK(results[lane * 8 + matrix * 2 + half] == matrix * 64 + row * 8 + column);
                }
            }
        }
    }
}

struct Output {
    std::uint32_t *values;
};

// What stmatrix stores, ldmatrix with the same addresses loads.
void store(const Output &p) {
    const std::uint32_t at = threadIdx.x * 16 ^ 64; // rows in another order
    const std::uint32_t lane = threadIdx.x;
    emulator::store_matrix_x4(at, {lane, lane + 100, lane + 200, lane + 300});
    __syncwarp();
    std::uint32_t loaded[4];
    emulator::ldmatrix_x4(loaded, at);
    std::memcpy(p.values + lane * 4, loaded, sizeof loaded);
    // Row r of the matrix 1 begins where lane 8 + r said, with the value of lane 4 r.
    std::uint32_t first;
    std::memcpy(&first, emulator::shared_memory() + ((8 + lane % 8) * 16 ^ 64), sizeof first);
    if (first != 4 * (lane % 8) + 100) {
        p.values[0] = ~0u;
    }
    __syncwarp();
    emulator::store_matrix_x2(at, {lane + 7, lane + 8});
}

void check_stores() {
    std::vector<std::uint32_t> values(32 * 4);
    check_is(run<store>(1, 32, 512, Output{values.data()}), "");
    for (std::uint32_t i = 0; i < 128; ++i) {
        CHECK(values[i] == i / 4 + i % 4 * 100);
    }
}

void shuffle(const Output &p) {
    const auto lane = static_cast<int>(threadIdx.x);
    std::uint32_t *values = p.values + lane * 8;
    values[0] = static_cast<std::uint32_t>(__shfl_sync(~0u, lane, 5));
    values[1] = static_cast<std::uint32_t>(__shfl_sync(~0u, lane, 9, 8));
    values[2] = static_cast<std::uint32_t>(__shfl_xor_sync(~0u, lane, 16));
    values[3] = static_cast<std::uint32_t>(__shfl_down_sync(~0u, lane, 3));
    values[4] = static_cast<std::uint32_t>(__shfl_up_sync(~0u, lane, 3, 16));
    values[5] = __ballot_sync(~0u, lane % 3 == 0);
    // Two halves of the warp by themselves.
    const std::uint32_t half = lane < 16 ? 0xffffu : 0xffff0000u;
    values[6] = __float_as_uint(__shfl_xor_sync(half, static_cast<float>(lane), 1));
    values[7] = lane < 16 ? 0 : __ballot_sync(half, lane == 20);
}

void check_shuffles() {
    std::vector<std::uint32_t> values(32 * 8);
    check_is(run<shuffle>(1, 32, 0, Output{values.data()}), "");
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
        const std::uint32_t *of_lane = &values[lane * 8];
        CHECK(of_lane[0] == 5);
        CHECK(of_lane[1] == lane / 8 * 8 + 1);
        CHECK(of_lane[2] == (lane ^ 16));
        CHECK(of_lane[3] == (lane < 29 ? lane + 3 : lane));
        CHECK(of_lane[4] == (lane % 16 < 3 ? lane : lane - 3));
        CHECK(of_lane[5] == 0x49249249u);
        CHECK(of_lane[6] == __float_as_uint(static_cast<float>(lane ^ 1)));
        CHECK(of_lane[7] == (lane < 16 ? 0 : 1u << 20));
    }
}

// The value of a binary16 by its definition.
double value_of(std::uint32_t bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double fraction = bits & 1023;
    double value =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) {
        value = fraction == 0 ? INFINITY : NAN;
    }
    return (bits & 0x8000) != 0 ? -value : value;
}

// The nearest value with 11 significant bits and no bit below 2^-24; ties go to even.
double rounded(double value) {
    if (value == 0) {
        return value;
    }
    const int exponent = std::max(std::ilogb(value), -14);
    const double scaled = std::ldexp(value, 10 - exponent);
    const double nearest = std::ldexp(std::nearbyint(scaled), exponent - 10);
    return std::fabs(nearest) > 65504 ? std::copysign(INFINITY, value) : nearest;
}

void check_halves(std::mt19937_64 &random) {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float value = emulator::unpack_f16(bits);
        const double expected = value_of(bits);
        CHECK(value == expected || (std::isnan(value) && std::isnan(expected)));
        CHECK(round_to_f16(value) == (std::isnan(value) ? 0x7fff : bits));
        if (std::isfinite(expected)) {
            // Half way to the next value, and one bit of the 32 to either side of that.
            const int exponent = std::max(static_cast<int>(bits >> 10 & 31), 1);
            const double half_step = std::ldexp(1.0, exponent - 26);
            const auto middle = static_cast<float>(expected + std::copysign(half_step, expected));
            for (const float near :
                 {middle, std::nextafterf(middle, 0.0f), std::nextafterf(middle, INFINITY)}) {
                CHECK(value_of(round_to_f16(near)) == rounded(near));
            }
        }
    }
    for (int i = 0; i < 1000000; ++i) {
        const float value = __uint_as_float(static_cast<std::uint32_t>(random()));
        if (!std::isnan(value)) {
            CHECK(value_of(round_to_f16(value)) == (std::isinf(value) ? value : rounded(value)));
        }
    }
    CHECK(emulator::pack_f16x2(1.0f, -2.0f) == 0xc0003c00u);
    CHECK(emulator::max_f16x2(0xc0003c00u, 0x3c00ffffu) == 0x3c003c00u);
    CHECK(emulator::max_f16x2(0x80000000u, 0x00008000u) == 0x00000000u);
}

} // namespace

void check_fragments(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    check_products(random);
    check_integer_products(random);
    check_loads();
    check_stores();
    check_shuffles();
    check_halves(random);
}

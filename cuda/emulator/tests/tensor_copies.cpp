// Tensor copies in both directions against a plain reading of their definition, and what maps and
// copies are refused.

#include <random>
#include <vector>

#include "../../ptx/barrier.cuh"
#include "../../ptx/bulk.cuh"
#include "check.hpp"

namespace {

namespace emulator = twinstream::emulator;
namespace ptx = twinstream::ptx;
using emulator::Swizzle;
using emulator::TensorMap;
using emulator::TensorShape;

// Copies lie at 1,024 and above, the barrier below.
constexpr std::uint32_t data_at = 1024;
constexpr std::uint32_t barrier = 8;

// [images][height][width][channels] of elements of 1, 2 or 8 bytes, no two neighbours alike.
struct Images {
    std::uint32_t images, height, width, channels, element_bytes;
    std::vector<std::uint64_t> memory; // 16-byte aligned as the allocator gives it
    unsigned char *bytes() { return reinterpret_cast<unsigned char *>(memory.data()); }

    Images(std::uint32_t n, std::uint32_t h, std::uint32_t w, std::uint32_t c, std::uint32_t e)
        : images(n), height(h), width(w), channels(c), element_bytes(e),
          memory(std::size_t{n} * h * w * c * e / 8) {
        for (std::size_t i = 0; i < memory.size() * 8; ++i) {
            bytes()[i] = static_cast<unsigned char>(i % 251 + i / 251 % 3 + 1);
        }
    }
    TensorShape shape(std::uint32_t stride, Swizzle swizzle) {
        const std::uint64_t pixel = std::uint64_t{channels} * element_bytes;
        return {bytes(),
                4,
                {channels, width, height, images},
                {pixel, pixel * width, pixel * width * height},
                {1, stride, stride, 1},
                element_bytes,
                swizzle};
    }
    // Where the element lies; null outside.
    unsigned char *at(std::int64_t n, std::int64_t y, std::int64_t x, std::int64_t c) {
        const bool is_inside = n >= 0 && n < images && y >= 0 && y < height && x >= 0 &&
                               x < width && c >= 0 && c < channels;
        const std::int64_t place = ((n * height + y) * width + x) * channels + c;
        return is_inside ? bytes() + static_cast<std::size_t>(place) * element_bytes : nullptr;
    }
    // Whether the bytes are those of the element, zeros outside.
    bool is(const unsigned char *found, const unsigned char *element) const {
        const unsigned char zeros[8] = {};
        return std::memcmp(found, element == nullptr ? zeros : element, element_bytes) == 0;
    }
};

struct Load {
    TensorMap map;
    std::int32_t coordinates[4];
    std::uint16_t offsets[2];
    unsigned char *results;
    unsigned char *early;
};

void load(const Load &p) {
    if (threadIdx.x == 0) {
        ptx::barrier_init(barrier, 1);
        ptx::fence_barrier_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::barrier_arrive_expect(barrier, p.map.copied_bytes());
        if (p.map.is_im2col) {
            ptx::copy_im2col(data_at, p.map, p.coordinates, p.offsets, barrier);
        } else {
            ptx::copy_tensor_4d(data_at, p.map, p.coordinates, barrier);
        }
        std::memcpy(p.early, emulator::shared_memory() + data_at, 1);
    }
    ptx::barrier_wait(barrier, 0);
    if (threadIdx.x == 33) {
        std::memcpy(p.results, emulator::shared_memory() + data_at, p.map.copied_bytes());
    }
}

// Where a byte of a row lies, rows one after the other: in the swizzle, chunk c of row r of 128
// bytes lies at chunk c ^ r % 8; two rows of 64 bytes share 128, and c changes by r / 2 % 4.
std::uint32_t place_of(std::uint32_t row, std::uint32_t row_bytes, std::uint32_t byte,
                       Swizzle swizzle) {
    std::uint32_t chunk = byte / 16;
    if (swizzle == Swizzle::b128) {
        chunk ^= row % 8;
    } else if (swizzle == Swizzle::b64) {
        chunk ^= row / 2 % 4;
    }
    return row * row_bytes + chunk * 16 + byte % 16;
}

std::vector<unsigned char> copied(Load &params) {
    std::vector<unsigned char> results(params.map.copied_bytes());
    unsigned char early = 0;
    params.results = results.data();
    params.early = &early;
    check_is(run<load>(1, 64, data_at + params.map.copied_bytes(), params), "");
    CHECK(early == 0xff);
    return results;
}

// A box somewhere about the images, and which element of them each of its elements is.
struct Box {
    TensorMap map;
    std::int32_t first[4];
    std::uint32_t stride, row, width, height, images;
    Swizzle swizzle;

    std::uint32_t elements_len() const { return row * width * height * images; }
    unsigned char *element(Images &of, std::uint32_t i) const {
        const std::uint32_t c = i % row, number = i / row;
        const std::uint32_t x = number % width, y = number / width % height;
        return of.at(first[3] + static_cast<std::int64_t>(number / width / height),
                     first[2] + std::int64_t{y} * stride, first[1] + std::int64_t{x} * stride,
                     first[0] + std::int64_t{c});
    }
    std::uint32_t place(const Images &of, std::uint32_t i) const {
        return place_of(i / row, row * of.element_bytes, i % row * of.element_bytes, swizzle);
    }
};

Box draw_box(Images &images, std::mt19937_64 &random, std::uint32_t strides_max) {
    const auto draw = [&](int low, int high) {
        return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
    };
    const Swizzle swizzles[] = {Swizzle::none, Swizzle::b64, Swizzle::b128};
    Box box{};
    box.swizzle = swizzles[random() % 3];
    box.stride = 1 + static_cast<std::uint32_t>(random() % strides_max);
    const std::uint32_t row_bytes = box.swizzle == Swizzle::none
                                        ? static_cast<std::uint32_t>(draw(1, 9)) * 16
                                        : static_cast<std::uint32_t>(box.swizzle);
    box.row = row_bytes / images.element_bytes;
    const std::array<std::uint32_t, 5> spans{box.row, static_cast<std::uint32_t>(draw(1, 11)),
                                             static_cast<std::uint32_t>(draw(1, 8)),
                                             static_cast<std::uint32_t>(draw(1, 3))};
    std::string error;
    CHECK(emulator::encode_tiled(&box.map, images.shape(box.stride, box.swizzle), spans, &error));
    const std::int32_t first[4] = {draw(-20, 70), draw(-4, 9), draw(-4, 7), draw(-1, 3)};
    std::copy(first, first + 4, box.first);
    box.width = (spans[1] + box.stride - 1) / box.stride;
    box.height = (spans[2] + box.stride - 1) / box.stride;
    box.images = spans[3];
    return box;
}

void check_tiles(std::mt19937_64 &random) {
    for (int round = 0; round < 90; ++round) {
        const std::uint32_t sizes[] = {1, 2, 8};
        const std::uint32_t element_bytes = sizes[round % 3];
        Images images(3, 7, 9, element_bytes == 1 ? 80 : 72, element_bytes);
        const Box box = draw_box(images, random, 3);
        Load params{};
        params.map = box.map;
        std::copy(box.first, box.first + 4, params.coordinates);
        const std::vector<unsigned char> results = copied(params);
        CHECK(results.size() == std::size_t{box.elements_len()} * element_bytes);
        for (std::uint32_t i = 0; i < box.elements_len(); ++i) {
            CHECK(images.is(&results[box.place(images, i)], box.element(images, i)));
        }
    }
}

struct Store {
    TensorMap map;
    std::int32_t coordinates[4];
    const unsigned char *tile; // as it lies in shared memory
};

void store(const Store &p) {
    const std::uint32_t bytes = p.map.copied_bytes();
    std::memcpy(emulator::shared_memory() + data_at, p.tile, bytes);
    ptx::fence_proxy_async_shared();
    ptx::store_tensor_4d(p.map, p.coordinates, data_at);
    ptx::bulk_commit();
    ptx::bulk_wait<0>();
}

// What lies outside the tensor is left out, and nothing else of it changes.
void check_stores(std::mt19937_64 &random) {
    for (int round = 0; round < 60; ++round) {
        const std::uint32_t element_bytes = round % 2 == 0 ? 2 : 1;
        Images images(3, 7, 9, element_bytes == 1 ? 80 : 72, element_bytes);
        const Box box = draw_box(images, random, 1);
        Images expected = images;
        std::vector<unsigned char> tile(box.map.copied_bytes());
        for (unsigned char &byte : tile) {
            byte = static_cast<unsigned char>(random());
        }
        for (std::uint32_t i = 0; i < box.elements_len(); ++i) {
            if (unsigned char *const to = box.element(expected, i)) {
                std::memcpy(to, &tile[box.place(images, i)], element_bytes);
            }
        }
        Store params{box.map, {}, tile.data()};
        std::copy(box.first, box.first + 4, params.coordinates);
        check_is(run<store>(1, 1, data_at + box.map.copied_bytes(), params), "");
        CHECK(images.memory == expected.memory);
    }
}

// What a convolution reads: for each of its outputs, row by row, the pixel under one tap. Padding
// is not the same along both sides of the image, nor are these.
void check_taps(Images &images, std::uint32_t taps_x, std::uint32_t taps_y, std::uint32_t stride,
                Swizzle swizzle) {
    const auto pad_x = static_cast<std::int32_t>(taps_x / 2);
    const auto pad_y = static_cast<std::int32_t>(taps_y / 2);
    const std::uint32_t height = (images.height - 1) / stride + 1;
    const std::uint32_t width = (images.width - 1) / stride + 1;
    const std::uint32_t pixels = 48; // more than a batch has at stride 2
    const std::uint32_t channels = static_cast<std::uint32_t>(swizzle) / images.element_bytes;
    Load params{};
    std::string error;
    CHECK(emulator::encode_im2col(&params.map, images.shape(stride, swizzle), {-pad_x, -pad_y, 0},
                                  {pad_x - static_cast<std::int32_t>(taps_x - 1),
                                   pad_y - static_cast<std::int32_t>(taps_y - 1), 0},
                                  channels, pixels, &error));
    for (std::uint32_t tap = 0; tap < taps_x * taps_y; ++tap) {
        const std::uint32_t first = tap % (height * width);
        params.offsets[0] = static_cast<std::uint16_t>(tap % taps_x);
        params.offsets[1] = static_cast<std::uint16_t>(tap / taps_x);
        params.coordinates[0] = 64;
        params.coordinates[1] = static_cast<std::int32_t>(first % width * stride) - pad_x;
        params.coordinates[2] = static_cast<std::int32_t>(first / width * stride) - pad_y;
        params.coordinates[3] = 0;
        const std::vector<unsigned char> results = copied(params);
        for (std::uint32_t i = 0; i < pixels * channels; ++i) {
            const std::uint32_t output = first + i / channels;
            const std::uint32_t n = output / (height * width);
            const std::uint32_t y = output / width % height, x = output % width;
            const std::uint32_t at = place_of(i / channels, channels * images.element_bytes,
                                              i % channels * images.element_bytes, swizzle);
            CHECK(images.is(&results[at],
                            images.at(n, std::int64_t{y} * stride + tap / taps_x - pad_y,
                                      std::int64_t{x} * stride + tap % taps_x - pad_x,
                                      64 + i % channels)));
        }
    }
}

void check_im2col() {
    Images halves(2, 6, 5, 128, 2), bytes(2, 5, 7, 128, 1);
    for (const std::uint32_t stride : {1u, 2u}) {
        for (const std::uint32_t side : {1u, 3u, 7u}) {
            check_taps(halves, side, side, stride, Swizzle::b128);
        }
        check_taps(halves, 5, 1, stride, Swizzle::b64);
        check_taps(bytes, 3, 1, stride, Swizzle::b128);
        check_taps(bytes, 1, 3, stride, Swizzle::b64);
    }
}

struct Case {
    TensorMap map, pixels;
    int number;
};

void go_astray(const Case &p) {
    const std::int32_t coordinates[4] = {0, 0, 0, 0}, outside[4] = {0, 4, 0, 0};
    const std::uint16_t tap[2] = {0, 0};
    TensorMap map = p.map;
    if (p.number != 0) {
        ptx::barrier_init(8, 2);
        ptx::fence_barrier_init();
    }
    switch (p.number) {
    case 0:
        ptx::barrier_arrive(8);
        break;
    case 1: // one arrival is missing
        ptx::barrier_arrive(8);
        ptx::barrier_wait(8, 0);
        break;
    case 2: // fewer bytes come than are expected
        ptx::barrier_arrive(8);
        ptx::barrier_arrive_expect(8, p.map.copied_bytes() + 16);
        ptx::copy_tensor_4d(data_at, p.map, coordinates, 8);
        ptx::barrier_wait(8, 0);
        break;
    case 3:
        ptx::copy_tensor_4d(data_at, p.map, coordinates, 8);
        break;
    case 4:
        ptx::copy_tensor_4d(data_at + 64, p.map, coordinates, 8);
        break;
    case 5:
        ptx::barrier_arrive_expect(8, 16);
        ptx::barrier_arrive(8);
        ptx::barrier_arrive(8);
        break;
    case 6:
        map.flags |= TensorMap::large_flag;
        ptx::copy_tensor_4d(data_at, map, coordinates, 8);
        break;
    case 7:
        ptx::copy_im2col(data_at, p.pixels, outside, tap, 8);
        break;
    case 8:
        ptx::barrier_init(16, 1);
        ptx::copy_tensor_4d(data_at, p.map, coordinates, 16);
        break;
    default:
        ptx::store_tensor_4d(p.map, coordinates, data_at);
        ptx::bulk_commit();
        break;
    }
}

void check_misuse() {
    Images images(1, 4, 4, 8, 2);
    std::string error;
    Case params{};
    CHECK(
        emulator::encode_tiled(&params.map, images.shape(1, Swizzle::none), {8, 4, 4, 1}, &error));
    CHECK(emulator::encode_im2col(&params.pixels, images.shape(1, Swizzle::none), {}, {}, 8, 4,
                                  &error));
    const std::string thread = "kernel: block (0,0,0), thread (0,0,0) ";
    const std::string gives_up = thread + "executes trap";
    const std::string expected[] = {
        thread + "uses byte 8 of shared memory as a barrier with mbarrier.arrive, but none is "
                 "there",
        gives_up,
        gives_up,
        thread + "exits last, before cp.async.bulk.tensor has ended",
        thread + "reaches byte 1088 of shared memory with cp.async.bulk.tensor, which is not "
                 "aligned to 128",
        thread + "arrives at a barrier more often than it was made for",
        thread + "copies with cp.async.bulk.tensor by a map that spans 256 bytes, less than 128 "
                 "KiB: bit 21 of its word 1 must be cleared",
        thread + "copies pixels from 4 along dimension 1 on, outside the corners of its map",
        thread + "uses the barrier at byte 16 of shared memory with cp.async.bulk.tensor, but no "
                 "fence.mbarrier_init has followed its making",
        thread + "exits with cp.async.bulk.tensor.global that has not read shared memory for all "
                 "that it waited for",
    };
    for (params.number = 0; params.number < 10; ++params.number) {
        check_is(run<go_astray>(1, 1, 16384, params),
                 expected[static_cast<std::size_t>(params.number)]);
    }
    // What the driver would refuse.
    TensorShape shape = images.shape(1, Swizzle::none);
    CHECK(!emulator::encode_tiled(&params.map, shape, {8, 4, 257, 1}, &error));
    CHECK(!emulator::encode_tiled(&params.map, shape, {4, 4, 4, 1}, &error));
    CHECK(!emulator::encode_im2col(&params.map, shape, {-129, 0, 0}, {}, 8, 4, &error));
    shape.strides_bytes[0] = 8;
    CHECK(!emulator::encode_tiled(&params.map, shape, {8, 4, 4, 1}, &error));
}

} // namespace

void check_tensor_copies(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    check_tiles(random);
    check_stores(random);
    check_im2col();
    check_misuse();
}

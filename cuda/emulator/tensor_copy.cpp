// Copies by tensor maps: the rows of a box or of pixels, where they lie in device memory and how
// much of each lies within the tensor.

#include <array>
#include <cstring>

#include "block.hpp"
#include "bulk.hpp"
#include "hopper.hpp"
#include "memory.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t chunk_bytes = 16;
// Of 256 elements of 8 bytes.
constexpr std::uint32_t row_bytes_max = 2048;

using Coordinates = std::array<std::int64_t, tensor_rank_max>;
using Offsets = std::array<std::uint16_t, tensor_rank_max - 2>;

// A row of a copy, and what of it lies within the tensor.
struct Row {
    std::uint32_t first_byte; // in the copy, without swizzle
    std::uint32_t skipped_bytes;
    std::uint32_t bytes;
    unsigned char *memory;
};

Row clip(const TensorMap &map, const Coordinates &first, std::uint32_t elements_len,
         std::uint32_t number) {
    Row row{number * elements_len * map.element_bytes, 0, 0, nullptr};
    std::uint64_t address = map.address;
    for (std::uint32_t i = 1; i < map.rank; ++i) {
        if (first[i] < 0 || first[i] > std::int64_t{map.last[i]}) {
            return row;
        }
        address += static_cast<std::uint64_t>(first[i]) * map.strides_bytes[i - 1];
    }
    const std::int64_t begin = first[0] < 0 ? 0 : first[0];
    const std::int64_t beyond = std::int64_t{map.last[0]} + 1;
    const std::int64_t end = first[0] + elements_len < beyond ? first[0] + elements_len : beyond;
    if (begin < end) {
        row.skipped_bytes = static_cast<std::uint32_t>(begin - first[0]) * map.element_bytes;
        row.bytes = static_cast<std::uint32_t>(end - begin) * map.element_bytes;
        row.memory = reinterpret_cast<unsigned char *>(address + static_cast<std::uint64_t>(begin) *
                                                                     map.element_bytes);
    }
    return row;
}

template <class Visit>
void visit_box(const TensorMap &map, const Coordinates &first, Visit visit) {
    std::uint32_t rows_len = 1;
    for (std::uint32_t i = 1; i < map.rank; ++i) {
        rows_len *= map.taken(i);
    }
    for (std::uint32_t number = 0; number < rows_len; ++number) {
        Coordinates at = first;
        std::uint32_t rest = number;
        for (std::uint32_t i = 1; i < map.rank; ++i) {
            at[i] += rest % map.taken(i) * map.element_strides[i];
            rest /= map.taken(i);
        }
        visit(clip(map, at, map.taken(0), number));
    }
}

// From pixel to pixel within the corners of an image, then to the next image.
void step(const TensorMap &map, Coordinates &at) {
    const std::uint32_t last = map.rank - 1u;
    for (std::uint32_t i = 1; i < last; ++i) {
        const std::int64_t end = std::int64_t{map.last[i]} + 1 + map.corner_upper[i - 1];
        at[i] += map.element_strides[i];
        if (at[i] < end) {
            return;
        }
        at[i] = map.corner_lower[i - 1];
    }
    at[last] += 1;
}

template <class Visit>
void visit_pixels(const TensorMap &map, Coordinates at, const Offsets &offsets, Visit visit) {
    for (std::uint32_t pixel = 0; pixel < map.pixels; ++pixel) {
        Coordinates read = at;
        for (std::uint32_t i = 1; i + 1u < map.rank; ++i) {
            read[i] += offsets[i - 1];
        }
        visit(clip(map, read, map.channels, pixel));
        step(map, at);
    }
}

template <class Visit>
void visit_rows(const TensorMap &map, const Coordinates &first, const Offsets &offsets,
                Visit visit) {
    if (map.is_im2col) {
        visit_pixels(map, first, offsets, visit);
    } else {
        visit_box(map, first, visit);
    }
}

std::uint32_t row_bytes_of(const TensorMap &map) {
    return (map.is_im2col ? map.channels : map.taken(0)) * map.element_bytes;
}

void check_row(const Row &row, const char *name) {
    if (row.bytes != 0 && !is_device_memory(row.memory, row.bytes)) {
        current_block->fail("copies with %s beyond device memory", name);
    }
}

void check_map(const TensorMap &map, const char *name) {
    if ((map.flags & TensorMap::large_flag) != 0 && map.spanned_bytes() < TensorMap::small_bytes) {
        current_block->fail("copies with %s by a map that spans %llu bytes, less than 128 KiB: bit "
                            "21 of its word 1 must be cleared",
                            name, static_cast<unsigned long long>(map.spanned_bytes()));
    }
}

Coordinates widen(const TensorMap &map, const std::int32_t *coordinates) {
    Coordinates wide{};
    for (std::uint32_t i = 0; i < map.rank; ++i) {
        wide[i] = coordinates[i];
    }
    return wide;
}

// Bytes as they lie in shared memory; the destination repeats its swizzle from the first one on.
void fill(unsigned char *data, const TensorMap &map, const Row &row) {
    unsigned char bytes[row_bytes_max] = {};
    if (row.bytes != 0) {
        std::memcpy(bytes + row.skipped_bytes, row.memory, row.bytes);
    }
    for (std::uint32_t i = 0; i < row_bytes_of(map); i += chunk_bytes) {
        std::memcpy(data + swizzled(row.first_byte + i, map.swizzle), bytes + i, chunk_bytes);
    }
}

void empty(const unsigned char *data, const TensorMap &map, const Row &row) {
    unsigned char bytes[row_bytes_max];
    for (std::uint32_t i = 0; i < row_bytes_of(map); i += chunk_bytes) {
        std::memcpy(bytes + i, data + swizzled(row.first_byte + i, map.swizzle), chunk_bytes);
    }
    std::memcpy(row.memory, bytes + row.skipped_bytes, row.bytes);
}

void load(std::uint32_t shared, const TensorMap &map, const Coordinates &first,
          const Offsets &offsets, std::uint32_t barrier, std::uint16_t ranks) {
    static const char name[] = "cp.async.bulk.tensor";
    check_map(map, name);
    visit_rows(map, first, offsets, [](const Row &row) {
        check_row(row, name);
        check_async_global_read(row.memory, row.bytes, name);
    });
    start_load({name, shared, map.copied_bytes(), alignment_bytes(map.swizzle), barrier, ranks,
                [=](unsigned char *data) {
                    visit_rows(map, first, offsets, [&](const Row &row) { fill(data, map, row); });
                }});
}

} // namespace

void copy_tensor(std::uint32_t shared, const TensorMap &map, const std::int32_t *coordinates,
                 std::uint32_t barrier, std::uint16_t ranks) {
    if (map.is_im2col) {
        current_block->fail("copies a tile with an im2col map");
    }
    load(shared, map, widen(map, coordinates), {}, barrier, ranks);
}

void copy_im2col(std::uint32_t shared, const TensorMap &map, const std::int32_t *coordinates,
                 const std::uint16_t *offsets, std::uint32_t barrier, std::uint16_t ranks) {
    if (!map.is_im2col) {
        current_block->fail("copies pixels with a tiled map");
    }
    Offsets by{};
    const Coordinates first = widen(map, coordinates);
    for (std::uint32_t i = 0; i + 2u < map.rank; ++i) {
        by[i] = offsets[i];
        const std::int64_t end = std::int64_t{map.last[i + 1]} + 1 + map.corner_upper[i];
        if (first[i + 1] < map.corner_lower[i] || first[i + 1] >= end) {
            current_block->fail("copies pixels from %lld along dimension %u on, outside the "
                                "corners of its map",
                                static_cast<long long>(first[i + 1]), i + 1);
        }
    }
    load(shared, map, first, by, barrier, ranks);
}

void store_tensor(const TensorMap &map, const std::int32_t *coordinates, std::uint32_t shared) {
    static const char name[] = "cp.async.bulk.tensor.global";
    if (map.is_im2col) {
        current_block->fail("stores a tile with an im2col map");
    }
    check_map(map, name);
    const Coordinates first = widen(map, coordinates);
    Published &published = current_block->launch().state->published;
    const std::uint32_t block = current_block->number();
    start_store(name, shared, map.copied_bytes(), alignment_bytes(map.swizzle),
                [=, &published](const unsigned char *data) {
                    visit_box(map, first, [&](const Row &row) {
                        if (row.bytes != 0) {
                            empty(data, map, row);
                            published.end_write(row.memory, row.bytes, block);
                        }
                    });
                });
    visit_box(map, first, [&](const Row &row) {
        if (row.bytes != 0) {
            check_row(row, name);
            std::memset(row.memory, poison, row.bytes);
            published.begin_write(row.memory, row.bytes, block);
        }
    });
}

} // namespace twinstream::emulator

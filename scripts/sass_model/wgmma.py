"""What kernels on wgmma take: those of cuda/sm90a, and with them some that are planned. Channels are
wgmma's rows, pixels its columns; the copy engine brings both; a block per multiprocessor stays for all
its tiles, or small blocks share a tile's sum. The largest of four times a launch, in whole waves of
tiles, with the best tile."""

import re
from dataclasses import dataclass

from device import H100
from network import LAUNCHES_BESIDE, around_us, stem_memory_us

# Of a step of 128 bytes of K: products a clock and multiprocessor in f16, and the share reached. [W], [P]
MACS, MACS_SHARE = 2048, 0.96
# Cycles before a kernel's first product, and of an epilogue besides its results. [A]
START_CYCLES, EPILOGUE_CYCLES = 1400, 300
# The same where barriers, maps and weights are there before the kernel ahead has ended: the first
# pixels come from L2 through a map, published as 370 cycles [P], behind what they depend on. [A]
EARLY_START_CYCLES = 800
# Instructions an output, counted in the machine code of conv_wgmma_128x256 and conv_i8_wgmma_128x256:
# of a box without a residual 106 and 205 for 32 outputs a thread, with one 154 and 313.
OUTPUT_INSTRUCTIONS, RESIDUAL_FACTOR = {2: 3.3, 1: 6.4}, 1.5
# What the other warpgroup's products do not hide of them. [A]
SEEN_SHARE = 0.6
# Sums from block to block of a cluster: published are 181 to 207 cycles from one shared memory to
# another [P]; as long again for barrier, fences and additions. [A] Bytes a clock and multiprocessor: [A]
JOIN_CYCLES, CLUSTER_BYTES_CLK = 400, 11
MEMORY_CYCLES = 800
# The stem: pooled rows; of a row of the convolution, 14 products of 112 columns, and what a warpgroup by
# itself takes for it, which is the lone warp's step in the machine code of stem_wgmma and stem_i8_wgmma.
STEM_ROWS, STEM_K, STEM_COLUMNS, STEM_ROW_CYCLES = 56, 14 * 16, 112, {2: 1072, 1: 1489}


@dataclass(frozen=True)
class Tile:
    """Channels by pixels of a block. Two warpgroups multiply, but one where a cluster's blocks share
    the sum of a tile; of such blocks there may be two on a multiprocessor."""

    channels: int
    pixels: int
    blocks: int = 1
    clusters: tuple = (1,)
    splits: tuple = ()

    @property
    def operand_rows(self):
        """Rows of 128 bytes that wgmma reads a step: each warpgroup its channels and its pixels."""
        if self.splits:
            return self.channels + self.pixels
        if self.channels == 64:
            return 2 * self.channels + self.pixels
        return self.channels + self.channels // 64 * self.pixels


BUILT = (
    Tile(128, 256, clusters=(1, 2)),
    Tile(128, 192, clusters=(1, 2)),
    Tile(128, 128),
    Tile(64, 256),
)


def split_tiles(value_bytes):
    """Those whose sum a cluster's blocks share; 56 pixels are no shape of integers."""
    pixels = (56, 64, 112, 192)[2 - value_bytes :]
    return [Tile(64, n, 1 if n == 192 else 2, splits=(1, 2, 4, 8)) for n in pixels]


def sides_of(found):
    return int(found.group(1)), int(found.group(2))


@dataclass(frozen=True)
class Wgmma:
    value_bytes: int
    rates: object
    cluster_max: int
    # What takes a layer where that is less, or nothing: then pairs that share weights and a halo that
    # is read once are counted as well, which are only planned.
    beside: object = None
    # Whether there are tiles whose sum a cluster's blocks share.
    shares_sums: bool = True

    @property
    def tiles(self):
        return (*BUILT, *split_tiles(self.value_bytes)) if self.shares_sums else BUILT

    def step_len(self, conv):
        """128 bytes of K a step, of one tap: of 64 channels in 8 bits half of it is zeros."""
        own = conv.taps * -(-conv.channels * self.value_bytes // 128)
        return own + -(-conv.shortcut_channels * self.value_bytes // 128)

    def copied_rows(self, tile, conv, cluster):
        """Rows of 128 bytes from L2 a step and block; a pair shares pixels, or else weights."""
        if cluster == 1:
            return tile.channels + tile.pixels
        if conv.outputs // tile.channels % 2 == 0:
            return tile.channels + tile.pixels / 2
        return tile.channels / 2 + tile.pixels

    def epilogue_cycles(self, channels, pixels, conv):
        by_output = channels * pixels / 128 * OUTPUT_INSTRUCTIONS[self.value_bytes] * SEEN_SHARE
        return by_output * (RESIDUAL_FACTOR if conv.residual_values else 1) + EPILOGUE_CYCLES

    def tensor_cycles(self, channels, pixels, k):
        return channels * pixels * k / (MACS * (3 - self.value_bytes)) / MACS_SHARE

    def tile_cycles(self, tile, conv, images, cluster, split_k):
        steps = -(-self.step_len(conv) // split_k)
        step = max(
            self.tensor_cycles(tile.channels, tile.pixels, 128 // self.value_bytes),
            tile.operand_rows + (tile.channels + tile.pixels) * self.rates.write_share,
            self.copied_rows(tile, conv, cluster) * 128 / self.rates.l2_bytes_clk,
        )
        pixel_tiles = -(-images * conv.pixels // tile.pixels)
        tiles = pixel_tiles * (conv.outputs // tile.channels) * split_k
        per_sm = -(-(-(-tiles // cluster) * cluster) // H100.sm_count)
        epilogue = self.epilogue_cycles(tile.channels, tile.pixels / split_k, conv)
        if split_k > 1:
            sent_bytes = 4 * tile.channels * tile.pixels * (split_k - 1) / split_k
            beside = min(per_sm, tile.blocks)
            epilogue += JOIN_CYCLES + beside * sent_bytes / CLUSTER_BYTES_CLK
        start = EARLY_START_CYCLES if tile.blocks > 1 else START_CYCLES
        return per_sm * steps * step + -(-per_sm // tile.blocks) * epilogue + start

    def halo_cycles(self, conv, images):
        """Layer 1's 3x3: weights in registers, four rows of pixels read once with their neighbours."""
        pixels = 4 * 56
        padded = 4 * 58 if self.value_bytes == 2 else 240
        halo_rows = 6 * 58 * self.value_bytes * 64 / 128
        tile = max(
            self.tensor_cycles(conv.outputs, padded, conv.k),
            pixels * conv.k * self.value_bytes / 128 + halo_rows * self.rates.write_share,
            halo_rows * 128 / self.rates.l2_bytes_clk,
        )
        per_sm = -(-images * conv.pixels // pixels // H100.sm_count)
        epilogue = self.epilogue_cycles(conv.outputs, pixels, conv)
        return per_sm * (tile + epilogue) + START_CYCLES

    def splits(self, tile, conv):
        """How many blocks may share a sum; of integers none share one with a projection in it."""
        most = self.step_len(conv)
        if self.value_bytes == 1 and conv.shortcut_channels:
            most = 1
        return [split_k for split_k in tile.splits or (1,) if split_k <= most]

    def candidates(self, conv, images):
        """(cycles, microseconds to the next kernel, name) of each way."""
        for tile in self.tiles:
            if conv.outputs % tile.channels:
                continue
            gap_us = self.gap_us(tile)
            for cluster in (n for n in tile.clusters if n <= self.cluster_max):
                if self.beside and conv.outputs % (tile.channels * cluster):
                    continue
                for split_k in self.splits(tile, conv):
                    name = f"{tile.channels}x{tile.pixels}/{split_k} cluster {cluster}"
                    cycles = self.tile_cycles(tile, conv, images, cluster, split_k)
                    yield cycles, gap_us, name
        if not self.beside and conv.stage == "layer1" and conv.taps == 9:
            yield self.halo_cycles(conv, images), self.rates.gap_full_us, "halo"

    def gap_us(self, tile):
        return self.rates.gap_us if tile.blocks > 1 else self.rates.gap_full_us

    def with_memory_us(self, conv, images, cycles):
        memory_us = conv.memory_us(images, self.value_bytes, self.rates)
        return max(self.rates.us(cycles), memory_us + self.rates.us(MEMORY_CYCLES))

    def layer(self, conv, images):
        """Microseconds with the gap behind it, and the tile."""
        return min(
            (self.with_memory_us(conv, images, cycles) + gap_us, name)
            for cycles, gap_us, name in self.candidates(conv, images)
        )

    def kernel_us(self, conv, images, name, split_k):
        """Of the kernel of that name, as `layer`; none for one of which there is no model."""
        sides = re.search(r"_wgmma_(\d+)x(\d+)(_pair|_split)?$", name)
        tiles = (*BUILT, *split_tiles(self.value_bytes))
        tile = sides and next(
            (tile for tile in tiles if (tile.channels, tile.pixels) == sides_of(sides)), None
        )
        if not tile:
            return None
        cluster = 2 if sides.group(3) == "_pair" else 1
        cycles = self.tile_cycles(tile, conv, images, cluster, split_k)
        return self.with_memory_us(conv, images, cycles) + self.gap_us(tile)

    def layer_us(self, conv, images):
        found_us = self.layer(conv, images)[0]
        return min(found_us, self.beside.layer_us(conv, images)) if self.beside else found_us

    def stem_cycles(self, images, height):
        """Strips of so many pooled rows, two of them at a time on a multiprocessor."""
        strips = images * -(-STEM_ROWS // height)
        product = 64 * STEM_COLUMNS * STEM_K / MACS / MACS_SHARE
        row = max(
            -(-strips // H100.sm_count) * product,
            -(-strips // (2 * H100.sm_count)) * STEM_ROW_CYCLES[self.value_bytes],
        )
        return (2 * height + 1) * row + START_CYCLES

    def beside_us(self, batch_len):
        """Of the stem, which multiplies in f16 in both types, and of what is no convolution."""
        cycles = min(self.stem_cycles(batch_len, height) for height in range(1, STEM_ROWS + 1))
        memory_us = stem_memory_us(batch_len, self.value_bytes, self.rates)
        around = around_us(batch_len, self.value_bytes, self.rates)
        found_us = max(self.rates.us(cycles), memory_us) + self.rates.gap_full_us + around
        found_us += (LAUNCHES_BESIDE - 1) * self.rates.gap_us
        return min(found_us, self.beside.beside_us(batch_len)) if self.beside else found_us

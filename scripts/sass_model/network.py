"""The network's convolutions as `twinstream inspect --json` lists them, and what their memory takes."""

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property

# What L2 holds still costs a part of HBM's rate, for results are written back; published rates are
# above twice HBM's. [A]
L2_SPEEDUP = 1.6
CHUNKED = ("layer1", "layer2")
CHUNK_LENS = (8, 10, 12, 14, 16)
IMAGE_VALUES = 224 * 224 * 3
POOLED_VALUES = 56 * 56 * 64
LAST_VALUES = 49 * 2048
# Description, stem, average pool and logits.
LAUNCHES_BESIDE = 4
# A read across PCIe for the batch's description; the logits. [A]
DESCRIBE_US = 1.5
LOGITS_US = 2.0


@dataclass(frozen=True)
class Conv:
    """One launch: a convolution with its residual or its block's projection. Values are of an image."""

    name: str
    pixels: int
    outputs: int
    taps: int
    channels: int
    shortcut_channels: int
    read_values: int
    residual_values: int
    # What its residual block keeps between its first read and its last write.
    live_values: int = 0

    @property
    def stage(self):
        return self.name.split(".")[0]

    @cached_property
    def k(self):
        return self.taps * self.channels + self.shortcut_channels

    @property
    def written_values(self):
        return self.pixels * self.outputs

    def steps(self, value_bytes):
        """Of 128 bytes of K by today's kernels, whose integers take two units of 64 channels."""
        units = 3 - value_bytes
        own = -(-self.taps * self.channels // 64 // units)
        return own + -(-self.shortcut_channels // 64 // units)

    def memory_us(self, images, value_bytes, rates):
        weights = value_bytes * self.outputs * self.k
        values = self.read_values + self.residual_values + self.written_values
        fits = images * self.live_values * value_bytes + weights <= rates.l2_held_bytes
        speedup = L2_SPEEDUP if fits else 1
        moved = images * value_bytes * values / speedup + weights
        return moved / rates.hbm_bytes_us


def values(shape):
    height, width, channels = shape
    return height * width * channels


def convs_of(layers):
    """The 48 convolutions behind the stem, of the lines of `inspect --json`."""
    by_name = {layer["layer"]: layer for layer in layers if "layer" in layer}
    found = []
    for name, layer in by_name.items():
        if not re.fullmatch(r"layer\d\.\d+\.conv\d", name):
            continue
        height, width, outputs = layer["output"]
        channels = layer["input"][2]
        taps = int(re.match(r"conv (\d)x", layer["kind"]).group(1)) ** 2
        shortcut = by_name.get(name.replace("conv3", "downsample.0"))
        has_shortcut = name.endswith("conv3") and shortcut is not None
        added = shortcut["input"][2] if has_shortcut else 0
        residual = 0 if has_shortcut or not name.endswith("conv3") else values(layer["output"])
        read = values(layer["input"]) + height * width * added
        found.append(Conv(name, height * width, outputs, taps, channels, added, read, residual))
    blocks = [found[i : i + 3] for i in range(0, len(found), 3)]
    return [replace(conv, live_values=live_values(block)) for block in blocks for conv in block]


def live_values(block):
    """Of a residual block: its input, two results between, and its output unless that is in place."""
    first, second, third = block
    kept = first.read_values + first.written_values + second.written_values
    return kept + (0 if third.residual_values else third.written_values)


def read_lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def around_us(batch_len, value_bytes, rates):
    """What is neither stem nor convolution: description, average pool, logits."""
    pool = max(1.5, batch_len * LAST_VALUES * value_bytes / rates.hbm_bytes_us)
    return DESCRIBE_US + pool + LOGITS_US


def stem_memory_us(batch_len, value_bytes, rates):
    return batch_len * (IMAGE_VALUES + POOLED_VALUES * value_bytes) / rates.hbm_bytes_us


def batch_us(model, convs, batch_len, chunk_lens=()):
    """Microseconds of a batch by a model. Where chunk_lens has shorter ones than the batch, layers 1 and
    2 are in chunks of as many images as take least time; returns their length, too. What
    model.layer_us(conv, images) answers has the launch's gap in it."""
    rest = sum(model.layer_us(conv, batch_len) for conv in convs if conv.stage not in CHUNKED)

    def early(images):
        return sum(model.layer_us(conv, images) for conv in convs if conv.stage in CHUNKED)

    def in_chunks(chunk_len):
        whole, left = divmod(batch_len, chunk_len)
        return whole * early(chunk_len) + (early(left) if left else 0)

    shorter = [chunk_len for chunk_len in chunk_lens if chunk_len < batch_len] or [batch_len]
    early_us, best = min((in_chunks(chunk_len), chunk_len) for chunk_len in shorter)
    return early_us + rest + model.beside_us(batch_len), best

"""What the model says of launches that were measured, and its parameters as they were measured."""

import json
from pathlib import Path

from device import RATES_FILE, read_rates
from network import CHUNKED, LAUNCHES_BESIDE, around_us, convs_of
from sources import launches
from today import StoredLoops, Today
from wgmma import Wgmma

VALUE_BYTES = {"f16": 2, "i8": 1}


class Predictor:
    """Of one precision, for the network whose layers `twinstream inspect --json` lists. Times are pairs:
    a pessimist's and as expected; none where a kernel has no model."""

    def __init__(self, layers, precision, rates=None, loops=None):
        rates, pessimist = rates or read_rates()
        self.convs = {conv.name: conv for conv in convs_of(layers)}
        self.value_bytes = VALUE_BYTES[precision]
        loops = loops or StoredLoops()
        self.known = loops.kernels
        self.pairs = [
            (Today(loops, launches(), (), self.value_bytes, each), Wgmma(self.value_bytes, each, 2))
            for each in (pessimist, rates)
        ]

    def layer_us(self, layer, kernel, split_k, images):
        """With the gap behind it."""
        if kernel in ("stem", "stem_i8"):
            return tuple(today.stem_us(images) + today.rates.gap_us for today, _ in self.pairs)
        if layer not in self.convs:
            return None
        conv = self.convs[layer]
        found = tuple(
            today.kernel_us(conv, images, kernel, split_k)
            if kernel in self.known
            else wgmma.kernel_us(conv, images, kernel, split_k)
            for today, wgmma in self.pairs
        )
        return None if None in found else found

    def batch_us(self, steps, images, chunk_len=None):
        """Of a batch by its (layer, kernel, split) in order, stem and layers 1 and 2 in chunks."""
        early = [step for step in steps if self.is_early(step)]
        late = [step for step in steps if step[0] in self.convs and not self.is_early(step)]
        chunk_len = chunk_len or images
        whole, left = divmod(images, chunk_len)
        parts = [(early, chunk_len, whole), (early, left, 1 if left else 0), (late, images, 1)]
        sums = [0.0, 0.0]
        for part, part_len, times in (part for part in parts if part[2]):
            for layer, kernel, split_k in part:
                found = self.layer_us(layer, kernel, split_k, part_len)
                if not found:
                    return None
                sums = [total + times * us for total, us in zip(sums, found, strict=True)]
        # Of the launches beside the convolutions the stem is counted above.
        return tuple(
            total
            + around_us(images, self.value_bytes, today.rates)
            + (LAUNCHES_BESIDE - 1) * today.rates.gap_us
            for total, (today, _) in zip(sums, self.pairs, strict=True)
        )

    def is_early(self, step):
        layer, kernel, _ = step
        return kernel.startswith("stem") or layer.split(".")[0] in CHUNKED


def corrected(read, results):
    """What rates.json would hold by these results: what it holds, and what was measured in its place.
    Empty where no GPU was measured."""
    device = next((result for result in results if result.get("step") == "device"), None)
    found = measured_rates(results)
    if not device or not found:
        return {}
    where = f"{device['name']}, driver {device['driver']}, {device['time']}"
    return read | found | {"measured": read["measured"] | dict.fromkeys(found, where)}


def measured_rates(results):
    """By name in rates.json."""
    found = {
        result["figure"]: result["value"] for result in results if result.get("figure") in names()
    }
    if clock_ghz := clock_under_load_ghz(results, "profile"):
        found["clock_ghz"] = clock_ghz
    if "write_share" in found:
        found["write_pessimist_share"] = found["write_share"]
    return found


def names():
    return json.loads(Path(RATES_FILE).read_text()).keys() - {"measured"}


def clock_under_load_ghz(results, step):
    """The median of the samples in which the device drew most: it idles while the host computes."""
    samples = [
        (result["power_w"], result["clock_mhz"])
        for result in results
        if result.get("step") == step and "clock_mhz" in result
    ]
    most_w = max((power_w for power_w, _ in samples), default=0)
    clocks = sorted(clock for power_w, clock in samples if power_w >= 0.75 * most_w)
    return clocks[len(clocks) // 2] / 1e3 if clocks else None

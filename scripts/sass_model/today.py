"""The network's time by today's kernels: the simulated steps of their loops, in the plan's tiles."""

import json
from functools import cache
from pathlib import Path

from device import H100
from loop import main_loop
from network import LAUNCHES_BESIDE, around_us, stem_memory_us
from simulate import simulated_cycles

# Of a block before and after its main loop: between 1,800 and 3,500. [A]
OUTSIDE_CYCLES = 2600
# To add up slices: two passes of L2's latency, and the accesses. [A]
JOIN_CYCLES = 1200
# The stem's loop goes round once a row of its 7x7 taps, in blocks of 8 x 7 pooled pixels.
STEM_STEPS, STEM_BLOCKS = 7, (56 // 8) * (56 // 7)


LOOPS_FILE = Path(__file__).with_name("loops.json")


class Loops:
    """The kernels' main loops, simulated from their machine code."""

    def __init__(self, kernels, launches):
        self.kernels = {kernel.name: kernel for kernel in kernels.values()}
        self.launches = launches
        self.step_cycles = cache(self.step_cycles)

    def blocks(self, name):
        """How many fit a multiprocessor."""
        launch = self.launches[name]
        return H100.blocks(self.kernels[name].registers, launch.threads, launch.shared_bytes)

    def step_cycles(self, name, blocks, l2_bytes_clk):
        path, launch = main_loop(self.kernels[name].code), self.launches[name]
        return simulated_cycles(path, H100, launch.warps, blocks, l2_bytes_clk)

    def stored(self, rates):
        """What LOOPS_FILE keeps, for who has no machine code at hand."""

        def loop(name):
            cycles = [
                [round(self.step_cycles(name, blocks + 1, each.l2_bytes_clk), 1) for each in rates]
                for blocks in range(self.blocks(name))
            ]
            return {"registers": self.kernels[name].registers, "step_cycles": cycles}

        names = sorted(self.kernels.keys() & self.launches)
        return {
            "l2_bytes_clk": [each.l2_bytes_clk for each in rates],
            "kernels": {name: loop(name) for name in names if main_loop(self.kernels[name].code)},
        }


class StoredLoops:
    """The same, out of LOOPS_FILE, for the two rates of L2 that they were simulated with."""

    def __init__(self, path=LOOPS_FILE):
        stored = json.loads(Path(path).read_text())
        self.l2_bytes_clk, self.kernels = stored["l2_bytes_clk"], stored["kernels"]

    def blocks(self, name):
        return len(self.kernels[name]["step_cycles"])

    def step_cycles(self, name, blocks, l2_bytes_clk):
        """Of the rate that is nearest."""
        rates = enumerate(self.l2_bytes_clk)
        index, _ = min(rates, key=lambda item: abs(item[1] - l2_bytes_clk))
        return self.kernels[name]["step_cycles"][blocks - 1][index]


class Today:
    def __init__(self, loops, launches, plans, value_bytes, rates):
        self.loops = loops
        self.launches, self.value_bytes, self.rates = launches, value_bytes, rates
        self.plans = {
            plan["batch_len"]: {conv["layer"]: conv for conv in plan["convs"]} for plan in plans
        }

    def grid_cycles(self, name, grid, steps):
        """Of a grid whose blocks take so many steps each."""
        fit = self.loops.blocks(name)
        per_sm = -(-grid // H100.sm_count)
        step = self.loops.step_cycles(name, min(fit, per_sm), self.rates.l2_bytes_clk)
        return per_sm * steps * step + -(-per_sm // fit) * OUTSIDE_CYCLES

    def layer_us(self, conv, images):
        """With the gap behind it."""
        bucket = min(length for length in self.plans if length >= images)
        planned = self.plans[bucket][conv.name]
        return self.kernel_us(conv, images, planned["kernel"], planned["split_len"])

    def kernel_us(self, conv, images, name, split_k):
        m, n = self.launches[name].tile
        grid = -(-images * conv.pixels // m) * (conv.outputs // n) * split_k
        cycles = self.grid_cycles(name, grid, -(-conv.steps(self.value_bytes) // split_k))
        if split_k > 1:
            l2_bytes_clk = self.rates.l2_bytes_clk * H100.sm_count
            cycles += JOIN_CYCLES + 2 * 4 * grid * m * n / l2_bytes_clk
        memory_us = conv.memory_us(images, self.value_bytes, self.rates)
        return max(self.rates.us(cycles), memory_us) + self.rates.gap_us

    def stem_us(self, batch_len):
        """In f16, which 8-bit integers are not taken to be faster than."""
        cycles = self.grid_cycles("stem", STEM_BLOCKS * batch_len, STEM_STEPS)
        return max(self.rates.us(cycles), stem_memory_us(batch_len, self.value_bytes, self.rates))

    def beside_us(self, batch_len):
        around = around_us(batch_len, self.value_bytes, self.rates)
        return self.stem_us(batch_len) + around + LAUNCHES_BESIDE * self.rates.gap_us

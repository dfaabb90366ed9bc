"""The network's time by today's kernels: the simulated steps of their loops, in the plan's tiles."""

from functools import cache

from device import H100
from loop import main_loop
from network import LAUNCHES_BESIDE, around_us, stem_memory_us
from simulate import simulated_cycles

# Of a block before and after its main loop: between 1,800 and 3,500. [A]
OUTSIDE_CYCLES = 2600
# To add up slices: two passes of L2's latency, and the accesses. [A]
JOIN_CYCLES = 1200
# Between kernels of a graph that begin early. [A]
GAP_US = 0.7
# The stem's loop goes round once a row of its 7x7 taps, in blocks of 8 x 7 pooled pixels.
STEM_STEPS, STEM_BLOCKS = 7, (56 // 8) * (56 // 7)


class Today:
    def __init__(self, kernels, launches, plans, value_bytes, rates):
        self.kernels = {kernel.name: kernel for kernel in kernels.values()}
        self.launches, self.value_bytes, self.rates = launches, value_bytes, rates
        self.plans = {
            plan["batch_len"]: {conv["layer"]: conv for conv in plan["convs"]} for plan in plans
        }
        self.step_cycles = cache(self.step_cycles)

    def step_cycles(self, name, blocks):
        path, launch = main_loop(self.kernels[name].code), self.launches[name]
        return simulated_cycles(path, H100, launch.warps, blocks, self.rates.l2_bytes_clk)

    def grid_cycles(self, name, grid, steps):
        """Of a grid whose blocks take so many steps each."""
        launch = self.launches[name]
        fit = H100.blocks(self.kernels[name].registers, launch.threads, launch.shared_bytes)
        per_sm = -(-grid // H100.sm_count)
        looping = per_sm * steps * self.step_cycles(name, min(fit, per_sm))
        return looping + -(-per_sm // fit) * OUTSIDE_CYCLES

    def layer_us(self, conv, images):
        """With the gap behind it."""
        bucket = min(length for length in self.plans if length >= images)
        planned = self.plans[bucket][conv.name]
        name, split_k = planned["kernel"], planned["split_len"]
        m, n = self.launches[name].tile
        grid = -(-images * conv.pixels // m) * (conv.outputs // n) * split_k
        cycles = self.grid_cycles(name, grid, -(-conv.steps(self.value_bytes) // split_k))
        if split_k > 1:
            l2_bytes_clk = self.rates.l2_bytes_clk * H100.sm_count
            cycles += JOIN_CYCLES + 2 * 4 * grid * m * n / l2_bytes_clk
        memory_us = conv.memory_us(images, self.value_bytes, self.rates)
        return max(self.rates.us(cycles), memory_us) + GAP_US

    def stem_us(self, batch_len):
        """In f16, which 8-bit integers are not taken to be faster than."""
        cycles = self.grid_cycles("stem", STEM_BLOCKS * batch_len, STEM_STEPS)
        return max(self.rates.us(cycles), stem_memory_us(batch_len, self.value_bytes, self.rates))

    def beside_us(self, batch_len):
        around = around_us(batch_len, self.value_bytes, self.rates)
        return self.stem_us(batch_len) + around + LAUNCHES_BESIDE * GAP_US

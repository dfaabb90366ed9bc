"""One scheduler with its warps, in order, as a stand-in for all four: what bounds leave out. Its greedy
order of warps is one of many, so single runs differ by 8 % for no cause; a median of several starts
is taken, and no check rests on it."""

import heapq
import re
import statistics
from collections import Counter

from bounds import (
    MATRIX,
    SCHEDULERS,
    copied_bytes,
    pipe,
    result_latency,
    wavefronts,
)

# Cycles of accesses that may wait before shared memory. [A]
SHARED_QUEUE_CYCLES = 96
BARRIER_CYCLES = 24
STARTS = 8
STEPS = 24


class Warp:
    def __init__(self, start):
        self.at, self.step, self.clock = 0, 0, start
        self.scoreboards, self.sums = [0.0] * 8, {}
        self.groups, self.group_end, self.ends = [], 0.0, []

    def group_wait(self, instruction):
        """When the copies have come of all groups but the last so many."""
        found = re.search(r"SB\d, 0x([0-9a-f]+)", instruction.operands)
        if instruction.base != "DEPBAR" or not found:
            return 0
        left = int(found.group(1), 16)
        return max(self.groups[: len(self.groups) - left], default=0)


class Scheduler:
    def __init__(self, path, device, l2_bytes_clk):
        self.path, self.device = path, device
        self.pipes = [pipe(ins, device) for ins in path]
        self.wavefronts = [wavefronts(ins) * SCHEDULERS for ins in path]
        self.l2_cycles = [copied_bytes(ins) * SCHEDULERS / l2_bytes_clk for ins in path]
        self.latencies = [result_latency(ins, device) for ins in path]
        self.pipe_free, self.shared_free, self.l2_free = Counter(), 0.0, 0.0
        self.arriving = []

    def earliest(self, warp):
        instruction = self.path[warp.at]
        at = max(warp.clock, self.pipe_free[self.pipes[warp.at][0]])
        for n in range(6):
            if instruction.wait >> n & 1:
                at = max(at, warp.scoreboards[n])
        if instruction.base in MATRIX:
            at = max(at, warp.sums.get(instruction.registers[-1], 0))
        if self.wavefronts[warp.at]:
            at = max(at, self.shared_free - SHARED_QUEUE_CYCLES)
        return max(at, warp.group_wait(instruction))

    def access(self, warp, at):
        """Of shared memory; copies write it when they come. Returns when its result is there."""
        busy = self.wavefronts[warp.at]
        while self.arriving and self.arriving[0][0] <= max(at, self.shared_free):
            came, written = heapq.heappop(self.arriving)
            self.shared_free = max(self.shared_free, came) + written
        if cycles := self.l2_cycles[warp.at]:
            self.l2_free = max(self.l2_free, at) + cycles
            comes = max(self.l2_free, at + self.device.l2_latency)
            heapq.heappush(self.arriving, (comes, busy))
            warp.group_end = max(warp.group_end, comes)
            return at + self.latencies[warp.at]
        start = max(at, self.shared_free)
        self.shared_free = start + busy
        return start + self.latencies[warp.at]

    def issue(self, warp, at):
        instruction, (name, cycles) = self.path[warp.at], self.pipes[warp.at]
        done = at + self.latencies[warp.at]
        if name:
            self.pipe_free[name] = at + cycles
        if self.wavefronts[warp.at]:
            done = self.access(warp, at)
        if instruction.base in MATRIX:
            warp.sums[instruction.registers[0]] = done
        if instruction.base == "LDGDEPBAR":
            warp.groups.append(max(warp.group_end, *warp.groups[-1:], 0))
            warp.group_end = 0.0
        pause = BARRIER_CYCLES if instruction.base == "BAR" else instruction.stall
        for barrier, when in (
            (instruction.write_barrier, done),
            (instruction.read_barrier, max(at + 12, done - self.latencies[warp.at] + 8)),
        ):
            warp.scoreboards[barrier] = max(warp.scoreboards[barrier], when)
        warp.clock = at + max(pause, 1)
        warp.at += 1
        if warp.at == len(self.path):
            warp.at, warp.step = 0, warp.step + 1
            warp.ends.append(at)

    def run(self, warps):
        """Cycles in which each of the warps does a step."""
        now, last = 0.0, warps[0]
        while all(warp.step < STEPS for warp in warps):
            # Who can go first; of several who went last, then who is behind.
            at, _, _, chosen = min(
                (max(self.earliest(warp), now), warp is not last, (warp.step, warp.at), n)
                for n, warp in enumerate(warps)
            )
            last, now = warps[chosen], at + 1
            self.issue(last, at)
        # The later half of the run, when all were busy.
        taken = [
            (warp.ends[-1] - warp.ends[len(warp.ends) // 2])
            / (len(warp.ends) - 1 - len(warp.ends) // 2)
            for warp in warps
        ]
        return statistics.harmonic_mean(taken)


def simulated_cycles(path, device, warps, blocks, l2_bytes_clk):
    """Cycles a step of one of so many blocks of `warps` warps: the median of several starts."""

    def once(start):
        count = warps * blocks // SCHEDULERS
        offsets = (n * (37.0 + 26 * start) % 200 for n in range(count))
        scheduler = Scheduler(path, device, l2_bytes_clk)
        return scheduler.run([Warp(offset) for offset in offsets]) / blocks

    return statistics.median(map(once, range(STARTS)))

"""Devices and their rates, each with its source. The rates of an H100 that a measurement corrects are in
rates.json, which says of which it did and on what: python3 scripts/gpu_report.py --correct RESULTS.

[C] the interval that ptxas itself keeps between such instructions, in the control words of our kernels.
[P] published microbenchmarks: arXiv 2402.13499 and 2501.12084, HPMLL/NVIDIA-Hopper-Benchmark's logs.
[B] te42kyfo/gpu-benches, gpu-l2-cache: 6.9 to 7.1 TB/s on an H100 PCIe of 114 multiprocessors, 9.6 to
    10.5 on an H200 of 132: 35 to 37 bytes a clock and multiprocessor, flat to 36 MB and falling from 40.
[W] NVIDIA's white papers. [A] assumed.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

RATES_FILE = Path(__file__).with_name("rates.json")


@dataclass(frozen=True)
class Device:
    """A multiprocessor of four schedulers, and how many there are of it."""

    sm_count: int
    # Cycles of a scheduler's tensor pipe a HMMA.16816, and a IMMA.16832. [C], [W]
    mma_cycles: float
    # Shared memory of all blocks, of which each takes 1 KiB besides; threads. [W]
    shared_bytes: int
    threads: int
    # From issue to result. [P]
    mma_latency: int
    shared_latency: int
    l2_latency: int

    def blocks(self, registers, threads, shared_bytes):
        """How many fit; registers are handed out by eights, of 65,536."""
        taken = (registers + 7) // 8 * 8 * threads
        by_shared = self.shared_bytes // (shared_bytes + 1024)
        return min(65536 // taken, self.threads // threads, by_shared)


A100 = Device(108, 8, 167936, 2048, 25, 30, 270)
# Consumers' and workstations' devices have half the tensor cores' rate.
A40 = Device(84, 16, 102400, 1536, 33, 30, 280)
L40S = Device(142, 16, 102400, 1536, 33, 30, 280)
# ptxas spaces HMMA and IMMA by 6 cycles, two thirds of the peak that only wgmma reaches: published
# are 62.9 to 65.3 %.
H100 = Device(132, 6, 233472, 2048, 33, 30, 280)
DEVICES = {"sm_80": A100, "sm_86": A40, "sm_89": L40S, "sm_90a": H100}


@dataclass(frozen=True)
class Rates:
    """What an H100's clock and memories are taken to give, for all predictions alike. Unless measured:"""

    # 1.7: between 1.98 GHz at most and the 1.3 to 1.6 that full tensor cores leave of 700 W. [A]
    clock_ghz: float
    # Bytes a clock and multiprocessor. 35.65, of 35 to 37 by [B]: 8.0 TB/s at 1.7 GHz. A pessimist's
    # 31.19 are 7.0, an H100 PCIe's by [B], whose fewer multiprocessors took as much each.
    l2_bytes_clk: float
    # Up to which L2 streams at that rate, on an H100 and an H200: 36 MB. [B]
    l2_held_mib: float
    # 3.0 of 3.35. [A]
    hbm_tb_s: float
    # Between kernels of a graph that begin early: 0.7. [A]
    gap_us: float
    # After blocks that leave no room for the next kernel's, whose start is seen in full: 1.0. [A]
    gap_full_us: float
    # The share of the copies' writes to shared memory that compete with reads: half, a pessimist's
    # all, which is what one port for both would mean. [A]
    write_share: float

    @property
    def l2_tb_s(self):
        return self.l2_bytes_clk * self.clock_ghz * H100.sm_count / 1e3

    @property
    def l2_held_bytes(self):
        return self.l2_held_mib * 2**20

    @property
    def hbm_bytes_us(self):
        return self.hbm_tb_s * 1e6

    def us(self, cycles):
        return cycles / self.clock_ghz / 1e3

    def __str__(self):
        return (
            f"L2 {self.l2_tb_s:.1f} TB/s ({self.l2_bytes_clk:.1f} B/clk/SM), "
            f"HBM {self.hbm_tb_s} TB/s, {self.clock_ghz} GHz, gaps {self.gap_us} and "
            f"{self.gap_full_us} µs, {100 * self.write_share:.0f} % of writes beside reads"
        )


def read_rates(path=RATES_FILE):
    """As expected, and a pessimist's."""
    read = json.loads(Path(path).read_text())
    rates = Rates(**{name: read[name] for name in Rates.__dataclass_fields__})
    pessimist = replace(
        rates,
        l2_bytes_clk=read["l2_pessimist_bytes_clk"],
        write_share=read["write_pessimist_share"],
    )
    return rates, pessimist

"""Devices and their rates, each with its source. Nothing here was measured by this project.

[C] the interval that ptxas itself keeps between such instructions, in the control words of our kernels.
[P] published microbenchmarks: arXiv 2402.13499 and 2501.12084, HPMLL/NVIDIA-Hopper-Benchmark's logs.
[B] te42kyfo/gpu-benches, gpu-l2-cache: 6.9 to 7.1 TB/s on an H100 PCIe of 114 multiprocessors, 9.6 to
    10.5 on an H200 of 132: 35 to 37 bytes a clock and multiprocessor, flat to 36 MB and falling from 40.
[W] NVIDIA's white papers. [A] assumed.
"""

from dataclasses import dataclass


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


# Of an H100 PCIe by [B], whose fewer multiprocessors took as much each.
L2_PESSIMIST_TB_S = 7.0


@dataclass(frozen=True)
class Rates:
    """What an H100's clock and memories are taken to give, for all predictions alike."""

    # Between 1.98 GHz at most and the 1.3 to 1.6 that full tensor cores leave of 700 W. [A]
    clock_ghz: float = 1.7
    # 35 to 37 bytes a clock by [B] are 7.9 to 8.3 at this clock.
    l2_tb_s: float = 8.0
    # Of 3.35. [A]
    hbm_tb_s: float = 3.0

    @property
    def l2_bytes_clk(self):
        """Bytes a clock and multiprocessor."""
        return self.l2_tb_s * 1e3 / self.clock_ghz / H100.sm_count

    @property
    def hbm_bytes_us(self):
        return self.hbm_tb_s * 1e6

    def us(self, cycles):
        return cycles / self.clock_ghz / 1e3

    def __str__(self):
        return (
            f"L2 {self.l2_tb_s} TB/s ({self.l2_bytes_clk:.1f} B/clk/SM), "
            f"HBM {self.hbm_tb_s} TB/s, {self.clock_ghz} GHz"
        )

"""What the sources say of each kernel's launch: threads, shared memory, and a convolution's tile."""

import re
from dataclasses import dataclass
from pathlib import Path

CUDA = Path(__file__).resolve().parent.parent.parent / "cuda"
TILE = re.compile(
    r"^TWINSTREAM_\w+_TILE\((\w+), \d+, (?:f16|i8), (\d+), (\d+), (\d+), (\d+), \d+, (\d+), \d+, "
    r"(\d+)\)$",
    re.MULTILINE,
)
LAUNCH = re.compile(r"TWINSTREAM_(\w+)_(THREADS|SHARED_BYTES|GROUPS) = (\d+)")


@dataclass(frozen=True)
class Launch:
    threads: int
    shared_bytes: int
    # Those that multiply.
    warps: int
    # Output pixels and channels of a block, where it has a tile.
    tile: tuple = ()


def launches():
    """By kernel, out of tiles.inc and the headers of parameters."""
    found = {}
    for name, *numbers in TILE.findall((CUDA / "tiles.inc").read_text()):
        m, n, warps_m, warps_n, threads, shared_bytes = map(int, numbers)
        found[name] = Launch(threads, shared_bytes, warps_m * warps_n, (m, n))
    sizes = {}
    headers = "".join((CUDA / header).read_text() for header in ("launch.h", "prove.h"))
    for name, what, value in LAUNCH.findall(headers):
        sizes.setdefault(name.lower(), {})[what] = int(value)
    for name, of_kernel in sizes.items():
        threads = of_kernel["THREADS"]
        warps = 4 * of_kernel["GROUPS"] if "GROUPS" in of_kernel else threads // 32
        found[name] = Launch(threads, of_kernel["SHARED_BYTES"], warps)
    return found

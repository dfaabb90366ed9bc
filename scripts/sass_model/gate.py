"""What every change of a kernel is held against: spills, instructions that it must and must not have,
ptxas's warnings, and stored limits on counts and bounds, at 0 %."""

import re
from collections import Counter

from bounds import lone_warp_cycles, step_bounds
from device import DEVICES
from loop import main_loop
from sass import WARPGROUP

# By name, the first that fits: what a kernel must have, and what it must not.
MATRIX_COPIES = ("LDSM", "LDGSTS")
WARPGROUP_COPIES = ("UTMALDG", "UBLKCP", "STSM", "LDSM", "UTMASTG", "USETMAXREG")
OLD_COPIES = ("HMMA", "IMMA", "LDGSTS")
MULTICAST = "UTMALDG.4D.IM2COL.MULTICAST"
# Clusters whose blocks send one another sums; a warp copies, so that no registers change hands.
SPLIT_COPIES = ("UTMALDG.4D.IM2COL", "UBLKCP", "STSM", "LDSM", "UTMASTG", "UTMACCTL.PF", "STAS")
FAMILIES = (
    (r"conv_i8_wgmma_\w+_split$", ("IGMMA", *SPLIT_COPIES), OLD_COPIES),
    (r"conv_wgmma_\w+_split$", ("HGMMA", *SPLIT_COPIES), OLD_COPIES),
    (r"conv_i8_wgmma_\w+_pair$", ("IGMMA", MULTICAST, *WARPGROUP_COPIES), OLD_COPIES),
    (r"conv_wgmma_\w+_pair$", ("HGMMA", MULTICAST, *WARPGROUP_COPIES), OLD_COPIES),
    (r"conv_i8_wgmma_", ("IGMMA", *WARPGROUP_COPIES), OLD_COPIES),
    (r"conv_wgmma_", ("HGMMA", *WARPGROUP_COPIES), OLD_COPIES),
    (r"stem_(i8_)?wgmma$", ("HGMMA", "USETMAXREG"), ("IGMMA", "LDSM", *OLD_COPIES)),
    (r"(conv_i8_|stem_i8$)", ("IMMA", *MATRIX_COPIES), ("HMMA",)),
    (r"(conv_|stem$)", ("HMMA", *MATRIX_COPIES), ("IMMA",)),
    (r"fully_connected_i8$", ("IMMA",), ("HMMA",)),
    (r"fully_connected$", ("HMMA",), ("IMMA",)),
    (r"", (), ()),
)
# Local memory; a loop around an instruction that one thread was to issue.
NOWHERE = ("LDL", "STL", "BRA.U.ANY")
# In a step of the main loop: conversions by the slowest pipe.
NOT_IN_STEP = ("I2F", "F2I")
# wgmma made to wait for each other, setmaxnreg ignored: ptxas calls them information.
MESSAGE = re.compile(r"^.*\bC75(?:08|10|17|19)\b.*$", re.MULTILINE)
TABLED = ("HMMA", "IMMA", "HGMMA", "IGMMA", "LDSM", "LDGSTS", "UTMALDG")
COUNTED = ("HMMA", "IMMA", "HGMMA", "IGMMA", "LDSM", "LDGSTS", "LDS")
RESOURCES = ("issue", "tensor", "alu", "fma", "uniform", "xu", "shared", "l2_bytes")


def has(instructions, name):
    return any(f"{ins.opcode}.".startswith(f"{name}.") for ins in instructions if ins.is_executed)


def family_problems(kernel, path):
    """Of a kernel and a step of its main loop, if it has one."""
    required, forbidden = next(row[1:] for row in FAMILIES if re.match(row[0], kernel.name))
    problems = [f"has no {name}" for name in required if not has(kernel.code, name)]
    problems += [f"has {name}" for name in (*forbidden, *NOWHERE) if has(kernel.code, name)]
    problems += [f"has {name} in its main loop" for name in NOT_IN_STEP if has(path or (), name)]
    if kernel.stack_bytes:
        problems.append(f"has a stack of {kernel.stack_bytes} bytes")
    return problems


def message_problems(log):
    return [line.strip() for line in MESSAGE.findall(log)]


def measures(kernel, path, warps):
    """What limits are kept on, by name."""
    found = {"registers": kernel.registers}
    if path:
        device = DEVICES[kernel.target]
        counts = Counter(ins.base for ins in path if ins.is_executed)
        found["instructions"] = len(path)
        found |= {base: counts[base] for base in COUNTED if counts[base]}
        # Groups of wgmma: more than one a step, and each waits for the one before.
        if groups := sum(ins.base in WARPGROUP and "gsb0" in ins.operands for ins in path):
            found["groups"] = groups
        cycles = step_bounds(path, device, warps)
        found |= {name: round(cycles[name]) for name in RESOURCES if cycles.get(name)}
        found["lone_warp"] = round(lone_warp_cycles(path, device))
    return found


def limits_line(key, values):
    return " ".join((*key, *(f"{name}={value}" for name, value in values.items())))


def read_limits(text):
    """The nvcc that they are of, and limits by target and kernel."""
    nvcc, limits = None, {}
    for line in text.splitlines():
        words = line.split()
        if line.startswith("nvcc "):
            nvcc = words[1]
        elif words and words[0] != "#":
            pairs = (word.split("=") for word in words[2:])
            limits[words[0], words[1]] = {name: int(value) for name, value in pairs}
    return nvcc, limits


def write_limits(nvcc, limits):
    head = [
        "# Of each target and kernel: registers, then of a step of its main loop instructions, bounds",
        "# in cycles by resource, bytes from L2, and cycles of a warp that is alone. Held at 0 % by",
        "# scripts/cuda-gates.sh, which writes them with --write.",
        f"nvcc {nvcc}",
    ]
    lines = (limits_line(key, limits[key]) for key in sorted(limits))
    return "\n".join((*head, *lines)) + "\n"


def limits_problems(limits, found):
    """Where found measures differ from the limits of the same targets. What got better must be
    written too, or it could be lost again unseen."""
    targets, problems = {target for target, _ in found}, []
    for key in sorted(limits.keys() | found.keys()):
        if key[0] not in targets:
            continue
        then, now = limits.get(key, {}), found.get(key, {})
        for name in sorted(then.keys() | now.keys()):
            old, new = then.get(name, 0), now.get(name, 0)
            if old != new:
                word = "worse" if new > old else "better or gone"
                problems.append(f"{key[1]} for {key[0]}: {name} {new}, limit {old}: {word}")
    return problems


def table_row(kernel, launch):
    """A row of the table in docs/KERNELS.md, or what is wrong with the kernel."""
    blocks = DEVICES[kernel.target].blocks(kernel.registers, launch.threads, launch.shared_bytes)
    cells = (
        kernel.target,
        f"`{kernel.name}`",
        kernel.registers,
        launch.shared_bytes,
        len(kernel.code) * 16,
        *(kernel.count(base) for base in TABLED),
        blocks,
    )
    return "| " + " | ".join(map(str, cells)) + " |", [] if blocks else ["not even one block fits"]


def check(kernels, launches):
    """Rows of the table, measures of all kernels, and problems but for the limits."""
    rows, found, problems = [], {}, []
    for (target, name), kernel in sorted(kernels.items()):
        if name not in launches:
            problems.append(f"{name}: in neither launch.h nor tiles.inc")
            continue
        path = main_loop(kernel.code)
        row, unfit = table_row(kernel, launches[name])
        rows.append(row)
        found[target, name] = measures(kernel, path, launches[name].warps)
        wrong = unfit + family_problems(kernel, path)
        problems += [f"{name} for {target}: {text}" for text in wrong]
    return rows, found, problems

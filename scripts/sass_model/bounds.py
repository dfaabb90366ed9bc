"""What a step of a loop takes at least, by each resource alone, and by one warp's dependences."""

import re
from collections import Counter

from sass import MATRIX, WARPGROUP

UNIFORM = ("R2UR", "VOTEU", "S2UR", "UTMALDG", "UBLKCP", "UTMASTG", "SYNCS")
# Issue slots alone.
CONTROL = (
    *("BRA", "BAR", "BSSY", "BSYNC", "WARPSYNC", "EXIT", "NOP", "DEPBAR", "LDGDEPBAR", "WARPGROUP"),
    *("ELECT", "YIELD", "CALL", "RET", "NANOSLEEP", "MEMBAR", "FENCE", "ACQBULK", "USETMAXREG"),
)
FP32 = ("FFMA", "FADD", "FMUL", "HADD2", "HMUL2", "HFMA2")
CONVERSIONS = ("MUFU", "I2F", "F2I", "F2F", "FRND")
MEMORY = ("LDS", "STS", "ATOMS", "LDG", "STG", "LDL", "STL", "ATOM", "ATOMG", "RED", "LD", "ST")
WARP_LEN = 32
SCHEDULERS = 4


def access_bytes(instruction):
    """Of one lane."""
    found = re.search(r"\.(64|128)\b", instruction.opcode)
    return int(found.group(1)) // 8 if found else 4


def warpgroup_columns(instruction):
    return int(re.search(r"64x(\d+)x", instruction.opcode).group(1))


def pipe(instruction, device):
    """A scheduler's pipe that it goes to, and for how many cycles."""
    base = instruction.base
    if not instruction.is_executed or base in CONTROL:
        return None, 0
    if base in WARPGROUP:
        return "tensor", warpgroup_columns(instruction) / 2
    if base in MATRIX:
        halves = base == "HMMA" and ".1688" in instruction.opcode
        halves |= base == "IMMA" and ".16816" in instruction.opcode
        return "tensor", device.mma_cycles / (2 if halves else 1)
    if base in (*MEMORY, "LDGSTS", "LDSM", "STSM"):
        return None, 0
    if base in UNIFORM or base.startswith("U"):
        return "uniform", 2
    if base in ("IMAD", "IMUL"):
        return "fma", 2  # half of the FP32 lanes
    if base in FP32:
        return "fma", 1
    if base in CONVERSIONS:
        return "xu", 8
    return "alu", 2


def wavefronts(instruction):
    """Accesses of 128 bytes of shared memory by a warp, at least: without bank conflicts, and loads
    by a single one, for lanes may read the same words, as those of the row table do."""
    base, opcode = instruction.base, instruction.opcode
    if not instruction.is_executed:
        return 0
    if base in ("LDSM", "STSM"):
        return int(opcode[-1]) if opcode[-1] in "24" else 1
    if base == "LDGSTS":
        return access_bytes(instruction) * WARP_LEN // 128
    if base in WARPGROUP:
        # A's 64 rows unless they are in registers, and B's; 32 bytes each, for the four warps.
        from_registers = re.match(r"\s*R\d+, R\d+", instruction.operands)
        return (warpgroup_columns(instruction) + (0 if from_registers else 64)) * 32 / 128 / 4
    return 1 if base in ("LDS", "STS", "ATOMS") else 0


def copied_bytes(instruction):
    """From L2, by a warp."""
    if instruction.base != "LDGSTS" or not instruction.is_executed:
        return 0
    return access_bytes(instruction) * WARP_LEN


def step_bounds(path, device, warps):
    """Cycles of the multiprocessor a step of a block of so many warps, by resource, and the bytes
    that the block copies from L2. However many blocks share a multiprocessor: each costs the same."""
    by_scheduler = Counter(issue=len(path))
    for instruction in path:
        name, cycles = pipe(instruction, device)
        if name:
            by_scheduler[name] += cycles
    found = {name: cycles * warps / SCHEDULERS for name, cycles in by_scheduler.items()}
    found["shared"] = sum(map(wavefronts, path)) * warps
    found["l2_bytes"] = sum(map(copied_bytes, path)) * warps
    return found


def result_latency(instruction, device):
    """Cycles until what waits for its scoreboard goes on, where nothing else is at work."""
    if instruction.base in MATRIX:
        return device.mma_latency
    if count := wavefronts(instruction):
        # Copies only have their addresses read; what they bring is waited for by groups.
        return device.shared_latency + count if instruction.base != "LDGSTS" else 20
    return 24 if instruction.base in CONVERSIONS else 6


def lone_warp_cycles(path, device, steps=8):
    """Cycles a step of one warp that is alone, its copies there in time: stall counts, scoreboards and
    the tensor pipe. What a load right before its use costs shows here and in no sum."""
    clock, tensor_free, scoreboards, sums, begins = 0.0, 0.0, [0.0] * 8, {}, []
    for _ in range(steps):
        begins.append(clock)
        for instruction in path:
            ready = [scoreboards[n] for n in range(6) if instruction.wait >> n & 1]
            at = max([clock, *ready])
            name, cycles = pipe(instruction, device)
            done = at + result_latency(instruction, device)
            if name == "tensor":
                added_to = instruction.registers[-1]
                at = max(at, tensor_free, sums.get(added_to, 0))
                tensor_free = at + cycles
                done = sums[instruction.registers[0]] = at + device.mma_latency
            scoreboards[instruction.write_barrier] = done
            scoreboards[instruction.read_barrier] = max(
                scoreboards[instruction.read_barrier], at + 12
            )
            clock = at + max(instruction.stall, 1)
    return (begins[-1] - begins[1]) / (steps - 2)

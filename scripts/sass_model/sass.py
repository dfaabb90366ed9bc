"""Machine code as `cuobjdump` prints it: instructions with their control words, by kernel."""

import re
import subprocess
from dataclasses import dataclass, field

# An instruction is two words of 64 bits; the second is alone in the next line.
INSTRUCTION = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s*/\* 0x[0-9a-f]{16} \*/")
SECOND_WORD = re.compile(r"\s+/\* 0x([0-9a-f]{16}) \*/")
PARTS = re.compile(r"(?:@(!?U?P\w+)\s+)?(\S+)(.*)")
TARGET = re.compile(r"\b0x([0-9a-f]+)\s*$")
BRANCHES = ("BRA", "JMP")
ENDS = (*BRANCHES, "EXIT", "RET", "BRX")
MATRIX = ("HMMA", "IMMA", "HGMMA", "IGMMA")
WARPGROUP = ("HGMMA", "IGMMA")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. Barriers are numbers of scoreboards, 7 for none; `wait` is a mask of them."""

    offset: int
    text: str
    predicate: str
    opcode: str
    operands: str
    stall: int
    write_barrier: int
    read_barrier: int
    wait: int

    @property
    def base(self):
        return self.opcode.split(".")[0]

    @property
    def is_executed(self):
        """ptxas puts loads with a false predicate before asynchronous copies."""
        return self.predicate not in ("!PT", "!UPT")

    @property
    def jump(self):
        """Where it may go on besides the next instruction."""
        found = self.base in BRANCHES and TARGET.search(self.operands)
        return int(found.group(1), 16) if found else None

    @property
    def always_leaves(self):
        condition = re.match(r"\s*!?U?P\d", self.operands)
        return self.base in ENDS and not self.predicate and not condition

    @property
    def registers(self):
        return [int(number) for number in re.findall(r"\bR(\d+)", self.operands)]

    @staticmethod
    def read(offset, text, second_word):
        predicate, opcode, operands = PARTS.match(text).groups()
        # Bits 105 to 125 of the 128, the same from sm_70 to sm_90: stall, yield, scoreboards.
        control = second_word >> 41
        return Instruction(
            offset,
            text,
            predicate or "",
            opcode,
            operands,
            control & 15,
            control >> 5 & 7,
            control >> 8 & 7,
            control >> 11 & 63,
        )


@dataclass
class Kernel:
    """A kernel for one target, such as sm_90a."""

    name: str
    target: str
    code: list = field(default_factory=list)
    registers: int = 0
    stack_bytes: int = 0

    def count(self, base):
        return sum(instruction.base == base for instruction in self.code)


def read_code(text):
    """Kernels by target and name, out of what `cuobjdump -sass` prints."""
    kernels, target, kernel = {}, None, None
    lines = iter(text.split("\n"))
    for line in lines:
        if found := INSTRUCTION.match(line):
            second = SECOND_WORD.match(next(lines))
            word = int(second.group(1), 16)
            kernel.code.append(Instruction.read(int(found.group(1), 16), found.group(2), word))
        elif found := re.search(r"code for (sm_\w+)", line):
            target = found.group(1)
        elif found := re.search(r"Function : (\S+)", line):
            kernel = Kernel(found.group(1), target)
            kernels[target, kernel.name] = kernel
    return kernels


def add_usage(kernels, text):
    """Registers and stack, out of what `cuobjdump -res-usage` prints for one target."""
    of_name = {kernel.name: kernel for kernel in kernels.values()}
    for name, registers, stack in re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+)", text):
        of_name[name].registers = int(registers)
        of_name[name].stack_bytes = int(stack)


def disassemble(path):
    """Kernels of a cubin, which is code for one target."""

    def printed(option):
        command = ["cuobjdump", option, path]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    kernels = read_code(printed("-sass"))
    add_usage(kernels, printed("-res-usage"))
    return kernels

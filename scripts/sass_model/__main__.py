"""Reads kernels' machine code: gates on it, and predictions from it, without a GPU.

    python3 scripts/sass_model gate FOLDER --nvcc VERSION --warned LOG [--write]
    python3 scripts/sass_model loops CUBIN...
    python3 scripts/sass_model dump CUBIN KERNEL
    python3 scripts/sass_model predict LAYERS PLAN_F16 PLAN_I8 CUBIN... [--write] [--rates FILE]

`gate` is what scripts/cuda-gates.sh runs, on FOLDER's NAME.cubin with NAME.log, what ptxas said. `loops`
prints a step of each main loop: what each resource takes at least, and a simulation, which is good
for 8 %. `dump` prints the step's instructions with their control words. `predict` prints the network's
predicted times on an H100, of cubins for sm_90a and of what `twinstream inspect --json --size 224x224`
prints, and with `--plan --precision f16` and `i8`; scripts/predict.sh runs it. `--write` keeps what it
simulated of the loops for scripts/gpu_report.py. docs/KERNELS.md explains. Needs cuobjdump in PATH.
"""

import argparse
import json
import sys
from pathlib import Path

from bounds import lone_warp_cycles, pipe, step_bounds
from device import DEVICES, RATES_FILE, read_rates
from gate import (
    RESOURCES,
    TABLED,
    check,
    limits_problems,
    message_problems,
    read_limits,
    write_limits,
)
from loop import main_loop
from network import convs_of, read_lines
from predict import markdown, rows
from sass import disassemble
from simulate import simulated_cycles
from sources import launches
from today import LOOPS_FILE, Loops

LIMITS = Path(__file__).with_name("limits.txt")
REMEDY = "scripts/cuda-gates.sh --write stores other limits, where that is meant"
TOOLKIT = "scripts/cuda-toolkit.sh installs theirs"
# Kernels of warned.ptx.
WARNED_LEN = 2
HEADER = ("target", "kernel", "registers", "shared bytes", "code bytes", *TABLED, "blocks")


def run_gate(arguments):
    files = sorted(Path(arguments.folder).glob("*.cubin"))
    kernels, problems = {}, []
    for file in files:
        kernels |= disassemble(file)
        problems += message_problems(file.with_suffix(".log").read_text())
    rows, found, wrong = check(kernels, launches())
    problems += wrong
    if len(message_problems(Path(arguments.warned).read_text())) != WARNED_LEN:
        problems.append("ptxas's warnings of warned.ptx are not recognised")
    nvcc, limits = read_limits(LIMITS.read_text())
    if arguments.write:
        targets = {target for target, _ in found}
        kept = {key: values for key, values in limits.items() if key[0] not in targets}
        LIMITS.write_text(write_limits(arguments.nvcc, kept | found))
    elif nvcc != arguments.nvcc:
        problems.append(f"the limits are of nvcc {nvcc}, this is {arguments.nvcc}; {TOOLKIT}")
    elif worse := limits_problems(limits, found):
        problems += [*worse, REMEDY]
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    print("\n".join(rows))
    print(*problems, sep="\n", end="\n" * bool(problems), file=sys.stderr)
    return bool(problems)


def run_loops(arguments):
    (rates, _), of_kernel = read_rates(), launches()
    names = ("kernel", "blocks", "instructions", *RESOURCES, "lone warp", "simulated", "one block")
    print(f"L2 on sm_90a: {rates}\n| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for kernel in (kernel for file in arguments.cubins for kernel in disassemble(file).values()):
        path, launch, device = (
            main_loop(kernel.code),
            of_kernel[kernel.name],
            DEVICES[kernel.target],
        )
        if not path:
            continue
        bounds = step_bounds(path, device, launch.warps)
        blocks = device.blocks(kernel.registers, launch.threads, launch.shared_bytes)
        cells = [kernel.name, blocks, len(path)]
        cells += [round(bounds.get(name, 0)) for name in RESOURCES]
        cells.append(round(lone_warp_cycles(path, device)))
        for count in (blocks, 1):
            simulated = simulated_cycles(path, device, launch.warps, count, rates.l2_bytes_clk)
            cells.append(round(simulated))
        print("| " + " | ".join(map(str, cells)) + " |")
    return 0


def run_dump(arguments):
    kernels = disassemble(arguments.cubin)
    found = [kernel for kernel in kernels.values() if kernel.name == arguments.kernel]
    path = found and main_loop(found[0].code)
    if not path:
        known = " ".join(name for _, name in kernels)
        print(f"{arguments.kernel}: has no main loop here; there are {known}", file=sys.stderr)
        return 1
    for ins in path:
        waits = "".join(str(n) if ins.wait >> n & 1 else "-" for n in range(6))
        barriers = f"W{ins.write_barrier} R{ins.read_barrier}".replace("7", "-")
        where = pipe(ins, DEVICES[found[0].target])[0] or "-"
        print(f"{ins.offset:05x} {waits} {barriers} stall {ins.stall:2} {where:8} {ins.text}")
    return 0


def run_predict(arguments):
    kernels = {}
    for cubin in arguments.cubins:
        kernels |= disassemble(cubin)
    convs = convs_of(read_lines(arguments.layers))
    plans = {"f16": read_lines(arguments.plan_f16), "i8": read_lines(arguments.plan_i8)}
    rates, pessimist = read_rates(arguments.rates)
    loops = Loops(kernels, launches())
    found = rows(loops, launches(), convs, plans, rates, pessimist)
    print(f"pessimist: {pessimist}; as expected: {rates}\n")
    print(markdown(found))
    if arguments.write:
        LOOPS_FILE.write_text(json.dumps(loops.stored((rates, pessimist)), indent=1) + "\n")
    return 0


def main():
    parser = argparse.ArgumentParser(
        prog="sass_model", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    gate = commands.add_parser("gate")
    gate.add_argument("folder")
    gate.add_argument("--nvcc", required=True, help="its version, such as 13.0.88")
    gate.add_argument("--warned", required=True, help="what ptxas said of warned.ptx")
    gate.add_argument("--write", action="store_true", help="store what is found as limits")
    gate.set_defaults(run=run_gate)
    loops = commands.add_parser("loops")
    loops.add_argument("cubins", nargs="+", metavar="CUBIN")
    loops.set_defaults(run=run_loops)
    dump = commands.add_parser("dump")
    dump.add_argument("cubin")
    dump.add_argument("kernel")
    dump.set_defaults(run=run_dump)
    predict = commands.add_parser("predict")
    for name in ("layers", "plan_f16", "plan_i8"):
        predict.add_argument(name)
    predict.add_argument("cubins", nargs="+", metavar="CUBIN")
    predict.add_argument("--rates", metavar="FILE", default=RATES_FILE)
    predict.add_argument("--write", action="store_true", help="keep the simulated loops")
    predict.set_defaults(run=run_predict)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())

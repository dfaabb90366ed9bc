#!/usr/bin/env python3
"""Takes one barrier, wait, arrival, fence or flip of a phase out of the CUDA kernels at a time and
shows that the tests notice.

    scripts/mutate-kernels.py [RANDOM_LEN [FILE...]]

Whatever REMOVED matches in the kernels below cuda/ is removed in a copy of the folder, and the
kernel tests run on the emulated device: threads in order, in orders drawn from seeds, then with
ThreadSanitizer looking for races, at last with plain stores held to their fences. Prints what
noticed each removal first and fails if one went unnoticed. With RANDOM_LEN random convolutions in a
run, 5 unless given; FILEs are names such as top_k.cu, all unless given. Needs g++ alone.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CALLS = (
    "__syncthreads",
    "__syncwarp",
    "barrier_arrive",
    "barrier_arrive_expect",
    "barrier_arrive_relaxed_at",
    "barrier_sync",
    "barrier_wait",
    "begin",
    "bulk_commit",
    "bulk_wait",
    "bulk_wait_read",
    "cluster_arrive",
    "cluster_arrive_relaxed",
    "cluster_wait",
    "cp_async_wait",
    "decrease_registers",
    "fence_barrier_init",
    "fence_proxy_async_shared",
    "make_room",
    "meet",
    "places.advance",
    "release",
    "turn.advance",
    "wait_for_previous_kernel",
    "wgmma_commit",
    "wgmma_fence",
    "wgmma_wait",
)
CALL = rf"(?:ptx::)?(?:{'|'.join(map(re.escape, CALLS))})(?:<[^;]*>)?\([^;]*\)"
# A statement of its own, or all that a condition is for.
REMOVED = re.compile(rf"^\s*(?:(?:if|if constexpr|for) \(.*\) )?({CALL}|parity \^= 1|\+\+pair);$")
COMPILER = [os.environ.get("CXX", "g++"), "-std=c++17", "-fno-strict-aliasing"]
SEED = "1"  # of the tests' data, the same in all runs
ORDERS = ["0", "1", "2", "3"]
TIMEOUT_S = 300

# Flags of the emulator, of kernels and tests, and of the link; further sources of the emulator.
BUILDS = {
    "plain": (["-O2"], ["-O2"], ["-O2"], []),
    "races": (
        ["-O1", "-DTWINSTREAM_RACE_CHECK"],
        ["-O1", "-DTWINSTREAM_RACE_CHECK", "-fsanitize=thread"],
        ["-O1", "-fsanitize=thread"],
        [],
    ),
    "stores": (["-O2"], ["-O1", "-fsanitize=thread"], ["-O1"], ["emulator/tests/accesses.cpp"]),
}


def compile_file(flags, source, target):
    subprocess.run([*COMPILER, *flags, "-x", "c++", "-c", source, "-o", target], check=True)


class Build:
    """The tests in one build: all objects, of which single ones are replaced."""

    def __init__(self, cuda, folder, name):
        self.cuda, self.folder = cuda, folder / name
        self.folder.mkdir()
        device_flags, self.flags, self.link_flags, further = BUILDS[name]
        for pattern in ("emulator/*.cpp", "emulator/driver/*.cpp", *further):
            self.compile("device", device_flags, cuda.glob(pattern))
        for pattern in ("tests/*.cpp", "tests/emulated/*.cpp"):
            self.compile("test", self.flags, cuda.glob(pattern))
        self.compile_kernels(kernels_in(cuda))

    def compile(self, kind, flags, sources):
        for source in sources:
            name = "_".join((kind, *source.relative_to(self.cuda).with_suffix(".o").parts))
            compile_file(flags, source, self.folder / name)

    def compile_kernels(self, sources):
        self.compile("kernel", self.flags, sources)

    def run(self, random_len, order):
        program = self.folder / "tests"
        objects = sorted(self.folder.glob("*.o"))
        subprocess.run(
            [COMPILER[0], *self.link_flags, *objects, "-o", program, "-pthread"], check=True
        )
        environment = {
            **os.environ,
            "TWINSTREAM_EMULATOR_SEED": order,
            "TSAN_OPTIONS": "halt_on_error=1",
        }
        try:
            done = subprocess.run(
                [program, random_len, SEED],
                env=environment,
                timeout=TIMEOUT_S,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except subprocess.TimeoutExpired:
            # The emulated device ends what waits for ever: without an end the machine was too slow.
            print(f"order {order}: no end within {TIMEOUT_S} s", flush=True)
            return None
        if done.returncode == 0:
            return None
        heads = ("FAILED", "SUMMARY", "emulated device: kernel")
        lines = [line for line in done.stdout.splitlines() if line.startswith(heads)]
        return lines[0] if lines else f"exit status {done.returncode}"


def kernels_in(cuda):
    return [
        path for path in sorted(cuda.rglob("*.cu")) if path.parent.name not in ("probes", "ptx")
    ]


def dependants(cuda, changed):
    """The kernel files that include the changed one."""
    found = []
    for source in kernels_in(cuda):
        text = subprocess.run(
            [*COMPILER, "-MM", "-x", "c++", source], check=True, text=True, capture_output=True
        ).stdout
        if changed.name in re.split(r"[\s/]+", text):
            found.append(source)
    return found


def noticed(plain, random_len):
    """What failed first, the slow checks last; None if nothing did."""
    for order in ORDERS:
        report = plain.run(random_len, order)
        if report:
            return f"order {order}: {report}"
    for name in ("races", "stores"):
        with tempfile.TemporaryDirectory() as folder:
            report = Build(plain.cuda, pathlib.Path(folder), name).run("1", "0")
        if report:
            return f"{name}: {report}"
    return None


def main():
    random_len, *names = sys.argv[1:] or ["5"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        cuda = folder / "cuda"
        shutil.copytree(REPOSITORY / "cuda", cuda)
        headers = [path for path in cuda.rglob("*.cuh") if path.parent.name != "probes"]
        subjects = sorted([*kernels_in(cuda), *headers])
        if names:
            subjects = [path for path in subjects if path.name in names]
            absent = set(names) - {path.name for path in subjects}
            if absent:
                sys.exit(f"no such kernels: {' '.join(sorted(absent))}")
        plain = Build(cuda, folder, "plain")
        for order in ORDERS:
            report = plain.run(random_len, order)
            if report:
                sys.exit(f"the unchanged kernels fail in order {order}: {report}")
        unnoticed = 0
        for path in subjects:
            text = path.read_text()
            lines = text.split("\n")
            for number, line in enumerate(lines):
                match = REMOVED.match(line)
                if not match:
                    continue
                changed = [*lines[:number], line.replace(match[1], ""), *lines[number + 1 :]]
                path.write_text("\n".join(changed))
                sources = dependants(cuda, path)
                plain.compile_kernels(sources)
                report = noticed(plain, random_len)
                unnoticed += report is None
                place = f"{path.name}:{number + 1} {match[1]}"
                print(f"{place}\n    {report or 'UNNOTICED'}", flush=True)
                path.write_text(text)
                plain.compile_kernels(sources)
        if unnoticed:
            sys.exit(f"{unnoticed} removals went unnoticed")


main()

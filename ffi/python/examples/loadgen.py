"""A system under test for MLPerf's LoadGen: the scenarios Server, Offline, SingleStream and MultiStream of ResNet-50, by LoadGen's own
rules for it. It needs `pip install mlcommons-loadgen`; docs/LOADGEN.md has the rest.

    loadgen.py --scenario Server --target-qps 10000 --backend null --out FOLDER
    loadgen.py --scenario Offline --mode accuracy --weights MODEL --dataset FOLDER --out FOLDER

An answer is the class as a 32-bit integer. LoadGen knows no failed answer, so a request that fails ends the program with its reason
and status 1, and no result is written.
"""

import argparse
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import mlperf_loadgen as lg
import numpy as np
import twinstream

# How many samples are in memory during a performance run, by MLPerf's rules.
PERFORMANCE_SAMPLE_LEN = 1024
# Of Offline's samples so many are answered before the next are handed in, for their answers take memory.
OFFLINE_LEN = 8192
# The most answers that wait for one another on their way to LoadGen.
COMPLETE_LEN = 64
SCENARIOS = lg.TestScenario.__members__
MODES = {"performance": lg.TestMode.PerformanceOnly, "accuracy": lg.TestMode.AccuracyOnly}


def fail(reason: object) -> NoReturn:
    """Ends the program, on whichever thread: LoadGen would wait for an answer that never comes."""
    print(f"loadgen: {reason}", file=sys.stderr, flush=True)
    os._exit(1)


class Images:
    """The images of images.rgb, one behind the other as the network sees them: u8 RGB, height x width x 3. Without a file, which
    the null backend does not need, they are grey."""

    def __init__(self, folder: Path | None, shape: tuple[int, int, int]) -> None:
        self.loaded: dict[int, twinstream.Pixels] = {}
        if folder is None:
            self._all = np.broadcast_to(np.uint8(128), (PERFORMANCE_SAMPLE_LEN, *shape))
            return
        pixels = np.memmap(folder / "images.rgb", np.uint8, "r")
        if pixels.size % np.prod(shape) != 0:
            raise ValueError(
                f"{folder / 'images.rgb'}: {pixels.size} bytes are no whole number of images of shape {shape}, the network's"
            )
        self._all = pixels.reshape(-1, *shape)

    def __len__(self) -> int:
        return len(self._all)

    def load(self, samples: Iterable[int]) -> None:
        for sample in samples:
            self.loaded[sample] = twinstream.Pixels(self._all[sample])

    def unload(self, samples: Iterable[int]) -> None:
        for sample in samples:
            self.loaded.pop(sample, None)


class System:
    def __init__(self, engine: twinstream.Engine, images: Images, scenario: str) -> None:
        self._engine = engine
        self._images = images
        self._queue: queue.SimpleQueue[tuple[int, twinstream.Ticket]] = queue.SimpleQueue()
        # Where LoadGen reads which class was answered.
        self._classes = np.arange(engine.class_count, dtype=np.int32)
        base, stride = self._classes.ctypes.data, self._classes.itemsize
        self._addresses = [base + stride * index for index in range(engine.class_count)]
        self._issue = self._submit if scenario == "Server" else self._answer_together
        if scenario == "Server":
            threading.Thread(target=self._guard, args=(self._answer,), daemon=True).start()

    def issue(self, ids: Sequence[int], samples: Sequence[int]) -> None:
        self._guard(self._issue, ids, samples)

    @staticmethod
    def _guard(call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except twinstream.Full:
            fail(
                "every slot is in use, as queries come faster than they are answered: lower --target-qps"
            )
        except BaseException as error:
            fail(f"a request has no answer: {error!r}")

    def _answer_together(self, ids: Sequence[int], samples: Sequence[int]) -> None:
        loaded = self._images.loaded
        for first in range(0, len(ids), OFFLINE_LEN):
            part = slice(first, first + OFFLINE_LEN)
            answers = self._engine([loaded[sample] for sample in samples[part]])
            lg.QuerySamplesComplete(list(map(self._response, ids[part], answers)))

    def _submit(self, ids: Sequence[int], samples: Sequence[int]) -> None:
        for number, sample in zip(ids, samples):
            ticket = self._engine.submit_nowait(self._images.loaded[sample])
            self._queue.put((number, ticket))

    def _answer(self) -> None:
        """Gives LoadGen what `_submit` handed in, by a thread of its own. Who waits holds nobody up."""
        responses: list[lg.QuerySampleResponse] = []
        while True:
            number, ticket = self._queue.get()
            if responses and not ticket.done():
                lg.QuerySamplesComplete(responses)
                responses = []
            responses.append(self._response(number, ticket.wait()))
            if self._queue.empty() or len(responses) == COMPLETE_LEN:
                lg.QuerySamplesComplete(responses)
                responses = []

    def _response(self, number: int, answer: twinstream.Answer) -> lg.QuerySampleResponse:
        address = self._addresses[answer.logits.argmax()]
        return lg.QuerySampleResponse(number, address, self._classes.itemsize)


def positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scenario", choices=SCENARIOS, default="SingleStream")
    parser.add_argument("--mode", choices=MODES, default="performance")
    parser.add_argument("--backend", default="cpu", help="cpu, cuda or null")
    parser.add_argument("--weights", help="a safetensors file")
    parser.add_argument("--dataset", type=Path, help="a folder with images.rgb")
    parser.add_argument("--out", required=True, help="the folder of LoadGen's logs")
    parser.add_argument("--target-qps", type=positive, help="Server, Offline: samples a second")
    parser.add_argument(
        "--target-latency",
        type=positive,
        help="Server: the bound of the 99th percentile; SingleStream, MultiStream: what is expected; in ms",
    )
    parser.add_argument("--min-duration", type=positive, help="in ms")
    parser.add_argument("--min-query-count", type=positive)
    arguments = parser.parse_args()
    if arguments.backend != "null" and arguments.weights is None:
        parser.error(f"--weights: the backend {arguments.backend} needs a safetensors file")
    if arguments.dataset is None and (arguments.backend != "null" or arguments.mode == "accuracy"):
        parser.error("--dataset: a folder with images.rgb is needed")
    return arguments


def settings_of(arguments: argparse.Namespace) -> tuple[lg.TestSettings, lg.TestSettings]:
    """What MLPerf's rules ask for, and the same with what the options change."""
    rules, test = lg.TestSettings(), lg.TestSettings()
    for settings in rules, test:
        settings.scenario = SCENARIOS[arguments.scenario]
        settings.mode = MODES[arguments.mode]
        # LoadGen carries the rules' settings (mlperf.conf); 0 stands for them.
        settings.FromConfig("", "resnet50", arguments.scenario, 0)
    if arguments.target_qps is not None:
        test.server_target_qps = test.offline_expected_qps = arguments.target_qps
    if arguments.target_latency is not None:
        latency_ns = arguments.target_latency * 1e6
        test.server_target_latency_ns = int(latency_ns)
        test.single_stream_expected_latency_ns = latency_ns
        test.multi_stream_expected_latency_ns = latency_ns
    if arguments.min_duration is not None:
        test.min_duration_ms = int(arguments.min_duration)
    if arguments.min_query_count is not None:
        test.min_query_count = int(arguments.min_query_count)
    return rules, test


def compare_with_rules(rules: lg.TestSettings, test: lg.TestSettings, sample_len: int) -> None:
    """Says what keeps the run from being one by MLPerf's rules."""
    is_performance = test.mode == lg.TestMode.PerformanceOnly
    least = [("the number of images", sample_len, PERFORMANCE_SAMPLE_LEN)]
    if is_performance:
        least += [
            ("min-duration", test.min_duration_ms, rules.min_duration_ms),
            ("min-query-count", test.min_query_count, rules.min_query_count),
        ]
    for name, value, rule in least:
        if value < rule:
            print(f"not by MLPerf's rules: {name} is {value}, the rules want at least {rule}")
    latency_ns, rule_ns = test.server_target_latency_ns, rules.server_target_latency_ns
    if is_performance and test.scenario == lg.TestScenario.Server and latency_ns > rule_ns:
        print(
            f"not by MLPerf's rules: target-latency in ns is {latency_ns}, the rules want at most {rule_ns}"
        )


def open_engine(arguments: argparse.Namespace) -> twinstream.Engine:
    slot_len = None
    if arguments.scenario == "Server":
        # Late answers spoil the 99th percentile by themselves; a thread that the system held up for a moment is no reason to end
        # the run.
        slot_len = max(1024, int(min((arguments.target_qps or 0) / 4, 32768)))
    return twinstream.Engine(arguments.weights, backend=arguments.backend, slot_len=slot_len)


def main() -> None:
    arguments = parse()
    rules, test = settings_of(arguments)
    try:
        Path(arguments.out).mkdir(parents=True, exist_ok=True)
        engine = open_engine(arguments)
        images = Images(arguments.dataset, engine.image_shape)
    except (OSError, ValueError, twinstream.TwinstreamError) as error:
        fail(error)
    compare_with_rules(rules, test, len(images))
    performance_len = min(len(images), PERFORMANCE_SAMPLE_LEN)
    test.performance_sample_count_override = performance_len
    system = System(engine, images, arguments.scenario)
    sut = lg.ConstructFastSUT(system.issue, lambda: None)
    qsl = lg.ConstructQSL(len(images), performance_len, images.load, images.unload)
    logs = lg.LogSettings()
    logs.enable_trace = False
    logs.log_output.outdir = arguments.out
    logs.log_output.copy_summary_to_stdout = True
    sys.stdout.flush()
    # LoadGen's thread and the one that answers share the interpreter: 5 ms a turn are much of a bound of 15 ms.
    sys.setswitchinterval(1e-4)
    lg.StartTestWithLogSettings(sut, qsl, test, logs, "audit.config")
    lg.DestroyQSL(qsl)
    lg.DestroyFastSUT(sut)
    engine.close()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times the CPU backend beside ONNX Runtime and OpenVINO in FP32, BF16 and INT8, in one run.

    pip install onnxruntime onnx openvino nncf numpy pillow safetensors
    python3 scripts/bench-cpu.py [--rounds 3] [--precisions f32,bf16,i8] [--json FILE]

Builds the bench, calibrates the repository's model on examples/images, writes it as an ONNX graph
with the same folded weights, then alternates the programs and prints the ratio of the best peer's
best time to ours; above 1 we are faster. Ours are from u8 pixels, theirs from normalised floats.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import peers_cpu as peers
from PIL import Image

CONFIGURATIONS = [
    (threads, side, batch) for side in (224, 32) for batch in (1, 16) for threads in (1, 2)
]


def best_ms(run, images, seconds=1.0):
    """The best time, and the sum of the logits."""
    best, start = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        logits = run(images)
        best = min(best, time.perf_counter() - begin)
    return best * 1e3, float(logits.sum())


def cargo(*command):
    """The program that a build makes."""
    command = ["cargo", *command, "--message-format=json"]
    lines = subprocess.run(
        command, cwd=peers.ROOT, check=True, stdout=subprocess.PIPE
    ).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith(b"{")]
    built = [m["executable"] for m in messages if m.get("executable")]
    return built[-1]


def calibrated(folder):
    """Our weights in 8-bit integers, and each peer's."""
    command = cargo("build", "--release", "--bin", "twinstream")
    ours = pathlib.Path(folder) / "i8.safetensors"
    images = peers.ROOT / "examples/images"
    subprocess.run(
        [command, "calibrate", "--images", images, "--out", ours, "--force"],
        cwd=peers.ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in images.glob("cifar-*")]
    inputs = peers.normalised(np.stack(pixels))
    model = peers.onnx_model()
    return ours, peers.onnxruntime_int8(model, inputs), peers.openvino_int8(model, inputs)


def competitors(precision, threads, shape, models):
    """By name: functions from inputs to logits."""
    onnx_f32, openvino_f32, onnx_i8, openvino_i8 = models
    if precision == "bf16":
        return {"OpenVINO": peers.run_openvino(openvino_f32, threads, shape, "bf16")}
    is_i8 = precision == "i8"
    return {
        "ONNX Runtime": peers.run_onnxruntime(onnx_i8 if is_i8 else onnx_f32, threads),
        "OpenVINO": peers.run_openvino(
            openvino_i8 if is_i8 else openvino_f32, threads, shape, "f32"
        ),
    }


def measure(bench, weights, models, precision, configuration, rounds):
    """A row of the table."""
    threads, side, batch = configuration
    pixels = (np.arange(batch * side * side * 3) * 31 % 251).astype(np.uint8)
    images = peers.normalised(pixels.reshape(batch, side, side, 3))
    runs = competitors(precision, threads, images.shape, models)
    ours, peak, theirs = float("inf"), 0, dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        command = [bench, str(threads), str(side), str(batch), precision, weights]
        result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        ours, peak = min(ours, result["min_ms"]), max(peak, result["peak_rss_bytes"])
        for name, run in runs.items():
            elapsed_ms, logits_sum = best_ms(run, images)
            theirs[name] = min(theirs[name], elapsed_ms)
            if precision == "f32" and abs(logits_sum - result["logits_sum"]) > 1e-3 * batch:
                raise SystemExit(
                    f"sums of logits: ours {result['logits_sum']}, {name} {logits_sum}"
                )
    row = dict(precision=precision, threads=threads, side=side, batch=batch, twinstream_ms=ours)
    row.update({name: round(elapsed_ms, 3) for name, elapsed_ms in theirs.items()})
    row.update(ratio=round(min(theirs.values()) / ours, 3), peak_bytes=peak)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", default="f32,bf16,i8")
    parser.add_argument("--json", type=argparse.FileType("w"))
    arguments = parser.parse_args()
    bench = cargo("bench", "--bench", "cpu", "--no-run")
    with tempfile.TemporaryDirectory() as folder:
        ours_i8, onnx_i8, openvino_i8 = calibrated(folder)
        onnx_f32 = peers.onnx_model()
        openvino_f32 = peers.openvino_model(onnx_f32, [-1, 3, -1, -1])
        models = onnx_f32, openvino_f32, onnx_i8, openvino_i8
        print(
            "precision  threads  size  batch  twinstream ms  ONNX Runtime  OpenVINO  ratio  peak MB"
        )
        for precision in arguments.precisions.split(","):
            weights = ours_i8 if precision == "i8" else peers.WEIGHTS
            for configuration in CONFIGURATIONS:
                row = measure(bench, weights, models, precision, configuration, arguments.rounds)
                print(
                    f"{precision:9}  {row['threads']:7}  {row['side']:4}  {row['batch']:5}"
                    f"  {row['twinstream_ms']:13.2f}  {row.get('ONNX Runtime', '-'):>12}"
                    f"  {row['OpenVINO']:8.2f}  {row['ratio']:5.2f}  {row['peak_bytes'] / 1e6:7.0f}",
                    flush=True,
                )
                if arguments.json:
                    print(json.dumps(row), file=arguments.json, flush=True)


if __name__ == "__main__":
    main()

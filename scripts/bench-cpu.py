#!/usr/bin/env python3
"""Times the CPU backend beside ONNX Runtime: same weights, threads and inputs, in one run.

    pip install onnxruntime onnx numpy safetensors
    python3 scripts/bench-cpu.py [--rounds 3] [--json FILE]

Builds the bench, writes the repository's model as an ONNX graph with the same folded FP32 weights,
then alternates the two programs and prints the ratio of their best times; above 1 we are faster.
"""

import argparse
import json
import pathlib
import subprocess
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/resnet50-cifar10"
BLOCK_COUNTS = (3, 4, 6, 3)
CONFIGURATIONS = [
    (threads, side, batch) for side in (224, 32) for batch in (1, 16) for threads in (1, 2)
]


class Graph:
    """Collects ONNX nodes; batch norm is folded as the library does it."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.nodes, self.constants = [], []

    def constant(self, name, value):
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)
        )
        return name

    def node(self, op, inputs, **attributes):
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def conv(self, x, name, norm, stride, relu=True):
        get = lambda part: self.tensors[f"{norm}.{part}"].astype(np.float64)
        weight = self.tensors[f"{name}.weight"].astype(np.float64)
        scale = get("weight") / np.sqrt(get("running_var") + 1e-5)
        bias = get("bias") - get("running_mean") * scale
        side = weight.shape[2]
        inputs = [
            x,
            self.constant(f"{name}.w", weight * scale[:, None, None, None]),
            self.constant(f"{name}.b", bias),
        ]
        x = self.node("Conv", inputs, strides=[stride] * 2, pads=[side // 2] * 4)
        return self.node("Relu", [x]) if relu else x

    def bottleneck(self, x, name, stride, project):
        y = self.conv(x, f"{name}.conv1", f"{name}.bn1", 1)
        y = self.conv(y, f"{name}.conv2", f"{name}.bn2", stride)
        y = self.conv(y, f"{name}.conv3", f"{name}.bn3", 1, relu=False)
        if project:
            x = self.conv(x, f"{name}.downsample.0", f"{name}.downsample.1", stride, relu=False)
        return self.node("Relu", [self.node("Add", [y, x])])


def onnx_model():
    tensors = load_file(MODEL / "model.safetensors")
    graph = Graph(tensors)
    x = graph.conv("image", "conv1", "bn1", 2)
    x = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, count in enumerate(BLOCK_COUNTS):
        for block in range(count):
            stride = 2 if block == 0 and stage > 0 else 1
            x = graph.bottleneck(x, f"layer{stage + 1}.{block}", stride, block == 0)
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
    weight, bias = (tensors[f"fc.{part}"].astype(np.float32) for part in ("weight", "bias"))
    inputs = [x, graph.constant("fc.w", weight), graph.constant("fc.b", bias)]
    logits = graph.node("Gemm", inputs, transB=1)
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    onnx_graph = helper.make_graph(
        graph.nodes,
        "resnet50",
        [value("image", ["n", 3, "h", "w"])],
        [value(logits, ["n", len(bias)])],
        graph.constants,
    )
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model.SerializeToString()


def peer(model, threads, side, batch, seconds=1.0):
    """ONNX Runtime's best time in ms, and the sum of its logits."""
    config = json.loads((MODEL / "config.json").read_text())["pretrained_cfg"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    pixels = (np.arange(batch * side * side * 3) * 31 % 251).astype(np.float32) / 255
    pixels = pixels.reshape(batch, side, side, 3)
    pixels = (pixels - np.float32(config["mean"])) / np.float32(config["std"])
    feed = {"image": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
    best, start = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        (logits,) = session.run(None, feed)
        best = min(best, time.perf_counter() - begin)
    return best * 1e3, float(logits.sum())


def bench_binary():
    command = ["cargo", "bench", "--bench", "cpu", "--no-run", "--message-format=json"]
    lines = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith(b"{")]
    (binary,) = [m["executable"] for m in messages if m.get("target", {}).get("kind") == ["bench"]]
    return binary


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=argparse.FileType("w"))
    arguments = parser.parse_args()
    binary, model = bench_binary(), onnx_model()
    print(f"ONNX Runtime {onnxruntime.__version__}; best of {arguments.rounds} rounds of a second")
    print("threads  size  batch  twinstream ms  onnxruntime ms  ratio  peak MB")
    for threads, side, batch in CONFIGURATIONS:
        ours, theirs, peak = float("inf"), float("inf"), 0
        for _ in range(arguments.rounds):
            command = [binary, str(threads), str(side), str(batch)]
            result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            ours, peak = min(ours, result["min_ms"]), max(peak, result["peak_rss_bytes"])
            best, logits_sum = peer(model, threads, side, batch)
            theirs = min(theirs, best)
            if abs(logits_sum - result["logits_sum"]) > 1e-3 * batch:
                raise SystemExit(f"sums of logits differ: {result['logits_sum']} and {logits_sum}")
        row = dict(threads=threads, side=side, batch=batch, twinstream_ms=ours)
        row.update(onnxruntime_ms=round(theirs, 3), ratio=round(theirs / ours, 3), peak_bytes=peak)
        size = f"{side}x{side}"
        print(
            f"{threads:7}  {size:>7}  {batch:3}  {ours:13.2f}  {theirs:14.2f}"
            f"  {theirs / ours:5.2f}  {peak / 1e6:7.0f}"
        )
        if arguments.json:
            print(json.dumps(row), file=arguments.json)


if __name__ == "__main__":
    main()

"""The repository's network for ONNX Runtime and OpenVINO, in FP32, BF16 and INT8.

Weights are folded as the library folds them. INT8 is what each peer's own tool makes of them:
ONNX Runtime's static QDQ (u8 activations, s8 weights a channel), OpenVINO's nncf.

    pip install onnxruntime onnx openvino nncf numpy safetensors
"""

import json
import os
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/resnet50-cifar10"
WEIGHTS = MODEL / "model.safetensors"
BLOCK_COUNTS = (3, 4, 6, 3)


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
        self.nodes.append(
            helper.make_node(op, inputs, [output], f"n{len(self.nodes)}", **attributes)
        )
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


def onnx_model(weights=WEIGHTS):
    """The network as an ONNX model: `image` n x 3 x h x w, normalised, to logits."""
    tensors = load_file(weights)
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
    return model


def normalised(pixels):
    """u8 n x h x w x 3 as the network's input."""
    config = json.loads((MODEL / "config.json").read_text())["pretrained_cfg"]
    pixels = pixels.astype(np.float32) / 255
    pixels = (pixels - np.float32(config["mean"])) / np.float32(config["std"])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def onnxruntime_int8(model, images):
    """`model` calibrated on normalised images, n x 3 x h x w."""
    from onnxruntime import quantization as ort

    class Reader(ort.CalibrationDataReader):
        def __init__(self):
            self.images = iter(images)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"image": image[None]}

    with tempfile.TemporaryDirectory() as folder:
        source, target = (os.path.join(folder, name) for name in ("f32.onnx", "i8.onnx"))
        onnx.save(model, source)
        ort.quantize_static(
            source,
            target,
            Reader(),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
        )
        return onnx.load(target)


def openvino_model(model, shape):
    """`model` as OpenVINO has it, for inputs of one shape."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        onnx.save(model, path)
        converted = openvino.convert_model(path)
    converted.reshape(shape)
    return converted


def openvino_int8(model, images):
    """As [`onnxruntime_int8`], by nncf."""
    import nncf

    converted = openvino_model(model, [1, *images.shape[1:]])
    data = nncf.Dataset([image[None] for image in images])
    return nncf.quantize(converted, data, subset_size=len(images))


def run_onnxruntime(model, threads):
    """A function from inputs to logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda images: session.run(None, {"image": images})[0]


def run_openvino(model, threads, shape, precision):
    """A function from inputs to logits; `precision` is f32 or bf16, for what is not quantised."""
    import openvino

    model = model.clone()
    model.reshape(shape)
    compiled = openvino.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
        },
    )
    request = compiled.create_infer_request()
    return lambda images: request.infer([images])[0]

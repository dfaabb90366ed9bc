#!/usr/bin/env python3
"""What reduced precision costs: ours, ONNX Runtime's and OpenVINO's on the same labelled images.

    pip install onnxruntime onnx openvino nncf numpy pillow safetensors
    python3 scripts/accuracy.py IMAGES [--calibration 200] [--weights FILE]

IMAGES has a folder of 32x32 images for each class of the repository's model. Evenly spread images
calibrate all three, the others are tested. The model's convolutions are stored in 8 bits, which
flatters 8-bit integers: unless --weights names others, noise of half a step a channel is added first
(fixed seed). Top-1, agreement with FP32 and mean squared error of the logits, ours through C.
"""

import argparse
import ctypes
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import peers_cpu as peers
from PIL import Image
from safetensors.numpy import load_file, save_file

CONFIG = peers.MODEL / "config.json"
OPTIONS_BYTES = 136
FOREVER = ctypes.c_uint64(2**64 - 1)


def dithered(path):
    """Writes the repository's weights with noise of half a step of each channel's integers."""
    tensors = load_file(peers.WEIGHTS)
    random = np.random.default_rng(1)
    for name, values in tensors.items():
        if values.dtype == np.int8:
            tensors[name] = (values + random.uniform(-0.5, 0.5, values.shape)).astype(np.float32)
    save_file(tensors, path)
    return path


class Twinstream:
    """Logits by the C interface."""

    def __init__(self, library, weights, precision):
        self.library = ctypes.CDLL(library)
        options = ctypes.create_string_buffer(OPTIONS_BYTES)
        self.check(
            self.library.twinstream_options_init(
                options, ctypes.c_size_t(OPTIONS_BYTES), self.abi_version()
            )
        )
        # As ffi/twinstream.h lays twinstream_options out.
        texts = {16: str(weights), 24: str(CONFIG), 128: precision}
        self.texts = [ctypes.create_string_buffer(text.encode()) for text in texts.values()]
        for offset, text in zip(texts, self.texts, strict=True):
            ctypes.c_void_p.from_buffer(options, offset).value = ctypes.addressof(text)
        self.engine = ctypes.c_void_p()
        self.check(self.library.twinstream_engine_create(options, ctypes.byref(self.engine)))

    @staticmethod
    def abi_version():
        header = (peers.ROOT / "ffi/twinstream.h").read_text()
        (line,) = [line for line in header.splitlines() if "define TWINSTREAM_ABI_VERSION" in line]
        return int(line.split()[2].rstrip("u"))

    def check(self, status):
        if status != 0:
            self.library.twinstream_last_error.restype = ctypes.c_char_p
            raise SystemExit(f"status {status}: {self.library.twinstream_last_error()}")

    def logits(self, pixels, class_len):
        answers = []
        for image in pixels:
            request, place = ctypes.c_uint64(), ctypes.c_void_p()
            result = ctypes.POINTER(ctypes.c_float)()
            self.check(
                self.library.twinstream_lease(
                    self.engine, ctypes.byref(request), ctypes.byref(place)
                )
            )
            ctypes.memmove(place, image.tobytes(), image.nbytes)
            self.check(self.library.twinstream_commit(self.engine, request, None))
            self.check(
                self.library.twinstream_wait(self.engine, request, FOREVER, ctypes.byref(result))
            )
            answers.append(result[:class_len])
            self.library.twinstream_release(self.engine, request)
        return np.array(answers, np.float32)


def build():
    """The command and the C library."""
    command = ["cargo", "build", "--release", "--bin", "twinstream", "--package", "twinstream-cli"]
    subprocess.run([*command, "--package", "twinstream-capi"], cwd=peers.ROOT, check=True)
    return (
        peers.ROOT / "target/release/twinstream",
        peers.ROOT / "target/release/libtwinstream_capi.so",
    )


def read(folder, every):
    """Pixels and labels to calibrate with, and to test with."""
    names = json.loads(CONFIG.read_text())["label_names"]
    paths = [(path, names.index(path.parent.name)) for path in sorted(folder.glob("*/*.png"))]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in paths])
    labels = np.array([label for _, label in paths])
    calibrates = np.arange(len(paths)) % every == 0
    return [path for (path, _), used in zip(paths, calibrates, strict=True) if used], (
        pixels[calibrates],
        pixels[~calibrates],
        labels[~calibrates],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=pathlib.Path)
    parser.add_argument("--calibration", type=int, default=200)
    parser.add_argument("--weights", type=pathlib.Path)
    arguments = parser.parse_args()
    command, library = build()
    every = len(list(arguments.images.glob("*/*.png"))) // arguments.calibration
    paths, (calibration, tested, labels) = read(arguments.images, every)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        weights = arguments.weights or dithered(folder / "dithered.safetensors")
        for path in paths:
            (folder / "images" / path.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / "images" / path.parent.name / path.name).symlink_to(path.resolve())
        ours_i8 = folder / "i8.safetensors"
        calibrate = [command, "calibrate", "--weights", weights, "--config", CONFIG]
        calibrate += ["--images", folder / "images", "--out", ours_i8]
        subprocess.run(calibrate, check=True, stdout=subprocess.DEVNULL)
        class_len = labels.max() + 1
        ours = lambda weights, precision: Twinstream(library, weights, precision).logits(
            tested, class_len
        )
        model, inputs = peers.onnx_model(weights), peers.normalised(tested)
        single = [1, *inputs.shape[1:]]
        each = lambda run: np.concatenate([run(image[None]).copy() for image in inputs])
        openvino = peers.openvino_model(model, single)
        integers = peers.openvino_int8(model, peers.normalised(calibration))
        rows = {
            "twinstream f32": ours(weights, "f32"),
            "twinstream bf16": ours(weights, "bf16"),
            "OpenVINO bf16": each(peers.run_openvino(openvino, 2, single, "bf16")),
            "twinstream i8": ours(ours_i8, "i8"),
            "ONNX Runtime i8": each(
                peers.run_onnxruntime(
                    peers.onnxruntime_int8(model, peers.normalised(calibration)), 2
                )
            ),
            "OpenVINO i8": each(peers.run_openvino(integers, 2, single, "f32")),
        }
    exact = rows["twinstream f32"]
    print(f"{len(calibration)} images calibrate, {len(tested)} are tested")
    print("what              top-1 %  agreement %  mean squared error of the logits")
    for name, logits in rows.items():
        top, error = logits.argmax(1), np.square(logits - exact).mean()
        print(
            f"{name:16}  {100 * (top == labels).mean():7.2f}"
            f"  {100 * (top == exact.argmax(1)).mean():11.2f}  {error:.6f}"
        )


if __name__ == "__main__":
    main()

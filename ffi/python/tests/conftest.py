"""What the tests share: the repository's network and images, engines that compute nothing or slowly."""

import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import twinstream

REPOSITORY = Path(__file__).resolve().parents[3]
# A batch takes 50 ms, so that requests are still there when they are looked at.
SLOW = "sim:up=10us+1us,compute=50ms+10us,down=10us+100ns"


def pytest_addoption(parser):
    parser.addoption(
        "--requests", type=int, default=200_000, help="requests of the leak test, such as 1000000"
    )


def settled(engine, is_settled):
    """The statistics as soon as they are so; they are a little behind."""
    until = time.monotonic() + 10
    while not is_settled(stats := engine.stats()) and time.monotonic() < until:
        time.sleep(0.001)
    assert is_settled(stats), stats
    return stats


@pytest.fixture
def weights():
    return REPOSITORY / "models/resnet50-cifar10/model.safetensors"


@pytest.fixture
def photos():
    return sorted((REPOSITORY / "examples/images").iterdir())


@pytest.fixture(scope="session")
def network():
    with twinstream.Engine(REPOSITORY / "models/resnet50-cifar10/model.safetensors") as engine:
        yield engine


@pytest.fixture
def null():
    with twinstream.Engine(backend="null") as engine:
        yield engine


@pytest.fixture
def slow():
    with twinstream.Engine(backend=SLOW, slot_len=8, batch_len_max=4) as engine:
        yield engine


@pytest.fixture(scope="session")
def golden():
    """Pixels and PyTorch's logits of 200 images."""
    with open(REPOSITORY / "tests/data/cifar-reference.safetensors", "rb") as file:
        (header_len,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(header_len)), file.read()

    def tensor(name, dtype):
        start, end = header[name]["data_offsets"]
        return np.frombuffer(data[start:end], dtype).reshape(header[name]["shape"])

    return tensor("cifar_pixels", np.uint8), tensor("cifar_logits", np.float32)

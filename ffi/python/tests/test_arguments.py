"""Wrong arguments: refused in words that name the argument, what was expected and what it was."""

import numpy as np
import pytest
import twinstream


def refused(kind, text, call, *arguments, **keywords):
    with pytest.raises(kind, match=text):
        call(*arguments, **keywords)


def test_of_an_engine(weights, tmp_path):
    engine = twinstream.Engine
    refused(ValueError, "path: expected the weights, .*, got None", engine)
    refused(ValueError, "not a backend; backends are cpu", engine, backend="gpu")
    refused(
        ValueError,
        'path: changes nothing with backend="null": leave it out',
        engine,
        weights,
        backend="null",
    )
    refused(ValueError, "threads: changes nothing", engine, threads=2, backend="null")
    refused(
        ValueError, "threads: expected a whole number from 1, got 0", engine, weights, threads=0
    )
    refused(ValueError, "slot_len: .* from 1, got 0", engine, backend="null", slot_len=0)
    refused(ValueError, "policy: expected a policy's spec", engine, backend="null", policy="best")
    refused(ValueError, "f17", engine, weights, precision="f17")
    refused(ValueError, "latency_bound: .*, got -1", engine, backend="null", latency_bound=-1)
    refused(ValueError, "top 11 classes", engine, weights, top_k=11)
    refused(TypeError, "size", engine, weights, size="32x32")
    refused(twinstream.FileError, "no-such", engine, "no-such.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    refused(twinstream.ModelError, "torn.safetensors", engine, tmp_path / "torn.safetensors")


@pytest.mark.parametrize("send", ["__call__", "submit_nowait"])
def test_of_an_image(null, send):
    send = getattr(null, send)
    image = np.zeros(null.image_shape, np.uint8)
    refused(
        TypeError, "image: expected an array of dtype uint8, got float32", send, image.astype("f4")
    )
    refused(TypeError, "dtype uint8, got bool", send, image.astype(bool))
    refused(TypeError, "dtype uint8, got int8", send, image.astype(np.int8))
    shape = r"image: expected shape \(height, width, 3\), got "
    refused(ValueError, shape + r"\(32, 32\)", send, image[:, :, 0])
    refused(ValueError, shape + r"\(32, 32, 4\)", send, np.zeros((32, 32, 4), np.uint8))
    refused(ValueError, shape + r"\(3072,\)", send, image.ravel())
    refused(twinstream.ImageError, "image of 32x0 has no pixels", send, image[:0])
    refused(TypeError, "image: expected a uint8 array .*, got int", send, 7)
    refused(TypeError, "image: expected .*, got NoneType", send, None)


def test_of_pixels(null):
    pixels = twinstream.Pixels
    refused(TypeError, "dtype uint8, got float32", pixels, np.zeros((32, 32, 3), "f4"))
    refused(
        ValueError, r"shape \(height, width, 3\), got \(32, 32\)", pixels, np.zeros((32, 32), "u1")
    )
    refused(TypeError, "bytes-like", pixels, "image.png")
    other = pixels(np.zeros((32, 64, 3), np.uint8))
    text = r"image: expected pixels of shape \(32, 32, 3\), got pixels of shape \(32, 64, 3\)"
    refused(ValueError, text, null.submit_nowait, other)
    refused(ValueError, text, null.prepare, other)
    same = pixels(np.zeros(null.image_shape, np.uint8))
    refused(ValueError, r"images\[1\]: expected pixels of shape", null, [same, other])


def test_of_one_among_several(null):
    image = np.zeros(null.image_shape, np.uint8)
    refused(TypeError, r"images\[2\]: .* got float64", null, [image, image, np.zeros((32, 32, 3))])
    refused(TypeError, r"images\[1\]: expected .*, got int", null, [image, 7])
    assert null([]) == [] and null.stats().accepted == 0


def test_strides_that_are_legal_are_copied(network, golden):
    image = golden[0][0]
    assert np.abs(network(image).logits - golden[1][0]).max() <= 1e-4
    expected = network(np.ascontiguousarray(image[::-1, ::-1])).logits
    assert np.array_equal(network(image[::-1, ::-1]).logits, expected)
    padded = np.zeros((32, 64, 3), np.uint8)
    padded[:, ::2] = image
    assert np.array_equal(network(padded[:, ::2]).logits, network(image).logits)
    channels_last = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert np.array_equal(network(channels_last).logits, network(image).logits)
    assert np.array_equal(network(memoryview(image)).logits, network(image).logits)


def test_of_a_request(null):
    image = np.zeros(null.image_shape, np.uint8)
    refused(ValueError, "deadline: .* from 0, got -1", null.submit_nowait, image, deadline=-1)
    refused(ValueError, "deadline: .*, got NaN", null.submit_nowait, image, deadline=float("nan"))
    refused(TypeError, "deadline", null.submit_nowait, image, deadline="soon")
    refused(
        ValueError,
        r"priority: expected 1 \(high\), 0 or -1 \(low\), got 2",
        null.submit_nowait,
        image,
        priority=2,
    )
    refused(ValueError, "timeout: .* from 0, got -0.5", null.submit_nowait(image).wait, -0.5)
    refused(ValueError, "timeout", null.drain, -1)
    for priority in (-1, 0, 1):
        null.submit_nowait(image, deadline=10, priority=priority).wait()

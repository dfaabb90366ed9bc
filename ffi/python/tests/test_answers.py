"""Answers of the real network: PyTorch's logits, and those of the command for the same files."""

import io
import json
import os
import subprocess

import numpy as np
import PIL.Image
import pytest
import twinstream
from conftest import settled

TOLERANCE = 1e-4


def logits(answers):
    return np.array([answer.logits for answer in answers])


def test_logits_are_those_of_pytorch(network, golden):
    pixels, expected = golden
    for images in (pixels, list(pixels)):
        found = logits(network(images))
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= TOLERANCE
    assert np.abs(network(pixels[0]).logits - expected[0]).max() <= TOLERANCE


def test_what_does_not_fit_the_slots_goes_in_pieces(weights, golden):
    pixels, expected = golden
    with twinstream.Engine(weights, slot_len=7, batch_len_max=4) as engine:
        assert np.abs(logits(engine(pixels)) - expected).max() <= TOLERANCE
        assert engine.stats().refused.full == 0


def test_files_arrays_bytes_and_pillow_agree(network, photos):
    for path in photos:
        opened = PIL.Image.open(path)
        array = np.asarray(opened.convert("RGB"))
        ways = [path, str(path), path.read_bytes(), opened, array, array.copy(order="F")]
        found = logits(network(ways))
        assert np.abs(found - network(os.fspath(path)).logits).max() <= TOLERANCE, path


def test_answers_are_those_of_the_command(network, photos):
    command = os.environ.get("TWINSTREAM")
    if command is None:
        pytest.skip("TWINSTREAM names no command to compare with")
    arguments = [command, "classify", "--json", "--logits", "--top=3", *photos]
    lines = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split("\n")
    for line, answer in zip(filter(None, lines), network(photos), strict=True):
        line = json.loads(line)
        assert np.abs(answer.logits - line["logits"]).max() <= TOLERANCE
        for ranked, found in zip(line["top"], answer.top(3), strict=True):
            assert (found.index, found.label) == (ranked["index"], ranked["class"])
            assert abs(found.probability - ranked["probability"]) <= TOLERANCE


def test_a_crop_is_that_of_the_configuration(weights, photos, tmp_path):
    config = json.loads((weights.parent / "config.json").read_text())
    config["pretrained_cfg"]["crop_pct"] = 0.5
    other = tmp_path / "config.json"
    other.write_text(json.dumps(config))
    # An array of the network's size is an image as any other: it is resized and cropped too.
    path = next(path for path in photos if path.name == "cifar-cat.png")
    array = np.asarray(PIL.Image.open(path).convert("RGB"))
    with twinstream.Engine(weights, config=other) as engine:
        assert array.shape == engine.image_shape
        assert np.array_equal(engine(array).logits, engine(path).logits)
        with twinstream.Engine(weights) as whole:
            assert np.abs(engine(array).logits - whole(array).logits).max() > 0.01


def test_pixels_are_handed_in_as_they_are(weights, golden, tmp_path):
    """Even where the configuration would crop an array of the network's size."""
    cropping = json.loads((weights.parent / "config.json").read_text())
    cropping["pretrained_cfg"]["crop_pct"] = 0.875
    (tmp_path / "config.json").write_text(json.dumps(cropping))
    images, expected = golden[0][:4], golden[1][:4]
    pixels = [twinstream.Pixels(image) for image in images]
    with twinstream.Engine(weights, config=tmp_path / "config.json") as engine:
        cropped = [engine.prepare(image) for image in images]
        assert (cropped[0].array != images[0]).any()
        assert np.abs(logits(engine(cropped)) - logits(engine(images))).max() <= TOLERANCE
        for _ in range(2):
            assert np.abs(logits(engine(pixels)) - expected).max() <= TOLERANCE
        ticket = engine.submit_nowait(engine.prepare(pixels[1]))
        assert np.abs(ticket.wait().logits - expected[1]).max() <= TOLERANCE
    assert np.array_equal(pixels[3].array, images[3])
    assert not pixels[3].array.flags.writeable


def test_ranked_classes_of_the_device(network, weights, golden):
    pixels, _ = golden
    with twinstream.Engine(weights, top_k=3) as engine:
        for answer, full in zip(engine(pixels[:8]), network(pixels[:8]), strict=True):
            assert [c.index for c in answer.top(3)] == [c.index for c in full.top(3)]
            with pytest.raises(AttributeError, match="top_k=3"):
                answer.logits
            with pytest.raises(ValueError, match="k: expected 1 to 3, got 4"):
                answer.top(4)


def test_what_an_engine_and_an_answer_say(network, photos):
    assert network.labels[3] == "cat" and network.class_count == 10
    assert network.image_shape == (32, 32, 3) and network.precision == "f32"
    answer = network(next(path for path in photos if path.name == "cifar-cat.png"))
    (best,) = answer.top()
    assert best == twinstream.Class(3, "cat", best.probability) and best.probability > 0.9
    assert repr(answer) == f'<Answer "cat" {best.probability:.3f}>'
    assert not answer.logits.flags.writeable
    timing = answer.timing
    moments = [
        timing.arrival_ns,
        timing.upload_started_ns,
        timing.upload_ended_ns,
        timing.compute_started_ns,
        timing.compute_ended_ns,
        timing.download_started_ns,
        timing.download_ended_ns,
        timing.announced_ns,
    ]
    assert moments == sorted(moments) and timing.latency_ns == moments[-1] - moments[0] > 0
    assert (timing.batch_len, timing.reason) == (1, "idle")


def test_other_sizes_and_precisions(weights, photos):
    with twinstream.Engine(weights, size=(48, 64), precision="bf16", threads=1) as engine:
        assert engine.image_shape == (48, 64, 3) and engine.precision == "bf16"
        assert engine(photos[0]).logits.shape == (10,)


def test_damaged_images_are_refused_by_name(network, photos):
    whole = photos[0].read_bytes()
    with pytest.raises(twinstream.ImageError, match=r"^images\[1\]: "):
        network([whole, whole[: len(whole) // 2]])
    with pytest.raises(twinstream.ImageError):
        network(io.BytesIO(whole).getvalue()[:100])
    with pytest.raises(twinstream.FileError, match="no-such.png"):
        network(["no-such.png"])
    # Nothing of it is left behind.
    settled(network, lambda stats: stats.alive_len == 0 and stats.slots_in_use == 0)
    assert network(whole).top()[0].label == "cat"

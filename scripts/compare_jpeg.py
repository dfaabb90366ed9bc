#!/usr/bin/env python3
"""Writes what Pillow makes of every JPEG file of a folder beside it, as PPM.

Usage: pip install "pillow==12.0.0" numpy, then python scripts/compare_jpeg.py FOLDER, or without
FOLDER: 2,000 random files by the tests' encoder and 500 by Pillow's are written to target/jpeg and
compared. LEN, SIDE and SEED in the environment change how many, how large and which. tests/data/jpeg
was made by the same script; what stands there is compared by `cargo test --test jpeg`.
"""

import os
import pathlib
import random
import subprocess
import sys

import numpy as np
from PIL import Image

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def write_ppm(path):
    """Pillow's pixels, or no file where Pillow refuses."""
    target = path.with_suffix(".ppm")
    try:
        image = Image.open(path).convert("RGB")
    except Exception as error:
        target.unlink(missing_ok=True)
        print(f"{path}: {error}")
        return
    image.save(target, "PPM")


def write_with_pillow(folder, number, side_max):
    """Pictures of noise and slopes at the encoder's settings."""
    width, height = (random.randint(1, random.choice([5, side_max])) for _ in range(2))
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width]
    slope = 128 + 100 * np.sin(x / rng.uniform(2, 20) + y / rng.uniform(2, 20))
    noise = rng.normal(0, rng.choice([0, 10, 80]), (height, width, 4))
    tint = rng.uniform(-1, 1, 4) * x[..., None]
    values = np.clip(slope[..., None] + noise + tint, 0, 255).astype(np.uint8)
    mode = random.choice(["L", "RGB", "RGB", "RGB", "CMYK"])
    pixels = {"L": values[..., 0], "RGB": values[..., :3], "CMYK": values}[mode]
    options = {"quality": random.randint(1, 100), "progressive": random.random() < 0.4}
    if mode == "RGB":
        options |= random.choice(
            [{"keep_rgb": True}] + 3 * [{"subsampling": kind} for kind in range(3)]
        )
    if random.random() < 0.3:
        options["restart_marker_blocks"] = random.randint(1, 9)
    if random.random() < 0.3:
        options["optimize"] = True
    image = Image.fromarray(np.ascontiguousarray(pixels), mode)
    image.save(folder / f"pillow-{number:04}.jpg", "JPEG", **options)


def cargo_test(test, **variables):
    environment = os.environ | {
        f"TWINSTREAM_JPEG_{key}": str(value) for key, value in variables.items()
    }
    command = ["cargo", "test", "--test", "jpeg", test, "--", "--nocapture"]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)


def main():
    if len(sys.argv) > 1:
        for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jpg")):
            write_ppm(path)
        return
    number = lambda name, default: int(os.environ.get(name, default))
    length, side_max, seed = number("LEN", 2000), number("SIDE", 64), number("SEED", 1)
    folder = REPOSITORY / "target" / "jpeg"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    cargo_test("random_files_are_written", WRITE=folder, LEN=length, SIDE=side_max, SEED=seed)
    random.seed(seed)
    for index in range(length // 4):
        write_with_pillow(folder, seed * 1_000_000 + index, side_max)
    for path in sorted(folder.glob("*.jpg")):
        write_ppm(path)
    cargo_test("files_of_a_named_folder", READ=folder)


if __name__ == "__main__":
    main()

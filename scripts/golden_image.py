#!/usr/bin/env python3
"""Writes tests/data/image: small pictures in every format and mode, and what Pillow makes of them.

Usage: pip install "pillow<13" numpy safetensors, then python scripts/golden_image.py. The files are
checked in, so this runs only when a case is added. `expected.safetensors` holds, u8 [height, width,
3]: `decoded/<file>`, the file's pixels after convert("RGB"), and `cropped/<file>/<filter>/<height>x
<width>/<crop_pct>`, torchvision's resize and centre crop as timm sets them up.

Pillow before 13 always resizes along rows first; 13 takes the order that it finds cheaper, which
turns some values by one. Networks in use were trained with the former.

`variants.safetensors` beside it holds `file/<name>`, the bytes of an unusual BMP, PNG or WebP file, and `decoded/<name>`.
"""

import io
import math
import pathlib
import struct
import zlib

import numpy as np
import PIL
from image_variants import variants
from PIL import Image
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "image"
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def picture(width, height, channels, seed):
    """Slopes, hard edges and noise: smooth enough for JPEG, rough enough to show an off-by-one."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    planes = []
    for channel in range(channels):
        slope = 255 * (0.5 + 0.5 * np.sin(x / (5 + channel) + y / (9 - channel)))
        edge = 70 * ((x // 11 + y // 7 + channel) % 2)
        planes.append(slope * 0.6 + edge + rng.normal(0, 8, (height, width)))
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def write_png16(path, values):
    """16-bit PNG (Pillow writes none in colour): grey, grey-alpha, RGB or RGBA by channel count."""
    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def write_files():
    rgb = Image.fromarray(picture(45, 34, 3, 1))
    rgba = Image.fromarray(picture(45, 34, 4, 2))
    grey = rgb.convert("L")
    palette = rgb.quantize(23)
    save = lambda image, name, **options: image.save(OUT / name, **options)
    save(rgb, "rgb.png")
    save(rgba, "rgba.png")
    save(grey, "grey.png")
    save(rgba.convert("LA"), "grey-alpha.png")
    save(grey.convert("1"), "one-bit.png")
    save(palette, "palette.png")
    save(palette, "palette-transparent.png", transparency=3)
    save(rgb.quantize(4), "palette-two-bit.png", bits=2)
    for channels, name in [(1, "grey"), (2, "grey-alpha"), (3, "rgb"), (4, "rgba")]:
        fine = picture(45, 34, channels, 3).astype(np.uint16) * 256
        fine += np.random.default_rng(4).integers(0, 256, fine.shape, dtype=np.uint16)
        write_png16(OUT / f"{name}-16-bit.png", fine)
    save(rgb, "420.jpg", quality=85)
    save(rgb, "422.jpg", quality=85, subsampling="4:2:2")
    save(rgb, "444.jpg", quality=95, subsampling="4:4:4")
    save(rgb, "progressive.jpg", quality=85, progressive=True)
    save(rgb, "restarts.jpg", quality=85, restart_marker_blocks=2)
    save(rgb, "rotated.jpg", quality=85, exif=orientation())
    save(grey, "grey.jpg", quality=85)
    save(rgb.convert("CMYK"), "cmyk.jpg", quality=95)
    # Pillow writes no YCCK: the same data, declared as such in the Adobe segment.
    cmyk = (OUT / "cmyk.jpg").read_bytes()
    transform = cmyk.index(b"Adobe") + 11
    (OUT / "ycck.jpg").write_bytes(cmyk[:transform] + b"\2" + cmyk[transform + 1 :])
    save(rgb, "keep-rgb.jpg", quality=95, keep_rgb=True)
    save(rgb, "lossy.webp", quality=80)
    save(rgb, "lossless.webp", lossless=True)
    save(rgba, "lossy-alpha.webp", quality=80)
    save(rgba, "lossless-alpha.webp", lossless=True, exact=True)
    second = Image.fromarray(picture(45, 34, 3, 5))
    save(rgb, "animated.webp", lossless=True, save_all=True, append_images=[second])
    save(rgb, "rgb.bmp")
    save(rgba, "rgba.bmp")
    save(grey, "grey.bmp")
    save(palette, "palette.bmp")
    save(Image.fromarray(picture(3, 190, 3, 6)), "tall.png")
    save(Image.fromarray(picture(230, 5, 3, 7)), "wide.png")


def orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show", which Image.open leaves undone
    return exif


def decode(path):
    image = Image.open(path)
    if image.mode == "I;16":
        # convert("RGB") clips these to white at 255 of 65535; all other 16-bit modes keep the upper
        # byte, which is what we do for grey as well.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def crop(image, size, crop_pct, resample):
    """timm's eval transform (crop_mode center) spelled out: torchvision's Resize and CenterCrop."""
    scale = [math.floor(side / crop_pct) for side in size]
    width, height = image.size
    if scale[0] == scale[1]:
        short, long = min(width, height), max(width, height)
        other = int(scale[0] * long / short)
        resized = (scale[0], other) if width <= height else (other, scale[0])
    else:
        ratio = min(height / scale[0], width / scale[1])
        resized = (round(width / ratio), round(height / ratio))
    top = int(round((resized[1] - size[0]) / 2.0))
    left = int(round((resized[0] - size[1]) / 2.0))
    resized = image.resize(resized, resample)
    return resized.crop((left, top, left + size[1], top + size[0]))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    write_files()
    expected = {}
    for path in sorted(OUT.glob("*.*")):
        if path.suffix != ".safetensors":
            expected[f"decoded/{path.name}"] = decode(path)
    cases = [
        ("rgb.png", (20, 20), 0.875),
        ("rgb.png", (64, 64), 1.0),
        ("rgb.png", (34, 34), 1.0),
        ("rgb.png", (16, 40), 0.95),
        ("rgb.png", (3, 3), 0.9),
        ("tall.png", (32, 32), 0.95),
        ("tall.png", (2, 2), 1.0),
        ("wide.png", (32, 32), 0.875),
        ("wide.png", (4, 9), 1.0),
    ]
    for name, size, crop_pct in cases:
        image = Image.open(OUT / name).convert("RGB")
        for filter_name, resample in FILTERS.items():
            key = f"cropped/{name}/{filter_name}/{size[0]}x{size[1]}/{crop_pct}"
            expected[key] = np.asarray(crop(image, size, crop_pct, resample))
    expected = {key: np.ascontiguousarray(value) for key, value in expected.items()}
    save_file(
        expected, OUT / "expected.safetensors", metadata={"made_by": f"Pillow {PIL.__version__}"}
    )

    unusual = {}
    plain = {
        name: (OUT / f"{name}.webp").read_bytes()
        for name in ("lossy", "lossless", "lossless-alpha")
    }
    for name, data in variants(plain):
        unusual[f"file/{name}"] = np.frombuffer(data, np.uint8)
        unusual[f"decoded/{name}"] = np.ascontiguousarray(decode(io.BytesIO(data)))
    save_file(
        unusual, OUT / "variants.safetensors", metadata={"made_by": f"Pillow {PIL.__version__}"}
    )


if __name__ == "__main__":
    main()

"""Small files of kinds that Pillow reads and does not write, for golden_image.py: BMP in every header and
layout, PNG in every colour type, depth and transparency, interlaced and not, WebP that promises alpha or
moves.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def bmp(
    width,
    height,
    bits,
    rows,
    header=40,
    compression=0,
    palette=b"",
    masks=b"",
    planes=1,
    colours=0,
    top_down=False,
    start=None,
    cut=0,
):
    if header == 12:
        dib = struct.pack("<IHHHH", 12, width, height, planes, bits)
    else:
        dib = struct.pack(
            "<IIiHHIIIIII",
            header,
            width,
            -height if top_down else height,
            planes,
            bits,
            compression,
            len(rows),
            2835,
            2835,
            colours,
            0,
        )
        dib += masks if header > 40 else b""
        dib = dib[:header].ljust(header, b"\0")
    body = dib + (masks if header == 40 else b"") + palette
    offset = 14 + len(body) if start is None else start
    data = struct.pack("<2sIHHI", b"BM", 14 + len(body) + len(rows), 0, 0, offset) + body + rows
    return data[: len(data) - cut]


def pack(indices, bits):
    rows = b""
    for row in indices:
        digits = "".join(f"{v:0{bits}b}" for v in row)
        digits += "0" * (-len(digits) % 32)
        rows += int(digits, 2).to_bytes(len(digits) // 8, "big")
    return rows


def colours(values, size, order="<"):
    rows = b""
    for row in values:
        line = b"".join(int(v).to_bytes(size, "little") for v in row)
        rows += line + b"\0" * (-len(line) % 4)
    return rows


def rle(indices, nibbles):
    """Runs, and literals where neighbours differ (of even length); a mark behind each row and all."""
    data = b""
    for row in indices:
        x = 0
        while x < len(row):
            n = 1
            while x + n < len(row) and row[x + n] == row[x] and n < 255:
                n += 1
            literal = [v for v in row[x : x + 6]]
            if n == 1 and len(literal) == 6:
                raw = (
                    bytes(literal)
                    if not nibbles
                    else bytes(a << 4 | b for a, b in zip(literal[::2], literal[1::2]))
                )
                data += bytes([0, 6]) + raw + b"\0" * (len(raw) % 2)
                x += 6
            else:
                data += bytes([n, row[x] * 17 if nibbles else row[x]])
                x += n
        data += b"\0\0"
    return data[:-2] + b"\0\1"


def bmp_variants():
    rng = np.random.default_rng(11)
    w, h = 13, 9
    for bits in (1, 4, 8):
        count = 2**bits
        indices = rng.integers(0, count, (h, w))
        indices[:, 3:8] = indices[:, 3:4]
        pal = rng.integers(0, 256, (count, 3), dtype=np.uint8)
        p4 = b"".join(bytes(c) + b"\0" for c in pal)
        p3 = pal.tobytes()
        yield f"{bits}-os2-1.bmp", bmp(w, h, bits, pack(indices, bits), 12, palette=p3)
        for header in (40, 52, 56, 64, 108, 124):
            yield (
                f"{bits}-header-{header}.bmp",
                bmp(w, h, bits, pack(indices, bits), header, palette=p4),
            )
        yield (
            f"{bits}-top-down.bmp",
            bmp(w, h, bits, pack(indices, bits), palette=p4, top_down=True),
        )
        yield f"{bits}-planes-0.bmp", bmp(w, h, bits, pack(indices, bits), palette=p4, planes=0)
        yield f"{bits}-start-0.bmp", bmp(w, h, bits, pack(indices, bits), palette=p4, start=0)
        yield (
            f"{bits}-start-forgets-palette.bmp",
            bmp(w, h, bits, pack(indices, bits), palette=p4, start=54),
        )
        pad = -((w * bits + 7) // 8) % 4
        yield (
            f"{bits}-no-last-padding.bmp",
            bmp(w, h, bits, pack(indices, bits), palette=p4, cut=pad),
        )
        short = max(1, count // 2 - 1)
        yield (
            f"{bits}-short-palette.bmp",
            bmp(w, h, bits, pack(indices % short, bits), palette=p4[: 4 * short], colours=short),
        )
        yield (
            f"{bits}-beyond-palette.bmp",
            bmp(w, h, bits, pack(indices, bits), palette=p4[: 4 * short], colours=short),
        )
        grey = b"".join(bytes([v * 255 // (count - 1)] * 3) + b"\0" for v in range(count))
        yield f"{bits}-grey.bmp", bmp(w, h, bits, pack(indices, bits), palette=grey)
        yield (
            f"{bits}-white-first.bmp",
            bmp(
                w,
                h,
                bits,
                pack(indices, bits),
                palette=b"".join(grey[4 * i : 4 * i + 4] for i in reversed(range(count))),
            ),
        )
        if bits > 1:
            for header in (40, 64, 124):
                for top in (False, True):
                    yield (
                        f"{bits}-rle-{header}-{'down' if top else 'up'}.bmp",
                        bmp(
                            w,
                            h,
                            bits,
                            rle(indices.tolist(), bits == 4),
                            header,
                            compression=3 - bits // 4,
                            palette=p4,
                            top_down=top,
                        ),
                    )
            short_rows = rle(
                [row[:5] for row in indices.tolist()[:-1]] + [indices.tolist()[-1]], bits == 4
            )
            yield (
                f"{bits}-rle-short-rows.bmp",
                bmp(w, h, bits, short_rows, compression=3 - bits // 4, palette=p4),
            )
            long_rows = rle([row[:8] + [row[8]] * 20 for row in indices.tolist()], bits == 4)
            yield (
                f"{bits}-rle-long-rows.bmp",
                bmp(w, h, bits, long_rows, compression=3 - bits // 4, palette=p4),
            )
            yield (
                f"{bits}-rle-grey.bmp",
                bmp(
                    w,
                    h,
                    bits,
                    rle(indices.tolist(), bits == 4),
                    compression=3 - bits // 4,
                    palette=grey,
                ),
            )
    for bits in (16, 24, 32):
        values = rng.integers(0, 2**bits, (h, w))
        rows = colours(values, bits // 8)
        yield f"{bits}-os2-1.bmp", bmp(w, h, bits, rows, 12)
        for header in (40, 52, 56, 64, 108, 124):
            yield f"{bits}-header-{header}.bmp", bmp(w, h, bits, rows, header)
        yield f"{bits}-top-down.bmp", bmp(w, h, bits, rows, top_down=True)
        yield f"{bits}-planes-0.bmp", bmp(w, h, bits, rows, planes=0)
        yield f"{bits}-start-0.bmp", bmp(w, h, bits, rows, start=0)
        yield f"{bits}-no-last-padding.bmp", bmp(w, h, bits, rows, cut=-(w * bits // 8) % 4)
        layouts = {
            16: [(0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)],
            24: [(0xFF0000, 0xFF00, 0xFF, 0)],
            32: [
                (0xFF0000, 0xFF00, 0xFF, 0),
                (0xFF000000, 0xFF0000, 0xFF00, 0),
                (0xFF000000, 0xFF00, 0xFF, 0),
                (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
                (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
                (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
                (0, 0, 0, 0),
            ],
        }[bits]
        for n, masks in enumerate(layouts):
            for header in (40, 52, 56, 108, 124):
                if n == 4 and header < 56:
                    continue  # Pillow knows this layout with alpha only, which these headers lack.
                m = struct.pack("<4I", *masks)[: 12 if header < 56 else 16]
                yield (
                    f"{bits}-masks-{n}-header-{header}.bmp",
                    bmp(w, h, bits, rows, header, compression=3, masks=m),
                )


def png_variants():
    rng = np.random.default_rng(12)
    w, h = 13, 9
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour_type, channels in {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.items():
        for depth in depths[colour_type]:
            values = rng.integers(0, 2**depth, (h, w, channels))
            palette = (
                rng.integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes()
                if colour_type == 3
                else b""
            )
            transparency = {
                0: struct.pack(">H", int(values[0, 0, 0])),
                3: bytes([0, 128]),
                2: struct.pack(">3H", *map(int, values[0, 0])) if channels == 3 else b"",
            }
            for interlaced in (0, 1):
                for clear in (
                    [b"", transparency.get(colour_type, b"")]
                    if colour_type in transparency
                    else [b""]
                ):
                    name = f"{colour_type}-{depth}{'-interlaced' if interlaced else ''}{'-transparent' if clear else ''}.png"
                    yield name, png(values, depth, colour_type, interlaced, palette, clear)


def png(values, depth, colour_type, interlaced, palette, transparency):
    height, width, _ = values.shape
    steps = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = b""
    for top, left, down, right in steps if interlaced else [(0, 0, 1, 1)]:
        for row in values[top::down, left::right]:
            digits = "".join(f"{int(value):0{depth}b}" for value in row.ravel())
            digits += "0" * (-len(digits) % 8)
            if digits:
                rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"PLTE", palette) if palette else b"")
        + (chunk(b"tRNS", transparency) if transparency else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def webp_variants(files):
    """The lossy and lossless WebP of `files` in an extended file, with every promise of alpha."""
    for name, data in files.items():
        for flags in (0, 0x10):
            picture = data[12:]
            extended = (
                struct.pack("<4sI4B", b"VP8X", 10, flags, 0, 0, 0)
                + (45 - 1).to_bytes(3, "little")
                + (34 - 1).to_bytes(3, "little")
            )
            body = b"WEBP" + extended + picture
            yield f"{name}-flags-{flags}.webp", b"RIFF" + struct.pack("<I", len(body)) + body


def animation_variants():
    """Animations whose first frame is lossy or lossless, opaque or not, blended, disposed of, as large as the canvas or not."""
    rng = np.random.default_rng(13)

    def chunk(kind, data):
        return struct.pack("<4sI", kind, len(data)) + data + b"\0" * (len(data) % 2)

    def u24(*values):
        return b"".join(int(value).to_bytes(3, "little") for value in values)

    y, x = np.mgrid[0:18, 0:24]
    pixels = np.stack([x * 5, y * 7, (x + y) * 3, (x // 9 + y // 7) % 3 * 127], -1)
    pixels = np.clip(pixels + rng.integers(0, 9, pixels.shape), 0, 255).astype(np.uint8)
    for size, (top, left, height, width) in {
        "full": (0, 0, 18, 24),
        "small": (4, 6, 11, 14),
    }.items():
        for channels, cover in ((4, "alpha"), (3, "opaque")):
            for lossless in (False, True):
                buffer = io.BytesIO()
                picture = Image.fromarray(np.ascontiguousarray(pixels[:height, :width, :channels]))
                picture.save(buffer, "WEBP", quality=80, lossless=lossless, exact=True)
                data, at, frame = buffer.getvalue(), 12, b""
                while at < len(data):
                    kind, length = struct.unpack_from("<4sI", data, at)
                    if kind in (b"ALPH", b"VP8 ", b"VP8L"):
                        frame += chunk(kind, data[at + 8 : at + 8 + length])
                    at += 8 + length + length % 2
                for flags in range(4):
                    for promise in (0x02, 0x12):
                        body = (
                            b"WEBP"
                            + chunk(b"VP8X", bytes([promise, 0, 0, 0]) + u24(23, 17))
                            + chunk(b"ANIM", bytes([9, 99, 199, 255, 0, 0]))
                        )
                        body += chunk(
                            b"ANMF",
                            u24(left // 2, top // 2, width - 1, height - 1, 100)
                            + bytes([flags])
                            + frame,
                        )
                        name = f"animated-{size}-{cover}-{'lossless' if lossless else 'lossy'}-{flags}-{promise}.webp"
                        yield name, b"RIFF" + struct.pack("<I", len(body)) + body


def variants(files):
    yield from bmp_variants()
    yield from png_variants()
    yield from webp_variants(files)
    yield from animation_variants()

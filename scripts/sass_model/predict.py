"""Predictions of the network's times, by a pessimist and as expected, of today's kernels and of others."""

from dataclasses import dataclass

from network import CHUNK_LENS, batch_us
from today import Today
from wgmma import Wgmma

BATCH_LENS = (1, 2, 4, 8, 32, 128)
VALUE_BYTES = {"f16": 2, "i8": 1}


@dataclass(frozen=True)
class Row:
    what: str
    precision: str
    # Of each batch length: (microseconds, images of a chunk), by the pessimist and as expected.
    times: dict


def rows(loops, launches, convs, plans, rates, pessimist):
    """plans: by precision. Of `Rates` both."""
    found = []
    for precision, value_bytes in VALUE_BYTES.items():
        today = [
            Today(loops, launches, plans[precision], value_bytes, each)
            for each in (pessimist, rates)
        ]

        def row(what, models, chunk_lens=(), precision=precision):
            times = {
                batch_len: [batch_us(model, convs, batch_len, chunk_lens) for model in models]
                for batch_len in BATCH_LENS
            }
            found.append(Row(what, precision, times))

        row("today's kernels", today)
        row("the same, layers 1-2 in chunks", today, CHUNK_LENS)
        for what, cluster_max, shares_sums, beside in (
            ("with wgmma, no clusters", 1, False, today),
            ("with wgmma, clusters of two", 2, False, today),
            ("the same, and small tiles with shared sums", 2, True, today),
            ("wgmma as planned", 2, True, (None, None)),
        ):
            models = [
                Wgmma(value_bytes, each, cluster_max, other, shares_sums)
                for each, other in zip((pessimist, rates), beside, strict=True)
            ]
            row(what, models)
            row(f"{what}, chunks", models, CHUNK_LENS)
    return found


def cell(batch_len, times):
    """Microseconds, and of the largest batch thousands of images a second as well."""
    (worst_us, worst_chunk), (expected_us, chunk) = times
    text = f"{worst_us:.0f} to {expected_us:.0f}"
    if batch_len == BATCH_LENS[-1]:
        text += f" µs, {batch_len * 1e3 / worst_us:.1f} to {batch_len * 1e3 / expected_us:.1f} k/s"
    if chunk < batch_len:
        text += f"; chunks of {worst_chunk}, {chunk}"
    return text


def markdown(found):
    header = ("what", "type", *(f"batch {batch_len}, µs" for batch_len in BATCH_LENS))
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in found:
        cells = (cell(batch_len, row.times[batch_len]) for batch_len in BATCH_LENS)
        lines.append("| " + " | ".join((row.what, row.precision, *cells)) + " |")
    return "\n".join(lines)

#!/usr/bin/env python3
"""Tables of `scripts/gpu.sh`'s results.jsonl, as Markdown on standard output."""

import json
import pathlib
import sys

# Of an H100 at 224x224 (docs/KERNELS.md), by type and batch length: a pessimist's time and the expected.
PREDICTED_US = json.loads(pathlib.Path(__file__).with_name("predictions.json").read_text())


def table(title, header, rows):
    if not rows:
        return
    print(f"\n## {title}\n\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def error(value):
    """A number that was none has become null."""
    return "no number" if value is None else f"{value:.1e}"


def numerics(results):
    rows = [
        (
            result["step"],
            result["image_len"],
            error(result["worst_relative"]),
            result["changed_len"],
            error(result["worst_ranked"]),
        )
        for result in results
        if "worst_ranked" in result
    ]
    header = ("numerics", "images", "logits off, of the largest", "classes changed", "ranks off")
    table("Against the CPU", header, rows)


def peers(results):
    """PyTorch's times by batch length, and a table of all of them."""
    found = [result for result in results if result["step"] in ("peer", "compile")]
    best = {}
    for key in ("elapsed_us", "back_to_back_us"):
        for result in found:
            if key in result:
                times = best.setdefault(result["batch_len"], {})
                times[key] = min(times.get(key, float("inf")), result[key])
    rows = []
    for result in found:
        if "mode" not in result:
            continue
        name = result["mode"] + (", folded" if result["folded"] else "")
        cells = (
            f"{result[key]:.1f}" if key in result else result.get("error", "-")[:60]
            for key in ("elapsed_us", "back_to_back_us")
        )
        rows.append((name, result["batch_len"], *cells))
    table("PyTorch", ("mode", "batch", "one µs", "back to back µs"), rows)
    return best


def ratio(times, theirs, ours_us):
    """How many times as long as ours PyTorch's best takes."""
    return f"{times[theirs] / ours_us:.2f}" if theirs in times else "-"


def prediction(step, batch_len):
    of_type = PREDICTED_US["i8" if step.endswith("-i8") else "f16"]
    return " to ".join(f"{us:.0f}" for us in of_type.get(str(batch_len), ())) or "-"


def batches(results, step, best):
    rows = []
    for result in results:
        if result["step"] != step or "saturated_us" not in result:
            continue
        times = best.get(result["batch_len"], {})
        bound_us = sum(layer["bound_us"] for layer in result["layers"])
        rows.append(
            (
                result["batch_len"],
                f"{result['graph_us']:.1f}",
                f"{result['launches_us']:.1f}",
                f"{result['back_to_back_us']:.1f}",
                prediction(step, result["batch_len"]),
                f"{result['images_per_s']:.0f}",
                f"{100 * bound_us / result['back_to_back_us']:.0f} %",
                f"{result['upload_us']:.1f}",
                f"{result['saturated_us']:.1f}",
                f"{100 * result['upload_hidden']:.1f} %",
                ratio(times, "elapsed_us", result["graph_us"]),
                ratio(times, "back_to_back_us", result["back_to_back_us"]),
                error(result["worst_relative"]),
            )
        )
    header = (
        "batch",
        "one µs",
        "launches µs",
        "back to back µs",
        "predicted for an H100 at 224x224",
        "images/s",
        "of the bound",
        "upload µs",
        "with upload µs",
        "hidden",
        "PyTorch's best / ours, one",
        "back to back",
        "logits off",
    )
    table(step, header, rows)


def integers(results, step, best):
    """8-bit integers beside what `step` measured in f16, and beside PyTorch."""
    of_f16 = {r["batch_len"]: r for r in results if r["step"] == step and "layers" in r}
    rows = []
    for result in results:
        if result["step"] != "profile-i8" or "layers" not in result:
            continue
        halves = of_f16.get(result["batch_len"], {})
        times = best.get(result["batch_len"], {})

        def cells(key):
            if key not in halves:
                return ("-", f"{result[key]:.1f}", "-")
            return (
                f"{halves[key]:.1f}",
                f"{result[key]:.1f}",
                f"{halves[key] / result[key]:.2f}",
            )

        exact = [layer["exact"] for layer in result["layers"]]
        rows.append(
            (
                result["batch_len"],
                *cells("graph_us"),
                *cells("back_to_back_us"),
                ratio(times, "elapsed_us", result["graph_us"]),
                ratio(times, "back_to_back_us", result["back_to_back_us"]),
                f"{sum(exact)} of {len(exact)}",
            )
        )
    header = (
        "batch",
        "one, f16 µs",
        "i8 µs",
        "f16 / i8",
        "back to back, f16 µs",
        "i8 µs",
        "f16 / i8",
        "PyTorch's best / i8, one",
        "back to back",
        "layers exact",
    )
    table("8-bit integers", header, rows)


def layers(results, step):
    last = [r for r in results if r["step"] == step and "layers" in r][-1:]
    for result in last:
        rows = [
            (
                layer["layer"],
                layer["kernel"],
                f"{layer['elapsed_us']:.2f}",
                f"{100 * layer['bound_us'] / layer['elapsed_us']:.0f} %",
            )
            for layer in result["layers"]
        ]
        header = ("layer", "kernel", "µs", "of the bound")
        table(f"{step}, batch {result['batch_len']}", header, rows)


def tuned(results, step, title):
    """By bucket, what tuning gains by the sum over the convolutions."""
    sums = {}
    for result in results:
        if result["step"] == step and "best_us" in result:
            best, model = sums.get(result["batch_len"], (0, 0))
            sums[result["batch_len"]] = (best + result["best_us"], model + result["model_us"])
    rows = [
        (batch_len, f"{best:.1f}", f"{model:.1f}", f"{model / best:.2f}")
        for batch_len, (best, model) in sums.items()
    ]
    table(title, ("batch", "measured µs", "model's µs", "gain"), rows)


def sanitized(results):
    rows = [
        (
            result["step"],
            result["batch_len"],
            " ".join(sorted({layer["kernel"].split("/")[0] for layer in result["layers"]})),
        )
        for result in results
        if result["step"].startswith("sanitizer-") and "layers" in result
    ]
    table("Kernels under the sanitizers", ("step", "batch", "kernels"), rows)


def loads(results):
    rows = []
    for result in results:
        if result["step"].startswith("load-") and "policy" in result:
            keys = ("policy", "rate_hz", "completed", "mean_ms", "p50_ms", "p99_ms")
            cells = (result.get(key, "") for key in keys)
            shown = (f"{cell:.3f}" if isinstance(cell, float) else cell for cell in cells)
            rows.append((result["step"], *shown))
    header = ("load", "policy", "requests/s", "completed", "mean ms", "p50 ms", "p99 ms")
    table("Load and latency, live", header, rows)


def answers(results, probe, keys, item):
    """Which `item`s a probe found to be right, one row for all that agree in `keys`."""
    columns = ("exact", "wrong", "refused", "failed")
    groups = {}
    for result in results:
        if result.get("probe") != probe or item not in result:
            continue
        end = "failed" if "failed" in result else "refused"
        if "exact" in result:
            end = "exact" if result["exact"] else "wrong"
        ends = groups.setdefault(tuple(result.get(key, "-") for key in keys), {})
        ends.setdefault(end, []).append(str(result[item]))
    rows = [
        (*group, *(" ".join(ends.get(column, ())) for column in columns))
        for group, ends in groups.items()
    ]
    table(f"{probe}: by {item}", (*keys, *columns), rows)


def lines(path):
    """The objects of a file; one that was cut off is left out."""
    with open(path) as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                print(f"\nNot understood: `{line[:60].strip()}`")


def main():
    results = list(lines(sys.argv[1]))
    numerics(results)
    best = peers(results)
    steps = [
        step
        for step in ("profile-model", "profile-tuned")
        if any(result["step"] == step for result in results)
    ]
    for step in steps:
        batches(results, step, best)
    for step in steps[-1:]:
        layers(results, step)
    batches(results, "profile-i8", best)
    integers(results, steps[-1] if steps else None, best)
    layers(results, "profile-i8")
    tuned(results, "tune", "Tiles, all convolutions")
    tuned(results, "tune-i8", "Tiles, all convolutions of integers")
    loads(results)
    sanitized(results)
    answers(results, "wgmma_rows", ("way", "operand", "pitch_rows"), "shift_rows")
    answers(results, "overlapping_map", ("form", "swizzle"), "side")
    answers(results, "small_map", ("map", "memory", "copy", "dense", "bit_set"), "size_kib")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Tables of `scripts/gpu.sh`'s results.jsonl, as Markdown on standard output.

    python3 scripts/gpu_report.py RESULTS
    python3 scripts/gpu_report.py --correct RESULTS    rewrites the model's rates by what was measured

Predictions (docs/KERNELS.md) are an H100's at 224x224, by the kernels that were measured: a pessimist's
time and the expected, with whose ratio to the measured one each table goes on.
"""

import json
import math
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).with_name("sass_model")))

from device import RATES_FILE, read_rates  # noqa: E402
from measured import Predictor, corrected, measured_rates  # noqa: E402

PROFILES = (("profile", "f16"), ("profile-i8", "i8"))


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


def beside(measured_us, predicted, digits=1):
    """Cells: the prediction, and how many times as long as expected the measured time is."""
    if not predicted:
        return "-", "-"
    return " to ".join(f"{us:.{digits}f}" for us in predicted), f"{measured_us / predicted[1]:.2f}"


def launched(layers):
    """(layer, kernel, split) of a profile's layers."""
    named = ((layer["layer"], *layer["kernel"].partition("/")) for layer in layers)
    return [(layer, kernel, int(split or 1)) for layer, kernel, _, split in named]


def batches(results, step, best, predictor):
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
                *beside(
                    result["back_to_back_us"],
                    predictor
                    and predictor.batch_us(launched(result["layers"]), result["batch_len"]),
                    0,
                ),
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
        "predicted µs",
        "measured / expected",
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


def layers(results, step, predictor):
    for result in (r for r in results if r["step"] == step and "layers" in r):
        rows = [
            (
                layer["layer"],
                layer["kernel"],
                f"{layer['elapsed_us']:.2f}",
                f"{100 * layer['bound_us'] / layer['elapsed_us']:.0f} %",
                *beside(
                    layer["elapsed_us"],
                    predictor and predictor.layer_us(*launched_as, result["batch_len"]),
                ),
            )
            for layer, launched_as in zip(result["layers"], launched(result["layers"]), strict=True)
        ]
        header = ("layer", "kernel", "µs", "of the bound", "predicted µs", "measured / expected")
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


def tiles(results, step, predictor):
    """By batch and kernel, over the convolutions that it was measured for, in its best split."""
    groups = {}
    for result in (r for r in results if r["step"] == step and "choices" in r):
        batch_len, best = result["batch_len"], {}
        for choice in result["choices"]:
            kernel, elapsed_us = choice["kernel"], choice["elapsed_us"]
            if kernel not in best or elapsed_us < best[kernel]["elapsed_us"]:
                best[kernel] = choice
        for kernel, choice in best.items():
            group = groups.setdefault((batch_len, kernel), {"wins": 0, "ratios": [], "times": []})
            group["wins"] += kernel == result["kernel"]
            group["times"].append(choice["elapsed_us"] / result["best_us"])
            predicted = predictor and predictor.layer_us(
                result["layer"], kernel, choice["split_len"], batch_len
            )
            if predicted:
                group["ratios"].append(choice["elapsed_us"] / predicted[1])
    rows = [
        (
            *key,
            len(group["times"]),
            group["wins"],
            f"{mean(group['times']):.2f}",
            *(
                (f"{mean(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}")
                if (ratios := group["ratios"])
                else ("-", "-")
            ),
        )
        for key, group in sorted(groups.items())
    ]
    header = (
        *("batch", "kernel", "layers", "best of", "of the best kernel's time"),
        *("measured / expected", "from"),
    )
    table(f"{step}: every kernel, geometric means", header, rows)


def families(results, step, predictor):
    """By layer and batch, the best kernel on `mma.sync` beside the best on `wgmma`."""
    rows = []
    for result in (r for r in results if r["step"] == step and "choices" in r):
        cells = []
        for is_wgmma in (False, True):
            of_family = [c for c in result["choices"] if ("_wgmma" in c["kernel"]) is is_wgmma]
            if not of_family:
                break
            best = min(of_family, key=lambda choice: choice["elapsed_us"])
            name = (result["layer"], best["kernel"], best["split_len"], result["batch_len"])
            predicted = predictor and predictor.layer_us(*name)
            cells += [f"{best['kernel']}/{best['split_len']}", f"{best['elapsed_us']:.2f}"]
            cells += beside(best["elapsed_us"], predicted)
        else:
            gain = float(cells[1]) / float(cells[5])
            rows.append((result["batch_len"], result["layer"], *cells, f"{gain:.2f}"))
    of_each = ("µs", "predicted µs", "measured / expected")
    header = ("batch", "layer", "mma.sync", *of_each, "wgmma", *of_each, "gain")
    table(f"{step}: families, layer by layer", header, rows)


def mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def chunks(results, step, profile, predictor):
    """A batch in chunks of each length, predicted by the kernels that its profile names."""
    launches = {
        result["batch_len"]: launched(result["layers"])
        for result in results
        if result["step"] == profile and "layers" in result
    }
    rows = []
    for result in (r for r in results if r["step"] == step and "lengths" in r):
        batch_len = result["batch_len"]
        for length in result["lengths"]:
            chunk_len, elapsed_us = length["chunk_len"], length["elapsed_us"]
            predicted = (
                predictor.batch_us(launches[batch_len], batch_len, chunk_len)
                if predictor and batch_len in launches
                else None
            )
            rows.append(
                (
                    batch_len,
                    chunk_len or "whole",
                    f"{elapsed_us:.1f}",
                    f"{length['spread_us']:.1f}",
                    f"{result['whole_us'] / elapsed_us:.3f}",
                    *beside(elapsed_us, predicted, 0),
                    "taken" if chunk_len == result["chunk_len"] else "",
                )
            )
    header = (
        *("batch", "images of a chunk", "µs", "spread µs", "gain"),
        *("predicted µs", "measured / expected", ""),
    )
    table(f"{step}: layers 1 and 2", header, rows)


def figures(results):
    """What the probes decide, beside what was assumed."""
    assumed = json.loads(RATES_FILE.read_text())
    rows = [
        (
            result["probe"],
            result["figure"],
            f"{result['value']:.3g}",
            result["unit"],
            assumed.get(result["figure"], "-"),
            result["decides"],
        )
        for result in results
        if "figure" in result
    ]
    header = ("probe", "figure", "measured", "unit", "assumed", "decides")
    table("Figures that decide", header, rows)


def parameters(results):
    """The model's, as measured and as assumed, and as rates.json would have them."""
    assumed, found = json.loads(RATES_FILE.read_text()), measured_rates(results)
    rows = [
        (name, assumed[name], f"{found[name]:.4g}" if name in found else "not measured")
        for name in assumed
        if name != "measured"
    ]
    table("The model's parameters", ("parameter", "assumed", "measured"), rows)
    rates, pessimist = read_rates()
    print(f"\nPredictions here: pessimist {pessimist}; expected {rates}.")
    if corrected(assumed, results):
        print(f"\nIn scripts/sass_model/rates.json: `{json.dumps(found)}`")
        print("\n`python3 scripts/gpu_report.py --correct RESULTS` writes that there.")


def correct(results):
    """Rewrites rates.json; the exit status."""
    rates = corrected(json.loads(RATES_FILE.read_text()), results)
    if not rates:
        print("no GPU was measured: the rates stay as they are", file=sys.stderr)
        return 1
    RATES_FILE.write_text(json.dumps(rates, indent=4) + "\n")
    print(f"{RATES_FILE} is rewritten; scripts/predict.sh --write simulates the loops by it")
    return 0


def proofs(results):
    """By kernel, how many of its places were proven, and the first reason of those that were not."""
    groups = {}
    for result in (r for r in results if "is_equal" in r):
        group = groups.setdefault((result["step"], result["kernel"]), [])
        group.append(None if result["is_equal"] else f"{result['layer']}: {result['reason']}")
    rows = [
        (
            *key,
            reasons.count(None),
            len(reasons) - reasons.count(None),
            next(filter(None, reasons), ""),
        )
        for key, reasons in groups.items()
    ]
    table("Proof", ("step", "kernel", "proven", "refused", "first at"), rows)


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


def predictors(results):
    """By precision; none where the network's layers are not among the results."""
    network = [result for result in results if result["step"] == "network"]
    return {precision: network and Predictor(network, precision) for _, precision in PROFILES}


def main():
    arguments = sys.argv[1:]
    results = list(lines(arguments[-1]))
    if arguments[0] == "--correct":
        sys.exit(correct(results))
    of_precision = predictors(results)
    proofs(results)
    numerics(results)
    best = peers(results)
    for step, precision in PROFILES:
        batches(results, step, best, of_precision[precision])
    integers(results, "profile", best)
    for step, precision in PROFILES:
        predictor, suffix = of_precision[precision], "-i8" if precision == "i8" else ""
        layers(results, step, predictor)
        tuned(results, f"tune{suffix}", f"Tiles, all convolutions in {precision}")
        tiles(results, f"tune{suffix}", predictor)
        families(results, f"tune{suffix}", predictor)
        chunks(results, f"chunks{suffix}", step, predictor)
    figures(results)
    loads(results)
    sanitized(results)
    answers(results, "wgmma_rows", ("way", "operand", "pitch_rows"), "shift_rows")
    answers(results, "overlapping_map", ("form", "swizzle"), "side")
    answers(results, "small_map", ("map", "memory", "copy", "dense", "bit_set"), "size_kib")
    parameters(results)


if __name__ == "__main__":
    main()

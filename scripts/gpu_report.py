#!/usr/bin/env python3
"""Tables of `scripts/gpu.sh`'s results.jsonl, as Markdown on standard output."""

import json
import sys


def table(title, header, rows):
    if not rows:
        return
    print(f"\n## {title}\n\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def batches(results, step):
    peers = {}
    for result in results:
        if result["step"] == "peer" and "compute_us" in result:
            best = peers.get(result["batch"], float("inf"))
            peers[result["batch"]] = min(best, result["compute_us"])
    rows = []
    for result in results:
        if result["step"] != step:
            continue
        batch, graph_us = result["batch"], result["graph_us"]
        peer = f"{peers[batch] / graph_us:.2f}" if batch in peers else "-"
        bound_us = sum(layer["bound_us"] for layer in result["layers"])
        rows.append(
            (
                batch,
                f"{graph_us:.1f}",
                f"{result['images_per_s']:.0f}",
                f"{result['launches_us']:.1f}",
                f"{100 * bound_us / graph_us:.0f} %",
                f"{result['upload_us']:.1f}",
                f"{100 * result['upload_hidden']:.1f} %",
                peer,
            )
        )
    header = (
        "batch", "graph µs", "images/s", "launches µs", "of the bound", "upload µs",
        "hidden", "PyTorch's best / ours",
    )
    table(step, header, rows)


def layers(results, step):
    last = [result for result in results if result["step"] == step][-1:]
    for result in last:
        rows = [
            (
                layer["layer"],
                layer["kernel"],
                f"{layer['us']:.2f}",
                f"{100 * layer['bound_us'] / layer['us']:.0f} %",
            )
            for layer in result["layers"]
        ]
        table(f"{step}, batch {result['batch']}", ("layer", "kernel", "µs", "of the bound"), rows)


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


def main():
    with open(sys.argv[1]) as lines:
        results = [json.loads(line) for line in lines]
    for step in ("profile-model", "profile-tuned"):
        batches(results, step)
    layers(results, "profile-tuned" if any(r["step"] == "profile-tuned" for r in results)
           else "profile-model")
    loads(results)
    answers(results, "wgmma_rows", ("way", "operand", "pitch_rows"), "shift_rows")
    answers(results, "overlapping_map", ("form", "swizzle"), "side")
    answers(results, "small_map", ("map", "memory", "copy", "dense", "bit_set"), "size_kib")


if __name__ == "__main__":
    main()

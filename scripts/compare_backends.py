#!/usr/bin/env python3
"""Classifies images on the CPU and on the GPU and compares them: PROGRAM [OPTION…] IMAGE…

PROGRAM is twinstream with feature cuda; options are those of `classify`. Prints one JSON object;
fails where a logit is off by more than the tolerance for f16, relative to the largest logit of its
image, where more than one image in 200 changes its class, or where the GPU's own ranking gives
other probabilities than its logits do.
"""

import json
import math
import subprocess
import sys

TOLERANCE = 0.01
# Of a probability: batches of other lengths may have ranked the same image.
RANKED_TOLERANCE = 0.01
# The GPU's own options, which the CPU refuses, and how many values follow each.
GPU_OPTIONS = {"--device": 1, "--tuning": 1, "--no-graphs": 0}


def for_cpu(arguments):
    rest, kept = iter(arguments), []
    for argument in rest:
        if argument in GPU_OPTIONS:
            for _ in range(GPU_OPTIONS[argument]):
                next(rest)
        elif argument.partition("=")[0] not in GPU_OPTIONS:
            kept.append(argument)
    return kept


def classify(program, backend, arguments):
    """An object an image."""
    command = [program, "classify", "--backend", backend, "--json", *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(command[:4])}: exit status {run.returncode}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def number(value):
    """JSON has no NaN: it is written as null."""
    return math.nan if value is None else value


def logits_of(answers):
    return [[number(logit) for logit in answer["logits"]] for answer in answers]


def worst(values):
    """The largest; NaN where there is one, which no tolerance allows."""
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values)


def off(found, expected):
    scale = max(map(abs, expected))
    return worst(abs(one - other) / scale for one, other in zip(found, expected))


def main():
    program, *arguments = sys.argv[1:]
    arguments += ["--top", "5"]
    expected = classify(program, "cpu", [*for_cpu(arguments), "--logits"])
    found = classify(program, "cuda", [*arguments, "--logits"])
    ranked = classify(program, "cuda", arguments)
    paths = [[answer["path"] for answer in answers] for answers in (expected, found, ranked)]
    if not paths[0] or paths.count(paths[0]) != 3:
        sys.exit("the outputs have different images, or none")
    worst_relative = worst(map(off, logits_of(found), logits_of(expected)))
    changed = sum(
        one["top"][0]["index"] != other["top"][0]["index"] for one, other in zip(found, expected)
    )
    probabilities = (
        [[number(ranked["probability"]) for ranked in answer["top"]] for answer in answers]
        for answers in (ranked, found)
    )
    worst_ranked = worst(
        abs(one - other) for tops in zip(*probabilities) for one, other in zip(*tops, strict=True)
    )
    result = {"image_len": len(expected), "worst_relative": worst_relative}
    result |= {"changed_len": changed, "worst_ranked": worst_ranked}
    print(json.dumps(result).replace("NaN", "null"))
    if not worst_relative <= TOLERANCE:
        sys.exit(f"a logit is off by {worst_relative:.4f} of its image's largest, not {TOLERANCE}")
    if not worst_ranked <= RANKED_TOLERANCE:
        sys.exit(f"a ranked probability is off by {worst_ranked:.4f}, not {RANKED_TOLERANCE}")
    if changed * 200 > len(expected):
        sys.exit(f"{changed} of {len(expected)} images changed their class")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Classifies images on the CPU and on the GPU and compares the logits: PROGRAM [OPTION…] IMAGE…

PROGRAM is twinstream with feature cuda; options are those of `classify`. Prints one JSON object;
fails where a logit is off by more than the tolerance for f16, relative to the largest logit of its
image, or where more than one image in 200 changes its class.
"""

import json
import subprocess
import sys

TOLERANCE = 0.01
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


def logits(program, backend, arguments):
    command = [program, "classify", "--backend", backend, "--json", "--logits", *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {line["path"]: line["logits"] for line in map(json.loads, output.splitlines())}


def main():
    program, *arguments = sys.argv[1:]
    expected = logits(program, "cpu", for_cpu(arguments))
    found = logits(program, "cuda", arguments)
    if not expected or expected.keys() != found.keys():
        sys.exit("the two outputs have different images, or none")
    worst, changed = 0.0, 0
    for path, values in expected.items():
        scale = max(abs(value) for value in values)
        off = max(abs(one - other) for one, other in zip(values, found[path])) / scale
        worst = max(worst, off)
        best = max(range(len(values)), key=values.__getitem__)
        changed += found[path][best] < max(found[path])
    print(json.dumps({"images": len(expected), "worst_relative": worst, "changed": changed}))
    if worst > TOLERANCE:
        sys.exit(f"a logit is off by {worst:.4f} of its image's largest; allowed is {TOLERANCE}")
    if changed * 200 > len(expected):
        sys.exit(f"{changed} of {len(expected)} images changed their class")


if __name__ == "__main__":
    main()

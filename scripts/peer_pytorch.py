#!/usr/bin/env python3
"""Times torchvision's ResNet-50 on the same GPU: FP16, channels_last, in PyTorch's three modes.

Eager, a CUDA graph of eager, and torch.compile tuned to the utmost. Medians of single batches
between CUDA events, the input already on the device. One JSON object a mode and batch. Random
weights: time does not depend on them. Not tried on a GPU yet.
"""

import argparse
import json
import statistics

import torch
import torchvision

MODES = ("eager", "graph", "compile")
WARM_UP_LEN = 10


def network(class_count):
    model = torchvision.models.resnet50(weights=None, num_classes=class_count)
    return model.eval().cuda().half().to(memory_format=torch.channels_last)


def captured(step):
    """A CUDA graph of `step`, after a few runs on a stream of their own, as capture demands."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def step_of(mode, model, images):
    if mode == "compile":
        model = torch.compile(model, mode="max-autotune", dynamic=False)
    if mode == "graph":
        return captured(lambda: model(images))
    return lambda: model(images)


def median_us(step, repeat_len):
    for _ in range(WARM_UP_LEN):
        step()
    times_us = []
    for _ in range(repeat_len):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        times_us.append(1e3 * start.elapsed_time(end))
    return statistics.median(times_us)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", default="1,8,32,128,256")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    model = network(options.classes)
    # The mode that takes minutes to compile comes last, so that the others are there in any case.
    for mode in MODES:
        for batch in map(int, options.batches.split(",")):
            images = torch.randn(batch, 3, options.size, options.size, device="cuda").half()
            images = images.to(memory_format=torch.channels_last)
            result = {"mode": mode, "batch": batch, "torch": torch.__version__}
            try:
                with torch.inference_mode():
                    step = step_of(mode, model, images)
                    result["compute_us"] = median_us(step, options.repeats)
            except RuntimeError as error:
                result["error"] = str(error)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times torchvision's ResNet-50 on the same GPU: FP16, channels_last, in PyTorch's three modes.

Eager, a CUDA graph of eager, and a graph of what torch.compile makes, tuned to the utmost; the
first two as torchvision has it and with batch norms folded into the convolutions, the third folded.
Medians of single batches between CUDA events, and batches behind one another; the input already on
the device. One JSON object a mode and batch. Random weights: time does not depend on them. Exit
status: 1 a mode failed, 77 there is no PyTorch with CUDA. Not tried on a GPU yet.
"""

import argparse
import copy
import json
import statistics
import sys

try:
    import torch
    import torchvision
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    from torchvision.models.resnet import Bottleneck
except ImportError as error:
    print(error)
    sys.exit(77)

MODES = ("eager", "graph", "compile")
WARM_UP_LEN = 10


def network(class_count, size, device):
    """In FP32. Its batch norms know their inputs, so that activations neither grow nor vanish."""
    model = torchvision.models.resnet50(weights=None, num_classes=class_count)
    model = model.to(device).train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(8, 3, size, size, device=device))
    return model.eval()


def folded(model):
    """The same network with a bias in each convolution and no batch norm."""
    model = copy.deepcopy(model)
    pairs = [(model, "conv1", "bn1")]
    for block in model.modules():
        if isinstance(block, Bottleneck):
            pairs += [(block, f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
            if block.downsample is not None:
                pairs.append((block.downsample, "0", "1"))
    for parent, conv, norm in pairs:
        fused = fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm))
        setattr(parent, conv, fused)
        setattr(parent, norm, torch.nn.Identity())
    return model


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
        # Its own graphs would copy the images first.
        model = torch.compile(model, mode="max-autotune-no-cudagraphs", dynamic=False)
    if mode == "eager":
        return lambda: model(images)
    return captured(lambda: model(images))


def elapsed_us(step, repeat_len):
    """Of so many steps, from an idle device to the end of the last."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeat_len):
        step()
    end.record()
    end.synchronize()
    return 1e3 * start.elapsed_time(end)


def times(step, repeat_len):
    elapsed_us(step, WARM_UP_LEN)
    series = [elapsed_us(step, repeat_len) / repeat_len for _ in range(min(5, repeat_len))]
    return {
        "elapsed_us": statistics.median(elapsed_us(step, 1) for _ in range(repeat_len)),
        "back_to_back_us": statistics.median(series),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--batches", default="1,8,32,128,256")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("PyTorch finds no CUDA device")
        sys.exit(77)
    model = network(options.classes, options.size, "cuda")
    torch.backends.cudnn.benchmark = True
    networks = {False: model, True: folded(model)}
    for name in networks:
        networks[name] = networks[name].half().to(memory_format=torch.channels_last)
    failed = False
    for mode in options.modes.split(","):
        for batch_len in map(int, options.batches.split(",")):
            images = torch.randn(batch_len, 3, options.size, options.size, device="cuda").half()
            images = images.to(memory_format=torch.channels_last)
            for is_folded in (True,) if mode == "compile" else (False, True):
                result = {"mode": mode, "folded": is_folded, "batch_len": batch_len}
                result["torch"] = torch.__version__
                try:
                    with torch.inference_mode():
                        step = step_of(mode, networks[is_folded], images)
                        result |= times(step, options.repeats)
                except Exception as error:  # Whatever it is, other modes may work.
                    result["error"] = f"{type(error).__name__}: {error}"
                    failed = True
                print(json.dumps(result), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()

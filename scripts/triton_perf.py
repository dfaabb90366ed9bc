"""Measures `twinstream serve`, Triton with our backend, and Triton with ONNX Runtime in its Python
backend and its dynamic batcher, in turn, by perf_analyzer: see triton.sh.
"""

import json
import os
import pathlib
import shutil
import statistics
import sys
import sysconfig

import clients
import numpy
import onnx
import peers_cpu
import triton

ROUNDS = 3
MODELS = {"cpu": "instance_group [{ kind: KIND_CPU }]", "null": triton.MODELS["null"]}
# Instances and the threads of each: the one is best for one client, the other for many.
PEERS = {"onnx": (1, 0), "onnx-instances": (len(os.sched_getaffinity(0)), 1)}
PEER = """
backend: "python"
max_batch_size: 64
input [{ name: "image" data_type: TYPE_UINT8 dims: [32, 32, 3] }]
output [{ name: "logits" data_type: TYPE_FP32 dims: [10] }]
dynamic_batching {}
instance_group [{ count: %d kind: KIND_CPU }]
parameters { key: "threads" value { string_value: "%d" } }
"""


def write_peer(folder, config):
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(PEER % config)
    # The server's Python asks no variable for its packages.
    packages = [sysconfig.get_path("purelib"), str(clients.REPOSITORY / "scripts")]
    program = (clients.REPOSITORY / "scripts/triton_onnx.py").read_text()
    text = f"import sys\n\nsys.path[:0] = {packages}\n{program}"
    (folder / "1/model.py").write_text(text)
    onnx.save(peers_cpu.onnx_model(), folder / "1/model.onnx")


def take_python_backend(folder):
    """The server's own Python backend, where our backends are, for this Python."""
    source, target = folder / "server/pytriton/tritonserver", folder / "backends/python"
    shutil.copytree(source / "backends/python", target, dirs_exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = source / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, target)


def check(server, model):
    images, expected = clients.reference()
    answer = server.client.infer(model, [triton.tensor_of(images[:40])])
    clients.check(model, answer.as_numpy("logits"), expected[:40])


def main():
    folder, command = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    models = folder / "models"
    triton.write_models(models, MODELS)
    for name, config in PEERS.items():
        write_peer(models / name, config)
    take_python_backend(folder)
    with (
        triton.Triton(folder, models, [*MODELS, *PEERS]) as server,
        clients.Server(command, "--backend", "cpu") as serve_cpu,
        clients.Server(command, "--backend", "null") as serve_null,
    ):
        for model in ["cpu", *PEERS]:
            check(server, model)
        systems = {
            ("cpu", "Triton, ONNX Runtime"): (server.addresses[0], "onnx"),
            ("cpu", "Triton, ONNX Runtime, instances"): (server.addresses[0], "onnx-instances"),
            ("cpu", "Triton, Twinstream"): (server.addresses[0], "cpu"),
            ("cpu", "twinstream serve"): (serve_cpu.address, clients.MODEL),
            ("null", "Triton, Twinstream"): (server.addresses[0], "null"),
            ("null", "twinstream serve"): (serve_null.address, clients.MODEL),
        }
        found = {}
        for round_ in range(ROUNDS):
            for (network, system), (address, model) in systems.items():
                for client_len in [1, 16]:
                    # Rounds are what tells the spread here.
                    figures = clients.analyze(address, model, "grpc", client_len, 999)
                    case = {"network": network, "system": system, "clients": client_len}
                    print(json.dumps({"round": round_} | case | figures), flush=True)
                    found.setdefault((network, client_len, system), []).append(figures)
    print("\nMedians of the rounds, and of each round's ratio to the first of its network:")
    for (network, client_len, system), figures in sorted(found.items(), key=str):
        rates = [one["inferences_per_s"] for one in figures]
        peer = next(name for other, name in systems if other == network)
        peers = [one["inferences_per_s"] for one in found[network, client_len, peer]]
        ratio = statistics.median(numpy.divide(rates, peers))
        p50_us = statistics.median(one["p50_us"] for one in figures)
        rate = statistics.median(rates)
        print(f"{network} {client_len} {system}: {rate:.0f}/s, p50 {p50_us:.0f} us, x{ratio:.2f}")


if __name__ == "__main__":
    main()

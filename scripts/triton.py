"""Runs Triton Inference Server with this checkout's backend and holds the backend to its promises:
see triton.sh.

Logits are those of the reference by each client and form; what is refused names culprit and remedy;
each request has an answer, whatever becomes of its model; statistics are those of what was done.
"""

import asyncio
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import clients
import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

WEIGHTS = clients.REPOSITORY / "models/resnet50-cifar10"
# A device that sleeps: 50 ms a batch and 5 ms an image.
SLOW = "sim:up=10us+1us,compute=50ms+5ms,down=10us+1us"
# What config.pbtxt says; none: there is no such file, and the name tells the backend.
MODELS = {
    "resnet50.twinstream": None,
    "batched": "dynamic_batching {} instance_group [{ count: 2 kind: KIND_CPU }]",
    "slow": f'parameters {{ key: "backend" value {{ string_value: "{SLOW}" }} }}',
    "null": 'parameters { key: "backend" value { string_value: "null" } } '
    "instance_group [{ count: 2 kind: KIND_CPU }]",
    # Is loaded with configurations that are wrong.
    "wrong": "",
}


def write_models(folder, models):
    shutil.rmtree(folder, ignore_errors=True)
    for name, config in models.items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        for file in WEIGHTS.iterdir():
            (version / file.name).symlink_to(file)
        (folder / name / "labels.txt").write_text("\n".join(labels()) + "\n")
        if config is not None:
            text = f'backend: "twinstream"\n{config}\n'
            (folder / name / "config.pbtxt").write_text(text)


def labels():
    return json.loads((WEIGHTS / "config.json").read_text())["label_names"]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Triton:
    """A Triton in a process of its own, with the models of a folder that are named."""

    def __init__(self, folder, models, names):
        grpc, http = free_ports(2)
        self.log = folder / "log"
        self.addresses = [f"127.0.0.1:{port}" for port in (grpc, http)]
        libraries = str(folder / "server/nvidia_pytriton.libs")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [
                    folder / "server/pytriton/tritonserver/bin/tritonserver",
                    *[f"--model-repository={models}", f"--backend-directory={folder}/backends"],
                    *["--model-control-mode=explicit", "--allow-metrics=false"],
                    *[f"--load-model={name}" for name in names],
                    *["--grpc-address=127.0.0.1", f"--grpc-port={grpc}"],
                    *["--http-address=127.0.0.1", f"--http-port={http}"],
                ],
                env=os.environ | {"LD_LIBRARY_PATH": libraries},
                stdout=log,
                stderr=log,
            )
        self.client = tritonclient.grpc.InferenceServerClient(self.addresses[0])
        until = time.monotonic() + 120
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                sys.exit(f"Triton did not start:\n{self.log.read_text()}")
            time.sleep(0.1)

    def is_ready(self):
        try:
            return self.client.is_server_ready()
        except InferenceServerException:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()

    def end(self):
        """Its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def statistics(self, model):
        return self.client.get_inference_statistics(model, as_json=True)["model_stats"][0]


def tensor_of(images):
    tensor = tritonclient.grpc.InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images)
    return tensor


def expect(is_so, text):
    if not is_so:
        sys.exit(text)


def refusal(call, *words):
    """The call is refused, in these words."""
    try:
        call()
    except InferenceServerException as error:
        text = f"{error.status()}: {error.message()}"
        expect(all(word in text for word in words), f"not in {words}: {text}")
        print(f"refused: {text}")
        return
    sys.exit(f"not refused: {words}")


def classes(model, name, package, client):
    """The classes' names come from the model's labels."""
    images, _ = clients.reference()
    tensor = package.InferInput("image", [1, 32, 32, 3], "UINT8")
    tensor.set_data_from_numpy(images[:1])
    output = package.InferRequestedOutput("logits", class_count=1)
    answer = client.infer(model, [tensor], outputs=[output])
    best = answer.as_numpy("logits")[0][0].decode()
    _, index, label = best.split(":")
    expect(labels()[int(index)] == label, f"{name}: {best} is not among {labels()}")


def top_1(server):
    """All reference images, dynamically batched, and their classes."""
    images, expected = clients.all_reference()
    found = numpy.concatenate(asyncio.run(answers_to(server, "batched", images)))
    clients.check("all reference images", found, expected)
    expect((found.argmax(1) == expected.argmax(1)).all(), "classes differ")


async def answers_to(server, model, images):
    """One request an image, 64 at a time."""
    places = asyncio.Semaphore(64)
    async with tritonclient.grpc.aio.InferenceServerClient(server.addresses[0]) as client:

        async def infer(image):
            async with places:
                answer = await client.infer(model, [tensor_of(image[None])])
            return answer.as_numpy("logits")

        return await asyncio.gather(*map(infer, images))


def shapes(server):
    """What is not images of the network's size is refused."""
    image = numpy.zeros((1, 32, 32, 3), numpy.uint8)
    for shape in [(1, 32, 33, 3), (1, 3, 32, 32), (0, 32, 32, 3), (257, 32, 32, 3)]:
        tensor = tensor_of(numpy.zeros(shape, numpy.uint8))
        refusal(lambda: server.client.infer("null", [tensor]), "INVALID_ARGUMENT")
    tensor = tensor_of(image).set_shape([2, 32, 32, 3])
    refusal(lambda: server.client.infer("null", [tensor]), "INVALID_ARGUMENT", "byte size")
    for parameters in [{"request_priority": 4}, {"request_priority": "high"}]:
        refusal(
            lambda: server.client.infer("null", [tensor_of(image)], parameters=parameters),
            "INVALID_ARGUMENT",
            "request_priority: 1 is high, 2 normal, 3 low",
        )


def loads(server, models):
    """A model that cannot be loaded says why."""
    for name, data in [("broken", WEIGHTS / "model.safetensors"), ("absent", None)]:
        folder = models / name / "1"
        folder.mkdir(parents=True)
        (models / name / "config.pbtxt").write_text('backend: "twinstream"\n')
        if data:
            (folder / "model.safetensors").write_bytes(data.read_bytes()[:1_000_000])
        refusal(lambda: server.client.load_model(name), f"{name}/1/model.safetensors")
    tensor = {"name": "image", "data_type": "TYPE_UINT8", "dims": [32, 32, 3]}
    for config, *words in [
        ({"max_batch_size": 2000}, "max_batch_size is 2000", "from 1 to 1024"),
        ({"input": [tensor | {"name": "img"}]}, "input name", '"img"', '"image"'),
        ({"input": [tensor | {"data_type": "TYPE_FP32"}]}, "input data_type", "TYPE_UINT8"),
        ({"input": [tensor | {"dims": [3, 32, 32]}]}, "input dims", "[32,32,3]"),
        ({"input": [tensor, tensor | {"name": "mask"}]}, "2 tensors in `input`"),
        ({"output": [tensor]}, "output name", '"logits"'),
        ({"parameters": {"precision": {"string_value": "f17"}}}, "precision", "f17", "f32"),
        ({"parameters": {"threads": {"string_value": "0"}}}, "threads", "from 1"),
        ({"parameters": {"cache_bytes": {"string_value": "1GB"}}}, "cache_bytes", "1GB", "bytes"),
        ({"parameters": {"backend": {"string_value": "cpu"}}}, "instance_group", "KIND_CPU"),
        ({"parameters": {"thread": {"string_value": "1"}}}, "thread", "precision and threads"),
    ]:
        text = json.dumps({"backend": "twinstream"} | config)
        refusal(lambda: server.client.load_model("wrong", config=text), *words)


async def gather(server, model, requests):
    """How each of some requests ended, in the order of their end: its name, and its error."""
    ended = []
    async with tritonclient.grpc.aio.InferenceServerClient(server.addresses[0]) as client:

        async def infer(name, image_len, **options):
            images = numpy.zeros((image_len, 32, 32, 3), numpy.uint8)
            try:
                await client.infer(model, [tensor_of(images)], **options)
                ended.append((name, None))
            except InferenceServerException as error:
                ended.append((name, f"{error.status()}: {error.message()}"))

        tasks = []
        for name, image_len, options in requests:
            tasks.append(asyncio.create_task(infer(name, image_len, **options)))
            await asyncio.sleep(0.02)
        await asyncio.gather(*tasks)
    return ended


def limits(server):
    """Deadlines, priorities and too much at a time."""
    infer = functools.partial(
        server.client.infer, "slow", [tensor_of(numpy.zeros((1, 32, 32, 3), numpy.uint8))]
    )
    refusal(lambda: infer(timeout=20_000), "UNAVAILABLE", "the deadline")
    infer(timeout=60_000_000)

    low = [("low", 250, {"parameters": {"request_priority": 3}})] * 4
    high = [("high", 1, {"parameters": {"request_priority": 1}})]
    ended = asyncio.run(gather(server, "slow", low + high))
    names = [name for name, error in ended if error is None]
    print(f"priorities: {names}")
    expect(sorted(names) == sorted(["high"] + ["low"] * 4) and names[-1] != "high", "no priority")

    ended = asyncio.run(gather(server, "slow", [("many", 256, {})] * 8))
    errors = [error for _, error in ended if error]
    print(f"overload: {len(ended) - len(errors)} answered, {len(errors)} refused: {errors[0]}")
    expect(len(ended) == 8 and 4 <= 8 - len(errors) < 8, f"not as many as have room: {ended}")
    for error in errors:
        expect("UNAVAILABLE" in error and "every slot is in use" in error, error)


def cancelled(server):
    """Who leaves makes room: what waits behind it is not computed."""
    before = server.statistics("slow")["inference_stats"]
    ended = []
    call = functools.partial(
        server.client.async_infer,
        "slow",
        [tensor_of(numpy.zeros((256, 32, 32, 3), numpy.uint8))],
        lambda result, error: ended.append(error),
    )
    calls = [call() for _ in range(4)]
    time.sleep(0.2)
    for one in calls:
        one.cancel()
    image = tensor_of(numpy.zeros((1, 32, 32, 3), numpy.uint8))
    refused = 0
    # Their room is free once the device has done what it was in the middle of.
    for _ in range(600):
        try:
            server.client.infer("slow", [image])
            break
        except InferenceServerException as error:
            expect("every slot is in use" in error.message(), error)
            refused += 1
            time.sleep(0.05)
    after = server.statistics("slow")["inference_stats"]
    count = lambda name: int(after[name]["count"]) - int(before[name].get("count", 0))
    not_computed, answered = count("fail") - refused, count("success")
    print(f"cancelled: {not_computed} of 4 not computed, {answered} answered")
    expect(not_computed >= 2 and not_computed + answered == 5, f"{before} {after}")
    expect(len(ended) == 4, f"{len(ended)} of 4 calls ended")


def statistics(server):
    """Each image is counted once, as a batch's, and each batch once."""
    image_len = 0
    for name, images in [("one", 1), ("some", 3), ("many", 100)]:
        requests = [(name, images, {})] * 20
        errors = [error for _, error in asyncio.run(gather(server, "null", requests)) if error]
        expect(not errors, errors)
        image_len += 20 * images
    asyncio.run(answers_to(server, "null", numpy.zeros((500, 32, 32, 3), numpy.uint8)))
    image_len += 500
    # The statistics of the last request are told just after its answer.
    time.sleep(0.2)
    found = server.statistics("null")
    batches = {
        int(batch["batch_size"]): int(batch["compute_infer"]["count"])
        for batch in found["batch_stats"]
    }
    in_batches = sum(length * count for length, count in batches.items())
    counted = int(found["inference_count"])
    print(f"statistics: {image_len} images, {counted} counted, batches {batches}")
    expect(counted == in_batches == image_len, f"{image_len} images: {found}")
    expect(int(found["execution_count"]) == sum(batches.values()), found)
    times = found["inference_stats"]
    parts = ["queue", "compute_input", "compute_infer", "compute_output"]
    in_parts = sum(int(times[part]["ns"]) for part in parts)
    expect(0 < in_parts <= int(times["success"]["ns"]), times)


def went_on_under_load(server, model, images, end):
    """Requests go on until they are refused, while the model or its server goes by `end`."""
    counts = {"answered": 0, "refused": 0}

    async def load():
        async with tritonclient.grpc.aio.InferenceServerClient(server.addresses[0]) as client:

            async def ask(image):
                while True:
                    try:
                        await client.infer(model, [tensor_of(image[None])])
                        counts["answered"] += 1
                    except InferenceServerException as error:
                        words = ["UNAVAILABLE", "NOT_FOUND"]
                        is_refused = any(word in str(error.status()) for word in words)
                        expect(is_refused, f"a request was lost: {error}")
                        counts["refused"] += 1
                        return

            asked = asyncio.gather(*map(ask, images[:16]))
            await asyncio.sleep(1)
            await asyncio.to_thread(end)
            await asyncio.wait_for(asked, 60)

    asyncio.run(load())
    print(f"{model} went under load: {counts}")
    expect(counts["answered"] > 0 and counts["refused"] == 16, "it went on or never began")


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    models = folder / "models"
    write_models(models, MODELS)
    images, expected = clients.reference()
    with Triton(folder, models, [name for name in MODELS if name != "wrong"]) as server:
        for model in ["resnet50.twinstream", "batched"]:
            classify = functools.partial(classes, model)
            clients.triton(server.addresses, model, images, expected, classify)
            asyncio.run(clients.triton_asynchronous(server.addresses, model, images, expected))
        top_1(server)
        statistics(server)
        shapes(server)
        loads(server, models)
        limits(server)
        cancelled(server)
        unload = lambda: server.client.unload_model("batched")
        went_on_under_load(server, "batched", images, unload)
        server.client.load_model("batched")
        found = numpy.concatenate(asyncio.run(answers_to(server, "batched", images)))
        clients.check("loaded again", found, expected)
        went_on_under_load(server, "batched", images, server.end)
        expect(server.process.returncode == 0, f"exit status {server.process.returncode}")


if __name__ == "__main__":
    main()

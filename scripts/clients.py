"""Runs the clients that people use against `twinstream serve`: see clients.sh.

Each client sends the same images in each form that it has, and its logits must be those of the
reference. At the end the server is told to end under load: every request has an answer, or the
word that the server is going.
"""

import asyncio
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import sysconfig
import time

import numpy

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
REFERENCE = REPOSITORY / "../shared/data/reference.safetensors"
MODEL = "resnet50"
TOLERANCE = 1e-4


class Server:
    """A server in a process of its own."""

    def __init__(self, command, *options, listen="127.0.0.1:0"):
        arguments = [command, "serve", "--listen", listen, *options]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://([^/]*)/", line)
        if not found:
            sys.exit(f"the server did not say where it listens: {line!r}")
        self.address = found[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def reference(path=REPOSITORY / "tests/data/cifar-reference.safetensors"):
    """Images (u8, n x 32 x 32 x 3) and the logits that PyTorch gives them."""
    data = path.read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_bytes])

    def tensor(name, dtype):
        begin, end = header[name]["data_offsets"]
        raw = data[8 + header_bytes :][begin:end]
        return numpy.frombuffer(raw, dtype).reshape(header[name]["shape"])

    images = tensor("cifar_pixels", numpy.uint8).reshape(-1, 32, 32, 3)
    return images, tensor("cifar_logits", numpy.float32)


def all_reference():
    """Those of the reference data, which lie beside some checkouts; else those of the tests."""
    if REFERENCE.is_file():
        return reference(REFERENCE)
    if "reference-data" in os.environ.get("TWINSTREAM_REQUIRE", "").split(","):
        sys.exit(f"no {REFERENCE}, which TWINSTREAM_REQUIRE names")
    print(
        "SKIPPED all reference images but those of the tests: no reference data beside the checkout"
    )
    return reference()


def check(name, found, expected):
    worst = float(numpy.abs(found - expected).max())
    print(f"{name}: {len(expected)} images, largest difference {worst:.1e}")
    if found.shape != expected.shape or not worst < TOLERANCE:
        sys.exit(f"{name}: logits differ")


def parts(images):
    """One image, several, many."""
    cuts = [0, 1, 8, *range(40, len(images), 64), len(images)]
    return [images[begin:end] for begin, end in zip(cuts, cuts[1:])]


def triton(addresses, model, images, expected, classify):
    """The addresses are those for gRPC and HTTP; `classify` is a check of its own by each client."""
    import tritonclient.grpc
    import tritonclient.http

    for name, package, address, forms in [
        ("tritonclient gRPC", tritonclient.grpc, addresses[0], [{}]),
        (
            "tritonclient HTTP",
            tritonclient.http,
            addresses[1],
            [{"binary_data": True}, {"binary_data": False}],
        ),
    ]:
        client = package.InferenceServerClient(address)
        if not (client.is_server_ready() and client.is_model_ready(model)):
            sys.exit(f"{name}: not ready")
        client.get_server_metadata()
        client.get_model_metadata(model)
        client.get_model_config(model)
        for form in forms:
            found = []
            for part in parts(images):
                tensor = package.InferInput("image", list(part.shape), "UINT8")
                tensor.set_data_from_numpy(part, **form)
                output = package.InferRequestedOutput("logits", **form)
                answer = client.infer(model, [tensor], outputs=[output])
                found.append(answer.as_numpy("logits"))
            check(f"{name} {form or ''}", numpy.concatenate(found), expected)
        shared_memory(name, package, client, model, images, expected)
        classify(name, package, client)


def shared_memory(name, package, client, model, images, expected):
    """Images and logits of each request in one region of system shared memory."""
    import tritonclient.utils.shared_memory as memory

    total_bytes = images.nbytes + expected.nbytes
    region = memory.create_shared_memory_region("images", "/twinstream-clients", total_bytes)
    client.register_system_shared_memory("images", "/twinstream-clients", total_bytes)
    try:
        found = []
        for part, wanted in zip(parts(images), parts(expected)):
            memory.set_shared_memory_region(region, [part])
            tensor = package.InferInput("image", list(part.shape), "UINT8")
            tensor.set_shared_memory("images", part.nbytes)
            output = package.InferRequestedOutput("logits")
            output.set_shared_memory("images", wanted.nbytes, part.nbytes)
            client.infer(model, [tensor], outputs=[output])
            place = (region, wanted.dtype, wanted.shape, part.nbytes)
            found.append(memory.get_contents_as_numpy(*place).copy())
        check(f"{name}, shared memory", numpy.concatenate(found), expected)
    finally:
        unregister(client, "images")
        memory.destroy_shared_memory_region(region)


def unregister(client, region):
    """Triton holds a region until it has let the request go, a moment after its answer."""
    from tritonclient.utils import InferenceServerException

    until_s = time.monotonic() + 5
    while True:
        try:
            return client.unregister_system_shared_memory(region)
        except InferenceServerException as problem:
            if "in use" not in str(problem) or time.monotonic() > until_s:
                raise
        time.sleep(0.01)


def classes(name, package, client):
    """An image file, and the name of its class."""
    file = (REPOSITORY / "examples/images/cifar-cat.png").read_bytes()
    tensor = package.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(numpy.array([file], dtype=object))
    output = package.InferRequestedOutput("logits", class_count=1)
    answer = client.infer(MODEL, [tensor], outputs=[output], priority=1, timeout=60_000_000)
    best = answer.as_numpy("logits")[0][0].decode()
    if not best.endswith(":3:cat"):
        sys.exit(f"{name}: a cat is {best}")


async def triton_asynchronous(addresses, model, images, expected):
    import tritonclient.grpc.aio
    import tritonclient.http.aio

    for name, package, address in [
        ("tritonclient gRPC, asynchronous", tritonclient.grpc.aio, addresses[0]),
        ("tritonclient HTTP, asynchronous", tritonclient.http.aio, addresses[1]),
    ]:
        async with package.InferenceServerClient(address) as client:

            async def infer(image, client=client, package=package):
                tensor = package.InferInput("image", [1, *image.shape], "UINT8")
                tensor.set_data_from_numpy(image[None])
                return (await client.infer(model, [tensor])).as_numpy("logits")

            found = await asyncio.gather(*map(infer, images))
        check(name, numpy.concatenate(found), expected)


async def kserve_clients(address, images, expected):
    import kserve

    rest = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    base = f"http://{address}"
    grpc = kserve.InferenceGRPCClient(address)
    ready = [
        await rest.is_server_live(base),
        await rest.is_server_ready(base),
        await rest.is_model_ready(base, model_name=MODEL),
        await grpc.is_server_live(),
        await grpc.is_server_ready(),
        await grpc.is_model_ready(MODEL),
    ]
    if not all(ready):
        sys.exit(f"kserve: not ready: {ready}")

    async def by_rest(request):
        return await rest.infer(base, request, model_name=MODEL)

    for name, infer in [("kserve REST", by_rest), ("kserve gRPC", grpc.infer)]:
        for is_binary in (True, False):
            found = []
            for part in parts(images):
                tensor = kserve.InferInput("image", list(part.shape), "UINT8")
                tensor.set_data_from_numpy(part, binary_data=is_binary)
                request = kserve.InferRequest(model_name=MODEL, infer_inputs=[tensor])
                found.append((await infer(request)).outputs[0].as_numpy())
            check(f"{name}, binary {is_binary}", numpy.concatenate(found), expected)


async def end_under_load(server, images):
    """Requests go on while the server ends."""
    import tritonclient.grpc.aio as package

    counts = {"answered": 0, "refused": 0}
    async with package.InferenceServerClient(server.address) as client:

        async def ask(image):
            tensor = package.InferInput("image", [1, *image.shape], "UINT8")
            tensor.set_data_from_numpy(image[None])
            while True:
                try:
                    await client.infer(MODEL, [tensor])
                    counts["answered"] += 1
                except package.InferenceServerException as error:
                    if "UNAVAILABLE" not in str(error.status()):
                        sys.exit(f"a request was lost: {error}")
                    counts["refused"] += 1
                    return

        asked = asyncio.gather(*map(ask, images[:16]))
        await asyncio.sleep(1)
        status = await asyncio.to_thread(server.end)
        await asked
    print(f"ended under load: status {status}, {counts}")
    if status != 0 or counts["answered"] == 0:
        sys.exit("the server did not end well")


def analyze(address, model, protocol, client_len, spread_percent=30):
    """Inferences a second and median latency, by perf_analyzer: it goes on until three measurements
    in a row differ by no more."""
    libraries = pathlib.Path(sysconfig.get_path("purelib")) / "nvidia/cuda_runtime/lib"
    run = subprocess.run(
        [
            *[pathlib.Path(sys.executable).with_name("perf_analyzer"), "-m", model],
            *["-u", address, "-i", protocol],
            *["--concurrency-range", str(client_len), "-p", "2000", "-s", str(spread_percent)],
        ],
        env={"LD_LIBRARY_PATH": str(libraries)},
        capture_output=True,
        text=True,
    )
    found = re.search(r"throughput: (\S+) infer/sec", run.stdout)
    p50 = re.search(r"p50 latency: (\d+)", run.stdout)
    if not (found and p50):
        sys.exit(f"perf_analyzer: {run.stdout}{run.stderr}")
    return {"inferences_per_s": float(found[1]), "p50_us": int(p50[1])}


async def rate(address, datatype, shape, value, seconds=10):
    """Images a second, of which sixteen are on their way at a time."""
    import tritonclient.grpc.aio

    client = tritonclient.grpc.aio.InferenceServerClient(address)
    tensor = tritonclient.grpc.aio.InferInput("image", shape, datatype)
    tensor.set_data_from_numpy(value)
    end = time.monotonic() + seconds

    async def ask():
        answer_len = 0
        while time.monotonic() < end:
            await client.infer(MODEL, [tensor])
            answer_len += 1
        return answer_len

    answer_len = sum(await asyncio.gather(*(ask() for _ in range(16))))
    await client.close()
    return answer_len / seconds


def measure_files(command):
    """Image files, decoded and resized here, beside pixels that are so already."""
    file = (REPOSITORY / "examples/images/cat-chelsea.jpg").read_bytes()
    pixels = numpy.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), numpy.uint8)
    with Server(command, "--backend", "cpu", "--size", "224x224") as server:
        for _ in range(3):
            figures = {
                "files_per_s": asyncio.run(
                    rate(server.address, "BYTES", [1], numpy.array([file], dtype=object))
                ),
                "pixels_per_s": asyncio.run(
                    rate(server.address, "UINT8", list(pixels.shape), pixels)
                ),
            }
            figures["ratio"] = figures["files_per_s"] / figures["pixels_per_s"]
            print(json.dumps(figures))


def measure(command):
    measure_files(command)
    for backend in ["null", "cpu"]:
        with Server(command, "--backend", backend) as server:
            for protocol in ["grpc", "http"]:
                for client_len in [1, 16]:
                    figures = {"backend": backend, "protocol": protocol, "clients": client_len}
                    figures |= analyze(server.address, MODEL, protocol, client_len)
                    print(json.dumps(figures))


def main():
    command, clients = sys.argv[1:]
    if clients == "perf":
        return measure(command)
    images, expected = all_reference()
    with Server(command, "--shared-memory") as server:
        if clients == "kserve":
            asyncio.run(kserve_clients(server.address, images, expected))
        else:
            addresses = [server.address] * 2
            triton(addresses, MODEL, images, expected, classes)
            asyncio.run(triton_asynchronous(addresses, MODEL, images, expected))
            asyncio.run(end_under_load(server, images))


if __name__ == "__main__":
    main()

"""The recipe for Ray Serve on two nodes: see ray.sh.

Answers by handle and over HTTP must be those of the reference; then one node is killed under load. What
was asked there fails visibly and is asked again, nothing is answered wrongly, and the replica
comes back on a node that joins.
"""

import asyncio
import collections
import json
import logging
import os
import sys
import time
import urllib.error
import urllib.request

import numpy
import ray
from app import Resnet50
from clients import REPOSITORY, TOLERANCE, check, reference
from ray import serve
from ray.cluster_utils import Cluster
from ray.exceptions import RayError

CLIENT_LEN = 16
# After each event.
ANSWERED_LEN = 200
NODE = {"num_cpus": 2, "object_store_memory": 100 << 20}
PORT = 8123


def over_http(body):
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/", body)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def check_http():
    found = over_http((REPOSITORY / "examples/images/cifar-cat.png").read_bytes())
    if found["label"] != "cat":
        sys.exit(f"HTTP: a cat is {found['label']}")
    try:
        over_http(b"no image")
        sys.exit("HTTP: what is no image was answered")
    except urllib.error.HTTPError as error:
        text = json.load(error)["error"]
        if error.code != 400:
            sys.exit(f"HTTP: what is no image is {error.code}: {text}")
    print(f"HTTP: a cat is a cat, and what is none is 400: {text}")


class Load:
    """Clients in a closed loop; each answer is compared with the reference."""

    def __init__(self, handle, images, expected):
        self.handle, self.images, self.expected = handle, images, expected
        self.counts = collections.Counter()
        self.is_over = False

    async def client(self, number):
        while not self.is_over:
            number = (number + CLIENT_LEN) % len(self.images)
            self.counts["sent"] += 1
            while True:
                try:
                    logits = await self.handle.infer.remote(self.images[number])
                    break
                except RayError as error:
                    # Inference changes nothing: it is asked for again.
                    self.counts[type(error).__name__] += 1
                    await asyncio.sleep(0.05)
            if numpy.abs(logits - self.expected[number]).max() > TOLERANCE:
                sys.exit(f"the answer to image {number} is wrong")
            self.counts["answered"] += 1

    def replicas(self):
        [deployment] = serve.status().applications["default"].deployments.values()
        return deployment.replica_states.get("RUNNING", 0)

    async def wait_for(self, replica_len, seconds=60):
        begin = time.monotonic()
        while self.replicas() != replica_len:
            if time.monotonic() - begin > seconds:
                sys.exit(f"not {replica_len} replicas: {serve.status()}")
            await asyncio.sleep(0.1)
        return time.monotonic() - begin

    async def during(self, name, event):
        """Does `event` under load, and goes on until many were answered after it."""
        self.counts.clear()
        said = await event
        enough_len = self.counts["answered"] + ANSWERED_LEN
        begin = time.monotonic()
        while self.counts["answered"] < enough_len:
            if time.monotonic() - begin > 60:
                sys.exit(f"{name}: requests are not answered: {dict(self.counts)}")
            await asyncio.sleep(0.1)
        print(f"{name}: {dict(self.counts)}; {said}", flush=True)


async def kill(cluster, node, load):
    # As a machine that loses its power: nothing is told.
    await asyncio.to_thread(cluster.remove_node, node, allow_graceful=False)
    return f"one replica after {await load.wait_for(1):.1f} s"


async def join(cluster, load):
    # Ray wants the main thread for that; clients wait meanwhile.
    cluster.add_node(**NODE)
    return f"two replicas after {await load.wait_for(2):.1f} s"


async def main(cluster, node):
    images, expected = reference()
    handle = serve.run(Resnet50.bind(os.environ["TWINSTREAM_WEIGHTS"], threads=1))
    found = await asyncio.gather(*[handle.infer.remote(image) for image in images])
    check("handle", numpy.stack(found), expected)
    await asyncio.to_thread(check_http)
    load = Load(handle, images, expected)
    clients = asyncio.gather(*[load.client(number) for number in range(CLIENT_LEN)])
    await load.during("two nodes", asyncio.sleep(1))
    await load.during("one node is killed", kill(cluster, node, load))
    await load.during("a node joins", join(cluster, load))
    load.is_over = True
    await clients


if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    node = cluster.add_node(**NODE)
    # Its routers and controllers tell of every replica that is gone or busy.
    ray.init(address=cluster.address, logging_level=logging.WARNING, log_to_driver=False)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT, "location": "HeadOnly"})
    try:
        asyncio.run(main(cluster, node))
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()

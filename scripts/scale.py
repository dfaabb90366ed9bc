"""Several servers behind Envoy, under load: see scale.sh.

Each request must end once, in its own answer or in a status that says why there is none. A server
that ends by SIGTERM costs no request; one that is killed or hangs costs none either, as Envoy asks
another one again; where no server has room, refusals reach the clients, and retries stay few.
"""

import asyncio
import collections
import contextlib
import json
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from concurrent import futures

import grpc
import numpy
import tritonclient.grpc
import tritonclient.http
from clients import MODEL, REPOSITORY, Server, check, parts, reference
from tritonclient.grpc import service_pb2, service_pb2_grpc

FOLDER = REPOSITORY / "target/scale"
# They take no core, and long beside what clients and Envoy take: most requests are at a server.
BACKEND = ["--backend", "sim:up=100us+10us,compute=20ms+200us,down=50us+2us"]
LINGER = ["--linger", "2s"]
# Four times as slow.
FAST, SLOW = (
    ["--backend", f"sim:up=100us+10us,compute={ms}ms+{ms}ms,down=50us+2us", "--load-reports"]
    for ms in (2, 8)
)
CLIENT_LEN = 48
# A server has room for 1,024 images, so for 16 of these requests.
LARGE_REQUEST_LEN = 64
OVERLOAD_CLIENT_LEN = 128


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Envoy:
    """The recipe's file, at ports that are free, in front of the servers at `ports`."""

    def __init__(self, ports, is_orca):
        self.port, self.admin_port = free_port(), free_port()
        text = (REPOSITORY / "deploy/envoy/envoy.yaml").read_text()
        for fixed, ours in [
            ("port_value: 8080 ", f"port_value: {self.port} "),
            ("port_value: 9901 ", f"port_value: {self.admin_port} "),
            ("path: /etc/envoy/endpoints.yaml", f"path: {FOLDER}/endpoints.yaml"),
        ]:
            if text.count(fixed) != 1:
                sys.exit(f"envoy.yaml has `{fixed}` {text.count(fixed)} times, not once")
            text = text.replace(fixed, ours)
        if is_orca:
            orca = (REPOSITORY / "deploy/envoy/orca.yaml").read_text()
            text = text.replace("      lb_policy: LEAST_REQUEST\n", orca)
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "envoy.yaml").write_text(text)
        self.send_to(ports)
        envoy = pathlib.Path(sys.executable).with_name("envoy")
        options = ["--disable-hot-restart", "--log-path", "envoy.log", "--log-level", "warning"]
        self.process = subprocess.Popen([envoy, "-c", "envoy.yaml", *options], cwd=FOLDER)
        self.address = f"127.0.0.1:{self.port}"

    def send_to(self, ports):
        """Names the hosts in the recipe's form, as a whole."""
        text = (REPOSITORY / "deploy/envoy/endpoints.yaml").read_text()
        head, _, host = text.split("10.0.0.1")[0].rpartition("\n")
        lines = [f"{host}127.0.0.1, port_value: {port} }} }} }}" for port in ports]
        written = FOLDER / "endpoints.new"
        written.write_text("\n".join([head, *lines, ""]))
        written.rename(FOLDER / "endpoints.yaml")

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as page:
            return json.load(page)

    def count(self, name):
        stats = self.ask(f"/stats?format=json&filter=^cluster.twinstream.{name}$")["stats"]
        return stats[0]["value"] if stats else 0

    def hosts(self):
        """By port: how many requests it was sent, how many wait there, and whether it is sent more."""
        [cluster] = self.ask("/clusters?format=json")["cluster_statuses"]
        found = {}
        for host in cluster.get("host_statuses", []):
            stats = {stat["name"]: int(stat.get("value", 0)) for stat in host["stats"]}
            health = host["health_status"]
            is_away = "failed_active_health_check" in health or "failed_outlier_check" in health
            port = host["address"]["socket_address"]["port_value"]
            found[port] = (stats["rq_total"], stats["rq_active"], not is_away)
        return found

    async def wait_for(self, ports, seconds=15):
        """Until exactly these are sent requests; how long that took."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            with contextlib.suppress(OSError):
                if {port for port, (*_, is_up) in self.hosts().items() if is_up} == set(ports):
                    return time.monotonic() - begin
            await asyncio.sleep(0.05)
        sys.exit(f"Envoy does not send to exactly {ports}; its log is {FOLDER}/envoy.log")

    def end(self):
        self.process.terminate()
        self.process.wait(10)


class Load:
    """Clients that ask again as soon as they were answered, and what came of it."""

    def __init__(self, address, client_len, request_len=1):
        self.request_len = request_len
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channels = [grpc.aio.insecure_channel(address, options) for _ in range(4)]
        self.is_over = False
        self.counts = collections.Counter()
        self.longest_s = 0.0
        self.pushbacks = 0
        self.clients = [
            asyncio.create_task(self.client(index, self.channels[index % 4]))
            for index in range(client_len)
        ]

    async def client(self, index, channel):
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        tensor = service_pb2.ModelInferRequest.InferInputTensor(
            name="image", datatype="UINT8", shape=[self.request_len, 32, 32, 3]
        )
        pixels = bytes(self.request_len * 32 * 32 * 3)
        number = 0
        while not self.is_over:
            number += 1
            name = f"{index}-{number}"
            request = service_pb2.ModelInferRequest(
                model_name=MODEL, id=name, inputs=[tensor], raw_input_contents=[pixels]
            )
            begin = time.monotonic()
            self.counts["sent"] += 1
            try:
                answer = await infer(request, timeout=20)
                if answer.id != name or len(answer.raw_output_contents) != 1:
                    sys.exit(f"request {name} was given the answer of {answer.id}")
                self.counts["answered"] += 1
            except grpc.aio.AioRpcError as error:
                self.counts[error.code().name] += 1
                pushback_ms = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
                self.pushbacks += pushback_ms is not None
                await asyncio.sleep(float(pushback_ms or 20) / 1e3)
            self.longest_s = max(self.longest_s, time.monotonic() - begin)

    def take(self):
        """What was counted since the last time."""
        counts, self.counts = self.counts, collections.Counter()
        longest_s, self.longest_s = self.longest_s, 0.0
        return counts, longest_s

    async def end(self):
        self.is_over = True
        await asyncio.gather(*self.clients)
        for channel in self.channels:
            await channel.close()


class Hosts:
    """Servers at ports of their own, and Envoy in front of them."""

    def __init__(self, command, options, is_orca=False):
        """A server for each of the `options`."""
        self.command = command
        self.options = {free_port(): each for each in options}
        self.servers = {}
        for port in self.options:
            self.start(port)
        self.envoy = Envoy(list(self.servers), is_orca)

    def start(self, port):
        self.servers[port] = Server(self.command, *self.options[port], listen=f"127.0.0.1:{port}")

    async def wait_for_all(self):
        return await self.envoy.wait_for(list(self.servers))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.envoy.end()
        for server in self.servers.values():
            server.process.kill()
            server.process.wait()


async def logits(command):
    """The network's own answers, through Envoy, in requests of every length, over both protocols."""
    images, expected = reference()
    with Hosts(command, [[], []]) as hosts:
        await hosts.wait_for_all()
        for name, package in [("gRPC", tritonclient.grpc), ("HTTP", tritonclient.http)]:
            client = package.InferenceServerClient(hosts.envoy.address)
            if not (client.is_server_ready() and client.is_model_ready(MODEL)):
                sys.exit(f"{name} through Envoy: not ready")
            found = []
            for part in parts(images):
                tensor = package.InferInput("image", list(part.shape), "UINT8")
                tensor.set_data_from_numpy(part)
                found.append(client.infer(MODEL, [tensor]).as_numpy("logits"))
            check(f"{name} through Envoy", numpy.concatenate(found), expected)
        if not all(count for count, *_ in hosts.envoy.hosts().values()):
            sys.exit(f"a server was sent nothing: {hosts.envoy.hosts()}")


class Failures:
    """What happens to servers one after the other, and what it costs."""

    def __init__(self, hosts, load):
        self.hosts, self.load = hosts, load

    async def during(self, name, event, allowed):
        """Does `event` under load; `allowed`: how requests may fail."""
        envoy = self.hosts.envoy
        self.load.take()
        before = [envoy.count(f"upstream_rq_retry{kind}") for kind in ("", "_overflow")]
        said = await event()
        await asyncio.sleep(0.5)
        counts, longest_s = self.load.take()
        after = [envoy.count(f"upstream_rq_retry{kind}") for kind in ("", "_overflow")]
        retried, over = (end - begin for begin, end in zip(before, after))
        failed = {code: count for code, count in counts.items() if code.isupper()}
        print(
            f"{name}: {counts['answered']} answered, {failed or 'none'} failed, {retried} retried,"
            f" {over} not, by the budget, longest {longest_s:.2f} s; {said}"
        )
        if counts["answered"] == 0 or set(failed) - set(allowed) or sum(failed.values()) > over:
            sys.exit(f"{name}: requests were lost")
        return retried

    async def nobody_asks(self, port):
        """The host that is away is sent nothing."""
        before = self.hosts.envoy.hosts()[port][0]
        await asyncio.sleep(0.5)
        sent = self.hosts.envoy.hosts()[port][0] - before
        if sent != 0:
            sys.exit(f"a server that is away was sent {sent} requests")

    async def back(self):
        """All are sent requests, and equally many."""
        waited_s = await self.hosts.wait_for_all()
        before = self.hosts.envoy.hosts()
        await asyncio.sleep(1)
        after = self.hosts.envoy.hosts()
        sent = sorted(after[port][0] - before[port][0] for port in after)
        if sent[0] < sent[-1] / 2:
            sys.exit(f"the load was not shared: {sent}")
        return f"there after {waited_s:.2f} s; in the next second each was sent {sent}"

    async def join(self, port):
        """A host is added while Envoy runs."""
        all = list(self.hosts.servers)
        self.hosts.envoy.send_to([other for other in all if other != port])
        await self.hosts.envoy.wait_for(set(all) - {port})
        await asyncio.sleep(0.5)
        self.hosts.envoy.send_to(all)
        return await self.back()

    async def drain(self, port):
        server = self.hosts.servers[port]
        others = set(self.hosts.servers) - {port}
        ending = asyncio.create_task(asyncio.to_thread(server.end))
        away_s = await self.hosts.envoy.wait_for(others)
        await self.nobody_asks(port)
        status = await ending
        if status != 0:
            sys.exit(f"the server that was told to end has status {status}")
        await asyncio.to_thread(self.hosts.start, port)
        return f"away after {away_s:.2f} s, {await self.back()}"

    async def kill(self, port):
        process = self.hosts.servers[port].process
        process.kill()
        process.wait()
        away_s = await self.hosts.envoy.wait_for(set(self.hosts.servers) - {port})
        await self.nobody_asks(port)
        await asyncio.to_thread(self.hosts.start, port)
        return f"away after {away_s:.2f} s, {await self.back()}"

    async def hang(self, port):
        """As a host that vanished: its connections stay, and nothing comes."""
        process = self.hosts.servers[port].process
        process.send_signal(signal.SIGSTOP)
        away_s = await self.hosts.envoy.wait_for(set(self.hosts.servers) - {port})
        # Until Envoy gives up the connections with what is asked there.
        await asyncio.sleep(2.5)
        await self.nobody_asks(port)
        waiting_len = self.hosts.envoy.hosts()[port][1]
        if waiting_len != 0:
            sys.exit(f"{waiting_len} requests wait for a server that hangs")
        process.send_signal(signal.SIGCONT)
        return f"away after {away_s:.2f} s, {await self.back()}"


async def failures(command):
    with Hosts(command, [BACKEND + LINGER] * 3) as hosts:
        await hosts.wait_for_all()
        load = Load(hosts.envoy.address, CLIENT_LEN)
        during = Failures(hosts, load)
        first, second, third = hosts.servers
        await during.during("one joins", lambda: during.join(third), [])
        await during.during("one ends by SIGTERM", lambda: during.drain(first), [])
        retried = await during.during("one is killed", lambda: during.kill(second), ["UNAVAILABLE"])
        if retried == 0:
            sys.exit("the server that was killed had nothing to do: this showed nothing")
        await during.during("one hangs", lambda: during.hang(third), ["UNAVAILABLE"])
        await load.end()


class Refusing(grpc.GenericRpcHandler):
    """A server that is well by its own word, and answers each inference with `code`."""

    code = None
    asked_len = 0

    def service(self, call):
        if call.method.startswith("/grpc.health.v1.Health/"):
            # A HealthCheckResponse: status, SERVING.
            return grpc.unary_unary_rpc_method_handler(lambda *_: bytes([8, 1]))
        return grpc.unary_unary_rpc_method_handler(self.infer)

    def infer(self, _, context):
        self.asked_len += 1
        context.abort(self.code, "refused")


def large_request():
    """An image file of 20 MB, more than Envoy would keep for a retry by itself."""
    width, height = 2600, 2600
    head = struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6)
    file = b"BM" + head + bytes(3 * width * height)
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[1]
    )
    contents = struct.pack("<I", len(file)) + file
    return service_pb2.ModelInferRequest(
        model_name=MODEL, inputs=[tensor], raw_input_contents=[contents]
    )


async def statuses(command):
    """Which answers are another server's to give, and which are final."""
    refusing = Refusing()
    options = [("grpc.max_receive_message_length", 64 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(4), [refusing], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Hosts(command, [["--backend", "null"]]) as hosts:
        hosts.envoy.send_to([*hosts.servers, port])
        await hosts.envoy.wait_for([*hosts.servers, port])
        channel = grpc.aio.insecure_channel(hosts.envoy.address)
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        for name, is_final in [
            ("UNAVAILABLE", False),
            ("RESOURCE_EXHAUSTED", False),
            ("DEADLINE_EXCEEDED", True),
            ("INTERNAL", True),
        ]:
            refusing.code, refusing.asked_len = grpc.StatusCode[name], 0
            failed = 0
            # Some go to the other server.
            while refusing.asked_len < 5:
                try:
                    await infer(large_request(), timeout=20)
                except grpc.aio.AioRpcError as error:
                    if error.code() != refusing.code:
                        sys.exit(f"{name} reached the client as {error.code().name}: {error}")
                    failed += 1
            print(f"{name}: one server said so {refusing.asked_len} times, the client got {failed}")
            if failed != (refusing.asked_len if is_final else 0):
                sys.exit(f"{name}: wrongly sent again, or not")
        if hosts.envoy.count("outlier_detection.ejections_enforced_total") != 0:
            sys.exit("a server was taken out for what it answered")
        await channel.close()
    server.stop(None)


async def overload(command):
    """More than all servers have room for."""
    with Hosts(command, [BACKEND] * 2) as hosts:
        await hosts.wait_for_all()
        load = Load(hosts.envoy.address, OVERLOAD_CLIENT_LEN, LARGE_REQUEST_LEN)
        await asyncio.sleep(4)
        await load.end()
        counts, _ = load.take()
        retries = hosts.envoy.count("upstream_rq_retry")
        unspent = hosts.envoy.count("upstream_rq_retry_overflow")
        print(
            f"overload: {dict(counts)}, {load.pushbacks} told when to come again,"
            f" {retries} retried, {unspent} not, by the budget"
        )
        refused = counts["RESOURCE_EXHAUSTED"]
        if counts["sent"] != counts["answered"] + refused or refused == 0:
            sys.exit("overload: requests did not end as refusals")
        if load.pushbacks != refused:
            sys.exit("overload: refusals do not say when to come again")
        if unspent < retries / 10:
            sys.exit("overload: retries have no limit")


async def weights(command):
    """Load reports give a slow server fewer requests than round robin would."""
    with Hosts(command, [FAST, FAST, SLOW], is_orca=True) as hosts:
        await hosts.wait_for_all()
        load = Load(hosts.envoy.address, CLIENT_LEN)
        # Reports count after 2 s, and rates are those of some seconds.
        await asyncio.sleep(5)
        before = hosts.envoy.hosts()
        await asyncio.sleep(1.5)
        after = hosts.envoy.hosts()
        await load.end()
        sent = [after[port][0] - before[port][0] for port in hosts.servers]
        print(f"weights by load reports: two fast servers and a slow one were sent {sent}")
        if sent[2] > min(sent[:2]) / 2:
            sys.exit("weights do not follow the load reports")


async def main():
    [command] = sys.argv[1:]
    await logits(command)
    await statuses(command)
    await failures(command)
    await weights(command)
    await overload(command)


if __name__ == "__main__":
    asyncio.run(main())

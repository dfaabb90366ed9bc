"""Both ends of scripts/network.sh: the clients, and a wire with a delay where the kernel has none."""

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque

ADDRESS = ("10.79.0.2", 8000)
DEVICE = "gtx-1080ti"
RATE_HZ = 300
DURATION_S = 20
CONNECTIONS = 64
TOLERANCE = 0.1
PACKET_BYTES_MAX = 9_000
# Of TCP with timestamps and IP, where a message is one packet.
HEADER_BYTES = 52


def open_tun(namespace):
    """Opens a TUN device called link0 in a namespace, which this process enters."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as handle:
        if libc.setns(handle.fileno(), 0x4000_0000):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, 0x4004_54CA, struct.pack("16sH22x", b"link0", 0x1001))
    return tun


def run_wire(namespaces, delay_s, bits_hz):
    """Carries packets both ways, each direction first come, first served, until it is killed."""
    ends = [open_tun(namespace) for namespace in namespaces]
    # By direction: packets with when they come out, and when the last of them has left.
    waiting, free = [deque(), deque()], [0.0, 0.0]
    while True:
        due = min((queue[0][0] for queue in waiting if queue), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select(ends, [], [], timeout)
        for way, end in enumerate(ends):
            while end in readable:
                try:
                    packet = os.read(end, PACKET_BYTES_MAX + 4)
                except BlockingIOError:
                    break
                now = time.monotonic()
                free[way] = max(free[way], now) + 8 * len(packet) / bits_hz
                waiting[way].append((free[way] + delay_s, packet))
        for way, queue in enumerate(waiting):
            while queue and queue[0][0] <= time.monotonic():
                # Whatever comes before the other end is up is lost, as on any wire.
                with contextlib.suppress(OSError):
                    os.write(ends[1 - way], queue.popleft()[1])


def message():
    """An inference of one image of 32x32 pixels, as HTTP has it."""
    pixels = bytes(3_072)
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
    image["parameters"] = {"binary_data_size": len(pixels)}
    logits = {"name": "logits", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [image], "outputs": [logits]}).encode()
    lines = [
        "POST /v2/models/resnet50/infer HTTP/1.1",
        "host: server",
        f"inference-header-content-length: {len(head)}",
        f"content-length: {len(head) + len(pixels)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + head + pixels


async def ask(connection, request):
    """Sends a request and awaits its answer; the bytes of that."""
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server refused: {head.decode()}")
    length = next(line for line in head.lower().split(b"\r\n") if b"content-length: " in line[:16])
    body_bytes = int(length.split()[1])
    await reader.readexactly(body_bytes)
    return len(head) + body_bytes


async def connect():
    """Connects, as soon as there is a server."""
    for _ in range(300):
        try:
            return await asyncio.open_connection(*ADDRESS)
        except OSError:
            await asyncio.sleep(0.1)
    raise RuntimeError("no server came up within 30 s")


async def measure(due_ns, request):
    """Sends requests when they are due, over connections that were used; latencies in ms."""
    idle = [await connect() for _ in range(CONNECTIONS)]
    for connection in idle:
        answer_bytes = await ask(connection, request)
    latencies_ms = []

    async def send(due):
        if not idle:
            raise RuntimeError(f"{CONNECTIONS} connections are too few")
        connection = idle.pop()
        await ask(connection, request)
        latencies_ms.append(1e3 * (time.monotonic() - due))
        idle.append(connection)

    start = time.monotonic() + 0.5
    sent = []
    for due in due_ns:
        await asyncio.sleep(max(0.0, start + 1e-9 * due - time.monotonic()))
        sent.append(asyncio.create_task(send(start + 1e-9 * due)))
    await asyncio.gather(*sent)
    return sorted(latencies_ms), answer_bytes


def run_clients(twinstream, delay_ms, rate_mbit):
    """Measures, predicts, and prints both; false where they are too far apart."""
    draws, due_ns, now_s = random.Random(7), [], 0.0
    while (now_s := now_s + draws.expovariate(RATE_HZ)) < DURATION_S:
        due_ns.append(round(1e9 * now_s))
    trace = "target/network/arrivals"
    with open(trace, "w") as file:
        file.writelines(f"{due}\n" for due in due_ns)
    request = message()
    latencies_ms, answer_bytes = asyncio.run(measure(due_ns, request))
    network = (
        f"delay={delay_ms}ms,bandwidth={rate_mbit}Mbit,"
        f"request={len(request) + HEADER_BYTES}B,answer={answer_bytes + HEADER_BYTES}B"
    )
    words = ["simulate", "--device", DEVICE, "--policies", "stream", "--json"]
    words += ["--arrivals", f"trace:{trace}", "--network", network]
    predicted = json.loads(subprocess.check_output([twinstream, *words]))
    live = {
        "mean_ms": sum(latencies_ms) / len(latencies_ms),
        "p50_ms": latencies_ms[len(latencies_ms) // 2],
        "p99_ms": latencies_ms[len(latencies_ms) * 99 // 100],
    }
    print(f"{len(due_ns)} requests at {RATE_HZ}/s; {network}")
    for figure, live_ms in live.items():
        ratio = live_ms / predicted[figure]
        print(
            f"  {figure}: live {live_ms:.3f}, simulated {predicted[figure]:.3f}, ratio {ratio:.3f}"
        )
    return all(abs(live[figure] / predicted[figure] - 1) <= TOLERANCE for figure in live)


def main():
    """Runs the end that the arguments name."""
    role, *words = sys.argv[1:]
    if role == "wire":
        run_wire(words[:2], 1e-3 * float(words[2]), 1e6 * float(words[3]))
    elif not run_clients(*words):
        sys.exit(f"live and simulated are over {TOLERANCE:.0%} apart")


main()

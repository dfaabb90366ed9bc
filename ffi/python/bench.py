"""How fast the Python interface is by itself: answers a second from asyncio on an engine that computes nothing, and the latency
of a request beside a thread that keeps the interpreter busy.

    python ffi/python/bench.py [SECONDS]
"""

import asyncio
import platform
import statistics
import sys
import threading
import time

import numpy as np
import twinstream

CLIENTS = (1, 64, 256, 1024)


async def answers(engine, image, client_len, seconds):
    """Answers a second by so many clients, each with one request at a time."""
    until = time.perf_counter() + seconds

    async def client():
        count = 0
        while time.perf_counter() < until:
            await engine.submit(image)
            count += 1
        return count

    start = time.perf_counter()
    counts = await asyncio.gather(*(client() for _ in range(client_len)))
    return sum(counts) / (time.perf_counter() - start)


async def latencies(engine, image, seconds):
    """Of requests that are handed in every millisecond, in seconds."""
    found, until = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        await engine.submit(image)
        found.append(time.perf_counter() - start)
        await asyncio.sleep(1e-3)
    return found


def quantiles(found):
    cuts = statistics.quantiles(found, n=100, method="inclusive")
    return f"p50 {cuts[49] * 1e6:.0f} us, p99 {cuts[98] * 1e6:.0f} us"


def busy(is_over):
    while not is_over.is_set():
        sum(range(1000))


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    print(f"Python {platform.python_version()}, {platform.machine()}")
    with twinstream.Engine(backend="null", slot_len=2048) as engine:
        image = np.zeros(engine.image_shape, np.uint8)
        asyncio.run(answers(engine, image, 64, 0.2))
        for client_len in CLIENTS:
            rate = asyncio.run(answers(engine, image, client_len, seconds))
            print(f"asyncio, {client_len} clients: {rate:.0f} answers/s")
        print(f"alone: {quantiles(asyncio.run(latencies(engine, image, seconds)))}")
        is_over = threading.Event()
        thread = threading.Thread(target=busy, args=(is_over,))
        thread.start()
        try:
            found = quantiles(asyncio.run(latencies(engine, image, seconds)))
        finally:
            is_over.set()
            thread.join()
        interval = sys.getswitchinterval() * 1e6
        print(f"beside a busy thread: {found} (switch interval {interval:.0f} us)")


if __name__ == "__main__":
    main()

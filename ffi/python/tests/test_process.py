"""What processes do: fork, end with an engine open, get a signal; memory over many requests."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import twinstream
from conftest import SLOW


def run(program, **keywords):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **keywords)


def test_a_forked_process_is_told(slow):
    image = np.zeros(slow.image_shape, np.uint8)
    ticket = slow.submit_nowait(image)
    calls = [
        lambda: slow(image),
        lambda: slow([image, image]),
        lambda: slow.submit_nowait(image),
        lambda: asyncio.run(slow.submit(image)),
        slow.lease,
        slow.drain,
        ticket.wait,
    ]
    child = os.fork()
    if child == 0:
        told = 0
        for call in calls:
            try:
                call()
            except twinstream.Forked:
                told += 1
        del ticket
        slow.close()
        os._exit(told)
    start = time.monotonic()
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - start > 20:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the forked process hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == len(calls)
    assert ticket.wait()


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "engine.submit_nowait(image)",
        "ticket = engine.submit_nowait(image); image = lease = engine.lease(); view = lease.array",
        "import asyncio; task = engine.submit(image); asyncio.run(asyncio.wait_for(task, 0.01))",
        "import os; child = os.fork(); child and os.waitpid(child, 0)",
        "engine.itself = engine",
        "import threading; threading.Thread(target=engine, args=(image,), daemon=True).start()",
    ],
)
def test_a_process_ends_with_an_engine_open(rest):
    program = f"""
import numpy, twinstream
engine = twinstream.Engine(backend={SLOW!r}, batch_len_max=1)
image = numpy.zeros(engine.image_shape, numpy.uint8)
{rest}
"""
    ended = run(program)
    is_expected = ended.returncode == 0 or "TimeoutError" in ended.stderr.splitlines()[-1]
    assert is_expected and "panic" not in ended.stderr, ended


@pytest.mark.parametrize(
    "call", ["engine(images)", "engine.submit_nowait(images[0]).wait()", "engine.drain()"]
)
def test_a_signal_ends_a_wait(call):
    program = f"""
import numpy, os, signal, threading, time, twinstream
# Processes that a shell started in the background ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
engine = twinstream.Engine(backend="sim:up=1us+1us,compute=300ms+0us,down=1us+1ns", batch_len_max=1)
images = [numpy.zeros(engine.image_shape, numpy.uint8)] * 4
tickets = [engine.submit_nowait(image) for image in images]
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
start = time.monotonic()
try:
    {call}
except KeyboardInterrupt:
    print(time.monotonic() - start, flush=True)
os._exit(0)
"""
    ended = run(program)
    # Without the signal it would be 1.2 s or more.
    assert 0.2 < float(ended.stdout) < 1, ended


def test_warnings_reach_logging(weights, tmp_path, caplog):
    alone = tmp_path / "alone.safetensors"
    alone.symlink_to(weights)
    with twinstream.Engine(alone, size=(32, 32)):
        pass
    assert any(record.name == "twinstream" for record in caplog.records), caplog.text


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_is_flat(null, request):
    image = np.zeros(null.image_shape, np.uint8)

    async def client(count):
        for _ in range(count):
            (await null.submit(image)).logits

    def some(count):
        """So many requests, a quarter in each way."""
        count //= 4

        async def clients():
            await asyncio.gather(*(client(count // 50) for _ in range(50)))

        asyncio.run(clients())
        for _ in range(count // 500):
            null([image] * 500)
        for _ in range(count):
            null.submit_nowait(image).wait()
        for _ in range(count):
            lease = null.lease()
            lease.array[0, 0] = 1
            ticket = lease.commit()
            ticket.cancel()
            try:
                ticket.wait()
            except twinstream.Cancelled:
                pass

    requests = request.config.getoption("--requests")
    some(20_000)
    before = resident_bytes()
    some(requests)
    grown = resident_bytes() - before
    assert grown < 4 << 20, f"{grown} bytes over {requests} requests"

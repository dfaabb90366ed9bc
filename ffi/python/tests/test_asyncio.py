"""Requests from event loops: many at a time, deadlines, cancellation, several loops."""

import asyncio
import threading

import numpy as np
import pytest
import twinstream
from conftest import settled


def image_of(engine):
    return np.zeros(engine.image_shape, np.uint8)


def test_thousands_of_requests_on_the_network(network, golden):
    pixels, expected = golden

    async def client(index):
        answer = await network.submit(pixels[index % 200])
        return np.abs(answer.logits - expected[index % 200]).max()

    async def all_clients():
        return await asyncio.gather(*(client(index) for index in range(1000)))

    assert max(asyncio.run(all_clients())) <= 1e-4


def test_thousands_of_requests_share_wake_ups(null):
    image = image_of(null)
    calls = 0

    async def client():
        for _ in range(100):
            await null.submit(image)

    async def all_clients():
        nonlocal calls
        await null.submit(image)
        loop, inbox = null._current

        def drain():
            nonlocal calls
            calls += 1
            inbox.drain()

        loop.remove_reader(inbox.fileno())
        loop.add_reader(inbox.fileno(), drain)
        await asyncio.gather(*(client() for _ in range(200)))

    asyncio.run(all_clients())
    settled(null, lambda stats: stats.completed == 20_001)
    assert calls < 5000


def test_files_are_decoded_beside_the_loop(network, photos):
    async def all_clients():
        return await asyncio.gather(*(network.submit(path, deadline=60) for path in photos))

    for answer, expected in zip(asyncio.run(all_clients()), network(photos), strict=True):
        assert np.abs(answer.logits - expected.logits).max() <= 1e-4


def test_errors_reach_who_awaits(slow):
    async def wrong():
        with pytest.raises(twinstream.Expired):
            await slow.submit(image_of(slow), deadline=0.001)
        with pytest.raises(TypeError, match="image"):
            await slow.submit(7)
        with pytest.raises(twinstream.FileError):
            await slow.submit("no-such.png")
        requests = [asyncio.ensure_future(slow.submit(image_of(slow))) for _ in range(9)]
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert [isinstance(outcome, twinstream.Full) for outcome in outcomes] == [False] * 8 + [
            True
        ]

    asyncio.run(wrong())


def test_cancelling_a_task_cancels_its_request(slow):
    async def cancel():
        image = image_of(slow)
        tasks = [asyncio.ensure_future(slow.submit(image)) for _ in range(8)]
        await asyncio.sleep(0.01)
        tasks[-1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[-1]
        await asyncio.gather(*tasks[:-1])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow.submit(image), 0.005)
        await slow.submit(image)

    asyncio.run(cancel())
    settled(slow, lambda stats: stats.cancelled >= 1 and stats.slots_in_use == 0)


def test_leases(network, golden):
    pixels, expected = golden

    async def one():
        lease = network.lease()
        lease.array[:] = pixels[2]
        return await network.submit(lease)

    assert np.abs(asyncio.run(one()).logits - expected[2]).max() <= 1e-4


def test_several_loops_at_a_time(null):
    image = image_of(null)

    async def client():
        for _ in range(500):
            await null.submit(image)

    async def all_clients():
        await asyncio.gather(*(client() for _ in range(4)))

    threads = [threading.Thread(target=lambda: asyncio.run(all_clients())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    settled(null, lambda stats: stats.completed == 6000)
    # Those of closed loops go as another comes.
    asyncio.run(client())
    assert len(null._inboxes) == 1


def test_a_loop_that_ends_leaves_no_request(slow):
    async def leave():
        asyncio.ensure_future(slow.submit(image_of(slow)))
        await asyncio.sleep(0.01)

    asyncio.run(leave())
    asyncio.run(slow.submit(image_of(slow)))
    settled(slow, lambda stats: stats.alive_len == 0 and stats.cancelled == 1)


def test_closing_ends_what_is_awaited(slow):
    async def close():
        tasks = [asyncio.ensure_future(slow.submit(image_of(slow))) for _ in range(8)]
        await asyncio.sleep(0.01)
        loop, inbox = slow._current
        slow.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[-1], twinstream.ShutDown)
        await asyncio.sleep(0)
        assert not loop.remove_reader(inbox.fileno())

    asyncio.run(close())

"""Requests one by one: tickets, deadlines, cancellation, room, leases, the end of an engine."""

import gc
import threading

import numpy as np
import pytest
import twinstream
from conftest import SLOW, settled


@pytest.fixture
def image(slow):
    return np.zeros(slow.image_shape, np.uint8)


def test_tickets(slow, image):
    ticket = slow.submit_nowait(image)
    assert not ticket.done()
    with pytest.raises(TimeoutError):
        ticket.wait(0.001)
    answer = ticket.wait()
    assert ticket.done() and ticket.wait(0) is answer
    assert slow.submit_nowait(image).wait(30)


def test_several_threads_wait_for_one_ticket(slow, image):
    ticket = slow.submit_nowait(image)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ticket.wait())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(answers) == 4 and all(answer is answers[0] for answer in answers)


def test_waiting_lets_other_threads_run(slow, image):
    ticket = slow.submit_nowait(image)
    begins = threading.Event()

    def wait():
        begins.set()
        ticket.wait()

    waits = threading.Thread(target=wait)
    waits.start()
    begins.wait()
    count = 0
    while not ticket.done():
        count += 1
    waits.join()
    assert count > 1000


def test_a_deadline_that_cannot_be_met(slow, image):
    with pytest.raises(twinstream.Expired):
        slow.submit_nowait(image, deadline=0.001).wait()
    assert slow.submit_nowait(image, deadline=30).wait()
    settled(slow, lambda stats: stats.rejected + stats.expired == 1)


def test_a_latency_bound_holds_for_every_request(image):
    with twinstream.Engine(backend=SLOW, latency_bound=0.001) as engine:
        with pytest.raises(twinstream.Expired):
            engine(image)


def test_cancelling(slow, image):
    ahead = [slow.submit_nowait(image) for _ in range(4)]
    ticket = slow.submit_nowait(image)
    ticket.cancel()
    with pytest.raises(twinstream.Cancelled):
        ticket.wait()
    assert all(ticket.wait() for ticket in ahead)


def test_a_ticket_that_is_dropped_cancels(slow, image):
    ahead = [slow.submit_nowait(image) for _ in range(4)]
    slow.submit_nowait(image)
    assert all(ticket.wait() for ticket in ahead)
    slow(image)
    settled(slow, lambda stats: stats.cancelled == 1)


def test_a_full_queue(slow, image):
    tickets = [slow.submit_nowait(image) for _ in range(8)]
    with pytest.raises(twinstream.Full, match="slot_len"):
        slow.submit_nowait(image)
    assert slow.stats().refused.full == 1
    # Who calls waits for room.
    assert len(slow([image] * 20)) == 20
    assert all(ticket.done() for ticket in tickets)


def test_answers_that_are_kept_use_no_slot(null):
    image = np.zeros(null.image_shape, np.uint8)
    answers = null([image] * 5000)
    assert len({id(answer) for answer in answers}) == 5000
    settled(null, lambda stats: stats.slots_in_use == 0)


def test_several_devices_serve_one_queue():
    with twinstream.Engine(backend="null,null") as engine:
        image = np.zeros(engine.image_shape, np.uint8)
        assert len(engine([image] * 100)) == 100
        assert repr(engine).startswith("<Engine null,null slot_len=")
        stats = settled(engine, lambda stats: stats.completed == 100)
        assert [device.is_lost for device in stats.devices] == [False, False]
        assert sum(device.images for device in stats.devices) == 100
    with pytest.raises(ValueError, match="threads: changes nothing"):
        twinstream.Engine(backend="null,null", threads=2)
    with pytest.raises(ValueError, match="`nul`: not a backend.*did you mean `null`"):
        twinstream.Engine(backend="null,nul")


def test_images_seen_before_are_answered_from_the_cache():
    with twinstream.Engine(backend="null", cache_bytes=100_000) as engine:
        image = np.full(engine.image_shape, 7, np.uint8)
        for _ in range(3):
            engine.submit_nowait(image).wait(30)
        stats = settled(engine, lambda stats: stats.alive_len == 0 and stats.completed == 3)
        cache = stats.cache
        assert (cache.hits, cache.joined, cache.misses, cache.is_on) == (2, 0, 1, True)
        assert cache.bytes > 0 and stats.batch_lens.image_len == 1
    with pytest.raises(ValueError, match="cache_bytes is 5"):
        twinstream.Engine(backend="null", cache_bytes=5)


def test_a_lease_is_written_and_committed(network, golden):
    pixels, expected = golden
    with network.lease() as lease:
        lease.array[:] = pixels[0]
        ticket = lease.commit()
    assert np.abs(ticket.wait().logits - expected[0]).max() <= 1e-4
    for misuse in (lambda: lease.array, lease.commit):
        with pytest.raises(ValueError, match="committed or given back"):
            misuse()
    with pytest.raises(BufferError):
        memoryview(lease)


def test_a_lease_is_not_committed_while_views_are_alive(network, golden):
    pixels, expected = golden
    lease = network.lease()
    array = lease.array
    array[:] = pixels[1]
    row = array[0]
    del array
    for commit in (lease.commit, lambda: network.submit_nowait(lease)):
        with pytest.raises(BufferError, match="del array"):
            commit()
    row[0] = pixels[1, 0, 0]
    del row
    assert np.abs(network.submit_nowait(lease).wait().logits - expected[1]).max() <= 1e-4


def test_leases_give_their_slots_back(null):
    def in_use():
        gc.collect()
        return null.stats().slots_in_use

    with null.lease() as lease:
        assert in_use() == 1
    assert in_use() == 0
    lease = null.lease()
    view = memoryview(lease)
    assert (view.shape, view.format, view.readonly) == (null.image_shape, "B", False)
    del lease
    # The view keeps its place.
    view[0, 0, 0] = 7
    assert in_use() == 1
    del view
    assert in_use() == 0


def test_a_lease_is_of_its_engine(null, slow):
    with null.lease() as lease, pytest.raises(ValueError, match="a lease of this engine"):
        slow.submit_nowait(lease)


def test_draining(slow, image):
    tickets = [slow.submit_nowait(image) for _ in range(8)]
    assert slow.drain(30) and all(ticket.done() for ticket in tickets)
    with pytest.raises(twinstream.ShutDown):
        slow.submit_nowait(image)
    settled(slow, lambda stats: stats.completed == 8)


def test_draining_ends_what_takes_too_long(slow, image):
    tickets = [slow.submit_nowait(image) for _ in range(8)]
    assert not slow.drain(0.01)
    with pytest.raises(twinstream.ShutDown):
        tickets[-1].wait()


def test_closing(slow, image):
    tickets = [slow.submit_nowait(image) for _ in range(7)]
    lease = slow.lease()
    slow.close()
    slow.close()
    assert slow.closed and "closed" in repr(slow)
    with pytest.raises(twinstream.ShutDown):
        tickets[-1].wait(10)
    with pytest.raises(twinstream.ShutDown):
        lease.commit()
    for call in (slow.stats, slow.prometheus, slow.lease, lambda: slow(image)):
        with pytest.raises(twinstream.ShutDown, match="closed"):
            call()
    # What needs no device is still there.
    assert slow.labels[0] == "class 0"


def test_statistics(null):
    image = np.zeros(null.image_shape, np.uint8)
    null([image] * 100)
    stats = settled(null, lambda stats: stats.completed == 100)
    assert (stats.accepted, stats.alive_len) == (100, 0)
    assert stats.batch_lens.image_len == 100 == stats.latency.len
    assert 0 < stats.latency.p50_ns <= stats.latency.p999_ns <= stats.latency.max_ns
    assert sum(stats.started.compute.values()) == stats.batch_lens.len
    with pytest.raises(AttributeError):
        stats.completed = 0
    assert "twinstream_requests_alive 0\n" in null.prometheus()

"""The engine with what belongs to event loops.

Answers reach a loop through an inbox: the scheduling thread writes to its descriptor, and one call on the loop gives every
answer that came meanwhile to its future.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from . import _twinstream

if TYPE_CHECKING:
    from ._twinstream import Answer, Inbox, Lease, _AnyImage

_get_running_loop = asyncio.get_running_loop


class Engine(_twinstream.Engine):
    """Serves a ResNet-50 through one scheduling thread; all calls may be made from any thread.

    `path`: the weights, a safetensors file; `config`: timm's `config.json`, else the one beside the weights; `size`: height and width
    of the network's input, else the configuration's; `backend`: `cpu`, `cuda`, `cuda:INDEX`, `null` or `sim:DEVICE`, or several of
    them that serve one queue, as `cuda:0,cuda:1`; `cpu:2x1` is two teams of one thread;
    `precision`: `f32`, `bf16`, `i8`, on a GPU `f16` or `i8`; `threads` that compute; `top_k`: the device answers with so many
    classes in place of logits; `policy`: how batches are chosen, best left alone; `slot_len`: the most requests alive at a time;
    `batch_len_max`: the longest batch; `latency_bound`: a deadline for every request, in seconds; `cache_bytes`: for the answers of
    images seen before, 0 for none.
    """

    # The loop that submitted last, with its inbox; read and replaced as one.
    _current: tuple[asyncio.AbstractEventLoop, Inbox] | None = None
    _inboxes: dict[asyncio.AbstractEventLoop, Inbox] | None = None

    async def submit(
        self, image: _AnyImage | Lease, *, deadline: float | None = None, priority: int = 0
    ) -> Answer:
        """The answer to one image, or to a lease that was filled. Cancelling the task cancels the request.

        `deadline`: seconds from now; what misses it is `Expired`. `priority`: 1 before 0 before -1. Where no slot is free, `Full`.
        """
        loop = _get_running_loop()
        current = self._current
        if current is not None and current[0] is loop:
            inbox = current[1]
        else:
            inbox = self._inbox_of(loop)
        future: asyncio.Future[Answer] = loop.create_future()
        number = self._hand_in(inbox, future, image, deadline, priority)
        if number is None:
            # To be decoded or resized first, by another thread.
            start = loop.time()
            pixels = await loop.run_in_executor(None, self.prepare, image)
            if deadline is not None:
                deadline = max(0.0, deadline - (loop.time() - start))
            number = self._hand_in(inbox, future, pixels, deadline, priority)
            assert number is not None, "pixels need no more work"
        try:
            return await future
        except BaseException:
            inbox.cancel(number, future)
            raise

    def _inbox_of(self, loop: asyncio.AbstractEventLoop) -> Inbox:
        inboxes = self._inboxes
        if inboxes is None:
            inboxes = self._inboxes = {}
        inbox = inboxes.get(loop)
        if inbox is None:
            for other in [other for other in inboxes if other.is_closed()]:
                inboxes.pop(other, None)
            inbox = self._inbox()
            loop.add_reader(inbox.fileno(), inbox.drain)
            inboxes[loop] = inbox
        self._current = (loop, inbox)
        return inbox

    def close(self) -> None:
        """Ends every request that is left as `ShutDown`, and the engine with it."""
        super().close()
        inboxes, self._inboxes, self._current = self._inboxes, None, None
        for loop, inbox in (inboxes or {}).items():
            try:
                loop.call_soon_threadsafe(_end, loop, inbox)
            except RuntimeError:
                # The loop is closed: nobody waits there.
                pass

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _end(loop: asyncio.AbstractEventLoop, inbox: Inbox) -> None:
    inbox.drain()
    loop.remove_reader(inbox.fileno())

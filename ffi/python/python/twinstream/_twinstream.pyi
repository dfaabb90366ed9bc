# What the extension module has; `Engine` is completed in `_engine.py`.
import asyncio
import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, final, overload

import numpy as np
from numpy.typing import NDArray

from ._types import Class, Stats, Timing

__all__ = [
    "Answer",
    "Engine",
    "Inbox",
    "Lease",
    "Pixels",
    "Ticket",
    "plan_rates",
    "simulate",
]

class _Pillow(Protocol):
    """An image of Pillow, by what it can do."""

    @property
    def size(self) -> tuple[int, int]: ...
    def convert(self, mode: str, /) -> Any: ...
    def tobytes(self) -> bytes: ...

_AnyImage: TypeAlias = (
    NDArray[np.uint8] | str | os.PathLike[str] | bytes | memoryview | bytearray | _Pillow | Pixels
)

@final
class Answer:
    @property
    def logits(self) -> NDArray[np.float32]: ...
    def top(self, k: int = 1) -> list[Class]: ...
    @property
    def timing(self) -> Timing: ...

@final
class Ticket:
    def wait(self, timeout: float | None = None) -> Answer: ...
    def done(self) -> bool: ...
    def cancel(self) -> None: ...

@final
class Lease:
    @property
    def array(self) -> NDArray[np.uint8]: ...
    def commit(self, *, deadline: float | None = None, priority: int = 0) -> Ticket: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Pixels:
    def __new__(cls, array: NDArray[np.uint8] | memoryview | bytearray) -> Self: ...
    @property
    def array(self) -> NDArray[np.uint8]: ...

@final
class Inbox:
    def fileno(self) -> int: ...
    def drain(self) -> None: ...
    def cancel(self, number: int, future: asyncio.Future[Answer]) -> None: ...

class Engine:
    def __new__(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        size: tuple[int, int] | None = None,
        backend: str = "cpu",
        precision: str | None = None,
        threads: int | None = None,
        top_k: int | None = None,
        policy: str | None = None,
        slot_len: int | None = None,
        batch_len_max: int | None = None,
        latency_bound: float | None = None,
        cache_bytes: int = 0,
    ) -> Self: ...
    @overload
    def __call__(self, images: _AnyImage) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, images: Iterable[_AnyImage]) -> list[Answer]: ...
    def submit_nowait(
        self, image: _AnyImage | Lease, *, deadline: float | None = None, priority: int = 0
    ) -> Ticket: ...
    def lease(self) -> Lease: ...
    def prepare(self, image: _AnyImage | Lease) -> Pixels: ...
    def drain(self, timeout: float | None = None) -> bool: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    @property
    def class_count(self) -> int: ...
    @property
    def precision(self) -> str | None: ...
    def stats(self) -> Stats: ...
    def prometheus(self) -> str: ...
    def _inbox(self) -> Inbox: ...
    def _hand_in(
        self,
        inbox: Inbox,
        future: asyncio.Future[Answer],
        image: _AnyImage | Lease,
        deadline: float | None,
        priority: int,
    ) -> int | None: ...

def simulate(
    device: str,
    arrivals: str,
    policies: str,
    *,
    duration: float | str,
    latency_bound: float | str | None,
    batch_len_max: int,
    slot_len: int,
    first_fit: float,
    announced: float | str,
    seed: int,
) -> list[str]: ...
def plan_rates(
    device: str,
    latency_bound: float | str,
    policies: str,
    *,
    batch_len_max: int,
    seed: int,
) -> list[str]: ...

"""Plain values that engine, simulator and planner give. Units are in the names."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Class:
    """A class with its share of the softmax."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a request passed which stage, in nanoseconds since the engine's start, and in which batch."""

    arrival_ns: int
    upload_started_ns: int
    upload_ended_ns: int
    compute_started_ns: int
    compute_ended_ns: int
    download_started_ns: int
    download_ended_ns: int
    announced_ns: int
    batch: int
    batch_len: int
    reason: str
    """Why the batch began to compute when it did."""
    predicted_ns: int
    """How long the batch was expected to compute."""
    computed_ns: int
    """How long it computed, as the device measured it."""

    @property
    def latency_ns(self) -> int:
        """From its arrival until its answer was announced."""
        return self.announced_ns - self.arrival_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """How often leases and requests were refused, by reason."""

    full: int
    size: int
    shut_down: int
    device_lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What became of images that were looked for among those seen before."""

    hits: int
    """Their answer was kept."""
    joined: int
    """An equal image was in flight, whose answer they waited for."""
    misses: int
    bytes: int
    """Of the answers that are kept."""
    is_on: bool
    """Whether images are looked for: not without `cache_bytes`, nor while that does not pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Durations of the requests that completed."""

    len: int
    mean_ns: float
    p50_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths of the batches that were computed."""

    len: int
    image_len: int
    mean: float
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a stage costs: a fixed part, and one for each image."""

    fixed_ns: float
    per_image_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages(Generic[T]):
    """Something for each stage."""

    upload: T
    compute: T
    download: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What one device has done."""

    batches: int
    """Whose computing was started."""
    images: int
    """In them."""
    is_lost: bool
    """The others serve on without it."""
    fits: Stages[Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts since the engine's start, and its present state; at most about a millisecond old."""

    accepted: int
    completed: int
    rejected: int
    expired: int
    cancelled: int
    failed: int
    device_lost: int
    shut_down: int
    late: int
    """Completed, but after the deadline."""
    refused: Refusals
    refusal: str | None
    """Why requests are refused for good now."""
    slots_in_use: int
    slot_len: int
    alive_len: int
    waiting_len: int
    arrival_rate_hz: float
    fits: Stages[Line]
    started: Stages[dict[str, int]]
    """How often each stage was started, by reason."""
    batch_lens: Lengths
    latency: Latencies
    """From a request's commit until its answer can be seen; the next three are its parts."""
    waiting: Latencies
    computing: Latencies
    notifying: Latencies
    callback_ns: int
    uploaded_bytes: int
    downloaded_bytes: int
    cache: Cache
    devices: tuple[Device, ...]
    """In the order of the backends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """One policy's run in virtual time, beside the bounds on what any could do."""

    policy: str
    rate_hz: float
    offered: int
    completed: int
    rejected: int
    full: int
    expired: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    throughput_hz: float
    goodput_hz: float
    batch_len_mean: float
    batch_len_max: int
    bound_mean_ms: float | None
    bound_p99_in_order_ms: float | None
    bound_p99_ms: float | None
    bound_arrivals: int | None
    bound_goodput_hz: float | None
    mean_without_look_ahead_ms: float | None
    decisions: dict[str, dict[str, int]]
    """How often a stage was started, by stage and reason."""
    seed: int
    event_hash: str
    """Of every event: equal runs have equal hashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The largest rate at which a policy keeps its p99 latency within a bound; None where even images that come alone miss it."""

    policy: str
    method: str
    latency_bound_ms: float
    rate_hz: float | None
    capacity_share: float | None
    p99_ms: float | None
    batch_len_mean: float | None
    batch_len_high: int | None
    seed: int

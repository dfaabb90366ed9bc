"""The scheduler in virtual time, by the words of the command `twinstream`."""

from __future__ import annotations

import json
from collections.abc import Iterable

from . import _twinstream
from ._types import Plan, Simulation

POLICIES = "serial,jit,stream"


def _joined(policies: str | Iterable[str]) -> str:
    return policies if isinstance(policies, str) else ",".join(policies)


def simulate(
    device: str,
    arrivals: str,
    policies: str | Iterable[str] = POLICIES,
    *,
    duration: float | str = "100s",
    latency_bound: float | str | None = None,
    batch_len_max: int = 256,
    slot_len: int = 16384,
    first_fit: float = 1.0,
    announced: float | str = 0.0,
    seed: int = 1,
) -> list[Simulation]:
    """Runs policies on a simulated device in virtual time, beside the bounds: `twinstream simulate`.

    Times are words such as `5ms`, or seconds.
    """
    found = _twinstream.simulate(
        device,
        arrivals,
        _joined(policies),
        duration=duration,
        latency_bound=latency_bound,
        batch_len_max=batch_len_max,
        slot_len=slot_len,
        first_fit=first_fit,
        announced=announced,
        seed=seed,
    )
    return [Simulation(**json.loads(figures)) for figures in found]


def plan(
    device: str,
    latency_bound: float | str,
    policies: str | Iterable[str] = POLICIES,
    *,
    batch_len_max: int = 256,
    seed: int = 1,
) -> list[Plan]:
    """Finds the largest rate that keeps the p99 latency within a bound: `twinstream plan`."""
    found = _twinstream.plan_rates(
        device, latency_bound, _joined(policies), batch_len_max=batch_len_max, seed=seed
    )
    return [Plan(**json.loads(figures)) for figures in found]

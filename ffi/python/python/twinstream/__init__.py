"""ResNet-50 inference at the lowest latency the hardware allows, at every load, with nothing to tune.

    engine = twinstream.Engine("model.safetensors")
    print(engine("cat.jpg").top(3))

docs/PYTHON.md has the rest.
"""

from ._engine import Engine
from ._errors import (
    Cancelled,
    DeviceError,
    DeviceLost,
    Expired,
    Failed,
    FileError,
    Forked,
    Full,
    ImageError,
    MemoryRefused,
    ModelError,
    Rejected,
    ShutDown,
    TwinstreamError,
)
from ._simulation import plan, simulate
from ._twinstream import Answer, Lease, Pixels, Ticket
from ._types import (
    Cache,
    Class,
    Device,
    Latencies,
    Lengths,
    Line,
    Plan,
    Refusals,
    Simulation,
    Stages,
    Stats,
    Timing,
)

__all__ = [
    "Answer",
    "Cache",
    "Cancelled",
    "Class",
    "Device",
    "DeviceError",
    "DeviceLost",
    "Engine",
    "Expired",
    "Failed",
    "FileError",
    "Forked",
    "Full",
    "ImageError",
    "Latencies",
    "Lease",
    "Lengths",
    "Line",
    "MemoryRefused",
    "ModelError",
    "Pixels",
    "Plan",
    "Refusals",
    "Rejected",
    "ShutDown",
    "Simulation",
    "Stages",
    "Stats",
    "Ticket",
    "Timing",
    "TwinstreamError",
    "plan",
    "simulate",
]

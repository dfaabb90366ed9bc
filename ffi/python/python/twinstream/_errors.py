"""What can go wrong, a class a cause. Wrong arguments are TypeError or ValueError."""


class TwinstreamError(Exception):
    """The base of all that Twinstream raises by itself."""


class Full(TwinstreamError):
    """Every slot is in use: shed load, retry later, or keep fewer requests alive."""


class Expired(TwinstreamError):
    """The deadline passed before the request was computed."""


class Rejected(Expired):
    """Too much was ahead of the request as it came: it would have missed its deadline."""


class Cancelled(TwinstreamError):
    """The caller cancelled the request."""


class Failed(TwinstreamError):
    """The device failed at the request; the next may succeed."""


class DeviceLost(TwinstreamError):
    """The device is gone for good: open another engine."""


class ShutDown(TwinstreamError):
    """The engine was closed or drained, or the request was still alive as it was."""


class Forked(TwinstreamError):
    """The engine is that of the process which this one was forked off: open engines afterwards."""


class ImageError(TwinstreamError, ValueError):
    """An image cannot be decoded, or has a size that is not taken."""


class ModelError(TwinstreamError, ValueError):
    """Weights or configuration are malformed, or do not fit the network."""


class FileError(TwinstreamError, OSError):
    """A file cannot be opened or read."""


class MemoryRefused(TwinstreamError, MemoryError):
    """The system gave no memory of the kind that was asked for."""


class DeviceError(TwinstreamError):
    """The device cannot be used, or failed as the engine was opened."""

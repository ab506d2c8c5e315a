"""What the user wants of a device, and what was decided: values, without torch."""

import re
from dataclasses import dataclass
from typing import Literal

ALLOWED_DEVICES = ("auto", "cpu", "cuda", "cuda:N")
DEVICE_PATTERN = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


@dataclass(frozen=True)
class DevicePolicy:
    """What the user wants; it can be stored, and opened on a machine without CUDA.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Threads of an ask, or ``auto``.

    Raises:
        ValueError: Either is none of these.
    """

    device: str = "auto"
    threads: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if not DEVICE_PATTERN.fullmatch(self.device):
            raise ValueError(f"device: {self.device!r} is not allowed; allowed: {', '.join(ALLOWED_DEVICES)}")
        if self.threads != "auto" and (type(self.threads) is not int or self.threads < 1):
            raise ValueError(f"threads: {self.threads!r} is not allowed; allowed: auto, a whole number (at least 1)")


@dataclass(frozen=True)
class Decision:
    """Where one ask runs.

    Attributes:
        device: ``cpu`` or ``cuda:N``, as torch takes it.
        dtype: Name of the torch dtype.
        threads: Threads of torch and BLAS.
        reasons: Why ``auto`` did not choose CUDA, or why the ask left it; empty if nothing was passed over.
    """

    device: str
    dtype: str = "float64"
    threads: int = 1
    reasons: tuple[str, ...] = ()


__all__ = ["ALLOWED_DEVICES", "DEVICE_PATTERN", "Decision", "DevicePolicy"]

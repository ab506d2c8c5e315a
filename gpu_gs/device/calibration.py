"""The calibration: seconds of an ask's building blocks, measured here once and kept in a file.

    calibrated("cpu") -> Calibration | None    this process's, else the file's, else measured now; None: use constants
    calibrate("cpu") -> Calibration            measured now, whatever there is

A file belongs to one user, machine, number of usable cores or GPU model, and set of versions; anything else is
measured anew. ``GPU_GS_CALIBRATION=off`` turns it off. Nothing here fails an ask: whatever goes wrong is logged once.
"""

import functools
import hashlib
import json
import logging
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from pydantic import ValidationError

from gpu_gs.device.gpus import cuda_devices
from gpu_gs.device.measurement import Calibration, measure
from gpu_gs.device.threads import available_cores

try:
    import fcntl
except ImportError:  # Windows has no flock; two processes may then measure at the same time
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("gpu_gs")

SWITCH = "GPU_GS_CALIBRATION"
"""The environment variable that turns the calibration off."""

FORMAT = 1

BUSY_LASTS_S = 24 * 3600.0
"""How long the measurement of a busy machine is used."""

WAIT_S = 30.0
"""How long to wait for another process that is calibrating this machine."""


# ------------------------------------------------------------------------------------------------------- who asks

_LOCK = threading.RLock()
_KNOWN: dict[str, Calibration | str] = {}
"""By digest: the calibration, or why there is none. It lasts as long as the process: a decision must not change."""


def is_on() -> bool:
    """Whether ``auto`` may rest on a calibration."""
    return os.environ.get(SWITCH, "on").strip().lower() not in ("off", "0", "no", "false")


def calibrated(device: str) -> Calibration | None:
    """The calibration of the CPU or of a GPU, measured at the first question; None where there is none.

    Args:
        device: ``cpu`` or ``cuda:N``.
    """
    if not is_on():
        return None
    key = key_of(device)
    digest = digest_of(key)
    with _LOCK:
        if digest not in _KNOWN:
            _KNOWN[digest] = _or_why_not(device, lambda: _load_or_measure(device, key))
        known = _KNOWN[digest]
    return known if isinstance(known, Calibration) else None


def _or_why_not(device: str, work: Callable[[], Calibration]) -> Calibration | str:
    try:
        return work()
    except Exception as error:  # whatever it is, an ask can do without
        reason = f"the calibration of {device} failed ({type(error).__name__}: {error})"
        logger.warning("device: %s; auto goes by fixed thresholds in this process.", reason)
        return reason


def problem_of(device: str) -> str | None:
    """Why ``calibrated`` gives nothing; None if it gives something or was not asked yet."""
    if not is_on():
        return f"{SWITCH} is off"
    known = _KNOWN.get(digest_of(key_of(device)))
    return known if isinstance(known, str) else None


def calibrate(device: str) -> Calibration | None:
    """Measures now and replaces what was known; None if that fails (``problem_of`` says why)."""
    key = key_of(device)
    with _LOCK:
        found = _KNOWN[digest_of(key)] = _or_why_not(device, lambda: measure(device, key))
        if isinstance(found, str):
            return None
        if (problem := _save(found, file_of(key))) is not None:
            logger.info("The calibration cannot be kept (%s).", problem)
    return found


def _load_or_measure(device: str, key: dict[str, str]) -> Calibration:
    path = file_of(key)
    if (found := load(path, key)) is not None:
        return found
    with _one_at_a_time(path) as problem:
        if (found := load(path, key)) is not None:  # another process has measured meanwhile
            return found
        found = measure(device, key)
        problem = problem or _save(found, path)
    kept = f"cached in {path}" if problem is None else f"not cached ({problem})"
    logger.info("Calibrating this machine's %s: %.1f s, %s", device, found.took, kept)
    return found


# ------------------------------------------------------------------------------------------------------- its file


@functools.cache
def _machine() -> dict[str, str]:
    cpu = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"host": platform.node(), "cpu": cpu, "system": f"{platform.system()} {platform.machine()}"}


@functools.cache
def _versions() -> dict[str, str]:
    found = {"format": str(FORMAT), "python": platform.python_version()}
    for package in ("gpu-gs", "torch", "ax-platform", "botorch", "gpytorch", "linear-operator"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def key_of(device: str) -> dict[str, str]:
    """What a calibration depends on; two GPUs of one model share theirs."""
    return dict(_key(device, available_cores()))


@functools.cache
def _key(device: str, cores: int) -> dict[str, str]:
    key = {**_machine(), **_versions(), "cores": str(cores)}
    if device != "cpu":
        key["gpu"] = next((gpu.model for gpu in cuda_devices() if gpu.name == device), device)
    return key


def digest_of(key: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def file_of(key: dict[str, str]) -> Path:
    """Where the calibration with this key is kept."""
    from platformdirs import user_cache_path

    return user_cache_path("gpu_gs", appauthor=False) / f"calibration-{digest_of(key)}.json"


def load(path: Path, key: dict[str, str]) -> Calibration | None:
    """The file's calibration; None if it is missing, unreadable, damaged, of another key or of a busy day before."""
    try:
        found = Calibration.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    if found.key != key or not found.places or (found.busy and not 0 <= time.time() - found.measured < BUSY_LASTS_S):
        return None
    return found


def _save(found: Calibration, path: Path) -> str | None:
    """Writes the file in one step. Returns why it cannot, or None."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", suffix=".new", delete=False, encoding="utf-8"
        ) as file:
            file.write(found.model_dump_json(indent=1) + "\n")
        try:
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        return f"{path.parent}: {error.strerror or error}"
    return None


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[str | None]:
    """Waits while another process calibrates: two at once would measure each other. Yields why a file cannot be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("a")
    except OSError as error:
        yield f"{path.parent}: {error.strerror or error}"
        return
    with lock:
        if fcntl is not None:
            deadline = time.monotonic() + WAIT_S
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
                except OSError:  # a file system without locks
                    break
        yield None


__all__ = ["SWITCH", "Calibration", "calibrate", "calibrated", "file_of", "is_on", "key_of", "load", "problem_of"]

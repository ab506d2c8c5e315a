"""What a figure rests on: commit, versions, machine, device and configuration, kept with every line of results."""

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import OTHERS, on_cuda, python_of, split

PACKAGES = (
    "gpu-gs",
    "ax-platform",
    "botorch",
    "gpytorch",
    "linear-operator",
    "torch",
    "scipy",
    "numpy",
    "scikit-learn",
    "optuna",
    "xopt",
    "smac",
)
GPU_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
"""One of them is there on a Linux machine on which torch can use a GPU: of NVIDIA, of its Jetson, of WSL, of AMD."""


def environment() -> dict[str, Any]:
    """The commit and the versions in this process, the machine with its load, and the time."""
    return {
        **installed(),
        "python": platform.python_version(),
        **machine(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def record(job: Mapping[str, Any]) -> dict[str, Any]:
    """What the line of a job keeps, as far as it is known before the job runs; ``device`` is the one asked for."""
    contestant = job.get("contestant", "")
    return {
        **installed_in(python_of(contestant)),
        "machine": machine(),
        "device": device_of(contestant),
        "config": config_hash(contestant),
        "threads": job.get("threads"),
        "seed": job.get("seed"),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def installed() -> dict[str, Any]:
    """``commit`` and ``versions`` in this process."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"commit": _commit(), "versions": versions}


@functools.cache
def installed_in(python: str | None) -> dict[str, Any]:
    """``installed`` of another interpreter; without versions where it cannot say, as its jobs will fail too."""
    if python is None:
        return installed()
    code = "from gpu_gs.bench.provenance import installed; import json; print(json.dumps(installed()))"
    found = _said_by([python, "-c", code])
    return {"commit": None, "versions": {}} if found is None else json.loads(found.splitlines()[-1])


def _commit() -> str | None:
    """Of the checkout that this package is part of, with ``-dirty`` after it where the package has been changed."""
    package = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(package)]
    if not _said_by([*git, "ls-files", "errors.py"]):
        return None  # installed, perhaps below somebody else's checkout
    commit = _said_by([*git, "rev-parse", "--short", "HEAD"])
    return f"{commit}-dirty" if commit and _said_by([*git, "status", "--porcelain", "."]) else commit


def _said_by(command: list[str]) -> str | None:
    """What a command prints; None where it fails or is not there."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return process.stdout.strip() if process.returncode == 0 else None


@functools.cache
def machine() -> dict[str, Any]:
    """Architecture, processor, number of cores, GPUs; no name."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": list(gpus()),
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


@functools.cache
def gpus() -> tuple[str, ...]:
    """The GPUs on which an ask could run, by model; found out in another process, so that this one holds no memory."""
    if sys.platform == "linux" and not any(Path(name).exists() for name in GPU_FILES):
        return ()  # without the seconds that torch takes to say so
    code = "from gpu_gs.device import cuda_devices; import json; print(json.dumps([d.model for d in cuda_devices()]))"
    found = _said_by([sys.executable, "-c", code])
    return () if found is None else tuple(json.loads(found.splitlines()[-1]))


def device_of(contestant: str, answer: Mapping[str, Any] | None = None) -> str:
    """Where a contestant ran by its answer; without one, where it was to run (``auto``: it was to decide itself)."""
    if answer is not None and answer.get("devices"):
        return ", ".join(answer["devices"])
    demanded = split(contestant)[1] or ("cuda" if on_cuda(contestant) else None)
    return demanded or ("cpu" if answer is not None or contestant in OTHERS else "auto")


def config_hash(contestant: str) -> str:
    """Twelve digits that change when the contestant's settings do: a strategy's with all defaults and its device."""
    from gpu_gs.config import StrategyConfig
    from gpu_gs.errors import ConfigError

    settings: Any = contestant
    if contestant not in OTHERS:
        base, device = split(contestant)
        try:
            settings = StrategyConfig.load(base, **({} if device is None else {"device": device})).model_dump(
                mode="json"
            )
        except ConfigError:  # its job will say what is wrong; until then its text is all there is
            settings = [contestant, Path(base).read_text(errors="replace") if Path(base).is_file() else None]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

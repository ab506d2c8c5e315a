"""What ``gpu-gs doctor`` shows: versions, threads, devices, the calibration, and what follows from it."""

import os
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from gpu_gs.device.calibration import SWITCH, calibrate, calibrated, file_of, key_of, problem_of
from gpu_gs.device.decision import CUDA_FROM_N, THREADS_FROM_N, crossovers, decide, places
from gpu_gs.device.gpus import cuda_devices, reasons_cuda_is_unusable
from gpu_gs.device.policy import DevicePolicy
from gpu_gs.device.threads import available_cores, libraries

PACKAGES = (
    *("ax-platform", "botorch", "gpytorch", "linear-operator"),
    *("torch", "numpy", "scipy", "pandas", "pydantic"),
)


def describe(
    sizes: tuple[int, ...] = (50, 100, 250, 500, 1_000, 2_000, 5_000),
    d: int = 6,
    num_outputs: int = 1,
    recalibrate: bool = False,
) -> dict[str, Any]:
    """What ``gpu-gs doctor`` shows, ready for JSON.

    Args:
        sizes: Training rows for which to say what ``auto`` would choose.
        d: Parameters to assume.
        num_outputs: Modelled metrics to assume.
        recalibrate: Whether to measure anew first.

    Returns:
        Versions, cores, thread counts, BLAS libraries, GPUs in ``cuda`` or why there are none in ``cuda_problems``;
        in ``calibration`` what is measured, where it is kept, or why there is none; in ``auto`` a row for each size:
        ``device``, ``threads``, ``remarks`` in words, and ``predictions`` in seconds, a row for each place; in
        ``crossovers`` the sizes from which on ``auto`` chooses another place.
    """
    import torch

    devices = ["cpu", *{gpu.model: gpu.name for gpu in reversed(cuda_devices())}.values()]
    if recalibrate:
        for device in devices:
            calibrate(device)
    policy = DevicePolicy()
    changes = crossovers(policy, d, num_outputs)
    openmp, blas = libraries()
    return {
        "gpu_gs": _version("gpu-gs"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {package: _version(package) for package in PACKAGES},
        "cores": available_cores(),
        "cores_of_machine": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        SWITCH: os.environ.get(SWITCH),
        "blas": [
            {"library": library.internal_api, "version": library.version, "threads": library.get_num_threads()}
            for library in blas
        ],
        "openmp": [{"library": library.prefix, "threads": library.get_num_threads()} for library in openmp],
        "cuda_version": torch.version.cuda,
        "cuda_problems": list(reasons_cuda_is_unusable()),
        "cuda": [
            f"{device.name} ({device.model}, {torch.cuda.mem_get_info(index)[0] / 2**30:.1f} of "
            f"{device.memory_bytes / 2**30:.1f} GiB free)"
            for index, device in enumerate(cuda_devices())
        ],
        "calibration": {device: _calibration(device, recalibrate) for device in devices},
        "parameters": d,
        "outputs": num_outputs,
        "auto": [_choice(policy, n, d, num_outputs) for n in sizes],
        "crossovers": [{"n": n, "device": decision.device, "threads": decision.threads} for n, decision in changes],
    }


def _calibration(device: str, now: bool) -> dict[str, Any]:
    """One device's calibration, or why there is none: with one core and no GPU, nothing asks for it."""
    found = calibrated(device) if now or available_cores() > 1 or cuda_devices() else None
    if found is None:
        return {"measured": None, "problem": problem_of(device) or "there is nothing to choose"}
    return {**found.model_dump(mode="json"), "busy": found.busy, "file": str(file_of(key_of(device)))}


def _choice(policy: DevicePolicy, n: int, d: int, num_outputs: int) -> dict[str, Any]:
    decision = decide(policy, n, d, num_outputs)
    found = [place for place in places(policy, n, d, num_outputs) if place.seconds is not None]
    remarks = list(decision.reasons)
    if not found and available_cores() > 1:
        remarks.append(f"fixed threshold: one thread below n={THREADS_FROM_N}, all cores from there on")
    if not found and cuda_devices():
        remarks.append(f"fixed threshold: CUDA from rows x outputs = {CUDA_FROM_N} on, a placeholder, not measured yet")
    elif cuda_devices():
        remarks.append("predictions for a GPU have been compared with real asks on an NVIDIA H200 alone")
    return {
        "n": n,
        "outputs": num_outputs,
        "device": decision.device,
        "threads": decision.threads,
        "measured": bool(found),
        "predictions": [asdict(place) for place in found],
        "remarks": remarks,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


__all__ = ["describe"]

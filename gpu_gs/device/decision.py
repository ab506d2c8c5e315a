"""The decision: of all places that a policy allows, the one where an ask is predicted to take the least time.

Where there is no calibration (it is off, or it failed), two constants decide.
"""

import functools
import logging
from dataclasses import dataclass

from gpu_gs.device.calibration import Calibration, calibrated
from gpu_gs.device.costs import Workload, cheapest, host_seconds
from gpu_gs.device.gpus import cuda_devices, current_cuda, reasons_cuda_is_unusable
from gpu_gs.device.policy import Decision, DevicePolicy
from gpu_gs.device.threads import available_cores
from gpu_gs.errors import DeviceUnavailableError

logger = logging.getLogger("gpu_gs")

CUDA_FROM_N = 1_000
"""Training rows x outputs from which on ``auto`` takes CUDA where there is no calibration.

A placeholder, not a measurement: no crossover has been measured yet. Known is only that small n loses on CUDA, bound
by kernel launches.
"""

THREADS_FROM_N = 750
"""Training rows from which on ``auto`` takes all cores where there is no calibration, below it one thread.

Measured with 2 cores and torch 2.13: up to n=250 two BLAS threads made an ask 10 times slower than one (idle threads
spin between tiny operations); a second core paid above about 750.
"""

EXACT_BUFFERS = 10
"""n x n float64 buffers that an ask may take of a GPU's memory for each output, libraries' workspaces included.

Its own tensors are four at the most. Seen at the peak on an H200, n = 10,000: 9.1 (benchmarks/results/latency-cuda.json)."""

WORKLOAD = Workload()

_RAN_OUT: dict[str, int] = {}
"""Bytes by which an exact model has run out of a GPU's memory in this process, by device: ``auto`` asks for less."""


@dataclass(frozen=True)
class Place:
    """Where an ask can run, and what it is predicted to take there; None: no calibration."""

    device: str
    threads: int
    seconds: float | None = None


def decide(policy: DevicePolicy, n: int, d: int, num_outputs: int) -> Decision:
    """Chooses device and threads for an ask; within a process, always the same for the same arguments.

    Unless memory has run out meanwhile (``ran_out_of_memory``).

    Args:
        policy: What the user wants.
        n: Training rows.
        d: Parameters.
        num_outputs: Modelled metrics.

    Raises:
        DeviceUnavailableError: The policy demands a CUDA device that is not there; never for ``auto``.
    """
    check(policy)
    found = places(policy, n, d, num_outputs)
    against = reasons_against_cuda(n, d, num_outputs) if policy.device == "auto" else []
    predictions = [place.seconds for place in found]
    known = [seconds for seconds in predictions if seconds is not None]
    if len(found) == len(known) > 0:
        chosen = found[cheapest(known)]
        if policy.device == "auto" and chosen.device == "cpu" and not against:
            against = ["small problem: predicted to be faster on the CPU (measured on this machine)"]
    else:
        chosen = _by_constants(policy, n, num_outputs, found)
        if policy.device == "auto" and chosen.device == "cpu" and not against:
            against = [f"small problem: rows x outputs below {CUDA_FROM_N} (a placeholder, not measured yet)"]
    if policy.device == "auto":
        for reason in against:
            _log_once(f"device: auto takes the CPU: {reason}")
    return Decision(device=chosen.device, dtype="float64", threads=chosen.threads, reasons=tuple(against))


def prepare(policy: DevicePolicy) -> None:
    """Calibrates this machine, if decisions for this policy rest on it and nobody has done so before."""
    if policy.device in ("auto", "cpu"):
        places(policy, 1, 1, 1)


def places(policy: DevicePolicy, n: int, d: int, num_outputs: int) -> list[Place]:
    """Where the policy lets an ask of this size run, in the order of preference among equals; at least one.

    With predictions, if there is a choice and all devices in question are calibrated.
    """
    devices = _devices(policy)
    if policy.device == "auto":
        devices = [device for device in devices if device == "cpu" or not _reasons_of_size(device, n, d, num_outputs)]
    bare = [Place("cpu", count) for count in _thread_counts(policy)] if "cpu" in devices else []
    on_cuda = 1 if policy.threads == "auto" else policy.threads
    bare += [Place(device, on_cuda) for device in devices if device != "cpu"]
    if len(bare) == 1:
        return bare
    found: dict[str, Calibration] = {}
    for device in dict.fromkeys(["cpu", *devices]):
        calibration = calibrated(device)
        if calibration is None:
            return bare
        found[device] = calibration
    host = host_seconds(found["cpu"].operation, n, WORKLOAD)
    return [
        Place(
            place.device,
            place.threads,
            host + found[place.device].nearest(place.threads).seconds(n, d, num_outputs, WORKLOAD),
        )
        for place in bare
    ]


def crossovers(policy: DevicePolicy, d: int, num_outputs: int, up_to: int = 10_000) -> list[tuple[int, Decision]]:
    """The decisions from 1 to ``up_to`` rows, each with the n from which on it holds.

    Looked for in steps of 1 % of n: a decision that holds for less than that may be missed.
    """

    def at(n: int) -> tuple[str, int]:
        decision = decide(policy, n, d, num_outputs)
        return decision.device, decision.threads

    found = [(1, decide(policy, 1, d, num_outputs))]
    n = 1
    while n < up_to:
        before, n = n, min(n + max(1, n // 100), up_to)
        old = (found[-1][1].device, found[-1][1].threads)
        if at(n) != old:
            first = next(between for between in range(before + 1, n + 1) if at(between) != old)
            found.append((first, decide(policy, first, d, num_outputs)))
            n = first
    return found


def _devices(policy: DevicePolicy) -> list[str]:
    """The devices in question, the CPU first, then the current GPU."""
    if policy.device == "cpu":
        return ["cpu"]
    if policy.device != "auto":
        return [current_cuda() if policy.device == "cuda" else policy.device]
    if reasons_cuda_is_unusable():
        return ["cpu"]
    current = current_cuda()
    return ["cpu", current, *(gpu.name for gpu in cuda_devices() if gpu.name != current)]


def _thread_counts(policy: DevicePolicy) -> tuple[int, ...]:
    """The numbers of threads in question on the CPU, ascending."""
    if policy.threads != "auto":
        return (policy.threads,)
    calibration = calibrated("cpu") if available_cores() > 1 else None
    if calibration is None:
        return tuple(dict.fromkeys((1, available_cores())))
    return tuple(costs.threads for costs in calibration.places)


def _by_constants(policy: DevicePolicy, n: int, num_outputs: int, found: list[Place]) -> Place:
    cuda = [place for place in found if place.device != "cpu"]
    if cuda and (policy.device != "auto" or n * num_outputs >= CUDA_FROM_N):
        return cuda[0]
    cpu = [place for place in found if place.device == "cpu"]
    return cpu[0] if n < THREADS_FROM_N else cpu[-1]


# ------------------------------------------------------------------------------------------- reasons and refusals


def check(policy: DevicePolicy) -> None:
    """Makes sure that a demanded device is there; ``auto`` and ``cpu`` always are.

    Raises:
        DeviceUnavailableError: It is not; the message says why, and lists the devices that are there.
    """
    if not policy.device.startswith("cuda"):
        return
    if problems := reasons_cuda_is_unusable():
        raise DeviceUnavailableError(
            f"device: {policy.device} was demanded, but there is {'; '.join(problems)}; available: cpu. "
            "With device: auto the CPU is taken where CUDA is missing."
        )
    devices = cuda_devices()
    index = int(policy.device.partition(":")[2] or 0)
    if index >= len(devices):
        available = ", ".join(["cpu", *(f"{device.name} ({device.model})" for device in devices)])
        raise DeviceUnavailableError(f"device: {policy.device} was demanded, but is not there; available: {available}")


def reasons_against_cuda(n: int, d: int, num_outputs: int) -> list[str]:
    """Why ``auto`` cannot run an ask of this size on any GPU, however fast it would be; empty means it can.

    The texts do not name n, so that each is logged once and not once an ask.
    """
    if unusable := list(reasons_cuda_is_unusable()):
        return unusable
    largest_first = sorted(cuda_devices(), key=lambda gpu: -gpu.memory_bytes)
    by_device = [_reasons_of_size(device.name, n, d, num_outputs) for device in largest_first]
    return by_device[0] if all(by_device) else []


def _reasons_of_size(device: str, n: int, d: int, num_outputs: int) -> list[str]:
    memory = next(gpu.memory_bytes for gpu in cuda_devices() if gpu.name == device)
    wanted = bytes_of_exact_model(n, d, num_outputs)
    if wanted > memory:
        return [f"large problem: an exact model needs more than the GPU's {memory / 2**30:.1f} GiB"]
    if wanted >= _RAN_OUT.get(device, wanted + 1):
        return [f"large problem: {device} ran out of memory at this size or a smaller one"]
    return []


def bytes_of_exact_model(n: int, d: int, num_outputs: int) -> int:
    """What an exact model may take at a time."""
    return 8 * n * num_outputs * (EXACT_BUFFERS * n + d + 1)


def ran_out_of_memory(device: str, n: int, d: int, num_outputs: int) -> None:
    """Has ``auto`` keep asks of this size off a GPU for the rest of the process: each would fail twice first."""
    wanted = bytes_of_exact_model(n, d, num_outputs)
    _RAN_OUT[device] = min(wanted, _RAN_OUT.get(device, wanted))


@functools.cache
def _log_once(message: str) -> None:
    logger.info(message)


__all__ = [
    "CUDA_FROM_N",
    "THREADS_FROM_N",
    "WORKLOAD",
    "Place",
    "check",
    "crossovers",
    "decide",
    "places",
    "prepare",
    "ran_out_of_memory",
    "reasons_against_cuda",
]

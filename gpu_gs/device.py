"""Where an ask runs: device and threads are one decision, with its reasons, taken from a policy that names no machine.

    decide(policy, n, d, num_outputs) -> Decision(device, dtype, threads, reasons)
    with applied(decision): ...                       threads set, and restored whatever happens
    FallbackMemory(decision, memory_mb).after(error)  half the memory, then the CPU

Importing this module imports no torch; calling it does.
"""

import ctypes
import functools
import logging
import os
import platform
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from gpu_gs.errors import DeviceUnavailableError

logger = logging.getLogger("gpu_gs")

ALLOWED_DEVICES = ("auto", "cpu", "cuda", "cuda:N")
DEVICE_PATTERN = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")

CUDA_FROM_N = 1_000
"""Training rows x outputs from which on ``auto`` takes CUDA.

A placeholder, not a measurement: no crossover has been measured yet. Known is only that small n loses on CUDA, bound
by kernel launches. Nothing but ``auto`` reads it.
"""

THREADS_FROM_N = 750
"""Training rows from which on ``auto`` takes all cores, below it one thread.

Measured with 2 cores and torch 2.13: up to n=250 two BLAS threads made an ask 10 times slower than one (idle threads
spin between tiny operations); a second core paid above about 750.
"""

EXACT_BUFFERS = 4
"""n x n float64 buffers that an exact model may hold at a time for each output."""


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


# ---------------------------------------------------------------------------------------------------- the decision


def decide(policy: DevicePolicy, n: int, d: int, num_outputs: int) -> Decision:
    """Chooses device and threads for an ask.

    Args:
        policy: What the user wants.
        n: Training rows.
        d: Parameters.
        num_outputs: Modelled metrics.

    Raises:
        DeviceUnavailableError: The policy demands a CUDA device that is not there; never for ``auto``.
    """
    reasons: tuple[str, ...] = ()
    if policy.device == "auto":
        reasons = tuple(reasons_against_cuda(n, d, num_outputs))
        device = "cpu" if reasons else _current_cuda()
        for reason in reasons:
            _log_once(f"device: auto takes the CPU: {reason}")
    else:
        check(policy)
        device = _current_cuda() if policy.device == "cuda" else policy.device
    threads = threads_for(n, device) if policy.threads == "auto" else policy.threads
    return Decision(device=device, dtype="float64", threads=threads, reasons=reasons)


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
    """Why ``auto`` would not run an ask of this size on CUDA; empty means it would.

    The texts do not name n, so that each is logged once and not once an ask.
    """
    if unusable := list(reasons_cuda_is_unusable()):
        return unusable
    reasons = []
    if n * num_outputs < CUDA_FROM_N:
        reasons.append(f"small problem: rows x outputs below {CUDA_FROM_N} (a placeholder, not measured yet)")
    memory = min(device.memory_bytes for device in cuda_devices())
    if 8 * n * num_outputs * (EXACT_BUFFERS * n + d + 1) > memory:
        reasons.append(f"large problem: an exact model needs more than the GPU's {memory / 2**30:.1f} GiB")
    return reasons


def threads_for(n: int, device: str = "cpu") -> int:
    """How many threads ``auto`` gives an ask: one for a small problem or on CUDA, else every core it may use."""
    return 1 if device != "cpu" or n < THREADS_FROM_N else available_cores()


def available_cores() -> int:
    """Cores that this process may use: its CPU set, its container's quota and OMP_NUM_THREADS count; at least 1."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    if (quota := _container_cores()) is not None:
        limits.append(quota)
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdigit():
        limits.append(int(wanted))
    return max(1, min(limits))


@functools.cache
def _container_cores() -> int | None:
    """The CPU quota of a Linux control group (version 2), rounded up to whole cores; None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None


@functools.cache
def _log_once(message: str) -> None:
    logger.info(message)


# -------------------------------------------------------------------------------------------------------- the GPUs


@dataclass(frozen=True)
class CudaDevice:
    """A GPU: ``name`` as torch takes it, ``model`` as its maker calls it, memory in bytes."""

    name: str
    model: str
    memory_bytes: int


@functools.cache
def reasons_cuda_is_unusable() -> tuple[str, ...]:
    """Why no work can run on CUDA in this process; empty means it can. Found out once."""
    import torch

    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return (f"no CUDA device: torch {torch.__version__} is built without CUDA",)
    try:
        if not torch.cuda.is_available() or torch.cuda.device_count() == 0:
            return (f"no CUDA device: torch {torch.__version__}, built for CUDA {torch.version.cuda}, sees no GPU",)
        # A driver too old for this build, or a build without kernels for this GPU, shows only when something runs.
        matrix = torch.eye(2, dtype=torch.float64, device="cuda")
        torch.linalg.cholesky(matrix + matrix).sum().item()
    except (RuntimeError, AssertionError) as error:
        return (f"no CUDA device that works: {str(error).strip().partition(chr(10))[0] or type(error).__name__}",)
    return ()


@functools.cache
def cuda_devices() -> tuple[CudaDevice, ...]:
    """The GPUs that torch sees; none where CUDA cannot be used."""
    import torch

    if reasons_cuda_is_unusable():
        return ()
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(CudaDevice(name=f"cuda:{index}", model=properties.name, memory_bytes=properties.total_memory))
    return tuple(found)


def _current_cuda() -> str:
    import torch

    return f"cuda:{torch.cuda.current_device()}"


# --------------------------------------------------------------------------------------------------------- threads
# There are two kinds of thread counts. OpenMP's (torch's own loops) and that of the MKL inside torch belong to the
# calling thread: each ask sets and restores its own. BLAS libraries with a pool of their own (the OpenBLAS of numpy
# and of scipy) have one count for the process, which all asks in progress share: see _SharedCount.
# torch.set_num_threads is not used: it also sets, for good, what threads that are started later begin with.


class _SharedCount:
    """The BLAS thread count of the process, as set by all who are inside ``applied`` now.

    The most recent entrant's count holds; when it leaves, that of the most recent one still inside; when the last one
    leaves, what the libraries had before the first one came.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: dict[object, int] = {}  # in the order of entry
        self._before: list[int] = []

    @contextmanager
    def at(self, threads: int, libraries: list[Any]) -> Iterator[None]:
        ticket = object()
        try:
            with self._lock:
                if not self._inside:
                    self._before = [library.get_num_threads() for library in libraries]
                self._inside[ticket] = threads
                for library in libraries:
                    _set_threads(library, threads)
            yield
        finally:
            with self._lock:
                if self._inside.pop(ticket, None) is not None:
                    outer = list(self._inside.values())
                    counts = [outer[-1]] * len(libraries) if outer else self._before
                    for library, count in zip(libraries, counts, strict=True):
                        _set_threads(library, count)


_SHARED = _SharedCount()


def _set_threads(library: Any, count: int) -> None:
    """Sets a BLAS library's count. Newer threadpoolctl (seen: 3.8) obeys one thread and ignores others."""
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(count)
    if release is not None:
        release(force=True)  # else the user's own threadpool_limits would do nothing in another thread


@functools.cache
def _libraries() -> tuple[list[Any], list[Any]]:
    """threadpoolctl's handles of the OpenMP runtimes and of the BLAS libraries, found once.

    The search takes milliseconds and sees only what is loaded, so all that an ask computes with is loaded first.
    """
    import numpy  # noqa: F401 - loads its BLAS
    import scipy.linalg  # noqa: F401 - loads its BLAS
    import torch  # noqa: F401 - loads its OpenMP runtime
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().lib_controllers
    return (
        [library for library in found if library.user_api == "openmp"],
        # An OpenBLAS that runs on OpenMP is governed by OpenMP's count.
        [library for library in found if library.user_api == "blas" and _has_own_pool(library)],
    )


def _has_own_pool(library: Any) -> bool:
    return getattr(library, "threading_layer", None) != "openmp"


@functools.cache
def _set_mkl_threads() -> Any:
    """``MKL_Set_Num_Threads_Local`` of the MKL linked into torch, which threadpoolctl cannot see; None without one.

    It sets the count of the calling thread and returns the one before; 0 means "as the process". Once
    ``torch.set_num_threads`` has been called, this MKL no longer follows OpenMP's count.
    """
    import torch

    for path in sorted((Path(torch.__file__).parent / "lib").glob("*torch_cpu.*")):
        try:
            function = ctypes.CDLL(str(path)).MKL_Set_Num_Threads_Local
        except (OSError, AttributeError):
            continue
        function.argtypes, function.restype = [ctypes.c_int], ctypes.c_int
        return function
    return None


@contextmanager
def applied(decision: Decision) -> Iterator[None]:
    """Runs a block with the decision's threads; afterwards every count is what it was, exceptions included.

    It nests, and several threads may be inside at a time: torch's count is each thread's own; the BLAS libraries have
    one for the process, where the most recent entrant's holds while it is inside.
    """
    import torch

    threads = decision.threads
    openmp, blas = _libraries()
    torch.get_num_threads()  # a thread new to torch takes torch's count over here, and not inside the block
    with ExitStack() as stack:
        for library in openmp:
            stack.callback(library.set_num_threads, library.get_num_threads())
            library.set_num_threads(threads)
        if (set_mkl_threads := _set_mkl_threads()) is not None:
            stack.callback(set_mkl_threads, set_mkl_threads(threads))
        stack.enter_context(_SHARED.at(threads, blas))
        yield


# --------------------------------------------------------------------------------------------------- out of memory

_OUT_OF_MEMORY = re.compile(
    r"CUDA\b.*\bout of memory|CU(BLAS|SOLVER|SPARSE|FFT)_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation", re.IGNORECASE
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a GPU ran out of memory: this error, or one that it came from."""
    import torch

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


@dataclass(frozen=True)
class FallbackMemory:
    """An attempt at an ask, and what to try after it ran out of memory: half the memory once, then the CPU.

        attempt = FallbackMemory(decision, memory_mb)
        while True:
            try:
                return ask(attempt.decision, attempt.memory_mb)
            except Exception as error:
                following = attempt.after(error)
                if following is None:
                    raise
                attempt = following

    Attributes:
        decision: Where this attempt runs; each step adds to its ``reasons``.
        memory_mb: Memory for scoring points in one call, in MiB.
        halved_from: The full ``memory_mb``, once it has been halved.
    """

    decision: Decision
    memory_mb: int
    halved_from: int | None = None

    def after(self, error: BaseException) -> "FallbackMemory | None":
        """The next attempt; None if the error is another one or nothing is left to try. Frees torch's cache."""
        device = self.decision.device
        if device == "cpu" or not is_out_of_memory(error):
            return None
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        if self.halved_from is None and self.memory_mb > 1:
            reason = f"out of memory on {device}: tried again with half the memory for scoring points"
            return FallbackMemory(self._because(reason), self.memory_mb // 2, halved_from=self.memory_mb)
        decision = replace(self._because(f"out of memory on {device}: this ask ran on the CPU"), device="cpu")
        return FallbackMemory(decision, self.halved_from or self.memory_mb)

    def _because(self, reason: str) -> Decision:
        return replace(self.decision, reasons=(*self.decision.reasons, reason))


# ---------------------------------------------------------------------------------------------------------- doctor


def describe(
    sizes: tuple[int, ...] = (50, 100, 250, 500, 1_000, 2_000, 5_000), d: int = 6, num_outputs: int = 1
) -> dict[str, Any]:
    """What ``gpu-gs doctor`` shows, ready for JSON.

    Args:
        sizes: Training rows for which to say what ``auto`` would choose.
        d: Parameters to assume.
        num_outputs: Modelled metrics to assume.

    Returns:
        Versions, cores, thread counts, BLAS libraries, GPUs in ``cuda`` or why there are none in ``cuda_problems``,
        and in ``auto`` a row for each size: ``device``, ``threads`` and ``reasons`` in words.
    """
    import torch

    openmp, blas = _libraries()
    rows = []
    for n in sizes:
        decision = decide(DevicePolicy(), n, d, num_outputs)
        reasons = list(decision.reasons)
        if decision.device == "cpu":
            reasons.append(f"{'one thread below' if n < THREADS_FROM_N else 'all cores from'} n={THREADS_FROM_N}")
        else:
            reasons.append(f"rows x outputs from {CUDA_FROM_N} on (a placeholder, not measured yet)")
        rows.append(
            {
                "n": n,
                "outputs": num_outputs,
                "device": decision.device,
                "threads": decision.threads,
                "reasons": reasons,
            }
        )
    return {
        "gpu_gs": _version("gpu-gs"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {
            package: _version(package)
            for package in (
                *("ax-platform", "botorch", "gpytorch", "linear-operator"),
                *("torch", "numpy", "scipy", "pandas", "pydantic"),
            )
        },
        "cores": available_cores(),
        "cores_of_machine": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
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
        "cuda_measured": False,
        "auto": rows,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


__all__ = [
    "ALLOWED_DEVICES",
    "CUDA_FROM_N",
    "DEVICE_PATTERN",
    "THREADS_FROM_N",
    "CudaDevice",
    "Decision",
    "DevicePolicy",
    "FallbackMemory",
    "applied",
    "available_cores",
    "check",
    "cuda_devices",
    "decide",
    "describe",
    "is_out_of_memory",
    "reasons_against_cuda",
    "reasons_cuda_is_unusable",
    "threads_for",
]

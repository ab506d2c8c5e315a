"""Threads: how many this process may use, and a block that computes with a given number of them."""

import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gpu_gs.device.policy import Decision


def available_cores() -> int:
    """Cores that an ask may use: those of this process, and OMP_NUM_THREADS counts; at least 1."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, min(cores_of_process(), int(wanted))) if wanted.isdigit() else cores_of_process()


def cores_of_process() -> int:
    """Cores that the system lets this process and its children use: its CPU set and its container's quota count; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _container_cores()
    return max(1, count if quota is None else min(count, quota))


@functools.cache
def _container_cores() -> int | None:
    """The CPU quota of a Linux control group (version 2), rounded up to whole cores; None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None


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
def libraries() -> tuple[list[Any], list[Any]]:
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
    openmp, blas = libraries()
    torch.get_num_threads()  # a thread new to torch takes torch's count over here, and not inside the block
    with ExitStack() as stack:
        for library in openmp:
            stack.callback(library.set_num_threads, library.get_num_threads())
            library.set_num_threads(threads)
        if (set_mkl_threads := _set_mkl_threads()) is not None:
            stack.callback(set_mkl_threads, set_mkl_threads(threads))
        stack.enter_context(_SHARED.at(threads, blas))
        yield


__all__ = ["applied", "available_cores", "cores_of_process", "libraries"]

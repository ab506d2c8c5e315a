"""The run's folder: made once, held by one process at a time, its files replaced whole."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from gpu_gs.errors import TaskError
from gpu_gs.run import journal

try:
    import fcntl
except ImportError:  # Windows has no flock; two processes in one folder are then not noticed
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


def create(folder: Path) -> Path:
    """Makes the folder of a new run.

    Raises:
        TaskError: It holds something already, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        inside = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
    except OSError as error:
        raise TaskError(f"{folder}: cannot be used as the run's folder: {error.strerror or error}") from None
    if journal.NAME in inside:
        raise TaskError(f"{folder}: holds a run already; continue it with: gpu-gs resume {folder}")
    if inside:
        raise TaskError(f"{folder}: is not empty ({', '.join(inside[:3])}); choose another folder with --out")
    return folder


class Lock:
    """``with Lock(folder):`` keeps other processes out; the system lets go of it when this process ends, however.

    Raises:
        TaskError: Another process is at work in this folder, or nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK

    def __enter__(self) -> "Lock":
        try:
            self._file = self._path.open("a+")
        except OSError as error:
            raise TaskError(f"{self._path.parent}: cannot be written: {error.strerror or error}") from None
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.seek(0)
                holder = self._file.read().strip() or "unknown"
                self._file.close()
                raise TaskError(
                    f"{self._path.parent}: another process (pid {holder}) is running here; wait for it or stop it"
                ) from None
        try:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n")
            self._file.flush()
        except OSError as error:  # a full disk
            with suppress(OSError):
                self._file.close()
            raise TaskError(f"{self._path.parent}: cannot be written: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.truncate(0)
        self._file.close()  # the file stays: taking it away would let two newcomers hold two locks


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Has ``write`` fill a file beside ``path``, and puts it in its place in one step.

    Raises:
        TaskError: The disk is full, say, or read-only.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        try:
            write(beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise TaskError(f"{path}: cannot be written: {error.strerror or error}") from None


__all__ = ["LOCK", "Lock", "create", "replace"]

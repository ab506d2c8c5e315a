"""Turns on a machine: a timed job runs alone there, also when several benchmarks run at once.

Two files in the user's cache are locked. A job first takes the gate, then its turn, alone or with others, and opens the
gate again; so jobs that could run beside those that run do not keep a timed one, which holds the gate, from its turn. The
system lets go of both when the process
ends, however that ends.
"""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no flock; two benchmarks are then not kept apart
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

TIMED = ("latency", "memory", "article")
"""Kinds of jobs that need a machine to themselves."""

VARIABLE = "GPU_GS_TURNS"
"""Names the folder of the locks, in place of the user's cache; ``off`` for no turns."""

GATE = "bench-gate"
TURN = "bench-turn"
POLL_S = 0.1
SILENT_S = 1.0
"""A wait as long as this is said."""

_said: set[str] = set()
"""What was said once in this process."""


@contextmanager
def turn(timed: bool, ended: Callable[[], bool]) -> Iterator[None]:
    """Waits for its turn, and has it inside of ``with``.

    Args:
        timed: Nothing else may run meanwhile; without it, others that are not timed may.
        ended: Whether to give up waiting.

    Raises:
        RuntimeError: It was ended while it waited.
    """
    folder = folder_of_turns()
    if folder is None or fcntl is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        gate, own = (folder / name_of(GATE)).open("a+"), (folder / name_of(TURN)).open("a+")
    except OSError as error:
        _say(f"bench: {folder}: {error.strerror or error}; other benchmarks on this machine are not waited for")
        yield
        return
    with own:
        with gate:
            _take(gate, True, ended)
            _take(own, timed, ended)
        yield


def folder_of_turns() -> Path | None:
    """The folder of the locks; None where there are no turns."""
    given = os.environ.get(VARIABLE)
    if given == "off":
        return None
    if given:
        return Path(given)
    from platformdirs import user_cache_path

    return user_cache_path("gpu_gs", appauthor=False)


def name_of(lock: str) -> str:
    """The name of a lock's file: machines that share a folder do not wait for each other."""
    return f"{lock}-{platform.node() or 'unknown'}.lock"


def _take(file: IO[str], alone: bool, ended: Callable[[], bool]) -> None:
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    begun = time.monotonic()
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() - begun > SILENT_S:
                _say("bench: waits for another benchmark on this machine: what is timed runs alone")
        except OSError as error:  # a file system without locks
            _say(f"bench: {file.name}: {error.strerror or error}; other benchmarks on this machine are not waited for")
            return
        if ended():
            raise RuntimeError("the benchmark has been ended")
        time.sleep(POLL_S)


def _say(text: str) -> None:
    if text not in _said:
        _said.add(text)
        logger.warning(text)


__all__ = ["TIMED", "VARIABLE", "folder_of_turns", "turn"]

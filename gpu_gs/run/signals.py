"""Ctrl-C and SIGTERM as one exception at a safe moment; the second one ends the process at once."""

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

PATIENCE = 1.0
"""Seconds after which somebody who pressed Ctrl-C is told what the run is waiting for."""

_KINDS = (signal.SIGINT, signal.SIGTERM)
_END = b"\0"  # no signal has this number


class Interrupted(KeyboardInterrupt):
    """The user, or the system, wants the run to stop. A KeyboardInterrupt, so that no ``except Exception`` eats it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.signal = name


class Signals:
    """``with Signals() as signals:`` turns the first SIGINT or SIGTERM into ``Interrupted``.

    It is raised at once, in the objective or in the strategy, but not inside ``with signals.held():``, where it waits
    for the block's end. The second signal ends the process without another word: what the journal has is on the disk.
    Python calls no handler while compiled code runs, so signals are also counted by a thread of their own. Outside the
    main thread, where Python delivers no signals, this does nothing.

    Args:
        say: Gets a line if the first signal is not heard soon.
    """

    def __init__(self, say: Callable[[str], object] | None = None) -> None:
        self._say = say or (lambda text: None)
        self._waiting: str | None = None
        self._seen = False
        self._held = 0

    def __enter__(self) -> "Signals":
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            _ours.add(self._writer.fileno())
            self._counter = threading.Thread(target=self._count, name="gpu-gs signals", daemon=True)
            self._counter.start()
            self._before = {kind: signal.signal(kind, self._handle) for kind in _KINDS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            for which, handler in self._before.items():
                signal.signal(which, handler)
            signal.set_wakeup_fd(self._wakeup_before)
            _ours.discard(self._writer.fileno())
            self._writer.send(_END)
            self._counter.join()
            self._reader.close()
            self._writer.close()

    def _count(self) -> None:
        """Ends the process on the second signal, also while the main thread is in compiled code."""
        count, told = 0, False
        while True:
            patience = PATIENCE if count and not told else None
            if not select.select([self._reader], [], [], patience)[0]:
                told = True
                if not self._seen:
                    self._say("Stopping when the step at hand returns; Ctrl-C again ends at once.")
                continue
            byte = self._reader.recv(1)
            if byte in (b"", _END):
                return
            count += byte[0] in _KINDS  # others are somebody else's
            if count > 1:
                _abort()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._seen:
            _abort()
        self._seen = True
        name = signal.Signals(number).name
        if self._held:
            self._waiting = name
        else:
            raise Interrupted(name)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that the first signal does not cut short."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._waiting is not None and not self._held:
            name, self._waiting = self._waiting, None
            raise Interrupted(name)


def _abort() -> None:
    sys.stderr.write("\nAborted.\n")
    sys.stderr.flush()
    os._exit(130)


_ours: set[int] = set()
"""The file descriptor that signals are counted through, while they are."""


def _in_a_forked_child() -> None:
    """A worker that the objective forks gets the terminal's Ctrl-C too; it must not count as a second one here."""
    if _ours:
        _ours.clear()
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_forked_child)

__all__ = ["PATIENCE", "Interrupted", "Signals"]

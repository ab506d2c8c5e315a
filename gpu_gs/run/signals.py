"""Ctrl-C and SIGTERM as one exception at a safe moment; the second one ends the process at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Interrupted(KeyboardInterrupt):
    """The user, or the system, wants the run to stop. A KeyboardInterrupt, so that no ``except Exception`` eats it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.signal = name


class Signals:
    """``with Signals() as signals:`` turns the first SIGINT or SIGTERM into ``Interrupted``.

    It is raised at once, in the objective or in the strategy, but not inside ``with signals.held():``, where it waits
    for the block's end. The second signal ends the process without another word: what the journal has is on the disk.
    Outside the main thread, where Python delivers no signals, this does nothing.
    """

    _KINDS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._waiting: str | None = None
        self._seen = False
        self._held = 0

    def __enter__(self) -> "Signals":
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._before = {kind: signal.signal(kind, self._handle) for kind in self._KINDS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            for which, handler in self._before.items():
                signal.signal(which, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._seen:
            sys.stderr.write("\nAborted.\n")
            sys.stderr.flush()
            os._exit(130)
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


__all__ = ["Interrupted", "Signals"]

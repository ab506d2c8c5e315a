"""Stage times: who collects gets the seconds of each stage; where nobody collects, a stage costs almost nothing.

    with collect() as spans:
        with stage("fit"):
            with stage("data"):  # its time is subtracted from "fit"
                ...
            note("fit_evaluations", 9)
    spans.seconds  # {"data": 0.002, "fit": 0.011}: self time, summed over all stages of a name
    spans.facts  # {"fit_evaluations": 9}
    spans.total  # seconds of the whole block

The open stage travels in a context variable: two asks in two threads do not see each other's.
"""

from collections.abc import Callable
from contextvars import ContextVar, Token
from time import perf_counter
from types import TracebackType
from typing import Any


class Spans:
    """What a ``collect`` block has gathered.

    Attributes:
        seconds: Self time of each stage by name, summed: a nested stage's time counts for it and not for its parent.
        facts: What ``note`` attached.
        total: Seconds of the whole block, set when it ends.
        synchronize: Called at the borders of stages.
    """

    __slots__ = ("facts", "seconds", "synchronize", "total")

    def __init__(self, synchronize: Callable[[], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        self.total = 0.0
        self.synchronize = synchronize

    @property
    def other(self) -> float:
        """Seconds of the block that no stage accounts for."""
        return self.total - sum(self.seconds.values())

    def __repr__(self) -> str:
        return f"Spans(total={self.total:.6f}, seconds={self.seconds}, facts={self.facts})"


class _Frame:
    """An open block: the spans it reports to, and the seconds that blocks inside it have taken."""

    __slots__ = ("inner", "spans", "started", "token")

    def __init__(self, spans: Spans) -> None:
        self.spans = spans
        self.inner = 0.0
        self.started = 0.0
        self.token: Token[_Frame | None] | None = None

    def _open(self) -> None:
        if self.spans.synchronize is not None:
            self.spans.synchronize()
        self.token = _INNERMOST.set(self)
        self.started = perf_counter()

    def _close(self, failed: bool) -> float:
        """Ends the block and returns its seconds; after a failure, work queued on a device is not waited for."""
        try:
            if not failed and self.spans.synchronize is not None:
                self.spans.synchronize()
        finally:
            elapsed = perf_counter() - self.started
            assert self.token is not None
            _INNERMOST.reset(self.token)
        return elapsed


_INNERMOST: ContextVar[_Frame | None] = ContextVar("gpu_gs_telemetry", default=None)


class collect(_Frame):
    """Gathers the stages of the block in the ``Spans`` that it yields; the innermost collector gets them.

    Args:
        synchronize: Called at the borders of each stage, ``torch.cuda.synchronize`` on CUDA: a stage is then charged
            for the work that it queued.
    """

    __slots__ = ()

    def __init__(self, synchronize: Callable[[], None] | None = None) -> None:
        super().__init__(Spans(synchronize))

    def __enter__(self) -> Spans:
        self._open()
        return self.spans

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.spans.total = self._close(failed=kind is not None)


class _Stage(_Frame):
    __slots__ = ("name", "parent")

    def __init__(self, name: str, parent: _Frame) -> None:
        super().__init__(parent.spans)
        self.name = name
        self.parent = parent

    def __enter__(self) -> None:
        self._open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        elapsed = self._close(failed=kind is not None)
        seconds = self.spans.seconds
        seconds[self.name] = seconds.get(self.name, 0.0) + elapsed - self.inner
        self.parent.inner += elapsed


class _Nothing:
    """The stage of those who are not being timed."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


_NOTHING = _Nothing()


def stage(name: str) -> _Stage | _Nothing:
    """A context manager that charges its block to the stage ``name`` of the innermost collector, if there is one."""
    parent = _INNERMOST.get()
    return _NOTHING if parent is None else _Stage(name, parent)


def note(key: str, value: Any) -> None:
    """Attaches a fact to the innermost collector; the last value of a key stays. Without a collector: nothing."""
    frame = _INNERMOST.get()
    if frame is not None:
        frame.spans.facts[key] = value


DEVICE_PREFIX = "device:"
"""Of the reasons why an ask ran where it did; others say why a fast part was not used."""

REASON_COLUMNS = ("reasons", "device_reasons")


def reason_columns(reasons: list[str]) -> dict[str, str]:
    """An ask's reasons as cells of a table, those of the device apart: without a GPU, ``auto`` has one on every ask."""
    of_device = [reason for reason in reasons if reason.startswith(DEVICE_PREFIX)]
    others = [reason for reason in reasons if not reason.startswith(DEVICE_PREFIX)]
    return dict(zip(REASON_COLUMNS, ("; ".join(others), "; ".join(of_device)), strict=True))


__all__ = ["Spans", "collect", "note", "stage"]

"""The ask in progress: which ask this is, on which device, and what it has learned about itself so far.

The node opens an ``Ask``; the adapter, the generator and the surrogate below it read it. It travels in a context
variable, so that two clients in two threads do not see each other's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from gpu_gs.device import Decision


@dataclass
class Ask:
    """One ask of a model node.

    Attributes:
        decision: Device, dtype and threads of this ask.
        index: How many trials this node had produced before.
        memory_mb: Memory for scoring points in one call, in MiB, if it is not what the configuration says.
        halved: Whether this is the second try of an ask that ran out of memory: batches get half of what they got.
        attempt: The de-duplication attempt, from 0.
        proposed: The candidates of the attempts so far, as the model sees them.
        is_tried: Which points, as the model sees them, would be repetitions; see ``WarmTorchAdapter.is_tried``.
        reasons: Why a fast part could not be used, in the order found, without repetition.
    """

    decision: Decision
    index: int = 0
    attempt: int = 0
    memory_mb: int | None = None
    halved: bool = False
    proposed: list[Any] = field(default_factory=list)
    is_tried: Any = None
    reasons: list[str] = field(default_factory=list)

    def because(self, reasons: list[str]) -> None:
        self.reasons.extend(reason for reason in reasons if reason not in self.reasons)


_CURRENT: ContextVar[Ask | None] = ContextVar("gpu_gs_ask", default=None)


def current() -> Ask | None:
    """The ask in progress in this thread, or None outside of one (a fit for an analysis, say)."""
    return _CURRENT.get()


@contextmanager
def in_progress(ask: Ask) -> Iterator[Ask]:
    token = _CURRENT.set(ask)
    try:
        yield ask
    finally:
        _CURRENT.reset(token)

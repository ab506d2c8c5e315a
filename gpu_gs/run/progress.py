"""What a person at a terminal sees while a run goes on; a program, or a log file, sees nothing."""

import sys
from types import TracebackType
from typing import Any

from gpu_gs.run.goal import Goal

WIDE = 100
"""Columns of a terminal from which there is room for a bar and the goal's name."""


class Progress:
    """A line on stderr: trial, best so far, seconds in the objective and in the strategy, device.

    Args:
        goal: What is optimized, for the wording.
        total: Trials wanted.
        shown: Whether to show it; by default, where stderr is a terminal.
    """

    def __init__(self, goal: Goal, total: int, shown: bool | None = None) -> None:
        self._goal = goal
        self._total = total
        self._bar: Any = None
        self._task: Any = None
        self.objective_seconds = 0.0
        self.strategy_seconds = 0.0
        self._best = ""
        self._device = ""
        self._doing = ""
        if sys.stderr.isatty() if shown is None else shown:
            self._bar = _bar()

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._total, facts="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(
        self,
        doing: str,
        done: int,
        total: int | None = None,
        *,
        best: float | None = None,
        objective: float = 0.0,
        strategy: float = 0.0,
        device: str | None = None,
    ) -> None:
        """What is being done, how far it is, and seconds to add to the sums."""
        self.objective_seconds += objective
        self.strategy_seconds += strategy
        if best is not None:
            self._best = self._in_words(best)
        if device is not None:
            self._device = device
        if self._bar is not None:
            if "random search" in (doing, self._doing) and doing != self._doing:
                self._bar.reset(self._task)  # its trials take another time: what is left is estimated anew
            self._bar.update(
                self._task, description=doing, completed=done, total=total or self._total, facts=self._facts()
            )
        self._doing = doing

    def say(self, text: str) -> None:
        """A line above the bar, where there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)

    def _in_words(self, best: float) -> str:
        if best != best:
            return "none feasible yet"
        name = "hypervolume" if self._goal.several else self._goal.singles[0].label
        return f"{'best' if self._narrow else name} {best:.5g}"

    @property
    def _narrow(self) -> bool:
        return self._bar is not None and self._bar.console.width < WIDE

    def _facts(self) -> str:
        parts = [
            self._best,
            f"objective {self.objective_seconds:.0f} s",
            f"strategy {self.strategy_seconds:.1f} s",
            self._device,
        ]
        return " · ".join(part for part in parts if part)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.progress import Task as RichTask
    from rich.table import Column
    from rich.text import Text

    class Facts(ProgressColumn):
        """Cut off at the end where a line is too short; the other columns stay whole."""

        def render(self, task: RichTask) -> Text:
            return Text(task.fields["facts"], no_wrap=True, overflow="ellipsis")

    console = Console(stderr=True)
    return RichProgress(
        TextColumn("{task.description}"),
        *([BarColumn(bar_width=10)] if console.width >= WIDE else []),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        Facts(Column(no_wrap=False)),
        console=console,
    )


__all__ = ["WIDE", "Progress"]

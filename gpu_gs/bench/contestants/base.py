"""What a contestant is, and what one file of this package says about it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gpu_gs.bench.cases import DataKind
from gpu_gs.bench.environments import Environment
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import Choice, Float, Point
from gpu_gs.bench.words import DATA_WORDS

Outcomes = Mapping[str, float]
"""The observed values of all metrics of a point, by name."""


BEYOND_A_BOX: dict[str, Callable[[Problem], bool]] = {
    "integers or choices": lambda problem: not all(isinstance(p, Float) for p in problem.space.parameters),
    "log scales": lambda problem: any(not isinstance(p, Choice) and p.log for p in problem.space.parameters),
    "linear constraints": lambda problem: bool(problem.space.constraints),
    "outcome constraints": lambda problem: bool(problem.constraints),
    "constraints relative to a status quo": lambda problem: problem.status_quo is not None,
    "several objectives": lambda problem: problem.has_several_objectives,
    "a scalarized objective": lambda problem: problem.weights is not None,
    "dependent parameters": lambda problem: bool(problem.space.branches),
    "derived parameters": lambda problem: bool(problem.space.derived),
}
"""What a problem can have besides one objective over floats in a box."""


class Contestant(ABC):
    """One run of one optimizer on one problem.

    Attributes:
        takes: Of the keys of ``BEYOND_A_BOX``, those that the optimizer can handle.
    """

    takes: ClassVar[frozenset[str]] = frozenset(BEYOND_A_BOX)

    @classmethod
    def lacks(cls, problem: Problem) -> list[str]:
        """What the problem has and the optimizer cannot handle."""
        return [what for what, has in BEYOND_A_BOX.items() if has(problem) and what not in cls.takes]

    def check(self, problem: Problem) -> None:
        """Refuses what the optimizer cannot take.

        Raises:
            ValueError: The problem has some of it.
        """
        if lacks := self.lacks(problem):
            raise ValueError(f"{type(self).__name__} does not take {' and '.join(lacks)}")

    @abstractmethod
    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        """Begins with these evaluations known; not timed.

        Raises:
            ValueError: The optimizer cannot take this kind of problem.
        """

    @abstractmethod
    def ask(self, count: int = 1) -> list[Point]:
        """The next points, all of them before any of their values is known."""

    @abstractmethod
    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        """The outcomes of the points asked for first of those that have none yet."""

    def store(self, path: Path) -> None:
        """Has everything from the start on written into a database in this file.

        Raises:
            NotImplementedError: The optimizer stores nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} stores nothing")

    def report(self, data: DataKind) -> None:
        """Has all evaluations from the start on reported as this kind of data.

        Raises:
            NotImplementedError: The optimizer is told one value of each metric, and no more.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no {DATA_WORDS[data]}")

    def drop(self) -> None:
        """Gives all points that have no outcomes yet up."""
        raise NotImplementedError

    def details(self) -> list[dict[str, Any]]:
        """What the optimizer itself recorded, a row an ask; empty if nothing."""
        return []

    def state_bytes(self) -> int:
        """Size of what the optimizer stores to go on in another process, as JSON."""
        raise NotImplementedError

    @property
    def answers_best(self) -> bool:
        """Whether there is a question for the best parameters."""
        return type(self).best is not Contestant.best

    def best(self) -> Any:
        """The best parameters, or the front of several objectives; None while nothing is feasible.

        Raises:
            NotImplementedError: The optimizer has no such question.
        """
        raise NotImplementedError(f"{type(self).__name__} is not asked for the best parameters")


@dataclass(frozen=True)
class Entry:
    """A contestant that is no strategy of gpu_gs: a module of this package has a tuple of them, ``ENTRIES``.

    Attributes:
        name: As given on the command line and in results.
        label: How tables and pictures call it.
        colour: Its colour in pictures, as #rrggbb.
        build: Its class, made without arguments; what it needs is imported in ``start`` at the earliest.
        environment: What it needs beyond gpu_gs's own dependencies; None: nothing.
        extra: The extra of gpu_gs that installs it too; None: there is none.
    """

    name: str
    label: str
    colour: str
    build: type[Contestant]
    environment: Environment | None = None
    extra: str | None = None

    def suits(self, problem: Problem) -> str | None:
        """Why it cannot take part in this problem; None if it can."""
        lacks = self.build.lacks(problem)
        return f"{self.name} does not take {' and '.join(lacks)} here, which {problem.name} has" if lacks else None

"""What the regret benchmark runs: problems, each with its numbers of evaluations and a way to ask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Case:
    """How a problem is run: so many evaluations, the first of them ``initial`` Sobol points that all contestants share.

    ``batch`` candidates are asked for at once, and all are told before the next ask; ``pending`` other trials run
    during each ask.
    """

    problem: str
    evaluations: int = 60
    initial: int = 10
    batch: int = 1
    pending: int = 0

    @property
    def name(self) -> str:
        """The problem, with what is unusual about its asks: ``hartmann6-batch4``."""
        batch = f"-batch{self.batch}" if self.batch > 1 else ""
        return f"{self.problem}{batch}{f'-pending{self.pending}' if self.pending else ''}"

    def job(self, contestant: str, seed: int) -> dict[str, Any]:
        """The job of a run; it names what is unusual only, so that older answers still count."""
        unusual = {"batch": self.batch} if self.batch > 1 else {}
        unusual |= {"pending": self.pending} if self.pending else {}
        return {
            "kind": "regret",
            "problem": self.problem,
            "contestant": contestant,
            "seed": seed,
            "evaluations": self.evaluations,
            "initial": self.initial,
            **unusual,
            "threads": 1,
        }

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> "Case":
        return cls(job["problem"], job["evaluations"], job["initial"], job.get("batch", 1), job.get("pending", 0))


KINDS = (
    Case("pressurevessel", 50, 10),
    Case("speedreducer", 46, 16),
    Case("constrained-hartmann6", 54, 14),
    Case("hartmann6-linear", 44, 14),
    Case("branincurrin", 36, 6),
    Case("dtlz2", 44, 14),
    Case("vehiclesafety", 42, 12),
    Case("constrained-branincurrin", 36, 6),
    Case("ackleymixed", 60, 20),
    Case("hartmann6-discrete", 54, 14),
    Case("rosenbrock10-discrete", 60, 20),
    Case("hartmann6", 54, 14, batch=4),
    Case("hartmann6", 62, 14, batch=8),
    Case("hartmann6", 54, 14, pending=4),
)
"""All kinds of problems: 2 (d + 1) initial points, 20 at most, and 30 to 48 evaluations more."""

POOL = ("hartmann6", "branin", "levy4", "rosenbrock4", "ackley10")
CLAIM = tuple(Case(name) for name in (*POOL, *(f"{name}-noisy" for name in POOL)))


@dataclass(frozen=True)
class Suite:
    """Cases that are run and pooled together."""

    cases: tuple[Case, ...]
    seeds: int


SUITES = {"claim": Suite(CLAIM, seeds=20), "kinds": Suite(KINDS, seeds=10)}


def cases_of(
    suite: str,
    problems: Sequence[str] | None = None,
    evaluations: int | None = None,
    initial: int | None = None,
    batch: int | None = None,
    pending: int | None = None,
) -> list[Case]:
    """The cases of a suite, or of these problems, with what is not None in place of their own.

    Args:
        suite: A name in ``SUITES``.
        problems: Names of problems or of cases; a problem has the length of its case in this suite or the other one, or
            60 evaluations, 10 of them initial.
        evaluations: Of each run.
        initial: Of these.
        batch: Candidates of an ask.
        pending: Other trials that run during each ask.
    """
    cases = list(SUITES[suite].cases)
    if problems:
        known: dict[str, Case] = {}
        for each in (suite, *SUITES):
            for case in SUITES[each].cases:
                known.setdefault(case.name, case)
        cases = [known.get(name, Case(name)) for name in problems]
    given = {"evaluations": evaluations, "initial": initial, "batch": batch, "pending": pending}
    changes: Any = {key: value for key, value in given.items() if value is not None}
    return list({case.name: case for case in (replace(case, **changes) for case in cases)}.values())

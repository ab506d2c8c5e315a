"""What the regret benchmark runs: a problem with its numbers of evaluations and a way to ask; and its jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DataKind = Literal["known_noise", "missing_metrics", "curves", "batch_trials"]
"""What is reported of an evaluation besides one value of each metric, or in its place.

known_noise      the problem's noise, as the standard error of every value
missing_metrics  not the last metric that is modelled, on every fourth trial
curves           a learning curve of three values of each metric, the last of which is the observed one
batch_trials     what is known at the start is in batch trials of four arms with weights, what is asked for in single ones
"""


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

    def job(self, contestant: str, seed: int, limit: float | None = None) -> dict[str, Any]:
        """The job of a run; it names what is unusual only, so that older answers still count.

        Args:
            contestant: Who runs.
            seed: Of the initial points and of the contestant.
            limit: Seconds after which the run is ended; None: never.
        """
        unusual: dict[str, Any] = {"batch": self.batch} if self.batch > 1 else {}
        unusual |= {"pending": self.pending} if self.pending else {}
        unusual |= {"limit": limit} if limit is not None else {}
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

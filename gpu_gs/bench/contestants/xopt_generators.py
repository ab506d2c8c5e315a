"""Xopt's Bayesian generators, with their defaults: expected improvement, and MOBO for several objectives.

What Xopt does not do here: integers and choices (it tries the first 512 combinations of them and leaves the rest out),
linear constraints, and one objective under outcome constraints (its expected improvement raises an error while no
feasible point is known; MOBO does not). Points that run are not told to its model.
"""

from collections.abc import Sequence
from typing import Any

from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.environments import Environment
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import Float, Point


class XoptContestant(Contestant):
    """A generator of Xopt: data in, points out."""

    takes = frozenset({"outcome constraints", "several objectives"})

    @classmethod
    def lacks(cls, problem: Problem) -> list[str]:
        found = super().lacks(problem)
        if problem.constraints and len(problem.objectives) == 1:
            found.append("outcome constraints with one objective")
        return found

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        from xopt.generators.bayesian import ExpectedImprovementGenerator, MOBOGenerator
        from xopt.vocs import VOCS

        self.check(problem)
        self.names = problem.space.names
        vocs = VOCS(
            variables={
                name: [parameter.low, parameter.high]
                for name, parameter in zip(self.names, problem.space.parameters, strict=True)
                if isinstance(parameter, Float)
            },
            objectives=dict.fromkeys(problem.objectives, "MINIMIZE"),
            constraints={name: ["GREATER_THAN", 0.0] for name in problem.constraints},
        )
        self.generator: Any
        if problem.reference_point is None:
            self.generator = ExpectedImprovementGenerator(vocs=vocs)
        else:
            reference = dict(zip(problem.objectives, problem.reference_point, strict=True))
            self.generator = MOBOGenerator(vocs=vocs, reference_point=reference)
        self.seed, self.asks = seed, 0
        self.running: list[Point] = []
        self._add(points, outcomes)

    def ask(self, count: int = 1) -> list[Point]:
        from botorch.utils.sampling import manual_seed

        with manual_seed(self.seed * 100_003 + self.asks):
            found = self.generator.generate(count)
        self.asks += 1
        asked = [[float(each[name]) for name in self.names] for each in found]
        self.running += asked
        return asked

    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        told = [self.running.pop(0) for _ in outcomes]
        self._add(told, outcomes)

    def _add(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        import pandas as pd

        rows = [
            {**dict(zip(self.names, point, strict=True)), **known}
            for point, known in zip(points, outcomes, strict=True)
        ]
        self.generator.add_data(pd.DataFrame(rows))


ENTRIES = (
    Entry(
        "xopt",
        label="Xopt",
        colour="#8e4871",
        build=XoptContestant,
        environment=Environment("xopt", module="xopt", requirements=("xopt>=3.2,<4",)),
    ),
)

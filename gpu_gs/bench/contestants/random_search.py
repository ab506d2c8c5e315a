"""Random search: what every optimizer must beat."""

from collections.abc import Sequence

from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import Point


class RandomContestant(Contestant):
    """Uniform random points that meet the linear constraints."""

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        import numpy as np

        self.rng = np.random.default_rng([seed, 1])
        self.space = problem.space

    def ask(self, count: int = 1) -> list[Point]:
        return [self.space.random_point(self.rng) for _ in range(count)]

    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        pass


ENTRIES = (Entry("random", label="random", colour="#9aa1ab", build=RandomContestant),)

"""Optuna's samplers."""

from collections.abc import Sequence
from typing import Any

from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import Float, Point


class OptunaContestant(Contestant):
    """Optuna's GPSampler with its defaults."""

    takes = frozenset()

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        import warnings

        import optuna

        self.check(problem)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        (self.objective,) = problem.objectives
        self.bounds = {
            name: (parameter.low, parameter.high)
            for name, parameter in zip(problem.space.names, problem.space.parameters, strict=True)
            if isinstance(parameter, Float)
        }
        distributions = {name: optuna.distributions.FloatDistribution(*bounds) for name, bounds in self.bounds.items()}
        self.study = optuna.create_study(
            sampler=optuna.samplers.GPSampler(seed=seed, n_startup_trials=max(len(points), 1))
        )
        for point, known in zip(points, outcomes, strict=True):
            self.study.add_trial(
                optuna.trial.create_trial(
                    params=dict(zip(self.bounds, point, strict=True)),
                    distributions=distributions,
                    value=known[self.objective],
                )
            )
        self.running: list[Any] = []

    def ask(self, count: int = 1) -> list[Point]:
        points: list[Point] = []
        for _ in range(count):
            trial = self.study.ask()
            points.append([trial.suggest_float(name, *bounds) for name, bounds in self.bounds.items()])
            self.running.append(trial)
        return points

    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        for known in outcomes:
            self.study.tell(self.running.pop(0), known[self.objective])


ENTRIES = (
    Entry(
        "optuna",
        label="Optuna",
        colour="#f28e2b",
        build=OptunaContestant,
        module="optuna",
        requirements=("optuna>=5,<6",),
        extra="optuna",
    ),
)

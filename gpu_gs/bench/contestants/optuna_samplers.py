"""Optuna's samplers, with their defaults: the Gaussian process of GPSampler, and the Parzen estimators of TPESampler.

Both model all kinds of parameters, outcome constraints and several objectives. Neither knows linear constraints among
the parameters. They take over right after the initial points.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.environments import Environment
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import Choice, Float, Parameter, Point


class OptunaContestant(Contestant):
    """A study with one of Optuna's samplers, asked and told."""

    takes = frozenset({"integers or choices", "log scales", "outcome constraints", "several objectives"})

    @abstractmethod
    def sampler(self, seed: int, startup: int) -> Any:
        """The sampler, which models what it knows from ``startup`` trials on."""

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        import warnings

        import optuna

        self.check(problem)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        self.problem = problem
        self.parameters = dict(zip(problem.space.names, problem.space.parameters, strict=True))
        self.distributions = {name: _distribution(parameter) for name, parameter in self.parameters.items()}
        self.study = optuna.create_study(
            directions=["minimize"] * len(problem.objectives), sampler=self.sampler(seed, startup=max(len(points), 1))
        )
        for point, known in zip(points, outcomes, strict=True):
            told = {name: _told(p, x) for (name, p), x in zip(self.parameters.items(), point, strict=True)}
            self.study.add_trial(
                optuna.trial.create_trial(
                    params=told,
                    distributions=self.distributions,
                    values=[known[name] for name in problem.objectives],
                    constraints={name: -known[name] for name in problem.constraints},
                )
            )
        self.running: list[Any] = []

    def ask(self, count: int = 1) -> list[Point]:
        points: list[Point] = []
        for _ in range(count):
            trial = self.study.ask(self.distributions)
            points.append([_asked(parameter, trial.params[name]) for name, parameter in self.parameters.items()])
            self.running.append(trial)
        return points

    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        for known in outcomes:
            trial = self.running.pop(0)
            for name in self.problem.constraints:
                trial.set_constraint(name, -known[name])  # holds where it is not above zero
            self.study.tell(trial, [known[name] for name in self.problem.objectives])

    def best(self) -> Any:
        """The best observed parameters, or the front; None while nothing is feasible."""
        if len(self.problem.objectives) > 1:
            return [trial.params for trial in self.study.best_trials]
        try:
            return self.study.best_params
        except ValueError:  # no trial is feasible
            return None


class GPSamplerContestant(OptunaContestant):
    """Optuna's GPSampler."""

    def sampler(self, seed: int, startup: int) -> Any:
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed, n_startup_trials=startup)


class TPESamplerContestant(OptunaContestant):
    """Optuna's TPESampler."""

    def sampler(self, seed: int, startup: int) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed, n_startup_trials=startup)


def _distribution(parameter: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choice):
        if parameter.ordered:
            return IntDistribution(0, len(parameter.values) - 1)  # the place in the order
        return CategoricalDistribution(parameter.values)
    if isinstance(parameter, Float):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log)


def _told(parameter: Parameter, value: Any) -> Any:
    return parameter.values.index(value) if isinstance(parameter, Choice) and parameter.ordered else value


def _asked(parameter: Parameter, value: Any) -> Any:
    return parameter.values[value] if isinstance(parameter, Choice) and parameter.ordered else value


ENVIRONMENT = Environment("optuna", module="optuna", requirements=("optuna>=5,<6",))
ENTRIES = (
    Entry("optuna", "Optuna GP", "#e69f00", GPSamplerContestant, environment=ENVIRONMENT, extra="optuna"),
    Entry("tpe", "Optuna TPE", "#b7b766", TPESamplerContestant, environment=ENVIRONMENT, extra="optuna"),
)

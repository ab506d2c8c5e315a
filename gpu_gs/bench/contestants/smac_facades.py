"""SMAC3's facades, with their defaults: a random forest, which its authors advise for tuning, and a Gaussian process.

The forest is fitted again after every eighth point, SMAC's default; the Gaussian process after each. Both take all kinds
of parameters, and several objectives by ParEGO. They know neither linear nor outcome constraints, and learn nothing
of the points that run but not to ask for them again. Each point is evaluated once: SMAC's repetitions of the best ones
are off, as all contestants have the same number of evaluations. Nothing is saved on the disk.

SMAC goes through sets: a run repeats only in a process of the same ``PYTHONHASHSEED``. Its forest has as many threads as
there are cores, or as ``LOKY_MAX_CPU_COUNT`` says.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.environments import Environment
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import Choice, Float, Parameter, Point


class SmacContestant(Contestant):
    """A facade of SMAC3, asked and told."""

    takes = frozenset({"integers or choices", "log scales", "several objectives"})

    @abstractmethod
    def facade(self) -> Any:
        """The class of the facade."""

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        import logging
        import tempfile
        from pathlib import Path

        from ConfigSpace import ConfigurationSpace
        from smac import Scenario
        from smac.multi_objective.parego import ParEGO

        self.check(problem)
        logging.getLogger("smac").setLevel(logging.ERROR)
        self.problem = problem
        self.parameters = dict(zip(problem.space.names, problem.space.parameters, strict=True))
        self.space = ConfigurationSpace(seed=seed)
        self.space.add([_hyperparameter(name, parameter) for name, parameter in self.parameters.items()])
        facade = self.facade()
        several = len(problem.objectives) > 1
        with tempfile.TemporaryDirectory() as folder:  # SMAC writes down what it starts with
            scenario = Scenario(
                self.space,
                objectives=list(problem.objectives) if several else problem.objectives[0],
                deterministic=True,
                output_directory=Path(folder),
                seed=seed,
            )
            self.smac = facade(
                scenario,
                initial_design=facade.get_initial_design(scenario, n_configs=0),
                multi_objective_algorithm=ParEGO(scenario) if several else None,
                logging_level=False,
                overwrite=True,
            )
        self.running: list[Any] = []
        self._start_from(points, outcomes)

    def _start_from(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        from ConfigSpace import Configuration
        from smac.runhistory.dataclasses import TrialInfo

        for point, known in zip(points, outcomes, strict=True):
            values = dict(zip(self.parameters, point, strict=True))
            self._tell(TrialInfo(Configuration(self.space, values=values), seed=0), known)

    def ask(self, count: int = 1) -> list[Point]:
        asked = [self.smac.ask() for _ in range(count)]
        self.running += asked
        return [
            [_of_kind(parameter, trial.config[name]) for name, parameter in self.parameters.items()] for trial in asked
        ]

    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        for known in outcomes:
            self._tell(self.running.pop(0), known)

    def _tell(self, trial: Any, known: Outcomes) -> None:
        from smac.runhistory.dataclasses import TrialValue

        values = [known[name] for name in self.problem.objectives]
        self.smac.tell(trial, TrialValue(cost=values if len(values) > 1 else values[0]), save=False)


class SmacForestContestant(SmacContestant):
    """HyperparameterOptimizationFacade."""

    def facade(self) -> Any:
        from smac import HyperparameterOptimizationFacade

        return HyperparameterOptimizationFacade


class SmacGPContestant(SmacContestant):
    """BlackBoxFacade."""

    def facade(self) -> Any:
        from smac import BlackBoxFacade

        return BlackBoxFacade


def _hyperparameter(name: str, parameter: Parameter) -> Any:
    from ConfigSpace import CategoricalHyperparameter, OrdinalHyperparameter
    from ConfigSpace import Float as FloatHyperparameter
    from ConfigSpace import Integer as IntegerHyperparameter

    if isinstance(parameter, Choice):
        if parameter.ordered:
            return OrdinalHyperparameter(name, parameter.values)
        return CategoricalHyperparameter(name, parameter.values)
    kind = FloatHyperparameter if isinstance(parameter, Float) else IntegerHyperparameter
    return kind(name, (parameter.low, parameter.high), log=parameter.log)


def _of_kind(parameter: Parameter, value: Any) -> Any:
    """ConfigSpace gives NumPy's numbers and text back."""
    if isinstance(parameter, Choice):
        return next(known for known in parameter.values if known == value)
    return float(value) if isinstance(parameter, Float) else int(value)


ENVIRONMENT = Environment("smac", module="smac", requirements=("smac>=2.4,<3",))
ENTRIES = (
    Entry("smac", "SMAC", "#c01432", SmacForestContestant, environment=ENVIRONMENT),
    Entry("smac-gp", "SMAC GP", "#9167ff", SmacGPContestant, environment=ENVIRONMENT),
)

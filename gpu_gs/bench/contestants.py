"""Optimizers behind one small interface: start with known points, ask, tell.

A contestant's name is ``reference`` (stock Ax), ``optuna``, ``random``, ``ax-random``, or a preset or YAML file of
gpu_gs; the strategies take a device behind an @: ``fast@cpu``, ``reference@cuda``.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import AtMost, Choice, Float, Parameter, Point
from gpu_gs.config import closest, presets
from gpu_gs.device import DEVICE_PATTERN

OTHERS = ("optuna", "random", "ax-random")
"""Contestants that are no strategy of gpu_gs."""


Outcomes = Mapping[str, float]
"""The observed values of all metrics of a point, by name."""


class Contestant(ABC):
    """One run of one optimizer on one problem."""

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

    def drop(self) -> None:
        """Gives all points that have no outcomes yet up."""
        raise NotImplementedError

    def details(self) -> list[dict[str, Any]]:
        """What the optimizer itself recorded, a row an ask; empty if nothing."""
        return []

    def state_bytes(self) -> int:
        """Size of what the optimizer stores to go on in another process, as JSON."""
        raise NotImplementedError

    def best(self) -> Any:
        """The best parameters, or the front of several objectives, by the model; None where there is no such question."""
        return None


class AxContestant(Contestant):
    """A strategy under Ax's Client, built from a configuration of gpu_gs (``reference`` is stock Ax)."""

    def __init__(self, config: str, overrides: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.overrides = dict(overrides or {})

    def strategy(self, seed: int, budget: int) -> Any:
        """The strategy, whose model takes over after ``budget`` trials."""
        from gpu_gs.plugin.strategy import GPUGenerationStrategy

        initialization = {"budget": budget, "center": False, "use_existing_trials": True}
        return GPUGenerationStrategy.from_config(
            self.config, seed=seed, initialization=initialization, **self.overrides
        )

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        import logging

        from ax.api.client import Client
        from ax.core.data import Data
        from ax.utils.common.logger import AX_ROOT_LOGGER_NAME

        logging.getLogger(AX_ROOT_LOGGER_NAME).setLevel(logging.ERROR)
        self.parameters = dict(zip(problem.space.names, problem.space.parameters, strict=True))
        client = Client(random_seed=seed)
        client.configure_experiment(
            parameters=[_ax_parameter(name, parameter) for name, parameter in self.parameters.items()],
            parameter_constraints=[_ax_constraint(constraint) for constraint in problem.space.constraints],
            name=f"{problem.name}-{seed}",
        )
        client.configure_optimization(
            objective=", ".join(f"-{name}" for name in problem.objectives), outcome_constraints=_ax_outcomes(problem)
        )
        client.set_generation_strategy(self.strategy(seed, budget=max(len(points), 1)))
        experiment = client._experiment
        rows = []
        for point, known in zip(points, outcomes, strict=True):
            arms, index = experiment.attach_trial(parameterizations=[dict(zip(self.parameters, point, strict=True))])
            (arm_name,) = arms
            rows += [(index, arm_name, name, value) for name, value in known.items()]
        # One attach_data for all: Client.complete_trial costs 25 ms each at 1,000 trials.
        experiment.attach_data(_data(Data, rows))
        for trial in experiment.trials.values():
            trial.mark_completed()
        self.problem = problem
        self.client = client
        self.running: list[int] = []

    def ask(self, count: int = 1) -> list[Point]:
        asked = self.client.get_next_trials(max_trials=count)
        self.running += asked
        return [
            [_of_kind(parameter, values[name]) for name, parameter in self.parameters.items()]
            for values in asked.values()
        ]

    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        for known in outcomes:
            self.client.complete_trial(self.running.pop(0), dict(known))

    def drop(self) -> None:
        while self.running:
            self.client.mark_trial_failed(self.running.pop(0))

    def best(self) -> Any:
        if len(self.problem.objectives) > 1:
            return self.client.get_pareto_frontier()
        return self.client.get_best_parameterization()

    def state_bytes(self) -> int:
        run = self.client._generation_strategy.last_generator_run
        return len(json.dumps(None if run is None else run._generator_state_after_gen))

    def details(self) -> list[dict[str, Any]]:
        from gpu_gs.plugin.timings import timings

        table = timings(self.client)
        if len(table):
            return cast("list[dict[str, Any]]", table.reset_index().to_dict(orient="records"))
        # Stock Ax: its own clocks, that of the fit with data and transforms, and that of the candidate.
        return [
            {"ax_fit": run.fit_time or 0.0, "ax_generate": run.gen_time or 0.0}
            for run in self.client._generation_strategy._generator_runs
        ]


def _ax_parameter(name: str, parameter: Parameter) -> Any:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    if isinstance(parameter, Choice):
        kind = {bool: "bool", int: "int", float: "float", str: "str"}[type(parameter.values[0])]
        values = cast("Any", list(parameter.values))
        return ChoiceParameterConfig(
            name=name, values=values, parameter_type=cast("Any", kind), is_ordered=parameter.ordered
        )
    kind = "float" if isinstance(parameter, Float) else "int"
    bounds = (parameter.low, parameter.high)
    return RangeParameterConfig(name=name, parameter_type=cast("Any", kind), bounds=bounds)


def _ax_constraint(constraint: AtMost) -> str:
    terms = " + ".join(f"{weight!r} * x{i}" for i, weight in constraint.weights.items())
    return f"{terms} <= {constraint.bound!r}"


def _ax_outcomes(problem: Problem) -> list[str]:
    """Constraints on outcomes, and with several objectives their thresholds."""
    thresholds = zip(problem.objectives, problem.reference_point or (), strict=False)
    return [*(f"{name} >= 0" for name in problem.constraints), *(f"{name} <= {value!r}" for name, value in thresholds)]


def _of_kind(parameter: Parameter, value: Any) -> Any:
    return float(value) if isinstance(parameter, Float) else value


def _data(cls: Any, rows: Sequence[tuple[int, str, str, float]]) -> Any:
    import pandas as pd

    return cls(
        df=pd.DataFrame(
            {
                "trial_index": [row[0] for row in rows],
                "arm_name": [row[1] for row in rows],
                "metric_name": [row[2] for row in rows],
                "metric_signature": [row[2] for row in rows],
                "mean": [float(row[3]) for row in rows],
                "sem": float("nan"),
            }
        )
    )


class OptunaContestant(Contestant):
    """Optuna's GPSampler with its defaults."""

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        import warnings

        import optuna

        if reason := unsuited("optuna", problem):
            raise ValueError(reason)
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


class AxRandomContestant(AxContestant):
    """Uniform random points through Ax's Client: Ax's own share of an ask, the floor of every strategy."""

    def __init__(self) -> None:
        super().__init__(config="")

    def strategy(self, seed: int, budget: int) -> Any:
        from ax.generation_strategy.external_generation_node import ExternalGenerationNode
        from ax.generation_strategy.generation_strategy import GenerationStrategy

        class RandomNode(ExternalGenerationNode):
            def update_generator_state(self, experiment: Any, data: Any) -> None:
                self.parameters = experiment.search_space.parameters

            def get_next_candidate(self, pending_parameters: Any) -> Any:
                return {name: float(rng.uniform(p.lower, p.upper)) for name, p in self.parameters.items()}

        import numpy as np

        rng = np.random.default_rng([seed, 1])
        return GenerationStrategy(nodes=[RandomNode(name="Random")])

    def details(self) -> list[dict[str, Any]]:
        return []


def split(name: str) -> tuple[str, str | None]:
    """``fast@cuda`` as (``fast``, ``cuda``); a file's name is left as it is."""
    base, at, device = name.rpartition("@")
    return (base, device) if at and not Path(name).is_file() else (name, None)


def build(name: str) -> Contestant:
    """A contestant by its name."""
    if name == "optuna":
        return OptunaContestant()
    if name == "random":
        return RandomContestant()
    if name == "ax-random":
        return AxRandomContestant()
    base, device = split(name)
    return AxContestant(base, {} if device is None else {"device": device})


def on_cuda(name: str) -> bool:
    """Whether a contestant demands CUDA, as far as its name says."""
    base, device = split(name)
    return base == "cuda" if device is None else device.startswith("cuda")


def is_ours(name: str) -> bool:
    return name not in OTHERS and split(name)[0] != "reference"


def label(name: str) -> str:
    """How tables and pictures call the contestant of this short name."""
    base, device = split(name)
    where = "" if device is None else f" on {device.upper()}"
    if base == "reference":
        return f"stock Ax{where}"
    if base in OTHERS:
        return {"optuna": "Optuna", "random": "random", "ax-random": "Ax, random"}[base]
    return f"gpu_gs {base}{where}"


def short(name: str) -> str:
    """A contestant in results: a file without its folder and suffix, ``adaptive@cpu`` for ``my/adaptive.yaml@cpu``."""
    base, device = split(name)
    stem = Path(base).stem if Path(base).is_file() else base
    return stem if device is None else f"{stem}@{device}"


def unsuited(name: str, problem: Problem) -> str | None:
    """Why a contestant cannot take part in this problem; None if it can."""
    if name not in ("optuna", "ax-random"):
        return None
    if not problem.space.is_box:
        return f"{name} takes only floats in a box here, and {problem.name} has other parameters or linear constraints"
    if name == "optuna" and not problem.is_plain:
        return f"{name} takes only one objective without outcome constraints here, and {problem.name} has more"
    return None


def missing(name: str) -> str | None:
    """Why a contestant cannot take part here; None if it can."""
    from importlib.util import find_spec

    if name == "optuna" and find_spec("optuna") is None:
        return "optuna is not installed (pip install 'gpu-gs[optuna]')"
    return None


def problems_with(name: str) -> list[str]:
    """Why this is no contestant's name; empty if it is one."""
    base, device = split(name)
    allowed = [*OTHERS, *presets("strategies")]
    if base not in allowed and not Path(base).is_file():
        hint = f"{closest(base, allowed)}; allowed: {', '.join(allowed)}, or a YAML file"
        return [f"bench: contestant: {name!r} is unknown{hint}"]
    if device is not None and (base in OTHERS or not DEVICE_PATTERN.fullmatch(device)):
        return [f"bench: contestant: {name!r}: a strategy can be followed by @cpu, @cuda, @cuda:N or @auto"]
    if Path(base).is_file() and Path(base).stem in (*OTHERS, "reference"):
        return [f"bench: contestant: {name!r}: give the file another name, {Path(base).stem} is someone else's"]
    return []

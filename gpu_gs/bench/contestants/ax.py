"""Strategies under Ax's Client: stock Ax, gpu_gs, and random points as the floor of both."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gpu_gs.bench.cases import DataKind
from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.problems import Problem, reason_against_data
from gpu_gs.bench.spaces import AtMost, Choice, Derived, Equal, Float, Parameter, Point, Value

Report = tuple[int | None, Mapping[str, float | tuple[float, float]]]
"""A step of a learning curve, None for no curve, and the values of some metrics, those of known noise with their
standard error."""

CURVE = (1, 2, 4)
"""Steps of a learning curve; its values come down to the last one as 1 / step does."""

LACKING = 4
"""Every so many trials one lacks its last metric that is modelled."""

WEIGHTS = (1.0, 2.0, 1.0, 0.5)
"""Of the arms of a batch trial."""


def reports(data: DataKind | None, problem: Problem, k: int, known: Outcomes) -> list[Report]:
    """What Ax is told of the k-th evaluation, from 0 on, one after the other."""
    if data == "known_noise":
        return [(None, {name: (value, problem.noise) for name, value in known.items()})]
    if data == "missing_metrics" and (k + 1) % LACKING == 0:
        lacking = problem.modelled[-1]
        return [(None, {name: value for name, value in known.items() if name != lacking})]
    if data == "curves":
        return [(step, {name: value + 1 / step - 1 / CURVE[-1] for name, value in known.items()}) for step in CURVE]
    return [(None, known)]


class AxContestant(Contestant):
    """A strategy under Ax's Client, built from a configuration of gpu_gs (``reference`` is stock Ax)."""

    def __init__(self, config: str, overrides: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.overrides = dict(overrides or {})
        self.database: Path | None = None
        self.data: DataKind | None = None

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

        if self.data and (reason := reason_against_data(problem, self.data)):
            raise ValueError(f"{problem.name}: {self.data}: {reason}")
        logging.getLogger(AX_ROOT_LOGGER_NAME).setLevel(logging.ERROR)
        space = problem.space
        self.parameters: dict[str, Parameter | Derived] = dict(
            zip(space.names, (*space.parameters, *space.derived), strict=True)
        )
        client = Client(random_seed=seed, storage_config=None if self.database is None else _database(self.database))
        client.configure_experiment(
            parameters=[
                _ax_parameter(name, parameter, _dependents(space.branches.get(i, {})))
                for i, (name, parameter) in enumerate(self.parameters.items())
            ],
            parameter_constraints=[_ax_constraint(c) for c in space.constraints if isinstance(c, AtMost)],
            name=f"{problem.name}-{seed}",
        )
        client.configure_optimization(objective=_ax_objective(problem), outcome_constraints=_ax_outcomes(problem))
        client.configure_tracking_metrics(list(problem.tracking))
        size = len(WEIGHTS) if self.data == "batch_trials" else 1
        # The budget is one of trials, not of arms.
        client.set_generation_strategy(self.strategy(seed, budget=max(-(-len(points) // size), 1)))
        experiment = client._experiment
        _add_equations(experiment.search_space, [c for c in space.constraints if isinstance(c, Equal)])
        rows: list[_Row] = []
        if problem.status_quo is not None:
            index = client.attach_baseline(self._arm(problem.status_quo), arm_name="baseline")
            known = problem.true_outcomes(problem.status_quo)
            # Ax takes no metric whose noise is known on some arms only; this value has none.
            noise_free: Mapping[str, Any] = {name: (value, 0.0) for name, value in known.items()}
            told: list[Report] = [(None, noise_free if self.data == "known_noise" else known)]
            rows += _rows(index, "baseline", told)
        for first in range(0, len(points), size):
            arms, index = _attach(experiment, [self._arm(point) for point in points[first : first + size]])
            for k, arm_name in enumerate(arms, start=first):
                rows += _rows(index, arm_name, reports(self.data, problem, k, outcomes[k]))
        # One attach_data for all: Client.complete_trial costs 25 ms each at 1,000 trials.
        experiment.attach_data(_data(Data, rows))
        for trial in experiment.trials.values():
            trial.mark_completed()
        if self.database is not None:
            from ax.storage.sqa_store.save import save_experiment

            save_experiment(experiment)
        self.problem = problem
        self.client = client
        self.running: list[int] = []
        self.evaluations = len(points)

    def _arm(self, point: Sequence[Any]) -> dict[str, Any]:
        """The parameters of a point, without those that are not there."""
        return {name: value for name, value in zip(self.parameters, point, strict=True) if value is not None}

    def store(self, path: Path) -> None:
        self.database = path

    def report(self, data: DataKind) -> None:
        self.data = data

    def ask(self, count: int = 1) -> list[Point]:
        asked = self.client.get_next_trials(max_trials=count)
        self.running += asked
        return [
            [_of_kind(parameter, values.get(name)) for name, parameter in self.parameters.items()]
            for values in asked.values()
        ]

    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        for known in outcomes:
            index = self.running.pop(0)
            *steps, (last, values) = reports(self.data, self.problem, self.evaluations, known)
            for step, on_the_way in steps:
                self.client.attach_data(index, dict(on_the_way), progression=step)
            self.client.complete_trial(index, dict(values), progression=last)
            self.evaluations += 1

    def drop(self) -> None:
        while self.running:
            self.client.mark_trial_failed(self.running.pop(0))

    @property
    def answers_best(self) -> bool:
        return self.data != "batch_trials"  # Ax's Client names the best of single trials only

    def best(self) -> Any:
        if self.problem.has_several_objectives:
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


def _database(path: Path) -> Any:
    """Ax's configuration of a new SQLite file."""
    from ax.api.configs import StorageConfig
    from ax.storage.sqa_store import db

    url = f"sqlite:///{path.resolve()}"
    db.init_engine_and_session_factory(url=url, force_init=True)
    db.create_all_tables(db.get_engine())
    return StorageConfig(url=url)


def _attach(experiment: Any, parameterizations: list[dict[str, Any]]) -> tuple[list[str], int]:
    """A trial with these arms, a batch trial with weights if there are several: the names of the arms, and its index."""
    if len(parameterizations) == 1:
        arms, index = experiment.attach_trial(parameterizations=parameterizations)
        return list(arms), index
    from ax.core.arm import Arm
    from ax.core.generator_run import GeneratorRun

    trial = experiment.new_batch_trial()
    run = GeneratorRun([Arm(each) for each in parameterizations], weights=list(WEIGHTS[: len(parameterizations)]))
    trial.add_generator_run(run)
    trial.mark_running(no_runner_required=True)
    return [arm.name for arm in trial.arms], trial.index


def _dependents(branches: Mapping[Value, Sequence[int]]) -> dict[Value, list[str]] | None:
    """Names of the parameters that are there with each value of a choice only; None of a parameter without any."""
    return {value: [f"x{i}" for i in places] for value, places in branches.items()} or None


def _ax_parameter(name: str, parameter: Parameter | Derived, dependents: dict[Value, list[str]] | None = None) -> Any:
    from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig

    if isinstance(parameter, Derived):
        return DerivedParameterConfig(name=name, parameter_type="float", expression_str=_sum(parameter.weights))
    if isinstance(parameter, Choice):
        kind = {bool: "bool", int: "int", float: "float", str: "str"}[type(parameter.values[0])]
        values = cast("Any", list(parameter.values))
        return ChoiceParameterConfig(
            name=name,
            values=values,
            parameter_type=cast("Any", kind),
            is_ordered=parameter.ordered,
            dependent_parameters=dependents,
        )
    kind = "float" if isinstance(parameter, Float) else "int"
    bounds = (parameter.low, parameter.high)
    scaling: Any = "log" if parameter.log else None
    return RangeParameterConfig(name=name, parameter_type=cast("Any", kind), bounds=bounds, scaling=scaling)


def _sum(weights: Mapping[int, float]) -> str:
    return " + ".join(f"{weight!r} * x{i}" for i, weight in weights.items())


def _ax_constraint(constraint: AtMost) -> str:
    return f"{_sum(constraint.weights)} <= {constraint.bound!r}"


def _add_equations(search_space: Any, equations: Sequence[Equal]) -> None:
    """Linear equations, which Ax's Client does not take: its search space does."""
    if not equations:
        return
    from ax.core.parameter_constraint import ParameterConstraint

    more = [ParameterConstraint(equality=f"{_sum(each.weights)} == {each.bound!r}") for each in equations]
    search_space.set_parameter_constraints([*search_space.parameter_constraints, *more])


def _ax_objective(problem: Problem) -> str:
    if problem.weights is None:
        return ", ".join(f"-{name}" for name in problem.objectives)
    terms = zip(problem.weights, problem.objectives, strict=True)
    return " + ".join(f"{-weight!r} * {name}" for weight, name in terms)


def _ax_outcomes(problem: Problem) -> list[str]:
    """Constraints on outcomes, and with several objectives their thresholds."""
    thresholds = zip(problem.objectives, problem.reference_point or (), strict=False)
    bounds = {name: f"{problem.relative[name]!r} * baseline" for name in problem.relative}
    return [
        *(f"{name} >= {bounds.get(name, '0')}" for name in problem.constraints),
        *(f"{name} <= {value!r}" for name, value in thresholds),
    ]


def _of_kind(parameter: Parameter | Derived, value: Any) -> Any:
    return float(value) if isinstance(parameter, Float | Derived) and value is not None else value


@dataclass(frozen=True)
class _Row:
    """A line of Ax's data; ``step`` is None, and ``sem`` NaN, where there is none."""

    trial_index: int
    arm_name: str
    metric_name: str
    mean: float
    sem: float
    step: int | None


def _rows(index: int, arm_name: str, told: Sequence[Report]) -> list[_Row]:
    return [
        _Row(index, arm_name, name, *(value if isinstance(value, tuple) else (value, float("nan"))), step)
        for step, values in told
        for name, value in values.items()
    ]


def _data(cls: Any, rows: Sequence[_Row]) -> Any:
    import pandas as pd

    columns: dict[str, Any] = {
        "trial_index": [row.trial_index for row in rows],
        "arm_name": [row.arm_name for row in rows],
        "metric_name": [row.metric_name for row in rows],
        "metric_signature": [row.metric_name for row in rows],
        "mean": [float(row.mean) for row in rows],
        "sem": [row.sem for row in rows],
    }
    if any(row.step is not None for row in rows):
        columns["step"] = [row.step for row in rows]
    return cls(df=pd.DataFrame(columns))


class AxRandomContestant(AxContestant):
    """Uniform random points through Ax's Client: Ax's own share of an ask, the floor of every strategy."""

    takes = frozenset({"outcome constraints", "several objectives"})

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

    def store(self, path: Path) -> None:
        """Ax cannot write this node down."""
        Contestant.store(self, path)

    def details(self) -> list[dict[str, Any]]:
        return []


ENTRIES = (Entry("ax-random", label="Ax, random", colour="#8c6d4f", build=AxRandomContestant),)

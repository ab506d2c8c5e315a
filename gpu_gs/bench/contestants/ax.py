"""Strategies under Ax's Client: stock Ax, gpu_gs, and random points as the floor of both."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import AtMost, Choice, Float, Parameter, Point


class AxContestant(Contestant):
    """A strategy under Ax's Client, built from a configuration of gpu_gs (``reference`` is stock Ax)."""

    def __init__(self, config: str, overrides: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.overrides = dict(overrides or {})
        self.database: Path | None = None

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
        client = Client(random_seed=seed, storage_config=None if self.database is None else _database(self.database))
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
        if self.database is not None:
            from ax.storage.sqa_store.save import save_experiment

            save_experiment(experiment)
        self.problem = problem
        self.client = client
        self.running: list[int] = []

    def store(self, path: Path) -> None:
        self.database = path

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


def _database(path: Path) -> Any:
    """Ax's configuration of a new SQLite file."""
    from ax.api.configs import StorageConfig
    from ax.storage.sqa_store import db

    url = f"sqlite:///{path.resolve()}"
    db.init_engine_and_session_factory(url=url, force_init=True)
    db.create_all_tables(db.get_engine())
    return StorageConfig(url=url)


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
    scaling: Any = "log" if parameter.log else None
    return RangeParameterConfig(name=name, parameter_type=cast("Any", kind), bounds=bounds, scaling=scaling)


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

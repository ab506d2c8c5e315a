"""Optimizers behind one small interface: start with known points, ask, tell."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

from gpu_gs.bench.problems import Problem


class Contestant(ABC):
    """One run of one optimizer on one problem."""

    @abstractmethod
    def start(self, problem: Problem, seed: int, points: Sequence[Sequence[float]], values: Sequence[float]) -> None:
        """Begins with these evaluations known; not timed."""

    @abstractmethod
    def ask(self) -> list[float]:
        """The next point."""

    @abstractmethod
    def tell(self, x: Sequence[float], value: float) -> None:
        """The value of the point asked for last."""

    def drop(self) -> None:
        """Gives the point asked for last up without a value."""
        raise NotImplementedError

    def details(self) -> list[dict[str, Any]]:
        """What the optimizer itself recorded, a row an ask; empty if nothing."""
        return []

    def state_bytes(self) -> int:
        """Size of what the optimizer stores to go on in another process, as JSON."""
        raise NotImplementedError

    def best(self) -> Any:
        """The best parameters, by the model; None where the optimizer has no such question."""
        return None


class AxContestant(Contestant):
    """A strategy under Ax's Client, built from a configuration of gpu_gs (``reference`` is stock Ax)."""

    def __init__(self, config: str, overrides: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.overrides = dict(overrides or {})

    def start(self, problem: Problem, seed: int, points: Sequence[Sequence[float]], values: Sequence[float]) -> None:
        import logging

        from ax.api.client import Client
        from ax.api.configs import RangeParameterConfig
        from ax.core.data import Data
        from ax.utils.common.logger import AX_ROOT_LOGGER_NAME

        from gpu_gs.plugin.strategy import GPUGenerationStrategy

        logging.getLogger(AX_ROOT_LOGGER_NAME).setLevel(logging.ERROR)
        self.names = [f"x{i}" for i in range(problem.dim)]
        client = Client(random_seed=seed)
        client.configure_experiment(
            parameters=[
                RangeParameterConfig(name=name, parameter_type="float", bounds=bounds)
                for name, bounds in zip(self.names, problem.bounds, strict=True)
            ],
            name=f"{problem.name}-{seed}",
        )
        client.configure_optimization(objective="-f")
        initialization = {"budget": max(len(points), 1), "center": False, "use_existing_trials": True}
        client.set_generation_strategy(
            GPUGenerationStrategy.from_config(self.config, seed=seed, initialization=initialization, **self.overrides)
        )
        experiment = client._experiment
        rows = []
        for point, value in zip(points, values, strict=True):
            arms, index = experiment.attach_trial(parameterizations=[dict(zip(self.names, point, strict=True))])
            (arm_name,) = arms
            rows.append((index, arm_name, value))
        # One attach_data for all: Client.complete_trial costs 25 ms each at 1,000 trials.
        experiment.attach_data(_data(Data, rows))
        for trial in experiment.trials.values():
            trial.mark_completed()
        self.client = client

    def ask(self) -> list[float]:
        ((self.index, parameters),) = self.client.get_next_trials(max_trials=1).items()
        return [float(parameters[name]) for name in self.names]

    def tell(self, x: Sequence[float], value: float) -> None:
        self.client.complete_trial(self.index, {"f": value})

    def drop(self) -> None:
        self.client.mark_trial_failed(self.index)

    def best(self) -> Any:
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


def _data(cls: Any, rows: Sequence[tuple[int, str, float]]) -> Any:
    import pandas as pd

    return cls(
        df=pd.DataFrame(
            {
                "trial_index": [row[0] for row in rows],
                "arm_name": [row[1] for row in rows],
                "metric_name": "f",
                "metric_signature": "f",
                "mean": [float(row[2]) for row in rows],
                "sem": float("nan"),
            }
        )
    )


class OptunaContestant(Contestant):
    """Optuna's GPSampler with its defaults."""

    def start(self, problem: Problem, seed: int, points: Sequence[Sequence[float]], values: Sequence[float]) -> None:
        import warnings

        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        self.bounds = problem.bounds
        distributions = {
            f"x{i}": optuna.distributions.FloatDistribution(*bounds) for i, bounds in enumerate(self.bounds)
        }
        self.study = optuna.create_study(
            sampler=optuna.samplers.GPSampler(seed=seed, n_startup_trials=max(len(points), 1))
        )
        for point, value in zip(points, values, strict=True):
            self.study.add_trial(
                optuna.trial.create_trial(
                    params={f"x{i}": v for i, v in enumerate(point)}, distributions=distributions, value=value
                )
            )

    def ask(self) -> list[float]:
        self.trial = self.study.ask()
        return [self.trial.suggest_float(f"x{i}", *bounds) for i, bounds in enumerate(self.bounds)]

    def tell(self, x: Sequence[float], value: float) -> None:
        self.study.tell(self.trial, value)


class RandomContestant(Contestant):
    """Uniform random points."""

    def start(self, problem: Problem, seed: int, points: Sequence[Sequence[float]], values: Sequence[float]) -> None:
        import numpy as np

        self.rng = np.random.default_rng([seed, 1])
        self.bounds = problem.bounds

    def ask(self) -> list[float]:
        return [float(self.rng.uniform(*bounds)) for bounds in self.bounds]

    def tell(self, x: Sequence[float], value: float) -> None:
        pass


def build(name: str) -> Contestant:
    """A contestant by name: ``optuna``, ``random``, or any strategy preset or YAML file (``reference``: stock Ax)."""
    if name == "optuna":
        return OptunaContestant()
    if name == "random":
        return RandomContestant()
    return AxContestant(name)


def missing(name: str) -> str | None:
    """Why a contestant cannot take part here; None if it can."""
    from importlib.util import find_spec

    if name == "optuna" and find_spec("optuna") is None:
        return "optuna is not installed (pip install 'gpu-gs[optuna]')"
    return None

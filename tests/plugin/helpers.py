"""Small experiments and clients that the plug-in's tests share."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

from gpu_gs import GPUGenerationStrategy

QUICK = {"acquisition": {"raw_samples": 64, "restarts": 4, "iterations": 20}}
"""Settings that make an ask quick without leaving any step out."""

Parameters = Mapping[str, Any]


def sphere(parameters: Parameters) -> float:
    return (float(parameters["x"]) - 0.3) ** 2 + (float(parameters["y"]) - 0.7) ** 2


def wave(parameters: Parameters) -> float:
    x, y = float(parameters["x"]), float(parameters["y"])
    return math.sin(5 * x) + math.cos(4 * y) + (x - 0.4) ** 2


def attach_waves(client: Client, count: int) -> None:
    """So many completed trials of ``wave`` at random points, the same in every process."""
    for x, y in torch.rand(count, 2, generator=torch.Generator().manual_seed(0)).tolist():
        index = client.attach_trial({"x": x, "y": y})
        client.complete_trial(index, {"f": wave({"x": x, "y": y})})


def make_client(
    strategy: Any = None,
    *,
    seed: int | None = 0,
    objective: str = "-f",
    outcome_constraints: Sequence[str] | None = None,
    random_seed: int | None = None,
    **kwargs: Any,
) -> Client:
    """A client for two floats in the unit square, with our strategy."""
    client = Client(random_seed=random_seed, **kwargs)
    client.configure_experiment(
        name="test",
        parameters=[
            RangeParameterConfig(name="x", parameter_type="float", bounds=(0.0, 1.0)),
            RangeParameterConfig(name="y", parameter_type="float", bounds=(0.0, 1.0)),
        ],
    )
    client.configure_optimization(objective=objective, outcome_constraints=outcome_constraints)
    if strategy is None:
        strategy = GPUGenerationStrategy.from_config("fast", seed=seed, **QUICK)
    client.set_generation_strategy(strategy)
    return client


def make_mixed_client(strategy: Any) -> Client:
    """A client for a float, a log-scaled float, an int and an unordered choice."""
    client = Client()
    client.configure_experiment(
        name="mixed",
        parameters=[
            RangeParameterConfig(name="x", parameter_type="float", bounds=(0.0, 1.0)),
            RangeParameterConfig(name="rate", parameter_type="float", bounds=(1e-4, 1.0), scaling="log"),
            RangeParameterConfig(name="depth", parameter_type="int", bounds=(1, 8)),
            ChoiceParameterConfig(name="kind", parameter_type="str", values=["a", "b", "c"], is_ordered=False),
        ],
    )
    client.configure_optimization(objective="-f")
    client.set_generation_strategy(strategy)
    return client


def advance(
    client: Client, trials: int, function: Callable[[Parameters], float] = wave, metric: str = "f"
) -> list[dict[str, Any]]:
    """Asks and tells ``trials`` times; returns the parameters asked for."""
    asked = []
    for _ in range(trials):
        for index, parameters in client.get_next_trials(max_trials=1).items():
            client.complete_trial(index, {metric: function(parameters)})
            asked.append(dict(parameters))
    return asked


def largest_difference(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    """Largest difference of a numeric parameter over two lists of equally many points."""
    assert len(one) == len(other)
    return max(abs(float(a[name]) - float(b[name])) for a, b in zip(one, other, strict=True) for name in a)

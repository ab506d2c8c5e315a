"""Discrete and mixed search spaces: values of the domain, the fast path, and points that are never proposed twice."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig
from ax.core.search_space import SearchSpaceDigest
from ax.exceptions.core import SearchSpaceExhausted
from botorch.exceptions.warnings import OptimizationWarning

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.plugin.acquisition import one_hot_groups
from tests.plugin.helpers import QUICK, advance

Function = Callable[[dict[str, Any]], float]

X = RangeParameterConfig(name="x", parameter_type="float", bounds=(0.0, 1.0))
Y = RangeParameterConfig(name="y", parameter_type="float", bounds=(0.0, 1.0))


def integer(name: str, low: int, high: int, **kwargs: Any) -> RangeParameterConfig:
    return RangeParameterConfig(name=name, parameter_type="int", bounds=(low, high), **kwargs)


def choice(name: str, values: Sequence[Any], ordered: bool, **kwargs: Any) -> ChoiceParameterConfig:
    kind = type(values[0]).__name__
    return ChoiceParameterConfig(name=name, parameter_type=kind, values=list(values), is_ordered=ordered, **kwargs)  # type: ignore[arg-type]


def make(parameters: Sequence[Any], **config: Any) -> Client:
    client = Client()
    client.configure_experiment(name="discrete", parameters=list(parameters))
    client.configure_optimization(objective="-f")
    client.set_generation_strategy(GPUGenerationStrategy.from_config("fast", **{"seed": 0, **QUICK, **config}))
    return client


def reasons(client: Client) -> set[str]:
    """Why parts could not be used, but for those that concern the device and the data's path."""
    found: set[str] = set()
    for line in timings(client)["reasons"].dropna():
        found |= {reason for reason in line.split("; ") if reason and not reason.startswith(("device:", "data:"))}
    return found


def model_asks(client: Client) -> int:
    """Asks that the model's candidate answered."""
    trials = client._experiment.trials.values()
    return sum(run._generator_key == "GPU_BoTorch" for trial in trials for run in trial.generator_runs)


SPACES: dict[str, tuple[list[Any], Callable[[dict[str, Any]], bool], Function]] = {
    "unordered choices": (
        [X, integer("depth", 1, 8), choice("kind", ["a", "b", "c"], False), choice("size", [3, 1, 2], False)],
        lambda p: p["kind"] in ("a", "b", "c") and p["size"] in (1, 2, 3) and p["depth"] in range(1, 9),
        lambda p: (p["x"] - 0.3) ** 2 + abs(p["depth"] - 4) / 8 + "bac".index(p["kind"]) / 5 * p["size"],
    ),
    "booleans": (
        [X, choice("flag", [True, False], True), choice("other", [False, True], True)],
        lambda p: isinstance(p["flag"], bool) and isinstance(p["other"], bool),
        lambda p: (p["x"] - 0.3 - 0.2 * p["flag"]) ** 2 + p["flag"] - 0.5 * p["other"],
    ),
    "ordered strings": (
        [X, choice("size", ["s", "m", "l", "xl"], True)],
        lambda p: p["size"] in ("s", "m", "l", "xl"),
        lambda p: (p["x"] - 0.3) ** 2 + abs(["s", "m", "l", "xl"].index(p["size"]) - 2),
    ),
    "steps": (
        [
            RangeParameterConfig(name="rate", parameter_type="float", bounds=(0.0, 1.0), step_size=0.25),
            integer("count", 0, 100, step_size=5),
            X,
        ],
        lambda p: p["rate"] in (0, 0.25, 0.5, 0.75, 1) and p["count"] % 5 == 0,
        lambda p: (p["rate"] - 0.5) ** 2 + abs(p["count"] - 35) / 50 + (p["x"] - 0.3) ** 2,
    ),
    "log-scaled integers": (
        [integer("width", 1, 1000, scaling="log"), X],
        lambda p: isinstance(p["width"], int) and 1 <= p["width"] <= 1000,
        lambda p: abs(math.log(p["width"] / 50)) + (p["x"] - 0.3) ** 2,
    ),
    "integers of many values": (
        [integer("width", 1, 50_000), X],
        lambda p: isinstance(p["width"], int) and 1 <= p["width"] <= 50_000,
        lambda p: abs(p["width"] / 2e4 - 1) + (p["x"] - 0.3) ** 2,
    ),
    "derived parameters": (
        [X, Y, DerivedParameterConfig(name="sum", parameter_type="float", expression_str="2.0 * x + y")],
        lambda p: p["sum"] == pytest.approx(2 * p["x"] + p["y"]),
        lambda p: (p["sum"] - 1) ** 2 + (p["x"] - 0.3) ** 2,
    ),
    "dependent parameters": (
        [
            choice("model", ["a", "b"], True, dependent_parameters={"a": ["x"], "b": ["y", "depth"]}),
            X,
            Y,
            integer("depth", 1, 9),
        ],
        lambda p: set(p) == ({"model", "x"} if p["model"] == "a" else {"model", "y", "depth"}),
        lambda p: (p.get("x", 0.9) - 0.3) ** 2 + (p.get("y", 0.5) - 0.5) ** 2 + p.get("depth", 1) / 9,
    ),
}


@pytest.mark.parametrize("space", SPACES)
def test_a_space_goes_through_the_batched_optimizer_and_its_candidates_are_of_the_domain(space):
    parameters, is_inside, function = SPACES[space]
    client = make(parameters)
    asked = advance(client, 9, function)
    assert all(is_inside(point) for point in asked)
    assert model_asks(client) >= 3
    assert not {reason for reason in reasons(client) if not reason.startswith("candidate:")}
    assert {*timings(client)["acquisition"].dropna()} <= {"LogEI", "LogNEI"}


def test_the_columns_of_a_one_hot_encoded_choice_are_found_by_name_and_bounds():
    digest = SearchSpaceDigest(
        feature_names=["x", "a_OH_PARAM_0", "b_OH_PARAM_0", "a_OH_PARAM_1", "b_OH_PARAM_1", "c_OH_PARAM_0"],
        bounds=[(0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 5)],
    )
    assert one_hot_groups(digest) == [[1, 3], [2, 4]]


def test_a_fixed_choice_is_kept():
    client = make([X, choice("kind", ["a", "b", "c"], False)])
    advance(client, 6, lambda p: (p["x"] - 0.3) ** 2 + "abc".index(p["kind"]))
    for index, point in client.get_next_trials(max_trials=1, fixed_parameters={"kind": "c"}).items():
        assert point["kind"] == "c"
        client.complete_trial(index, {"f": 1.0})
    assert model_asks(client) == 2


# ---------------------------------------------------------------------- repetitions


def rank(parameters: dict[str, Any]) -> float:
    return (parameters["i"] - 2) ** 2 + "bca".index(str(parameters["o"]))


@pytest.mark.parametrize("ordered", [True, False])
def test_each_point_of_a_small_discrete_space_is_proposed_once_until_it_is_exhausted(ordered):
    client = make([integer("i", 0, 3), choice("o", ["a", "b", "c"], ordered)])
    asked = advance(client, 12, rank)
    assert len({(point["i"], point["o"]) for point in asked}) == 12
    assert model_asks(client) == 7  # after the center and four of Sobol, none of a fall-back
    with pytest.raises(SearchSpaceExhausted):
        client.get_next_trials(max_trials=1)


def test_the_best_point_that_is_left_is_proposed_next():
    client = make([integer("i", 0, 30), integer("j", 0, 30)])
    advance(client, 12, lambda p: (p["i"] - 12.3) ** 2 + (p["j"] - 21.4) ** 2)
    assert min((p["i"] - 12.3) ** 2 + (p["j"] - 21.4) ** 2 for p in advance(client, 4, lambda p: 1e3)) < 30


def test_abandoned_points_are_not_proposed_again():
    client = make([integer("i", 0, 3), choice("o", ["a", "b", "c"], True)])
    advance(client, 5, rank)
    seen = {tuple(trial.arm.parameters.values()) for trial in client._experiment.trials.values()}
    for _ in range(4):
        for index, point in client.get_next_trials(max_trials=1).items():
            assert tuple(point.values()) not in seen
            seen.add(tuple(point.values()))
            client.mark_trial_abandoned(index)
    assert model_asks(client) == 4


def test_parameters_that_are_not_active_do_not_make_another_point():
    """One of three models has no parameters and is the best: one arm, however its neighbours' parameters are set."""
    client = make(
        [
            choice("model", ["a", "b", "c"], False, dependent_parameters={"a": ["x"], "b": ["depth"]}),
            X,
            integer("depth", 1, 9),
        ]
    )
    asked = advance(client, 11, lambda p: (p.get("x", 0.0) - 0.3) ** 2 + p.get("depth", 0) / 5)
    adapter = client._generation_strategy.current_node.generator_spec._fitted_adapter
    by_model = asked[5:]
    assert model_asks(client) == len(by_model)
    assert len({tuple(sorted(map(str, point.items()))) for point in by_model}) == len(by_model)
    names = list(adapter.parameters)
    row = dict.fromkeys(names, 0.5) | {"depth": 1.0, "model_OH_PARAM_0": 0.0, "model_OH_PARAM_1": 0.0}
    tried = [row | {"model_OH_PARAM_2": 1.0}, row | {"model_OH_PARAM_2": 1.0, "x": 0.123, "depth": 8.0}]
    new = row | {"model_OH_PARAM_0": 1.0, "model_OH_PARAM_2": 0.0, "x": 0.987654}
    points = np.array([[point[name] for name in names] for point in (*tried, new)])
    assert adapter.is_tried(points).tolist() == [True, True, False]


def test_a_batch_takes_what_is_left_of_a_discrete_space():
    client = make([integer("i", 0, 3), choice("o", ["a", "b", "c"], True)])
    asked = advance(client, 9, rank)
    with pytest.warns(OptimizationWarning, match="only 3 points"):
        ((run,),) = client._generation_strategy.gen(client._experiment, n=5)
    points = {tuple(arm.parameters.values()) for arm in run.arms}
    assert len(points) == 3
    assert not points & {tuple(point.values()) for point in asked}
    assert len(set(run.weights)) == 1


def test_pending_points_of_a_discrete_space_are_not_proposed_again():
    client = make([integer("i", 0, 3), choice("o", ["a", "b", "c"], True)])
    asked = advance(client, 6, rank)
    waiting = client.get_next_trials(max_trials=4)
    points = {tuple(point.values()) for point in waiting.values()}
    assert len(points) == 4
    assert not points & {tuple(point.values()) for point in asked}


def test_a_candidate_is_unaffected_by_the_global_generator():
    found = []
    for seed in (0, 1):
        client = make([X, choice("kind", ["a", "b", "c"], False)])
        advance(client, 6, lambda p: (p["x"] - 0.3) ** 2 + "abc".index(p["kind"]))
        torch.manual_seed(seed)
        found.append([*client.get_next_trials(max_trials=1).values()])
    assert found[0] == found[1]

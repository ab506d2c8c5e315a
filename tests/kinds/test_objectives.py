"""Every kind of objective: the acquisition function that stock Ax would choose, and a candidate that it would find good."""

import math

import numpy as np
import pytest
import torch
from ax.adapter.registry import Generators
from ax.adapter.transforms.unit_x import UnitX
from ax.core.auxiliary import AuxiliaryExperiment, AuxiliaryExperimentPurpose
from ax.core.experiment import Experiment
from ax.core.metric import Metric
from ax.core.objective import Objective
from ax.core.optimization_config import PreferenceOptimizationConfig
from ax.core.parameter import ParameterType, RangeParameter
from ax.core.search_space import SearchSpace
from ax.exceptions.core import UnsupportedError
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.utils.common.random import with_rng_seed
from ax.utils.testing.preference_stubs import get_pbo_experiment
from botorch.acquisition.multi_objective import logei as botorch_logei
from botorch.acquisition.multi_objective import parego
from botorch.utils.multi_objective.hypervolume import Hypervolume
from botorch.utils.multi_objective.pareto import is_non_dominated
from scipy.stats import norm

from gpu_gs import accelerate, timings
from gpu_gs.gp.model import ClosedFormGP
from tests.kinds.helpers import (
    FLOATS,
    MODEL_FIRST,
    Outcomes,
    Parameters,
    advance,
    assert_as_good_as_random,
    assert_as_good_as_stock,
    assert_by_the_model,
    attach,
    candidate,
    client_for,
    client_of_core,
    reasons,
    ripple,
    stock_adapter,
)
from tests.plugin.helpers import QUICK

NAMES = ("a", "b", "c", "d", "e", "k")


def measured(p: Parameters) -> dict[str, float]:
    """Six outcomes, each the distance from a point of its own."""
    x, y = float(p["x"]), float(p["y"])
    centers = [(0.1, 0.1), (0.9, 0.2), (0.5, 0.9), (0.1, 0.8), (0.8, 0.8), (0.5, 0.4)]
    return {name: math.hypot(x - u, y - v) for name, (u, v) in zip(NAMES, centers, strict=True)}


def only(*names: str):
    def function(p: Parameters) -> Outcomes:
        values = measured(p)
        return {name: values[name] for name in names}

    return function


def rippled(*names: str):
    def function(p: Parameters) -> Outcomes:
        return {name: value + ripple(p["x"], p["y"]) for name, value in only(*names)(p).items()}

    return function


def points(count: int, seed: int = 0) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in np.random.default_rng(seed).uniform(size=(count, 2)).tolist()]


SINGLE = {
    "minimize": ("-a", ["a"]),
    "maximize": ("a", ["a"]),
    "scalarized": ("-2*a - b", ["a", "b"]),
    "scalarized, of both signs": ("a - 0.5*b", ["a", "b"]),
    "scalarized, three": ("-a - b - c", ["a", "b", "c"]),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_the_candidate_for_one_objective_is_good(kind):
    objective, names = SINGLE[kind]
    client = client_for(objective=objective, **MODEL_FIRST)
    attach(client, points(9), rippled(*names))
    advance(client, 1, rippled(*names))
    assert_by_the_model(client, 1)
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, next_one)


SEVERAL = {
    "two": ("-a, -b", [], ["a", "b"]),
    "two of both signs": ("-a, b", [], ["a", "b"]),
    "two with thresholds": ("-a, -b", ["a <= 0.8", "b <= 0.9"], ["a", "b"]),
    "two with one threshold": ("-a, -b", ["a <= 0.8"], ["a", "b"]),
    "two and an outcome constraint": ("-a, -b", ["c <= 0.7"], ["a", "b", "c"]),
    "three": ("-a, -b, -c", [], ["a", "b", "c"]),
    "three with thresholds": ("-a, -b, -c", ["a <= 1.0", "b <= 1.0", "c <= 1.0"], ["a", "b", "c"]),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_the_candidate_for_several_objectives_is_good(kind):
    objective, constraints, names = SEVERAL[kind]
    client = client_for(objective=objective, outcome_constraints=constraints or None, **MODEL_FIRST)
    attach(client, points(9), only(*names))
    advance(client, 1, only(*names))
    assert_by_the_model(client, 1)
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, next_one)


UNATTAINED = {
    "both": ["a <= 0.02", "b <= 0.02"],
    "one, the other not given": ["a <= 0.001"],
    "both, and a constraint that holds": ["a <= 0.02", "b <= 0.02", "c <= 2.0"],
}


@pytest.mark.parametrize("kind", UNATTAINED)
def test_thresholds_that_nothing_attains_count_as_constraints_as_in_stock_ax(kind):
    client = client_for(objective="-a, -b", outcome_constraints=UNATTAINED[kind], **MODEL_FIRST)
    names = ("a", "b", "c") if any("c" in line for line in UNATTAINED[kind]) else ("a", "b")
    attach(client, points(9), only(*names))
    (next_one,) = candidate(client)

    def log_probability(predicted):  # of both objectives; stock Ax's is smoothed and has other tails
        bounds = {line.split(" <= ")[0]: float(line.split(" <= ")[1]) for line in UNATTAINED[kind]}
        return sum(norm.logcdf(bounds[m], *predicted[m]) for m in ("a", "b") if m in bounds)

    found, *others = map(log_probability, client.predict([next_one, *points(200, seed=1)]))
    assert found >= max(others) - 0.1
    client.get_next_trials(max_trials=1)
    assert timings(client)["acquisition"].iloc[-1] == "LogPF"


WIDE = {
    "four": ("-a, -b, -c, -d", ["a", "b", "c", "d"]),
    "two, one of them scalarized": ("-a - 0.5*b, -c", ["a", "b", "c"]),
}
"""Kinds for which stock Ax's optimizer takes up to half a minute."""


@pytest.mark.parametrize("kind", WIDE)
def test_the_candidate_is_as_good_as_the_best_of_random_points(kind):
    objective, names = WIDE[kind]
    client = client_for(objective=objective, **MODEL_FIRST)
    attach(client, points(9), rippled(*names))
    (next_one,) = candidate(client)
    assert_as_good_as_random(client, next_one, points(200, seed=1))


def test_several_objectives_are_one_model_and_nothing_is_compiled_on_an_ask(monkeypatch):
    def refuse():
        raise AssertionError("BoTorch's kernel would be compiled now")

    monkeypatch.setattr(botorch_logei, "_try_load_fused_kernel", refuse)
    for objective, constraints, names in (("-a, -b", ["c <= 0.9"], "abc"), ("-a, -b, -c, -d", None, "abcd")):
        client = client_for(objective=objective, outcome_constraints=constraints, **MODEL_FIRST)
        attach(client, points(6), only(*names))
        advance(client, 2, only(*names))
        assert_by_the_model(client, 2)
        model = client._generation_strategy.adapter.generator.surrogate.model
        assert isinstance(model, ClosedFormGP) and model.num_outputs == len(names)


def test_thresholds_relative_to_a_baseline():
    client = client_for(
        objective="-a, -b", outcome_constraints=["a <= 1.1 * baseline", "b <= 1.1 * baseline"], **MODEL_FIRST
    )
    index = client.attach_baseline({"x": 0.5, "y": 0.5})
    client.complete_trial(index, only("a", "b")({"x": 0.5, "y": 0.5}))
    attach(client, points(8), only("a", "b"))
    advance(client, 1, only("a", "b"))
    assert_by_the_model(client, 1)
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, next_one)


@pytest.mark.parametrize("count", [2, 4, 5, 6])
def test_from_five_objectives_on_the_hypervolume_gives_way_to_random_scalarizations(count):
    """As in stock Ax (``choose_botorch_acqf_class``)."""
    names = NAMES[:count]
    client = client_for(objective=", ".join(f"-{name}" for name in names), **MODEL_FIRST)
    attach(client, points(6), only(*names))
    (asked,) = advance(client, 1, only(*names))
    assert_by_the_model(client, 1)
    assert all(0 <= value <= 1 for value in asked.values())
    assert ("ParEGO" in timings(client)["acquisition"].iloc[-1]) == (count >= 5)


@pytest.mark.parametrize("count", [5, 6])
def test_the_candidate_for_five_objectives_or_more_is_good_by_the_same_scalarization(count, monkeypatch):
    weights = torch.linspace(1, 2, count, dtype=torch.double)
    monkeypatch.setattr(parego, "sample_simplex", lambda **kwargs: weights / weights.sum())
    names = NAMES[:count]
    client = client_for(objective=", ".join(f"-{name}" for name in names), **MODEL_FIRST)
    attach(client, points(9), rippled(*names))
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, next_one)


def test_parameter_changes_are_simplified_as_in_stock_ax():
    """y does not matter, so it stays at the value of the status quo."""
    client = client_for(objective="-a", **MODEL_FIRST, simplify_parameter_changes=True)
    function = lambda p: {"a": (p["x"] - 0.3) ** 2}  # noqa: E731
    client.complete_trial(client.attach_baseline({"x": 0.5, "y": 0.5}), function({"x": 0.5}))
    attach(client, points(9), function)
    (asked,) = advance(client, 1, function)
    assert_by_the_model(client, 1)
    assert asked["y"] == 0.5 and abs(asked["x"] - 0.3) < 0.1
    assert "optimizer: simplify_parameter_changes" in reasons(client)


def test_the_front_after_a_dozen_trials_is_not_clearly_worse_than_that_of_stock_ax():
    """Hypervolume of the negated distances from two points above (-1, -1).

    ``from_config("reference", seed=1)`` reaches 0.426 in as many trials (Ax 1.3.1); ours 0.427.
    """
    client = client_for(objective="-a, -b", seed=1)
    asked = advance(client, 12, only("a", "b"))
    Y = -torch.tensor([[*only("a", "b")(p).values()] for p in asked], dtype=torch.double)
    front = Y[is_non_dominated(Y)]
    assert Hypervolume(torch.tensor([-1.0, -1.0], dtype=torch.double)).compute(front) > 0.95 * 0.426


def preferences() -> Experiment:
    """Two outcomes whose utility is learned from comparisons in another experiment."""
    names = ["a", "b"]
    with with_rng_seed(0):  # comparisons drawn at random: BoTorch cannot fit a model to all of them
        profile = get_pbo_experiment(
            num_parameters=2,
            num_experimental_metrics=0,
            parameter_names=names,
            tracking_metric_names=[],
            num_experimental_trials=0,
            num_preference_trials=8,
            num_preference_trials_w_repeated_arm=0,
            include_sq=False,
            unbounded_search_space=False,
            experiment_name="profile",
        )
    objective = Objective(expression="a, b", metric_name_to_signature={name: name for name in names})
    return Experiment(
        name="preferences",
        search_space=SearchSpace([RangeParameter(p.name, ParameterType.FLOAT, 0.0, 1.0) for p in FLOATS]),
        metrics=[Metric(name) for name in names],
        auxiliary_experiments_by_purpose={
            AuxiliaryExperimentPurpose.PE_EXPERIMENT: [AuxiliaryExperiment(experiment=profile)]
        },
        optimization_config=PreferenceOptimizationConfig(objective=objective, preference_profile_name="profile"),
    )


@pytest.mark.filterwarnings("ignore:`scipy_minimize` terminated")  # BoTorch's fit of a preference model
def test_a_learned_preference_is_refused_as_by_stock_ax_with_the_transforms_of_fast():
    client = client_of_core(preferences(), **MODEL_FIRST)
    attach(client, points(6), only("a", "b"))
    with pytest.raises(UnsupportedError) as expected:
        stock_adapter(client._experiment).gen(n=1)
    with pytest.raises(UnsupportedError) as found:
        client.get_next_trials(max_trials=1)
    assert "not allowed with BOPE" in str(expected.value) and "not allowed with BOPE" in str(found.value)


# the transforms that a learned preference allows do not standardize outcomes, with stock Ax neither
@pytest.mark.filterwarnings("ignore:Data \\(outcome observations\\) is not standardized")
@pytest.mark.filterwarnings("ignore:`scipy_minimize` terminated")
def test_a_learned_preference_is_optimized_by_a_node_with_transforms_that_allow_it():
    spec = GeneratorSpec(generator_enum=Generators.BOTORCH_MODULAR, generator_kwargs={"transforms": [UnitX]})
    strategy = GenerationStrategy(nodes=[GenerationNode(name="model", generator_specs=[spec])])
    client = client_of_core(preferences())
    client.set_generation_strategy(strategy)
    accelerate(client, seed=0, **QUICK)
    attach(client, points(6), only("a", "b"))
    (asked,) = advance(client, 1, only("a", "b"))
    assert_by_the_model(client, 1)
    assert all(0 <= value <= 1 for value in asked.values())
    assert "a learned objective" in reasons(client)
    (next_one,) = candidate(client)  # the values differ by 0.01
    assert_as_good_as_random(client, next_one, points(200, seed=1), margin=1e-3, transforms=[UnitX])

"""Linear constraints on parameters: satisfied to 1e-9, by ints exactly, and the candidate as good as any feasible point."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.experiment import Experiment
from ax.core.metric import Metric
from ax.core.objective import Objective
from ax.core.optimization_config import OptimizationConfig
from ax.core.parameter import ParameterType, RangeParameter
from ax.core.parameter_constraint import ParameterConstraint
from ax.core.search_space import SearchSpace
from ax.core.utils import extract_pending_observations

from gpu_gs import GPUGenerationStrategy
from tests.kinds.helpers import (
    MODEL_FIRST,
    advance,
    assert_as_good_as_random,
    assert_as_good_as_stock,
    assert_by_the_model,
    attach,
    candidate,
    client_for,
    client_of_core,
    quick_strategy,
    ripple,
    stock_adapter,
)

# SLSQP, where nothing is left to gain.
pytestmark = pytest.mark.filterwarnings("ignore:Optimization failed in:RuntimeWarning")

Point = Mapping[str, Any]

TOLERANCE = 1e-9


def floats(*names: str, upper: float = 1.0) -> list[RangeParameterConfig]:
    return [RangeParameterConfig(name=name, parameter_type="float", bounds=(0.0, upper)) for name in names]


def ints(*names: str, upper: int = 9) -> list[RangeParameterConfig]:
    return [RangeParameterConfig(name=name, parameter_type="int", bounds=(0, upper)) for name in names]


KINDS: dict[str, tuple[list[Any], list[str], Callable[[Point], list[float]]]] = {
    # kind: (parameters, constraints, their slacks, none of which may be negative)
    "one, on floats": (floats("a", "b"), ["a + b <= 0.8"], lambda p: [0.8 - p["a"] - p["b"]]),
    "an order of two floats": (floats("a", "b"), ["a <= b"], lambda p: [p["b"] - p["a"]]),
    "three at once": (
        floats("a", "b", "c"),
        ["a + b + c <= 1.5", "a - b <= 0.2", "2*c + a >= 0.4"],
        lambda p: [1.5 - p["a"] - p["b"] - p["c"], 0.2 - p["a"] + p["b"], 2 * p["c"] + p["a"] - 0.4],
    ),
    "on ints": (ints("a", "b"), ["a + b <= 9"], lambda p: [9 - p["a"] - p["b"]]),
    "on ints of many values": (ints("a", "b", upper=1000), ["a + 2*b <= 700"], lambda p: [700 - p["a"] - 2 * p["b"]]),
    "on a float and an int": (
        [*floats("a", upper=5.0), *ints("b", upper=5)],
        ["a + b <= 4.5"],
        lambda p: [4.5 - p["a"] - p["b"]],
    ),
    "on floats, beside a choice": (
        [
            *floats("a", "b"),
            ChoiceParameterConfig(name="c", parameter_type="str", values=["u", "v", "w"], is_ordered=False),
        ],
        ["a + b <= 0.8"],
        lambda p: [0.8 - p["a"] - p["b"]],
    ),
    "a share of 0.03 % of the box": (
        floats("a", "b", "c", "d"),
        ["a + b + c + d <= 0.3"],
        lambda p: [0.3 - p["a"] - p["b"] - p["c"] - p["d"]],
    ),
}


BESIDE_STOCK = {
    "two, on floats": (
        floats("a", "b"),
        ["a + b <= 0.8", "a - b <= 0.3"],
        lambda p: [0.8 - p["a"] - p["b"], 0.3 - p["a"] + p["b"]],
    ),
    **{kind: KINDS[kind] for kind in ("on ints", "on floats, beside a choice")},
    "a share of 0.03 % of the box": KINDS["a share of 0.03 % of the box"],
}
"""Kinds in which stock Ax's own optimizer takes seconds, not minutes."""


def scaled(point: Point, parameters: list[Any]) -> list[float]:
    upper = {p.name: p.bounds[1] for p in parameters if isinstance(p, RangeParameterConfig)}
    return [float(point[name]) / bound for name, bound in upper.items()]


def objective(parameters: list[Any]) -> Callable[[Point], dict[str, float]]:
    def function(p: Point) -> dict[str, float]:
        z = scaled(p, parameters)
        return {"f": sum((v - 0.5) ** 2 for v in z) + (p.get("c") == "u") + ripple(*z)}

    return function


def random_points(parameters: list[Any], slacks: Callable[[Point], list[float]], count: int, seed: int) -> list[Point]:
    """Points that satisfy the constraints: those of a thinner and thinner box, so that tight ones let some pass."""
    rng = np.random.default_rng(seed)
    points: list[Point] = []
    while len(points) < count:
        width = rng.uniform()
        point: dict[str, Any] = {}
        for p in parameters:
            if isinstance(p, ChoiceParameterConfig):
                point[p.name] = str(rng.choice(p.values))
            elif p.parameter_type == "int":
                point[p.name] = int(rng.integers(0, int(width * p.bounds[1]) + 1))
            else:
                point[p.name] = float(rng.uniform(0, width * p.bounds[1]))
        if min(slacks(point)) >= 0:
            points.append(point)
    return points


def assert_feasible(point: Point, parameters: list[Any], slacks: Callable[[Point], list[float]]) -> None:
    whole = all(p.parameter_type == "int" for p in parameters if isinstance(p, RangeParameterConfig))
    assert min(slacks(point)) >= (0 if whole else -TOLERANCE)
    for p in parameters:
        if isinstance(p, RangeParameterConfig):
            assert type(point[p.name]).__name__ == p.parameter_type
            assert p.bounds[0] <= point[p.name] <= p.bounds[1]
        else:
            assert point[p.name] in p.values


@pytest.mark.parametrize("kind", KINDS)
def test_constraints_hold_and_the_candidate_is_good(kind):
    parameters, constraints, slacks = KINDS[kind]
    client = client_for(parameters, parameter_constraints=constraints, **MODEL_FIRST)
    function = objective(parameters)
    attach(client, random_points(parameters, slacks, 8, seed=0), function)
    (asked,) = advance(client, 1, function)
    (next_one,) = candidate(client)
    assert_by_the_model(client, 1)
    for point in (asked, next_one):
        assert_feasible(point, parameters, slacks)
    assert_as_good_as_random(client, next_one, random_points(parameters, slacks, 200, seed=1))


@pytest.mark.parametrize("kind", BESIDE_STOCK)
def test_stock_ax_finds_no_better_point(kind):
    parameters, constraints, slacks = BESIDE_STOCK[kind]
    client = client_for(parameters, parameter_constraints=constraints, **MODEL_FIRST)
    attach(client, random_points(parameters, slacks, 8, seed=0), objective(parameters))
    (next_one,) = candidate(client)
    assert_feasible(next_one, parameters, slacks)
    assert_as_good_as_stock(client, next_one)


def test_several_arms_and_pending_ones_are_feasible_and_distinct():
    parameters, constraints, slacks = KINDS["one, on floats"]
    client = client_for(parameters, parameter_constraints=constraints, **MODEL_FIRST)
    attach(client, random_points(parameters, slacks, 6, seed=0), objective(parameters))
    client.get_next_trials(max_trials=1)
    arms = candidate(client, n=3)
    for point in arms:
        assert_feasible(point, parameters, slacks)
    assert len({tuple(point.values()) for point in arms}) == 3


def test_a_fixed_parameter_under_a_constraint_keeps_both():
    parameters, constraints, slacks = KINDS["three at once"]
    client = client_for(parameters, parameter_constraints=constraints, **MODEL_FIRST)
    function = objective(parameters)
    attach(client, random_points(parameters, slacks, 6, seed=0), function)
    ((_, point),) = client.get_next_trials(max_trials=1, fixed_parameters={"a": 0.45}).items()
    assert point["a"] == 0.45
    assert_feasible(point, parameters, slacks)
    assert_by_the_model(client, 1)


# ---------------------------------------------------------------------- equality: through Ax's core objects


def core(parameters: list[RangeParameter], constraints: list[ParameterConstraint]) -> Experiment:
    return Experiment(
        name="core",
        search_space=SearchSpace(parameters, constraints),
        optimization_config=OptimizationConfig(Objective(expression="-f", metric_name_to_signature={"f": "f"})),
        metrics=[Metric("f")],
    )


def shares(*names: str) -> list[RangeParameter]:
    return [RangeParameter(name, ParameterType.FLOAT, 0.0, 1.0) for name in names]


def mixture_points(count: int, seed: int) -> list[Point]:
    return [
        dict(zip("abc", row.tolist(), strict=True)) for row in np.random.default_rng(seed).dirichlet([1] * 3, count)
    ]


def mixture(p: Point) -> dict[str, float]:
    return {"f": (p["a"] - 0.2) ** 2 + (p["b"] - 0.5) ** 2 + ripple(p["a"], p["b"])}


def test_an_equality_holds_to_1e_9():
    client = client_of_core(
        core(shares("a", "b", "c"), [ParameterConstraint(equality="a + b + c == 1")]), **MODEL_FIRST
    )
    attach(client, mixture_points(8, 0), mixture)
    (asked,) = advance(client, 1, mixture)
    (next_one,) = candidate(client)
    assert_by_the_model(client, 1)
    for point in (asked, next_one):
        assert sum(point.values()) == pytest.approx(1, abs=TOLERANCE)
        assert all(0 <= value <= 1 for value in point.values())
    assert_as_good_as_random(client, next_one, mixture_points(200, 1))
    assert_as_good_as_stock(client, next_one)


def test_an_equality_and_inequalities_hold_together():
    constraints = [
        ParameterConstraint(equality="a + b + c == 1"),
        ParameterConstraint(inequality="a <= b"),
        ParameterConstraint(inequality="c >= 0.1"),
    ]
    client = client_of_core(core(shares("a", "b", "c"), constraints), **MODEL_FIRST)
    inside = [p for p in mixture_points(400, 0) if p["a"] <= p["b"] and p["c"] >= 0.1]
    attach(client, inside[:8], mixture)
    (next_one,) = candidate(client)
    assert sum(next_one.values()) == pytest.approx(1, abs=TOLERANCE)
    assert next_one["a"] <= next_one["b"] + TOLERANCE and next_one["c"] >= 0.1 - TOLERANCE
    assert_as_good_as_random(client, next_one, inside[8:])


def test_an_equality_on_ints_holds_exactly():
    parameters = [RangeParameter(name, ParameterType.INT, 0, 9) for name in "abc"]
    client = client_of_core(core(parameters, [ParameterConstraint(equality="a + b + c == 12")]), **MODEL_FIRST)
    rng = np.random.default_rng(0)
    points = [
        p
        for p in ({n: int(v) for n, v in zip("abc", rng.integers(0, 10, 3), strict=True)} for _ in range(400))
        if sum(p.values()) == 12
    ]

    def function(p: Point) -> dict[str, float]:
        return {"f": (p["a"] - 3) ** 2 / 20 + (p["b"] - 5) ** 2 / 20 + ripple(p["a"], p["b"])}

    attach(client, points[:6], function)
    (next_one,) = candidate(client)
    assert sum(next_one.values()) == 12
    assert all(type(value) is int and 0 <= value <= 9 for value in next_one.values())
    every = [{"a": a, "b": b, "c": 12 - a - b} for a in range(10) for b in range(10) if 0 <= 12 - a - b <= 9]
    assert_as_good_as_random(client, next_one, [p for p in every if p not in points[:6]])


def test_an_equality_on_floats_and_an_int_holds_to_1e_9():
    parameters = [*shares("a", "b"), RangeParameter("n", ParameterType.INT, 0, 4)]
    client = client_of_core(core(parameters, [ParameterConstraint(equality="a + b + 0.25*n == 1.3")]), **MODEL_FIRST)

    def some(count: int, seed: int) -> list[Point]:
        rng = np.random.default_rng(seed)
        drawn = [(float(rng.uniform()), int(rng.integers(0, 5))) for _ in range(10 * count)]
        found = [{"a": a, "b": 1.3 - a - 0.25 * n, "n": n} for a, n in drawn]
        return [p for p in found if 0 <= p["b"] <= 1][:count]

    def function(p: Point) -> dict[str, float]:
        return {"f": (p["a"] - 0.2) ** 2 + (p["n"] - 3) ** 2 / 8 + ripple(p["a"])}

    attach(client, some(8, 0), function)
    (asked,) = advance(client, 1, function)
    (next_one,) = candidate(client)
    assert_by_the_model(client, 1)
    for point in (asked, next_one):
        assert point["a"] + point["b"] + 0.25 * point["n"] == pytest.approx(1.3, abs=TOLERANCE)
        assert type(point["n"]) is int and 0 <= point["n"] <= 4
        assert 0 <= point["a"] <= 1 and 0 <= point["b"] <= 1
    assert_as_good_as_random(client, next_one, some(200, 1))


# ---------------------------------------------------------------------- what cannot be satisfied


def error_of(call: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which class is the question
        call()
    return caught.value


def test_infeasible_constraints_raise_what_stock_ax_raises():
    """The model's ask after points that the user attached; Sobol's is Ax's own."""

    def client():
        made = client_for(floats("a", "b"), **MODEL_FIRST)
        attach(made, [{"a": 0.1 * k, "b": 0.05 * k} for k in range(6)], objective(floats("a", "b")))
        impossible = [ParameterConstraint(inequality=text) for text in ("a + b <= 0.2", "a + b >= 1.5")]
        made._experiment.search_space.set_parameter_constraints(impossible)
        return made

    ours, stock = client(), client()
    found = error_of(lambda: candidate(ours))
    expected = error_of(
        lambda: stock_adapter(stock._experiment).gen(
            n=1, pending_observations=extract_pending_observations(stock._experiment)
        )
    )
    assert type(found) is type(expected)
    assert "constraint" in str(found) or "feasible" in str(found)


def test_infeasible_constraints_are_an_error_of_the_first_ask_too():
    def first(strategy):
        client = client_for(floats("a", "b"), parameter_constraints=["a + b <= 0.2", "a + b >= 1.5"])
        client.set_generation_strategy(strategy)
        return error_of(lambda: client.get_next_trials(max_trials=1))

    found = first(quick_strategy())
    expected = first(GPUGenerationStrategy.from_config("reference", seed=0))
    assert type(found) is type(expected)

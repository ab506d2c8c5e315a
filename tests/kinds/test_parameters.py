"""Every kind of parameter: the domain, the type of a value, and a candidate that stock Ax would find good too."""

import math
from typing import Any

import pytest
from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig
from ax.core.experiment import Experiment
from ax.core.metric import Metric
from ax.core.objective import Objective
from ax.core.optimization_config import OptimizationConfig
from ax.core.parameter import ChoiceParameter, FixedParameter, ParameterType, RangeParameter
from ax.core.search_space import SearchSpace

from tests.kinds.helpers import (
    FLOATS,
    advance,
    assert_as_good_as_stock,
    assert_by_the_model,
    candidate,
    client_for,
    client_of_core,
    ripple,
)

X = FLOATS[0]


def ranged(kind: str, bounds: tuple[float, float], **kwargs: Any) -> RangeParameterConfig:
    return RangeParameterConfig(name="p", parameter_type=kind, bounds=bounds, **kwargs)


def choice(kind: str, values: list[Any], ordered: bool | None) -> ChoiceParameterConfig:
    return ChoiceParameterConfig(name="p", parameter_type=kind, values=values, is_ordered=ordered)


def core(parameter: Any) -> Experiment:
    """An experiment of x and a parameter that ``Client`` cannot describe."""
    return Experiment(
        name="core",
        search_space=SearchSpace([RangeParameter("x", ParameterType.FLOAT, 0.0, 1.0), parameter]),
        optimization_config=OptimizationConfig(Objective(expression="-f", metric_name_to_signature={"f": "f"})),
        metrics=[Metric("f")],
    )


KINDS: dict[str, tuple[Any, type, list[Any] | tuple[float, float]]] = {
    # kind: (parameter, type of its values, its values or its bounds)
    "float": (ranged("float", (-2.0, 3.0)), float, (-2.0, 3.0)),
    "float, log scale": (ranged("float", (1e-4, 10.0), scaling="log"), float, (1e-4, 10.0)),
    "float, logit scale": (
        RangeParameter("p", ParameterType.FLOAT, 0.01, 0.99, logit_scale=True),
        float,
        (0.01, 0.99),
    ),
    "float, rounded to digits": (RangeParameter("p", ParameterType.FLOAT, 0.0, 1.0, digits=2), float, (0.0, 1.0)),
    "float, step size": (ranged("float", (0.0, 1.0), step_size=0.25), float, [0.0, 0.25, 0.5, 0.75, 1.0]),
    "int": (ranged("int", (1, 9)), int, list(range(1, 10))),
    "int, many values": (ranged("int", (0, 10_000)), int, (0, 10_000)),
    "int, log scale": (ranged("int", (1, 256), scaling="log"), int, list(range(1, 257))),
    "int, step size": (ranged("int", (0, 20), step_size=5), int, [0, 5, 10, 15, 20]),
    "fixed": (FixedParameter("p", ParameterType.INT, 3), int, [3]),
    "ordered floats": (choice("float", [0.1, 0.5, 2.0], True), float, [0.1, 0.5, 2.0]),
    "ordered ints": (choice("int", [1, 2, 8], True), int, [1, 2, 8]),
    "ordered strings": (choice("str", ["s", "m", "l"], True), str, ["s", "m", "l"]),
    "unordered floats": (choice("float", [0.1, 0.5, 2.0], False), float, [0.1, 0.5, 2.0]),
    "unordered ints": (choice("int", [1, 2, 8], False), int, [1, 2, 8]),
    "unordered strings": (choice("str", ["a", "b", "c"], False), str, ["a", "b", "c"]),
    "boolean": (choice("bool", [False, True], False), bool, [False, True]),
    "ordered boolean": (
        ChoiceParameter("p", ParameterType.BOOL, [False, True], is_ordered=True, sort_values=True),
        bool,
        [False, True],
    ),
    "choice of one value": (choice("str", ["only"], False), str, ["only"]),
}


def position(value: Any, domain: list[Any] | tuple[float, float]) -> float:
    """Where a value lies in its domain, from 0 to 1."""
    if isinstance(domain, list):
        return domain.index(value) / max(len(domain) - 1, 1)
    return (value - domain[0]) / (domain[1] - domain[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_keeps_its_domain_and_type_and_the_candidate_is_good(kind):
    parameter, kind_of_value, domain = KINDS[kind]

    def function(p):
        z = position(p["p"], domain)
        return {"f": (p["x"] - 0.3) ** 2 + (z - 0.4) ** 2 + ripple(p["x"], z)}

    described = isinstance(parameter, RangeParameterConfig | ChoiceParameterConfig)
    client = client_for([X, parameter]) if described else client_of_core(core(parameter))
    asked = advance(client, 8, function)
    assert_by_the_model(client, 3)
    for point in asked:
        value = point["p"]
        assert type(value) is kind_of_value
        assert value in domain if isinstance(domain, list) else domain[0] <= value <= domain[1]
        if "digits" in kind:
            assert value == round(value, 2)
    (next_one,) = candidate(client)
    assert client._experiment.search_space.check_membership(next_one, raise_error=True)
    assert_as_good_as_stock(client, next_one)


def test_all_kinds_of_parameters_in_one_space():
    parameters = [
        X,
        RangeParameterConfig(name="rate", parameter_type="float", bounds=(1e-4, 1.0), scaling="log"),
        RangeParameterConfig(name="depth", parameter_type="int", bounds=(1, 8)),
        RangeParameterConfig(name="step", parameter_type="float", bounds=(0.0, 1.0), step_size=0.25),
        ChoiceParameterConfig(name="size", parameter_type="str", values=["s", "m", "l"], is_ordered=True),
        ChoiceParameterConfig(name="kind", parameter_type="str", values=["a", "b", "c"], is_ordered=False),
        ChoiceParameterConfig(name="flag", parameter_type="bool", values=[False, True], is_ordered=True),
    ]
    client = client_for(parameters)
    asked = advance(
        client,
        8,
        lambda p: {
            "f": p["x"] + abs(math.log10(p["rate"]) + 2) + abs(p["depth"] - 3) / 8 + (p["kind"] != "b") + ripple(p["x"])
        },
    )
    assert_by_the_model(client, 3)
    assert all(client._experiment.search_space.check_membership(p, raise_error=True) for p in asked)
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, next_one)


@pytest.mark.parametrize(
    ("expression", "kind"), [("2 * x + 0.5 * y", "float"), ("x + y", "float"), ("2 * m + 1", "int")]
)
def test_a_derived_parameter_follows_those_that_it_is_derived_from(expression, kind):
    parameters = [
        *FLOATS,
        RangeParameterConfig(name="m", parameter_type="int", bounds=(0, 5)),
        DerivedParameterConfig(name="derived", expression_str=expression, parameter_type=kind),
    ]
    client = client_for(parameters)
    scale = 0.1 if kind == "int" else 1.0
    asked = advance(
        client,
        8,
        lambda p: {
            "f": (scale * p["derived"] - 0.8) ** 2 + (p["y"] - 0.3) ** 2 + 0.01 * p["m"] + ripple(p["x"], p["y"])
        },
    )
    assert_by_the_model(client, 3)
    for point in asked:
        expected = eval(expression, {}, dict(point))
        assert type(point["derived"]).__name__ == kind
        assert point["derived"] == pytest.approx(expected, abs=1e-9)
        assert type(point["m"]) is int
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, {name: value for name, value in next_one.items() if name != "derived"})


@pytest.mark.filterwarnings("ignore:Optimization failed in:RuntimeWarning")  # stock Ax's optimizer
def test_a_hierarchical_space_gives_each_arm_the_parameters_of_its_branch():
    parameters = [
        ChoiceParameterConfig(
            name="model",
            parameter_type="str",
            values=["linear", "tree"],
            is_ordered=False,
            dependent_parameters={"linear": ["rate"], "tree": ["depth", "flag"]},
        ),
        RangeParameterConfig(name="rate", parameter_type="float", bounds=(1e-3, 1.0), scaling="log"),
        RangeParameterConfig(name="depth", parameter_type="int", bounds=(1, 6)),
        ChoiceParameterConfig(name="flag", parameter_type="bool", values=[False, True], is_ordered=True),
    ]
    client = client_for(parameters)

    def function(p):
        return {"f": abs(math.log10(p["rate"]) + 1) if p["model"] == "linear" else abs(p["depth"] - 4) + 0.1}

    asked = advance(client, 12, function)
    assert_by_the_model(client, 4)
    (next_one,) = candidate(client)
    for point in (*asked, next_one):
        branch = {"model", "rate"} if point["model"] == "linear" else {"model", "depth", "flag"}
        assert set(point) == branch
    assert min(function(p)["f"] for p in asked) < 0.3  # of the better branch
    assert_as_good_as_stock(client, next_one)


def test_branches_within_branches_give_each_arm_the_parameters_of_its_own():
    tree = {"tree": ["depth", "rule"], "line": ["rate"]}
    parameters = [
        choice("str", ["tree", "line"], False),
        ChoiceParameterConfig(
            name="rule", parameter_type="int", values=[1, 2], is_ordered=True, dependent_parameters={2: ["y"]}
        ),
        RangeParameterConfig(name="depth", parameter_type="int", bounds=(1, 6)),
        RangeParameterConfig(name="rate", parameter_type="float", bounds=(1e-3, 1.0), scaling="log"),
        X,
        FLOATS[1],
    ]
    parameters[0].dependent_parameters = tree

    def function(p):
        return {"f": (p["x"] - 0.3) ** 2 + p.get("depth", 3) / 9 + (p.get("y", 0.5) - 0.1) ** 2 + p.get("rate", 0.2)}

    client = client_for(parameters)
    asked = advance(client, 12, function)
    assert_by_the_model(client, 5)
    for point in asked:
        branch = {"p", "x"} | set(tree[point["p"]]) | ({"y"} if point.get("rule") == 2 else set())
        assert set(point) == branch

"""Clients and experiments with linear parameter constraints: feasible, without a fall-back, as good as stock Ax."""

import pytest
import torch
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from ax.core.arm import Arm
from ax.core.objective import Objective
from ax.core.observation import ObservationFeatures
from ax.core.optimization_config import OptimizationConfig
from ax.core.parameter import ParameterType, RangeParameter
from ax.core.parameter_constraint import ParameterConstraint
from ax.core.search_space import SearchSpace
from botorch.exceptions.errors import InfeasibilityError

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.plugin import closed_form as closed_form_module
from tests.plugin.data_helpers import attach, make_experiment
from tests.plugin.helpers import QUICK

NAMES = ("x", "y", "z")


def strategy(**config):
    return GPUGenerationStrategy.from_config("fast", seed=0, **{**QUICK, **config})


def make(kinds, constraints, **config):
    """A client; ``kinds`` are "float" in [0, 1], "int" in 0..9 or "large" in 0..200 for x, y, z in turn."""
    bounds = {"float": (0.0, 1.0), "int": (0, 9), "large": (0, 200)}
    client = Client(random_seed=1)
    client.configure_experiment(
        name="constrained",
        parameters=[
            RangeParameterConfig(name=name, parameter_type="float" if kind == "float" else "int", bounds=bounds[kind])
            for name, kind in zip(NAMES, kinds, strict=False)
        ],
        parameter_constraints=list(constraints),
    )
    client.configure_optimization(objective="-f")
    client.set_generation_strategy(strategy(**config))
    return client


def scaled(point):
    return {name: value if isinstance(value, float) else value / 9 for name, value in point.items()}


def objective(point):
    """Pulls every parameter beyond what the constraints below allow."""
    return sum((value - target) ** 2 for value, target in zip(scaled(point).values(), (0.8, 0.7, 0.9), strict=False))


def run(client, trials, max_trials=1):
    points = []
    while len(points) < trials:
        for index, point in client.get_next_trials(max_trials=max_trials).items():
            client.complete_trial(index, {"f": objective(point)})
            points.append(dict(point))
    return points


def fall_backs(client):
    asked = timings(client)
    assert len(asked) > 0
    return {reason for text in asked["reasons"] for reason in text.split("; ") if "optimizer" in reason}


CASES = {
    "two on floats": (("float",) * 3, ["x + y <= 1.0", "x + 2*y + z <= 1.8"]),
    "two on ints": (("int",) * 3, ["x + y <= 9", "x + y + z <= 14"]),
    "ints and a float": (("int", "float", "int"), ["x + 9*y <= 9", "x - z <= 2"]),
    "large ints": (("large", "large", "float"), ["x + y <= 100"]),
    "a sum": (("float",) * 3, ["x + y + z <= 1"]),
    "an order": (("float",) * 3, ["x <= y", "y <= z"]),
    "an order of ints": (("int",) * 3, ["x <= y", "y <= z"]),
    "tight": (("float",) * 3, ["x - y <= 0.01", "y - x <= 0.01", "y - z <= 0.01", "z - y <= 0.01"]),
}


def holds(constraints, point, tolerance=1e-9):
    sides = [text.replace(">=", "<=").split("<=") for text in constraints]
    return all(
        eval(left, {}, dict(point)) <= eval(right, {}, dict(point)) + tolerance  # those above
        for left, right in sides
    )


@pytest.mark.parametrize("case", CASES)
def test_asks_are_feasible_and_never_fall_back(case):
    kinds, constraints = CASES[case]
    client = make(kinds, constraints)
    points = run(client, 9)
    assert all(holds(constraints, point) for point in points)
    for point in points:
        for name, kind in zip(NAMES, kinds, strict=True):
            assert isinstance(point[name], float if kind == "float" else int)
    assert fall_backs(client) == set()
    assert len({tuple(point.values()) for point in points}) == 9


def test_an_optimum_on_a_constraint_is_found():
    client = make(("float",) * 3, ["x + y <= 1.0"])
    points = run(client, 16)
    # The nearest point to (0.8, 0.7, 0.9) with x + y = 1 is (0.55, 0.45, 0.9).
    assert min(objective(point) for point in points) == pytest.approx(0.125, abs=0.01)
    assert any(abs(point["x"] + point["y"] - 1.0) < 1e-9 for point in points)


def test_several_candidates_at_once_and_pending_trials_are_feasible_and_different():
    constraints = ["x + y <= 1.0", "y - z <= 0.1"]
    client = make(("float",) * 3, constraints)
    run(client, 6)
    waiting = client.get_next_trials(max_trials=4)
    more = client.get_next_trials(max_trials=1)
    points = [*waiting.values(), *more.values()]
    assert all(holds(constraints, point) for point in points)
    assert len({tuple(point.values()) for point in points}) == 5
    assert fall_backs(client) == set()


@pytest.mark.parametrize("function", ["LogEI", "LogNEI", "UCB", "qLogNEI"])
def test_every_acquisition_function_takes_constraints(function):
    client = make(("float",) * 3, ["x + y + z <= 1"], acquisition={**QUICK["acquisition"], "function": function})
    points = run(client, 7)
    assert all(holds(["x + y + z <= 1"], point) for point in points)
    assert fall_backs(client) == set()


def test_asks_repeat_bit_for_bit_whatever_the_global_generator_did():
    kinds, constraints = CASES["two on floats"]
    torch.manual_seed(1)
    one = run(make(kinds, constraints), 8)
    torch.manual_seed(2)
    assert run(make(kinds, constraints), 8) == one


def test_fixed_parameters_take_part_in_the_constraints():
    constraints = ["x + y <= 1.0"]
    client = make(("float",) * 3, constraints)
    run(client, 6)
    ((_, point),) = client.get_next_trials(max_trials=1, fixed_parameters={"x": 0.75}).items()
    assert point["x"] == 0.75
    assert point["y"] <= 0.25 + 1e-9
    assert fall_backs(client) == set()


POINTS = [(0.2, 0.3, 0.5), (0.6, 0.2, 0.2), (0.1, 0.1, 0.8), (0.3, 0.6, 0.1), (0.4, 0.4, 0.2), (0.25, 0.5, 0.25)]


POINTS = [(0.2, 0.3, 0.5), (0.6, 0.2, 0.2), (0.1, 0.1, 0.8), (0.3, 0.6, 0.1), (0.4, 0.4, 0.2), (0.25, 0.5, 0.25)]


def experiment(constraints):
    """An experiment of core objects with three floats in the unit cube, which has been told a few points."""
    made = make_experiment(
        SearchSpace(
            [RangeParameter(name, ParameterType.FLOAT, 0.0, 1.0) for name in NAMES], parameter_constraints=constraints
        ),
        OptimizationConfig(Objective(expression="-f", metric_name_to_signature={"f": "f"})),
    )
    for point in POINTS:
        trial = made.new_trial().add_arm(Arm(dict(zip(NAMES, point, strict=True))))
        trial.mark_running(no_runner_required=True)
        attach(made, trial.index, {"f": (sum((coordinate - 0.3) ** 2 for coordinate in point), 0.0)})
        trial.mark_completed()
    return made


def test_equations_of_core_objects_are_met():
    made = experiment([ParameterConstraint(equality="x + y + z == 1"), ParameterConstraint(inequality="x - y <= 0.2")])
    ours = strategy()
    for _ in range(3):
        ((run,),) = ours.gen(made, n=1)
        trial = made.new_trial(run)
        point = trial.arm.parameters
        assert sum(point.values()) == pytest.approx(1.0, abs=1e-9)
        assert point["x"] - point["y"] <= 0.2 + 1e-9
    assert fall_backs(made) == set()


def under_way(made):
    """A strategy that has reached its model."""
    ours = strategy()
    for _ in range(7):
        ((run,),) = ours.gen(made, n=1)
        trial = made.new_trial(run).mark_running(no_runner_required=True)
        attach(made, trial.index, {"f": (sum((value - 0.3) ** 2 for value in trial.arm.parameters.values()), 0.0)})
        trial.mark_completed()
    assert len(timings(made)) > 0
    return ours


def test_points_that_violate_a_constraint_are_no_incumbent():
    made = experiment([])
    ours = under_way(made)
    made.search_space.add_parameter_constraints([ParameterConstraint(inequality="x + y <= 0.5")])
    used = []
    original = closed_form_module.LogEIAcquisition.optimize

    def spy(self, *args, **kwargs):
        used.append(self)
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed_form_module.LogEIAcquisition, "optimize", spy)
        ((run,),) = ours.gen(made, n=1)
    X, eligible = used[-1].X_observed, used[-1]._eligible
    assert 0 < int(eligible.sum()) < len(X)
    assert torch.equal(eligible, X[:, :2].sum(-1) <= 0.5)
    assert sum(list(run.arms[0].parameters.values())[:2]) <= 0.5 + 1e-9


def test_constraints_that_leave_no_point_are_a_clear_error():
    made = experiment([])
    ours = under_way(made)
    made.search_space.add_parameter_constraints(
        [ParameterConstraint(inequality="x + y <= 0.5"), ParameterConstraint(inequality="x + y >= 0.6")]
    )
    with pytest.raises(InfeasibilityError, match=r"The parameter constraints allow no point: .*x.*y"):
        ours.gen(made, n=1)


def test_fixed_features_that_leave_no_point_are_a_clear_error():
    made = experiment([ParameterConstraint(inequality="x + y <= 0.5")])
    ours = under_way(made)
    fixed = ObservationFeatures({"x": 0.4, "y": 0.4})
    with pytest.raises(InfeasibilityError, match=r"allow no point with these fixed values: -1 x - 1 y >= -0\.5"):
        ours.gen(made, n=1, fixed_features=fixed)


def test_constraints_whose_parameters_are_all_fixed_leave_the_others_free():
    client = make(("float",) * 3, ["x + y <= 1.0"])
    run(client, 7)
    (point,) = client.get_next_trials(max_trials=1, fixed_parameters={"x": 0.3, "y": 0.2}).values()
    assert (point["x"], point["y"]) == (pytest.approx(0.3), pytest.approx(0.2))
    assert "optimizer" not in timings(client)["reasons"].iloc[-1]

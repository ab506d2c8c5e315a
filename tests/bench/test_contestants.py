"""Names of contestants, and that each asks for as many points as wanted inside its space; what stock Ax is told."""

import numpy as np
import pytest
from ax.core.types import ComparisonOp

from gpu_gs.bench.contestants import build, is_ours, label, missing, on_cuda, problems_with, short, split, unsuited
from gpu_gs.bench.problems import PROBLEMS


@pytest.mark.parametrize(
    ("name", "shown", "ours", "cuda"),
    [
        ("reference", "stock Ax", False, False),
        ("reference@cuda", "stock Ax on CUDA", False, True),
        ("optuna", "Optuna", False, False),
        ("ax-random", "Ax, random", False, False),
        ("fast", "gpu_gs fast", True, False),
        ("fast@cuda:1", "gpu_gs fast on CUDA:1", True, True),
        ("cuda", "gpu_gs cuda", True, True),
        ("cuda@cpu", "gpu_gs cuda on CPU", True, False),
    ],
)
def test_a_name_says_who_and_where(name, shown, ours, cuda):
    assert problems_with(name) == []
    assert (label(name), is_ours(name), on_cuda(name), short(name)) == (shown, ours, cuda, name)


def test_a_file_is_called_by_its_stem_also_with_an_at_in_its_folder(tmp_path):
    folder = tmp_path / "me@home"
    folder.mkdir()
    (folder / "mine.yaml").write_text("preset: fast\n")
    name = str(folder / "mine.yaml")
    assert split(name) == (name, None)
    assert (short(name), short(f"{name}@cpu")) == ("mine", "mine@cpu")
    assert problems_with(f"{name}@cpu") == []


@pytest.mark.parametrize("name", ["fsat", "fast@gpu", "optuna@cuda", "nothing.yaml"])
def test_what_is_no_name_is_refused(name):
    (problem,) = problems_with(name)
    assert name in problem


def test_a_file_that_would_pass_for_stock_ax_is_refused(tmp_path):
    (tmp_path / "reference.yaml").write_text("preset: fast\n")
    (problem,) = problems_with(str(tmp_path / "reference.yaml"))
    assert "another name" in problem


@pytest.mark.parametrize("name", ["random", "ax-random", "fast@cpu", "optuna"])
def test_a_contestant_asks_for_several_points_and_takes_their_values(name):
    if reason := missing(name):
        pytest.skip(reason)
    problem = PROBLEMS["branin"]
    points = problem.initial_points(6, seed=0)
    contestant = build(name)
    contestant.start(problem, 0, points, [problem.true_outcomes(x) for x in points])
    contestant.tell(first := contestant.ask(), [problem.true_outcomes(x) for x in first])
    for count in (3, 1):
        asked = contestant.ask(count)
        assert len({tuple(x) for x in asked}) == count
        assert all(problem.space.contains(x) for x in asked)
        contestant.tell(asked, [problem.true_outcomes(x) for x in asked])


def started(name, problem_name, count=4):
    problem = PROBLEMS[problem_name]
    points = problem.initial_points(count, seed=0)
    contestant = build(name)
    contestant.start(problem, 0, points, [problem.true_outcomes(x) for x in points])
    return problem, contestant


@pytest.mark.parametrize(
    ("name", "objective", "weights", "constraints", "thresholds"),
    [
        ("pressurevessel", "-f", [-1.0], {f"c{i}": 0.0 for i in range(4)}, {}),
        ("branincurrin", "-f0, -f1", [-1.0, -1.0], {}, {"f0": 18.0, "f1": 6.0}),
        ("vehiclesafety", "-f0, -f1, -f2", [-1.0] * 3, {}, {"f0": 1864.72022, "f1": 11.81993945, "f2": 0.2903999384}),
        ("constrained-branincurrin", "-f0, -f1", [-1.0, -1.0], {"c0": 0.0}, {"f0": 80.0, "f1": 12.0}),
    ],
)
def test_ax_minimizes_every_objective_below_its_threshold_and_wants_slacks_above_zero(
    name, objective, weights, constraints, thresholds
):
    _, contestant = started("reference", name)
    config = contestant.client._experiment.optimization_config
    assert config.objective.expression == objective
    assert [weight for _, weight in config.objective.metric_weights] == weights
    above = {c.metric_names[0]: c.bound for c in config.all_constraints if c.op == ComparisonOp.GEQ}
    below = {c.metric_names[0]: c.bound for c in config.all_constraints if c.op == ComparisonOp.LEQ}
    assert above == constraints
    assert below == thresholds


def test_ax_gets_the_values_of_all_metrics():
    problem, contestant = started("reference", "constrained-branincurrin")
    frame = contestant.client._experiment.lookup_data().df
    points = problem.initial_points(4, seed=0)
    for index, point in enumerate(points):
        rows = frame[frame["trial_index"] == index]
        assert dict(zip(rows["metric_name"], rows["mean"], strict=True)) == problem.true_outcomes(point)


def test_ax_gets_the_kinds_of_parameters_and_the_linear_constraints():
    _, contestant = started("reference", "hartmann6-mixed")
    parameters = contestant.client._experiment.search_space.parameters
    assert [p.parameter_type.name for p in parameters.values()] == [*["FLOAT"] * 3, "INT", "STRING", "STRING"]
    assert (parameters["x3"].lower, parameters["x3"].upper) == (0, 10)
    assert [parameters[name].is_ordered for name in ("x4", "x5")] == [False, False]
    problem, contestant = started("reference", "hartmann6-linear")
    space = contestant.client._experiment.search_space
    assert len(space.parameter_constraints) == 2
    rng = np.random.default_rng(0)
    for _ in range(100):
        x = [float(v) for v in rng.uniform(0, 1, 6)]
        assert space.check_membership(dict(zip(space.parameters, x, strict=True))) == problem.space.contains(x)


def test_values_go_to_the_trials_asked_for_first():
    _, contestant = started("ax-random", "branin")
    first, second = contestant.ask(2)
    third = contestant.ask()
    contestant.tell([first], [{"f": 1.0}])
    contestant.tell([second, *third], [{"f": 2.0}, {"f": 3.0}])
    frame = contestant.client._experiment.lookup_data().df
    assert frame[frame["trial_index"] >= 4]["mean"].tolist() == [1.0, 2.0, 3.0]
    contestant.ask(2)
    contestant.drop()
    assert contestant.running == []


@pytest.mark.parametrize("problem", ["hartmann6-linear", "pressurevessel", "branincurrin", "ackleymixed"])
def test_optuna_says_why_it_does_not_take_a_problem_and_stock_ax_takes_all(problem):
    assert problem in unsuited("optuna", PROBLEMS[problem])
    assert unsuited("reference", PROBLEMS[problem]) is None
    assert unsuited("optuna", PROBLEMS["hartmann6"]) is None

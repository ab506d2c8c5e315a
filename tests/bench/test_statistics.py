"""The paired test of non-inferiority against SciPy's, and against what its figures should say."""

import math

import numpy as np
import pytest
from scipy import stats

from gpu_gs.bench.statistics import FLOOR, growth, log_difference, non_inferiority, of_differences, pooled, quantile


def lognormal(seed, count=25):
    return np.exp(np.random.default_rng(seed).normal(size=count)).tolist()


def test_the_bound_is_that_of_scipys_paired_t_test():
    ours, theirs = lognormal(0), lognormal(1)
    result = non_inferiority(ours, theirs)
    differences = np.log10(ours) - np.log10(theirs)
    expected = stats.ttest_1samp(differences, 0.0, alternative="less").confidence_interval(0.95).high
    assert result.upper_bound == pytest.approx(expected, rel=1e-12)
    assert result.mean_difference == pytest.approx(differences.mean(), rel=1e-12)


def test_ten_times_the_regret_is_worse_and_a_tenth_is_not():
    theirs = lognormal(2)
    assert not non_inferiority([10 * value for value in theirs], theirs).not_worse
    better = non_inferiority([value / 10 for value in theirs], theirs)
    assert better.not_worse
    assert better.mean_difference == pytest.approx(-1)


def test_few_noisy_pairs_prove_nothing_even_if_equal_on_average():
    assert not non_inferiority([1.0, 100.0], [100.0, 1.0]).not_worse


def test_regrets_below_the_floor_are_equal():
    assert non_inferiority([0.0, 1e-12, -1e-13], [FLOOR, 1e-9, 1e-10]).mean_difference == 0.0


def test_the_pairs_it_asks_for_give_the_power_it_promises():
    rng = np.random.default_rng(3)
    first = non_inferiority(lognormal(4, 400), lognormal(5, 400))
    shown = 0
    for _ in range(300):
        d = rng.normal(0, first.spread, first.pairs_for_power)
        shown += non_inferiority((10**d).tolist(), np.ones(len(d)).tolist()).not_worse
    assert 0.7 < shown / 300 < 0.9


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [1.0]), ([1.0, 2.0], [1.0])])
def test_too_few_or_unpaired_values_are_refused(ours, theirs):
    with pytest.raises(ValueError, match="pairs"):
        non_inferiority(ours, theirs)


def test_the_stated_power_is_that_of_simulated_runs():
    rng = np.random.default_rng(7)
    stated = of_differences((0.5 * stats.zscore(rng.normal(size=20), ddof=1)).tolist())
    draws = rng.normal(0, stated.spread, size=(4000, 20))
    bound = draws.mean(1) + stats.t.ppf(0.95, 19) * draws.std(1, ddof=1) / math.sqrt(20)
    assert stated.power == pytest.approx((bound < stated.margin).mean(), abs=0.03)
    assert of_differences([0.0, 1e-9, -1e-9] * 40).power == 1.0


def problem_of(differences):
    return dict(enumerate(differences))


def test_the_pooled_test_is_scipys_on_the_seeds_means_over_the_problems():
    rng = np.random.default_rng(8)
    differences = rng.normal(0.1, 0.5, size=(3, 20)) + rng.normal(0, 0.3, size=20)  # seeds are easy or hard together
    result = pooled({f"p{k}": problem_of(row) for k, row in enumerate(differences)})
    expected = stats.ttest_1samp(differences.mean(0), 0.0, alternative="less").confidence_interval(0.95).high
    assert result.upper_bound == pytest.approx(expected, rel=1e-12)
    assert result.pairs == 20


def test_copies_of_a_problem_are_no_further_evidence():
    one = problem_of(np.random.default_rng(9).normal(size=12).tolist())
    once, thrice = pooled({"a": one}), pooled({"a": one, "b": one, "c": one})
    assert thrice.upper_bound == pytest.approx(once.upper_bound, rel=1e-12)


def test_pooling_takes_the_seeds_that_all_problems_have():
    result = pooled({"a": {0: 1.0, 1: 2.0, 2: 9.0}, "b": {0: 3.0, 1: 4.0, 5: 9.0}})
    assert (result.pairs, result.mean_difference) == (2, pytest.approx(2.5))
    for nothing in ({}, {"a": {0: 1.0, 1: 2.0}, "b": {1: 3.0}}):
        with pytest.raises(ValueError, match="pairs"):
            pooled(nothing)


def test_a_log_difference_is_in_decades_and_antisymmetric():
    assert log_difference(1.0, 100.0) == pytest.approx(-2) == -log_difference(100.0, 1.0)


def test_growth_is_the_slope_of_a_power_law_and_of_numpys_line():
    sizes = [250, 500, 1000, 2000]
    assert growth(sizes, [3e-6 * n**1.7 for n in sizes]) == pytest.approx(1.7, rel=1e-12)
    seconds = lognormal(10, 4)
    assert growth(sizes, seconds) == pytest.approx(np.polyfit(np.log(sizes), np.log(seconds), 1)[0], rel=1e-9)
    with pytest.raises(ValueError, match="sizes"):
        growth([100, 100], [1.0, 2.0])


@pytest.mark.parametrize("q", [0.0, 0.25, 0.5, 0.95, 1.0])
def test_quantiles_are_numpys(q):
    values = lognormal(6, 13)
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-12)
    assert math.isfinite(quantile([3.0], q))

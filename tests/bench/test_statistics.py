"""The paired test of non-inferiority against SciPy's, and against what its figures should say."""

import math

import numpy as np
import pytest
from scipy import stats

from gpu_gs.bench.statistics import FLOOR, non_inferiority, quantile


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


@pytest.mark.parametrize("q", [0.0, 0.25, 0.5, 0.95, 1.0])
def test_quantiles_are_numpys(q):
    values = lognormal(6, 13)
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-12)
    assert math.isfinite(quantile([3.0], q))

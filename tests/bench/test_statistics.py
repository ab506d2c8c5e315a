"""Paired tests, their power and bootstrap intervals against SciPy's, brute force, and what they should say."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from gpu_gs.bench.statistics import (
    FLOOR,
    growth,
    holm,
    interval_of_median,
    interval_of_pooled_median,
    log_difference,
    non_inferiority,
    of_differences,
    pairs_needed,
    power_of,
    quantile,
    seed_means,
    signed_rank,
)


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
    result = of_differences(seed_means({f"p{k}": problem_of(row) for k, row in enumerate(differences)}))
    expected = stats.ttest_1samp(differences.mean(0), 0.0, alternative="less").confidence_interval(0.95).high
    assert result.upper_bound == pytest.approx(expected, rel=1e-12)
    assert result.pairs == 20


def test_copies_of_a_problem_are_no_further_evidence():
    one = problem_of(np.random.default_rng(9).normal(size=12).tolist())
    assert seed_means({"a": one, "b": one, "c": one}) == pytest.approx(seed_means({"a": one}), rel=1e-12)


def test_pooling_takes_the_seeds_that_all_problems_have():
    assert seed_means({"a": {0: 1.0, 1: 2.0, 2: 9.0}, "b": {0: 3.0, 1: 4.0, 5: 9.0}}) == [2.0, 3.0]
    assert seed_means({}) == []
    assert seed_means({"a": {0: 1.0, 1: 2.0}, "b": {1: 3.0}}) == [2.5]


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


def test_power_is_the_average_over_the_estimated_spread():
    for pairs, spread in ((7, 0.26), (20, 0.6), (3, 0.1)):
        quantile_of_t = stats.t.ppf(0.95, pairs - 1)

        def shown(u, pairs=pairs, spread=spread, quantile_of_t=quantile_of_t):
            """Given the sum of squares u sigma^2: the mean must be below the margin by so many standard errors."""
            standard_error = spread * math.sqrt(u / (pairs - 1) / pairs)
            return stats.norm.cdf((0.3 - quantile_of_t * standard_error) / (spread / math.sqrt(pairs)))

        expected = stats.chi2(pairs - 1).expect(shown)
        assert power_of(pairs, spread) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("spread", "margin", "power"), [(0.6, 0.3, 0.8), (0.26, 0.3, 0.8), (1.1, 0.3, 0.9), (3, 0.1, 0.8)]
)
def test_the_pairs_needed_are_the_fewest_with_the_power(spread, margin, power):
    pairs = pairs_needed(spread, margin, power)
    assert power_of(pairs, spread, margin) >= power > power_of(pairs - 1, spread, margin)


def test_two_pairs_are_the_fewest_and_nonsense_is_refused():
    assert pairs_needed(0.0) == pairs_needed(1e-9) == 2
    for wrong in ((-1.0, 0.3), (0.5, 0.0), (math.inf, 0.3), (0.5, 0.3, 1.0), (0.5, 0.3, 0.8, 0.9)):
        with pytest.raises(ValueError, match="need spread"):
            pairs_needed(*wrong)


@pytest.mark.parametrize("count", [2, 7, 20, 50])
def test_the_signed_rank_test_is_scipys_exact_one_without_ties(count):
    differences = np.random.default_rng(count).normal(0.3, 1, size=count)
    assert signed_rank(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-9)


def test_the_signed_rank_test_counts_all_signs_where_there_are_ties_and_zeros():
    differences = np.array([0.0, 0.0, 1.0, 1.0, -1.0, 2.0, 3.0, 3.0, -2.0, 4.0])
    ranks = stats.rankdata(np.abs(differences))[differences != 0]
    seen = ranks[differences[differences != 0] > 0].sum()
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(ranks))]
    expected = 2 * min(np.mean([x >= seen for x in sums]), np.mean([x <= seen for x in sums]))
    assert signed_rank(differences) == pytest.approx(expected, rel=1e-12)
    assert signed_rank(-differences) == pytest.approx(expected, rel=1e-12)
    assert signed_rank([0.0, 0.0]) == signed_rank([1.0, -1.0]) == 1.0


def test_holms_correction_is_that_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; none below one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_the_interval_of_the_median_is_scipys_percentile_interval():
    values = np.random.default_rng(11).normal(size=25)
    theirs = stats.bootstrap((values,), np.median, n_resamples=20_000, method="percentile", axis=-1).confidence_interval
    assert interval_of_median(values) == (pytest.approx(theirs.low, abs=0.05), pytest.approx(theirs.high, abs=0.05))


def test_the_interval_of_the_median_holds_it_about_as_often_as_it_says():
    samples = np.random.default_rng(12).exponential(size=(20, 1000))
    low, high = (
        np.concatenate(ends) for ends in zip(*map(interval_of_median, np.split(samples, 4, axis=1)), strict=True)
    )
    assert 0.91 < np.mean((low <= math.log(2)) & (math.log(2) <= high)) < 0.98


def test_intervals_of_columns_are_those_of_each_column_and_of_one_seed_its_value():
    values = np.random.default_rng(13).normal(size=(9, 4))
    low, high = interval_of_median(values)
    for k in range(4):
        assert (low[k], high[k]) == interval_of_median(values[:, k])
    assert interval_of_median([2.5]) == (2.5, 2.5)


def test_copies_of_a_problem_do_not_narrow_the_interval_and_gaps_are_left_out():
    one = np.random.default_rng(14).normal(size=13)
    gap = np.full(13, math.nan)
    expected = pytest.approx(tuple(interval_of_median(one)))
    assert interval_of_pooled_median(np.stack([one, one, one], axis=1)) == expected
    assert interval_of_pooled_median(np.stack([one, gap], axis=1)) == expected

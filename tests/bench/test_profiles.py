"""Profiles, targets and races against figures worked out by hand."""

import math

import pytest

from gpu_gs.bench.cases import Case
from gpu_gs.bench.profiles import DURATIONS, TAUS, on_the_way, performance_profiles, race, reached_by_half, summary
from gpu_gs.bench.traces import Trace

CASE = Case("branin", 40, 10)


def trace(changes, ask=None, exact=True, **more):
    """A run with these regrets from these evaluations on; each evaluation after the tenth costs ``ask`` seconds."""
    at = tuple(sorted({10, 20, 30, 40, *changes}) if exact else (10, 20, 30, 40))
    regrets = tuple(changes[max(n for n in changes if n <= count)] for count in at)
    elapsed = None if ask is None else tuple(ask * (count - 10) for count in at)
    return Trace(at, regrets, ask or 0.0, elapsed, exact=exact, **more)


def test_profiles_are_the_shares_within_a_factor_of_the_best():
    profiles = performance_profiles(
        {"a": [1.0, 1.0, 1.0, math.inf], "b": [2.0, 1.0, 0.1, math.inf], "c": [20.0, math.inf, 0.1, math.inf]}
    )
    share = {name: dict(zip(profile["tau"], profile["share"], strict=True)) for name, profile in profiles.items()}
    two = next(tau for tau in TAUS if tau >= 2)
    # The last run failed for all: it is within no factor.
    assert [share[name][1.0] for name in "abc"] == [0.5, 0.5, 0.25]
    assert [share[name][two] for name in "abc"] == [0.5, 0.75, 0.25]
    assert [share[name][10.0] for name in "abc"] == [0.75, 0.75, 0.25]
    assert [share[name][TAUS[-1]] for name in "abc"] == [0.75, 0.75, 0.5]
    assert performance_profiles({"a": []}) == {}


def test_half_have_reached_it_where_half_or_more_did():
    assert reached_by_half([3, math.inf, 1, math.inf]) == 3
    assert reached_by_half([3, math.inf, 1, math.inf, math.inf]) is None
    assert reached_by_half([2, 1, 7]) == 2
    assert reached_by_half([]) is None


def test_a_target_counts_runs_that_failed_and_those_that_never_come_there():
    runs = {
        "quick": {0: trace({10: 9, 13: 1}, 0.5), 1: trace({10: 9, 17: 0.5, 31: 0.1}, 0.5), 2: trace({10: 9}, 0.5)},
        "failed": {2: trace({10: 0.1}, 2.0)},
        "crashed": {},
    }
    quick, failed, crashed = on_the_way(CASE, runs, {"quick": 3, "failed": 4, "crashed": 3}, target=1.0)
    assert (quick["share"], quick["evaluations"], quick["elapsed"]) == (2 / 3, 17, 3.5)
    assert (failed["share"], failed["runs"], failed["evaluations"], failed["elapsed"]) == (0.25, 4, None, None)
    assert (crashed["share"], crashed["evaluations"]) == (0.0, None)
    assert {row["every"] for row in (quick, failed, crashed)} == {1}


def test_where_one_contestant_is_looked_at_every_ten_evaluations_all_are():
    changes = {10: 9, 13: 1}
    exact, coarse = on_the_way(
        CASE, {"a": {0: trace(changes, 1.0)}, "b": {0: trace(changes, exact=False)}}, {"a": 1, "b": 1}, 1.0
    )
    assert (exact["evaluations"], exact["elapsed"], exact["every"]) == (20, 10.0, 10)
    assert (coarse["evaluations"], coarse["elapsed"], coarse["every"]) == (20, None, 10)


def test_a_contestant_is_no_sooner_than_itself():
    run = trace({10: 9, 22: 1, 35: 0.5}, 0.7)
    result = race(CASE, run, run, 1e-8)
    assert result.speedups == (1.0,) * len(DURATIONS)
    assert result.differences == (0.0,) * len(DURATIONS)
    assert set(result.evaluations) == {(40, 40)}
    assert result.first


def test_the_slower_has_made_fewer_evaluations_when_the_faster_has_finished():
    ours, theirs = trace({10: 9, 20: 1, 30: 0.1}, 0.0), trace({10: 9, 25: 0.1, 33: 0.01}, 1.0)
    result = race(CASE, ours, theirs, 1e-8)
    # Ours ends at 40 D; theirs then has n with n - 10 + n D <= 40 D: 10, 12, 25 and 37.
    assert result.evaluations == ((40, 10), (40, 12), (40, 25), (40, 37))
    assert result.differences == pytest.approx((math.log10(0.1 / 9), math.log10(0.1 / 9), 0.0, 1.0))
    assert result.first
    back = race(CASE, theirs, ours, 1e-8)
    assert back.differences == pytest.approx(tuple(-d for d in result.differences))
    assert not back.first
    # Theirs ends at 0.01, where ours never comes; ours ends at 0.1: after 30 D, and theirs after 15 + 25 D.
    assert result.speedups == (0.0,) * 4
    assert back.speedups == pytest.approx(tuple(30 * D / (15 + 25 * D) for D in (0.01, 0.1, 1.0, 10.0)))


def test_regrets_below_the_floor_are_reached_at_the_floor():
    ours, theirs = trace({10: 9, 20: 0.01}, 0.0), trace({10: 9, 15: 0.01, 35: 1e-9}, 0.0)
    assert race(CASE, ours, theirs, floor=0.01).speedups == pytest.approx((15 / 20,) * 4)


def test_times_that_are_unknown_or_of_other_machines_are_not_compared():
    run = trace({10: 9, 20: 1}, 1.0, ran={"machine": "a"})
    assert race(CASE, run, trace({10: 9}), 1e-8) is None
    assert race(CASE, run, trace({10: 9}, 1.0, ran={"machine": "b"}), 1e-8) is None
    assert race(CASE, run, run, 1e-8) is not None


def test_a_summary_takes_medians_over_all_pairs_and_no_speedup_where_half_never_come_there():
    fast, slow, stuck = trace({10: 9, 20: 1}, 0.0), trace({10: 9, 20: 1}, 1.0), trace({10: 9}, 0.0)
    won, lost = race(CASE, fast, slow, 1e-8), race(CASE, stuck, slow, 1e-8)
    result = summary({"a": {0: won, 1: won}, "b": {0: won, 3: lost}})
    assert (result["cases"], result["pairs"], result["first"], result["reached"]) == (2, 4, 1.0, 0.75)
    assert result["speedup"] == pytest.approx([10 / (20 * D) + 1 for D in DURATIONS])
    assert result["evaluations"][0] == [40, 10]
    assert all(low <= x <= high for x, (low, high) in zip(result["speedup"], result["speedup_interval"], strict=True))
    assert summary({"a": {0: won, 1: lost}})["speedup"] == [None] * 4

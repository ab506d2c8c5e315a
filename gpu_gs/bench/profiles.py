"""Whole runs at a glance: performance profiles, the way to a target, regrets at equal wall-clock time.

r_cs      final regret of a run on case c with seed s, the case's floor where it is below
rho(tau)  share of all pairs (c, s) on which a contestant ends at most tau times as high as the best one there
e(n)      seconds in the strategy until n evaluations are known; the initial points cost none
D         assumed seconds of an evaluation; the evaluations are made one after the other
t(n)      e(n) + n D, the wall-clock time of n evaluations
N         evaluations of a run
"""

import math
import statistics as st
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_gs.bench.cases import Case
from gpu_gs.bench.statistics import interval_of_pooled_median, log_difference
from gpu_gs.bench.traces import EVERY, Trace, checkpoints

TAUS = tuple(10 ** (k / 20) for k in range(61))
"""Ratios to the best regret at which profiles are kept, from 1 to 1,000."""
DURATIONS = (0.01, 0.1, 1.0, 10.0)
"""Seconds that an evaluation is assumed to take."""


def performance_profiles(regrets: Mapping[str, Sequence[float]]) -> dict[str, dict[str, list[float]]]:
    """rho(tau) of each contestant: Dolan and More 2002, Math. Program. 91, with the final regret as the cost.

    The ratio of two regrets is their difference in decades, so a logarithmic axis of tau is one of decades. Read a curve
    against the best, not two against each other: which of two is ahead may depend on a third (Gould and Scott 2016, ACM
    Trans. Math. Softw. 43).

    Args:
        regrets: Final regrets, above zero, of all contestants in the same order of cases and seeds; infinite where a
            run failed.

    Returns:
        ``tau`` and ``share`` by contestant.
    """
    best = [min(of_run) for of_run in zip(*regrets.values(), strict=True)]
    ratios = {
        name: [mine / least if math.isfinite(mine) else math.inf for mine, least in zip(values, best, strict=True)]
        for name, values in regrets.items()
    }
    # A ratio on the border counts as within, however it was rounded.
    return {
        name: {
            "tau": list(TAUS),
            "share": [sum(ratio <= tau * (1 + 1e-9) for ratio in values) / len(values) for tau in TAUS],
        }
        for name, values in ratios.items()
        if values
    }


def reached_by_half(values: Sequence[float]) -> float | None:
    """The smallest x such that half of the values or more are at most x; None if that is infinite, or without values."""
    x = st.median_low(values) if values else math.inf
    return x if math.isfinite(x) else None


def on_the_way(
    case: Case, runs: Mapping[str, Mapping[int, Trace]], tried: Mapping[str, int], target: float
) -> list[dict[str, Any]]:
    """How many runs of each contestant reach a regret, and when half of them have; a row a contestant.

    A run that does not reach it, or failed, counts as one that takes forever, so no run is left out of a median.

    Args:
        case: Its number of evaluations holds for all runs.
        runs: By contestant and seed.
        tried: Number of runs of each, failed ones included.
        target: The regret.

    Returns:
        Rows of ``case``, ``contestant``, ``target``, ``share`` of the runs that reach it, and when half had:
        ``evaluations``, and ``elapsed``, seconds in the strategy; None where fewer do. ``every``: 1, or more where a
        run's regret is known only so often; it then holds for all contestants, since a rare look comes late.
    """
    exact = all(trace.exact for of_contestant in runs.values() for trace in of_contestant.values())
    coarse = checkpoints(case.initial, case.evaluations)
    rows = []
    for name, of_contestant in runs.items():
        counts = {seed: t.reaches(target, t.at if exact else coarse) for seed, t in of_contestant.items()}
        reached = {seed: count for seed, count in counts.items() if count is not None}
        times = [of_contestant[seed].elapsed_at(count) for seed, count in reached.items()]
        known = [time for time in times if time is not None]
        never = [math.inf] * (tried[name] - len(reached))
        rows.append(
            {
                "case": case.name,
                "contestant": name,
                "target": target,
                "runs": tried[name],
                "share": len(reached) / tried[name],
                "evaluations": reached_by_half([*reached.values(), *never]),
                "elapsed": reached_by_half([*known, *never]) if len(known) == len(times) else None,
                "every": 1 if exact else EVERY,
            }
        )
    return rows


# ------------------------------------------------------------------------------------------- equal wall-clock time


@dataclass(frozen=True)
class Race:
    """Two runs of a seed on one clock; a figure for each of ``DURATIONS``.

    Attributes:
        differences: Decades from their regret to ours at the time T at which the first of the two has finished all its
            N evaluations; the other one has made fewer by then. Negative is better.
        evaluations: How many ours and theirs have made by T.
        speedups: How many times sooner than theirs ours reaches the regret at which theirs ends: the ratio of the times
            at which each reaches it first; 0 if ours does not. Of a contestant against itself it is 1. As the target is
            what theirs did reach, and not what it might have reached, it is in favour of theirs.
        first: Whether ours is the first to finish; the duration of an evaluation is the same to both.
    """

    differences: tuple[float, ...]
    evaluations: tuple[tuple[int, int], ...]
    speedups: tuple[float, ...]
    first: bool


def race(case: Case, ours: Trace, theirs: Trace, floor: float) -> Race | None:
    """Two runs of a seed on one clock; None where their times are not known or do not compare (``Trace.clock``)."""
    counts = range(case.initial, case.evaluations + 1)
    e_ours, e_theirs = _elapsed(ours, counts), _elapsed(theirs, counts)
    if e_ours is None or e_theirs is None or ours.clock != theirs.clock:
        return None
    target = max(theirs.final, floor)
    reach_ours, reach_theirs = ours.reaches(target, ours.at), theirs.reaches(target, theirs.at)
    differences, evaluations, speedups = [], [], []
    for duration in DURATIONS:
        t_ours = [e + n * duration for e, n in zip(e_ours, counts, strict=True)]
        t_theirs = [e + n * duration for e, n in zip(e_theirs, counts, strict=True)]
        end = min(t_ours[-1], t_theirs[-1])
        n_ours, n_theirs = (counts[bisect_right(times, end) - 1] for times in (t_ours, t_theirs))
        evaluations.append((n_ours, n_theirs))
        differences.append(log_difference(ours.regret_at(n_ours), theirs.regret_at(n_theirs), floor))
        sooner = 0.0
        if reach_ours is not None and reach_theirs is not None:
            sooner = t_theirs[reach_theirs - case.initial] / t_ours[reach_ours - case.initial]
        speedups.append(sooner)
    return Race(tuple(differences), tuple(evaluations), tuple(speedups), e_ours[-1] <= e_theirs[-1])


def _elapsed(trace: Trace, counts: Sequence[int]) -> list[float] | None:
    known = [seconds for seconds in map(trace.elapsed_at, counts) if seconds is not None]
    return known if len(known) == len(counts) else None


def summary(races: Mapping[str, Mapping[int, Race]]) -> dict[str, Any]:
    """Medians of all races together, with bootstrap intervals; a list has an item for each of ``durations``.

    Args:
        races: By case and seed; of two cases or more the medians are those of all pairs of case and seed.

    Returns:
        ``cases`` and ``pairs``, their numbers; ``first`` and ``reached``, the shares of races in which ours was the first
        to finish, and in which it came to the regret at which theirs ended; ``evaluations``, medians of ours and of
        theirs; ``difference`` and ``speedup`` with ``difference_interval`` and ``speedup_interval``, a speed-up None
        where half or more do not come there.
    """
    every = [each for of_case in races.values() for each in of_case.values()]
    seeds = sorted({seed for of_case in races.values() for seed in of_case})
    gap = (math.nan,) * len(DURATIONS)
    table = [[of_case.get(seed) for of_case in races.values()] for seed in seeds]
    differences = [[gap if each is None else each.differences for each in row] for row in table]
    speedups = [[gap if each is None else each.speedups for each in row] for row in table]
    return {
        "cases": len(races),
        "pairs": len(every),
        "first": sum(each.first for each in every) / len(every),
        "reached": sum(each.speedups[0] > 0 for each in every) / len(every),
        "durations": list(DURATIONS),
        "evaluations": [
            [st.median(numbers) for numbers in zip(*pairs, strict=True)]
            for pairs in zip(*(each.evaluations for each in every), strict=True)
        ],
        "difference": [st.median(values) for values in zip(*(each.differences for each in every), strict=True)],
        "difference_interval": _intervals(differences),
        "speedup": [st.median_low(values) or None for values in zip(*(each.speedups for each in every), strict=True)],
        "speedup_interval": _intervals(speedups),
    }


def _intervals(figures: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """By seed, case and duration, NaN where there is no race; an interval for each duration."""
    return [
        list(interval_of_pooled_median([[figure[k] for figure in row] for row in figures]))
        for k in range(len(DURATIONS))
    ]

"""Is a contestant worse than another, or different? Paired tests on log10 regret, their power, bootstrap intervals.

r_ps    regret of a run on problem p with seed s; both contestants start from the same points
d_ps    log10 r_ps of ours minus log10 r_ps of theirs, in decades; negative is better
d_s     mean of d_ps over the problems: seeds are independent, the runs of one seed need not be
n       number of seeds, the pairs
sigma   standard deviation of the differences, the spread

Not worse: the one-sided upper bound of the mean of d is below a margin (Student's t). Different: Wilcoxon's signed-rank
test of d, corrected for the number of problems after Holm. How far apart: the median of d with a bootstrap interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

FLOOR = 1e-8
"""Regrets below this count as this: rounding, not optimization, decides there."""
MARGIN = 0.3
"""Decades of regret: the largest difference that counts as "not worse", a factor of two."""
ALPHA, POWER = 0.05, 0.8
LEVEL, RESAMPLES = 0.95, 2_000


@dataclass(frozen=True)
class NonInferiority:
    """The result of the test.

    Attributes:
        mean_difference: Mean of log10 regret (ours minus theirs), in decades; negative is better.
        upper_bound: One-sided 95 % upper confidence bound of it (Student's t).
        margin: The largest difference that counts as "not worse", in decades.
        pairs: Number of seeds.
        spread: Standard deviation of the paired differences, in decades.
        pairs_for_power: Pairs needed to show non-inferiority with 80 % power if both are equal, at this spread.
        power: The probability that this many pairs show it, if both are equal and the spread is this.
    """

    mean_difference: float
    upper_bound: float
    margin: float
    pairs: int
    spread: float
    pairs_for_power: int
    power: float

    @property
    def not_worse(self) -> bool:
        return self.upper_bound < self.margin


def log_difference(ours: float, theirs: float, floor: float = FLOOR) -> float:
    """Decades from their regret to ours; negative is better. Regrets below ``floor`` count as it."""
    return math.log10(max(ours, floor)) - math.log10(max(theirs, floor))


def non_inferiority(ours: Sequence[float], theirs: Sequence[float], margin: float = MARGIN) -> NonInferiority:
    """Tests whether our regrets are not worse than theirs by more than ``margin`` decades.

    Args:
        ours: Final simple regrets, a value a seed.
        theirs: Those of the other contestant, in the same order of seeds.
        margin: Decades of regret.

    Raises:
        ValueError: Fewer than two pairs, or different numbers of them.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"need two or more pairs, got {len(ours)} and {len(theirs)} values")
    return of_differences([log_difference(a, b) for a, b in zip(ours, theirs, strict=True)], margin)


def seed_means(differences: Mapping[str, Mapping[int, float]]) -> list[float]:
    """d_s: the mean over the problems of each seed that all problems have.

    Runs with the same seed share their initial points' seed and their noise, so only the seeds are independent; every
    problem has the same weight.

    Args:
        differences: By problem and seed, in decades.
    """
    seeds = set.intersection(*(set(of_problem) for of_problem in differences.values())) if differences else set()
    return [sum(of_problem[seed] for of_problem in differences.values()) / len(differences) for seed in sorted(seeds)]


def of_differences(differences: Sequence[float], margin: float = MARGIN) -> NonInferiority:
    """The test on independent differences in decades, one a pair."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        raise ValueError(f"need two or more pairs, got {count}")
    mean = sum(differences) / count
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1))
    upper = mean + float(t.ppf(1 - ALPHA, count - 1)) * spread / math.sqrt(count)
    return NonInferiority(
        mean, upper, margin, count, spread, pairs_needed(spread, margin), power_of(count, spread, margin)
    )


# ------------------------------------------------------------------------------------------------------------- power


def power_of(pairs: int, spread: float, margin: float = MARGIN, alpha: float = ALPHA) -> float:
    """The probability that so many pairs show non-inferiority, if both are equal and differences normal.

    The statistic (margin - mean) / (s / sqrt(n)) is then noncentral t with n - 1 degrees of freedom and the
    noncentrality sqrt(n) margin / sigma; the test succeeds where it exceeds the 1 - alpha quantile of Student's t.
    """
    from scipy.stats import nct, t

    if spread == 0:
        return 1.0
    # Far out its distribution function underflows to NaN: the test cannot fail there.
    power = float(nct.sf(t.ppf(1 - alpha, pairs - 1), pairs - 1, margin * math.sqrt(pairs) / spread))
    return 1.0 if math.isnan(power) else power


def pairs_needed(spread: float, margin: float = MARGIN, power: float = POWER, alpha: float = ALPHA) -> int:
    """The fewest pairs that show non-inferiority with this power, if both are equal; exact, see ``power_of``.

    Args:
        spread: Standard deviation of the differences, in decades.
        margin: The largest difference that counts as "not worse", in decades.
        power: Between 0 and 1.
        alpha: Level of the one-sided test.

    Raises:
        ValueError: A figure that is out of its range.
    """
    from scipy.stats import norm

    if not (spread >= 0 and math.isfinite(spread) and margin > 0 and 0 < alpha < power < 1):
        raise ValueError(
            f"need spread >= 0, margin > 0 and 0 < alpha < power < 1, got {spread}, {margin}, {alpha}, {power}"
        )
    # With a known spread fewer would do: the normal approximation is a lower bound.
    z = float(norm.ppf(1 - alpha) + norm.ppf(power))
    pairs = max(math.floor((z * spread / margin) ** 2), 2)
    while power_of(pairs, spread, margin, alpha) < power:
        pairs += 1
    return pairs


# -------------------------------------------------------------------------------------------------------- differences


def signed_rank(differences: Sequence[float]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test that differences are symmetric about zero.

    Exact also with ties and zeros: the distribution over all 2^n signs of the ranks that are there, ties sharing their
    middle rank and zeros ranked but then left out (Pratt 1959, J. Am. Stat. Assoc. 54). 1 without any difference.
    """
    import numpy as np
    from scipy.stats import rankdata

    d = np.asarray(differences, dtype=float)
    ranks = np.rint(2 * rankdata(np.abs(d))).astype(int)  # twice, so that middle ranks are whole
    chance = np.ones(1)  # chance[w]: of w as the sum of the ranks of positive differences
    for rank in ranks[d != 0]:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    positive = int(ranks[d > 0].sum())
    return min(1.0, 2 * float(min(chance[: positive + 1].sum(), chance[positive:].sum())))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in their order, adjusted for being many: Holm 1979, Scand. J. Stat. 6.

    To reject those at most alpha keeps the chance of any false rejection at alpha, however the tests depend.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for position, i in enumerate(order):
        largest = max(largest, (len(p_values) - position) * p_values[i])
        adjusted[i] = min(largest, 1.0)
    return adjusted


def interval_of_median(values: "ArrayLike", level: float = LEVEL) -> "tuple[NDArray[Any], NDArray[Any]]":
    """Bootstrap interval of the median over the first axis: seeds are drawn anew, each with all its values.

    The percentile interval (Efron and Tibshirani 1993, chapter 13). The corrections of BCa need a jackknife, which
    fails for medians (same book, section 11.6). The draws are the same at each call. Of one seed it is the value itself.

    Args:
        values: Shape (n, ...), a row a seed.
        level: Share of such intervals that hold the true median, for n large.

    Returns:
        Its two ends, shape (...).
    """
    import numpy as np

    x = np.asarray(values, dtype=float)
    return _ends(np.median(x[_draws(len(x))], axis=1), level)


def interval_of_pooled_median(values: "ArrayLike", level: float = LEVEL) -> tuple[float, float]:
    """As ``interval_of_median``, of the median of all values together; seeds are drawn anew, each with all problems.

    Args:
        values: Shape (n, problems), a row a seed; NaN where there is no run.
        level: As there.
    """
    import numpy as np

    x = np.asarray(values, dtype=float)
    median = np.nanmedian if np.isnan(x).any() else np.median  # much faster
    low, high = _ends(median(x[_draws(len(x))].reshape(RESAMPLES, -1), axis=1), level)
    return float(low), float(high)


def _draws(n: int) -> "NDArray[np.intp]":
    """Rows of each resample, shape (RESAMPLES, n)."""
    import numpy as np

    return np.random.default_rng(0).integers(n, size=(RESAMPLES, n))


def _ends(statistics: "NDArray[Any]", level: float) -> "tuple[NDArray[Any], NDArray[Any]]":
    import numpy as np

    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


# ------------------------------------------------------------------------------------------------------------ figures


def quantile(values: Sequence[float], q: float) -> float:
    """Linear-interpolation quantile."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def growth(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent p of seconds = c n^p: the least-squares slope of the logarithms.

    Raises:
        ValueError: Fewer than two different sizes.
    """
    if len(set(sizes)) < 2:
        raise ValueError("need two or more sizes")
    x = [math.log(n) for n in sizes]
    y = [math.log(s) for s in seconds]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - x_mean) ** 2 for a in x)

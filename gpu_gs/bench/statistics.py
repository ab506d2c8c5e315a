"""Is a contestant worse than another? Paired, one-sided non-inferiority tests on log10 regret.

r_ps    regret of a run on problem p with seed s; both contestants start from the same points
d_ps    log10 r_ps of ours minus log10 r_ps of theirs, in decades; negative is better
d_s     mean of d_ps over the problems: seeds are independent, the runs of one seed need not be
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FLOOR = 1e-8
"""Regrets below this count as this: rounding, not optimization, decides there."""


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


def non_inferiority(ours: Sequence[float], theirs: Sequence[float], margin: float = 0.3) -> NonInferiority:
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


def pooled(differences: Mapping[str, Mapping[int, float]], margin: float = 0.3) -> NonInferiority:
    """The same test over several problems at once: a t-test on the seeds' means over the problems.

    Runs with the same seed share their initial points' seed and their noise, so the problems' differences of a seed are
    averaged first and only the seeds count as pairs; every problem has the same weight.

    Args:
        differences: By problem and seed, in decades. Only seeds that all problems have count.
        margin: Decades of regret.

    Raises:
        ValueError: Fewer than two such seeds.
    """
    seeds = set.intersection(*(set(of_problem) for of_problem in differences.values())) if differences else set()
    means = [sum(of_problem[seed] for of_problem in differences.values()) / len(differences) for seed in sorted(seeds)]
    return of_differences(means, margin)


def of_differences(differences: Sequence[float], margin: float = 0.3) -> NonInferiority:
    """The test on independent differences in decades, one a pair."""
    from scipy.stats import nct, t

    count = len(differences)
    if count < 2:
        raise ValueError(f"need two or more pairs, got {count}")
    mean = sum(differences) / count
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1))
    quantile_of_t = float(t.ppf(0.95, count - 1))
    upper = mean + quantile_of_t * spread / math.sqrt(count)
    if spread == 0:
        return NonInferiority(mean, upper, margin, count, spread, 2, 1.0)
    # Normal approximation: (z_0.95 + z_0.80)^2 = 2.486^2.
    needed = max(math.ceil((2.486 * spread / margin) ** 2), 2)
    # The statistic (margin - mean) / standard error is noncentral t if the true mean is 0. Far out there its
    # distribution function underflows to NaN: the test cannot fail then.
    power = float(nct.sf(quantile_of_t, count - 1, margin * math.sqrt(count) / spread))
    return NonInferiority(mean, upper, margin, count, spread, needed, 1.0 if math.isnan(power) else power)


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

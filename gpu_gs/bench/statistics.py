"""Is a contestant worse than another? A paired, one-sided non-inferiority test on log10 regret."""

import math
from collections.abc import Sequence
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
    """

    mean_difference: float
    upper_bound: float
    margin: float
    pairs: int
    spread: float
    pairs_for_power: int

    @property
    def not_worse(self) -> bool:
        return self.upper_bound < self.margin


def non_inferiority(ours: Sequence[float], theirs: Sequence[float], margin: float = 0.3) -> NonInferiority:
    """Tests whether our regrets are not worse than theirs by more than ``margin`` decades.

    Args:
        ours: Final simple regrets, a value a seed.
        theirs: Those of the other contestant, in the same order of seeds.
        margin: Decades of regret.

    Raises:
        ValueError: Fewer than two pairs, or different numbers of them.
    """
    from scipy.stats import t

    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"need two or more pairs, got {len(ours)} and {len(theirs)} values")
    differences = [math.log10(max(a, FLOOR)) - math.log10(max(b, FLOOR)) for a, b in zip(ours, theirs, strict=True)]
    count = len(differences)
    mean = sum(differences) / count
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1))
    upper = mean + float(t.ppf(0.95, count - 1)) * spread / math.sqrt(count)
    # Normal approximation: (z_0.95 + z_0.80)^2 = 2.486^2.
    needed = math.ceil((2.486 * spread / margin) ** 2) if spread > 0 else 2
    return NonInferiority(mean, upper, margin, count, spread, max(needed, 2))


def quantile(values: Sequence[float], q: float) -> float:
    """Linear-interpolation quantile."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)

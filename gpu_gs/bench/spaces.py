"""Search spaces of benchmark problems: parameters of several kinds and linear constraints on the numbers among them.

x     a point: a list with a value for each parameter, in the problem's own units (a float, an int, or a choice's value)
u     a row of the unit cube, mapped to a point coordinate by coordinate

A number may be searched on a logarithmic scale: its logarithm is then linear in u. A whole number k stands for the
interval from k - 1/2 to k + 1/2 there.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = float | int | str
Point = list[Any]
"""A ``Value`` for each parameter; as Any, since arithmetic on a point of floats is common."""

DRAWS = 4096
"""Rows of a Sobol sequence drawn at a time where linear constraints leave some of them out."""

MOST_DRAWS = 2**22
"""Draws after which the feasible share counts as too small."""


@dataclass(frozen=True)
class Float:
    """A number between two bounds; ``log`` says that its logarithm is what is searched."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check(self)

    def at(self, u: float) -> float:
        if not self.log:
            return self.low + (self.high - self.low) * u
        return min(max(_between(self.low, self.high, u), self.low), self.high)

    def draw(self, rng: Any) -> float:
        return self.at(rng.uniform()) if self.log else float(rng.uniform(self.low, self.high))

    def holds(self, value: Any) -> bool:
        return isinstance(value, float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Int:
    """A whole number between two bounds, both included; ``log`` says that its logarithm is what is searched."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check(self)

    def at(self, u: float) -> int:
        if not self.log:
            return min(self.low + int(u * (self.high - self.low + 1)), self.high)
        return min(max(round(_between(self.low - 0.5, self.high + 0.5, u)), self.low), self.high)

    def draw(self, rng: Any) -> int:
        return self.at(rng.uniform()) if self.log else int(rng.integers(self.low, self.high + 1))

    def holds(self, value: Any) -> bool:
        return type(value) is int and self.low <= value <= self.high


def _between(low: float, high: float, u: float) -> float:
    return math.exp(math.log(low) + (math.log(high) - math.log(low)) * u)


def _check(parameter: "Float | Int") -> None:
    if parameter.log and parameter.low <= 0:
        raise ValueError(f"{parameter}: the bounds of a logarithmic scale are above zero")


@dataclass(frozen=True)
class Choice:
    """One of some values; ``ordered`` says whether their order means something."""

    values: tuple[Value, ...]
    ordered: bool = False

    def at(self, u: float) -> Value:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def draw(self, rng: Any) -> Value:
        return self.values[int(rng.integers(len(self.values)))]

    def holds(self, value: Any) -> bool:
        return value in self.values


Parameter = Float | Int | Choice


@dataclass(frozen=True)
class AtMost:
    """The linear constraint: the sum of weights[i] x[i] is at most ``bound``."""

    weights: Mapping[int, float]
    bound: float

    def excess(self, x: Sequence[Any]) -> float:
        """By how much x violates it; not above zero where it holds."""
        return sum(weight * x[i] for i, weight in self.weights.items()) - self.bound


@dataclass(frozen=True)
class Space:
    """The parameters, called x0, x1, ..., and the linear constraints on them."""

    parameters: tuple[Parameter, ...]
    constraints: tuple[AtMost, ...] = field(default=())

    @property
    def names(self) -> list[str]:
        return [f"x{i}" for i in range(len(self.parameters))]

    @property
    def is_box(self) -> bool:
        """Whether there are only floats, without constraints."""
        return not self.constraints and all(isinstance(p, Float) for p in self.parameters)

    def contains(self, x: Sequence[Any], tolerance: float = 1e-9) -> bool:
        """Whether x has values of the right kinds inside the bounds, and meets the constraints up to ``tolerance``."""
        inside = len(x) == len(self.parameters) and all(p.holds(v) for p, v in zip(self.parameters, x, strict=True))
        return inside and all(c.excess(x) <= tolerance for c in self.constraints)

    def admits(self, x: Sequence[Any], tolerance: float = 1e-6) -> bool:
        """Whether x can be judged: in bounds and within the linear constraints, both up to ``tolerance``, of whatever type."""
        for parameter, value in zip(self.parameters, x, strict=True):
            if isinstance(parameter, Choice):
                if not parameter.holds(value):
                    return False
            elif not parameter.low - tolerance <= value <= parameter.high + tolerance:
                return False
        return all(constraint.excess(x) <= tolerance for constraint in self.constraints)

    def initial_points(self, count: int, seed: int) -> list[Point]:
        """The first points of a scrambled Sobol sequence that meet the constraints.

        Raises:
            ValueError: Too few do.
        """
        points: list[Point] = []
        for row in self._sobol(count, seed):
            x = [p.at(u) for p, u in zip(self.parameters, row, strict=True)]
            if all(c.excess(x) <= 0 for c in self.constraints):
                points.append(x)
            if len(points) == count:
                return points
        raise ValueError(f"{len(points)} of {MOST_DRAWS} points meet the constraints, {count} are wanted")

    def _sobol(self, count: int, seed: int) -> Iterator[list[float]]:
        import torch

        engine = torch.quasirandom.SobolEngine(  # type: ignore[no-untyped-call]
            len(self.parameters), scramble=True, seed=seed
        )
        drawn = 0
        while drawn < MOST_DRAWS:
            size = DRAWS if self.constraints else count
            yield from engine.draw(size, dtype=torch.double).tolist()
            drawn += size

    def random_point(self, rng: Any) -> Point:
        """A uniform random point.

        Args:
            rng: A numpy generator.

        Raises:
            ValueError: None of many draws meets the constraints.
        """
        for _ in range(MOST_DRAWS):
            x = [p.draw(rng) for p in self.parameters]
            if all(c.excess(x) <= 0 for c in self.constraints):
                return x
        raise ValueError(f"none of {MOST_DRAWS} random points meets the constraints")

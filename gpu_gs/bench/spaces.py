"""Search spaces of benchmark problems: parameters of several kinds and linear constraints on the numbers among them.

x     a point: a list with a value for each parameter, in the problem's own units (a float, an int, or a choice's value;
      None for a dependent parameter that is not there), then one for each derived parameter
u     a row of the unit cube, mapped to a point coordinate by coordinate

A number may be searched on a logarithmic scale: its logarithm is then linear in u. A whole number k stands for the
interval from k - 1/2 to k + 1/2 there.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = float | int | str
Point = list[Any]
"""A ``Value`` or None for each parameter; as Any, since arithmetic on a point of floats is common."""

ROUNDING = 1e-12
"""By how much the two sides of an equation may differ."""

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
class Equal:
    """The linear constraint: the sum of weights[i] x[i] is ``bound``.

    In a point that is drawn, the last of these parameters, a float, is what the others leave of the bound.
    """

    weights: Mapping[int, float]
    bound: float

    @property
    def last(self) -> int:
        return max(self.weights)

    def excess(self, x: Sequence[Any]) -> float:
        """By how much the two sides differ beyond rounding; not above zero where it holds."""
        return abs(sum(weight * x[i] for i, weight in self.weights.items()) - self.bound) - ROUNDING

    def rest(self, x: Sequence[Any]) -> float:
        """The value of the last parameter, from those of the others."""
        others = sum(weight * x[i] for i, weight in self.weights.items() if i != self.last)
        return (self.bound - others) / self.weights[self.last]


@dataclass(frozen=True)
class Derived:
    """A parameter that is the sum of weights[i] x[i]: nothing to choose, but a part of the point."""

    weights: Mapping[int, float]

    def value(self, x: Sequence[Any]) -> float:
        return float(sum(weight * x[i] for i, weight in self.weights.items()))


@dataclass(frozen=True)
class Space:
    """The parameters, called x0, x1, ..., and the linear constraints on them.

    Attributes:
        parameters: Those that are chosen.
        constraints: Linear, on numbers that every point has.
        branches: By the place of a choice and by its value, the places of the parameters that are there only then;
            what depends is no choice with branches itself.
        derived: Parameters that follow from numbers that every point has.

    Raises:
        ValueError: An equation whose last parameter is no float or stands in another constraint too, a branch within a
            branch, or a dependent parameter in a constraint or in a derived parameter.
    """

    parameters: tuple[Parameter, ...]
    constraints: tuple[AtMost | Equal, ...] = field(default=())
    branches: Mapping[int, Mapping[Value, tuple[int, ...]]] = field(default_factory=dict)
    derived: tuple[Derived, ...] = ()

    def __post_init__(self) -> None:
        for equation in self._equations:
            others = [other for other in self.constraints if other is not equation]
            if not isinstance(self.parameters[equation.last], Float) or any(equation.last in c.weights for c in others):
                raise ValueError(f"{equation}: its last parameter is to be a float that no other constraint is on")
        dependent = {i for branch in self.branches.values() for places in branch.values() for i in places}
        if wrong := dependent & set(self.branches):
            raise ValueError(f"branches: x{min(wrong)} depends on another choice and has branches itself")
        for sum_ in (*self.constraints, *self.derived):
            if wrong := dependent & set(sum_.weights):
                raise ValueError(f"{sum_}: x{min(wrong)} is not a part of every point")

    @property
    def names(self) -> list[str]:
        return [f"x{i}" for i in range(len(self.parameters) + len(self.derived))]

    @property
    def is_box(self) -> bool:
        """Whether there are only floats, without constraints."""
        more = self.constraints or self.branches or self.derived
        return not more and all(isinstance(p, Float) for p in self.parameters)

    @property
    def _equations(self) -> list[Equal]:
        return [c for c in self.constraints if isinstance(c, Equal)]

    def contains(self, x: Sequence[Any], tolerance: float = 1e-9) -> bool:
        """Whether x has values of the right kinds inside the bounds where there is to be one, and meets the constraints
        up to ``tolerance``."""
        return self._meets(x, tolerance, lambda parameter, value: parameter.holds(value))

    def admits(self, x: Sequence[Any], tolerance: float = 1e-6) -> bool:
        """Whether x can be judged: as ``contains``, but bounds hold up to ``tolerance`` too, for numbers of any type."""

        def fits(parameter: Parameter, value: Any) -> bool:
            if isinstance(parameter, Choice):
                return parameter.holds(value)
            return value is not None and bool(parameter.low - tolerance <= value <= parameter.high + tolerance)

        return self._meets(x, tolerance, fits)

    def _meets(self, x: Sequence[Any], tolerance: float, fits: Callable[[Parameter, Any], bool]) -> bool:
        """Whether all values that are to be there fit their parameters, and meet the constraints up to ``tolerance``."""
        if len(x) != len(self.names):
            return False
        absent = self._absent(x)
        inside = all(
            value is None if i in absent else fits(parameter, value)
            for i, (parameter, value) in enumerate(zip(self.parameters, x, strict=False))
        )
        follows = zip(self.derived, x[len(self.parameters) :], strict=True)
        return (
            inside
            and all(c.excess(x) <= tolerance for c in self.constraints)
            and all(abs(derived.value(x) - value) <= tolerance + ROUNDING for derived, value in follows)
        )

    def _absent(self, x: Sequence[Any]) -> set[int]:
        """Places of the parameters that are not there with these values of the choices."""
        return {
            i
            for place, branch in self.branches.items()
            for value, places in branch.items()
            if x[place] != value
            for i in places
        }

    def _completed(self, x: Point) -> Point | None:
        """The point with these values of the parameters, where some follow from others; None if there is none."""
        for equation in self._equations:
            value = equation.rest(x)
            if not self.parameters[equation.last].holds(value):
                return None
            x[equation.last] = value
        if not all(c.excess(x) <= 0 for c in self.constraints):
            return None
        for i in self._absent(x):
            x[i] = None
        return [*x, *(derived.value(x) for derived in self.derived)]

    def initial_points(self, count: int, seed: int) -> list[Point]:
        """The first points of a scrambled Sobol sequence that meet the constraints.

        Raises:
            ValueError: Too few do.
        """
        points: list[Point] = []
        for row in self._sobol(count, seed):
            x = self._completed([p.at(u) for p, u in zip(self.parameters, row, strict=True)])
            if x is not None:
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
            x = self._completed([p.draw(rng) for p in self.parameters])
            if x is not None:
                return x
        raise ValueError(f"none of {MOST_DRAWS} random points meets the constraints")

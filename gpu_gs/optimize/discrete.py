"""The discrete coordinates of a box, and the search over them.

Notation: V variables, of which variable j has v_j options and sits in one column or, one-hot encoded, in several; an
option is what it puts there. The place p (b x V) of a point is the index of its option in each variable. A neighbour
differs in the option of one variable; K neighbours are looked at, the same moves for all points.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ALL_OPTIONS = 8
"""Up to so many options of an ordered variable are all neighbours; of more, those 1, 2, 4, ... places away."""

ENUMERATED_POINTS = 10_000
"""A space of discrete variables only with up to so many points is enumerated, as Ax does it."""

RELAXED_ABOVE = 64
"""An ordered variable with more options than this is first searched as a continuous one, then moved to the nearest."""

LARGEST_CODE = 2**62

MOST_MOVES = 20
"""Moves in a row to the best neighbour, at the most."""

LEAST_GAIN = 1e-9
"""A neighbour is better that gains more, relative to max(|value|, 1)."""


@dataclass(frozen=True)
class Variable:
    """A discrete variable.

    Attributes:
        columns: Where it sits.
        options: What its options put there; sorted if there is one column. shape: (v, number of columns)
        ordered: Whether the order of its options means something.
    """

    columns: tuple[int, ...]
    options: Tensor
    ordered: bool

    @property
    def is_relaxed(self) -> bool:
        """Whether it is first searched as a continuous coordinate."""
        return self.ordered and len(self.options) > RELAXED_ABOVE

    def place(self, X: Tensor) -> Tensor:
        """The nearest option of each point. shape: (b, d) -> (b,)"""
        if len(self.columns) > 1:
            return torch.cdist(X[:, list(self.columns)], self.options).argmin(-1)
        values = self.options[:, 0]
        x = X[:, self.columns[0]].contiguous()
        above = torch.searchsorted(values, x).clamp_max_(len(values) - 1)
        below = (above - 1).clamp_min_(0)
        return torch.where(x - values[below] <= values[above] - x, below, above)

    def moves(self) -> list[int]:
        """How many places further, from the last back to the first, the neighbours are."""
        v = len(self.options)
        if not self.ordered or v <= ALL_OPTIONS:
            return list(range(1, v))
        powers = [2**power for power in range((v - 1).bit_length())]
        return sorted({sign * step % v for step in powers for sign in (1, -1)} - {0})


class DiscreteSpace:
    """The discrete variables of a box.

    Args:
        variables: The variables, no two of them in the same column.
        d: Columns of a point.
        frozen: Whether points keep the options that they have.
    """

    def __init__(self, variables: Sequence[Variable], d: int, frozen: bool = False) -> None:
        self.variables = tuple(variables)
        self.d = d
        self.frozen = frozen

    @classmethod
    def of(
        cls,
        lower: Tensor,
        upper: Tensor,
        discrete: Mapping[int, Tensor] | None = None,
        unordered: Collection[int] = (),
        one_hot: Collection[Sequence[int]] = (),
    ) -> "DiscreteSpace":
        """The variables with the options that lie in the box; one without any is none.

        Args:
            lower: Lower bounds. shape: (d,)
            upper: Upper bounds. shape: (d,)
            discrete: Allowed values of discrete coordinates.
            unordered: Those of them whose values have no order.
            one_hot: Groups of coordinates, one of which is 1 and the others 0.
        """
        variables = [
            Variable((index,), values.sort().values.unsqueeze(-1), index not in unordered)
            for index, values in (discrete or {}).items()
        ]
        for group in one_hot:
            eye = torch.eye(len(group), dtype=lower.dtype, device=lower.device)
            variables.append(Variable(tuple(group), eye, ordered=False))
        kept = []
        for variable in variables:
            columns = list(variable.columns)
            inside = ((variable.options >= lower[columns]) & (variable.options <= upper[columns])).all(-1)
            options = variable.options[inside]  # a host synchronization for each variable, once
            if len(options):
                kept.append(Variable(variable.columns, options, variable.ordered))
        return cls(kept, len(lower))

    @cached_property
    def columns(self) -> list[int]:
        """The columns of all variables."""
        return [column for variable in self.variables for column in variable.columns]

    @cached_property
    def size(self) -> int:
        """How many combinations of options there are."""
        return math.prod(len(variable.options) for variable in self.variables)

    @cached_property
    def is_movable(self) -> bool:
        """Whether points have neighbours."""
        return self.size > 1 and not self.frozen

    @cached_property
    def without_relaxed(self) -> "DiscreteSpace":
        """The variables that are never searched as continuous coordinates."""
        return DiscreteSpace([variable for variable in self.variables if not variable.is_relaxed], self.d)

    @cached_property
    def one_hot(self) -> "DiscreteSpace":
        """The variables that sit in several columns."""
        return DiscreteSpace([variable for variable in self.variables if len(variable.columns) > 1], self.d)

    @cached_property
    def _strides(self) -> list[int]:
        strides, stride = [], 1
        for variable in self.variables:
            strides.append(stride)
            stride *= len(variable.options)
        return strides

    # ------------------------------------------------------------------ points

    def places(self, X: Tensor) -> Tensor:
        """The nearest option of each point in each variable. shape: (b, d) -> (b, V)"""
        if not self.variables:
            return torch.zeros(len(X), 0, dtype=torch.long, device=X.device)
        return torch.stack([variable.place(X) for variable in self.variables], dim=-1)

    def put_(self, X: Tensor, places: Tensor) -> Tensor:
        """Writes the options at these places into the points. shape: (b, d), (b, V) -> (b, d)"""
        for j, variable in enumerate(self.variables):
            X[:, list(variable.columns)] = variable.options[places[:, j]]
        return X

    def snap_(self, X: Tensor) -> Tensor:
        """Moves the points to the nearest options. shape: (b, d)"""
        return self.put_(X, self.places(X))

    def draw_(self, X: Tensor, generator: torch.Generator) -> Tensor:
        """Writes random options into the points, each as likely as another of its variable. shape: (b, d)"""
        places = [
            torch.randint(len(variable.options), (len(X),), generator=generator, device=X.device)
            for variable in self.variables
        ]
        return self.put_(X, torch.stack(places, dim=-1)) if places else X

    def points(self, first: int, last: int, like: Tensor) -> Tensor:
        """The combinations of options with these codes, in the place of those of a point (d). shape: (last - first, d)"""
        codes = torch.arange(first, last, device=like.device).unsqueeze(-1)
        counts = codes.new_tensor([len(variable.options) for variable in self.variables])
        places = codes.div(codes.new_tensor(self._strides), rounding_mode="floor") % counts  # shape: (m, V)
        return self.put_(like.repeat(last - first, 1), places)

    def codes(self, places: Tensor) -> Tensor:
        """A number for each combination of options, which must be fewer than ``LARGEST_CODE``. shape: (b, V) -> (b,)"""
        return (places * places.new_tensor(self._strides)).sum(-1)

    def others_than(self, avoid: Tensor, like: Tensor, almost: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Which points of the space are none of those to be avoided; None if they are too many to be numbered.

        Args:
            avoid: Points. shape: (k, d)
            like: See ``codes_among``.
            almost: See ``codes_among``.
        """
        if self.size >= LARGEST_CODE:
            return None
        avoided = self.codes_among(avoid, like, almost)
        return lambda X: ~torch.isin(self.codes(self.places(X)), avoided)

    def codes_among(self, X: Tensor, like: Tensor, almost: Tensor) -> Tensor:
        """The codes of those points that are ``like`` (d) with other options, but for ``almost``. shape: (b, d) -> (k,)"""
        places = self.places(X)
        there = ((self.put_(like.repeat(len(X), 1), places) - X).abs() <= almost).all(-1)
        return self.codes(places[there])

    def best_of_each(self, X: Tensor, scores: Tensor, count: int) -> Tensor:
        """Indices of the best point of each combination of options, of the best ``count`` of them. shape: (k,)"""
        order = scores.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)
        if self.size >= LARGEST_CODE:
            return order[:count]
        _, combination = torch.unique(self.codes(self.places(X[order])), return_inverse=True)
        rank = torch.arange(len(order), device=X.device)
        first = torch.full_like(rank, len(order)).scatter_reduce(0, combination, rank, "amin")
        return order[first.sort().values[: int(combination.max()) + 1][:count]]

    # ------------------------------------------------------------------ neighbours

    @cached_property
    def _moves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each move: its variable, how many places it goes, how many options there are. shape: (K,) each"""
        rows = [
            (j, step, len(variable.options)) for j, variable in enumerate(self.variables) for step in variable.moves()
        ]
        table = torch.tensor(rows, device=self.variables[0].options.device)
        return table[:, 0], table[:, 1], table[:, 2]

    @cached_property
    def _options(self) -> tuple[Tensor, Tensor, Tensor]:
        """All options as rows of d (0 elsewhere), where each variable's begin, and its columns as a mask (V x d)."""
        like = self.variables[0].options
        blocks = []
        mask = torch.zeros(len(self.variables), self.d, dtype=torch.bool, device=like.device)
        for j, variable in enumerate(self.variables):
            block = like.new_zeros(len(variable.options), self.d)
            block[:, list(variable.columns)] = variable.options
            blocks.append(block)
            mask[j, list(variable.columns)] = True
        counts = [0, *(len(block) for block in blocks[:-1])]
        return torch.cat(blocks), torch.tensor(counts, device=like.device).cumsum(0), mask

    def neighbours(self, X: Tensor, places: Tensor) -> Tensor:
        """The neighbours of each point, whose options are at these places. shape: (b, d), (b, V) -> (b, K, d)"""
        variable, step, count = self._moves
        options, first, mask = self._options
        moved = (places[:, variable] + step) % count  # shape: (b, K)
        return torch.where(mask[variable], options[first[variable] + moved], X.unsqueeze(1))


def best_neighbours(
    value: Callable[[Tensor], Tensor],
    x: Tensor,
    values: Tensor,
    space: DiscreteSpace,
    chunk: int | None = None,
    feasible: Callable[[Tensor], Tensor] | None = None,
    also: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[bool, Tensor, Tensor]:
    """Moves each point to its best neighbour until none is better; all neighbours of all points in one evaluation.

    Args:
        value: The function. shape: (m, d) -> (m,)
        x: The points, which take options of the space. shape: (b, d)
        values: Their values. shape: (b,)
        space: A space that ``is_movable``.
        chunk: Points in one evaluation, at the most.
        feasible: Which points may be moved to. shape: (m, d) -> (m,)
        also: Makes of points and their neighbours more of them, or others. shape: (b, d), (b, K, d) -> (b, K', d)

    Returns:
        Whether any point was moved, the points and their values.
    """
    x, values = x.clone(), values.clone()
    places = space.places(x)
    moving = torch.arange(len(x), device=x.device)
    improved = False
    for _ in range(MOST_MOVES):
        around = space.neighbours(x[moving], places[moving])
        if also is not None:
            around = also(x[moving], around)
        points = around.reshape(-1, x.shape[-1])
        scores = value_in_chunks(value, points, chunk).nan_to_num(nan=-torch.inf)
        if feasible is not None:
            scores = scores.where(feasible(points), -torch.inf)
        best, where = scores.reshape(len(moving), -1).max(dim=1)
        better = best > values[moving] + LEAST_GAIN * values[moving].abs().clamp_min(1.0)
        if not bool(better.any()):
            break
        improved = True
        rows = better.nonzero().squeeze(-1)
        moving, where = moving[rows], where[rows]
        x[moving], values[moving] = around[rows, where], best[rows]
        places[moving] = space.places(x[moving])
    return improved, x, values


def value_in_chunks(value: Callable[[Tensor], Tensor], X: Tensor, size: int | None) -> Tensor:
    """The function's values, of so many points in one evaluation. shape: (m, d) -> (m,)"""
    if size is None or len(X) <= size:
        return value(X)
    return torch.cat([value(part) for part in torch.split(X, size)])


def enumerated(
    value: Callable[[Tensor], Tensor],
    space: DiscreteSpace,
    like: Tensor,
    chunk: int,
    avoid: Tensor | None,
    almost: Tensor,
    feasible: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """All points of a space, their values and which of them are wanted.

    Args:
        value: The function. shape: (m, d) -> (m,)
        space: The space.
        like: A point whose other coordinates all of them have. shape: (d,)
        chunk: Points in one evaluation, at the most.
        avoid: Points that are not wanted. shape: (k, d)
        almost: How far a point may be from one of them to be the same. shape: (d,)
        feasible: Which points are wanted. shape: (m, d) -> (m,)

    Returns:
        Points (m x d), values (m), wanted (m); a value that is not finite is not wanted.
    """
    X = space.points(0, space.size, like)
    values = value_in_chunks(value, X, chunk)
    wanted = values.isfinite()
    if avoid is not None and len(avoid):
        wanted[space.codes_among(avoid, like, almost)] = False
    if feasible is not None:
        wanted &= feasible(X)
    return X, values, wanted

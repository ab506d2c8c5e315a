"""The points that satisfy bounds and linear constraints, some of their coordinates discrete.

Notation: x (d) are points, l and u their bounds, y = (x - l) / (u - l) the same in *units* of the box. The polytope is
{y : 0 <= y <= 1, low <= A y <= high}, with rows of A of unit length; a violation is measured there. A coordinate with
equal bounds is *fixed* and takes no part (its column of A is zero).

What can be known before any sample is drawn is found once for each polytope and kept: whether it is empty, the plane in
which it lies if it is flat, a point in its middle, and the shape of the ellipsoid around that point. The middle is the
analytic centre, argmin -sum_i log s_i(y) over the slacks s_i of all limits; with the Hessian of that function, the
ellipsoid {z : z^T Hess z <= 1} around it lies in the polytope, and stretched by the number of limits it contains the
polytope (Nesterov & Nemirovskii 1994). In its units the polytope is round enough for random walks, however thin it was.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from botorch.exceptions.errors import InfeasibilityError, UnsupportedError
from scipy.optimize import linprog
from torch import Tensor

from gpu_gs.working_set import LinearRows, WorkingSet

BotorchConstraint = tuple[Tensor, Tensor, float]
"""Indices, coefficients and right-hand side of ``sum(coefficients * x[indices]) >= rhs``, or ``= rhs``."""

TOLERANCE = 1e-9
"""A point is feasible if it violates no constraint by more."""

FLAT = 1e-7
"""A polytope in which no ball of this radius fits is taken to lie in a plane."""

EMPTY = 1e-9
"""A polytope is empty if some limit is violated by more than this everywhere."""

NEWTON_STEPS = 60

Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Constraints:
    """Linear constraints as plain numbers: comparable, hashable, of no device.

    Attributes:
        inequalities: Indices, coefficients and right-hand side of each ``sum >= rhs``.
        equalities: The same of each ``sum = rhs``.
        names: Names of the coordinates, for messages.
    """

    inequalities: tuple[tuple[tuple[int, ...], tuple[float, ...], float], ...] = ()
    equalities: tuple[tuple[tuple[int, ...], tuple[float, ...], float], ...] = ()
    names: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        inequality_constraints: Sequence[BotorchConstraint] | None,
        equality_constraints: Sequence[BotorchConstraint] | None,
        names: Sequence[str] | None = None,
    ) -> "Constraints | None":
        """From BoTorch's tuples; None if there are none.

        Raises:
            UnsupportedError: A constraint that ties several candidates to each other.
        """

        def plain(constraints: Sequence[BotorchConstraint] | None) -> tuple[Any, ...]:
            rows = []
            for indices, coefficients, rhs in constraints or ():
                indices, coefficients = torch.as_tensor(indices), torch.as_tensor(coefficients)
                if indices.dim() != 1:
                    raise UnsupportedError(
                        "Constraints between candidates are not supported, only those on each point."
                    )
                rows.append((tuple(indices.tolist()), tuple(coefficients.double().tolist()), float(rhs)))
            return tuple(rows)

        inequalities, equalities = plain(inequality_constraints), plain(equality_constraints)
        return cls(inequalities, equalities, tuple(names) if names else None) if inequalities or equalities else None

    def __str__(self) -> str:

        def line(row: tuple[tuple[int, ...], tuple[float, ...], float], relation: str) -> str:
            indices, coefficients, rhs = row
            terms = (
                f"{coefficient:g} {self.names[index] if self.names else f'x[{index}]'}"
                for index, coefficient in zip(indices, coefficients, strict=True)
            )
            return f"{' + '.join(terms)} {relation} {rhs:g}".replace("+ -", "- ")

        rows = [(row, ">=") for row in self.inequalities] + [(row, "=") for row in self.equalities]
        return "; ".join(line(row, relation) for row, relation in rows)


@dataclass(frozen=True, eq=False)
class Polytope:
    """See the module.

    Attributes:
        lower: Lower bounds. shape: (d,)
        width: Upper less lower bounds, 1 for a fixed coordinate. shape: (d,)
        free: Which coordinates are not fixed. shape: (d,)
        continuous: Which of them are not discrete. shape: (d,)
        rows: The constraints, in units of the box.
        center: A point in the middle, in units of the box. shape: (d,)
        spread: Maps standard normal numbers to steps, in units of the box, as long as the polytope is wide; as many rows
            as the polytope has dimensions. shape: (k, d)
        full: Whether the polytope has as many dimensions as there are free coordinates.
        constraints: What it was made from.
    """

    lower: Tensor
    width: Tensor
    free: Tensor
    continuous: Tensor
    rows: LinearRows
    center: Tensor
    spread: Tensor
    full: bool
    constraints: Constraints

    @classmethod
    def of(
        cls,
        lower: Tensor,
        upper: Tensor,
        constraints: Constraints,
        discrete: Mapping[int, Tensor] | None = None,
    ) -> "Polytope":
        """The polytope of bounds (fixed coordinates have equal ones) and constraints, made once and kept.

        Args:
            lower: Lower bounds. shape: (d,)
            upper: Upper bounds. shape: (d,)
            constraints: The constraints.
            discrete: Allowed values of discrete coordinates. Whether they leave a point is not looked at here.

        Raises:
            InfeasibilityError: There is no such point.
        """
        low, high = tuple(lower.tolist()), tuple(upper.tolist())
        indices = tuple(sorted(discrete or ()))
        try:
            return _made(low, high, constraints, indices, lower.dtype, lower.device)
        except _EmptyError as error:
            raise InfeasibilityError(f"{error}: {constraints}.") from None

    def to_units(self, X: Tensor) -> Tensor:
        return (X - self.lower) / self.width

    def from_units(self, Y: Tensor) -> Tensor:
        return torch.addcmul(self.lower, Y, self.width)

    def violation(self, X: Tensor) -> Tensor:
        """By how much points violate their worst constraint, in units of the box; 0 inside. shape: (b, d) -> (b,)"""
        return self.rows.violation(self.to_units(X))

    def feasible(self, X: Tensor) -> Tensor:
        """shape: (b, d) -> (b,)"""
        return self.violation(X) <= TOLERANCE

    def moving(self, movable: Tensor) -> LinearRows:
        """The constraints that movable coordinates (d) have a part in."""
        taking_part = (self.rows.A.abs() * movable).amax(-1) > 1e-12
        return LinearRows(self.rows.A[taking_part], self.rows.low[taking_part], self.rows.high[taking_part])

    def inside(self, X: Tensor, movable: Tensor | None = None) -> Tensor:
        """Points outside moved to the nearest point inside, in units of the box; the others stay as they are.

        Where other coordinates than the movable ones leave no point inside, the result is not feasible.

        Args:
            X: Points within the bounds. shape: (b, d)
            movable: Which coordinates may move; None: the continuous ones. shape: (d,) or (b, d)
        """
        outside = (self.violation(X) > 0.01 * TOLERANCE).nonzero().squeeze(-1)
        if len(outside) == 0:
            return X
        movable = self.continuous if movable is None else movable & self.continuous
        moves = movable.expand_as(X)[outside]
        Y = self.to_units(X[outside]).clamp(0.0, 1.0)
        lower, upper = torch.where(moves, 0.0, Y), torch.where(moves, 1.0, Y)
        limits = WorkingSet(self.moving(moves.any(0).to(Y.dtype)), lower, upper)
        identity = torch.eye(len(self.lower), dtype=Y.dtype, device=Y.device).expand(len(Y), -1, -1)
        p, _, _ = limits.step(identity, Y, torch.zeros_like(Y))
        moved = X.clone()
        moved[outside] = torch.where(moves, self.from_units((Y + p).clamp(lower, upper)), X[outside])
        return moved


class _EmptyError(Exception):
    """A polytope has no point."""


@lru_cache(maxsize=64)
def _made(
    lower: tuple[float, ...],
    upper: tuple[float, ...],
    constraints: Constraints,
    discrete: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Polytope:
    low, high = np.array(lower), np.array(upper)
    free = high > low
    width = np.where(free, high - low, 1.0)
    A, limits = _rows(low, width, free, constraints)
    center, spread = _shape(A[:, free], limits)
    full = np.zeros((len(spread), len(low)))
    full[:, free] = spread
    middle = np.zeros(len(low))
    middle[free] = center
    continuous = free.copy()
    continuous[list(discrete)] = False

    def tensor(array: Any) -> Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device)

    return Polytope(
        lower=tensor(low),
        width=tensor(width),
        free=torch.as_tensor(free, device=device),
        continuous=torch.as_tensor(continuous, device=device),
        rows=LinearRows(tensor(A), tensor(limits[:, 0]), tensor(limits[:, 1])),
        center=tensor(middle),
        spread=tensor(full),
        full=len(spread) == int(free.sum()),
        constraints=constraints,
    )


def _rows(lower: Array, width: Array, free: Mask, constraints: Constraints) -> tuple[Array, Array]:
    """A and the limits (low, high), in units of the box; rows along the same line are one. shape: (m, d), (m, 2)"""
    rows: list[Array] = []
    limits: list[list[float]] = []
    given = [(row, math.inf) for row in constraints.inequalities] + [(row, row[2]) for row in constraints.equalities]
    for (indices, coefficients, rhs), above in given:
        a = np.zeros(len(lower))
        np.add.at(a, list(indices), coefficients)
        size = float(np.abs(a) @ (np.abs(lower) + width)) + abs(rhs) + 1e-300
        low, high = rhs - float(a @ lower), above - float(a @ lower)
        a = np.where(free, a * width, 0.0)
        length = float(np.linalg.norm(a))
        if length <= 1e-14 * size:  # nothing but fixed coordinates
            if low > TOLERANCE * size or high < -TOLERANCE * size:
                raise _EmptyError("The parameter constraints allow no point with these fixed values")
            continue
        a, low, high = a / length, low / length, high / length
        for place, known in enumerate(rows):
            sign = float(np.sign(known @ a))
            if np.abs(known - sign * a).max() < 1e-14:
                near, far = (low, high) if sign > 0 else (-high, -low)
                limits[place] = [max(limits[place][0], near), min(limits[place][1], far)]
                break
        else:
            rows.append(a)
            limits.append([low, high])
    for limit in limits:
        if limit[0] > limit[1] + EMPTY:
            raise _EmptyError("The parameter constraints allow no point")
        if limit[0] > limit[1]:
            limit[0] = limit[1] = (limit[0] + limit[1]) / 2
    return np.array(rows).reshape(-1, len(lower)), np.array(limits).reshape(-1, 2)


def _solved(c: Array, G: Array, h: Array, E: Array, e: Array, bounds: Any) -> Array | None:
    """min c^T v such that G v <= h and E v = e, by HiGHS; None if there is no such point."""
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    equations = {"A_eq": E, "b_eq": e} if len(E) else {}
    result = linprog(c, A_ub=G, b_ub=h, bounds=bounds, method="highs", options=options, **equations)
    return None if result.status == 2 else np.asarray(result.x, dtype=np.float64)


def _shape(A: Array, limits: Array) -> tuple[Array, Array]:
    """The analytic centre (d) and the spread (k x d) of {0 <= y <= 1, low <= A y <= high}.

    The largest ball inside comes first, from a linear program. While none of radius ``FLAT`` fits, the limits that are
    never slack (by ten times that) are found, each by a linear program of its own, and become equations.
    """
    d = A.shape[1]
    equation = limits[:, 0] >= limits[:, 1]
    E, e = A[equation], limits[equation, 1]
    below, above = np.isfinite(limits[:, 0]) & ~equation, np.isfinite(limits[:, 1]) & ~equation
    G = np.concatenate([A[above], -A[below], np.eye(d), -np.eye(d)])
    h = np.concatenate([limits[above, 1], -limits[below, 0], np.ones(d), np.zeros(d)])
    anywhere = [(None, None)] * d
    while True:
        N = _null_space(E, d)
        length = np.linalg.norm(G @ N, axis=1)
        settled = length < 1e-9  # the equations decide about these
        away = np.where(settled, 0.0, length)
        ball = _solved(
            -np.eye(d + 1)[-1],
            np.column_stack([G, away]),
            h + np.where(settled, EMPTY, 0.0),
            np.column_stack([E, np.zeros(len(E))]),
            e,
            [*anywhere, (-float(d) - 1, 1.0)],
        )
        if ball is None or ball[-1] < -EMPTY:
            raise _EmptyError("The parameter constraints allow no point")
        y, radius = ball[:-1], ball[-1]
        G, h, away = G[~settled], h[~settled], away[~settled]
        if N.shape[1] == 0:
            break
        if radius >= FLAT:
            break
        never = np.zeros(len(G), dtype=bool)
        for place, row in enumerate(G):
            slackest = _solved(row, G, h + EMPTY, E, e, anywhere)
            never[place] = slackest is None or h[place] - row @ slackest < 10 * FLAT * away[place]
        if not never.any():  # thinner than a linear program can tell
            break
        E, e = np.concatenate([E, G[never]]), np.concatenate([e, G[never] @ y])  # midway, if there is any way
        G, h = G[~never], h[~never]
    if len(E):
        y = y - np.linalg.pinv(E) @ (E @ y - e)
    y = y.clip(0.0, 1.0)
    if N.shape[1] == 0:
        return y, N.T
    y, hessian = _analytic_center(y, N, G, h)
    return y, np.linalg.solve(np.linalg.cholesky(hessian), N.T)


def _null_space(E: Array, d: int) -> Array:
    """An orthonormal basis of {y : E y = 0}. shape: (d, k)"""
    if len(E) == 0:
        return np.eye(d)
    _, singular, V = np.linalg.svd(E)
    return V[int((singular > 1e-10).sum()) :].T


def _analytic_center(y: Array, N: Array, G: Array, h: Array) -> tuple[Array, Array]:
    """The minimum of -sum log(h - G y) over y + N z, by Newton's method, and the Hessian in z there."""
    GN = G @ N
    slack = np.maximum(h - G @ y, 1e-12)
    for _ in range(NEWTON_STEPS):
        scaled = GN / slack[:, None]
        hessian, gradient = scaled.T @ scaled, scaled.sum(0)
        step = -np.linalg.solve(hessian, gradient)
        decrement = float(np.sqrt(-step @ gradient))
        # Within 1 / (1 + decrement) the step stays inside and descends (self-concordance).
        step = step if decrement < 0.25 else step / (1.0 + decrement)
        y, slack = y + N @ step, slack - GN @ step
        if decrement < 1e-6:
            break
    scaled = GN / slack[:, None]
    return y, scaled.T @ scaled


__all__ = ["TOLERANCE", "BotorchConstraint", "Constraints", "Polytope"]

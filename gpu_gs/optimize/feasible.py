"""Search within linear constraints: samples, neighbours and values of points that satisfy them.

Discrete coordinates have allowed values. A sample is drawn from the polytope as if they were continuous, moved to the
nearest allowed values, and its continuous coordinates then to the nearest point that these leave feasible; where they
leave none, it is dropped. A neighbour with one discrete coordinate changed is treated alike; and where constraints tie
discrete coordinates to each other, pairs of them are changed together along the constraint (one up, another down), for
there may be no other way.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from botorch.exceptions.errors import InfeasibilityError
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from gpu_gs.optimize.hit_and_run import uniform
from gpu_gs.optimize.polytope import Constraints, Polytope

DRAWS = 4
"""Times that samples are drawn until enough of them are feasible at allowed values."""

PROGRAMS = 8
"""Mixed-integer programs, each with a random objective, where no sample was feasible."""


@dataclass(frozen=True, eq=False)
class FeasibleSet:
    """A polytope some of whose coordinates have allowed values.

    Attributes:
        polytope: The polytope.
        discrete: Allowed values of discrete coordinates that are not fixed, sorted.
        unordered: Those of them whose values have no order.
    """

    polytope: Polytope
    discrete: Mapping[int, Tensor]
    unordered: Collection[int] = ()

    @classmethod
    def of(
        cls,
        lower: Tensor,
        upper: Tensor,
        constraints: Constraints | None,
        discrete: Mapping[int, Tensor] | None = None,
        unordered: Collection[int] = (),
    ) -> "FeasibleSet | None":
        """Within bounds (fixed coordinates have equal ones) and constraints; None if no constraint ties what is free.

        Raises:
            InfeasibilityError: No point of the bounds satisfies the constraints.
        """
        if constraints is None:
            return None
        free = (upper > lower).tolist()
        discrete = {index: values for index, values in (discrete or {}).items() if free[index]}
        polytope = Polytope.of(lower, upper, constraints, discrete)
        if len(polytope.rows.A) == 0:  # fixed coordinates alone, which satisfy them
            return None
        return cls(polytope, discrete, unordered)

    def snapped(self, X: Tensor) -> Tensor:
        """Discrete coordinates moved to allowed values, then points outside as far inside as the others allow."""
        X = X.clone()
        for index, values in self.discrete.items():
            X[:, index] = values[(X[:, index].unsqueeze(-1) - values).abs().argmin(-1)]
        return self.polytope.inside(X)

    def kept(self, X: Tensor) -> Tensor:
        """The points at allowed values that are feasible, moved inside where need be. shape: (b, d) -> (b', d)"""
        X = self.snapped(X)
        return X[self.polytope.feasible(X)]

    def samples(self, count: int, generator: torch.Generator) -> Tensor:
        """Points all over, at least one and ``count`` at the most. shape: (b, d)

        Raises:
            InfeasibilityError: Allowed values leave no point.
        """
        if not self.discrete:
            return self.polytope.inside(uniform(self.polytope, count, generator))
        in_rows = (self.polytope.rows.A.abs().amax(0) > 1e-12).tolist()
        found: list[Tensor] = []
        for _ in range(DRAWS):
            X = uniform(self.polytope, count, generator)
            for index, values in self.discrete.items():
                if not in_rows[index]:
                    X[:, index] = values[torch.randint(len(values), (count,), generator=generator, device=X.device)]
            found.append(self.kept(X))
            if sum(map(len, found)) >= count:
                break
        samples = torch.cat(found)[:count]
        return samples if len(samples) else self._by_programs(generator)

    def _by_programs(self, generator: torch.Generator) -> Tensor:
        """Feasible points in random directions from each other, by mixed-integer programs on the CPU."""
        p = self.polytope
        d = len(p.lower)
        A, low, high, lower, width = (
            tensor.double().cpu().numpy() for tensor in (p.rows.A, p.rows.low, p.rows.high, p.lower, p.width)
        )
        # x = lower + width * (y + B n): y of the continuous coordinates, n of the choices among allowed values.
        blocks, integral, most = [np.eye(d)], np.zeros(d), p.continuous.cpu().numpy() * 1.0
        choices: list[tuple[int, float, int | None]] = []
        for index, values in self.discrete.items():
            places = (values.double().cpu().numpy() - lower[index]) / width[index]
            steps = np.diff(places)
            block = np.zeros((d, 1 if len(steps) and np.ptp(steps) < 1e-9 else len(places)))
            if block.shape[1] == 1:
                block[index] = steps[0]
                choices.append((index, places[0], None))
                most = np.append(most, len(steps))
            else:
                block[index] = places
                choices.append((index, 0.0, sum(b.shape[1] for b in blocks)))
                most = np.append(most, np.ones(len(places)))
            blocks.append(block)
            integral = np.append(integral, np.ones(block.shape[1]))
        B = np.concatenate(blocks, axis=1)
        offset = np.zeros(d)
        conditions: list[LinearConstraint] = []
        for index, first, start in choices:
            offset[index] = first
            if start is not None:  # one of its values
                row = np.zeros((1, B.shape[1]))
                row[0, start : start + len(self.discrete[index])] = 1.0
                conditions.append(LinearConstraint(row, 1.0, 1.0))
        conditions.append(LinearConstraint(A @ B, low - A @ offset, high - A @ offset))
        directions = torch.randn(PROGRAMS, d, generator=generator, dtype=p.lower.dtype, device=p.lower.device)
        found: list[Tensor] = []
        for direction in directions.double().cpu().numpy():
            result = milp(direction @ B, constraints=conditions, bounds=Bounds(0.0, most), integrality=integral)
            if result.x is None:
                break
            found.append(p.from_units(torch.as_tensor(offset + B @ result.x).to(p.lower)))
        points = self.kept(torch.stack(found)) if found else p.lower.expand(0, -1)
        if len(points) == 0:
            raise InfeasibilityError(
                f"The parameter constraints allow no point of the discrete values: {p.constraints}."
            )
        return points

    def starts(self, X: Tensor, generator: torch.Generator) -> Tensor:
        """The points from which a search may begin, moved inside where need be; samples if none is. shape: (b, d)"""
        X = self.polytope.inside(X)
        inside = self.polytope.feasible(X)
        if bool(inside.all()):
            return X
        return X[inside] if bool(inside.any()) else self.samples(len(X), generator)

    def after(self, post_process: Callable[[Tensor], Tensor], almost: Tensor) -> Callable[[Tensor], Tensor]:
        """Post-processing, after which the coordinates that it left alone lead back inside.

        Args:
            post_process: shape: (b, d) -> (b, d)
            almost: Smaller changes count as none. shape: (d,)
        """

        def processed(X: Tensor) -> Tensor:
            moved = post_process(X)
            return self.polytope.inside(moved, movable=(moved - X).abs() <= almost)

        return processed

    @cached_property
    def _pairs(self) -> tuple[Tensor, ...] | None:
        """Pairs of discrete coordinates in the same constraint: I, J, how far x_J falls as x_I rises, the sign of x_I's
        step. Each of shape (k,). Then the table of allowed values (c, v), and each coordinate's row in it (d,)."""
        A = (self.polytope.rows.A / self.polytope.width).tolist()
        ordered = [index for index in self.discrete if index not in self.unordered]
        pairs: dict[tuple[int, int], float] = {}
        for row in A:
            taking_part = [index for index in ordered if abs(row[index]) > 1e-12]
            for i in taking_part:
                for j in taking_part:
                    if i != j:
                        pairs.setdefault((i, j), row[i] / row[j])
        if not pairs:
            return None
        like = self.polytope.lower
        table = like.new_full((len(ordered), max(len(self.discrete[index]) for index in ordered)), torch.inf)
        place = torch.zeros(len(like), dtype=torch.long, device=like.device)
        for row_of_table, index in enumerate(ordered):
            table[row_of_table, : len(self.discrete[index])] = self.discrete[index]
            place[index] = row_of_table
        both = [(i, j, ratio, sign) for (i, j), ratio in pairs.items() for sign in (1, -1)]
        I, J, ratio, sign = (torch.tensor(column, device=like.device) for column in zip(*both, strict=True))
        return I, J, ratio.to(like), sign, table, place

    def neighbours(self, X: Tensor, around: Tensor) -> Tensor:
        """Neighbours with one coordinate changed, repaired, and those with a pair changed. Not all are feasible.

        Args:
            X: Points at allowed values. shape: (b, d)
            around: Their neighbours. shape: (b, k, d)

        Returns:
            shape: (b, k', d)
        """
        if (pairs := self._pairs) is not None:
            I, J, ratio, sign, table, row = pairs
            here, values = X[:, I], table[row[I]]  # shape: (b, p), (p, v)
            counts = values.isfinite().sum(-1)
            at = (here.unsqueeze(-1) - values).abs().argmin(-1)
            to = torch.minimum((at + sign).clamp_min(0), counts - 1)
            stepped = table[row[I], to]
            wanted = X[:, J] - ratio * (stepped - here)
            other = table[row[J], (wanted.unsqueeze(-1) - table[row[J]]).abs().argmin(-1)]
            block = X.unsqueeze(1).repeat(1, len(I), 1)
            block.scatter_(2, I.expand(len(X), -1).unsqueeze(-1), stepped.unsqueeze(-1))
            block.scatter_(2, J.expand(len(X), -1).unsqueeze(-1), other.unsqueeze(-1))
            around = torch.cat([around, block], 1)
        return self.polytope.inside(around.reshape(-1, X.shape[-1])).reshape(around.shape)


class Within:
    """An acquisition function that is minus infinity outside of a feasible set."""

    def __init__(self, acquisition: Any, feasible: FeasibleSet) -> None:
        self.acquisition = acquisition
        self.feasible = feasible

    def value(self, X: Tensor) -> Tensor:
        """shape: (b, d) -> (b,)"""
        value: Tensor = self.acquisition.value(X)
        return value.where(self.feasible.polytope.feasible(X), -torch.inf)

    def value_and_grad(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The function itself: steps stay within the constraints. shape: (b, d) -> (b,), (b, d)"""
        value, gradient = self.acquisition.value_and_grad(X)
        return value, gradient


__all__ = ["FeasibleSet", "Within"]

"""Batched minimization over a box or a polytope by quasi-Newton steps, every row of the batch a problem of its own.

Notation: x (b x d) the points, g their gradients, H approximations of the inverse Hessians, p the search directions,
t (b) the step lengths, l and u the bounds; s = x' - x and y = g' - g of a step, D = diag(scale)^2 the first H.
A coordinate is *bound* if it sits at a bound and its gradient pushes outwards; the others are free, and the step is
-H_ff g_f (Bertsekas 1982, "Projected Newton methods").

One turn of the loop is one call of the function for all rows: a row whose step is good takes it and gets a new
direction, a row whose step is not tries a shorter one next time. No row waits for the line search of another.

Under linear constraints the step is the minimum of the quadratic model within all limits (``gpu_gs.working_set``), and
H stays dense for any number of coordinates.

H is a dense matrix for each row up to ``DENSE_UP_TO`` coordinates (BFGS), and above that the last ``HISTORY`` pairs
(s, y) (L-BFGS, Nocedal & Wright 2006, algorithm 7.4). On the CPU rows that are done leave the batch; on CUDA shapes
stay as they are, such rows stand still, and the host looks after 4, 12, 36, 108, ... turns only whether all are done.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_gs.transfer import looking_is_cheap
from gpu_gs.working_set import LinearRows, WorkingSet

ARMIJO = 1e-4
SMALLEST_STEP = 1e-8
LEAST_CURVATURE = 1e-6
"""A pair (s, y) is used if the slope along s changed by more than this share."""

GROWTH, LARGEST_GROWTH = 3.0, 1e6
"""A good step along which the slope did not flatten says nothing of where to stop: the next one is longer by this."""
DENSE_UP_TO = 50
HISTORY = 10
FIRST_LOOK, LOOKS_FURTHER_APART = 4, 3
"""Where rows stand still instead of leaving, the host looks after so many turns first whether all are done, and each time
after so many times as many. Where t turns were needed it makes max(4, 3 t) at the most, and looks about log3(t) times.

A choice, not measured: 4 evaluations are the median of a warm fit."""

LEAVE_TOGETHER = 0.25
"""Rows that are done leave the batch when they are more than this share of it: leaving costs as much as 30 operations."""


@dataclass(frozen=True)
class MinimizeResult:
    """Where a minimization ended.

    Attributes:
        x: Points. shape: (b, d)
        value: Values. shape: (b,)
        gradient: Gradients. shape: (b, d)
        iterations: Trial steps of the row that took the most.
        evaluations: Calls of the function, each for all rows still in the batch.
        converged: Which rows met a tolerance (the others ran out of iterations or of descent). shape: (b,)
        inverse_hessian: The last approximations H, ready to be handed in as ``H0``; None where they are not dense.
            shape: (b, d, d)
        curved: Which rows' H carries curvature. shape: (b,)
    """

    x: Tensor
    value: Tensor
    gradient: Tensor
    iterations: int
    evaluations: int
    converged: Tensor
    inverse_hessian: Tensor | None
    curved: Tensor


def projected_gradient_norm(x: Tensor, g: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Largest component of the step that a unit gradient step may take inside the box. shape: (b,)"""
    return ((x - g).clamp(lower, upper) - x).abs().amax(dim=-1)


class _Dense:
    """H as matrices (b x d x d): BFGS."""

    def __init__(self, first: Tensor, b: int, H0: Tensor | None) -> None:
        self.first = torch.diag(first)  # shape: (d, d)
        self.H = (self.first if H0 is None else H0).expand(b, -1, -1).clone()

    def times(self, g: Tensor) -> Tensor:
        """H g. shape: (a, d) -> (a, d)"""
        return torch.bmm(self.H, g.unsqueeze(-1)).squeeze(-1)

    def update(self, s: Tensor, y: Tensor, sy: Tensor, inverse_sy: Tensor, fresh: Tensor | None) -> None:
        """H + s q^T + q s^T with q = (1 + y^T H y / s^T y) / (2 s^T y) s - H y / s^T y.

        Rows with ``inverse_sy`` = 0 keep theirs; that of a fresh row is scaled to y^T H y = s^T y first.
        """
        Hy = self.times(y)
        yHy = torch.linalg.vecdot(y, Hy)
        if fresh is not None:
            factor = torch.where(fresh & (inverse_sy > 0), sy / yHy, 1.0)
            self.H *= factor[:, None, None]
            Hy, yHy = Hy * factor.unsqueeze(-1), yHy * factor
        along = torch.addcmul(inverse_sy, yHy * inverse_sy, inverse_sy).mul_(0.5)
        q = (s * along.unsqueeze(-1)).addcmul_(Hy, inverse_sy.unsqueeze(-1), value=-1)
        self.H.baddbmm_(torch.stack((s, q), -1), torch.stack((q, s), -2))

    def reset(self, which: Tensor) -> None:
        self.H = torch.where(which[:, None, None], self.first, self.H)

    def select(self, keep: Tensor) -> None:
        self.H = self.H[keep]


class _Limited:
    """H as the last pairs (s, y) (m x b x d) of each row: L-BFGS. A pair with 1 / s^T y = 0 has no effect."""

    def __init__(self, first: Tensor, b: int) -> None:
        self.first = first
        self.s = first.new_zeros(HISTORY, b, len(first))
        self.y = torch.zeros_like(self.s)
        self.inverse_sy = first.new_zeros(HISTORY, b, 1)
        self.factor = first.new_ones(b, 1)

    def times(self, g: Tensor) -> Tensor:
        """H g, by the two loops. shape: (a, d) -> (a, d)"""
        q = g.clone()
        weights = []
        for i in reversed(range(HISTORY)):
            weights.append((self.s[i] * q).sum(-1, keepdim=True) * self.inverse_sy[i])
            q.addcmul_(weights[-1], self.y[i], value=-1)
        q.mul_(self.first).mul_(self.factor)
        for i in range(HISTORY):
            beta = (self.y[i] * q).sum(-1, keepdim=True) * self.inverse_sy[i]
            q.addcmul_(weights.pop() - beta, self.s[i])
        return q

    def update(self, s: Tensor, y: Tensor, sy: Tensor, inverse_sy: Tensor, fresh: Tensor | None) -> None:
        """The pair takes the place of a row's oldest; rows with ``inverse_sy`` = 0 keep theirs."""
        inverse_sy = inverse_sy.unsqueeze(-1)
        curved = inverse_sy > 0
        self.s = torch.where(curved, torch.cat((self.s[1:], s.unsqueeze(0))), self.s)
        self.y = torch.where(curved, torch.cat((self.y[1:], y.unsqueeze(0))), self.y)
        self.inverse_sy = torch.where(
            curved, torch.cat((self.inverse_sy[1:], inverse_sy.unsqueeze(0))), self.inverse_sy
        )
        self.factor = torch.where(curved, (sy / (y * y * self.first).sum(-1)).unsqueeze(-1), self.factor)

    def reset(self, which: Tensor) -> None:
        self.inverse_sy = self.inverse_sy * ~which.unsqueeze(-1)
        self.factor = torch.where(which.unsqueeze(-1), 1.0, self.factor)

    def select(self, keep: Tensor) -> None:
        self.s, self.y, self.inverse_sy = self.s[:, keep], self.y[:, keep], self.inverse_sy[:, keep]
        self.factor = self.factor[keep]


def minimize(
    value_and_grad: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x0: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    max_iterations: int,
    gradient_tolerance: float = 1e-6,
    value_tolerance: float = 1e-10,
    first_step: float | Tensor = 0.1,
    scale: Tensor | None = None,
    H0: Tensor | None = None,
    compact: bool | None = None,
    linear: LinearRows | None = None,
    finished: Tensor | None = None,
) -> MinimizeResult:
    """Minimizes b functions at once from b starting points.

    Args:
        value_and_grad: Takes points (a x d) and the indices (a) of their rows in ``x0``; returns values (a) and
            gradients (a x d). A value that is not finite makes the step shorter.
        x0: Starting points, moved into the box. shape: (b, d)
        lower: Lower bounds, broadcast over rows; equal bounds freeze a coordinate. shape: (d,) or (b, d)
        upper: Upper bounds. shape: (d,) or (b, d)
        max_iterations: Trial steps at the most, those included that turn out too long.
        gradient_tolerance: A row converges when its projected gradient is smaller, in the largest component.
        value_tolerance: A row converges when a step gains less than this, relative to max(|f|, 1).
        first_step: Largest component of the very first trial step, in units of ``scale``, per coordinate if a tensor.
        scale: Lengths over which the function varies: steepest descent is meant in their units. shape: (d,)
        H0: Inverse Hessians to begin with, positive definite. Not above ``DENSE_UP_TO`` coordinates, unless there are
            linear constraints. shape: (d, d) or (b, d, d)
        compact: Whether rows that are done leave the batch; None: where ``looking_is_cheap``.
        linear: Linear constraints, which the starting points satisfy. Steps are then the solutions of quadratic
            programs, and the points stay within the constraints to rounding.
        finished: Rows that are done before they begin: they keep their starting points. shape: (b,)

    Returns:
        The best points found, never worse than the starting points.
    """
    b, d = x0.shape
    compact = looking_is_cheap(x0) if compact is None else compact
    l, u = lower.expand_as(x0), upper.expand_as(x0)
    x = x0.clamp(l, u)
    rows = torch.arange(b, device=x0.device)
    f, g = value_and_grad(x, rows)
    turn = 0
    unit = torch.ones_like(x0[0]) if scale is None else scale  # shape: (d,)
    length = first_step.to(x0) if isinstance(first_step, Tensor) else x0.new_full((), first_step)
    dense = d <= DENSE_UP_TO or linear is not None
    limits = None if linear is None else WorkingSet(linear, l, u)
    H = _Dense(unit * unit, b, H0) if dense else _Limited(unit * unit, b)
    any_fresh = H0 is None or not dense
    fresh = torch.full_like(rows, any_fresh, dtype=torch.bool)  # rows whose H carries no curvature yet

    def surely_all(mask: Tensor) -> bool:
        """Whether a mask needs no action. On the CPU we look; elsewhere looking costs more than acting."""
        return compact and bool(mask.all())

    def direction(x: Tensor, g: Tensor, growth: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """p, the size of the projected gradient, and the free coordinates. shape: (a, d), (a,), (a, d)"""
        if limits is not None and isinstance(H, _Dense):
            factor = torch.ones_like(g[:, 0]) if growth is None else growth
            if any_fresh:
                steepest = 1 / (g * unit / length).abs().amax(-1).clamp_min(1e-300)
                factor = torch.where(fresh, factor * steepest, factor)
            p, size, _ = limits.step(H.H, x, g * factor.unsqueeze(-1))
            return p, size / factor, None
        residual = (x - g).clamp_(l, u).sub_(x)
        free = None
        if not surely_all(unbound := residual != 0):
            free = unbound.to(g.dtype)
            g = g * free
        p = H.times(g).neg_()
        if any_fresh:
            scaled = g * unit
            steepest = scaled * unit * -length / scaled.abs().amax(-1, keepdim=True).clamp_min(1e-300)
            p = torch.where(fresh.unsqueeze(-1), steepest, p)
        p = p if free is None else p.mul_(free)
        return p if growth is None else p * growth.unsqueeze(-1), residual.abs_().amax(-1), free

    p, size, free = direction(x, g, None)
    done = (size <= gradient_tolerance) | ~f.isfinite()
    hopeless = ~f.isfinite()
    if finished is not None:
        done = done | finished
    t = torch.ones_like(f)
    growth = torch.ones_like(f)
    any_growth = False
    ended = [tensor.clone() for tensor in (x, f, g, done, hopeless, fresh)]
    ended_H = H.H.clone() if isinstance(H, _Dense) else None

    next_look = FIRST_LOOK
    while True:
        count = 0  # of rows that are known to be done
        if compact:
            count = done.tolist().count(True)
        elif turn == next_look < max_iterations:
            count = len(rows) if bool(done.all()) else 0  # the one host synchronization
            next_look *= LOOKS_FURTHER_APART
        last = count == len(rows) or turn == max_iterations
        if last or (compact and count > LEAVE_TOGETHER * len(rows)):
            for to, now in zip(ended, (x, f, g, done, hopeless, fresh), strict=True):
                to[rows] = now
            if ended_H is not None and isinstance(H, _Dense):
                ended_H[rows] = H.H
            if last:
                break
            stay = ~done
            x, f, g, p, t, growth, l, u = (tensor[stay] for tensor in (x, f, g, p, t, growth, l, u))
            free = None if free is None else free[stay]
            rows, fresh, hopeless, done = (tensor[stay] for tensor in (rows, fresh, hopeless, done))
            H.select(stay)
            if limits is not None:
                limits.select(stay)
        elif count or not compact:
            t.masked_fill_(done, 0.0)  # they stand still
        turn += 1
        trial = torch.addcmul(x, t.unsqueeze(-1), p).clamp_(l, u)
        f_trial, g_trial = value_and_grad(trial, rows)
        s, y = trial - x, g_trial - g
        gain = torch.linalg.vecdot(g, s)  # negative: what the slope promises
        sy = torch.linalg.vecdot(s, y)
        finite = (sy - f_trial).abs_() < torch.inf
        good = (f_trial <= torch.add(f, gain, alpha=ARMIJO)).logical_and_(finite)
        tolerance = f.abs().clamp_min_(1.0).mul_(value_tolerance)
        settled = f - f_trial <= tolerance
        curved = sy > LEAST_CURVATURE * gain.abs()
        all_good = surely_all(good)
        if all_good:
            x, f, g = trial, f_trial, g_trial
        else:
            # The minimum of the parabola through f, its slope and the trial value, within [0.1, 0.5] of the step.
            shrunk = (gain / (-2 * (f_trial - f - gain))).clamp_(0.1, 0.5).nan_to_num_(nan=0.1).mul_(t)
            failed = (shrunk < SMALLEST_STEP).logical_and_(~good)
            # A step that was too long and promised less than the tolerance: so will a shorter one.
            promises_little = (gain >= -tolerance).logical_and_(gain < 0)
            settled = torch.where(good, settled, promises_little.logical_and_(finite))
            if not surely_all(finite):
                y = torch.where(finite.unsqueeze(-1), y, 0.0)
            curved.logical_and_(good)
            column = good.unsqueeze(-1)
            x, f, g = torch.where(column, trial, x), torch.where(good, f_trial, f), torch.where(column, g_trial, g)
        if free is not None:  # H_ff must map the free part of y to s: the rest of y would spoil it
            y = y * free
        H.update(s, y, sy, torch.where(curved, sy.reciprocal(), 0.0), fresh if any_fresh else None)
        if any_fresh:
            fresh = fresh & ~curved
            any_fresh = not compact or bool(fresh.any())
        straight = good & ~curved
        if any_growth or not surely_all(~straight):
            growth = torch.where(straight, growth * GROWTH, torch.where(good, 1.0, growth)).clamp_max_(LARGEST_GROWTH)
            any_growth = not surely_all(growth == 1.0)
        moved = good
        if not all_good and not surely_all(~failed):  # start over along the gradient, once
            hopeless = hopeless | (failed & fresh & ~done)
            done = done | hopeless
            H.reset(failed)
            fresh, any_fresh, moved = fresh | failed, True, good | failed
            growth = torch.where(failed, 1.0, growth)
        p_next, size, free = direction(x, g, growth if any_growth else None)
        if all_good:
            p, t = p_next, torch.ones_like(t)
        else:
            p, t = torch.where(moved.unsqueeze(-1), p_next, p), torch.where(moved, 1.0, shrunk)
        done = done | settled | (size <= gradient_tolerance)
    return MinimizeResult(
        x=ended[0],
        value=ended[1],
        gradient=ended[2],
        iterations=turn,
        evaluations=turn + 1,
        converged=ended[3] & ~ended[4],
        inverse_hessian=ended_H,
        curved=~ended[5],
    )

"""Quasi-Newton steps under linear constraints, for every row of a batch at once.

Notation: M (k x d) stacks the identity on the constraints' rows A, so that lo <= M x <= hi are the bounds and the linear
constraints together; low = lo - M x and high = hi - M x are what a step p may use up. The step is the solution of

    min_p  g^T p + p^T H^-1 p / 2   such that   low <= M p <= high.

With the multipliers lambda, positive at upper and negative at lower limits, p = -H (g + M^T lambda) and
M p = u - S lambda with u = -M H g and S = M H M^T. Which limits hold with equality is the *working set*: a row's mark is
1 at its upper limit, -1 at its lower, 0 at none.

The working set is found by block pivoting (Judice & Pires 1994, "A block principal pivoting algorithm for large-scale
strictly monotone linear complementarity problems"): solve for lambda on the working set, and flip every row that
violates a limit or has a multiplier of the wrong sign. It begins with the set of the step before, so it mostly ends at
once. A row of the batch whose flips do not become fewer starts over with the non-negative least squares method of Lawson
& Hanson (1974), which adds the most violated row and drops those whose multiplier reaches zero on the way to the next
solution: slower, but the dual objective rises in each round, so it ends. S is singular where rows depend on each other:
a small ridge makes it definite, and one step of iterative refinement in the end takes the ridge out of lambda again.

As x + t p stays within all limits for t in [0, 1], no search along the step has to look at them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-12
"""Added to the unit diagonal of the scaled S."""

PRIMAL, DUAL = 1e-12, 1e-10
"""A limit counts as violated from here on, in units of M x; a multiplier as wrong from this share of the largest u on."""

PATIENCE = 3
"""Rounds of block pivoting that may pass without fewer rows to flip."""

ROUNDS = 5
"""Rounds at the most for each row of M."""

OVERSHOOT = 1e-10
"""By how much a step may violate a limit, in units of M x. Steps in a badly conditioned H may by more, to rounding: they
are corrected in the plain metric."""


@dataclass(frozen=True)
class LinearRows:
    """Linear constraints low <= A x <= high, the same for all rows of a batch.

    Attributes:
        A: Coefficients, of about unit length in the coordinates that may move. shape: (m, d)
        low: Lower limits, minus infinity where there is none. shape: (m,)
        high: Upper limits; equal to the lower ones for an equation. shape: (m,)
    """

    A: Tensor
    low: Tensor
    high: Tensor

    def violation(self, x: Tensor) -> Tensor:
        """By how much a point violates its worst constraint; 0 if it violates none. shape: (b, d) -> (b,)"""
        v = x @ self.A.T
        return torch.maximum(v - self.high, self.low - v).amax(-1).clamp_min(0.0)


class WorkingSet:
    """The limits that hold each row of a batch, kept from one step to the next.

    Args:
        rows: The linear constraints.
        lower: Lower bounds. shape: (b, d)
        upper: Upper bounds; equal to the lower ones for a coordinate that does not move. shape: (b, d)
    """

    def __init__(self, rows: LinearRows, lower: Tensor, upper: Tensor) -> None:
        b, d = lower.shape
        self.M = torch.cat([torch.eye(d, dtype=lower.dtype, device=lower.device), rows.A])
        self.lo = torch.cat([lower, rows.low.expand(b, -1)], -1)  # shape: (b, k)
        self.hi = torch.cat([upper, rows.high.expand(b, -1)], -1)
        moves = lower < upper
        self.moves = None if bool(moves.all()) else moves.to(lower.dtype)  # shape: (b, d)
        equation = rows.low >= rows.high
        self.always = torch.cat([torch.zeros_like(moves), equation.expand(b, -1)], -1)
        self.marks = self.always.to(lower.dtype)

    def select(self, keep: Tensor) -> None:
        self.lo, self.hi, self.always, self.marks = (
            tensor[keep] for tensor in (self.lo, self.hi, self.always, self.marks)
        )
        self.moves = None if self.moves is None else self.moves[keep]

    def step(self, H: Tensor, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The step of each row; see ``_step`` for arguments and returns."""
        p, size, count = self._step(H, x, g)
        reached = (x + p) @ self.M.T
        if bool((torch.maximum(reached - self.hi, self.lo - reached) > OVERSHOOT).any()):
            marks = self.marks
            identity = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
            p = p + self._step(identity, x + p, torch.zeros_like(g))[0]
            p = p.where((torch.linalg.vecdot(p, g) <= 0).unsqueeze(-1), 0.0)
            self.marks = marks
        return p, size, count

    def _step(self, H: Tensor, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The step of each row.

        Args:
            H: Inverse Hessians, positive definite. shape: (b, d, d)
            x: Points within the limits, or outside by little: the step leads back. shape: (b, d)
            g: Gradients, times any positive factor. shape: (b, d)

        Returns:
            The steps p (b x d); the largest component of g + M^T lambda, or of min(|lambda|, distance) over the working
            set if that is larger, which is zero at a stationary point (b); how many limits and multipliers of a row are
            still wrong, which is zero but for numerical accidents (b). A row with some has a step that ends at the
            first limit, or none if it does not descend.
        """
        if self.moves is not None:
            H = H * (self.moves.unsqueeze(-1) * self.moves.unsqueeze(-2))
            g = g * self.moves
        v = x @ self.M.T
        low, high = self.lo - v, self.hi - v
        HM = torch.matmul(H, self.M.T)  # shape: (b, d, k)
        S = torch.matmul(self.M, HM)
        free = torch.matmul(H, -g.unsqueeze(-1)).squeeze(-1)
        scale = S.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).rsqrt()
        S = S * (scale.unsqueeze(-1) * scale.unsqueeze(-2))  # unit diagonal: rows in units of their H-lengths
        u, low, high = (free @ self.M.T) * scale, low * scale, high * scale
        primal, dual = PRIMAL * scale, DUAL * torch.maximum(u.abs(), torch.maximum(low, -high)).amax(-1, keepdim=True)
        marks = self.marks
        fewest = torch.full_like(marks[:, 0], torch.inf)
        patience = torch.full_like(fewest, PATIENCE)
        so_far = torch.zeros_like(marks)  # multipliers with the right signs, of the rows that are taken one by one
        for _ in range(ROUNDS * len(self.M)):
            on = marks != 0
            rhs = torch.where(marks > 0, u - high, u - low).where(on, 0.0)
            factor = _factor(S, on)
            multipliers = torch.cholesky_solve(rhs.unsqueeze(-1), factor).squeeze(-1)
            reached = u - torch.matmul(S, multipliers.unsqueeze(-1)).squeeze(-1)
            above, below = (reached > high + primal) & ~on, (reached < low - primal) & ~on
            wrong = (marks * multipliers < -dual) & ~self.always
            bad = above | below | wrong
            count = bad.sum(-1)
            if not bool(count.any()):
                break
            one_by_one = patience < 0
            patience = torch.where(count < fewest, PATIENCE, patience - 1).where(~one_by_one, -1)
            fewest = torch.minimum(fewest, count)
            side = above.to(marks.dtype) - below.to(marks.dtype)
            flipped = torch.where(bad, side, marks)
            if bool(one_by_one.any()):
                share = torch.where(wrong, so_far / (so_far - multipliers), 1.0)
                least = share.amin(-1, keepdim=True)
                leaves = wrong & (share <= least)
                so_far = torch.lerp(so_far, multipliers, least).masked_fill_(leaves, 0.0)
                most = (
                    torch.maximum(reached - high, low - reached).masked_fill_(on, -torch.inf).argmax(-1, keepdim=True)
                )
                enters = torch.zeros_like(on).scatter_(-1, most, ~wrong.any(-1, keepdim=True)) & bad
                careful = torch.where(enters, side, marks).masked_fill_(leaves, 0.0)
                flipped = torch.where(one_by_one.unsqueeze(-1), careful, flipped)
            starting = ((patience < 0) & ~one_by_one).unsqueeze(-1)
            marks = torch.where(starting, self.always.to(marks.dtype), flipped)
            so_far = so_far.masked_fill(starting, 0.0)
        self.marks = marks
        rest = (rhs - u + reached).where(on, 0.0)
        multipliers = (multipliers + torch.cholesky_solve(rest.unsqueeze(-1), factor).squeeze(-1)) * scale
        p = free - torch.matmul(HM, multipliers.unsqueeze(-1)).squeeze(-1)
        distance = (torch.where(marks > 0, high, low) / scale).abs_()
        stationary = torch.addmm(g, multipliers, self.M)
        residual = (stationary if self.moves is None else stationary * self.moves).abs_().amax(-1)
        apart = torch.minimum(multipliers.abs(), distance).where(marks != 0, 0.0).amax(-1)
        if bool(count.any()):
            p = torch.where((count > 0).unsqueeze(-1), _shortened(p, g, reached, low, high, scale), p)
        return p, torch.maximum(residual, apart), count


def _factor(S: Tensor, on: Tensor) -> Tensor:
    """The Cholesky factor of S + ridge on the rows of the working set, of the identity on the others. shape: (b, k, k)"""
    K = S.where(on.unsqueeze(-1) & on.unsqueeze(-2), 0.0)
    K.diagonal(dim1=-2, dim2=-1).copy_(1.0 + RIDGE * on.to(S.dtype))  # a where() of two numbers would be float32
    return torch.linalg.cholesky_ex(K).L


def _shortened(p: Tensor, g: Tensor, reached: Tensor, low: Tensor, high: Tensor, scale: Tensor) -> Tensor:
    """A step as far as the first limit; none if it does not descend or is not finite. shape: (b, d)"""
    low, high = low - OVERSHOOT * scale, high + OVERSHOOT * scale
    share = torch.where(reached > 0, high / reached, torch.where(reached < 0, low / reached, torch.inf))
    share = share.nan_to_num(nan=0.0).amin(-1).clamp(0.0, 1.0)
    p = (p * share.unsqueeze(-1)).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return p.where(((p * g).sum(-1) < 0).unsqueeze(-1), 0.0)

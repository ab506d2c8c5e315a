"""Points scored once, whose scores follow when pending points are added.

Notation as in ``gpu_gs.gp.posterior``. A pool keeps v = L^-1 k(Z, pool). More pending points z add the rows [U, M] to L,
hence the rows r = M^-1 (k(z, pool) - U v) to v: variances lose the sum of r^2, means gain r^T e in each draw. O(n m) for
each instead of O(n^2 m).

Not every point is worth its O(n^2): the first rows of v alone, O(l^2) each, and the nearest training point alone bound
the variance from above, and all acquisition functions here rise with the variance. Only the points with the highest
bounds enter the pool.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gpu_gs.acquisition.joint import Joint, stacked
from gpu_gs.acquisition.logei import LogEI
from gpu_gs.acquisition.ucb import UpperConfidenceBound
from gpu_gs.gp.covariance import covariance, squared_distances
from gpu_gs.gp.posterior import SMALLEST_VARIANCE, PosteriorState

OneOutcome = LogEI | UpperConfidenceBound
ClosedForm = OneOutcome | Joint

ROUGH_DRAWS = 8
"""Draws that the bound uses at the most: it only has to tell the promising points from the others."""

FEW_DRAWS = 4
"""Draws by which points of a joint pool are chosen."""

LEAD = 48
"""Rows of L that the bound uses."""

KEPT = 256
"""Points that enter a pool.

On 21 fitted models with three seeds each they held the best of 1124 samples always, and 13 of the best 16 or more; at
n=1000 a pool takes a third of the time of scoring all samples, at n=500 less than half, at n=100 as long (one thread)."""


@dataclass(frozen=True)
class Pool:
    """Scored points.

    Attributes:
        X: The points. shape: (m, d)
        v: L^-1 k(Z, pool) of the training points. shape: (n, m)
        rows: The same of the pending points. shape: (p, m)
        mean: Posterior mean times the function's ``weight``. shape: (m,) or (m, S)
        variance: Posterior variance. shape: (m,)
    """

    X: Tensor
    v: Tensor
    rows: Tensor
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, function: OneOutcome, X: Tensor, keep: int = KEPT) -> "Pool":
        """The ``keep`` most promising of the points X (m x d), scored under a function without pending points."""
        p = function.predictor
        _, k, _ = p.kernel(X)
        if len(X) > keep:
            lead = min(len(p.state.Z), LEAD)
            v = torch.linalg.solve_triangular(p.state.L[:lead, :lead], k[:, :lead].T, upper=False)
            nearest = k.amax(-1)
            explained = torch.maximum((v * v).sum(0), nearest * nearest / (p.state.s + p.state.noise.max()))
            bound = function.score(p.mean(k, ROUGH_DRAWS), (p.state.s - explained).clamp_min(SMALLEST_VARIANCE))
            chosen = bound.nan_to_num(nan=-torch.inf).topk(keep).indices
            X, k = X[chosen], k[chosen]
        v, variance = p.solve(k)
        return cls(X, v, v[:0], p.mean(k), variance)

    def given(self, function: OneOutcome, e: Tensor | None) -> "Pool":
        """The pool under ``function``, which has more pending points than before; ``e`` as handed to its ``given``."""
        more = _rows_after(function.state, self.X, self.v, self.rows)
        mean = self.mean
        if e is not None:
            mean = mean if mean.dim() == 2 else mean.unsqueeze(-1)
            mean = mean + function.weight * (more.T @ e)
        variance = (self.variance - more.square().sum(0)).clamp_min(SMALLEST_VARIANCE)
        return replace(self, rows=torch.cat([self.rows, more]), mean=mean, variance=variance)


@dataclass(frozen=True)
class JointPool:
    """Scored points of a function of m outcomes.

    The value need not rise with a variance here (a point is less likely feasible the less is known of it), so no bound
    chooses the points but their value over a few draws.

    Attributes:
        X: The points. shape: (k, d)
        v: L^-1 k(Z, pool) of each outcome's training points. shape: m of (n, k)
        rows: The same of the pending points. shape: m of (p, k)
        mean: Posterior means. shape: (k, m, S)
        variance: Posterior variances. shape: (k, m)
    """

    X: Tensor
    v: tuple[Tensor, ...]
    rows: tuple[Tensor, ...]
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, function: Joint, X: Tensor, keep: int = KEPT) -> "JointPool":
        """The ``keep`` best of the points X (b x d), under a function without pending points."""
        kernels = [predictor.kernel(X)[1] for predictor in function.predictors]
        solved = [predictor.solve(k) for predictor, k in zip(function.predictors, kernels, strict=True)]
        v, variance = [v for v, _ in solved], torch.stack([variance for _, variance in solved], 1)
        if len(X) > keep:
            rough = function.first_draws(FEW_DRAWS)
            mean = stacked([p.mean(k, FEW_DRAWS) for p, k in zip(function.predictors, kernels, strict=True)])
            chosen = rough.score(mean, variance).nan_to_num(nan=-torch.inf).topk(keep).indices
            X, variance = X[chosen], variance[chosen]
            kernels, v = [k[chosen] for k in kernels], [one[:, chosen] for one in v]
        mean = stacked([p.mean(k) for p, k in zip(function.predictors, kernels, strict=True)])
        return cls(X, tuple(v), tuple(one[:0] for one in v), mean, variance)

    def given(self, function: Joint, e: Tensor) -> "JointPool":
        """The pool under ``function``, which has more pending points than before; ``e`` as handed to its ``given``."""
        more = torch.stack(
            [_rows_after(s, self.X, v, rows) for s, v, rows in zip(function.states, self.v, self.rows, strict=True)]
        )  # shape: (m, b, k)
        return replace(
            self,
            rows=tuple(torch.cat([old, new]) for old, new in zip(self.rows, more, strict=True)),
            mean=self.mean + torch.einsum("mbk,bms->kms", more, e),
            variance=(self.variance - more.square().sum(1).T).clamp_min(SMALLEST_VARIANCE),
        )


def pool_of(function: ClosedForm, X: Tensor) -> Pool | JointPool:
    """The most promising of the points X (b x d), scored under a function without pending points."""
    return JointPool.of(function, X) if isinstance(function, Joint) else Pool.of(function, X)


def _rows_after(state: PosteriorState, X: Tensor, v: Tensor, rows: Tensor) -> Tensor:
    """What the points of a state beyond v and rows, all pending, add to them. shape: (k, d), (n, k), (p, k) -> (b, k)"""
    n, known = len(v), len(v) + len(rows)
    k = state.s * covariance(state.kind, squared_distances(state.Z[known:], state.to_z(X)))
    U, M = state.L[known:, :known], state.L[known:, known:]
    return torch.linalg.solve_triangular(M, k - U[:, :n] @ v - U[:, n:] @ rows, upper=False)

"""Batched minimization over a box: projected dense BFGS, every row of the batch a problem of its own.

Notation: x (b x d) the points, g their gradients, H (b x d x d) approximations of the inverse Hessians, p the search
directions, t (b) the step lengths, l and u the bounds. A coordinate is *bound* if it sits at a bound and its gradient
pushes outwards; the others are free, and the step is -H_ff g_f (Bertsekas 1982, "Projected Newton methods").

Dense matrices cost b d^2 numbers: 16 restarts of 100 parameters are 1.3 MB. Rows that have converged leave the batch
on the CPU; on CUDA too, so far.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ARMIJO = 1e-4
LINE_SEARCH_STEPS = 15


@dataclass(frozen=True)
class MinimizeResult:
    """Where a minimization ended.

    Attributes:
        x: Points. shape: (b, d)
        value: Values. shape: (b,)
        gradient: Gradients. shape: (b, d)
        iterations: Iterations of the row that took the most.
        evaluations: Calls of the function, each for all rows still in the batch.
        converged: Which rows met a tolerance (the others ran out of iterations or of descent). shape: (b,)
    """

    x: Tensor
    value: Tensor
    gradient: Tensor
    iterations: int
    evaluations: int
    converged: Tensor


def projected_gradient_norm(x: Tensor, g: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Largest component of the step that a unit gradient step may take inside the box. shape: (b,)"""
    return ((x - g).clamp(lower, upper) - x).abs().amax(dim=-1)


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
) -> MinimizeResult:
    """Minimizes b functions at once from b starting points.

    Args:
        value_and_grad: Takes points (a x d) and the indices (a) of their rows in ``x0``; returns values (a) and
            gradients (a x d). A value that is not finite makes the step shorter.
        x0: Starting points, moved into the box. shape: (b, d)
        lower: Lower bounds, broadcast over rows; equal bounds freeze a coordinate. shape: (d,) or (b, d)
        upper: Upper bounds. shape: (d,) or (b, d)
        max_iterations: Quasi-Newton steps at the most.
        gradient_tolerance: A row converges when its projected gradient is smaller, in the largest component.
        value_tolerance: A row converges when a step gains less than this, relative to max(|f|, 1).
        first_step: Largest component of the very first trial step, per coordinate if a tensor.

    Returns:
        The best points found, never worse than the starting points.
    """
    lower, upper = lower.expand_as(x0), upper.expand_as(x0)
    x_all = x0.clamp(lower, upper)
    rows = torch.arange(len(x0), device=x0.device)
    f_all, g_all = value_and_grad(x_all, rows)
    evaluations, iterations = 1, 0
    f_all, g_all, x_all = f_all.clone(), g_all.clone(), x_all.clone()
    converged = projected_gradient_norm(x_all, g_all, lower, upper) <= gradient_tolerance
    rows = rows[~converged & f_all.isfinite()]
    x, f, g = x_all[rows], f_all[rows], g_all[rows]
    l, u = lower[rows], upper[rows]
    d = x0.shape[-1]
    identity = torch.eye(d, dtype=x0.dtype, device=x0.device)
    H = identity.expand(len(rows), d, d).clone()
    fresh = torch.ones(len(rows), dtype=torch.bool, device=x0.device)  # rows whose H carries no curvature yet
    scale = torch.as_tensor(first_step, dtype=x0.dtype, device=x0.device)

    while len(rows) and iterations < max_iterations:
        iterations += 1
        free = ~(((x <= l) & (g > 0)) | ((x >= u) & (g < 0)))
        gf = g * free
        p = -(H @ gf.unsqueeze(-1)).squeeze(-1) * free
        slope = (p * g).sum(-1)
        reset = slope >= -1e-16 * gf.abs().amax(-1)
        start = fresh | reset
        steepest = -gf * scale
        steepest = steepest / gf.abs().amax(-1, keepdim=True).clamp_min(1e-300)
        p = torch.where(start.unsqueeze(-1), steepest, p)
        H[start] = identity

        t = torch.ones_like(f)
        x_new, f_new, g_new = x.clone(), f.clone(), g.clone()
        searching = torch.arange(len(rows), device=x0.device)
        accepted = torch.zeros_like(fresh)
        for _ in range(LINE_SEARCH_STEPS):
            trial = (x[searching] + t[searching].unsqueeze(-1) * p[searching]).clamp(l[searching], u[searching])
            f_trial, g_trial = value_and_grad(trial, rows[searching])
            evaluations += 1
            gain = (g[searching] * (trial - x[searching])).sum(-1)  # negative: what the slope promises
            good = f_trial.isfinite() & (f_trial <= f[searching] + ARMIJO * gain) & g_trial.isfinite().all(-1)
            taken = searching[good]
            x_new[taken], f_new[taken], g_new[taken] = trial[good], f_trial[good], g_trial[good]
            accepted[taken] = True
            # The minimum of the parabola through f, its slope and the trial value, within [0.1, 0.5] of the step.
            excess = f_trial - f[searching] - gain
            shrink = torch.where(
                f_trial.isfinite() & (excess > 0), (-gain / (2 * excess)).clamp(0.1, 0.5), torch.full_like(gain, 0.1)
            )
            t[searching] = t[searching] * shrink
            searching = searching[~good]
            if len(searching) == 0:  # the one host synchronization of a step
                break

        s, y = x_new - x, g_new - g
        sy, yy = (s * y).sum(-1), (y * y).sum(-1)
        curved = accepted & (sy > 1e-10 * (s * s).sum(-1).sqrt() * yy.sqrt())
        H = _updated(H, s, y, sy, yy, curved, start)
        fresh = (fresh | reset) & ~curved
        small = (f - f_new) <= value_tolerance * f_new.abs().clamp_min(1.0)
        x, f, g = x_new, f_new, g_new
        flat = projected_gradient_norm(x, g, l, u) <= gradient_tolerance
        done = flat | (small & accepted) | (~accepted & start)
        fresh = fresh | ~accepted  # a failed search starts over along the gradient
        x_all[rows], f_all[rows], g_all[rows] = x, f, g
        converged[rows] = flat | (small & accepted)
        keep = ~done
        rows, x, f, g, H, fresh, l, u = rows[keep], x[keep], f[keep], g[keep], H[keep], fresh[keep], l[keep], u[keep]
    return MinimizeResult(x_all, f_all, g_all, iterations, evaluations, converged)


def _updated(H: Tensor, s: Tensor, y: Tensor, sy: Tensor, yy: Tensor, curved: Tensor, start: Tensor) -> Tensor:
    """The BFGS update of the inverse where the curvature is positive; the first one scales the identity."""
    first = start & curved
    safe_sy = sy.where(curved, torch.ones_like(sy))
    factor = torch.where(first, sy / yy.clamp_min(1e-300), torch.ones_like(sy))
    H = H * factor[:, None, None]
    Hy = (H @ y.unsqueeze(-1)).squeeze(-1)  # shape: (b, d)
    yHy = (y * Hy).sum(-1)
    rank_one = ((1 + yHy / safe_sy) / safe_sy)[:, None, None] * (s.unsqueeze(-1) * s.unsqueeze(-2))
    cross = (Hy.unsqueeze(-1) * s.unsqueeze(-2)) / safe_sy[:, None, None]
    update = rank_one - cross - cross.transpose(-1, -2)
    return H + update * curved[:, None, None]

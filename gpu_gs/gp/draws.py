"""A posterior conditioned on latent values at further points, one point at a time, by extending its factor.

Notation as in ``gpu_gs.gp.posterior``; for the new point z: k = s k(z, Z), u = L^-1 k, m^2 = s - u^T u. The factor gets the
row [u, m]. A draw of the latent value is f = mean + m e with e standard normal, and since L'^-1 (f - c) ends in e,
alpha' = L'^-T [a, e] = [alpha - L^-T u (e / m), e / m]: no draw at the points before it is needed.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gpu_gs.gp.covariance import covariance, squared_distances
from gpu_gs.gp.posterior import JITTERS, PosteriorState


def given_value(state: PosteriorState, x: Tensor, e: Tensor | None) -> tuple[PosteriorState, Tensor]:
    """The posterior given the latent value at a point, in O(n^2 + n S).

    Args:
        state: The posterior so far; its ``alpha`` may have S columns.
        x: The point, raw. shape: (d,)
        e: Standard normal numbers, one for each of S draws; None: the value is the posterior mean, which leaves the
            mean as it is everywhere. shape: (S,)

    Returns:
        The state with one more row, and the values. shape: (S,), or as the mean if ``e`` is None
    """
    z = state.to_z(x.unsqueeze(0))
    k = state.s * covariance(state.kind, squared_distances(z, state.Z))  # shape: (1, n)
    u = torch.linalg.solve_triangular(state.L, k.T, upper=False)  # shape: (n, 1)
    m = (state.s - (u * u).sum()).clamp_min(JITTERS[0] * state.s).sqrt()
    n = len(state.Z)
    L = state.L.new_zeros(n + 1, n + 1)
    L[:n, :n], L[n, :n], L[n, n] = state.L, u[:, 0], m
    f = state.c + (k @ state.alpha)[0]
    alpha = state.alpha
    if e is None:
        alpha = torch.cat([alpha, torch.zeros_like(alpha[:1])])
    else:
        f = f + m * e
        alpha = alpha if alpha.dim() == 2 else alpha.unsqueeze(-1)
        w = torch.linalg.solve_triangular(state.L.T, u, upper=True)  # shape: (n, 1)
        step = (e / m).unsqueeze(0)
        alpha = torch.cat([alpha - w @ step, step])
    extended = replace(
        state,
        Z=torch.cat([state.Z, z]),
        y=torch.cat([state.y, f.mean().reshape(1)]),
        noise=torch.cat([state.noise, torch.zeros_like(state.noise[:1])]),
        L=L,
        alpha=alpha,
    )
    return extended, f

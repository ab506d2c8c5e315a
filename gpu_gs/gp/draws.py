"""A posterior conditioned on latent values at further points, by extending its factor.

Notation as in ``gpu_gs.gp.posterior``; for b new points z: k = s k(z, Z), u = L^-1 k^T, M M^T = s k(z, z) - u^T u. The factor
gets the rows [u^T, M]. A draw of the latent values is f = mean + M e with e standard normal, and since L'^-1 (f - c) ends
in e, alpha' = L'^-T [a, e] = [alpha - L^-T u w, w] with w = M^-T e: no draw at the points before them is needed.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gpu_gs.gp.covariance import covariance, squared_distances
from gpu_gs.gp.posterior import JITTERS, PosteriorState

SMALLEST_SHARE = JITTERS[0]
"""Variance that a value has at least given those before it, as a share of the prior variance: of points almost on top of
each other the factor would be lost."""


def given_values(state: PosteriorState, X: Tensor, e: Tensor | None) -> tuple[PosteriorState, Tensor]:
    """The posterior given the latent values at b points, in O(n^2 + n S) each.

    Args:
        state: The posterior so far; its ``alpha`` may have S columns.
        X: The points, raw. shape: (b, d)
        e: Standard normal numbers, one for each point and each of S draws; None: the values are the posterior means,
            which leaves the mean as it is everywhere. shape: (b, S)

    Returns:
        The state with b more rows, and the values. shape: (b, S), or (b,) if neither ``e`` nor the state has draws
    """
    z = state.to_z(X)
    k = state.s * covariance(state.kind, squared_distances(z, state.Z))  # shape: (b, n)
    u = torch.linalg.solve_triangular(state.L, k.T, upper=False)  # shape: (n, b)
    M = _factor_given(state, z, u)
    if M is None:  # one by one a variance cannot be lost
        values = []
        for j in range(len(X)):
            state, value = given_values(state, X[j : j + 1], None if e is None else e[j : j + 1])
            values.append(value)
        return state, torch.cat(values)
    n, b = len(state.Z), len(z)
    L = state.L.new_zeros(n + b, n + b)
    L[:n, :n], L[n:, :n], L[n:, n:] = state.L, u.T, M
    f = state.c + k @ state.alpha
    alpha = state.alpha
    if e is None:
        alpha = torch.cat([alpha, alpha.new_zeros(b, *alpha.shape[1:])])
    else:
        f = (f if f.dim() == 2 else f.unsqueeze(-1)) + M @ e
        alpha = alpha if alpha.dim() == 2 else alpha.unsqueeze(-1)
        w = torch.linalg.solve_triangular(M.T, e, upper=True)  # shape: (b, S)
        alpha = torch.cat([alpha - torch.linalg.solve_triangular(state.L.T, u, upper=True) @ w, w])
    extended = replace(
        state,
        Z=torch.cat([state.Z, z]),
        y=torch.cat([state.y, f.reshape(b, -1).mean(-1)]),
        noise=torch.cat([state.noise, state.noise.new_zeros(b)]),
        L=L,
        alpha=alpha,
    )
    return extended, f


def _factor_given(state: PosteriorState, z: Tensor, u: Tensor) -> Tensor | None:
    """M of one point or more; None if rounding leaves several without. shape: (b, d), (n, b) -> (b, b)

    Where one of several is almost known from those before it, all get the smallest variance on top of theirs.
    """
    smallest = SMALLEST_SHARE * state.s
    if len(z) == 1:
        return (state.s - (u * u).sum()).clamp_min(smallest).sqrt().reshape(1, 1)
    C = state.s * covariance(state.kind, squared_distances(z, z))
    C.diagonal().copy_(state.s.expand(len(z)))
    C -= u.T @ u
    M, info = torch.linalg.cholesky_ex(C)
    if bool((info == 0) & (M.diagonal().square().amin() >= smallest)):  # a host synchronization
        return M
    C.diagonal().add_(smallest)
    M, info = torch.linalg.cholesky_ex(C)
    return M if int(info) == 0 else None

"""A posterior with its gradients, written out term by term: what ``gpu_gs.gp.predictor`` arranges for speed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_gs.gp.covariance import covariance_and_weight, squared_distances
from gpu_gs.gp.posterior import SMALLEST_VARIANCE, PosteriorState


def query(state: PosteriorState, X: Tensor) -> "Query":
    """Mean and variance, with what their gradients need. shape: (b, d)"""
    z = state.to_z(X)
    k, w = covariance_and_weight(state.kind, squared_distances(z, state.Z))  # shape: (b, n)
    v = torch.linalg.solve_triangular(state.L, state.s * k.T, upper=False)  # shape: (n, b)
    mean = state.c + state.s * (k @ state.alpha)
    return Query(state, z, w, v, mean, (state.s - (v * v).sum(0)).clamp_min(SMALLEST_VARIANCE))


@dataclass(frozen=True)
class Query:
    """A posterior at some inputs, before its gradients.

    Attributes:
        state: The posterior.
        z: The inputs in units of lengthscales. shape: (b, d)
        w: Gradient weights of the covariance (``covariance_and_weight``). shape: (b, n)
        v: L^-1 k^T. shape: (n, b)
        mean: Posterior mean. shape: (b,) or (b, S)
        variance: Posterior variance. shape: (b,)
    """

    state: PosteriorState
    z: Tensor
    w: Tensor
    v: Tensor
    mean: Tensor
    variance: Tensor

    def pull_back(self, d_mean: Tensor, d_variance: Tensor) -> Tensor:
        """d f / d x for f with the given derivatives in mean and variance.

        With dk_j / dz = -s w_j (z - Z_j): d mean = sum alpha_j dk_j and d variance = -2 sum (L^-T v)_j dk_j.

        Args:
            d_mean: d f / d mean. shape: as mean
            d_variance: d f / d variance. shape: (b,)

        Returns:
            Gradients in raw inputs. shape: (b, d)
        """
        state = self.state
        u = torch.linalg.solve_triangular(state.L.T, self.v, upper=True).T  # K^-1 k. shape: (b, n)
        from_mean = d_mean @ state.alpha.T if d_mean.dim() == 2 else d_mean.unsqueeze(-1) * state.alpha
        weight = (from_mean - 2 * d_variance.unsqueeze(-1) * u) * self.w * state.s  # shape: (b, n)
        gradient_z = weight @ state.Z - weight.sum(-1, keepdim=True) * self.z
        return gradient_z / state.scale

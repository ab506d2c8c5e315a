"""Stationary ARD covariances.

Notation: z = x / lengthscale, q_ij = |z_i - z_j|^2, r = sqrt(q). Each covariance is k = phi(q), and
w = -2 d phi / d q is the weight of its gradients: dk / d z_i = -w (z_i - z_j) and
dk / d log lengthscale_k = w (z_ik - z_jk)^2 (Rasmussen & Williams 2006, ch. 4 and 5).
"""

import math
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["rbf", "matern12", "matern32", "matern52"]


def squared_distances(Z: Tensor, Zp: Tensor) -> Tensor:
    """q, by one matrix product. shape: (..., n, d), (..., m, d) -> (..., n, m)"""
    # In place: a fresh n x n buffer costs more, in page faults, than the arithmetic in it.
    q = (-2 * Z) @ Zp.transpose(-1, -2)
    q.add_((Z * Z).sum(-1).unsqueeze(-1)).add_((Zp * Zp).sum(-1).unsqueeze(-2))
    return q.clamp_min_(0)


def covariance(kind: Kind, q: Tensor) -> Tensor:
    """k = phi(q), of unit variance; uses up q. shape: as q"""
    return covariance_and_weight(kind, q)[0]


def covariance_and_weight(kind: Kind, q: Tensor, scratch: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """k and w; uses up q. For Matern 1/2, whose gradient has no limit at r = 0, w is 0 there. shape: as q

    Args:
        kind: The covariance.
        q: Squared distances.
        scratch: Memory of the shape of q to compute in; with it, no more than one fresh buffer is needed.
    """
    if kind == "rbf":
        k = q.mul_(-0.5).exp_()
        return k, k
    if kind == "matern12":
        r = q.sqrt_()
        k = torch.neg(r).exp_()
        return k, r.reciprocal_().mul_(k).nan_to_num_(nan=math.nan, posinf=0.0)
    r = q.sqrt()
    root = math.sqrt(3) if kind == "matern32" else math.sqrt(5)
    e = torch.mul(r, -root, out=scratch).exp_()
    linear = r.mul_(root).add_(1)
    if kind == "matern32":
        return linear.mul_(e), torch.mul(e, 3, out=q)
    k = q.mul_(5 / 3).add_(linear).mul_(e)
    return k, linear.mul_(e).mul_(5 / 3)


def differentiable_covariance(kind: Kind, Z: Tensor, Zp: Tensor) -> Tensor:
    """k(Z, Zp) of unit variance for autograd, to any order, also where points coincide. shape: as q"""
    q = (Z * Z).sum(-1).unsqueeze(-1) + (Zp * Zp).sum(-1).unsqueeze(-2) - 2 * Z @ Zp.transpose(-1, -2)
    if kind == "rbf":
        return torch.exp(-0.5 * q.clamp_min(0))
    r = q.clamp_min(1e-30).sqrt()  # as GPyTorch: the square root has no derivative at 0
    if kind == "matern12":
        return torch.exp(-r)
    if kind == "matern32":
        return (1 + math.sqrt(3) * r) * torch.exp(-math.sqrt(3) * r)
    return (1 + math.sqrt(5) * r + 5 / 3 * r * r) * torch.exp(-math.sqrt(5) * r)

"""The exact log marginal likelihood with its priors, and its gradient in closed form.

Notation: K = s k(X, X) + diag(noise) = L L^T, r = y - c, a = K^-1 r. Then
    log p(y) = -(r^T a) / 2 - sum log L_ii - n log(2 pi) / 2
    d log p / d t = -tr(G dK/dt) / 2 with G = K^-1 - a a^T
(Rasmussen & Williams 2006, eq. 5.9). One factorization and one inversion from the factor give every component; those
of the lengthscales are contracted by matrix products, without an n x n x d tensor. As in GPyTorch's
``ExactMarginalLogLikelihood``, the log priors are added and the sum is divided by n.

theta (rows x p) holds the logarithms of the positive hyperparameters; the density is that of the natural ones, so that
its maximizer is BoTorch's.
"""

import math
from typing import Any

import torch
from gpytorch.priors import GammaPrior, LogNormalPrior
from torch import Tensor

from gpu_gs.gp.covariance import covariance_and_weight, squared_distances
from gpu_gs.gp.parts import Block, Parts, blocks, take_apart
from gpu_gs.transfer import looking_is_cheap, to_device

LOG_2PI = math.log(2 * math.pi)

BUFFERS = 4
"""n x n matrices of one evaluation that are alive at a time: k, w, one for K and then its inverse, one for L."""

MEMORY_MB = 1024
"""Memory for evaluations in one batch, in MiB, unless somebody knows better."""


class MarginalLikelihood:
    """The MAP objective of a ``SingleTaskGP``, for each of its outputs.

    Args:
        model: A model without ``reasons_against``.
        memory_mb: Memory for evaluations in one batch, in MiB; those that do not fit are done one batch after the other.
    """

    def __init__(self, model: Any, memory_mb: int = MEMORY_MB) -> None:
        self.model = model
        self.memory_mb = memory_mb
        self.parts: Parts = take_apart(model)
        self.blocks: list[Block] = blocks(model, self.parts)
        X = self.parts.X
        self.X = X - X.mean(0)  # distances do not change, and products lose fewer digits
        self.n: int = len(X)
        #: Outputs, each an independent problem: theta has a row for each.
        self.rows: int = len(self.parts.Y)
        self.slices: dict[str, slice] = {}
        position = 0
        for block in self.blocks:
            self.slices[block.name] = slice(position, position + block.width)
            position += block.width
        self.size = position
        self._buffers: dict[str, Tensor] = {}
        #: Whether ``inverse_diagonal`` will be asked for.
        self.records_inverse_diagonals = False
        self._recorded: list[tuple[Tensor, Tensor, Tensor]] = []
        # What is not free keeps the model's own value.
        self.held = {
            "outputscale": None if self.parts.scaled is None else self.parts.scaled.outputscale.detach().reshape(-1),
            "mean": model.mean_module.constant.detach().reshape(-1),
            "lengthscale": self.parts.base.lengthscale.detach().reshape(len(self.parts.Y), -1),
            "noise": None if self.parts.fixed_noise is not None else model.likelihood.noise.detach().reshape(-1),
        }

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of theta. shape: (p,), (p,)"""
        lower, upper = [], []
        for block in self.blocks:
            lower += [math.log(block.lower) if block.log else block.lower] * block.width
            upper += [math.log(block.upper) if block.log else block.upper] * block.width
        both = to_device(torch.tensor([lower, upper], dtype=self.X.dtype), self.X.device)
        return both[0], both[1]

    def read(self) -> Tensor:
        """theta as the model has it now. shape: (m, p)"""
        columns = []
        for block in self.blocks:
            value = getattr(block.module, block.attribute).detach().reshape(len(self.parts.Y), block.width)
            columns.append(value.log() if block.log else value)
        return torch.cat(columns, dim=-1)

    def write(self, theta: Tensor) -> None:
        """Gives the model the hyperparameters theta. shape: (m, p)"""
        for block in self.blocks:
            value = theta[:, self.slices[block.name]]
            value = value.exp().clamp(block.lower, block.upper) if block.log else value
            value = value.reshape(getattr(block.module, block.attribute).shape)
            with torch.no_grad():
                if looking_is_cheap(value):
                    block.module.initialize(**{block.attribute: value})
                else:  # which does the same, but looks whether the bounds hold
                    raw = f"raw_{block.attribute}"
                    constraint = block.module.constraint_for_parameter_name(raw)
                    getattr(block.module, raw).copy_(
                        value if constraint is None else constraint.inverse_transform(value)
                    )
        self.model._clear_cache()  # GPyTorch itself does so at a change of mode only

    def _get(self, name: str, theta: Tensor, rows: Tensor) -> Tensor | None:
        if name in self.slices:
            block = next(block for block in self.blocks if block.name == name)
            value = theta[:, self.slices[name]]
            return value.exp() if block.log else value
        held = self.held[name]
        if held is None:
            return None
        return held[rows].reshape(len(rows), -1)

    def _buffer(self, name: str, like: Tensor) -> Tensor:
        """Memory kept from call to call: fresh n x n buffers cost more, in page faults, than what is computed in them."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != like.shape:
            buffer = self._buffers[name] = torch.empty_like(like)
        return buffer

    def value_and_grad(self, theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The objective (to maximize), per datum, and its gradient; in batches that fit into the memory.

        Args:
            theta: Hyperparameters. shape: (a, p)
            rows: The output of each row. shape: (a,)

        Returns:
            Values (a), -inf where the covariance does not factor, and gradients (a x p), 0 there.
        """
        fitting = max(1, (self.memory_mb << 20) // (BUFFERS * self.n**2 * theta.element_size()))
        batches = zip(torch.split(theta, fitting), torch.split(rows, fitting), strict=True)
        values, gradients = zip(*(self._evaluate(*batch) for batch in batches), strict=True)
        return (values[0], gradients[0]) if len(values) == 1 else (torch.cat(values), torch.cat(gradients))

    def inverse_diagonal(self, theta: Tensor) -> Tensor | None:
        """diag(K^-1) at hyperparameters that were evaluated, from the inverse formed then; None if they were not.

        Args:
            theta: One row for each output. shape: (m, p)

        Returns:
            shape: (m, n)
        """
        if not self._recorded:
            return None
        thetas, rows, diagonals = (torch.cat(parts) for parts in zip(*self._recorded, strict=True))
        wanted = torch.arange(len(theta), device=theta.device).unsqueeze(-1)
        same = (rows == wanted) & (thetas == theta.unsqueeze(1)).all(-1)  # shape: (m, recorded)
        if not bool(same.any(-1).all()):  # a host synchronization
            return None
        return diagonals[same.to(torch.int8).argmax(-1)]

    def _evaluate(self, theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        n = self.n
        lengthscale = self._get("lengthscale", theta, rows)
        assert lengthscale is not None
        outputscale, noise = self._get("outputscale", theta, rows), self._get("noise", theta, rows)
        mean = self._get("mean", theta, rows)
        assert mean is not None
        Z = self.X / lengthscale.unsqueeze(-2)  # shape: (a, n, d)
        q = squared_distances(Z, Z)
        S = self._buffer("S", q)
        k, w = covariance_and_weight(self.parts.kind, q, scratch=S)  # shape: (a, n, n)
        k.diagonal(dim1=-2, dim2=-1).fill_(1.0)
        s = theta.new_ones(len(theta), 1) if outputscale is None else outputscale  # shape: (a, 1)
        torch.mul(k, s.unsqueeze(-1), out=S)
        known = self.parts.fixed_noise
        variance = noise if known is None else known[rows]
        assert variance is not None
        S.diagonal(dim1=-2, dim2=-1).add_(variance)
        info = torch.empty(len(theta), dtype=torch.int32, device=theta.device)
        # LAPACK works by columns: a symmetric S is its own transpose, and an L that lies in columns needs no copy.
        L, info = torch.linalg.cholesky_ex(S.mT, out=(self._buffer("L", k).mT, info))
        failed = info > 0
        if not looking_is_cheap(failed) or bool(failed.any()):  # rare
            L.masked_fill_(failed[:, None, None], 0.0)
            L.diagonal(dim1=-2, dim2=-1).masked_fill_(failed[:, None], 1.0)
        r = (self.parts.Y[rows] - mean).unsqueeze(-1)  # shape: (a, n, 1)
        a = torch.cholesky_solve(r, L)
        log_det = 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        value = -0.5 * ((r * a).sum((-2, -1)) + log_det + n * LOG_2PI)
        G = torch.cholesky_inverse(L, out=S.mT).mT  # S is not needed any more. shape: (a, n, n)
        if self.records_inverse_diagonals:
            self._recorded.append((theta, rows, G.diagonal(dim1=-2, dim2=-1).clone()))
        G.addcmul_(a, a.transpose(-1, -2), value=-1)

        gradient = torch.zeros_like(theta)
        if "noise" in self.slices and noise is not None:
            trace = G.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
            gradient[:, self.slices["noise"]] = -0.5 * trace * noise
        if "mean" in self.slices:
            gradient[:, self.slices["mean"]] = a.sum(-2)
        if "outputscale" in self.slices:
            gradient[:, self.slices["outputscale"]] = -0.5 * _inner(G, k) * s
        if "lengthscale" in self.slices:
            A = G.mul_(w) if outputscale is None else G.mul_(w).mul_(s.unsqueeze(-1))
            # Nothing comes of the diagonal but rounding: Matern 1/2 has w = 1 / r there, r the square root of a rounding.
            A.diagonal(dim1=-2, dim2=-1).zero_()
            # sum_ij A_ij (z_ik - z_jk)^2 / 2 = sum_i (row sum)_i z_ik^2 - sum_i z_ik (A Z)_ik
            per_dim = (A.sum(-1, keepdim=True) * Z * Z).sum(-2) - (Z * (A @ Z)).sum(-2)  # shape: (a, d)
            where = self.slices["lengthscale"]
            shared = where.stop - where.start == 1 and per_dim.shape[-1] > 1
            gradient[:, where] = -(per_dim.sum(-1, keepdim=True) if shared else per_dim)
        for block in self.blocks:
            if block.prior is not None:
                log_prior, slope = _log_prior(block, theta[:, self.slices[block.name]])
                value = value + log_prior
                gradient[:, self.slices[block.name]] += slope
        value, gradient = value / n, gradient / n
        bad = failed | ~value.isfinite()
        return torch.where(bad, -math.inf, value), gradient * ~bad.unsqueeze(-1)


def _inner(A: Tensor, B: Tensor) -> Tensor:
    """sum_ij A_ij B_ij, without a matrix of products. shape: (a, n, n), (a, n, n) -> (a, 1)"""
    return torch.bmm(A.flatten(-2).unsqueeze(-2), B.flatten(-2).unsqueeze(-1)).squeeze(-1)


def _log_prior(block: Block, theta: Tensor) -> tuple[Tensor, Tensor]:
    """log p of the natural value, summed over components, and its slope in theta. shape: (a, w) -> (a,), (a, w)"""
    prior = block.prior
    if isinstance(prior, LogNormalPrior):
        shift, variance = theta - prior.loc, prior.scale**2  # squared in the prior's own dtype, as GPyTorch does
        log_p = -theta - torch.log(prior.scale) - 0.5 * LOG_2PI - 0.5 * shift * shift / variance
        slope = -1 - shift / variance
    elif isinstance(prior, GammaPrior):
        value = theta.exp()
        log_p = (
            prior.concentration * torch.log(prior.rate)
            - torch.lgamma(prior.concentration)
            + (prior.concentration - 1) * theta
            - prior.rate * value
        )
        slope = prior.concentration - 1 - prior.rate * value
    else:  # a NormalPrior
        assert prior is not None
        value = theta.exp() if block.log else theta
        shift, variance = value - prior.loc, prior.scale**2
        log_p = -torch.log(prior.scale) - 0.5 * LOG_2PI - 0.5 * shift * shift / variance
        slope = -shift / variance * (value if block.log else 1.0)
    return log_p.sum(-1), slope.expand_as(theta)

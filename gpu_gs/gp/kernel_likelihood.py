"""The exact log marginal likelihood for any GPyTorch kernel, with its gradient through d L / d K.

Notation as in ``likelihood``: K = k(X, X) + diag(noise) = L L^T, r = y - mean, a = K^-1 r, G = K^-1 - a a^T. With
    d log p = -tr(G dK) / 2 + a^T d mean
autograd goes through the evaluation of kernel, noise and mean only, with the incoming gradients -G / 2, -diag(G) / 2 and
a: never through a factorization, which is most of what GPyTorch's own backward pass costs. Value and priors are those of
``ExactMarginalLogLikelihood``, the sum divided by n.

theta holds each free parameter as it stands; by choice the logarithms of those that are positive as they stand (BoTorch's
bounds without a transform).
"""

import math
from typing import Any

import torch
from botorch.models.gpytorch import GPyTorchModel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
from gpytorch.models import ExactGP
from linear_operator.utils.errors import NanError, NotPSDError
from torch import Tensor

from gpu_gs.gp.likelihood import LOG_2PI, MEMORY_MB
from gpu_gs.gp.parts import LARGEST, SMALLEST
from gpu_gs.gp.posterior import cholesky
from gpu_gs.transfer import looking_is_cheap

MATRICES = 8
"""n x n matrices of one evaluation that are taken to be alive at a time: K, its factor, the inverse, G, and what a product
of two kernels keeps for its gradient."""


def reasons_against_kernel_likelihood(model: Any) -> list[str]:
    """Why a model's likelihood cannot be had through d L / d K; empty means it can."""
    if not isinstance(model, ExactGP) or not isinstance(model, GPyTorchModel):
        return [f"the model is a {type(model).__name__}, not an exact GP"]
    reasons = []
    if type(model.likelihood) not in (GaussianLikelihood, FixedNoiseGaussianLikelihood):
        reasons.append(f"the likelihood is a {type(model.likelihood).__name__}")
    inputs: Any = model.train_inputs
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        reasons.append("the model has inputs of several kinds")
    return reasons


class _Prior(torch.nn.Module):
    """A model's prior as a module, which torch can call with other parameters than its own."""

    def __init__(self, likelihood: "KernelLikelihood") -> None:
        super().__init__()
        self.model = likelihood.model
        self._prior = likelihood._prior

    def forward(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self._prior()


class KernelLikelihood:
    """The MAP objective of an exact GP, for each of its outputs where they share no parameter, else for their sum.

    The model is put into training mode, and keeps its hyperparameters until ``write``.

    Args:
        model: A model without ``reasons_against_kernel_likelihood``.
        logarithms: Whether theta holds logarithms where it can.
        memory_mb: See ``MarginalLikelihood``.
    """

    def __init__(self, model: Any, logarithms: bool = True, memory_mb: int = MEMORY_MB) -> None:
        self.model = model
        self.memory_mb = memory_mb
        model.train()
        self.n: int = model.train_inputs[0].shape[-2]
        self.batch: int = model.train_targets.shape[:-1].numel()
        free = [
            (name, parameter, constraint)
            for name, parameter, constraint in model.named_parameters_and_constraints()
            if parameter.requires_grad
        ]
        self.names = [name for name, _, _ in free]
        self.parameters: list[Tensor] = [parameter for _, parameter, _ in free]
        self.log: list[bool] = []
        self._bounds: list[tuple[float, float]] = []
        for _, _, constraint in free:
            lower, upper, log = -math.inf, math.inf, False
            if constraint is not None and constraint.enforced:
                lower = math.log(SMALLEST)  # softplus and sigmoid are as small there; further down they end at 0
            if constraint is not None and not constraint.enforced:
                lower, upper = float(constraint.lower_bound.max()), float(constraint.upper_bound.min())
                log = logarithms and lower >= 0
            if log:
                lower, upper = math.log(max(lower, SMALLEST)), math.log(min(upper, LARGEST))
            self.log.append(log)
            self._bounds.append((lower, upper))
        separate = self.batch > 1 and all(
            parameter.dim() > 0 and parameter.shape[: len(model.train_targets.shape) - 1].numel() == self.batch
            for parameter in self.parameters
        )
        #: Independent problems: theta has a row for each.
        self.rows = self.batch if separate else 1
        self.widths = [parameter.numel() // self.rows for parameter in self.parameters]
        #: As ``MarginalLikelihood.slices``: which parameters are lengthscales is not known here.
        self.slices: dict[str, slice] = {}

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of theta. shape: (p,), (p,)"""
        expanded = [bound for bound, width in zip(self._bounds, self.widths, strict=True) for bound in [bound] * width]
        both = self.parameters[0].new_tensor(expanded)
        return both[:, 0], both[:, 1]

    def read(self) -> Tensor:
        """theta as the model has it now. shape: (rows, p)"""
        columns = [
            (parameter.detach().log() if log else parameter.detach()).reshape(self.rows, -1)
            for parameter, log in zip(self.parameters, self.log, strict=True)
        ]
        return torch.cat(columns, dim=-1)

    def write(self, theta: Tensor) -> None:
        """Gives the model the hyperparameters theta. shape: (rows, p)"""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self._natural(theta), strict=True):
                parameter.copy_(value)
        self.model._clear_cache()  # GPyTorch itself does so at a change of mode only

    def _natural(self, theta: Tensor) -> list[Tensor]:
        """theta as values of the free parameters, in their shapes. shape: (rows, p)"""
        parts = zip(self.parameters, self.log, torch.split(theta, self.widths, dim=-1), strict=True)
        return [(value.exp() if log else value).reshape(parameter.shape) for parameter, log, value in parts]

    def value_and_grad(self, theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The objective (to maximize), per datum, and its gradient; in batches that fit into the memory.

        Kernels are evaluated and differentiated for one theta of each row at a time, since a kernel need not have batches;
        all their matrices are factored and inverted as one batch.

        Args:
            theta: Hyperparameters. shape: (a, p)
            rows: The row of each. shape: (a,)

        Returns:
            Values (a), -inf where the covariance does not factor, and gradients (a x p), 0 there.
        """
        values, gradients = theta.new_empty(len(theta)), torch.empty_like(theta)
        turns: list[list[int]] = []  # of positions in theta, no row twice
        seen: dict[int, int] = {}
        for position, row in enumerate(rows.tolist()):
            turn = seen[row] = seen.get(row, -1) + 1
            if turn == len(turns):
                turns.append([])
            turns[turn].append(position)
        fitting = max(1, (self.memory_mb << 20) // (MATRICES * self.batch * self.n**2 * theta.element_size()))
        for first in range(0, len(turns), fitting):
            together = turns[first : first + fitting]
            thetas = self.read().repeat(len(together), 1, 1)  # shape: (turns, rows, p)
            for full, positions in zip(thetas, together, strict=True):
                full[rows[positions]] = theta[positions]
            value, gradient = self._evaluate(thetas)
            for turn, positions in enumerate(together):
                mine = rows[positions]
                values[positions], gradients[positions] = value[turn, mine], gradient[turn, mine]
        return values, gradients

    def _evaluate(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """Values (turns x rows) and gradients (turns x rows x p) with every row at its theta. shape: (turns, rows, p)"""
        values = thetas.new_full(thetas.shape[:2], -math.inf)
        gradients = torch.zeros_like(thetas)
        found: list[tuple[int, list[Tensor], tuple[Tensor, ...]]] = []
        for turn, theta in enumerate(thetas):
            parameters = [value.detach().requires_grad_() for value in self._natural(theta)]
            try:
                with torch.enable_grad():
                    found.append((turn, parameters, self._prior_at(parameters)))
            except (NanError, NotPSDError):  # some kernels factor parts of themselves
                continue
        if not found:
            return values, gradients
        Ks, noises, means = (torch.stack([prior[part].detach() for _, _, prior in found]) for part in range(3))
        log_density, G, a, failed = _density(Ks, noises, means, self.model.train_targets)
        for i, (turn, parameters, (K, noise, mean, log_prior)) in enumerate(found):
            pairs = [
                (K, -0.5 * G[i]),
                (noise, -0.5 * G[i].diagonal(dim1=-2, dim2=-1)),
                (mean, a[i]),
                (log_prior, torch.ones_like(log_prior)),
            ]
            outputs, incoming = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
            slopes: tuple[Tensor | None, ...] = torch.autograd.grad(
                outputs, parameters, grad_outputs=incoming, allow_unused=True
            )
            columns = [
                (
                    torch.zeros_like(parameter) if slope is None else slope * parameter.detach() if log else slope
                ).reshape(self.rows, -1)
                for parameter, slope, log in zip(parameters, slopes, self.log, strict=True)
            ]
            value = ((log_density[i] + log_prior.detach()) / self.n).reshape(self.rows, -1).sum(-1)
            bad = failed[i].reshape(self.rows, -1).any(-1) | ~value.isfinite()
            values[turn] = torch.where(bad, -math.inf, value)
            gradients[turn] = (torch.cat(columns, dim=-1) / self.n).where(~bad.unsqueeze(-1), 0.0)
        return values, gradients

    def _prior_at(self, parameters: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``_prior`` with other values of the free parameters; the model keeps its own."""
        self.model._clear_cache()
        named = {f"model.{name}": value for name, value in zip(self.names, parameters, strict=True)}
        found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.func.functional_call(_Prior(self), named, ())
        return found

    def _prior(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Covariance without noise, noise variances, mean and log priors, with their graphs.

        shape: (*batch, n, n), (*batch, n), (*batch, n), (*batch)
        """
        prior = self.model(*self.model.train_inputs)
        mean = prior.mean
        log_prior = mean.new_zeros(mean.shape[:-1])
        for term in self.model.added_loss_terms():
            log_prior = log_prior + term.loss()
        for _, module, own, closure, _ in self.model.named_priors():
            log_p = own.log_prob(closure(module))
            log_prior = log_prior + log_p.reshape(*log_p.shape[: log_prior.dim()], -1).sum(-1)
        noise = self.model.likelihood.noise.expand(mean.shape)
        return prior.lazy_covariance_matrix.to_dense(), noise, mean, log_prior

    def innovations(self) -> Tensor:
        """As ``PosteriorState.innovations``, at the model's hyperparameters. shape: (batch, n)

        Raises:
            NotPSDError: The covariance matrix does not factor.
        """
        with torch.no_grad():
            K, noise, mean, _ = self._prior()
            K = K.clone()
            K.diagonal(dim1=-2, dim2=-1).add_(noise)
            r = (self.model.train_targets - mean).unsqueeze(-1)
            return torch.linalg.solve_triangular(cholesky(K), r, upper=False).reshape(-1, self.n)


def _density(K: Tensor, noise: Tensor, mean: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log p(y), G, a, and where K does not factor. shape: (*batch), (*batch, n, n), (*batch, n), (*batch)"""
    n = K.shape[-1]
    S = K.clone()
    S.diagonal(dim1=-2, dim2=-1).add_(noise)
    L, info = torch.linalg.cholesky_ex(S)
    failed = info > 0
    if not looking_is_cheap(failed) or bool(failed.any()):  # rare
        L = torch.where(failed[..., None, None], torch.eye(n, dtype=L.dtype, device=L.device), L)
    r = (y - mean).unsqueeze(-1)
    a = torch.cholesky_solve(r, L)
    log_det = 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    value = -0.5 * ((r * a).sum((-2, -1)) + log_det + n * LOG_2PI)
    G = torch.cholesky_inverse(L).sub_(a @ a.mT)
    return value, G, a.squeeze(-1), failed

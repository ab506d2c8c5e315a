"""The log expected improvement in closed form.

Notation: u = w (mean - best) / sigma with w = 1 to maximize and -1 to minimize, h(u) = phi(u) + u Phi(u). Then
log EI = log h(u) + log sigma, and h'(u) = Phi(u) gives its gradient (Ament et al. 2023, "Unexpected improvements to
expected improvement for Bayesian optimization", eq. 9 for the stable evaluation).
"""

import math

import torch
from torch import Tensor

from gpu_gs.gp.draws import given_values
from gpu_gs.gp.posterior import PosteriorState
from gpu_gs.gp.predictor import Predictor
from gpu_gs.transfer import looking_is_cheap

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
ROOT_HALF = math.sqrt(0.5)
ROOT_HALF_PI = math.sqrt(math.pi / 2)
FAR_BELOW, FAR_ABOVE = -300.0, 30.0

PENDING_DRAWS = 32
"""Joint draws of the values at pending points, where there are none of the incumbent."""


def log_h_and_ratios(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log h, Phi / h and phi / h, for all u (float64). shape: any

    With the ratio t = Phi / phi = sqrt(pi / 2) erfcx(-u / sqrt 2), h = phi (1 + u t). Below -300 the sum cancels:
    h = phi / u^2 (1 - 3 / u^2 + 15 / u^4 - 105 / u^6) to rounding. Above 30, h = u to rounding.
    """
    inner = u.clamp(FAR_BELOW, FAR_ABOVE)
    t = torch.special.erfcx(inner * -ROOT_HALF).mul_(ROOT_HALF_PI)
    h_over_phi = (inner * t).add_(1.0)
    log_h = torch.addcmul(h_over_phi.log(), inner, inner, value=-0.5).sub_(HALF_LOG_2PI)
    phi_ratio = h_over_phi.reciprocal_()
    Phi_ratio = t.mul_(phi_ratio)
    inside = inner == u
    if not looking_is_cheap(u):
        pairs = zip((log_h, Phi_ratio, phi_ratio), _far(u), strict=True)
        log_h, Phi_ratio, phi_ratio = (torch.where(inside, near, far) for near, far in pairs)
    elif not bool(inside.all()):
        outside = ~inside
        for near, far in zip((log_h, Phi_ratio, phi_ratio), _far(u[outside]), strict=True):
            near[outside] = far
    return log_h, Phi_ratio, phi_ratio


def _far(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for u below ``FAR_BELOW`` or above ``FAR_ABOVE``."""
    below, above = u.clamp_max(FAR_BELOW), u.clamp_min(FAR_ABOVE)
    r = 1 / (below * below)
    h_over_phi = r * (1 - r * (3 - r * (15 - 105 * r)))
    is_below = u < 0
    return (
        torch.where(is_below, h_over_phi.log() - 0.5 * below * below - HALF_LOG_2PI, above.log()),
        torch.where(is_below, (1 - 1 / h_over_phi) / below, 1 / above),
        torch.where(is_below, 1 / h_over_phi, 0.0),
    )


def log_h(u: Tensor) -> Tensor:
    """log(phi(u) + u Phi(u)), to rounding for all u (float64). shape: any"""
    return log_h_and_ratios(u)[0]


class LogEI:
    """Log expected improvement over an incumbent, for one output.

    With a posterior of S draws (``PosteriorState.draw``) and an incumbent for each, this is the log noisy expected
    improvement: the mean, over joint draws of the latent values at observed and pending points, of the exact
    improvement given them (Letham et al. 2019, "Constrained Bayesian optimization with noisy experiments", eq. 4).
    ``given`` adds pending points to either.

    Args:
        state: The posterior.
        best: The incumbent's value, in the units of the targets. shape: () or (S,)
        weight: 1 to maximize, -1 to minimize.
    """

    def __init__(self, state: PosteriorState, best: Tensor, weight: float = 1.0) -> None:
        self.state = state
        self.best = best.reshape(-1)
        self.weight = weight
        self.predictor = Predictor(state, weight)
        self.lengths = state.scale
        self._best = best.reshape(-1) * weight

    @property
    def sample_shape(self) -> tuple[int]:
        """The shape of the standard normal numbers that ``given`` takes for a point."""
        count = self.best.numel()
        return (count if count > 1 else PENDING_DRAWS,)

    @property
    def bytes_per_point(self) -> int:
        """Memory that scoring one point takes."""
        return 32 * (len(self.state.Z) + self.best.numel())

    def _standardized(self, mean: Tensor, sigma: Tensor) -> Tensor:
        """u. shape: (b,) or (b, S), (b,) -> the same, (b,) if S = 1"""
        best = self._best
        if mean.dim() == 2:
            best = best[: mean.shape[-1]]
        elif len(best) > 1:
            mean = mean.unsqueeze(-1)
        improvement = mean - best
        if improvement.dim() == 2:
            sigma = sigma.unsqueeze(-1)
        return improvement.div_(sigma)

    def given(self, X: Tensor, e: Tensor) -> "LogEI":
        """This function with b more pending points, their values drawn with the base samples e. shape: (b, d), (b, S)"""
        state, f = given_values(self.state, X, e)
        best = torch.maximum(self.best * self.weight, (f * self.weight).amax(0)) * self.weight
        return LogEI(state, best, self.weight)

    def value(self, X: Tensor) -> Tensor:
        """shape: (b, d) -> (b,)"""
        _, k, _ = self.predictor.kernel(X)
        return self.score(self.predictor.mean(k), self.predictor.solve(k)[1])

    def score(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The value for a posterior mean, times ``weight``, and variance. shape: (b,) or (b, S), (b,) -> (b,)

        With fewer columns than S it is that of the first draws.
        """
        sigma = variance.sqrt()
        log_h_u = log_h(self._standardized(mean, sigma))
        if log_h_u.dim() == 2:
            log_h_u = torch.logsumexp(log_h_u, dim=-1) - math.log(log_h_u.shape[-1])
        return log_h_u + sigma.log()

    def value_and_grad(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """shape: (b, d) -> (b,), (b, d)"""
        query = self.predictor.at(X)
        sigma = query.variance.sqrt()
        log_h_u, Phi_ratio, phi_ratio = log_h_and_ratios(self._standardized(query.mean, sigma))
        # d log h / d u = Phi / h, and d(log EI) / d sigma = (1 - u Phi / h) / sigma = phi / (h sigma).
        if log_h_u.dim() == 1:
            value = log_h_u + sigma.log()
            return value, query.pull_back(Phi_ratio / sigma, phi_ratio.div_(query.variance).mul_(0.5))
        value = torch.logsumexp(log_h_u, dim=-1) - math.log(log_h_u.shape[-1]) + sigma.log()
        share = torch.softmax(log_h_u, dim=-1)
        d_mean = share * Phi_ratio / sigma.unsqueeze(-1)
        if query.mean.dim() == 1:
            d_mean = d_mean.sum(-1)
        return value, query.pull_back(d_mean, torch.linalg.vecdot(share, phi_ratio) / (2 * query.variance))

"""The log expected improvement in closed form.

Notation: u = w (mean - best) / sigma with w = 1 to maximize and -1 to minimize, h(u) = phi(u) + u Phi(u). Then
log EI = log h(u) + log sigma, and h'(u) = Phi(u) gives its gradient (Ament et al. 2023, "Unexpected improvements to
expected improvement for Bayesian optimization", eq. 9 for the stable evaluation).
"""

import math

import torch
from torch import Tensor

from gpu_gs.gp.posterior import PosteriorState

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
HALF_LOG_HALF_PI = 0.5 * math.log(math.pi / 2)
ASYMPTOTIC_BELOW = -1e3


def log_h(u: Tensor) -> Tensor:
    """log(phi(u) + u Phi(u)), to rounding for all u (float64). shape: any"""
    direct = u.clamp_min(-1.0)
    upper = (torch.exp(-0.5 * direct * direct - HALF_LOG_2PI) + direct * torch.special.ndtr(direct)).log()
    # Below -1 the two terms cancel: factor phi out, h = phi (1 - |u| erfcx(|u| / sqrt 2) sqrt(pi / 2)).
    middle = u.clamp(ASYMPTOTIC_BELOW, -1.0)
    log_product = torch.log(torch.special.erfcx(-middle / math.sqrt(2)) * -middle) + HALF_LOG_HALF_PI
    lower = -0.5 * middle * middle - HALF_LOG_2PI + torch.log(-torch.expm1(log_product))
    # Far below, h = phi / u^2 (1 - 3 / u^2 + ...); the next term is 15 / u^4 = 1.5e-11.
    far = u.clamp_max(ASYMPTOTIC_BELOW)
    inverse = 1 / (far * far)
    asymptotic = -0.5 * far * far - HALF_LOG_2PI + torch.log(inverse) + torch.log1p(-3 * inverse)
    return torch.where(u > -1, upper, torch.where(u > ASYMPTOTIC_BELOW, lower, asymptotic))


class LogEI:
    """Log expected improvement over an incumbent, for one output.

    With a posterior of S draws (``PosteriorState.draw``) and an incumbent for each, this is the log noisy expected
    improvement: the mean, over joint draws of the latent values at observed and pending points, of the exact
    improvement given them (Letham et al. 2019, "Constrained Bayesian optimization with noisy experiments", eq. 4).

    Args:
        state: The posterior.
        best: The incumbent's value, in the units of the targets. shape: () or (S,)
        weight: 1 to maximize, -1 to minimize.
    """

    def __init__(self, state: PosteriorState, best: Tensor, weight: float = 1.0) -> None:
        self.state = state
        self.best = best.reshape(-1)
        self.weight = weight

    def _standardized(self, mean: Tensor, sigma: Tensor) -> Tensor:
        """u. shape: (b,) or (b, S), (b,) -> (b, S)"""
        return self.weight * (mean.reshape(len(sigma), -1) - self.best) / sigma.unsqueeze(-1)

    def value(self, X: Tensor) -> Tensor:
        """shape: (b, d) -> (b,)"""
        mean, variance = self.state.mean_and_variance(X)
        sigma = variance.sqrt()
        u = self._standardized(mean, sigma)
        return torch.logsumexp(log_h(u), dim=-1) - math.log(u.shape[-1]) + sigma.log()

    def value_and_grad(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """shape: (b, d) -> (b,), (b, d)"""
        query = self.state.query(X)
        sigma = query.variance.sqrt()
        u = self._standardized(query.mean, sigma)
        log_h_u = log_h(u)
        value = torch.logsumexp(log_h_u, dim=-1) - math.log(u.shape[-1]) + sigma.log()
        share = torch.softmax(log_h_u, dim=-1)
        # d log h / d u = Phi / h, and d(log EI) / d sigma = (1 - u Phi / h) / sigma = phi / (h sigma).
        d_mean = self.weight * share * torch.exp(torch.special.log_ndtr(u) - log_h_u) / sigma.unsqueeze(-1)
        if query.mean.dim() == 1:
            d_mean = d_mean.sum(-1)
        d_sigma = (share * torch.exp(-0.5 * u * u - HALF_LOG_2PI - log_h_u)).sum(-1) / sigma
        return value, query.pull_back(d_mean, d_sigma / (2 * sigma))

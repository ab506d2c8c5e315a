"""The upper confidence bound w mean + sqrt(beta) sigma, with w = 1 to maximize and -1 to minimize (a lower bound then).

Srinivas et al. 2010, "Gaussian process optimization in the bandit setting". Pending points shrink sigma and leave the
mean alone (Desautels et al. 2014, "Parallelizing exploration-exploitation tradeoffs", GP-BUCB).
"""

import math

import torch
from torch import Tensor

from gpu_gs.gp.draws import given_values
from gpu_gs.gp.posterior import PosteriorState
from gpu_gs.gp.predictor import Predictor


class UpperConfidenceBound:
    """The upper confidence bound of one output.

    Args:
        state: The posterior, without draws.
        beta: How much of the variance counts.
        weight: 1 to maximize, -1 to minimize.
    """

    def __init__(self, state: PosteriorState, beta: float, weight: float = 1.0) -> None:
        self.state = state
        self.weight = weight
        self.beta = beta
        self.predictor = Predictor(state, weight)
        self.lengths = state.scale

    sample_shape = None
    """``given`` takes no standard normal numbers."""

    @property
    def bytes_per_point(self) -> int:
        """Memory that scoring one point takes."""
        return 32 * (len(self.state.Z) + 1)

    def given(self, X: Tensor, e: Tensor | None = None) -> "UpperConfidenceBound":
        """This function with b more pending points. shape: (b, d)"""
        return UpperConfidenceBound(given_values(self.state, X, None)[0], self.beta, self.weight)

    def score(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The value for a posterior mean, times ``weight``, and variance. shape: (b,), (b,) -> (b,)"""
        return torch.add(mean, variance.sqrt(), alpha=math.sqrt(self.beta))

    def value(self, X: Tensor) -> Tensor:
        """shape: (b, d) -> (b,)"""
        _, k, _ = self.predictor.kernel(X)
        return self.score(self.predictor.mean(k), self.predictor.solve(k)[1])

    def value_and_grad(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """shape: (b, d) -> (b,), (b, d)"""
        query = self.predictor.at(X)
        sigma = query.variance.sqrt()
        value = torch.add(query.mean, sigma, alpha=math.sqrt(self.beta))
        return value, query.pull_back(torch.ones_like(sigma), 0.5 * math.sqrt(self.beta) / sigma)

"""One acquisition function of several outcomes: improvement or hypervolume, times the probability of feasibility.

Notation as in ``factors`` and ``gpu_gs.gp.posterior``: m outcomes, each with a posterior state of its own; T (p x m) makes
forms of them, no two of the same outcome, so mu = T mean and s^2 = T^2 variance; S draws. The value is

    log mean_S prod_factors,

which without draws is the constrained expected improvement (Schonlau et al. 1998; Gardner et al. 2014, "Bayesian
optimization with inequality constraints", eq. 6) or the expected hypervolume improvement (Emmerich et al. 2006), and with
draws the average of these over what the latent values at observed and pending points may be (Letham et al. 2019,
"Constrained Bayesian optimization with noisy experiments", eq. 4; Daulton et al. 2021, "Parallel Bayesian optimization of
multiple noisy objectives with expected hypervolume improvement").
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpu_gs.acquisition.factors import Factor
from gpu_gs.gp.draws import given_values
from gpu_gs.gp.posterior import PosteriorState
from gpu_gs.gp.predictor import Predictor


class Joint:
    """The logarithm of an expected product of factors.

    Args:
        states: The posterior of each outcome; either all have draws, the same number, or none has.
        forms: T. shape: (p, m)
        factors: Functions of different forms.
        draws_if_pending: Joint draws of the values at pending points, if the states have none.
    """

    def __init__(
        self, states: Sequence[PosteriorState], forms: Tensor, factors: Sequence[Factor], draws_if_pending: int
    ) -> None:
        self.states = tuple(states)
        self.forms = forms
        self.factors = tuple(factors)
        self.draws_if_pending = draws_if_pending
        self.predictors = tuple(Predictor(state) for state in self.states)
        self.lengths = torch.stack([state.scale for state in self.states]).amin(0)
        self._squared = forms * forms

    @property
    def draws(self) -> int:
        """S."""
        alpha = self.states[0].alpha
        return 1 if alpha.dim() == 1 else alpha.shape[-1]

    @property
    def sample_shape(self) -> tuple[int, int]:
        """The shape of the standard normal numbers that ``given`` takes for a point."""
        return len(self.states), self.draws if self.draws > 1 else self.draws_if_pending

    @property
    def bytes_per_point(self) -> int:
        """Memory that scoring one point takes."""
        for_states = sum(32 * (len(state.Z) + self.draws) for state in self.states)
        return for_states + sum(factor.bytes_per_point for factor in self.factors)

    def given(self, X: Tensor, e: Tensor) -> "Joint":
        """This function with b more pending points, their values drawn with base samples. shape: (b, d), (b, m, S)"""
        extended = [given_values(state, X, own) for state, own in zip(self.states, e.unbind(1), strict=True)]
        values = torch.tensordot(self.forms, torch.stack([f for _, f in extended]), 1)  # shape: (p, b, S)
        valid = torch.stack([factor.satisfied(values[factor.columns]) for factor in self.factors]).all(0)
        factors = [factor.given(values[factor.columns], valid) for factor in self.factors]
        return Joint([state for state, _ in extended], self.forms, factors, self.draws_if_pending)

    def first_draws(self, count: int) -> "Joint":
        """This function averaged over its first draws alone."""
        if self.draws <= count:
            return self
        states = [replace(state, alpha=state.alpha[:, :count].contiguous()) for state in self.states]
        factors = [factor.first_draws(count) for factor in self.factors]
        return Joint(states, self.forms, factors, self.draws_if_pending)

    def score(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The value for posterior moments of the outcomes. shape: (b, m, S), (b, m) -> (b,)"""
        mu, s2 = self.forms @ mean, variance @ self._squared.T
        total = sum(factor.log(mu[:, factor.columns], s2[:, factor.columns]) for factor in self.factors)
        assert isinstance(total, Tensor)
        return log_mean_exp(total)

    def value(self, X: Tensor) -> Tensor:
        """shape: (b, d) -> (b,)"""
        means, variances = [], []
        for predictor in self.predictors:
            _, k, _ = predictor.kernel(X)
            means.append(predictor.mean(k))
            variances.append(predictor.solve(k)[1])
        return self.score(stacked(means), torch.stack(variances, 1))

    def value_and_grad(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """shape: (b, d) -> (b,), (b, d)"""
        queries = [predictor.at(X) for predictor in self.predictors]
        mu = self.forms @ stacked([query.mean for query in queries])  # shape: (b, p, S)
        s2 = torch.stack([query.variance for query in queries], 1) @ self._squared.T  # shape: (b, p)
        d_mu, d_s2 = torch.zeros_like(mu), torch.zeros_like(mu)
        total = torch.zeros_like(mu[:, 0])
        for factor in self.factors:
            columns = factor.columns
            log, d_mu[:, columns], d_s2[:, columns] = factor.log_and_grad(mu[:, columns], s2[:, columns])
            total = total + log
        if total.shape[-1] == 1:
            d_variance = d_s2.squeeze(-1)
        else:
            share = torch.softmax(total, -1).unsqueeze(1)  # shape: (b, 1, S)
            d_mu = d_mu * share
            d_variance = torch.linalg.vecdot(d_s2, share)
        d_mean = self.forms.T @ d_mu  # shape: (b, m, S)
        d_variance = d_variance @ self._squared  # shape: (b, m)
        gradient = torch.zeros_like(X)
        for i, query in enumerate(queries):
            d = d_mean[:, i].squeeze(-1) if query.mean.dim() == 1 else d_mean[:, i]
            gradient += query.pull_back(d, d_variance[:, i])
        return log_mean_exp(total), gradient


def log_mean_exp(total: Tensor) -> Tensor:
    """The logarithm of the mean over draws. shape: (b, S) -> (b,)"""
    return total.squeeze(-1) if total.shape[-1] == 1 else torch.logsumexp(total, -1) - math.log(total.shape[-1])


def stacked(means: Sequence[Tensor]) -> Tensor:
    """Means of the outcomes, with or without draws. shape: m of (b,) or (b, S) -> (b, m, S)"""
    return torch.stack([mean.unsqueeze(-1) if mean.dim() == 1 else mean for mean in means], 1)

"""Leave-one-out predictions in closed form: what a model would have said of each observation without it.

Notation as in ``posterior``: K = L L^T with noise, alpha = K^-1 (y - c). Without observation i (hyperparameters kept), the
prediction of y_i has variance 1 / (K^-1)_ii and mean y_i - alpha_i / (K^-1)_ii (Rasmussen & Williams 2006, eq. 5.12);
its log density at y_i is eq. 5.10. diag(K^-1) costs n^3 once; ``PosteriorState`` keeps it up in O(n^2) while rows are
appended.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from botorch.cross_validation import loo_cv
from torch import Tensor

from gpu_gs.gp.likelihood import LOG_2PI
from gpu_gs.gp.posterior import PosteriorState

COVERED = 1.959963984540054
"""Deviations that contain 95 % of a normal distribution."""


@dataclass(frozen=True)
class LeaveOneOut:
    """Predictions of each observation from the others, noise included.

    Attributes:
        y: The observations. shape: (n,)
        mean: Predictive means. shape: (n,)
        variance: Predictive variances. shape: (n,)
    """

    y: Tensor
    mean: Tensor
    variance: Tensor

    @property
    def log_density(self) -> Tensor:
        """Log predictive density of each observation. shape: (n,)"""
        r = self.y - self.mean
        return -0.5 * (r * r / self.variance + self.variance.log() + LOG_2PI)

    def summary(self) -> dict[str, float]:
        """How good the predictions are, in units of y; ready for JSON.

        ``loo_log_density`` is the mean log density, ``loo_rmse`` the root mean squared error, ``loo_coverage`` the share
        of observations within the central 95 % of their prediction, ``loo_rank_correlation`` Spearman's, of predictions
        and observations (0 where one of them is constant).
        """
        r = self.y - self.mean
        ranks = torch.stack([x.argsort().argsort().to(r) for x in (self.y, self.mean)])
        ranks = ranks - ranks.mean(-1, keepdim=True)
        norm = ranks.norm(dim=-1).prod()
        values = torch.stack(
            [
                self.log_density.mean(),
                (r * r).mean().sqrt(),
                (r.abs() <= COVERED * self.variance.sqrt()).to(r).mean(),
                ranks.prod(0).sum() / norm.where(norm > 0, torch.ones_like(norm)),
            ]
        )
        names = ("loo_log_density", "loo_rmse", "loo_coverage", "loo_rank_correlation")
        return {
            name: value if math.isfinite(value) else 0.0 for name, value in zip(names, values.tolist(), strict=True)
        }


def with_inverse_diagonal(state: PosteriorState) -> PosteriorState:
    """The state that knows diag(K^-1): n^3 operations, unless it does already."""
    if state.inverse_diagonal is not None:
        return state
    return replace(state, inverse_diagonal=torch.cholesky_inverse(state.L).diagonal().clone())


def leave_one_out(state: PosteriorState) -> LeaveOneOut:
    """Leave-one-out predictions of a state's observations."""
    diagonal = with_inverse_diagonal(state).inverse_diagonal
    assert diagonal is not None
    return LeaveOneOut(state.y, state.y - state.alpha / diagonal, 1 / diagonal)


def leave_one_out_of(model: Any) -> list[LeaveOneOut]:
    """Those of each output of any exact GP, by BoTorch: n^3 operations."""
    with torch.no_grad():
        found = loo_cv(model, observation_noise=True, untransform=False)
    posterior: Any = found.posterior
    mean, variance = posterior.mean.squeeze(-2), posterior.variance.squeeze(-2)  # shape: (n, m)
    y = found.observed_Y.squeeze(-2)
    return [LeaveOneOut(*columns) for columns in zip(y.unbind(-1), mean.unbind(-1), variance.unbind(-1), strict=True)]

"""What a point gains and what it must satisfy, as factors of one acquisition function of several outcomes.

Notation: *forms* are linear combinations of outcomes that share none of them; given the data (and one joint draw of the
latent values at observed and pending points, where draws are used) they are independent Gaussians with means mu (b x p x S)
and variances s^2 (b x p). The expectation of a product of functions of different forms is then the product of their
expectations. A factor is the logarithm of one, in each of S draws (S = 1: none), with its derivatives.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from gpu_gs.acquisition.hypervolume import Hypervolume
from gpu_gs.acquisition.logei import HALF_LOG_2PI, log_h, log_h_and_ratios
from gpu_gs.acquisition.pareto import Partitions, cells, extended

LOG_2 = math.log(2)
DEEP = -1e4
"""Below it phi / Phi is -z, to 1e-8."""


class Factor(Protocol):
    """One factor. ``columns`` says which forms it is a function of, in the order of its arguments."""

    @property
    def columns(self) -> slice: ...

    @property
    def bytes_per_point(self) -> int:
        """Memory that scoring one point takes."""
        ...

    def log(self, mean: Tensor, variance: Tensor) -> Tensor:
        """shape: (b, p, S), (b, p) -> (b, S)"""
        ...

    def log_and_grad(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With the derivatives in mean and variance. shape: (b, p, S), (b, p) -> (b, S), (b, p, S), (b, p, S)"""
        ...

    def satisfied(self, values: Tensor) -> Tensor:
        """Which values are allowed. shape: (p, b, S) -> (b, S)"""
        ...

    def given(self, values: Tensor, valid: Tensor) -> "Factor":
        """The factor once the forms have been these values at b more points, each allowed in its ``valid`` draws.

        shape: (p, b, S), (b, S)
        """
        ...

    def first_draws(self, count: int) -> "Factor":
        """The factor in the first draws alone."""
        ...


@dataclass(frozen=True)
class Improvement:
    """Expected improvement of one form, to be maximized, over an incumbent.

    Attributes:
        best: The incumbent's value in each draw. shape: (S,)
        columns: The form.
    """

    best: Tensor
    columns: slice

    @property
    def bytes_per_point(self) -> int:
        return 64 * len(self.best)

    def log(self, mean: Tensor, variance: Tensor) -> Tensor:
        sigma = variance.sqrt()  # shape: (b, 1)
        return log_h((mean[:, 0] - self.best) / sigma) + sigma.log()

    def log_and_grad(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma = variance.sqrt()
        log_h_u, Phi_ratio, phi_ratio = log_h_and_ratios((mean[:, 0] - self.best) / sigma)
        # see LogEI.value_and_grad
        return log_h_u + sigma.log(), (Phi_ratio / sigma).unsqueeze(1), (phi_ratio / (2 * variance)).unsqueeze(1)

    def satisfied(self, values: Tensor) -> Tensor:
        return torch.ones_like(values[0], dtype=torch.bool)

    def given(self, values: Tensor, valid: Tensor) -> "Improvement":
        value = values[0].where(valid, torch.full_like(values[0], -torch.inf))
        return replace(self, best=torch.maximum(self.best, value.amax(0)))

    def first_draws(self, count: int) -> "Improvement":
        return replace(self, best=self.best[:count])


@dataclass(frozen=True)
class Feasibility:
    """Probability that forms lie between bounds: prod_j [Phi((u_j - mu_j) / s_j) - Phi((l_j - mu_j) / s_j)].

    Attributes:
        lower: Lower bounds, which may be infinite. shape: (k,)
        upper: Upper bounds, which may be infinite. shape: (k,)
        columns: The forms.
    """

    lower: Tensor
    upper: Tensor
    columns: slice

    @property
    def bytes_per_point(self) -> int:
        return 64 * 64 * len(self.lower)

    def log(self, mean: Tensor, variance: Tensor) -> Tensor:
        return self._terms(mean, variance)[0].sum(1)

    def log_and_grad(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_p, z_upper, z_lower = self._terms(mean, variance)
        at_upper, at_lower = _density_ratio(z_upper, log_p, z_lower), _density_ratio(z_lower, log_p, z_upper)
        sigma = variance.sqrt().unsqueeze(-1)
        moved = torch.where(at_upper > 0, z_upper * at_upper, 0.0) - torch.where(at_lower > 0, z_lower * at_lower, 0.0)
        return log_p.sum(1), (at_lower - at_upper) / sigma, moved / (-2 * variance.unsqueeze(-1))

    def _terms(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log P of each form, and where its bounds lie in standard deviations. shape: (b, k, S) each"""
        sigma = variance.sqrt().unsqueeze(-1)
        z_upper = (self.upper.unsqueeze(-1) - mean) / sigma
        z_lower = (self.lower.unsqueeze(-1) - mean) / sigma
        flip = z_lower > -z_upper  # an interval in the upper tail: P is computed in the lower one, where it is exact
        above = torch.special.log_ndtr(torch.where(flip, -z_lower, z_upper))
        below = torch.special.log_ndtr(torch.where(flip, -z_upper, z_lower))
        gap = (below - above).clamp_max(-1e-300)  # log(1 - exp(gap)), in the form that is exact for it
        rest = torch.where(gap > -LOG_2, (-torch.expm1(gap)).log(), torch.log1p(-gap.exp()))
        return above + rest, z_upper, z_lower

    def satisfied(self, values: Tensor) -> Tensor:
        return within(values, self.lower, self.upper)

    def given(self, values: Tensor, valid: Tensor) -> "Feasibility":
        return self

    def first_draws(self, count: int) -> "Feasibility":
        return self


def within(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Where all forms lie between their bounds. shape: (k, *), (k,), (k,) -> (*)"""
    at = (-1, *[1] * (values.dim() - 1))
    return ((values >= lower.view(at)) & (values <= upper.view(at))).all(0)


def _density_ratio(z: Tensor, log_p: Tensor, other: Tensor) -> Tensor:
    """phi(z) / P at one bound of an interval of probability P; |z| at the nearer bound of one deep in a tail. shape: any"""
    ratio = (-0.5 * z * z - HALF_LOG_2PI - log_p).exp()
    deep = (log_p < -0.5 * DEEP * DEEP) & z.isfinite() & (z.abs() <= other.abs())
    return torch.where(deep, z.abs(), ratio)


@dataclass(frozen=True)
class HypervolumeImprovement:
    """Expected growth of the hypervolume that the points known dominate, of two objectives or more, to be maximized.

    Attributes:
        lower: Lower bounds of the cells that the fronts of the draws leave. shape: (S, K, p)
        upper: Upper bounds of the cells. shape: (S, K, p)
        reference: The point from which the volume is measured. shape: (p,)
        columns: The forms.
    """

    lower: Tensor
    upper: Tensor
    reference: Tensor
    columns: slice

    @classmethod
    def over(
        cls, points: Tensor, valid: Tensor, reference: Tensor, columns: slice, known: Partitions | None = None
    ) -> "HypervolumeImprovement":
        """The factor for the points of each draw, those that are ``valid``.

        Args:
            points: Values of the forms. shape: (S, n, p)
            valid: Which points count. shape: (S, n)
            reference: The point from which the volume is measured. shape: (p,)
            columns: The forms.
            known: Keeps the cells for the next time, should the fronts be the same then.
        """
        return cls(*(cells if known is None else known.cells)(points, reference, valid), reference, columns)

    @cached_property
    def _volume(self) -> Hypervolume:
        return Hypervolume(self.lower, self.upper)

    @property
    def bytes_per_point(self) -> int:
        return self._volume.bytes_per_point

    def log(self, mean: Tensor, variance: Tensor) -> Tensor:
        return self._volume.log(mean, variance)

    def log_and_grad(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._volume.log_and_grad(mean, variance)

    def satisfied(self, values: Tensor) -> Tensor:
        return torch.ones_like(values[0], dtype=torch.bool)

    def given(self, values: Tensor, valid: Tensor) -> "HypervolumeImprovement":
        # The reference point changes nothing.
        Y = torch.where(valid.T.unsqueeze(-1), values.permute(2, 1, 0), self.reference)  # shape: (S, b, p)
        lower, upper = extended(self.lower, self.upper, Y)
        return replace(self, lower=lower, upper=upper)

    def first_draws(self, count: int) -> "HypervolumeImprovement":
        return replace(self, lower=self.lower[:count], upper=self.upper[:count])

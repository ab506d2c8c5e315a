"""The posterior of a ``PosteriorState`` arranged for many small queries, with gradients.

Notation as in ``gpu_gs.gp.posterior``. What does not depend on the query is computed once; a query of a few points
costs about twenty tensor operations, which is what its time consists of while n is a few hundred.

Triangular solves with L are used throughout. For 16 points on one thread of a CPU, two products with an explicit L^-1
took 0.7 times as long as two solves at n=100, 1.1 times at n=200, 1.3 at n=500 and 2.3 at n=1000; one product with K^-1
took 0.3, 0.5, 0.6 and 0.9 times as long, but forming K^-1 costs more than it then saves, and it cancels in the variance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_gs.gp.covariance import covariance_and_weight
from gpu_gs.gp.posterior import SMALLEST_VARIANCE, PosteriorState


class Predictor:
    """Means and variances of a state, for outputs turned by ``weight`` and shifted.

    Args:
        state: The posterior.
        weight: 1, or -1 to turn the outputs over.
    """

    def __init__(self, state: PosteriorState, weight: float = 1.0) -> None:
        self.state = state
        self.inverse_scale = 1 / state.scale
        self.shift = -state.offset * self.inverse_scale
        self.alpha = state.alpha * weight
        self.c = state.c * weight
        self.ZT = state.Z.T.contiguous()
        self.norms = (state.Z * state.Z).sum(-1)
        self.exponents = -0.5 * self.norms + state.s.log()
        # sum_j W_j (Z_j - z) / scale = W @ [Z / scale, 1], the last column times z / scale.
        self.pull = torch.cat([state.Z * self.inverse_scale, torch.ones_like(self.norms).unsqueeze(-1)], dim=1)

    def kernel(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, s k and s w at raw inputs. shape: (b, d) -> (b, d), (b, n), (b, n)"""
        z = torch.addcmul(self.shift, X, self.inverse_scale)
        norms = (z * z).sum(-1, keepdim=True)
        if self.state.kind == "rbf":
            k = torch.addmm(self.exponents, z, self.ZT).sub_(norms, alpha=0.5).exp_()
            return z, k, k
        q = torch.addmm(self.norms, z, self.ZT, alpha=-2).add_(norms).clamp_min_(0)
        k, w = covariance_and_weight(self.state.kind, q)
        return z, k.mul_(self.state.s), w.mul_(self.state.s)

    def mean(self, k: Tensor, draws: int | None = None) -> Tensor:
        """weight (posterior mean), in the first ``draws`` draws. shape: (b, n) -> (b,) or (b, S)"""
        if self.alpha.dim() == 1:
            return torch.addmv(self.c, k, self.alpha)
        return torch.addmm(self.c, k, self.alpha[:, :draws])

    def solve(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """v and the posterior variance. shape: (b, n) -> (n, b), (b,)"""
        v = torch.linalg.solve_triangular(self.state.L, k.T, upper=False)
        return v, torch.sub(self.state.s, (v * v).sum(0)).clamp_min_(SMALLEST_VARIANCE)

    def at(self, X: Tensor) -> "Prediction":
        """What a query at raw inputs gives. shape: (b, d)"""
        z, k, w = self.kernel(X)
        v, variance = self.solve(k)
        return Prediction(self, z, w, v, self.mean(k), variance)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A posterior at some inputs, before its gradients.

    Attributes:
        predictor: Whose it is.
        z: The inputs in units of lengthscales. shape: (b, d)
        w: s times the gradient weights of the covariance. shape: (b, n)
        v: L^-1 k^T. shape: (n, b)
        mean: weight (posterior mean). shape: (b,) or (b, S)
        variance: Posterior variance. shape: (b,)
    """

    predictor: Predictor
    z: Tensor
    w: Tensor
    v: Tensor
    mean: Tensor
    variance: Tensor

    def pull_back(self, d_mean: Tensor, d_variance: Tensor) -> Tensor:
        """d f / d x for f with the given derivatives in ``mean`` and ``variance``.

        With dk_j / dz = -s w_j (z - Z_j): d mean = sum alpha_j dk_j and d variance = -2 sum (L^-T v)_j dk_j.

        Args:
            d_mean: d f / d mean. shape: as mean
            d_variance: d f / d variance. shape: (b,)

        Returns:
            Gradients in raw inputs. shape: (b, d)
        """
        p = self.predictor
        Kik = torch.linalg.solve_triangular(p.state.L.T, self.v, upper=True).T  # K^-1 k. shape: (b, n)
        W = d_mean @ p.alpha.T if d_mean.dim() == 2 else d_mean.unsqueeze(-1) * p.alpha
        W.addcmul_(Kik, d_variance.unsqueeze(-1), value=-2).mul_(self.w)
        pulled = W @ p.pull  # shape: (b, d + 1)
        return torch.addcmul(pulled[:, :-1], pulled[:, -1:], self.z * p.inverse_scale, value=-1)

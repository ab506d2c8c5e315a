"""The posterior of a fitted one-output GP as a value: factor once, query often, append in O(n^2).

Notation: x the query (raw inputs), z = affine(x) / lengthscale, k = s k(z, Z), K = s k(Z, Z) + diag(noise) = L L^T,
alpha = K^-1 (y - c), v = L^-1 k^T. Mean: c + k alpha. Variance: s - v^T v. Where the latent values f at the inputs are
drawn jointly, alpha has a column for each of S draws, and so has the mean.

L does not depend on y: where y moves (Ax winsorizes it anew on each ask), only alpha is solved again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from botorch.models.transforms.input import Normalize
from linear_operator.utils.errors import NotPSDError
from torch import Tensor

from gpu_gs.gp.covariance import Kind, covariance, squared_distances
from gpu_gs.gp.parts import reasons_against, take_apart

SMALLEST_VARIANCE = 1e-12
JITTERS = (1e-6, 1e-5, 1e-4, 1e-3)
"""Added to the diagonal of a covariance without noise, as a share of the prior variance, until it factors."""


def reasons_against_state(model: Any) -> list[str]:
    """Why a model has no ``PosteriorState``; empty means it has."""
    reasons = [f"model: {reason}" for reason in reasons_against(model)]
    if not reasons and model.num_outputs != 1:
        reasons.append(f"model: it has {model.num_outputs} outputs")
    return reasons


@dataclass(frozen=True)
class Factor:
    """L and, where it is kept up, diag(K^-1). shape: (n, n), (n,)"""

    L: Tensor
    inverse_diagonal: Tensor | None


@dataclass(frozen=True)
class PosteriorState:
    """What a posterior query needs.

    Attributes:
        kind: The covariance.
        Z: Training inputs in units of lengthscales. shape: (n, d)
        y: Targets. shape: (n,)
        offset: Subtracted from raw inputs. shape: (d,)
        scale: Raw units in one lengthscale. shape: (d,)
        s: Prior variance. shape: ()
        c: Prior mean. shape: ()
        noise: Noise variances. shape: (n,)
        L: Lower Cholesky factor of K. shape: (n, n)
        alpha: K^-1 (y - c). shape: (n,), or (n, S) for S draws
        inverse_diagonal: diag(K^-1), if somebody asked for it once (``loo``). shape: (n,)
    """

    kind: Kind
    Z: Tensor
    y: Tensor
    offset: Tensor
    scale: Tensor
    s: Tensor
    c: Tensor
    noise: Tensor
    L: Tensor
    alpha: Tensor
    inverse_diagonal: Tensor | None = None

    def to_z(self, X: Tensor) -> Tensor:
        """Raw inputs in units of lengthscales. shape: (b, d) -> (b, d)"""
        return (X - self.offset) / self.scale

    def mean_and_variance(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance (without noise) at raw inputs. shape: (b, d) -> (b,) or (b, S), (b,)"""
        k = self.s * covariance(self.kind, squared_distances(self.to_z(X), self.Z))  # shape: (b, n)
        v = torch.linalg.solve_triangular(self.L, k.T, upper=False)
        return self.c + k @ self.alpha, (self.s - (v * v).sum(0)).clamp_min(SMALLEST_VARIANCE)

    def mean_at_training_inputs(self) -> Tensor:
        """The posterior mean at the data: y - noise alpha. shape: (n,)"""
        return self.y - self.noise * self.alpha

    def append(self, X: Tensor, y: Tensor, noise: Tensor) -> "PosteriorState":
        """The state with more observations and the same hyperparameters, in O(n^2) each.

        Args:
            X: Raw inputs. shape: (b, d)
            y: Targets. shape: (b,)
            noise: Their noise variances. shape: (b,)
        """
        return self.extended(self.to_z(X), torch.cat([self.y, y]), noise)

    def extended(self, z: Tensor, y: Tensor, noise: Tensor) -> "PosteriorState":
        """The state with more rows, none included, and the targets of all rows given anew, in O(n^2) a row.

        Args:
            z: Inputs of the new rows in units of lengthscales. shape: (b, d)
            y: Targets of all rows. shape: (n + b,)
            noise: Noise variances of the new rows. shape: (b,)

        Raises:
            NotPSDError: The covariance matrix does not factor.
        """
        factor = self.longer_factor(z, noise)
        return replace(
            self,
            Z=torch.cat([self.Z, z]),
            y=y,
            noise=torch.cat([self.noise, noise]),
            L=factor.L,
            alpha=_solved(factor.L, (y - self.c).unsqueeze(-1)).squeeze(-1),
            inverse_diagonal=factor.inverse_diagonal,
        )

    def longer_factor(self, z: Tensor, noise: Tensor) -> "Factor":
        """L with more rows, and diag(K^-1) if it is known; see ``extended``.

        [[K, B], [B^T, C]] = [[L, 0], [U, M]] [[L, 0], [U, M]]^T with U^T = L^-1 B and M M^T = C - U U^T. With
        W = K^-1 B = L^-T U^T, the diagonal of the inverse is that of K^-1 + (W M^-T) (W M^-T)^T, then that of M^-T M^-1.
        """
        n, b = len(self.Z), len(z)
        if b == 0:
            return Factor(self.L, self.inverse_diagonal)
        B = self.s * covariance(self.kind, squared_distances(self.Z, z))
        C = self.s * covariance(self.kind, squared_distances(z, z))
        C.diagonal().copy_(self.s + noise)
        U = torch.linalg.solve_triangular(self.L, B, upper=False).T  # shape: (b, n)
        M = cholesky(C - U @ U.T)
        L = _square(n + b, like=self.L)
        L[:n, :n], L[:n, n:], L[n:, :n], L[n:, n:] = self.L, 0.0, U, M
        if self.inverse_diagonal is None:
            return Factor(L, None)
        W = torch.linalg.solve_triangular(self.L.mT, U.T, upper=True)  # shape: (n, b)
        more = torch.linalg.solve_triangular(M, W.T, upper=False).square().sum(0)
        new = torch.cholesky_inverse(M).diagonal()
        return Factor(L, torch.cat([self.inverse_diagonal + more, new]))

    def innovations(self) -> Tensor:
        """L^-1 (y - c): each y less its prediction from the rows before it, in units of that prediction's deviation.

        They are independent and standard normal if the model is right, so the last ones tell how much the newest rows
        surprise it. shape: (n,)
        """
        return torch.linalg.solve_triangular(self.L, (self.y - self.c).unsqueeze(-1), upper=False).squeeze(-1)

    def draw(
        self, pending: Tensor, count: int, generator: torch.Generator, order: Tensor | None = None
    ) -> tuple["PosteriorState", Tensor]:
        """Joint draws of the latent values f at the training and pending inputs, and the posterior given each.

        By Matheron's rule (Wilson et al. 2021, "Pathwise conditioning of Gaussian processes", eq. 9), with a prior draw
        f0 = c + L0 e at all inputs, K0 = L0 L0^T its covariance, y0 = f0 + noise at the training inputs:
            f = f0 + k alpha', alpha' = K^-1 (y - y0),  hence K0^-1 (f - c) = L0^-T e + [alpha', 0].

        Args:
            pending: Raw inputs that are evaluated but not observed yet. shape: (p, d)
            count: S.
            generator: On the state's device.
            order: A permutation of the training inputs: the draws depend on their order in it, not in Z. shape: (n,)

        Returns:
            The state without noise, whose inputs are in that order and whose ``alpha`` is (n + p, S), and the draws f, in
            the order of Z (n + p, S).

        Raises:
            NotPSDError: The covariance does not factor, not even with the largest jitter.
        """
        n, S = len(self.Z), count
        order = torch.arange(n, device=self.Z.device) if order is None else order
        back = torch.argsort(order)
        Z = torch.cat([self.Z[order], self.to_z(pending)])
        K0 = self.s * covariance(self.kind, squared_distances(Z, Z))
        K0.diagonal().copy_(self.s.expand(len(Z)))
        L0 = _factor(K0, self.s)

        def normal(rows: int) -> Tensor:
            return torch.randn(rows, S, generator=generator, dtype=Z.dtype, device=Z.device)

        e = normal(len(Z))
        f0 = self.c + L0 @ e
        y0 = f0[:n] + self.noise[order].sqrt().unsqueeze(-1) * normal(n)
        correction = _solved(self.L, self.y.unsqueeze(-1) - y0[back])[order]  # shape: (n, S)
        alpha = torch.linalg.solve_triangular(L0.T, e, upper=True)
        alpha[:n] += correction
        f = f0 + K0[:, :n] @ correction
        state = replace(
            self, Z=Z, y=f.mean(-1), noise=torch.zeros_like(Z[:, 0]), L=L0, alpha=alpha, inverse_diagonal=None
        )
        return state, torch.cat([f[:n][back], f[n:]])


def _square(n: int, like: Tensor) -> Tensor:
    """An n x n matrix, not filled, in memory for somewhat more rows.

    Blocks of the same size from ask to ask are often ones that the allocator has at hand; blocks that grow a little each
    time are new pages each time: for appending a row to 1000, 1 to 2 ms against 4 to 5.
    """
    room = -(-n // 64) * 64
    return like.new_empty(room * room)[: n * n].view(n, n)


def _solved(L: Tensor, r: Tensor) -> Tensor:
    """(L L^T)^-1 r; ``cholesky_solve`` would copy an L that lies in rows. shape: (n, n), (n, S) -> (n, S)"""
    return torch.linalg.solve_triangular(L.mT, torch.linalg.solve_triangular(L, r, upper=False), upper=True)


def _factor(K: Tensor, s: Tensor) -> Tensor:
    """The Cholesky factor of K with the smallest of ``JITTERS`` that allows one; K is the same before and after."""
    diagonal = K.diagonal().clone()
    for jitter in JITTERS:
        K.diagonal().copy_(diagonal + jitter * s)
        L, info = torch.linalg.cholesky_ex(K)
        if int(info) == 0:
            K.diagonal().copy_(diagonal)
            return L
    raise NotPSDError(f"a covariance of {len(K)} points does not factor with jitter {JITTERS[-1]:g}")


def state_from_model(model: Any) -> PosteriorState:
    """The posterior state of a fitted model without ``reasons_against_state``: the one it keeps, if it keeps one.

    Raises:
        NotPSDError: The covariance matrix does not factor.
    """
    kept: tuple[PosteriorState, ...] | None = getattr(model, "posterior_states", None)
    return (kept or build_states(model))[0]


def build_states(model: Any, earlier: Sequence[PosteriorState] = ()) -> tuple[PosteriorState, ...]:
    """The posterior state of each output of a model without ``reasons_against``.

    Args:
        model: The model, in training or in evaluation mode.
        earlier: States of the same outputs with fewer rows: what can be extended is, in O(n^2), the rest is factored
            anew (``reasons_against_extending``).

    Raises:
        NotPSDError: A covariance matrix does not factor.
    """
    with torch.no_grad():
        parts = take_apart(model)
        m, n, d = len(parts.Y), *parts.X.shape
        lengthscale = parts.base.lengthscale.reshape(m, -1).expand(m, d)
        one = parts.X.new_ones(m)
        s = one if parts.scaled is None else parts.scaled.outputscale.reshape(m).clone()
        c = model.mean_module.constant.reshape(m).clone()
        noise = model.likelihood.noise.reshape(m, 1) if parts.fixed_noise is None else parts.fixed_noise
        noise = noise.expand(m, n).clone()
        offset, coefficient = _affine(model, parts.X)
        states = []
        for i in range(m):
            Z = parts.X / lengthscale[i]
            factor = _factor_of(parts.kind, Z, noise[i], s[i], earlier[i] if i < len(earlier) else None)
            states.append(
                PosteriorState(
                    kind=parts.kind,
                    Z=Z,
                    y=parts.Y[i],
                    offset=offset,
                    scale=coefficient * lengthscale[i],
                    s=s[i],
                    c=c[i],
                    noise=noise[i],
                    L=factor.L,
                    alpha=_solved(factor.L, (parts.Y[i] - c[i]).unsqueeze(-1)).squeeze(-1),
                    inverse_diagonal=factor.inverse_diagonal,
                )
            )
        return tuple(states)


def reasons_against_extending(earlier: PosteriorState, kind: Kind, Z: Tensor, noise: Tensor, s: Tensor) -> list[str]:
    """Why the factor for these rows cannot be had from an earlier one; empty means it can. Arguments as its fields."""
    if earlier.kind != kind or earlier.Z.device != Z.device or earlier.Z.dtype != Z.dtype:
        return ["the covariance, the device or the precision has changed"]
    n = len(earlier.Z)
    if len(Z) < n or earlier.Z.shape[1] != Z.shape[1]:
        return ["there are fewer rows or other columns"]
    same = torch.stack([(Z[:n] == earlier.Z).all(), (noise[:n] == earlier.noise).all() & (s == earlier.s)])
    same_rows, same_noise = same.tolist()  # one host synchronization
    reasons = [] if same_rows else ["old rows or lengthscales have changed"]
    return reasons if same_noise else [*reasons, "the noise or the prior variance has changed"]


def _factor_of(kind: Kind, Z: Tensor, noise: Tensor, s: Tensor, earlier: PosteriorState | None) -> Factor:
    """The factor for these rows, by extension of an earlier one where that is possible. Arguments as its fields."""
    if earlier is not None and not reasons_against_extending(earlier, kind, Z, noise, s):
        n = len(earlier.Z)
        try:
            return earlier.longer_factor(Z[n:], noise[n:])
        except NotPSDError:  # rounding in the last rows: a factor from scratch may still exist
            pass
    K = s * covariance(kind, squared_distances(Z, Z))
    K.diagonal().copy_(s + noise)
    return Factor(cholesky(K), None)


def cholesky(K: Tensor) -> Tensor:
    """The lower factor. shape: (*batch, n, n)

    Raises:
        NotPSDError: There is none.
    """
    L, info = torch.linalg.cholesky_ex(K)
    if bool((info > 0).any()):  # a host synchronization, as in torch.linalg.cholesky
        raise NotPSDError(f"a covariance of {K.shape[-1]} points does not factor")
    return L


def _affine(model: Any, X: Tensor) -> tuple[Tensor, Tensor]:
    """The input transform as (x - offset) / coefficient. shape: (d,), (d,)"""
    d = X.shape[-1]
    offset, coefficient = X.new_zeros(d), X.new_ones(d)
    transform = getattr(model, "input_transform", None)
    if isinstance(transform, Normalize):
        indices = getattr(transform, "indices", None)
        where = slice(None) if indices is None else indices
        own_offset, own_coefficient = transform.offset.reshape(-1), transform.coefficient.reshape(-1)
        narrow = own_offset.numel() != d or indices is None
        offset[where] = own_offset if narrow else own_offset[where]
        coefficient[where] = own_coefficient if narrow else own_coefficient[where]
    return offset, coefficient

"""A BoTorch model over the closed forms: SingleTaskGP with another way to its posterior and to its fit.

The prior, the parameters and every method are those of ``SingleTaskGP``. What GPyTorch computes through caches of its
own, lazily and in many small steps, is read from ``PosteriorState`` instead; what has no closed form (``reasons_against``)
goes GPyTorch's way.

Notation as in ``posterior``: mean = c + k alpha, covariance = s k(z, z) - V^T V with V = L^-1 k^T.
"""

from typing import Any

import torch
from botorch.fit import _fit_fallback
from botorch.models import SingleTaskGP
from gpytorch import settings
from gpytorch.distributions import MultivariateNormal
from gpytorch.mlls import ExactMarginalLogLikelihood, MarginalLogLikelihood
from linear_operator.operators import DenseLinearOperator, LinearOperator, MatmulLinearOperator
from linear_operator.utils.errors import NotPSDError
from torch import Tensor

from gpu_gs.gp.covariance import covariance, differentiable_covariance, squared_distances
from gpu_gs.gp.fit import fit
from gpu_gs.gp.parts import base_kernel, reasons_against
from gpu_gs.gp.posterior import PosteriorState, build_states
from gpu_gs.transfer import looking_is_cheap, to_device

DENSE_UP_TO = 64
"""Points of one batch whose joint covariance is formed at once; above, only when somebody asks for more than variances."""


class ClosedFormGP(SingleTaskGP):
    """A ``SingleTaskGP`` that predicts from posterior states and is fitted by the closed-form marginal likelihood.

    The states live as long as GPyTorch's own caches do: until the model is trained, loads a state or gets other
    training data. Copies and pickles go without them.
    """

    #: See ``parts.is_plain``: what holds of ``SingleTaskGP``'s prior holds of this one's. Not inherited.
    has_prior_of_single_task_gp = True

    _states: tuple[PosteriorState, ...] | None = None

    @property
    def posterior_states(self) -> tuple[PosteriorState, ...] | None:
        """The state of each output, built when first asked for; None where there is no closed form."""
        if self._states is None:
            if reasons_against(self):
                return None
            try:
                states = build_states(self)
            except NotPSDError:  # GPyTorch adds jitter
                return None
            if self.training:  # the hyperparameters are about to change
                return states
            self._states = states
        return self._states

    @property
    def states_if_built(self) -> tuple[PosteriorState, ...] | None:
        """The states, if there was a use for them."""
        return self._states

    def free_states(self) -> None:
        """Frees the states' n x n matrices; they are built again when next asked for."""
        self._states = None

    def use_states(self, states: tuple[PosteriorState, ...]) -> None:
        """Takes states that somebody has built already for this model's data and hyperparameters."""
        self.eval()
        self._states = states

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See ``ExactGP.__call__``: the prior in training mode, else the posterior at transformed inputs."""
        if self.training or kwargs or len(args) != 1 or settings.prior_mode.on():
            return super().__call__(*args, **kwargs)
        if self._states is None and self.prediction_strategy is not None:  # GPyTorch has got ready: a fantasy, say
            return super().__call__(*args)
        states = self.posterior_states
        if states is None or args[0].dim() < 2:
            return super().__call__(*args)
        return joint_posterior(self, states, args[0])

    def custom_fit(
        self,
        mll: MarginalLogLikelihood,
        closure: Any = None,
        closure_kwargs: dict[str, Any] | None = None,
        optimizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> MarginalLogLikelihood:
        """What ``botorch.fit.fit_gpytorch_mll`` calls: our fit, or BoTorch's where its options are given.

        Raises:
            FitError: Every start failed.
        """
        if type(mll) is not ExactMarginalLogLikelihood or closure or closure_kwargs or optimizer_kwargs or kwargs:
            return self.stock_fit(
                mll, closure=closure, closure_kwargs=closure_kwargs, optimizer_kwargs=optimizer_kwargs, **kwargs
            )
        fit(self)
        return mll.eval()

    @staticmethod
    def stock_fit(mll: MarginalLogLikelihood, **kwargs: Any) -> MarginalLogLikelihood:
        """BoTorch's fit of a ``SingleTaskGP``; ``fit_gpytorch_mll`` itself would come back to ``custom_fit``."""
        return _fit_fallback(mll, **kwargs)

    def get_fantasy_model(self, inputs: Any, targets: Any, **kwargs: Any) -> Any:
        """See ``ExactGP.get_fantasy_model``, which needs GPyTorch's caches."""
        if getattr(self, "prediction_strategy", None) is None:
            with settings.debug(False), torch.no_grad():
                # one prediction fills the caches
                super().__call__(*(x[..., :1, :] for x in self.train_inputs))
        return super().get_fantasy_model(inputs, targets, **kwargs)

    def subset_output(self, idcs: list[int]) -> Any:
        """See ``BatchedMultiOutputGPyTorchModel.subset_output``; the states of these outputs go along."""
        subset: Any = super().subset_output(idcs)
        if self._states is not None:
            subset._states = tuple(self._states[i] for i in idcs)
        return subset

    def set_train_data(self, inputs: Any = None, targets: Any = None, strict: bool = True) -> None:
        """See ``ExactGP.set_train_data``."""
        super().set_train_data(inputs, targets, strict)
        self._states = None

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._states = None  # they are of the old device and precision

        def moved(tensor: Tensor) -> Tensor:
            there = fn(tensor.new_empty(0))
            if looking_is_cheap(there) or not looking_is_cheap(tensor):
                return fn(tensor)
            return to_device(tensor.to(there.dtype), there.device)  # without waiting

        return super()._apply(moved)  # type: ignore[no-untyped-call]

    def _clear_cache(self) -> None:
        super()._clear_cache()
        self._states = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_states"}


def joint_posterior(model: SingleTaskGP, states: tuple[PosteriorState, ...], X: Tensor) -> MultivariateNormal:
    """The joint posterior of each batch of points, with gradients in X where it asks for them.

    Args:
        model: The model of the states.
        states: One for each of m outputs.
        X: Transformed inputs. shape: (*batch, q, d); with m > 1 outputs (*batch, m or 1, q, d)

    Returns:
        A distribution of batch shape ``batch`` (with m > 1, ``batch x m``) over q points.
    """
    m = len(states)
    with torch.no_grad():
        lengthscale = base_kernel(model).lengthscale.reshape(m, -1)
    if m == 1:
        return MultivariateNormal(*_distribution(*_moments(states[0], X / lengthscale[0])))
    X = X.unsqueeze(-3) if X.dim() == 2 else X
    X = X.expand(*X.shape[:-3], m, *X.shape[-2:])
    moments = [_moments(state, X[..., i, :, :] / lengthscale[i]) for i, state in enumerate(states)]
    mean, prior, V = (
        torch.stack([moment[part] for moment in moments], dim=dim) for part, dim in ((0, -2), (1, -3), (2, -3))
    )
    return MultivariateNormal(*_distribution(mean, prior, V))


def _moments(state: PosteriorState, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, prior covariance and V of each batch of points in units of lengthscales.

    shape: (*batch, q, d) -> (*batch, q), (*batch, q, q), (*batch, n, q)
    """
    batch, q, n = z.shape[:-2], z.shape[-2], len(state.Z)
    flat = z.reshape(-1, z.shape[-1])
    k = state.s * _covariance(state, flat, state.Z)  # shape: (b q, n)
    mean = (state.c + k @ state.alpha).reshape(*batch, q)
    V = torch.linalg.solve_triangular(state.L, k.T, upper=False).reshape(n, *batch, q).movedim(0, -2)
    prior = state.s.expand(*batch, 1, 1) if q == 1 else state.s * _covariance(state, z, z)
    return mean, prior, V


def _covariance(state: PosteriorState, z: Tensor, zp: Tensor) -> Tensor:
    if z.requires_grad and torch.is_grad_enabled():
        return differentiable_covariance(state.kind, z, zp)
    return covariance(state.kind, squared_distances(z, zp))


def _distribution(mean: Tensor, prior: Tensor, V: Tensor) -> tuple[Tensor, LinearOperator]:
    """Mean and covariance prior - V^T V, dense for a few points. shape: (*batch, q), (*batch, q, q)"""
    q = mean.shape[-1]
    if q == 1:
        return mean, DenseLinearOperator(prior - (V * V).sum(-2, keepdim=True))
    if q <= DENSE_UP_TO:
        return mean, DenseLinearOperator(prior - V.mT @ V)
    return mean, DenseLinearOperator(prior) + MatmulLinearOperator(-V.mT, V)

"""Ax's Acquisition where the acquisition function has a closed form: of one outcome here, of several in ``joint``.

They skip Ax's set-up (per-element loops over the training data, pruning of the baseline): all they need is the posterior
states of the fitted model.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from ax.core.search_space import SearchSpaceDigest
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.torch.utils import subset_model
from ax.generators.torch_base import TorchOptConfig
from botorch.acquisition import AcquisitionFunction
from botorch.models.model import Model
from botorch.utils.transforms import t_batch_mode_transform
from torch import Tensor

from gpu_gs.acquisition.logei import LogEI
from gpu_gs.acquisition.pool import ClosedForm
from gpu_gs.acquisition.ucb import UpperConfidenceBound
from gpu_gs.config import AcquisitionConfig
from gpu_gs.gp.posterior import PosteriorState, reasons_against_state, state_from_model
from gpu_gs.optimize.candidates import raw_samples_of
from gpu_gs.optimize.polytope import Constraints
from gpu_gs.plugin.acquisition import BatchedAcquisition
from gpu_gs.plugin.ask import current
from gpu_gs.plugin.sequence import Sequences, seed_of_run
from gpu_gs.rng import derive_seed
from gpu_gs.telemetry import stage
from gpu_gs.transfer import on_host, to_device

NEGLIGIBLE_NOISE = 1e-2
"""Noise variance, as a share of the outcome's variance, up to which the incumbent is the best posterior mean.

Above it, the noisy expected improvement is used. The prior's median for the noise of a standardized objective is
exp(-4) = 0.018: noise-free objectives fall below this bound after a few observations."""

INCUMBENT_DRAWS = 64
"""Joint draws of the latent values over which the noisy expected improvement is averaged."""

CLOSED_FORMS = ("auto", "LogEI", "LogNEI", "UCB")
"""Values of ``acquisition.function`` that stand for a closed form where there is one."""


def objective_output(torch_opt_config: TorchOptConfig) -> tuple[int, float] | None:
    """The model output that is the objective and the sign that makes it one to maximize; None if there are several."""
    weights = torch_opt_config.objective_weights
    if torch_opt_config.is_moo or weights.numel() == 0:
        return None
    first: list[float] = on_host(weights).reshape(-1, weights.shape[-1])[0].tolist()
    nonzero = [index for index, weight in enumerate(first) if weight != 0]
    if len(nonzero) != 1:
        return None
    return nonzero[0], math.copysign(1.0, first[nonzero[0]])


def reasons_against_closed_form(
    torch_opt_config: TorchOptConfig, function: str, chosen_by_user: bool, options: dict[str, Any]
) -> list[str]:
    """Why the acquisition function cannot be a closed form, whatever the model; empty means go.

    Args:
        torch_opt_config: What to optimize.
        function: ``AcquisitionConfig.function``.
        chosen_by_user: Whether a BoTorch class, its options, or an Ax ``Acquisition`` class were given explicitly.
        options: Ax's acquisition options.
    """
    if chosen_by_user:
        return ["acquisition: the strategy names its own acquisition function"]
    if function not in CLOSED_FORMS:
        return [f"acquisition: {function} has no closed form here"]
    reasons = []
    if torch_opt_config.use_learned_objective:
        reasons.append("acquisition: a learned objective")
    if options.get("prune_irrelevant_parameters", False):
        reasons.append("acquisition: simplify_parameter_changes")
    return reasons


def has_one_outcome(torch_opt_config: TorchOptConfig) -> bool:
    """Whether one outcome is all that matters: the objective, without outcome constraints."""
    return torch_opt_config.outcome_constraints is None and objective_output(torch_opt_config) is not None


def objective_model(model: Model, torch_opt_config: TorchOptConfig) -> Model:
    """The one-output model of a single objective."""
    if model.num_outputs == 1:
        return model
    return subset_model(
        model=model, objective_weights=torch_opt_config.objective_weights, outcome_constraints=None
    ).model


def relative_noise(noise: Tensor, targets: Tensor) -> Tensor:
    """Mean observation noise variance over the variance of the training targets, which one alone does not have.

    shape: (n,) or fewer, (n,) -> ()
    """
    variance = targets.var() if targets.numel() > 1 else targets.new_zeros(())
    return noise.detach().mean() / variance.clamp_min(1e-12)


class ClosedFormFunction(AcquisitionFunction):
    """A closed form as a BoTorch acquisition function of single points (b x 1 x d), for Ax's optimizers and analyses.

    Args:
        model: The model.
        function: The closed form with the points that are pending now.
        pending: Those points. shape: (p, d)
        given: Makes the closed form with other points pending (p x d).
    """

    def __init__(
        self, model: Model, function: ClosedForm, pending: Tensor | None, given: Callable[[Tensor | None], ClosedForm]
    ) -> None:
        super().__init__(model=model)
        self.function = function
        self.X_pending: Any = pending
        self._given = given

    def set_X_pending(self, X_pending: Tensor | None = None) -> None:
        """See ``AcquisitionFunction.set_X_pending``."""
        self.X_pending = X_pending
        self.function = self._given(X_pending)

    @t_batch_mode_transform(expected_q=1)  # type: ignore[arg-type]  # its annotation knows the base class only
    def forward(self, X: Tensor) -> Tensor:
        """shape: (*batch, 1, d) -> (*batch)"""
        points = X.reshape(-1, X.shape[-1])
        value = (
            _ValueWithGradient.apply(points, self.function)  # type: ignore[no-untyped-call]
            if X.requires_grad
            else self.function.value(points)
        )
        return value.reshape(X.shape[:-2])


class _ValueWithGradient(torch.autograd.Function):
    """A closed form for autograd, which takes the closed form's own gradient."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, function: ClosedForm) -> Tensor:
        value, gradient = function.value_and_grad(X)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *d_value: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return d_value[0].unsqueeze(-1) * gradient, None


def _given(sequences: Sequences, pending: Tensor | None) -> ClosedForm:
    """The function with these points pending; not a method, lest a cycle hold n x n matrices after the ask. shape: (p, d)"""
    return sequences.at(sequences.none if pending is None else pending).function


class ClosedFormAcquisition(BatchedAcquisition):
    """What the closed forms of one outcome and of several share: the function continues from candidate to candidate.

    A subclass prepares itself in ``_prepare``, which ends by calling ``_begin``, and says in ``_closed_form`` what the
    function is.

    Args:
        surrogate: See ``Acquisition``, as the next three.
        search_space_digest: The search space.
        torch_opt_config: What to optimize.
        options: Ax's acquisition options.
        config: Which function, and how to optimize it.
        strategy_seed: The strategy's seed.
        index: Index of the ask.
        attempt: De-duplication attempt.
    """

    label: str
    """The function's name in ``timings``."""

    def __init__(
        self,
        surrogate: Surrogate,
        search_space_digest: SearchSpaceDigest,
        torch_opt_config: TorchOptConfig,
        options: dict[str, Any],
        config: AcquisitionConfig | None = None,
        strategy_seed: int = 0,
        index: int = 0,
        attempt: int = 0,
    ) -> None:
        self.surrogate = surrogate
        self.options = options
        self.search_space_digest = search_space_digest
        self.n = 1
        self.num_pruned_dims = None
        self.models_used = [surrogate.model_name_by_metric]
        self.acq_function_sequence = None
        self._objective_thresholds = torch_opt_config.objective_thresholds
        self._full_objective_weights = torch_opt_config.objective_weights
        self._objective_weights = torch_opt_config.objective_weights
        self._config = self.engine = config or AcquisitionConfig()
        self.seed = derive_seed(strategy_seed, index, 0, attempt)
        self._run = (strategy_seed, index, attempt)
        self._prepare(torch_opt_config)

    def _prepare(self, torch_opt_config: TorchOptConfig) -> None:
        """Reads from the model what the function needs, and calls ``_begin``."""
        raise NotImplementedError

    def _begin(
        self, model: Model, X: Tensor, pending: list[Tensor], torch_opt_config: TorchOptConfig, key: tuple[Any, ...]
    ) -> None:
        """Takes up the function where the last ask left it, or builds it.

        Args:
            model: The model that it belongs to.
            X: The observed points. shape: (n, d)
            pending: The points pending for each outcome that takes part. shape: (p_j, d) each
            torch_opt_config: What to optimize.
            key: What the function depends on beside the model, the search space and the seed.
        """
        self._model = model
        self._X = self.X_observed = X
        common = _common_points([points.to(X) for points in pending]) if pending else X[:0]
        common = common if len(common) else X[:0]  # Ax's empty tensors have no columns
        strategy_seed, index, attempt = self._run
        seed = seed_of_run(strategy_seed, index, len(common), attempt)
        if len(common):
            common = common[inside(common, self.search_space_digest.bounds, torch_opt_config)]
        self.X_pending = common if len(common) else None
        space = (
            tuple(self.search_space_digest.bounds),
            tuple((torch_opt_config.fixed_features or {}).items()),
            tuple(tuple(part.reshape(-1).tolist()) for part in torch_opt_config.linear_constraints or ()),
        )
        self._sequences = Sequences(
            model, (self.label, *key, space), seed, lambda: self._closed_form(derive_seed(seed, 0, 0, 0)), X[:0]
        )
        self._use_pending()

    def _closed_form(self, seed: int) -> ClosedForm:
        """The function without pending points."""
        raise NotImplementedError

    def _pending(self) -> Tensor:
        return self._X[:0] if self.X_pending is None else self.X_pending

    def _use_pending(self) -> None:
        self._function = self._sequences.at(self._pending()).function
        self.acqf = ClosedFormFunction(self._model, self._function, self.X_pending, partial(_given, self._sequences))

    def _condition_on(self, chosen: Tensor, already_pending: Tensor | None) -> None:
        pending = chosen if already_pending is None else torch.cat([already_pending, chosen])
        self.X_pending = pending if len(pending) else None
        self._use_pending()

    def _scored(
        self,
        lower: Tensor,
        upper: Tensor,
        discrete: dict[int, Tensor],
        one_hot: list[list[int]],
        fixed: dict[int, float],
        memory_mb: int,
        linear: Mapping[str, Any],
    ) -> tuple[Tensor, Tensor] | None:
        if self._config.raw_samples * self._bytes_per_point() > memory_mb * 2**20:
            if (ask := current()) is not None:
                ask.because(
                    [
                        f"acquisition: {self._config.raw_samples} raw samples at once need more than {memory_mb} MiB, so "
                        "each candidate scores its own, some at a time"
                    ]
                )
            return None

        def raw(seed: int) -> Tensor:
            return raw_samples_of(
                lower,
                upper,
                count=self._config.raw_samples,
                seed=seed,
                discrete=discrete,
                one_hot=one_hot,
                fixed=fixed,
                anchors=self._anchors(),
                **linear,
            )

        allowed = tuple((index, values.cpu().numpy().tobytes()) for index, values in discrete.items())
        key = (self._config.raw_samples, allowed, tuple(fixed.items()), Constraints.of(**linear))
        with stage("raw_samples"):
            sequence, pool = self._sequences.with_pool(self._pending(), key, raw)
            return pool.X, sequence.function.score(pool.mean, pool.variance)

    def _bytes_per_point(self) -> int:
        return self._function.bytes_per_point

    def _value_and_grad_function(self) -> ClosedForm:
        return self._function


class LogEIAcquisition(ClosedFormAcquisition):
    """The closed-form acquisition function of one objective.

    ``LogEI``: log expected improvement over the best posterior mean, averaged over joint draws of the values at pending
    points. ``LogNEI``: over joint draws of the latent values at observed and pending points, which is what Ax's qLogNEI
    estimates too. ``UCB``: the upper confidence bound. ``auto`` takes LogEI where the noise is negligible, else LogNEI.
    """

    def _prepare(self, torch_opt_config: TorchOptConfig) -> None:
        surrogate = self.surrogate
        output = objective_output(torch_opt_config)
        assert output is not None, "has_one_outcome must hold"
        outcome, self._weight = output
        model = objective_model(surrogate.model, torch_opt_config)
        self._state: PosteriorState = state_from_model(model)
        X: Tensor = surrogate.Xs[outcome]
        self._by_trial = order_by_trial(surrogate, outcome)
        self._eligible = matching(X, self.search_space_digest.bounds, torch_opt_config)
        observed = self._state.mean_at_training_inputs() * self._weight  # shape: (n,)
        self._observed = torch.where(self._eligible, observed, -math.inf)
        self.label = self._config.function
        if self.label == "auto":
            share = float(relative_noise(self._state.noise, self._state.y))  # one host synchronization
            self.label = "LogNEI" if share > NEGLIGIBLE_NOISE else "LogEI"
        pending = torch_opt_config.pending_observations
        self._begin(
            model,
            X,
            [] if pending is None else [pending[outcome]],
            torch_opt_config,
            (self._config.beta, self._weight),
        )

    @staticmethod
    def reasons_against(surrogate: Surrogate, torch_opt_config: TorchOptConfig) -> list[str]:
        """Why the model has no closed form."""
        return reasons_against_state(objective_model(surrogate.model, torch_opt_config))

    def _closed_form(self, seed: int) -> ClosedForm:
        if self.label == "UCB":
            return UpperConfidenceBound(self._state, self._config.beta, self._weight)
        if self.label == "LogEI":
            return LogEI(self._state, self._observed.max() * self._weight, self._weight)
        generator = torch.Generator(device=self._observed.device).manual_seed(seed)
        state, f = self._state.draw(self._X[:0], INCUMBENT_DRAWS, generator, order=self._by_trial)
        weighted = torch.where(self._eligible.unsqueeze(-1), f * self._weight, -math.inf)
        return LogEI(state, weighted.amax(0) * self._weight, self._weight)

    def _anchors(self) -> Tensor:
        return self._X[self._observed.topk(min(5, len(self._observed))).indices]


def _common_points(points: list[Tensor]) -> Tensor:
    """The points that all outcomes have, in the order of the first. shape: (p_j, d) each -> (p, d)"""
    first = points[0]
    if not all(len(others) for others in points):
        return first[:0]
    keep = torch.ones(len(first), dtype=torch.bool, device=first.device)
    for others in points[1:]:
        if others is not first:
            keep &= (first.unsqueeze(1) == others.unsqueeze(0)).all(-1).any(-1)
    return first[keep]


def order_by_trial(surrogate: Surrogate, outcome: int) -> Tensor | None:
    """The observations of an outcome by trial, whatever the order in which they came; None if unknown. shape: (n,)

    A run that is resumed has them in another order than one that was not interrupted, and must draw the same.
    """
    for dataset in surrogate.training_data:
        if surrogate.outcomes[outcome] in dataset.outcome_names and dataset.group_indices is not None:
            return to_device(torch.argsort(on_host(dataset.group_indices), stable=True), dataset.X.device)
    return None


def matching(X: Tensor, bounds: list[tuple[float, float]], torch_opt_config: TorchOptConfig) -> Tensor:
    """Which rows of X are ``inside``; all of them if none is. shape: (n,)"""
    found = inside(X, bounds, torch_opt_config)
    return found | ~found.any()


def inside(X: Tensor, bounds: list[tuple[float, float]], torch_opt_config: TorchOptConfig) -> Tensor:
    """Which rows of X lie in the search space and have the fixed values. shape: (n,)"""
    lower, upper = to_device(torch.tensor(bounds, dtype=X.dtype), X.device).T
    found = ((lower <= X) & (upper >= X)).all(dim=-1)
    for index, value in (torch_opt_config.fixed_features or {}).items():
        found &= X[:, index] == value
    if torch_opt_config.linear_constraints is not None:
        A, b = (part.to(X) for part in torch_opt_config.linear_constraints)
        found &= (b.reshape(-1) + ALMOST_FEASIBLE * A.abs().sum(-1) >= X @ A.T).all(-1)
    return found


ALMOST_FEASIBLE = 1e-8
"""By how much an observation may violate a linear constraint and be the incumbent; BoTorch's for feasible candidates."""

__all__ = [
    "NEGLIGIBLE_NOISE",
    "ClosedFormAcquisition",
    "LogEIAcquisition",
    "has_one_outcome",
    "matching",
    "objective_output",
    "order_by_trial",
    "reasons_against_closed_form",
]

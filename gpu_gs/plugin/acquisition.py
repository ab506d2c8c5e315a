"""Ax's Acquisition with batched optimization, and its closed-form special case.

Two classes behind Ax's interface: ``BatchedAcquisition`` optimizes whatever BoTorch acquisition function Ax chose, all
raw samples and all restarts in as few calls as memory allows; ``LogEIAcquisition`` skips Ax's set-up (per-element
loops over the training data, pruning of the baseline) where there is a closed form (LogEI, LogNEI, UCB). What
either cannot do goes to Ax's own optimizer, and the reasons are recorded.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from ax.adapter.transforms.one_hot import OH_PARAM_INFIX
from ax.core.search_space import SearchSpaceDigest
from ax.exceptions.core import AxError, SearchSpaceExhausted
from ax.generators.torch.botorch_modular.acquisition import Acquisition, determine_optimizer
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.torch.botorch_modular.utils import validate_candidates
from ax.generators.torch.utils import subset_model
from ax.generators.torch_base import TorchOptConfig
from ax.generators.utils import mk_discrete_choices
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.acquisition import OneShotAcquisitionFunction
from botorch.exceptions.warnings import OptimizationWarning
from botorch.models.model import Model
from botorch.utils.transforms import t_batch_mode_transform
from torch import Tensor

from gpu_gs.acquisition.autograd import AutogradAcquisition
from gpu_gs.acquisition.logei import LogEI
from gpu_gs.acquisition.pool import ClosedForm
from gpu_gs.acquisition.ucb import UpperConfidenceBound
from gpu_gs.config import AcquisitionConfig
from gpu_gs.gp.posterior import PosteriorState, reasons_against_state, state_from_model
from gpu_gs.optimize.candidates import is_enumerated, optimize_acquisition, raw_samples_of
from gpu_gs.plugin.ask import current
from gpu_gs.plugin.sequence import Sequences, seed_of_run
from gpu_gs.rng import derive_seed
from gpu_gs.telemetry import stage

NEGLIGIBLE_NOISE = 1e-2
"""Noise variance, as a share of the objective's variance, up to which the incumbent is the best posterior mean.

Above it, the noisy expected improvement is used. The prior's median for the noise of a standardized objective is
exp(-4) = 0.018: noise-free objectives fall below this bound after a few observations."""

INCUMBENT_DRAWS = 64
"""Joint draws of the latent values over which the noisy expected improvement is averaged."""

CLOSED_FORMS = ("auto", "LogEI", "LogNEI", "UCB")
"""Values of ``acquisition.function`` that stand for a closed form where there is one."""

DISCRETE_OPTIMIZERS = ("optimize_acqf_discrete", "optimize_acqf_discrete_local_search")
"""Ax's optimizers, by name, of spaces without continuous coordinates: they propose no point a second time."""

OPTIMIZERS = ("optimize_acqf", "optimize_acqf_mixed", "optimize_acqf_mixed_alternating", *DISCRETE_OPTIMIZERS)
"""Ax's optimizers, by name, in whose place ours serves."""


def one_hot_groups(search_space_digest: SearchSpaceDigest) -> list[list[int]]:
    """The columns of each unordered choice that Ax has one-hot encoded, as floats between 0 and 1."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(search_space_digest.feature_names):
        parameter, infix, place = name.rpartition(OH_PARAM_INFIX)
        is_float = index not in search_space_digest.discrete_choices
        if infix and place.isdigit() and is_float and tuple(search_space_digest.bounds[index]) == (0, 1):
            groups.setdefault(parameter, []).append(index)
    return list(groups.values())


def objective_output(torch_opt_config: TorchOptConfig) -> tuple[int, float] | None:
    """The model output that is the objective and the sign that makes it one to maximize; None if there are several."""
    weights = torch_opt_config.objective_weights
    if torch_opt_config.is_moo or weights.numel() == 0:
        return None
    nonzero = weights.reshape(-1, weights.shape[-1])[0].nonzero().reshape(-1)
    if len(nonzero) != 1:
        return None
    index = int(nonzero[0])
    return index, math.copysign(1.0, float(weights.reshape(-1, weights.shape[-1])[0, index]))


def reasons_against_log_ei(
    surrogate: Surrogate,
    torch_opt_config: TorchOptConfig,
    function: str,
    chosen_by_user: bool,
    options: dict[str, Any],
) -> list[str]:
    """Why the acquisition function cannot be the closed-form LogEI; empty means go. The cheap tests come first.

    Args:
        surrogate: The fitted surrogate.
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
    if torch_opt_config.is_moo:
        reasons.append("acquisition: several objectives")
    elif objective_output(torch_opt_config) is None:
        reasons.append("acquisition: a scalarized objective")
    if torch_opt_config.outcome_constraints is not None:
        reasons.append("acquisition: outcome constraints")
    if torch_opt_config.use_learned_objective:
        reasons.append("acquisition: a learned objective")
    if options.get("prune_irrelevant_parameters", False):
        reasons.append("acquisition: simplify_parameter_changes")
    return reasons or reasons_against_state(objective_model(surrogate.model, torch_opt_config))


def objective_model(model: Model, torch_opt_config: TorchOptConfig) -> Model:
    """The one-output model of a single objective."""
    if model.num_outputs == 1:
        return model
    return subset_model(
        model=model, objective_weights=torch_opt_config.objective_weights, outcome_constraints=None
    ).model


def relative_noise(model: Any) -> float:
    """Mean observation noise variance over the variance of the training targets."""
    noise = model.likelihood.noise.detach().mean()
    return float(noise / model.train_targets.var().clamp_min(1e-12))  # one host synchronization


class BatchedAcquisition(Acquisition):
    """Ax's Acquisition whose ``optimize`` advances all restarts in one batch."""

    #: Set by the generator right after construction; ``None`` (a user's own construction) means Ax's optimizer.
    engine: AcquisitionConfig | None = None
    seed: int = 0

    def reasons_against_batched(
        self,
        search_space_digest: SearchSpaceDigest,
        linear_constraints: bool,
        optimizer_options: dict[str, Any] | None,
        candidate_set: Tensor | None,
        optimizer: str,
    ) -> list[str]:
        """Why Ax's own optimizer must do it; empty means go."""
        reasons = []
        if self.engine is None:  # constructed by somebody else than our generator
            reasons.append("optimizer: not configured")
        if candidate_set is not None:
            reasons.append("optimizer: a candidate set is given")
        if linear_constraints:
            reasons.append("optimizer: linear parameter constraints")
        if optimizer_options:
            reasons.append(f"optimizer: explicit optimizer options ({', '.join(sorted(optimizer_options))})")
        if optimizer not in OPTIMIZERS:
            reasons.append(f"optimizer: {optimizer} suits this search space or acquisition function")
        if isinstance(self.acqf, OneShotAcquisitionFunction):
            reasons.append("optimizer: a one-shot acquisition function")
        if getattr(self, "acq_function_sequence", None) is not None:
            reasons.append("optimizer: a sequence of acquisition functions")
        if self.options.get("prune_irrelevant_parameters", False):
            reasons.append("optimizer: simplify_parameter_changes")
        return reasons

    def optimize(
        self,
        n: int,
        search_space_digest: SearchSpaceDigest,
        inequality_constraints: list[tuple[Tensor, Tensor, float]] | None = None,
        equality_constraints: list[tuple[Tensor, Tensor, float]] | None = None,
        fixed_features: dict[int, float] | None = None,
        rounding_func: Callable[[Tensor], Tensor] | None = None,
        optimizer_options: dict[str, Any] | None = None,
        candidate_set: Tensor | None = None,
        sampling_strategy: Any = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Acquisition.optimize``.

        Returns:
            Candidates (n x d), their acquisition values (n), arm weights (n).
        """
        choices = mk_discrete_choices(ssd=search_space_digest, fixed_features=fixed_features)
        optimizer = determine_optimizer(
            search_space_digest=search_space_digest, discrete_choices=choices, acqf=self.acqf
        )
        reasons = self.reasons_against_batched(
            search_space_digest=search_space_digest,
            linear_constraints=bool(inequality_constraints or equality_constraints),
            optimizer_options=optimizer_options,
            candidate_set=candidate_set,
            optimizer=optimizer,
        )
        if sampling_strategy is not None:
            reasons.append("optimizer: a sampling strategy is given")
        if reasons:
            if (ask := current()) is not None:
                ask.because(reasons)
            with stage("optimize"):
                return super().optimize(
                    n=n,
                    search_space_digest=search_space_digest,
                    inequality_constraints=inequality_constraints,
                    equality_constraints=equality_constraints,
                    fixed_features=fixed_features,
                    rounding_func=rounding_func,
                    optimizer_options=optimizer_options,
                    candidate_set=candidate_set,
                    sampling_strategy=sampling_strategy,
                )
        candidates, values = self._optimize_greedily(
            n, search_space_digest, fixed_features, rounding_func, unique=optimizer in DISCRETE_OPTIMIZERS
        )
        validate_candidates(
            candidates=candidates,
            bounds=self._bounds(search_space_digest),
            discrete_choices=choices or None,
            inequality_constraints=None,
            feature_names=search_space_digest.feature_names,
            task_features=search_space_digest.task_features,
            equality_constraints=None,
        )
        if (ask := current()) is not None:
            ask.proposed.append(candidates)
        found = len(candidates)
        return candidates, values, torch.full((found,), found / n, dtype=self.dtype)

    def _bounds(self, search_space_digest: SearchSpaceDigest) -> Tensor:
        return torch.tensor(search_space_digest.bounds, dtype=self.dtype, device=self.device).T  # shape: (2, d)

    def _optimize_greedily(
        self,
        n: int,
        search_space_digest: SearchSpaceDigest,
        fixed_features: dict[int, float] | None,
        rounding_func: Callable[[Tensor], Tensor] | None,
        unique: bool,
    ) -> tuple[Tensor, Tensor]:
        """n candidates one after the other, each conditioned on those before. Returns (n x d), (n).

        Where they must be unique, points that are observed or pending are none. Of a discrete space that is enumerated
        there may be fewer than n, then or where the ask is repeated since its candidate had been tried.

        Raises:
            SearchSpaceExhausted: There is none.
        """
        assert self.engine is not None
        lower, upper = self._bounds(search_space_digest)
        fixed = dict(fixed_features or {})
        discrete = {
            index: torch.tensor(sorted(values), dtype=self.dtype, device=self.device)
            for index, values in search_space_digest.discrete_choices.items()
            if index not in fixed
        }
        one_hot = one_hot_groups(search_space_digest)
        ask = current()
        retry = ask is not None and ask.attempt > 0
        unique = unique or retry
        # The scored samples are the most promising ones only: too much alike to find something else among them.
        own_samples = retry or is_enumerated(lower, upper, discrete=discrete, one_hot=one_hot, fixed=fixed)

        def is_tried(X: Tensor) -> Tensor:
            """Which points Ax would not take: it is asked about few, and only after it has refused one."""
            if ask is None or ask.attempt == 0 or ask.is_tried is None:
                return torch.zeros(len(X), dtype=torch.bool, device=X.device)
            return torch.as_tensor(ask.is_tried(X.cpu().numpy()), device=X.device)

        memory_mb = self.engine.memory_mb if ask is None or ask.memory_mb is None else ask.memory_mb
        already_pending = self.X_pending
        candidates: list[Tensor] = []
        values: list[Tensor] = []
        for candidate in range(n):
            if candidates:
                self._condition_on(torch.stack(candidates), already_pending)
            result = optimize_acquisition(
                self._value_and_grad_function(),
                lower,
                upper,
                raw_samples=self.engine.raw_samples,
                restarts=self.engine.restarts,
                iterations=self.engine.iterations,
                seed=derive_seed(self.seed, 0, candidate, 0),
                memory_mb=memory_mb,
                bytes_per_point=self._bytes_per_point(),
                discrete=discrete or None,
                unordered=search_space_digest.categorical_features,
                one_hot=one_hot,
                fixed=fixed or None,
                anchors=self._anchors(),
                post_process=rounding_func,
                avoid=self._tried() if unique else None,
                also_avoid=is_tried,
                scored=None if own_samples else self._scored(lower, upper, discrete, one_hot, fixed, memory_mb),
            )
            if unique and result.exhausted:
                break
            candidates.append(result.x)
            values.append(torch.as_tensor(result.value, dtype=self.dtype, device=self.device))
        if n > 1:
            self._condition_on(torch.empty_like(lower).expand(0, -1), already_pending)
        if not candidates:
            raise SearchSpaceExhausted("All points of the discrete search space have been tried or are pending.")
        if len(candidates) < n:
            warnings.warn(
                f"{n} candidates were requested, but only {len(candidates)} points of the search space are left.",
                OptimizationWarning,
                stacklevel=2,
            )
        return torch.stack(candidates), torch.stack(values)

    def _scored(
        self,
        lower: Tensor,
        upper: Tensor,
        discrete: dict[int, Tensor],
        one_hot: list[list[int]],
        fixed: dict[int, float],
        memory_mb: int,
    ) -> tuple[Tensor, Tensor] | None:
        """Raw samples with their values, or None: the optimizer draws and scores its own."""
        return None

    def _tried(self) -> Tensor | None:
        """The points that are observed or pending, and the ask's own that were repetitions. shape: (k, d)"""
        known = [X for X in (self.X_observed, self.X_pending) if X is not None]
        if (ask := current()) is not None:
            known += [X.to(self.device) for X in ask.proposed]
        return torch.cat(known) if known else None

    def _bytes_per_point(self) -> int:
        """Memory for scoring one point: a few numbers for each training point and each point sampled jointly."""
        n = max((len(X) for X in self.surrogate.Xs), default=1)
        baseline = getattr(self.acqf, "X_baseline", None)
        jointly = (
            1 + (0 if baseline is None else len(baseline)) + (0 if self.X_pending is None else len(self.X_pending))
        )
        return 32 * n * jointly

    def _condition_on(self, chosen: Tensor, already_pending: Tensor | None) -> None:
        pending = chosen if already_pending is None else torch.cat([already_pending, chosen])
        self.X_pending = pending if len(pending) else None
        if not hasattr(self.acqf, "set_X_pending"):
            raise AxError(f"{type(self.acqf).__name__} cannot take pending points, so it cannot propose a batch.")
        self.acqf.set_X_pending(self.X_pending)

    def _value_and_grad_function(self) -> Any:
        return AutogradAcquisition(self.acqf)

    def _anchors(self) -> Tensor | None:
        """Some of the best observed points, around which local raw samples are drawn. shape: (k, d)"""
        if self.X_observed is None or len(self.X_observed) == 0:
            return None
        with torch.no_grad():
            posterior: Any = self._model.posterior(self.X_observed)
        mean = posterior.mean  # shape: (n, m)
        weights = self._objective_weights.reshape(-1, self._objective_weights.shape[-1])
        per_objective = mean @ weights.T  # shape: (n, number of objectives)
        top = per_objective.topk(min(3, len(mean)), dim=0).indices.reshape(-1).unique()
        return self.X_observed[top]


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


class LogEIAcquisition(BatchedAcquisition):
    """The closed-form acquisition function of one objective.

    ``LogEI``: log expected improvement over the best posterior mean, averaged over joint draws of the values at pending
    points. ``LogNEI``: over joint draws of the latent values at observed and pending points, which is what Ax's qLogNEI
    estimates too. ``UCB``: the upper confidence bound. ``auto`` takes LogEI where the noise is negligible, else LogNEI.
    Built from the posterior state alone: none of ``Acquisition.__init__``'s loops over the training data run.

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
        output = objective_output(torch_opt_config)
        assert output is not None, "reasons_against_log_ei must be empty"
        outcome, self._weight = output
        self.surrogate = surrogate
        self.options = options
        self.search_space_digest = search_space_digest
        self.n = 1
        self.num_pruned_dims = None
        self.models_used = [surrogate.model_name_by_metric]
        self.acq_function_sequence = None
        self._objective_thresholds = None
        self._full_objective_weights = torch_opt_config.objective_weights
        self._objective_weights = torch_opt_config.objective_weights
        self._config = self.engine = config or AcquisitionConfig()
        self.seed = derive_seed(strategy_seed, index, 0, attempt)
        self._model = objective_model(surrogate.model, torch_opt_config)
        self._state: PosteriorState = state_from_model(self._model)
        self._X: Tensor = surrogate.Xs[outcome]
        self.X_observed = self._X
        self._by_trial = _order_by_trial(surrogate, outcome)
        fixed = torch_opt_config.fixed_features
        self._eligible = _matching(self._X, search_space_digest.bounds, fixed)
        observed = self._state.mean_at_training_inputs() * self._weight  # shape: (n,)
        self._observed = observed.where(self._eligible, observed.new_tensor(-math.inf))
        pending = torch_opt_config.pending_observations
        given = pending is not None and len(pending[outcome]) > 0
        none = self._X[:0]
        self.X_pending = pending[outcome].to(none) if pending is not None and given else None
        self.label: str = self._config.function
        if self.label == "auto":
            self.label = "LogNEI" if relative_noise(self._model) > NEGLIGIBLE_NOISE else "LogEI"
        seed = seed_of_run(strategy_seed, index, 0 if self.X_pending is None else len(self.X_pending), attempt)
        space = (tuple(search_space_digest.bounds), tuple((fixed or {}).items()))
        self._sequences = Sequences(
            self._model,
            (self.label, self._config.beta, self._weight, space),
            seed,
            lambda: self._closed_form(derive_seed(seed, 0, 0, 0)),
            none,
        )
        self._use_pending()

    def _closed_form(self, seed: int) -> ClosedForm:
        """The function without pending points."""
        if self.label == "UCB":
            return UpperConfidenceBound(self._state, self._config.beta, self._weight)
        if self.label == "LogEI":
            return LogEI(self._state, self._observed.max() * self._weight, self._weight)
        generator = torch.Generator(device=self._observed.device).manual_seed(seed)
        state, f = self._state.draw(self._X[:0], INCUMBENT_DRAWS, generator, order=self._by_trial)
        weighted = (f * self._weight).where(self._eligible.unsqueeze(-1), f.new_tensor(-math.inf))
        return LogEI(state, weighted.amax(0) * self._weight, self._weight)

    def _pending(self) -> Tensor:
        return self._X[:0] if self.X_pending is None else self.X_pending

    def _use_pending(self) -> None:
        self._function = self._sequences.at(self._pending()).function
        self.acqf = ClosedFormFunction(self._model, self._function, self.X_pending, self._given)

    def _given(self, pending: Tensor | None) -> ClosedForm:
        return self._sequences.at(self._X[:0] if pending is None else pending).function

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
    ) -> tuple[Tensor, Tensor] | None:
        if self._config.raw_samples * self._bytes_per_point() > memory_mb * 2**20:
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
            )

        allowed = tuple((index, values.cpu().numpy().tobytes()) for index, values in discrete.items())
        key = (self._config.raw_samples, allowed, tuple(fixed.items()))
        with stage("raw_samples"):
            sequence, pool = self._sequences.with_pool(self._pending(), key, raw)
            return pool.X, sequence.function.score(pool.mean, pool.variance)

    def _bytes_per_point(self) -> int:
        draws = self._function.best.numel() if isinstance(self._function, LogEI) else 1
        return 32 * (len(self._function.state.Z) + draws)

    def _value_and_grad_function(self) -> ClosedForm:
        return self._function

    def _anchors(self) -> Tensor:
        return self._X[self._observed.topk(min(5, len(self._observed))).indices]


def _order_by_trial(surrogate: Surrogate, outcome: int) -> Tensor | None:
    """The observations of an outcome by trial, whatever the order in which they came; None if unknown. shape: (n,)

    A run that is resumed has them in another order than one that was not interrupted, and must draw the same.
    """
    for dataset in surrogate.training_data:
        if surrogate.outcomes[outcome] in dataset.outcome_names and dataset.group_indices is not None:
            return torch.argsort(dataset.group_indices.to(dataset.X.device), stable=True)
    return None


def _matching(X: Tensor, bounds: list[tuple[float, float]], fixed: dict[int, float] | None) -> Tensor:
    """Which rows of X lie in the bounds and have the fixed values; all of them if none does. shape: (n,)"""
    lower, upper = torch.tensor(bounds, dtype=X.dtype, device=X.device).T
    inside = ((lower <= X) & (upper >= X)).all(dim=-1)
    for index, value in (fixed or {}).items():
        inside &= X[:, index] == value
    return inside | ~inside.any()


__all__ = [
    "BatchedAcquisition",
    "LogEIAcquisition",
    "objective_output",
    "reasons_against_log_ei",
]

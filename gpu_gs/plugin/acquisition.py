"""Ax's Acquisition with batched optimization.

``BatchedAcquisition`` optimizes whatever BoTorch acquisition function Ax chose, all raw samples and all restarts in as
few calls as memory allows. What it cannot do goes to Ax's own optimizer, and the reasons are recorded. Where there is a
closed form, its subclasses in ``closed_form`` and ``joint`` take its place.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ax.adapter.transforms.one_hot import OH_PARAM_INFIX
from ax.core.search_space import SearchSpaceDigest
from ax.exceptions.core import AxError, SearchSpaceExhausted
from ax.generators.torch.botorch_modular.acquisition import Acquisition, determine_optimizer
from ax.generators.torch.botorch_modular.utils import validate_candidates
from ax.generators.utils import mk_discrete_choices
from botorch.acquisition.acquisition import OneShotAcquisitionFunction
from botorch.exceptions.warnings import OptimizationWarning
from torch import Tensor

from gpu_gs.acquisition.autograd import AutogradAcquisition
from gpu_gs.config import AcquisitionConfig
from gpu_gs.optimize.candidates import is_enumerated, optimize_acquisition
from gpu_gs.plugin.ask import current
from gpu_gs.rng import derive_seed
from gpu_gs.telemetry import stage
from gpu_gs.transfer import on_host, to_device

DISCRETE_OPTIMIZERS = ("optimize_acqf_discrete", "optimize_acqf_discrete_local_search")
"""Ax's optimizers, by name, of spaces without continuous coordinates: they propose no point a second time."""

OPTIMIZERS = ("optimize_acqf", "optimize_acqf_mixed", "optimize_acqf_mixed_alternating", *DISCRETE_OPTIMIZERS)
"""Ax's optimizers, by name, in whose place ours serves."""


def _on_host(constraints: list[tuple[Tensor, Tensor, float]] | None) -> list[tuple[Tensor, Tensor, float]] | None:
    """Linear constraints whose indices and coefficients are where candidates are checked."""
    if constraints is None:
        return None
    return [(on_host(indices), on_host(coefficients), rhs) for indices, coefficients, rhs in constraints]


def one_hot_groups(search_space_digest: SearchSpaceDigest) -> list[list[int]]:
    """The columns of each unordered choice that Ax has one-hot encoded, as floats between 0 and 1."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(search_space_digest.feature_names):
        parameter, infix, place = name.rpartition(OH_PARAM_INFIX)
        is_float = index not in search_space_digest.discrete_choices
        if infix and place.isdigit() and is_float and tuple(search_space_digest.bounds[index]) == (0, 1):
            groups.setdefault(parameter, []).append(index)
    return list(groups.values())


class BatchedAcquisition(Acquisition):
    """Ax's Acquisition whose ``optimize`` advances all restarts in one batch."""

    #: Set by the generator right after construction; ``None`` (a user's own construction) means Ax's optimizer.
    engine: AcquisitionConfig | None = None
    seed: int = 0

    def reasons_against_batched(
        self,
        search_space_digest: SearchSpaceDigest,
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
            n,
            search_space_digest,
            fixed_features,
            rounding_func,
            {
                "inequality_constraints": inequality_constraints,
                "equality_constraints": equality_constraints,
                "names": search_space_digest.feature_names,
            },
            unique=optimizer in DISCRETE_OPTIMIZERS,
        )
        validate_candidates(  # on the host, where they are
            candidates=candidates,
            bounds=self._bounds(search_space_digest),
            discrete_choices=choices or None,
            inequality_constraints=_on_host(inequality_constraints),
            feature_names=search_space_digest.feature_names,
            task_features=search_space_digest.task_features,
            equality_constraints=_on_host(equality_constraints),
        )
        if (ask := current()) is not None:
            ask.proposed.append(candidates)
        found = len(candidates)
        return candidates, values, torch.full((found,), found / n, dtype=self.dtype)

    def _bounds(self, search_space_digest: SearchSpaceDigest) -> Tensor:
        """Lower and upper bounds, on the host. shape: (2, d)"""
        return torch.tensor(search_space_digest.bounds, dtype=self.dtype).T

    def _optimize_greedily(
        self,
        n: int,
        search_space_digest: SearchSpaceDigest,
        fixed_features: dict[int, float] | None,
        rounding_func: Callable[[Tensor], Tensor] | None,
        linear: Mapping[str, Any],
        unique: bool,
    ) -> tuple[Tensor, Tensor]:
        """n candidates one after the other, each conditioned on those before. Returns, on the host, (n x d), (n).

        Where they must be unique, points that are observed or pending are none. Of a discrete space that is enumerated
        there may be fewer than n, then or where the ask is repeated since its candidate had been tried.

        ``linear`` holds the keyword arguments of ``optimize_acquisition`` that say what the linear constraints are.

        Raises:
            SearchSpaceExhausted: There is none.
        """
        assert self.engine is not None
        lower, upper = (to_device(bound.contiguous(), self.device) for bound in self._bounds(search_space_digest))
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

        def rounded(X: Tensor) -> Tensor:
            assert rounding_func is not None
            return to_device(rounding_func(on_host(X)), X.device)

        memory_mb = self.engine.memory_mb if ask is None or ask.memory_mb is None else ask.memory_mb
        already_pending = self.X_pending
        candidates: list[Tensor] = []
        values: list[float] = []
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
                post_process=None if rounding_func is None else rounded,
                avoid=self._tried() if unique else None,
                also_avoid=is_tried,
                scored=None if own_samples else self._scored(lower, upper, discrete, one_hot, fixed, memory_mb, linear),
                also=self._sure_starts(),
                **linear,
            )
            if unique and result.exhausted:
                break
            candidates.append(result.x)
            values.append(result.value)
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
        return torch.stack([on_host(x) for x in candidates]), torch.tensor(values, dtype=self.dtype)

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
        """Raw samples with their values, or None: the optimizer draws and scores its own."""
        return None

    def _sure_starts(self) -> Tensor | None:
        """Points from which the optimizer starts whatever their values; None: the best raw samples only. shape: (k, d)"""
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
        mean = getattr(posterior, "mixture_mean", posterior.mean)  # of an ensemble, over its members. shape: (n, m)
        weights = self._objective_weights.reshape(-1, self._objective_weights.shape[-1])
        per_objective = mean @ weights.T  # shape: (n, number of objectives)
        top = per_objective.topk(min(3, len(mean)), dim=0).indices.reshape(-1).unique()
        return self.X_observed[top]


__all__ = ["BatchedAcquisition"]

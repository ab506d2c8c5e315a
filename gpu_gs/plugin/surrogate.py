"""Ax's Surrogate with a warm-started fit, or none: hyperparameters are kept until there is a reason to refit.

``Surrogate._construct_model`` builds a BoTorch model and fits it from its default initial values; no state can be
handed in without also loading it into the fitted model's buffers. Overriding that private method is the only way
to fit from another start, so it is done here and nowhere else, and so is ``_dataset_matches_cache``, which does not know
that an ask may be on another device than the last one; ``tests/plugin/test_upstream.py`` notices when they change.

Only an ask advances what is remembered: a fit in between (for an analysis, say) starts from it but leaves it alone, so
that it cannot change the next candidate.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from ax.core.search_space import SearchSpaceDigest
from ax.generators.torch.botorch_modular.surrogate import (
    Surrogate,
    SurrogateSpec,
    submodel_input_constructor,
)
from ax.generators.torch.botorch_modular.utils import (
    ModelConfig,
    copy_model_config_with_default_values,
    fit_botorch_model,
)
from ax.generators.torch_base import TorchOptConfig
from ax.generators.types import TConfig
from botorch import settings
from botorch.exceptions.errors import UnsupportedError
from botorch.models import SingleTaskGP
from botorch.models.gpytorch import GPyTorchModel
from botorch.models.model import Model
from botorch.models.utils.assorted import validate_input_scaling
from botorch.utils.datasets import SupervisedDataset
from botorch.utils.transforms import is_fully_bayesian
from gpytorch.models import ExactGP
from linear_operator.utils.errors import NotPSDError
from torch import Tensor

from gpu_gs.acquisition.pareto import Partitions
from gpu_gs.gp.fit import (
    FitOptions,
    FitResult,
    copied_hyperparameters,
    export_hyperparameters,
    fit,
    load_hyperparameters,
)
from gpu_gs.gp.kernel_likelihood import KernelLikelihood, reasons_against_kernel_likelihood
from gpu_gs.gp.likelihood import MEMORY_MB
from gpu_gs.gp.loo import leave_one_out, leave_one_out_of, with_inverse_diagonal
from gpu_gs.gp.model import ClosedFormGP
from gpu_gs.gp.parts import reasons_against
from gpu_gs.gp.posterior import PosteriorState, build_states
from gpu_gs.gp.refit import (
    RefitMemory,
    Schedule,
    YMaps,
    after_refit,
    cold_is_due,
    reasons_by_surprise,
    reasons_to_refit,
)
from gpu_gs.plugin.ask import current
from gpu_gs.plugin.best_point import best_observed_point
from gpu_gs.plugin.sequence import forget
from gpu_gs.transfer import looking_is_cheap, on_host, read, remembered

Hyperparameters = dict[str, Any]


def model_key(outcome_names: tuple[str, ...], config: ModelConfig) -> str:
    """The name under which a submodel's hyperparameters are kept: its outcomes and its model configuration.

    ``config`` is the one given by the user (an unnamed one is told by a digest of its contents).
    """
    name = config.name or hashlib.sha256(str(config).encode()).hexdigest()[:12]
    return "|".join(outcome_names) + "@" + name


def is_exact_gp(model: Model) -> bool:
    """Whether the model has one set of hyperparameters, to be fitted by maximizing a marginal likelihood."""
    return isinstance(model, GPyTorchModel) and isinstance(model, ExactGP) and not is_fully_bayesian(model)


@contextmanager
def _numbers_only(dataset: SupervisedDataset, standardized: bool) -> Iterator[None]:
    """Has BoTorch look at training data for numbers only, and not on a device where the host has them too.

    BoTorch's advice on the scales of inputs and outcomes is then not given.

    Args:
        dataset: The data.
        standardized: Whether Ax's adapter has standardized the outcomes, by today's scale or that of the last refit.

    Raises:
        InputDataError: They are not all numbers, or a variance is negative.
    """
    data = [part for part in (dataset.X, dataset.Y, dataset.Yvar) if part is not None]
    if not looking_is_cheap(dataset.X) and all(remembered(part) for part in data):
        data = [on_host(part) for part in data]
    elif not standardized:
        yield
        return
    X, Y, *Yvar = data
    validate_input_scaling(train_X=X, train_Y=Y, train_Yvar=Yvar[0] if Yvar else None, check_nans_only=True)
    with settings.validate_input_scaling(False):
        yield


class StateCache(dict[str, tuple[PosteriorState, ...]]):
    """Posterior states by ``model_key``. Copies and pickles are empty: what is lost is factored anew."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "StateCache":
        return StateCache()

    def __reduce__(self) -> tuple[type["StateCache"], tuple[()]]:
        return StateCache, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateCache)  # what a cache holds distinguishes nobody

    __hash__ = None


class PartitionCache(Partitions):
    """The cells above the last Pareto front. Copies and pickles are empty: what is lost is cut anew."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "PartitionCache":
        return PartitionCache()

    def __reduce__(self) -> tuple[type["PartitionCache"], tuple[()]]:
        return PartitionCache, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartitionCache)  # what a cache holds distinguishes nobody

    __hash__ = None  # type: ignore[assignment]


class WarmSurrogate(Surrogate):
    """A Surrogate whose GPs keep the hyperparameters in ``warm``, or start their fit from there.

    Attributes:
        warm: Hyperparameters by ``model_key``, as of the last ask.
        remembered: What that ask knew of its refits, by ``model_key``.
        fit_options: Iteration limits.
        schedule: When to refit.
        warm_start: Whether a refit starts from ``warm``; if not, from the default.
        seed: Of the random starts of a cold refit.
        y_maps: Mean and deviation by which outcomes are standardized, by name, where they are; set before each fit.
        y_maps_today: Those that the raw outcomes have, which differ where a scale is kept; set before each fit.
        fits: The outcome of the last fit of each submodel, by ``model_key``.
        memories: What the next ask should know if the last fit was an ask's, by ``model_key``.
        diagnoses: Whether ``diagnostics`` will be asked for: a fit then keeps what they need of its last inverse.
        fit_memory_mb: Memory for a fit's evaluations in one batch, in MiB.
        partitions: The cells above the last Pareto front: a new observation that is dominated leaves them as they are.
    """

    def __init__(
        self,
        surrogate_spec: SurrogateSpec | None = None,
        refit_on_cv: bool = False,
        warm_start_refit: bool = True,
        metric_to_best_model_config: dict[str, ModelConfig] | None = None,
        warm: Mapping[str, Hyperparameters] | None = None,
        fit_options: FitOptions | None = None,
        schedule: Schedule = "adaptive",
        warm_start: bool = True,
    ) -> None:
        super().__init__(
            surrogate_spec=surrogate_spec,
            refit_on_cv=refit_on_cv,
            warm_start_refit=warm_start_refit,
            metric_to_best_model_config=metric_to_best_model_config,
        )
        self.warm: dict[str, Hyperparameters] = dict(warm or {})
        self.remembered: dict[str, RefitMemory] = {}
        self.fit_options = fit_options or FitOptions()
        self.schedule: Schedule = schedule
        self.warm_start = warm_start
        self.seed = 0
        self.y_maps: YMaps = {}
        self.y_maps_today: YMaps = {}
        self.fits: dict[str, FitResult] = {}
        self.memories: dict[str, RefitMemory] = {}
        self._asked_states = StateCache()
        self._met: dict[str, tuple[str, ...]] = {}  # the outcomes of each model that the fit in progress has met
        self.partitions = PartitionCache()
        self.diagnoses = False
        self.fit_memory_mb = MEMORY_MB

    def _serialize_attributes_as_kwargs(self) -> dict[str, Any]:
        return {
            **super()._serialize_attributes_as_kwargs(),
            "warm": self.warm,
            "fit_options": self.fit_options,
            "schedule": self.schedule,
            "warm_start": self.warm_start,
        }

    def _dataset_matches_cache(self, dataset: SupervisedDataset) -> bool:
        """See ``Surrogate._dataset_matches_cache``, which torch stops where the last ask was on another device."""
        last = self._last_datasets.get(tuple(dataset.outcome_names))  # type: ignore[arg-type]  # as below
        return (last is None or last.Y.device == dataset.Y.device) and super()._dataset_matches_cache(dataset)

    def fit(self, datasets: Sequence[SupervisedDataset], *args: Any, **kwargs: Any) -> None:
        """See ``Surrogate.fit``. What is known of models of other groups of outcomes than these is forgotten."""
        self._met = {}
        super().fit(datasets, *args, **kwargs)
        if not self._met:  # nothing was fitted: the hyperparameters were given
            return
        self.memories = {key: memory for key, memory in self.memories.items() if key in self._met}
        self.fits = {key: result for key, result in self.fits.items() if key in self._met}
        groups = set(self._met.values())
        self._submodels = {outcomes: model for outcomes, model in self._submodels.items() if outcomes in groups}

    def _construct_model(
        self,
        dataset: SupervisedDataset,
        search_space_digest: SearchSpaceDigest,
        model_config: ModelConfig,
        state_dict: Mapping[str, Tensor] | None,
        refit: bool,
    ) -> Model:
        key = model_key(tuple(dataset.outcome_names), model_config)
        standardized = all(name in self.y_maps for name in dataset.outcome_names)
        if state_dict is not None or not refit:
            with _numbers_only(dataset, standardized):
                return super()._construct_model(
                    dataset=dataset,
                    search_space_digest=search_space_digest,
                    model_config=model_config,
                    state_dict=state_dict,
                    refit=refit,
                )
        self._met[key] = tuple(dataset.outcome_names)
        if self._dataset_matches_cache(dataset=dataset):
            if key in self.fits:
                self.fits[key] = replace(self.fits[key], decision="unchanged", evaluations=0, because=())
            return self._submodels[tuple(dataset.outcome_names)]  # type: ignore[index]  # Ax's annotation is too narrow
        config = copy_model_config_with_default_values(
            model_config=model_config,
            dataset=dataset,
            search_space_digest=search_space_digest,
        )
        inputs = submodel_input_constructor(
            config.botorch_model_class,
            model_config=config,
            dataset=dataset,
            search_space_digest=search_space_digest,
            surrogate=self,
        )
        assert config.botorch_model_class is not None  # copy_model_config_with_default_values chose one
        # The same model with a faster posterior; a class that is the user's own stays.
        plain = config.botorch_model_class is SingleTaskGP
        if current() is not None:
            self._free_earlier(tuple(dataset.outcome_names))
        with _numbers_only(dataset, standardized):
            model: Model = (ClosedFormGP if plain else config.botorch_model_class)(**inputs)
        if not is_exact_gp(model):
            fit_botorch_model(model, mll_class=config.mll_class, mll_options=config.mll_options)
            return model
        self._fit_or_keep(model, config, key, dataset)
        return model

    def _free_earlier(self, outcomes: tuple[str, ...]) -> None:
        """Frees the n x n matrices of the last ask's models: their cycles of references would hold them much longer."""
        for model in (self._model, self._submodels.get(outcomes)):  # type: ignore[arg-type]  # as above
            if model is not None:
                forget(model)
            if isinstance(model, ClosedFormGP):
                model.free_states()

    def _fit_or_keep(self, model: Model, config: ModelConfig, key: str, dataset: SupervisedDataset) -> None:
        """Gives the model the last ask's hyperparameters, or fitted ones if there is a reason."""
        n, memory = len(dataset.Y), self.remembered.get(key)
        maps, today = (
            {name: of[name] for name in dataset.outcome_names if name in of} for of in (self.y_maps, self.y_maps_today)
        )
        default = copied_hyperparameters(model)
        reasons = reasons_to_refit(self.schedule, memory, n, today)
        keepable = True
        if not reasons:
            assert memory is not None
            reasons, keepable = self._keep(model, key, memory, dataset)
        if not reasons:
            assert memory is not None
            self.memories[key] = memory.after_keeping(n, today)
            self.fits[key] = FitResult("kept", "none", 0, float("nan"), float("nan"))
            return
        if current() is not None:
            self._asked_states.pop(key, None)  # a fit needs the memory
        load_hyperparameters(model, default)
        cold = self.warm_start and cold_is_due(memory, n)
        result = fit(
            model,
            config.mll_class,
            config.mll_options,
            warm=self.warm.get(key) if self.warm_start else None,
            options=self.fit_options,
            cold_seed=self.seed if cold else None,
            curvature="" if memory is None else memory.curvature,
            record_inverse_diagonal=self.diagnoses,
            memory_mb=self.fit_memory_mb,
        )
        self.fits[key] = replace(result, because=tuple(reasons), inverse_diagonal=None)
        diagonals = result.inverse_diagonal
        if isinstance(model, ClosedFormGP) and diagonals is not None and (states := model.posterior_states):
            known = zip(states, diagonals, strict=True)
            model.use_states(tuple(replace(state, inverse_diagonal=diagonal) for state, diagonal in known))
        self.memories[key] = after_refit(
            memory,
            n,
            maps if keepable else {},  # else the next ask takes the scale of the day
            today,
            cold=result.decision != "warm",
            converged=result.converged,
            at_bound=result.at_bound,
            curvature=result.curvature,
        )

    def _keep(self, model: Model, key: str, memory: RefitMemory, dataset: SupervisedDataset) -> tuple[list[str], bool]:
        """Gives the model the last ask's hyperparameters, if it then believes its newest rows.

        With a closed form its posterior states are those of the last ask with rows appended, where the old rows have not
        changed; else factored anew.

        Returns:
            Why the hyperparameters are not kept after all, and whether they could be, surprises aside.
        """
        if type(dataset) is not SupervisedDataset:
            return [f"a {type(dataset).__name__} does not say which rows are new"], False
        if problems := load_hyperparameters(model, self.warm.get(key, {})):
            return problems, False
        closed = isinstance(model, ClosedFormGP) and not reasons_against(model)
        if not closed and (reasons := reasons_against_kernel_likelihood(model)):
            return reasons, False
        try:
            if isinstance(model, ClosedFormGP) and closed:
                model.eval()
                states = build_states(model, self._asked_states.get(key, ()))
                innovations = torch.stack([state.innovations() for state in states])
            else:
                innovations = KernelLikelihood(model).innovations()
        except NotPSDError:
            return ["the covariance matrix does not factor"], False
        newest = innovations[:, memory.judged :].abs()
        largest = float(newest.max()) if newest.numel() else 0.0  # one host synchronization
        if surprises := reasons_by_surprise(self.schedule, memory, len(dataset.Y), largest):
            return surprises, True
        model.eval()
        if isinstance(model, ClosedFormGP) and closed:
            model.use_states(states)
            if current() is not None:
                self._asked_states.pop(key, None)  # until ``commit``: the present ones hold what they held
        return [], True

    def best_in_sample_point(
        self, search_space_digest: SearchSpaceDigest, torch_opt_config: TorchOptConfig, options: TConfig | None = None
    ) -> tuple[Tensor, float]:
        """See ``Surrogate.best_in_sample_point``; without samples where outcome constraints have a closed form."""
        found = None if options else best_observed_point(self, search_space_digest, torch_opt_config)
        if found is not None:
            return found
        return super().best_in_sample_point(search_space_digest, torch_opt_config, options)

    def diagnostics(self) -> dict[str, dict[str, float]]:
        """Leave-one-out summaries of the fitted submodels by outcome, in standardized units; exact GPs only."""
        found: dict[str, dict[str, float]] = {}
        for outcomes, model in self._submodels.items():
            if not is_exact_gp(model):
                continue
            if isinstance(model, ClosedFormGP) and model.posterior_states is not None:
                states = tuple(with_inverse_diagonal(state) for state in model.posterior_states)
                model.use_states(states)  # which the next ask extends
                summaries = [leave_one_out(state) for state in states]
            else:
                try:
                    summaries = leave_one_out_of(model)
                except (UnsupportedError, NotPSDError):
                    continue
            found |= {name: one.summary() for name, one in zip(outcomes, summaries, strict=False)}
        return found

    def commit(self) -> None:
        """Keeps the posterior states of the models as they are: the ask that used them has ended well."""
        self._asked_states = StateCache()
        for outcomes, model in self._submodels.items():
            config = self.metric_to_best_model_config.get(outcomes[0])
            if config is not None and isinstance(model, ClosedFormGP) and model.states_if_built is not None:
                self._asked_states[model_key(outcomes, config)] = model.states_if_built

    def export_warm(self) -> dict[str, Hyperparameters]:
        """The hyperparameters of the fitted submodels, exact and ready for JSON."""
        exported = {}
        for outcomes, model in self._submodels.items():
            config = self.metric_to_best_model_config.get(outcomes[0])
            key = None if config is None else model_key(outcomes, config)
            if key is not None and key in self.fits:
                kept = self.fits[key].decision == "kept"
                exported[key] = self.warm[key] if kept and key in self.warm else export_hyperparameters(model)
        return exported

    def predict(self, X: Tensor, use_posterior_predictive: bool = False) -> tuple[Tensor, Tensor]:
        """See ``Surrogate.predict``; on a GPU closed forms are read back at once."""
        models: list[Any] = list(getattr(self.model, "models", [self.model]))
        closed = all(isinstance(model, ClosedFormGP) and model.posterior_states is not None for model in models)
        if looking_is_cheap(X) or use_posterior_predictive or not closed:
            return super().predict(X, use_posterior_predictive)
        with torch.no_grad():
            moments = [state.mean_and_variance(X) for model in models for state in model.posterior_states]
            mean, variance = (torch.stack(parts, -1) for parts in zip(*moments, strict=True))
        mean, variance = read((mean, variance))
        return mean, torch.diag_embed(variance)

"""The adapter: TorchAdapter that takes in what is new, times its stages, follows the ask's device and leaves the best
point out of an ask.

``GeneratorSpec.fit`` calls ``_process_and_transform_data`` and hands its results to ``_fit``. When the experiment has
only grown since the last fit, the results are a ``LazyExperimentData`` over a ``Table`` (see ``data.py``); else they
are Ax's, made as a fresh adapter would make them, and ``_fit`` starts a new table from them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from ax.adapter.adapter_utils import extract_search_space_digest
from ax.adapter.base import GenResults, clamp_observation_features
from ax.adapter.data_utils import DataLoaderConfig
from ax.adapter.torch import TorchAdapter
from ax.adapter.transforms.base import Transform
from ax.core.arm import Arm
from ax.core.data import Data
from ax.core.data_utils import ExperimentData, extract_experiment_data
from ax.core.experiment import Experiment
from ax.core.observation import ObservationFeatures
from ax.core.optimization_config import OptimizationConfig, PreferenceOptimizationConfig
from ax.core.search_space import SearchSpace, SearchSpaceDigest
from ax.generators.torch_base import TorchGenerator, TorchOptConfig
from ax.generators.types import TConfig

from gpu_gs.plugin.ask import current
from gpu_gs.plugin.data import (
    FloatArray,
    NotIncremental,
    Snapshot,
    Table,
    TrainingData,
    reasons_against_table,
)
from gpu_gs.plugin.kept_scale import StandardizeY, with_kept_scale
from gpu_gs.plugin.observations import FastExperimentData, LazyExperimentData, only_metrics
from gpu_gs.plugin.sums import for_outcomes, has_sums, with_whole_sums
from gpu_gs.plugin.transforms import encode, reasons_against_transforms, transformed_outcomes
from gpu_gs.telemetry import stage
from gpu_gs.transfer import on_host, to_device


class WarmTorchAdapter(TorchAdapter):
    """Lives from ask to ask; whatever is stored of it names no device. See ``TorchAdapter`` for the arguments.

    Attributes:
        _fitted: What the generator was last fitted to; None if a table cannot hold it.
        _unfit: Why there is no ``_fitted``.
        _fitted_space: The transformed search space of that fit.
        _fitted_kinds: The transforms and their configurations at that fit.
        _source: The experiment of the last data.
        _overridden: Whether the last data were given beside the experiment.
    """

    def __init__(
        self,
        *,
        experiment: Experiment,
        generator: TorchGenerator,
        search_space: SearchSpace | None = None,
        data: Data | None = None,
        transforms: Sequence[type[Transform]] | None = None,
        transform_configs: Mapping[str, TConfig] | None = None,
        optimization_config: OptimizationConfig | None = None,
        expand_model_space: bool = True,
        fit_tracking_metrics: bool = True,
        fit_on_init: bool = True,
        default_model_gen_options: TConfig | None = None,
        torch_device: torch.device | None = None,
        data_loader_config: DataLoaderConfig | None = None,
    ) -> None:
        self._fitted: TrainingData | None = None
        self._unfit: list[str] = []
        self._fitted_space: SearchSpace | None = None
        self._fitted_kinds: tuple[Any, ...] = ()
        self._source = experiment
        self._overridden = data is not None and data is not experiment.data
        self._given_search_space = search_space
        self._given_optimization_config = optimization_config
        self._expand_model_space = expand_model_space
        super().__init__(
            experiment=experiment,
            generator=generator,
            search_space=search_space,
            data=data,
            transforms=transforms,
            transform_configs=transform_configs,
            optimization_config=optimization_config,
            expand_model_space=expand_model_space,
            fit_tracking_metrics=fit_tracking_metrics,
            fit_on_init=fit_on_init,
            default_model_gen_options=default_model_gen_options,
            torch_device=torch_device,
            data_loader_config=data_loader_config,
        )

    # ------------------------------------------------------------------ data

    def _process_and_transform_data(
        self, experiment: Experiment, data: Data | None = None
    ) -> tuple[ExperimentData, SearchSpace]:
        """See ``Adapter._process_and_transform_data``."""
        self._source = experiment
        self._overridden = data is not None and data is not experiment.data
        reasons = self._reasons_against_increment(experiment)
        if not reasons:
            try:
                return self._increment(experiment)
            except NotIncremental as error:
                reasons = error.reasons
        if (ask := current()) is not None:
            ask.because([f"data: {reason}" for reason in reasons])
        return self._anew(experiment, data)

    def _reasons_against_increment(self, experiment: Experiment) -> list[str]:
        """Why the last fit is nothing to build on; empty means that what is new can be added."""
        if self._overridden:
            return ["the data were given with the ask"]
        if experiment is not self._experiment:
            return ["the experiment is another object"]
        if self._fitted is None or self._fitted_space is None:
            return self._unfit or ["nothing was fitted to all data of the experiment yet"]
        if self._fitted_kinds != self._kinds():
            return ["the transforms were changed"]
        if not _same_space(self._search_space_of(experiment), self._search_space):
            return ["the search space was changed"]
        if self._optimization_config_of(experiment) is not self._optimization_config:
            return ["the optimization config was changed"]
        return self._reasons_against_table(experiment)

    def _reasons_against_table(self, experiment: Experiment) -> list[str]:
        return reasons_against_transforms(self._raw_transforms) + reasons_against_table(
            experiment=experiment,
            optimization_config=self._optimization_config,
            model_space=self._model_space,
            loader=self._data_loader_config,
        )

    def _increment(self, experiment: Experiment) -> tuple[ExperimentData, SearchSpace]:
        """The data of the last fit with what is new.

        Raises:
            NotIncremental: Something was changed, not added. The adapter is as it was.
        """
        assert self._fitted is not None
        assert self._fitted_space is not None
        table = self._fitted.table.advanced(
            Snapshot.of(experiment), self._data_loader_config.statuses_to_fit, self._encode
        )
        with stage("transform"):
            training, made = self._training_data_of(table)
        self.transforms.update(made)
        self._training_data = LazyExperimentData(training, self._data_loader_config)
        self._training_in_design_idx = [True] * len(table.row_of)
        self._metric_signatures = set(table.signatures)
        self._status_quo, self._status_quo_name = None, None
        return (
            LazyExperimentData(training, self._data_loader_config, list(self.transforms.values())),
            self._fitted_space,
        )

    def _encode(self, arms: list[tuple[int, Arm]]) -> FloatArray:
        return encode(arms, self.transforms, self._model_space, self.parameters)

    def _training_data_of(self, table: Table) -> tuple[TrainingData, dict[str, Transform]]:
        with self._config_for_outcomes():
            transforms = with_kept_scale(self._raw_transforms)
            mean, sem, made = transformed_outcomes(table, transforms, self._transform_configs, self)
        outcomes = sorted(table.signatures)
        if not self._fit_tracking_metrics:
            assert self._optimization_config is not None  # checked at construction
            outcomes = sorted(self._optimization_config.metric_names)
            if missing := set(outcomes).difference(table.signatures):
                raise NotIncremental(f"there are no data for {', '.join(sorted(missing))}")
        return TrainingData(table=table, outcomes=outcomes, mean=mean, sem=sem), made

    def _anew(self, experiment: Experiment, data: Data | None) -> tuple[ExperimentData, SearchSpace]:
        """What a fresh adapter does with the data.

        ``Adapter._process_and_transform_data`` expands the model space only after the search space has changed, and
        keeps the optimization config of its construction; a fresh adapter does neither.
        """
        self._fitted, self._unfit = None, ["the last pass over the data was not completed"]  # until ``_begin_table``
        config = self._optimization_config_of(experiment)
        if config is not self._optimization_config:
            self._optimization_config = config
            self._last_experiment_data = None  # other outcomes may be wanted of the same data
            self.is_moo_problem = config is not None and config.is_moo_problem
            if isinstance(config, PreferenceOptimizationConfig):
                self.preference_profile_name = config.preference_profile_name
        if not self._fit_tracking_metrics and self._optimization_config is not None:
            self.outcomes = sorted(self._optimization_config.metric_names)
        experiment_data = extract_experiment_data(
            experiment=experiment, data_loader_config=self._data_loader_config, data=data
        )
        self._set_search_space(self._search_space_of(experiment))
        if self._expand_model_space:
            self._set_model_space(arm_data=experiment_data.arm_data)
        experiment_data = self._set_and_filter_training_data(
            experiment_data=experiment_data, search_space=self._model_space
        )
        self._set_status_quo(experiment=experiment)
        return self._transform_data(
            experiment_data=experiment_data,
            search_space=self._model_space,
            transforms=self._raw_transforms,
            transform_configs=self._transform_configs,
        )

    def _search_space_of(self, experiment: Experiment) -> SearchSpace:
        return self._given_search_space or experiment.search_space

    def _optimization_config_of(self, experiment: Experiment) -> OptimizationConfig | None:
        return self._given_optimization_config or experiment.optimization_config

    def _kinds(self) -> tuple[Any, ...]:
        return tuple(self._raw_transforms), repr(dict(self._transform_configs))

    def _transform_data(
        self,
        experiment_data: ExperimentData,
        search_space: SearchSpace,
        transforms: Sequence[type[Transform]] | None,
        transform_configs: Mapping[str, TConfig],
        assign_transforms: bool = True,
    ) -> tuple[ExperimentData, SearchSpace]:
        """See ``Adapter._transform_data``; where it is for a fit to all data, outcomes may keep their scale."""
        if transforms is not None and assign_transforms:
            transforms = with_kept_scale(transforms)
        with stage("transform"), self._config_for_outcomes():
            return super()._transform_data(
                experiment_data=experiment_data,
                search_space=search_space,
                transforms=transforms,
                transform_configs=transform_configs,
                assign_transforms=assign_transforms,
            )

    @contextmanager
    def _config_for_outcomes(self) -> Iterator[None]:
        """The optimization config that transforms of outcomes find; see ``sums``."""
        config = self._optimization_config
        self._optimization_config = for_outcomes(config)
        try:
            yield
        finally:
            self._optimization_config = config

    # ------------------------------------------------------------------ fit

    def _fit(self, search_space: SearchSpace, experiment_data: ExperimentData, **kwargs: Any) -> None:
        if (ask := current()) is not None:
            device = torch.device(ask.decision.device)
            if self.device != device:
                self.device = device
                self._last_experiment_data = None  # a model on another device is no fit for the same data
        standardized = self.transforms.get(StandardizeY.__name__)
        generator: Any = self.generator
        generator.y_maps, generator.y_maps_today = (
            (standardized.y_maps, standardized.today) if isinstance(standardized, StandardizeY) else ({}, {})
        )
        with stage("fit"):
            try:
                if isinstance(experiment_data, LazyExperimentData):
                    self._fit_table(search_space, experiment_data, **kwargs)
                else:
                    if self._fitted_space is not None and not _same_space(self._fitted_space, search_space):
                        self._last_experiment_data = None  # the model normalizes features by their bounds
                    super()._fit(search_space=search_space, experiment_data=experiment_data, **kwargs)
                    self._begin_table(search_space, experiment_data)
            except BaseException:
                self._last_experiment_data = None  # else the next ask would take these data for fitted
                raise

    def _fit_table(self, search_space: SearchSpace, experiment_data: LazyExperimentData, **kwargs: Any) -> None:
        """``TorchAdapter._fit`` for a table."""
        training = experiment_data.training
        unchanged = self._last_experiment_data is not None and training.equals(self._fitted)
        self._fitted = training
        if unchanged:
            return
        datasets, candidate_metadata = training.datasets(self.parameters, self.device)
        self.generator.fit(
            datasets=datasets,
            search_space_digest=extract_search_space_digest(search_space, self.parameters),
            candidate_metadata=candidate_metadata,
            **kwargs,
        )
        self.outcomes = list(training.outcomes)
        self._last_experiment_data = experiment_data

    def _begin_table(self, search_space: SearchSpace, experiment_data: ExperimentData) -> None:
        """Starts a table from what Ax made of the data, or says in ``_unfit`` why there is none."""
        self._fitted, self._fitted_space, self._fitted_kinds = None, search_space, self._kinds()
        if self._source is not self._experiment or self._overridden:
            self._unfit = ["the last fit was to other data than the experiment's"]
            return
        self._unfit = self._reasons_against_table(self._experiment)
        if not self.transforms:
            self._unfit.append("the data were transformed elsewhere")
        if not all(self._training_in_design_idx):
            self._unfit.append("points lie outside of the search space")
        if self._unfit:
            return
        try:
            self._fitted = self._table_of(experiment_data)
        except NotIncremental as error:
            self._unfit = error.reasons

    def _table_of(self, experiment_data: ExperimentData) -> TrainingData:
        """The table of what Ax extracted and transformed.

        Raises:
            NotIncremental: A table cannot hold these data.
        """
        arms, observed = experiment_data.arm_data, experiment_data.observation_data
        if elsewhere := set(self.parameters).difference(arms.columns):  # the progression of a learning curve
            raise NotIncremental(f"{', '.join(sorted(elsewhere))} is no parameter of an arm")
        features = arms[self.parameters].to_numpy(dtype=float)
        trials = arms.index.get_level_values("trial_index").to_numpy()

        def made_by_ax(new: list[tuple[int, Arm]]) -> FloatArray:
            if [index for index, _ in new] != trials.tolist():
                raise NotIncremental("Ax leaves trials out")
            (last,) = self._encode(new[-1:])
            if not np.allclose(last, features[-1], rtol=1e-9, atol=1e-12):
                raise NotIncremental("Ax transforms a frame and a point differently")
            return features

        table = Table.empty(features.shape[1]).advanced(
            Snapshot.of(self._experiment), self._data_loader_config.statuses_to_fit, made_by_ax
        )
        if not len(table.row_of) or not np.array_equal(observed.index.get_level_values("trial_index"), trials):
            raise NotIncremental("Ax orders observations differently")
        names = list(table.signatures)
        return TrainingData(
            table=table,
            outcomes=sorted(self.outcomes),
            mean=observed["mean"][names].to_numpy(dtype=float),
            sem=observed["sem"][names].to_numpy(dtype=float),
        )

    # ------------------------------------------------------------------ candidates

    def _get_transformed_gen_args(
        self,
        search_space: SearchSpace,
        optimization_config: OptimizationConfig | None = None,
        pending_observations: dict[str, list[ObservationFeatures]] | None = None,
        fixed_features: ObservationFeatures | None = None,
    ) -> Any:
        """See ``Adapter._get_transformed_gen_args``; relative sums become absolute ones there."""
        config = optimization_config or self._optimization_config
        with stage("setup"):
            return super()._get_transformed_gen_args(
                search_space=search_space,
                optimization_config=with_whole_sums(config) if has_sums(config) else optimization_config,
                pending_observations=pending_observations,
                fixed_features=fixed_features,
            )

    def _get_transformed_model_gen_args(
        self,
        search_space: SearchSpace,
        pending_observations: dict[str, list[ObservationFeatures]],
        fixed_features: ObservationFeatures | None,
        model_gen_options: TConfig | None = None,
        optimization_config: OptimizationConfig | None = None,
    ) -> tuple[SearchSpaceDigest, TorchOptConfig]:
        """See ``TorchAdapter._get_transformed_model_gen_args``; transforms make plain constraints of sums."""
        return super()._get_transformed_model_gen_args(
            search_space=search_space,
            pending_observations=pending_observations,
            fixed_features=fixed_features,
            model_gen_options=model_gen_options,
            optimization_config=with_whole_sums(optimization_config),
        )

    def _gen(  # type: ignore[override]  # the base class names them in another order, as TorchAdapter does
        self,
        n: int,
        search_space: SearchSpace,
        pending_observations: dict[str, list[ObservationFeatures]],
        fixed_features: ObservationFeatures | None,
        model_gen_options: TConfig | None = None,
        optimization_config: OptimizationConfig | None = None,
    ) -> GenResults:
        """See ``TorchAdapter._gen``, which always computes the best point; here only a user's question does."""
        generator: Any = self.generator
        generator._suppress_best_point = True
        if (ask := current()) is not None:
            ask.is_tried = self.is_tried
        try:
            with stage("setup"):
                return super()._gen(
                    n=n,
                    search_space=search_space,
                    pending_observations=pending_observations,
                    fixed_features=fixed_features,
                    model_gen_options=model_gen_options,
                    optimization_config=optimization_config,
                )
        finally:
            generator._suppress_best_point = False

    def _array_to_tensor(self, array: FloatArray | list[float]) -> torch.Tensor:
        """See ``TorchAdapter._array_to_tensor``; the host remembers what it brings to a device."""
        return to_device(torch.as_tensor(array, dtype=torch.double), self.device)

    def _array_callable_to_tensor_callable(
        self, array_func: Callable[[FloatArray], FloatArray]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """See ``TorchAdapter._array_callable_to_tensor_callable``; what it returns is where its argument is."""
        if self.device is None or self.device.type == "cpu":
            return super()._array_callable_to_tensor_callable(array_func)

        def of_tensor(X: torch.Tensor) -> torch.Tensor:
            array = array_func(on_host(X.detach()).clone().numpy())
            return to_device(torch.as_tensor(array, dtype=torch.double), X.device)

        return of_tensor

    def is_tried(self, X: FloatArray) -> Any:
        """Which points, as the model sees them, are arms that Ax would take for repetitions.

        Two points may be one arm: they differ in parameters that others make inactive, or by less than is rounded.

        Args:
            X: The points. # shape: (k, d)

        Returns:
            A truth value for each. # shape: (k,)
        """
        features = [ObservationFeatures(parameters=dict(zip(self.parameters, row, strict=True))) for row in X.tolist()]
        for transform in reversed(list(self.transforms.values())):
            features = transform.untransform_observation_features(features)
        features = clamp_observation_features(features, self._search_space)
        known = self._source.arms_by_signature_for_deduplication
        return np.array([Arm(parameters=feature.parameters).signature in known for feature in features], dtype=bool)

    def _set_and_filter_training_data(
        self, experiment_data: ExperimentData, search_space: SearchSpace
    ) -> ExperimentData:
        """See ``Adapter._set_and_filter_training_data``; the transforms get the data of all metrics."""
        modelled = super()._set_and_filter_training_data(experiment_data=experiment_data, search_space=search_space)
        return modelled if self._fit_tracking_metrics else super().get_training_data(filter_in_design=True)

    def get_training_data(self, filter_in_design: bool = False) -> ExperimentData:
        """See ``Adapter.get_training_data``; converts to observations by columns instead of by rows.

        It holds the metrics that are modelled: ``compute_diagnostics`` and plots look for a prediction of each.
        """
        data = super().get_training_data(filter_in_design=filter_in_design)
        return FastExperimentData.of(data if self._fit_tracking_metrics else only_metrics(data, self.outcomes))


def _same_space(one: SearchSpace, other: SearchSpace) -> bool:
    """Ax's ``==`` compares numbers to a tolerance of 1e-5; a representation shows all digits."""
    return one == other and repr(one) == repr(other)

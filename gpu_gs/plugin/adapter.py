"""The adapter: TorchAdapter that times its stages, follows the ask's device and leaves the best point out of an ask."""

from typing import Any

import torch
from ax.adapter.base import GenResults
from ax.adapter.torch import TorchAdapter
from ax.core.data_utils import ExperimentData
from ax.core.observation import ObservationFeatures
from ax.core.optimization_config import OptimizationConfig
from ax.core.search_space import SearchSpace
from ax.generators.types import TConfig

from gpu_gs.plugin.ask import current
from gpu_gs.plugin.observations import FastExperimentData
from gpu_gs.telemetry import stage


class WarmTorchAdapter(TorchAdapter):
    """Lives from ask to ask; whatever is stored of it names no device."""

    def _transform_data(self, *args: Any, **kwargs: Any) -> tuple[ExperimentData, SearchSpace]:
        with stage("transform"):
            return super()._transform_data(*args, **kwargs)

    def _fit(self, search_space: SearchSpace, experiment_data: ExperimentData, **kwargs: Any) -> None:
        if (ask := current()) is not None:
            device = torch.device(ask.decision.device)
            if self.device != device:
                self.device = device
                self._last_experiment_data = None  # a model on another device is no fit for the same data
        standardized: Any = self.transforms.get("StandardizeY")
        generator: Any = self.generator
        generator.y_maps = (
            {}
            if standardized is None
            else {name: (float(mean), float(standardized.Ystd[name])) for name, mean in standardized.Ymean.items()}
        )
        with stage("fit"):
            super()._fit(search_space=search_space, experiment_data=experiment_data, **kwargs)

    def _get_transformed_gen_args(self, *args: Any, **kwargs: Any) -> Any:
        with stage("setup"):
            return super()._get_transformed_gen_args(*args, **kwargs)

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

    def get_training_data(self, filter_in_design: bool = False) -> ExperimentData:
        """See ``Adapter.get_training_data``; converts to observations by columns instead of by rows."""
        return FastExperimentData.of(super().get_training_data(filter_in_design=filter_in_design))

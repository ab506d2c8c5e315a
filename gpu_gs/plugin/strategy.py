"""The strategy: Ax's own center, Sobol and model nodes, the last of them ours."""

import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from ax.adapter.base import Adapter
from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
from ax.api.utils.structs import GenerationStrategyDispatchStruct
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.core.observation import ObservationFeatures
from ax.generation_strategy.generation_strategy import GenerationStrategy

from gpu_gs.config import StrategyConfig
from gpu_gs.device import check, prepare
from gpu_gs.plugin.accelerate import replace_model_nodes
from gpu_gs.plugin.node import GPUGenerationNode
from gpu_gs.plugin.pending import pending_observations
from gpu_gs.plugin.settings import EngineSettings
from gpu_gs.plugin.timings import METADATA_KEY, add_strategy_time
from gpu_gs.rng import derive_seed, fresh_seed, guest, isolated


class GPUGenerationStrategy(GenerationStrategy):
    """A GenerationStrategy whose model node is a ``GPUGenerationNode``.

    It has no attributes of its own: Ax's storage rebuilds it as a plain ``GenerationStrategy`` of the same nodes,
    which proposes the same candidates.
    """

    @classmethod
    def from_config(
        cls, source: str | Path | Mapping[str, Any] | StrategyConfig = "fast", /, **overrides: Any
    ) -> GenerationStrategy:
        """Builds the strategy that a configuration describes.

        Args:
            source: A preset's name (``gpu-gs presets`` lists them), a YAML file, a mapping or a ``StrategyConfig``.
            **overrides: Settings over those of ``source``: ``device="cuda"``, ``acquisition={"restarts": 8}``.

        Returns:
            A ``GPUGenerationStrategy``; for ``engine: ax`` (the preset ``reference``), Ax's own strategy.

        Raises:
            ConfigError: The configuration is wrong; every problem is listed.
            DeviceUnavailableError: ``device: cuda`` on a machine without CUDA.
        """
        config = StrategyConfig.load(source, **overrides)
        seed = fresh_seed() if config.seed is None else config.seed
        settings = EngineSettings.from_strategy_config(config, seed=seed)
        check(settings.policy)
        initialization = config.initialization
        stock = choose_generation_strategy(
            struct=GenerationStrategyDispatchStruct(
                method="fast",
                initialization_budget=initialization.budget,
                initialization_random_seed=_sobol_seed(seed),
                initialize_with_center=initialization.center,
                use_existing_trials_for_initialization=initialization.use_existing_trials,
                min_observed_initialization_trials=initialization.min_observed,
                allow_exceeding_initialization_budget=initialization.allow_exceeding_budget,
                torch_device=None if config.engine == "gpu_gs" or config.device == "auto" else config.device,
                simplify_parameter_changes=config.simplify_parameter_changes,
            )
        )
        model_node = stock._nodes[-1]
        model_node.should_deduplicate = config.deduplicate
        modelled = config.fit_tracking_metrics
        if not (config.engine == "ax" if modelled is None else modelled):
            model_node.generator_spec.generator_kwargs["fit_tracking_metrics"] = False
        if config.engine == "ax":
            return stock
        replace_model_nodes(stock, settings)
        return cls(nodes=stock._nodes, name=f"gpu_gs:{config.name or 'custom'}")

    def gen(
        self,
        experiment: Experiment,
        data: Data | None = None,
        n: int | None = None,
        fixed_features: ObservationFeatures | None = None,
        num_trials: int = 1,
    ) -> list[list[GeneratorRun]]:
        """See ``GenerationStrategy.gen``. Records each ask's time and leaves the process's random state alone."""
        for node in self._nodes:
            if isinstance(node, GPUGenerationNode):
                prepare(node.settings.policy)  # once for a machine; no part of an ask's time
        started = time.perf_counter()
        with guest(), isolated(self._seed_of(experiment)):
            runs_of_trials = self._gen_as_ax(experiment, data, n, fixed_features, num_trials)
        seconds = time.perf_counter() - started
        runs = [run for runs in runs_of_trials for run in runs]
        records = [self._record(run) for run in runs]
        own = seconds - sum(record["total"] for record in records)
        for record in records:
            add_strategy_time(record, own / len(records))
        return runs_of_trials

    def _gen_as_ax(
        self,
        experiment: Experiment,
        data: Data | None,
        n: int | None,
        fixed_features: ObservationFeatures | None,
        num_trials: int,
    ) -> list[list[GeneratorRun]]:
        """The body of ``GenerationStrategy.gen``, with our extraction of pending observations."""
        self.experiment = experiment
        pending = pending_observations(experiment) or {}
        if num_trials > 1:
            limit = self._curr.new_trial_limit(raise_generation_errors=False)
            if limit != -1:
                num_trials = min(num_trials, limit)
        return [
            self._gen_with_multiple_nodes(
                experiment=experiment,
                data=data,
                n=n,
                pending_observations=pending,
                fixed_features=fixed_features,
                first_generation_in_multi=trial == 0,
            )
            for trial in range(max(num_trials, 1))
        ]

    @property
    def adapter(self) -> Adapter | None:
        """The current node's adapter; after a load, which keeps no models, ours is fitted when somebody asks for it.

        Ax's generator runs carry the best point of their time instead, which an ask of ours does not compute. The fit
        starts from the hyperparameters of the last ask and does not change the next candidate.
        """
        node = self._curr
        loaded = isinstance(node, GPUGenerationNode) and node._fitted_adapter is None and self._experiment is not None
        if loaded and any(run._generation_node_name == node.name for run in self._generator_runs):
            node._fit(experiment=self.experiment)
        return node._fitted_adapter

    def clone_reset(self) -> "GPUGenerationStrategy":
        """A strategy like this one that has not generated anything; a seed that was drawn is drawn anew."""
        fitted = [spec._fitted_adapter for node in self._nodes for spec in node.generator_specs]
        # What is not to be copied: the fitted adapters, and the way back to this strategy with its experiment.
        memo: dict[int, Any] = {id(adapter): None for adapter in fitted if adapter is not None}
        memo[id(self)] = None
        nodes = deepcopy(self._nodes, memo)
        seeds = [node.settings for node in nodes if isinstance(node, GPUGenerationNode)]
        new_seed = fresh_seed() if any(settings.seed_source == "entropy" for settings in seeds) else None
        for node in nodes:
            node._generation_strategy = None
            node._previous_node_name = None
            node._should_skip = False
            node._trials_from_node_cache = set()
            node._cached_trial_count = None
            for spec in node.generator_specs:
                spec._last_fit_arg_ids = None
                if new_seed is None:
                    continue
                if isinstance(node, GPUGenerationNode):
                    settings = node.settings.model_copy(update={"seed": new_seed})
                    spec.generator_kwargs["settings"] = settings.to_stored()
                elif spec.generator_kwargs.get("seed") is not None:
                    spec.generator_kwargs["seed"] = _sobol_seed(new_seed)
        return type(self)(nodes=nodes, name=self.name)

    def _seed_of(self, experiment: Experiment) -> int:
        """For what Ax draws outside of the model node (a fall-back, an unseeded node): a new seed at each trial."""
        settings = [node.settings for node in self._nodes if isinstance(node, GPUGenerationNode)]
        return derive_seed(settings[0].seed if settings else 0, len(self._generator_runs), 0, 0)

    @staticmethod
    def _record(run: GeneratorRun) -> dict[str, Any]:
        """The run's record; a run of another node (center, Sobol) gets one with its times as Ax took them."""
        metadata = {} if run.gen_metadata is None else run.gen_metadata
        run._gen_metadata = metadata
        seconds = float(run.gen_time or 0.0)
        stages = {"other": seconds}
        default = {"node": run._generation_node_name, "stages": stages, "total": seconds, "device": "cpu"}
        record: dict[str, Any] = metadata.setdefault(METADATA_KEY, default)
        return record


def _sobol_seed(seed: int) -> int:
    """The seed of the initial design: 31 bits, as far as Ax and SciPy both take it."""
    return derive_seed(seed, 0, 1, 0) % (2**31)


def resolved_settings(strategy: GenerationStrategy) -> EngineSettings | None:
    """The settings of the strategy's (first) model node of ours, its seed included; None if it has none."""
    for node in strategy._nodes:
        if isinstance(node, GPUGenerationNode):
            return node.settings
    return None


__all__ = ["GPUGenerationStrategy", "resolved_settings"]

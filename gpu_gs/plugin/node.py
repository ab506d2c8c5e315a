"""The model node: one ask from data to candidate, on the device and the threads that the policy chooses.

Ax's node does the work; this one sets the scene around it (device, threads, seeds, stage times), hands stored state
over only when nothing is fitted yet (anything else makes Ax rebuild the adapter on every ask), and leaves the user's
process as it found it.
"""

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from ax.adapter.registry import Generators
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.experiment_status import ExperimentStatus
from ax.core.generator_run import GeneratorRun
from ax.core.observation import ObservationFeatures
from ax.exceptions.generation_strategy import GenerationStrategyRepeatedPoints
from ax.generation_strategy.best_model_selector import BestModelSelector
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_node_input_constructors import (
    InputConstructorPurpose,
    NodeInputConstructors,
)
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import PausingCriterion, TransitionCriterion

from gpu_gs.device import Decision, DevicePolicy, FallbackMemory, applied, decide, ran_out_of_memory
from gpu_gs.errors import FallbackWarning
from gpu_gs.plugin.ask import Ask, current, in_progress
from gpu_gs.plugin.generator import WarmBoTorchGenerator
from gpu_gs.plugin.settings import EngineSettings
from gpu_gs.plugin.timings import METADATA_KEY, record_of, waiting_at_borders
from gpu_gs.rng import derive_seed, guest, isolated
from gpu_gs.telemetry import DEVICE_PREFIX, Spans, collect, stage

logger = logging.getLogger("gpu_gs")

_node_name = attrgetter("_generation_node_name")


class GPUGenerationNode(GenerationNode):
    """A GenerationNode with one generator of ``GPUGenerators``; see ``GenerationNode`` for the arguments.

    The settings live in its spec's ``generator_kwargs["settings"]``, so that Ax's storage keeps them.
    """

    def __init__(
        self,
        name: str,
        generator_specs: list[GeneratorSpec],
        transition_criteria: Sequence[TransitionCriterion] | None = None,
        pausing_criteria: Sequence[PausingCriterion] | None = None,
        best_model_selector: BestModelSelector | None = None,
        should_deduplicate: bool = False,
        input_constructors: dict[InputConstructorPurpose, NodeInputConstructors] | None = None,
        previous_node_name: str | None = None,
        trial_type: str | None = None,
        should_skip: bool = False,
        suggested_experiment_status: ExperimentStatus | None = None,
        fallback_specs: dict[type[Exception], GeneratorSpec] | None = None,
    ) -> None:
        if len(generator_specs) != 1:
            raise ValueError(f"A GPUGenerationNode takes exactly one GeneratorSpec, not {len(generator_specs)}.")
        super().__init__(
            name=name,
            generator_specs=generator_specs,
            transition_criteria=transition_criteria,
            pausing_criteria=pausing_criteria,
            best_model_selector=best_model_selector,
            should_deduplicate=should_deduplicate,
            input_constructors=input_constructors,
            previous_node_name=previous_node_name,
            trial_type=trial_type,
            should_skip=should_skip,
            suggested_experiment_status=suggested_experiment_status,
            # Ax's default is one spec shared by all strategies of the process, with its fitted adapter.
            fallback_specs=_own_fallback() if fallback_specs is None else fallback_specs,
        )

    @property
    def settings(self) -> EngineSettings:
        return EngineSettings.from_stored(self.generator_spec.generator_kwargs["settings"])

    @classmethod
    def in_place_of(cls, node: GenerationNode, spec: GeneratorSpec) -> "GPUGenerationNode":
        """A node that is ``node`` in all but its generator: criteria, constructors, name and place in the strategy."""
        ours = cls(
            name=node.name,
            generator_specs=[spec],
            transition_criteria=node._transition_criteria,
            pausing_criteria=node._pausing_criteria,
            best_model_selector=node.best_model_selector,
            should_deduplicate=node.should_deduplicate,
            input_constructors=node._input_constructors,
            previous_node_name=node._previous_node_name,
            trial_type=node._trial_type,
            should_skip=node._should_skip,
            suggested_experiment_status=node.suggested_experiment_status,
            fallback_specs=_own_fallback() if _has_default_fallback(node) else node.fallback_specs,
        )
        ours._step_index = node._step_index
        ours._generation_strategy = node._generation_strategy
        return ours

    # ------------------------------------------------------------------ the ask

    def gen(
        self,
        *,
        experiment: Experiment,
        pending_observations: dict[str, list[ObservationFeatures]] | None,
        skip_fit: bool = False,
        data: Data | None = None,
        n: int | None = None,
        **gs_gen_kwargs: Any,
    ) -> GeneratorRun | None:
        """See ``GenerationNode.gen``.

        Out of memory on CUDA halves the memory for batches, then moves the ask to the CPU, each with a
        ``FallbackWarning``; nothing is lost, since everything an ask needs is on the experiment and in the last
        generator run.
        """
        # After a fall-back to Sobol, Ax keeps to Sobol until the next fit: for the rest of a ``max_trials=k`` call.
        self._generator_spec_to_gen_from = self.generator_spec
        settings = self.settings
        attempt = FallbackMemory(
            self._decide(experiment),
            settings.acquisition.memory_mb,
            threads_on_cpu=lambda: (
                decide(DevicePolicy(device="cpu", threads=settings.threads), **_size_of(experiment)).threads
            ),
        )
        while True:
            try:
                return self._gen_on(
                    attempt,
                    experiment=experiment,
                    pending_observations=pending_observations,
                    skip_fit=skip_fit,
                    data=data,
                    n=n,
                    **gs_gen_kwargs,
                )
            except Exception as error:
                following = attempt.after(error)
                if following is None:
                    raise
                warnings.warn(FallbackWarning(following.decision.reasons[-1]), stacklevel=2)
                if following.decision.device == "cpu":
                    ran_out_of_memory(attempt.decision.device, **_size_of(experiment))
                attempt = following
                self.generator_spec._fitted_adapter = None
                skip_fit = False

    def _gen_on(self, attempt: FallbackMemory, *, experiment: Experiment, **kwargs: Any) -> GeneratorRun | None:
        decision = attempt.decision
        ask = Ask(decision=decision, index=self._ask_index(), memory_mb=attempt.memory_mb, halved=attempt.halved)
        ask.because([f"{DEVICE_PREFIX} {reason}" for reason in decision.reasons])
        started = time.perf_counter()
        with guest(), applied(decision), collect(waiting_at_borders(decision.device)) as spans, in_progress(ask):
            run = super().gen(experiment=experiment, **kwargs)
        if run is not None:
            self._finish(run, ask, spans, time.perf_counter() - started)
        return run

    def _finish(self, run: GeneratorRun, ask: Ask, spans: Spans, seconds: float) -> None:
        """Records the ask on its generator run and lets the generator take its new state over."""
        generator = self._generator()
        if generator is not None and "fit_decision" not in spans.facts:  # no new data, or the second trial of a call
            spans.facts |= {"n": generator.training_size, "fit_decision": "unchanged", "fit_evaluations": 0}
        if run._generator_key != self.generator_spec.generator_key:
            ask.because(
                [f"candidate: {ask.attempt - 1} attempts repeated points tried before, so {run._generator_key}"]
            )
        if generator is not None:
            self._log_once(ask.reasons, generator)
        metadata = {} if run.gen_metadata is None else run.gen_metadata
        metadata[METADATA_KEY] = record_of(ask, spans, seconds, node=self.name)
        run._gen_metadata = metadata
        if generator is not None and run._generator_key == self.generator_spec.generator_key:
            generator.commit(run._generator_state_after_gen or {})

    def _log_once(self, reasons: list[str], generator: WarmBoTorchGenerator) -> None:
        """Logs what this generator was not told before; reasons of the device are logged where it is chosen."""
        for reason in reasons:
            if reason not in generator.logged and not reason.startswith(DEVICE_PREFIX):
                generator.logged.add(reason)
                logger.info("%s: %s", self.name, reason)

    def _fit(self, experiment: Experiment, data: Data | None = None, **kwargs: Any) -> None:
        with self._scene(experiment) as ask, stage("data"), isolated(self._seed(ask.index, attempt=0)):
            super()._fit(experiment=experiment, data=data, **kwargs)

    def _gen(
        self,
        experiment: Experiment,
        pending_observations: dict[str, list[ObservationFeatures]] | None,
        data: Data | None,
        n: int | None,
        **generator_gen_kwargs: Any,
    ) -> GeneratorRun:
        with self._scene(experiment) as ask, stage("untransform"), isolated(self._seed(ask.index, ask.attempt)):
            run = super()._gen(
                experiment=experiment,
                pending_observations=pending_observations,
                data=data,
                n=n,
                **generator_gen_kwargs,
            )
            ask.attempt += 1
            return run

    def _try_gen_with_fallback(
        self,
        exception: Exception,
        experiment: Experiment,
        data: Data | None,
        pending_observations: dict[str, list[ObservationFeatures]] | None,
        **generator_gen_kwargs: Any,
    ) -> GeneratorRun:
        with self._scene(experiment) as ask, isolated(self._seed(ask.index, ask.attempt)):
            return super()._try_gen_with_fallback(
                exception=exception,
                experiment=experiment,
                data=data,
                pending_observations=pending_observations,
                **generator_gen_kwargs,
            )

    @contextmanager
    def _scene(self, experiment: Experiment) -> Iterator[Ask]:
        """The ask in progress, or the same scene for a fit that no ask asked for (an analysis, a prediction)."""
        ask = current()
        if ask is not None:
            yield ask
            return
        decision = self._decide(experiment)
        with guest(), applied(decision), in_progress(Ask(decision=decision, index=self._ask_index())) as ask:
            yield ask

    # ------------------------------------------------------------------ state

    def _decide(self, experiment: Experiment) -> Decision:
        return decide(self.settings.policy, **_size_of(experiment))

    def _seed(self, index: int, attempt: int) -> int:
        return derive_seed(self.settings.seed, index, 0, attempt)

    def _generator(self) -> WarmBoTorchGenerator | None:
        adapter = self.generator_spec._fitted_adapter
        generator = None if adapter is None else adapter.generator
        return generator if isinstance(generator, WarmBoTorchGenerator) else None

    def _ask_index(self) -> int:
        """How many generator runs this node has produced, those of a fall-back included."""
        strategy = self._generation_strategy
        if strategy is not None:
            return list(map(_node_name, strategy._generator_runs)).count(self.name)  # in C, like all that passes over n
        generator = self._generator()
        return 0 if generator is None else generator.ask_index

    def _get_model_state_from_last_generator_run(self, generator_spec: GeneratorSpec) -> dict[str, Any]:
        """The stored state when nothing is fitted yet; after that, the very objects of that first time.

        Ax re-uses a fitted adapter only if every keyword is the same object as at its construction. Where it will not
        (after a deep copy, say), the new adapter must get the state of the last ask.
        """
        generator = self._generator()
        if generator is not None:
            unchanged = {} if generator.stored_state is None else {"warm_state": generator.stored_state}
            if generator_spec._safe_to_update(
                experiment=self.experiment,
                combined_generator_kwargs={**generator_spec.generator_kwargs, **unchanged},
            ):
                return unchanged
        return super()._get_model_state_from_last_generator_run(generator_spec=generator_spec)


def _size_of(experiment: Experiment) -> dict[str, int]:
    """The size of an ask, as ``gpu_gs.device.decide`` takes it; batch trials have several arms each."""
    return {
        "n": max(len(experiment.trials), len(experiment.arms_by_name)),
        "d": len(experiment.search_space.tunable_parameters),
        "num_outputs": max(len(experiment.metrics), 1),
    }


def _own_fallback() -> dict[type[Exception], GeneratorSpec]:
    """Ax's default fall-back for repeated points, as a spec of this node's own."""
    return {
        GenerationStrategyRepeatedPoints: GeneratorSpec(
            generator_enum=Generators.SOBOL, generator_key_override="Fallback_Sobol"
        )
    }


def _has_default_fallback(node: GenerationNode) -> bool:
    return set(node.fallback_specs) == {GenerationStrategyRepeatedPoints} and all(
        spec.generator_key == "Fallback_Sobol" for spec in node.fallback_specs.values()
    )

"""The generator: BoTorchGenerator with a warm-started surrogate, batched acquisition optimization and no best point.

Its state, a plain dict ready for JSON, is Ax's own ``generator_state_after_gen``: it is saved once per generator run
and handed back as the keyword ``warm_state`` when a new process builds the generator again.
"""

import logging
from collections.abc import Sequence
from typing import Any

import botorch.acquisition as botorch_acquisition
import botorch.acquisition.multi_objective as botorch_multi_objective
import torch
from ax.core.search_space import SearchSpaceDigest
from ax.core.types import TCandidateMetadata
from ax.generators.torch.botorch_modular.acquisition import Acquisition
from ax.generators.torch.botorch_modular.generator import BoTorchGenerator
from ax.generators.torch.botorch_modular.surrogate import Surrogate, SurrogateSpec
from ax.generators.torch.botorch_modular.utils import ModelConfig
from ax.generators.torch_base import TorchOptConfig
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.multi_objective.parego import qLogNParEGO
from botorch.exceptions.errors import InputDataError
from botorch.utils.datasets import SupervisedDataset

from gpu_gs.config import Every, FitConfig
from gpu_gs.gp.fit import FitOptions
from gpu_gs.gp.likelihood import MEMORY_MB
from gpu_gs.gp.refit import RefitMemory, Schedule, YMaps, kept_y_maps
from gpu_gs.plugin.acquisition import BatchedAcquisition
from gpu_gs.plugin.ask import current
from gpu_gs.plugin.closed_form import LogEIAcquisition, has_one_outcome, reasons_against_closed_form
from gpu_gs.plugin.joint import JointAcquisition
from gpu_gs.plugin.settings import EngineSettings
from gpu_gs.plugin.surrogate import WarmSurrogate
from gpu_gs.rng import derive_seed
from gpu_gs.telemetry import note, stage

logger = logging.getLogger("gpu_gs")

STATE_VERSION = 2

READABLE_VERSIONS = (1, STATE_VERSION)
"""Version 1 knows nothing of refits: the first ask after it fits, warm."""

ACQUISITION_CLASSES: dict[str, type[AcquisitionFunction]] = {
    "qLogNEI": botorch_acquisition.qLogNoisyExpectedImprovement,
    "qLogEI": botorch_acquisition.qLogExpectedImprovement,
    "qUCB": botorch_acquisition.qUpperConfidenceBound,
    "qLogNEHVI": botorch_multi_objective.qLogNoisyExpectedHypervolumeImprovement,
    "qLogEHVI": botorch_multi_objective.qLogExpectedHypervolumeImprovement,
    "qLogNParEGO": qLogNParEGO,
}
"""BoTorch classes by the names allowed in ``acquisition.function``.

``auto``, ``LogEI``, ``LogNEI`` and ``UCB`` are not BoTorch classes."""


class WarmBoTorchGenerator(BoTorchGenerator):
    """A BoTorchGenerator that remembers, in ``asked``, what the last ask learned.

    Args:
        settings: ``EngineSettings`` as a plain dict.
        warm_state: What ``_get_state`` returned in an earlier life of this generator.
        surrogate_spec: See ``BoTorchGenerator``, as the others below.
        surrogate: See ``BoTorchGenerator``. A given instance keeps its own fit: it cannot be warm-started.
        acquisition_class: See ``BoTorchGenerator``. A given class keeps its own optimizer.
        acquisition_options: See ``BoTorchGenerator``.
        botorch_acqf_class: See ``BoTorchGenerator``. A given class is used as it is, optimized in a batch.
        botorch_acqf_options: See ``BoTorchGenerator``.
        botorch_acqf_classes_with_options: See ``BoTorchGenerator``.
        refit_on_cv: See ``BoTorchGenerator``.
        warm_start_refit: See ``BoTorchGenerator``.
        use_p_feasible: See ``BoTorchGenerator``.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        warm_state: dict[str, Any] | None = None,
        surrogate_spec: SurrogateSpec | None = None,
        surrogate: Surrogate | None = None,
        acquisition_class: type[Acquisition] | None = None,
        acquisition_options: dict[str, Any] | None = None,
        botorch_acqf_class: type[AcquisitionFunction] | None = None,
        botorch_acqf_options: dict[str, Any] | None = None,
        botorch_acqf_classes_with_options: list[tuple[type[AcquisitionFunction], dict[str, Any]]] | None = None,
        refit_on_cv: bool = False,
        warm_start_refit: bool = True,
        use_p_feasible: bool = True,
    ) -> None:
        self.settings = EngineSettings.from_stored(settings)
        function = self.settings.acquisition.function
        self._acquisition_was_given = botorch_acqf_class is not None
        if botorch_acqf_class is None and botorch_acqf_classes_with_options is None:
            botorch_acqf_class = ACQUISITION_CLASSES.get(function)
        super().__init__(
            surrogate_spec=surrogate_spec,
            surrogate=surrogate,
            acquisition_class=acquisition_class or BatchedAcquisition,
            acquisition_options=acquisition_options,
            botorch_acqf_class=botorch_acqf_class,
            botorch_acqf_options=botorch_acqf_options,
            botorch_acqf_classes_with_options=botorch_acqf_classes_with_options,
            refit_on_cv=refit_on_cv,
            warm_start_refit=warm_start_refit,
            use_p_feasible=use_p_feasible,
        )
        #: The very object that was handed in: the node hands it in again, since Ax compares identities.
        self.stored_state = warm_state
        self.asked: dict[str, Any] = _usable(warm_state or {})
        #: Mean and deviation by which the adapter standardized each outcome, and those that the outcomes have; it sets
        #: them before a fit.
        self.y_maps: YMaps = {}
        self.y_maps_today: YMaps = {}
        #: Reasons against fast parts that stand in the log already; a new process says them again.
        self.logged: set[str] = set()
        self._suppress_best_point = False

    @property
    def ask_index(self) -> int:
        """How many trials this generator has produced, in all its lives."""
        return int(self.asked.get("asks", 0))

    @property
    def training_size(self) -> int:
        """Observations of the outcome that has the most."""
        return max((len(data.Y) for data in self.surrogate.training_data), default=0)

    @property
    def _schedule(self) -> Schedule:
        refit = self.settings.fit.refit
        return refit if isinstance(refit, str) else refit.every

    def kept_y_maps(self, counts: dict[str, int], today: YMaps) -> YMaps:
        """See ``KeepsScales.kept_y_maps``."""
        if self._surrogate is not None and not isinstance(self._surrogate, WarmSurrogate):
            return {}
        return kept_y_maps(self._schedule, list(self._remembered.values()), counts, today)

    @property
    def _remembered(self) -> dict[str, RefitMemory]:
        """What the last ask knew of its refits, by ``model_key``."""
        return {key: RefitMemory.from_json(values) for key, values in self.asked.get("refits", {}).items()}

    def fit(
        self,
        datasets: Sequence[SupervisedDataset],
        search_space_digest: SearchSpaceDigest,
        candidate_metadata: list[list[TCandidateMetadata]] | None = None,
        state_dict: Any = None,
        refit: bool = True,
        **additional_model_inputs: Any,
    ) -> None:
        """See ``BoTorchGenerator.fit``; starts from the hyperparameters of the last ask."""
        if self._surrogate is None:
            options = self.settings.fit
            self._surrogate = WarmSurrogate(
                surrogate_spec=self.surrogate_spec or SurrogateSpec(model_configs=[ModelConfig(name="default")]),
                refit_on_cv=self.refit_on_cv,
                warm_start_refit=self.warm_start_refit,
                fit_options=fit_options(options),
                schedule=self._schedule,
                warm_start=options.warm_start,
            )
        if isinstance(self._surrogate, WarmSurrogate):
            self._surrogate.warm = self.asked.get("hyperparameters", {})
            self._surrogate.remembered = self._remembered
            self._surrogate.seed = derive_seed(self.settings.seed, self.ask_index, 0, 0)
            self._surrogate.y_maps, self._surrogate.y_maps_today = self.y_maps, self.y_maps_today
            self._surrogate.diagnoses = self.settings.diagnostics != "off"
            ask = current()
            if ask is not None:
                self._acquisition = None  # the last ask's, with n x n matrices
            self._surrogate.fit_memory_mb = MEMORY_MB // 2 if ask is not None and ask.halved else MEMORY_MB
        try:
            super().fit(
                datasets=datasets,
                search_space_digest=search_space_digest,
                candidate_metadata=candidate_metadata,
                state_dict=state_dict,
                refit=refit,
                **additional_model_inputs,
            )
        except InputDataError as error:
            if problems := _partly_known_noise(datasets):
                raise InputDataError("; ".join(problems)) from error
            raise
        self._note_fit(datasets)
        if current() is not None and isinstance(self._surrogate, WarmSurrogate) and self._diagnostics_are_due():
            with stage("diagnostics"):
                note("leave_one_out", self._surrogate.diagnostics())

    def _diagnostics_are_due(self) -> bool:
        when = self.settings.diagnostics
        return when == "always" or (not isinstance(when, str) and self.ask_index % when.every == 0)

    def _note_fit(self, datasets: Sequence[SupervisedDataset]) -> None:
        note("n", max((len(dataset.Y) for dataset in datasets), default=0))
        if not isinstance(self._surrogate, WarmSurrogate) or not self._surrogate.fits:
            note("fit_decision", "ax")
            return
        fits = self._surrogate.fits.values()
        note("fit_decision", ",".join(sorted({result.decision for result in fits})))
        note("fit_method", ",".join(sorted({result.method for result in fits})))
        note("fit_evaluations", sum(max(result.evaluations, 0) for result in fits))
        note("refit_reason", "; ".join(dict.fromkeys(reason for result in fits for reason in result.because)) or None)
        if (ask := current()) is not None:
            for result in fits:
                ask.because([f"fit: {reason}" for reason in result.reasons])

    def _instantiate_acquisition(
        self,
        search_space_digest: SearchSpaceDigest,
        torch_opt_config: TorchOptConfig,
        botorch_acqf_options: dict[str, Any],
        acq_options: dict[str, Any] | None = None,
        botorch_acqf_classes_with_options: list[tuple[type[AcquisitionFunction], dict[str, Any]]] | None = None,
        n: int | None = None,
    ) -> Acquisition:
        """The closed form where it serves, else what Ax (or the user) chose, optimized in a batch."""
        ask = current()
        function = self.settings.acquisition.function
        reasons = reasons_against_closed_form(
            torch_opt_config=torch_opt_config,
            function=function,
            chosen_by_user=self.acquisition_class is not BatchedAcquisition
            or self._acquisition_was_given
            or bool(botorch_acqf_options or botorch_acqf_classes_with_options),
            options=acq_options or {},
        )
        closed_form: type[LogEIAcquisition | JointAcquisition] = LogEIAcquisition
        if not reasons and has_one_outcome(torch_opt_config):
            reasons = LogEIAcquisition.reasons_against(self.surrogate, torch_opt_config)
        elif not reasons:
            closed_form = JointAcquisition
            reasons = JointAcquisition.reasons_against(self.surrogate, torch_opt_config, function)
            if torch_opt_config.outcome_constraints is not None and not self.use_p_feasible:
                reasons = [*reasons, "acquisition: use_p_feasible is off"]
        index, attempt = (self.ask_index, 0) if ask is None else (ask.index, ask.attempt)
        acquisition: Acquisition
        if not reasons:
            acquisition = closed_form(
                surrogate=self.surrogate,
                search_space_digest=search_space_digest,
                torch_opt_config=torch_opt_config,
                options=acq_options or {},
                config=self.settings.acquisition,
                strategy_seed=self.settings.seed,
                index=index,
                attempt=attempt,
            )
            note("acquisition", acquisition.label)
        else:
            if ask is not None:
                ask.because(reasons)
            acquisition = super()._instantiate_acquisition(
                search_space_digest=search_space_digest,
                torch_opt_config=torch_opt_config,
                botorch_acqf_options=botorch_acqf_options,
                acq_options=acq_options,
                botorch_acqf_classes_with_options=botorch_acqf_classes_with_options,
                n=n,
            )
            note("acquisition", type(acquisition.acqf).__name__)
        if isinstance(acquisition, BatchedAcquisition):
            acquisition.engine = self.settings.acquisition
            acquisition.seed = derive_seed(self.settings.seed, index, 0, attempt)
        return acquisition

    def best_point(
        self, search_space_digest: SearchSpaceDigest, torch_opt_config: TorchOptConfig
    ) -> torch.Tensor | None:
        """The best in-sample point when somebody asks for it; nothing during an ask (see ``WarmTorchAdapter._gen``).

        Raises:
            NotImplementedError: During an ask; the adapter takes it for "no best point".
        """
        if self._suppress_best_point:
            raise NotImplementedError("No best point is computed during an ask.")
        return super().best_point(search_space_digest=search_space_digest, torch_opt_config=torch_opt_config)

    def _get_state(self) -> dict[str, Any]:
        """What the next ask needs, as of the end of this one; ``commit`` makes it the generator's own."""
        hyperparameters: dict[str, Any] = {}
        refits: dict[str, Any] = {}
        if isinstance(self._surrogate, WarmSurrogate):
            hyperparameters = self._surrogate.export_warm()
            refits = {key: memory.to_json() for key, memory in self._surrogate.memories.items()}
        return {
            "warm_state": {
                "version": STATE_VERSION,
                "asks": self.ask_index + 1,
                "hyperparameters": hyperparameters,
                "refits": refits,
                "n": self.training_size,
            }
        }

    def commit(self, state: dict[str, Any]) -> None:
        """Takes over the state of an ask that ended well."""
        self.asked = dict(state["warm_state"])
        if isinstance(self._surrogate, WarmSurrogate):
            self._surrogate.commit()


def fit_options(settings: FitConfig) -> FitOptions:
    """The iterations that the settings mean.

    With a fixed schedule an unfinished fit would stay for k asks, so ``auto`` means as many for much data as for little.
    """
    if settings.warm_iterations != "auto":
        few = many = settings.warm_iterations
    else:
        few, many = FitOptions.warm_iterations, FitOptions.warm_iterations_of_many
        many = few if isinstance(settings.refit, Every) else many
    return FitOptions(warm_iterations=few, warm_iterations_of_many=many, cold_iterations=settings.cold_iterations)


def _partly_known_noise(datasets: Sequence[SupervisedDataset]) -> list[str]:
    """Says of which outcomes the noise is known in some observations only; BoTorch takes it for all or for none."""
    problems = []
    for dataset in datasets:
        if dataset.Yvar is None:
            continue
        known = (~dataset.Yvar.isnan()).sum(dim=0).tolist()
        problems += [
            f"the noise of {name} is known in {count} of its {len(dataset.Y)} observations: give a standard error with "
            "each of them (0: exact) or with none"
            for name, count in zip(dataset.outcome_names, known, strict=True)
            if 0 < count < len(dataset.Y)
        ]
    return problems


def _usable(state: dict[str, Any]) -> dict[str, Any]:
    """The stored state; of another version's only the number of asks, so that no seed comes twice."""
    if not state or state.get("version") in READABLE_VERSIONS:
        return dict(state)
    logger.info(
        "The stored warm state has version %s, not %s: the next fit starts from the default.",
        state.get("version"),
        STATE_VERSION,
    )
    return {"version": STATE_VERSION, "asks": int(state.get("asks", 0)), "hyperparameters": {}}


__all__ = ["ACQUISITION_CLASSES", "STATE_VERSION", "WarmBoTorchGenerator"]

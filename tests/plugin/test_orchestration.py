"""Under Ax's own loops: Client.run_trials and the Orchestrator, batches included."""

from collections.abc import Mapping
from typing import Any

import pytest
from ax.api.protocols.metric import IMetric
from ax.api.protocols.runner import IRunner
from ax.api.types import TParameterization
from ax.core.base_trial import TrialStatus
from ax.core.trial_status import TrialStatus as Status
from ax.orchestration.orchestrator import Orchestrator, OrchestratorOptions
from ax.orchestration.orchestrator_options import TrialType
from ax.utils.testing.core_stubs import get_branin_experiment

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.plugin.node import GPUGenerationNode
from tests.plugin.helpers import QUICK, make_client, wave


class InstantRunner(IRunner):
    def run_trial(self, trial_index: int, parameterization: TParameterization) -> dict[str, Any]:
        return {"parameters": dict(parameterization)}

    def poll_trial(self, trial_index: int, trial_metadata: Mapping[str, Any]) -> TrialStatus:
        return Status.COMPLETED

    def stop_trial(self, trial_index: int, trial_metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {}


class Wave(IMetric):
    def fetch(self, trial_index: int, trial_metadata: Mapping[str, Any]) -> tuple[int, float]:
        return 0, wave(trial_metadata["parameters"])


def test_client_run_trials_uses_the_strategy():
    client = make_client()
    client.configure_runner(InstantRunner())
    client.configure_metrics([Wave(name="f")])
    client.run_trials(max_trials=7, parallelism=1, initial_seconds_between_polls=0)
    assert (timings(client)["node"] == "MBM").sum() >= 1
    assert all(trial.status.is_completed for trial in client._experiment.trials.values())


def test_the_orchestrator_runs_single_trials_and_batches():
    from ax.runners.synthetic import SyntheticRunner

    for trial_options in ({}, {"trial_type": TrialType.BATCH_TRIAL, "batch_size": 3}):
        experiment = get_branin_experiment(named=True)
        experiment.runner = SyntheticRunner()
        strategy = GPUGenerationStrategy.from_config("fast", seed=0, initialization={"budget": 3}, **QUICK)
        orchestrator = Orchestrator(
            experiment=experiment,
            generation_strategy=strategy,
            options=OrchestratorOptions(init_seconds_between_polls=0, min_seconds_before_poll=0.0, **trial_options),
        )
        orchestrator.run_n_trials(max_trials=6)
        table = timings(orchestrator)
        assert (table["node"] == "MBM").sum() >= 2
        assert len(experiment.trials) == 6
        if trial_options:
            assert len(experiment.trials[5].arms) == 3
            assert table["acquisition"].iloc[-1] in ("LogEI", "LogNEI")


def test_the_orchestrator_goes_on_from_its_reduced_stored_state():
    pytest.importorskip("sqlalchemy")
    from ax.runners.synthetic import SyntheticRunner
    from ax.storage.sqa_store.db import init_test_engine_and_session_factory
    from ax.storage.sqa_store.structs import DBSettings

    init_test_engine_and_session_factory(force_init=True)
    experiment = get_branin_experiment(named=True)
    experiment.runner = SyntheticRunner()
    options = OrchestratorOptions(init_seconds_between_polls=0, min_seconds_before_poll=0.0)
    settings = DBSettings(url=None, creator=None)
    orchestrator = Orchestrator(
        experiment=experiment,
        generation_strategy=GPUGenerationStrategy.from_config("fast", seed=0, initialization={"budget": 3}, **QUICK),
        options=options,
        db_settings=settings,
    )
    orchestrator.run_n_trials(max_trials=5)
    loaded = Orchestrator.from_stored_experiment(experiment_name=experiment.name, options=options, db_settings=settings)
    strategy = loaded.generation_strategy
    assert isinstance(strategy.current_node, GPUGenerationNode)
    loaded.run_n_trials(max_trials=2)
    table = timings(loaded)
    assert len(loaded.experiment.trials) == 7
    # Ax drops the gen_metadata of earlier trials, and the times in it; the warm state stays. The second of two trials
    # asked for at once has no new data.
    assert table["fit_decision"].iloc[-2:].tolist() == ["warm", "unchanged"]
    assert table["n"].iloc[-2:].tolist() == [5, 5]
    assert table["ask"].iloc[-2:].tolist() == [2, 3]

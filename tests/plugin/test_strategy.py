"""The strategy: initialization, configuration, copies."""

import copy
import pickle

import pytest
from ax.generation_strategy.generation_strategy import GenerationStrategy

from gpu_gs import GPUGenerationStrategy, StrategyConfig
from gpu_gs.config import presets
from gpu_gs.errors import ConfigError, DeviceUnavailableError
from gpu_gs.plugin.strategy import resolved_settings
from tests.plugin.helpers import QUICK, advance, make_client, wave


def nodes_of(client):
    return [trial.generator_runs[0]._generation_node_name for trial in client._experiment.trials.values()]


def test_initialization_is_a_center_point_then_sobol_then_the_model():
    client = make_client()
    advance(client, 7)
    assert nodes_of(client) == ["CenterOfSearchSpace", "Sobol", "Sobol", "Sobol", "Sobol", "MBM", "MBM"]
    assert client._experiment.trials[0].arm.parameters == {"x": 0.5, "y": 0.5}


def test_the_initialization_budget_counts_existing_trials():
    client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, initialization={"budget": 4}, **QUICK))
    for x in (0.1, 0.4, 0.9):
        index = client.attach_trial({"x": x, "y": x})
        client.complete_trial(index, {"f": wave({"x": x, "y": x})})
    advance(client, 2)
    assert nodes_of(client)[-1] == "MBM"


def test_initialization_can_start_from_sobol_and_its_seed_counts():
    def start(seed):
        strategy = GPUGenerationStrategy.from_config("fast", seed=seed, initialization={"center": False}, **QUICK)
        return advance(make_client(strategy), 3)

    assert start(1) == start(1)
    assert start(1) != start(2)


@pytest.mark.parametrize("name", sorted(presets("strategies")))
def test_every_preset_builds_a_strategy(name):
    if name == "cuda":
        pytest.importorskip("torch")
        import torch

        if not torch.cuda.is_available():
            with pytest.raises(DeviceUnavailableError, match="CUDA"):
                GPUGenerationStrategy.from_config(name)
            return
    strategy = GPUGenerationStrategy.from_config(name)
    assert isinstance(strategy, GenerationStrategy)
    assert isinstance(strategy, GPUGenerationStrategy) == (name != "reference")


def test_a_configuration_comes_from_a_preset_a_file_a_mapping_or_an_object(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 7\nacquisition:\n  restarts: 5\n")
    for source in (path, str(path), {"seed": 7, "acquisition": {"restarts": 5}}, StrategyConfig.load(path)):
        settings = resolved_settings(GPUGenerationStrategy.from_config(source, threads=1))
        assert (settings.seed, settings.acquisition.restarts, settings.threads) == (7, 5, 1)


def test_a_wrong_key_is_an_error_before_anything_starts():
    with pytest.raises(ConfigError, match="raw_samples"):
        GPUGenerationStrategy.from_config("fast", acquisition={"raw_sample": 5})


def test_a_drawn_seed_is_drawn_anew_by_clone_reset_and_a_chosen_one_is_kept():
    drawn = GPUGenerationStrategy.from_config("fast")
    chosen = GPUGenerationStrategy.from_config("fast", seed=5)
    assert resolved_settings(drawn.clone_reset()).seed != resolved_settings(drawn).seed
    assert resolved_settings(chosen.clone_reset()).seed == 5


def test_a_reset_clone_starts_over_and_proposes_the_same():
    client = make_client(seed=2)
    expected = advance(client, 7)
    clone = client._generation_strategy.clone_reset()
    assert isinstance(clone, GPUGenerationStrategy)
    assert clone._experiment is None and clone._generator_runs == []
    assert all(spec._fitted_adapter is None for node in clone._nodes for spec in node.generator_specs)
    assert client._generation_strategy._generator_runs  # the original still has its own
    assert advance(make_client(clone), 7) == expected


def test_copies_and_pickles_continue_alike():
    client = make_client(seed=2)
    advance(client, 7)
    deep = copy.deepcopy(client)
    pickled = pickle.loads(pickle.dumps(client._generation_strategy))
    again = make_client(seed=2)
    again.set_experiment(pickled.experiment)
    again.set_generation_strategy(pickled)
    expected = advance(client, 2)
    assert advance(deep, 2) == expected
    assert advance(again, 2) == expected


def test_strategies_of_the_same_configuration_are_equal():
    assert GPUGenerationStrategy.from_config("fast", seed=1) == GPUGenerationStrategy.from_config("fast", seed=1)
    assert GPUGenerationStrategy.from_config("fast", seed=1) != GPUGenerationStrategy.from_config("fast", seed=2)


def test_a_named_acquisition_function_is_used():
    from gpu_gs import timings

    for name, expected in (
        ("qLogNEI", "qLogNoisyExpectedImprovement"),
        ("qUCB", "qUpperConfidenceBound"),
        ("LogEI", "LogEI"),
        ("LogNEI", "LogNEI"),
    ):
        client = make_client(
            GPUGenerationStrategy.from_config("fast", seed=0, acquisition={**QUICK["acquisition"], "function": name})
        )
        advance(client, 6)
        assert timings(client)["acquisition"].iloc[-1] == expected

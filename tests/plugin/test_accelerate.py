"""accelerate: what it replaces, what it keeps, what it leaves."""

import logging

import pytest
import torch
from ax.adapter.registry import Generators
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import MinTrials
from ax.generators.torch.botorch_modular.surrogate import ModelConfig, SurrogateSpec
from ax.service.ax_client import AxClient, ObjectiveProperties
from botorch.acquisition import qUpperConfidenceBound
from gpytorch.kernels import MaternKernel

from gpu_gs import GPUGenerationStrategy, accelerate, timings
from gpu_gs.errors import ConfigError, DeviceUnavailableError
from gpu_gs.plugin.node import GPUGenerationNode
from gpu_gs.plugin.registry import GPUGenerators
from gpu_gs.plugin.strategy import resolved_settings
from tests.plugin.helpers import advance, make_client, wave


def stock_client(**configuration):
    client = make_client(strategy=GenerationStrategy(nodes=[sobol_node("unused", 1)], name="placeholder"))
    client.configure_generation_strategy(initialization_random_seed=0, **configuration)
    return client


def sobol_node(to: str, threshold: int, name: str = "Sobol") -> GenerationNode:
    criteria = [] if to == "unused" else [MinTrials(threshold=threshold, transition_to=to)]
    return GenerationNode(
        name=name, generator_specs=[GeneratorSpec(generator_enum=Generators.SOBOL)], transition_criteria=criteria
    )


def test_a_stock_client_goes_on_with_our_node_under_the_same_name():
    client = stock_client()
    advance(client, 7)
    strategy = client._generation_strategy
    runs = list(strategy._generator_runs)
    returned = accelerate(client, seed=1)
    assert returned is strategy is client._generation_strategy
    assert isinstance(strategy, GPUGenerationStrategy)
    assert strategy.current_node_name == "MBM" and isinstance(strategy.current_node, GPUGenerationNode)
    assert strategy._generator_runs == runs
    advance(client, 2)
    assert timings(client)["fit_decision"].dropna().tolist() == ["default", "warm"]


def test_a_client_without_a_strategy_gets_ours():
    client = Client()
    client.configure_experiment(parameters=[RangeParameterConfig(name="x", parameter_type="float", bounds=(0.0, 1.0))])
    client.configure_optimization(objective="-f")
    assert isinstance(accelerate(client), GPUGenerationStrategy)
    assert isinstance(client._generation_strategy, GPUGenerationStrategy)


def test_a_client_without_an_experiment_is_a_clear_error():
    with pytest.raises(ConfigError, match="configure_experiment"):
        accelerate(Client())


def test_the_seed_of_a_seeded_client_is_used():
    client = stock_client()
    client._random_seed = 77
    assert resolved_settings(accelerate(client)).seed == 77


@pytest.mark.filterwarnings("ignore:The `AxClient` class is deprecated")
def test_an_ax_client_is_accelerated():
    client = AxClient(verbose_logging=False, random_seed=0)
    client.create_experiment(
        name="old",
        parameters=[{"name": name, "type": "range", "bounds": [0.0, 1.0]} for name in ("x", "y")],
        objectives={"f": ObjectiveProperties(minimize=True)},
    )
    accelerate(client)
    for _ in range(8):
        parameters, index = client.get_next_trial()
        client.complete_trial(index, raw_data=wave(parameters))
    asks = timings(client)
    assert (asks["fit_decision"].dropna() == "warm").sum() >= 1
    assert client.get_best_parameters() is not None


@pytest.mark.filterwarnings("ignore:The `AxClient` class is deprecated")
def test_an_ax_client_without_an_experiment_is_a_clear_error():
    with pytest.raises(ConfigError, match="create_experiment"):
        accelerate(AxClient(verbose_logging=False))


def test_criteria_surrogate_acquisition_and_options_are_kept():
    spec = SurrogateSpec(
        model_configs=[ModelConfig(name="matern", covar_module_class=MaternKernel, covar_module_options={"nu": 1.5})]
    )
    node = GenerationNode(
        name="model",
        generator_specs=[
            GeneratorSpec(
                generator_enum=Generators.BOTORCH_MODULAR,
                generator_kwargs={
                    "surrogate_spec": spec,
                    "botorch_acqf_class": qUpperConfidenceBound,
                    "botorch_acqf_options": {"beta": 2.0},
                    "torch_device": torch.device("cpu"),
                    "fit_tracking_metrics": False,
                },
                generator_key_override="mine",
            )
        ],
        transition_criteria=[MinTrials(threshold=3, transition_to="end")],
        should_deduplicate=True,
    )
    strategy = GenerationStrategy(
        nodes=[sobol_node("model", 4), node, sobol_node("unused", 1, name="end")], name="mine"
    )
    client = make_client(strategy)
    accelerate(strategy, seed=0)
    ours = strategy.nodes_by_name["model"]
    assert isinstance(ours, GPUGenerationNode)
    assert ours.generator_spec.generator_enum is GPUGenerators.GPU_BOTORCH
    assert ours.generator_spec.generator_key == "mine"
    assert ours.generator_spec.generator_kwargs["surrogate_spec"] is spec
    assert ours.generator_spec.generator_kwargs["fit_tracking_metrics"] is False
    assert ours.settings.device == "cpu"
    assert ours.transition_criteria == node.transition_criteria and ours.should_deduplicate
    assert type(strategy.nodes_by_name["Sobol"]) is GenerationNode
    advance(client, 8)
    assert [t.generator_runs[0]._generation_node_name for t in client._experiment.trials.values()] == (
        ["Sobol"] * 4 + ["model"] * 3 + ["end"]
    )
    table = timings(client)
    assert table["acquisition"].dropna().unique().tolist() == ["qUpperConfidenceBound"]
    kernel = ours.generator_spec._fitted_adapter.generator.surrogate.model.covar_module
    assert isinstance(kernel, MaternKernel) and kernel.nu == 1.5


def test_what_is_left_alone_is_named_with_its_reason(caplog):
    client = stock_client(method="quality")
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        strategy = accelerate(client)
    assert not any(isinstance(node, GPUGenerationNode) for node in strategy._nodes)
    assert "SaasFullyBayesianSingleTaskGP is sampled by NUTS" in caplog.text


def test_a_strategy_that_is_ours_already_stays_as_it_is():
    strategy = GPUGenerationStrategy.from_config("fast", seed=1)
    node = strategy._nodes[-1]
    assert accelerate(strategy).nodes_by_name["MBM"] is node


def test_a_node_of_ours_is_configured_anew_and_stays_warm(caplog):
    client = make_client(seed=5)
    advance(client, 7)
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        strategy = accelerate(client, "fast", acquisition={"restarts": 3})
    assert "Configured anew: MBM" in caplog.text
    assert "Left as it is: MBM" not in caplog.text
    settings = strategy.current_node.settings
    assert (settings.acquisition.restarts, settings.seed) == (3, 5)
    advance(client, 1)
    assert timings(client)["fit_decision"].iloc[-1] == "warm"
    assert timings(client)["ask"].tolist()[-2:] == [1, 2]


@pytest.mark.parametrize("target", ["fast", 3, None])
def test_another_target_is_a_clear_error(target):
    with pytest.raises(ConfigError, match="Client, AxClient, GenerationStrategy"):
        accelerate(target)


def test_the_reference_preset_replaces_nothing_and_says_so():
    with pytest.raises(ConfigError, match="engine"):
        accelerate(stock_client(), "reference")


def a_node_on(device: str) -> GenerationStrategy:
    spec = GeneratorSpec(
        generator_enum=Generators.BOTORCH_MODULAR, generator_kwargs={"torch_device": torch.device(device)}
    )
    return GenerationStrategy(nodes=[sobol_node("model", 4), GenerationNode(name="model", generator_specs=[spec])])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_node_on_a_missing_gpu_is_an_error_at_once_and_nothing_is_replaced():
    strategy = a_node_on("cuda")
    with pytest.raises(DeviceUnavailableError, match="cuda was demanded"):
        accelerate(strategy)
    assert not any(isinstance(node, GPUGenerationNode) for node in strategy._nodes)


def test_a_node_on_another_kind_of_device_is_left_alone(caplog):
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        strategy = accelerate(a_node_on("mps"))
    assert not any(isinstance(node, GPUGenerationNode) for node in strategy._nodes)
    assert "its torch_device is mps; ours runs on auto, cpu, cuda, cuda:N" in caplog.text

"""accelerate on strategies as people build them: made faster or left as it was, with the reason; the same in meaning."""

import importlib.util
import logging
from typing import Any

import numpy as np
import pytest
import torch
from ax.adapter.registry import Generators
from ax.adapter.torch import TorchAdapter
from ax.adapter.transfer_learning.adapter import transfer_learning_generator_specs_constructor
from ax.core.auxiliary import AuxiliaryExperiment, AuxiliaryExperimentPurpose
from ax.core.experiment import Experiment
from ax.core.observation import ObservationFeatures
from ax.generation_strategy.best_model_selector import ReductionCriterion, SingleDiagnosticBestModelSelector
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import MinTrials
from ax.generators.torch.botorch_modular.acquisition import Acquisition
from ax.generators.torch.botorch_modular.surrogate import ModelConfig, SurrogateSpec
from ax.utils.testing.core_stubs import get_branin_experiment_with_status_quo_trials
from botorch.acquisition import qUpperConfidenceBound
from botorch.acquisition.input_constructors import acqf_input_constructor, construct_inputs_qUCB
from botorch.models import MultiTaskGP, SingleTaskGP
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.map_saas import AdditiveMapSaasSingleTaskGP, EnsembleMapSaasSingleTaskGP
from botorch.models.transforms.input import Normalize, Warp
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood

from gpu_gs import accelerate, timings
from gpu_gs.plugin.node import GPUGenerationNode
from tests.plugin.helpers import QUICK, advance, make_client, wave

STARTS = [(0.1, 0.2), (0.5, 0.5), (0.9, 0.1), (0.3, 0.8), (0.7, 0.9), (0.2, 0.6), (0.8, 0.4)]
HAS_NUMPYRO = importlib.util.find_spec("numpyro") is not None


def client_with(node: GenerationNode, name: str = "theirs") -> Any:
    """A client whose strategy is one node, with seven trials completed."""
    client = make_client(GenerationStrategy(nodes=[node], name=name))
    for x, y in STARTS:
        client.complete_trial(client.attach_trial({"x": x, "y": y}), {"f": wave({"x": x, "y": y})})
    return client


def node_of(*specs: GeneratorSpec, **kwargs: Any) -> GenerationNode:
    return GenerationNode(name="model", generator_specs=list(specs), **kwargs)


def botorch(*configs: ModelConfig, enum: Any = Generators.BOTORCH_MODULAR, **kwargs: Any) -> GeneratorSpec:
    given = {"surrogate_spec": SurrogateSpec(model_configs=list(configs)), **kwargs} if configs else kwargs
    return GeneratorSpec(generator_enum=enum, generator_kwargs=given)


def adapter_of(client: Any) -> TorchAdapter:
    return client._generation_strategy.current_node.generator_spec._fitted_adapter


def stock_adapter(client: Any, spec: GeneratorSpec, enum: Any = Generators.BOTORCH_MODULAR) -> TorchAdapter:
    return enum(experiment=client._experiment, **spec.generator_kwargs)


def posterior(adapter: TorchAdapter) -> np.ndarray:
    """Predicted means and variances at some points."""
    features = [ObservationFeatures(parameters={"x": x, "y": y}) for x, y in ((0.15, 0.3), (0.55, 0.2), (0.6, 0.75))]
    mean, covariance = adapter.predict(features)
    return np.array([mean["f"], covariance["f"]["f"]])


def marginal_likelihood(model: Any) -> float:
    model.train()
    with torch.no_grad():
        value = ExactMarginalLogLikelihood(model.likelihood, model)(model(*model.train_inputs), model.train_targets)
    model.eval()
    return float(value)


def assert_left(client: Any, caplog: Any, *reasons: str) -> None:
    strategy = client._generation_strategy
    nodes, specs = list(strategy._nodes), [list(node.generator_specs) for node in strategy._nodes]
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        assert accelerate(client, seed=0, **QUICK) is strategy
    assert type(strategy) is GenerationStrategy
    assert all(one is other for one, other in zip(strategy._nodes, nodes, strict=True))
    assert [list(node.generator_specs) for node in strategy._nodes] == specs
    for reason in reasons:
        assert reason in caplog.text


# ---------------------------------------------------------------------- fully Bayesian models


def few_samples(client: Any) -> None:
    """Sixteen samples instead of hundreds."""
    spec = client._generation_strategy._nodes[-1].generator_spec
    (config,) = spec.generator_kwargs["surrogate_spec"].model_configs
    config.mll_options.update({"num_samples": 16, "warmup_steps": 16, "thinning": 8})


def test_the_method_quality_is_left_as_it_is(caplog):
    client = make_client(GenerationStrategy(nodes=[node_of(botorch())], name="placeholder"))
    client.configure_generation_strategy(method="quality", initialization_budget=3, initialization_random_seed=0)
    assert_left(client, caplog, "SaasFullyBayesianSingleTaskGP is sampled by NUTS, not fitted")


@pytest.mark.skipif(not HAS_NUMPYRO, reason="fully Bayesian models need BoTorch's extra fully_bayesian (NumPyro)")
@pytest.mark.filterwarnings("ignore")  # NumPyro's and JAX's
def test_the_method_quality_proposes_what_it_proposed_before():
    asked = []
    for accelerated in (False, True):
        client = make_client(GenerationStrategy(nodes=[node_of(botorch())], name="placeholder"), random_seed=3)
        client.configure_generation_strategy(method="quality", initialization_budget=3, initialization_random_seed=0)
        few_samples(client)
        if accelerated:
            accelerate(client)
        asked.append(advance(client, 4))
    assert asked[0] == asked[1]


def test_a_generator_that_is_fully_bayesian_by_its_name_is_left_as_it_is(caplog):
    assert_left(client_with(node_of(GeneratorSpec(Generators.SAASBO))), caplog, "SAASBO is not a BoTorch model")


def test_a_sampled_model_for_one_metric_only_is_left_as_it_is(caplog):
    spec = SurrogateSpec(
        model_configs=[ModelConfig(name="plain")],
        metric_to_model_configs={"g": [ModelConfig(botorch_model_class=SaasFullyBayesianSingleTaskGP)]},
    )
    assert_left(client_with(node_of(botorch(surrogate_spec=spec))), caplog, "is sampled by NUTS")


def test_an_ensemble_of_fitted_models_is_maximized_in_a_batch():
    more_members_than_observations = {"num_taus": 24}  # the members are no observations to search around
    config = ModelConfig(botorch_model_class=EnsembleMapSaasSingleTaskGP, model_options=more_members_than_observations)
    client = client_with(node_of(botorch(config)))
    accelerate(client, seed=0, **QUICK)
    assert isinstance(client._generation_strategy.current_node, GPUGenerationNode)
    (asked,) = advance(client, 1)
    assert all(0 <= value <= 1 for value in asked.values())


# ---------------------------------------------------------------------- surrogates of the user's

CONFIGS = {
    "Matern 5/2": ModelConfig(name="matern", covar_module_class=MaternKernel, covar_module_options={"nu": 2.5}),
    "RBF, no prior": ModelConfig(name="rbf", covar_module_class=RBFKernel),
    "a model class": ModelConfig(name="class", botorch_model_class=SingleTaskGP),
    "input warping": ModelConfig(
        name="warped",
        input_transform_classes=[Normalize, Warp],
        input_transform_options={"Normalize": {}, "Warp": {"indices": [0, 1], "d": 2}},
    ),
    "a model class with priors of its own": ModelConfig(
        name="additive SAAS", botorch_model_class=AdditiveMapSaasSingleTaskGP
    ),
    "a composite kernel": ModelConfig(
        name="composite",
        botorch_model_class=SingleTaskGP,
        covar_module_class=ScaleKernel,
        covar_module_options={"base_kernel": MaternKernel(nu=1.5)},
    ),
}


FROM_SCRATCH = ("a model class with priors of its own",)
"""Fitted from the default on each ask: BoTorch's fit ends beyond the bounds of this model's lengthscales, and one that
starts there ends worse."""


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_surrogate_of_the_users_is_fitted_warm_and_means_the_same(kind):
    spec = botorch(CONFIGS[kind])
    client = client_with(node_of(spec))
    accelerate(client, seed=0, **QUICK)
    assert isinstance(client._generation_strategy.current_node, GPUGenerationNode)
    advance(client, 3)
    table = timings(client)
    assert table["fit_decision"].iloc[0] == "default"
    if kind in FROM_SCRATCH:
        assert set(table["fit_decision"].iloc[1:]) == {"default"}
        assert all("violates its bounds" in line for line in table["reasons"].iloc[1:])
    else:
        assert set(table["fit_decision"].iloc[1:]) <= {"warm", "kept"}
    assert not any("optimizer:" in line for line in table["reasons"])  # all restarts in one batch
    ours = adapter_of(client)
    client._generation_strategy.fit(client._experiment)
    stock = stock_adapter(client, spec)
    model, theirs = ours.generator.surrogate.model, stock.generator.surrogate.model
    assert type(model.covar_module) is type(theirs.covar_module)
    assert model.state_dict().keys() == theirs.state_dict().keys()
    found = {name: value.clone() for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(model.state_dict())
    theirs.train(), theirs.eval()
    # the same model: with the same hyperparameters it predicts the same
    np.testing.assert_allclose(posterior(ours), posterior(stock), rtol=1e-5, atol=1e-7)
    # a good fit: log density of an observation at most 0.05 below that of stock Ax's fit, under one and the same prior:
    # that of AdditiveMapSaasSingleTaskGP is drawn anew for each model
    fitted = marginal_likelihood(model)
    model.load_state_dict(found)
    assert fitted > marginal_likelihood(model) - 0.05


def test_several_model_configurations_are_chosen_between_as_in_stock_ax():
    spec = botorch(CONFIGS["Matern 5/2"], CONFIGS["RBF, no prior"], CONFIGS["a model class"])
    client = client_with(node_of(spec))
    accelerate(client, seed=0, **QUICK)
    assert isinstance(client._generation_strategy.current_node, GPUGenerationNode)
    advance(client, 2)
    stock = stock_adapter(client, spec)
    client._generation_strategy.fit(client._experiment)
    chosen = adapter_of(client).generator.surrogate.metric_to_best_model_config["f"]
    assert chosen.name == stock.generator.surrogate.metric_to_best_model_config["f"].name


# ---------------------------------------------------------------------- acquisition functions of the user's


class Cautious(qUpperConfidenceBound):
    """A BoTorch acquisition function of the user's; Ax builds it as it builds its parent."""


class Recorded(Acquisition):
    """An Ax acquisition of the user's."""

    calls = 0

    def optimize(self, *args: Any, **kwargs: Any) -> Any:
        type(self).calls += 1
        return super().optimize(*args, **kwargs)


def test_a_botorch_class_of_the_users_is_maximized_as_well_as_stock_ax_would():
    acqf_input_constructor(Cautious)(construct_inputs_qUCB)
    spec = botorch(botorch_acqf_class=Cautious, botorch_acqf_options={"beta": 3.0})
    client = client_with(node_of(spec))
    accelerate(client, seed=0, **QUICK)
    ((run,),) = client._generation_strategy.gen(client._experiment, n=1)
    assert run.gen_metadata["gpu_gs"]["acquisition"] == "Cautious"
    assert "optimizer:" not in "; ".join(run.gen_metadata["gpu_gs"]["reasons"])  # all restarts in one batch
    stock = stock_adapter(client, spec)
    stock.generator.surrogate.model.load_state_dict(adapter_of(client).generator.surrogate.model.state_dict())
    theirs = stock.gen(n=1)
    features = [ObservationFeatures(parameters=one.arms[0].parameters) for one in (run, theirs)]
    ours, best = stock.evaluate_acquisition_function(observation_features=features)
    assert ours > best - 0.05  # standard deviations of the objective


def test_an_ax_acquisition_of_the_users_does_its_own_optimization():
    Recorded.calls = 0
    client = client_with(node_of(botorch(acquisition_class=Recorded)))
    accelerate(client, seed=0, **QUICK)
    advance(client, 1)
    assert Recorded.calls == 1
    assert "the strategy names its own acquisition function" in timings(client)["reasons"].iloc[-1]


# ---------------------------------------------------------------------- model selection, several tasks


def test_a_node_that_selects_between_models_is_left_and_the_other_is_made_fast(caplog):
    selector = SingleDiagnosticBestModelSelector(
        diagnostic="Fisher exact test p",
        metric_aggregation=ReductionCriterion.MEAN,
        criterion=ReductionCriterion.MIN,
    )
    criterion = MinTrials(threshold=9, transition_to="second", use_all_trials_in_exp=True)
    first = GenerationNode(name="first", generator_specs=[botorch()], transition_criteria=[criterion])
    second = GenerationNode(
        name="second",
        generator_specs=[botorch(CONFIGS["Matern 5/2"]), botorch(CONFIGS["RBF, no prior"], enum=Generators.BO_MIXED)],
        best_model_selector=selector,
    )
    client = make_client(GenerationStrategy(nodes=[first, second], name="two"))
    for x, y in STARTS:
        client.complete_trial(client.attach_trial({"x": x, "y": y}), {"f": wave({"x": x, "y": y})})
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        strategy = accelerate(client, seed=0, **QUICK)
    assert "second: it chooses between 2 generators" in caplog.text
    assert isinstance(strategy._nodes[0], GPUGenerationNode) and strategy._nodes[1] is second
    assert second.best_model_selector is selector
    advance(client, 4)
    by = [run._generation_node_name for run in strategy._generator_runs]
    keys = {run._generator_key for run in strategy._generator_runs[-2:]}
    assert by == ["first", "first", "second", "second"]
    assert keys <= {"BoTorch", "BO_MIXED"}


def with_source(client: Any) -> Experiment:
    """The client's experiment, with another experiment beside it whose trials may be transferred."""
    other = make_client(GenerationStrategy(nodes=[node_of(GeneratorSpec(Generators.SOBOL))], name="sobol"))
    other._experiment._name = "source"
    advance(other, 6)
    client._experiment.add_auxiliary_experiment(
        purpose=AuxiliaryExperimentPurpose.TRANSFERABLE_EXPERIMENT,
        auxiliary_experiment=AuxiliaryExperiment(experiment=other._experiment),
    )
    return client._experiment


def test_transfer_learning_is_left_as_it_is(caplog):
    specs, _ = transfer_learning_generator_specs_constructor(use_model_selection=False)
    client = client_with(node_of(*specs))
    with_source(client)
    assert_left(client, caplog, "BOTL is not a BoTorch model that we can warm-start")
    advance(client, 1)
    assert len(client._generation_strategy._generator_runs) == 1


def test_transfer_learning_with_model_selection_is_left_as_it_is(caplog):
    specs, selector = transfer_learning_generator_specs_constructor()
    client = client_with(node_of(*specs, best_model_selector=selector))
    assert_left(client, caplog, "it chooses between 2 generators")


def test_an_auxiliary_experiment_beside_a_node_of_ours_changes_nothing():
    plain, beside = client_with(node_of(botorch())), client_with(node_of(botorch()))
    with_source(beside)
    asked = []
    for client in (plain, beside):
        accelerate(client, seed=0, **QUICK)
        asked.append(advance(client, 1))
    assert asked[0] == asked[1]


def test_a_multi_task_model_is_fitted_warm_and_means_the_same():
    """Each batch trial is a task (``TrialAsTask``)."""
    experiment = get_branin_experiment_with_status_quo_trials(num_sobol_trials=2)
    strategy = GenerationStrategy(nodes=[node_of(GeneratorSpec(Generators.ST_MTGP))], name="tasks")
    accelerate(strategy, seed=0, **QUICK)
    assert isinstance(strategy.current_node, GPUGenerationNode)
    ((first,),) = strategy.gen(experiment, n=2)
    ((second,),) = strategy.gen(experiment, n=2)
    assert all(experiment.search_space.check_membership(arm.parameters) for arm in (*first.arms, *second.arms))
    stock = Generators.ST_MTGP(experiment=experiment)
    model: Any = strategy.adapter.generator.surrogate.model
    theirs: Any = stock.generator.surrogate.model
    assert isinstance(model, MultiTaskGP) and type(model) is type(theirs)
    fitted = marginal_likelihood(theirs)
    theirs.load_state_dict(model.state_dict())
    assert marginal_likelihood(theirs) > fitted - 0.05

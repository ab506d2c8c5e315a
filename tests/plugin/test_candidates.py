"""Candidates where Ax's optimizer takes part, where points repeat, and where observations come out of order."""

import pytest
import torch
from ax.adapter.registry import Generators
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from botorch.acquisition import qLogExpectedImprovement

from gpu_gs import GPUGenerationStrategy, accelerate, load_client, timings
from gpu_gs.optimize.candidates import OptimizeResult
from gpu_gs.plugin import acquisition as acquisition_module
from gpu_gs.plugin import closed_form as closed_form_module
from tests.plugin.helpers import QUICK, advance, largest_difference, make_client, wave


def grid_client(kind: str = "int", bounds=(0, 9), constraints=(), seed=0, **config) -> Client:
    client = Client()
    client.configure_experiment(
        name="grid",
        parameters=[RangeParameterConfig(name=name, parameter_type=kind, bounds=bounds) for name in "xy"],
        parameter_constraints=list(constraints),
    )
    client.configure_optimization(objective="-f")
    client.set_generation_strategy(GPUGenerationStrategy.from_config("fast", seed=seed, **{**QUICK, **config}))
    return client


@pytest.mark.filterwarnings("ignore:Optimization failed in:RuntimeWarning")  # SLSQP, where nothing is left to gain
@pytest.mark.parametrize(
    ("kind", "bounds", "constraints"), [("float", (0.0, 1.0), ["x + y <= 1.2"]), ("int", (0, 9), [])]
)
def test_a_batch_of_arms_is_made_of_different_points_also_by_axs_optimizer(kind, bounds, constraints):
    client = grid_client(kind, bounds, constraints)
    advance(client, 8)
    ((run,),) = client._generation_strategy.gen(client._experiment, n=3)
    points = [tuple(arm.parameters.values()) for arm in run.arms]
    assert len(set(points)) == 3
    if constraints:
        assert all(sum(point) <= 1.2 + 1e-6 for point in points)


def test_the_acquisition_function_of_the_user_is_kept_whatever_the_configuration_says():
    node = GenerationNode(
        name="model",
        generator_specs=[
            GeneratorSpec(
                generator_enum=Generators.BOTORCH_MODULAR,
                generator_kwargs={"botorch_acqf_class": qLogExpectedImprovement},
            )
        ],
    )
    client = make_client(GenerationStrategy(nodes=[node]))
    for x in (0.1, 0.5, 0.9):
        index = client.attach_trial({"x": x, "y": x})
        client.complete_trial(index, {"f": wave({"x": x, "y": x})})
    accelerate(client, seed=0, acquisition={**QUICK["acquisition"], "function": "LogNEI"})
    advance(client, 1)
    assert timings(client)["acquisition"].tolist() == ["qLogExpectedImprovement"]


def test_observations_that_came_out_of_order_are_drawn_alike_after_a_load(tmp_path):
    strategy = GPUGenerationStrategy.from_config(
        "fast", seed=3, acquisition={**QUICK["acquisition"], "function": "LogNEI"}
    )
    client = make_client(strategy)
    advance(client, 7)
    waiting = client.get_next_trials(max_trials=3)
    for index in sorted(waiting, reverse=True):
        client.complete_trial(index, {"f": wave(waiting[index])})
        client.get_next_trials(max_trials=1)  # rows join the table in the order of completion
    path = tmp_path / "run.json"
    client.save_to_json_file(str(path))
    loaded = load_client(path)
    expected = [*client.get_next_trials(max_trials=1).values()]
    found = [*loaded.get_next_trials(max_trials=1).values()]
    assert timings(client)["acquisition"].iloc[-1] == "LogNEI"
    assert largest_difference(found, expected) < 1e-4  # Ax's JSON keeps observations to 10 decimals


def test_a_fall_back_is_seeded_counted_and_explained(monkeypatch):
    monkeypatch.setattr(
        acquisition_module,
        "optimize_acquisition",
        lambda acquisition, lower, upper, **kwargs: OptimizeResult((lower + upper) / 2, 0.0, 1),  # tried before
    )
    torch.manual_seed(1)
    client = make_client(seed=0)
    asked = advance(client, 9)
    table = timings(client).tail(4)
    assert table["ask"].tolist() == [0, 1, 2, 3]
    assert all("5 attempts repeated points tried before, so Fallback_Sobol" in text for text in table["reasons"])
    torch.manual_seed(2)
    assert advance(make_client(seed=0), 9) == asked


def test_a_single_restart_is_enough():
    client = make_client(
        GPUGenerationStrategy.from_config("fast", seed=0, acquisition={"restarts": 1, "raw_samples": 16})
    )
    assert len(advance(client, 7)) == 7


@pytest.mark.parametrize("function", ["LogEI", "LogNEI", "UCB"])
def test_autograd_takes_the_gradient_of_the_closed_form(function):
    client = make_client(
        GPUGenerationStrategy.from_config("fast", seed=0, acquisition={**QUICK["acquisition"], "function": function})
    )
    used = []
    original = closed_form_module.LogEIAcquisition.optimize

    def spy(self, *args, **kwargs):
        used.append(self.acqf)
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed_form_module.LogEIAcquisition, "optimize", spy)
        advance(client, 8)
    acqf = used[-1]
    X = torch.rand(5, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double).requires_grad_(True)
    acqf.set_X_pending(torch.tensor([[0.2, 0.8]], dtype=torch.double))
    assert torch.autograd.gradcheck(acqf, X, atol=1e-5, rtol=1e-4)
    with pytest.raises(AssertionError, match="Expected X to be"):
        acqf(torch.rand(5, 2, 2, dtype=torch.double))


def test_a_repeated_attempt_goes_elsewhere_while_there_is_somewhere_to_go():
    client = make_client(seed=1)
    client_function = lambda point: -point["x"] - point["y"]  # noqa: E731  # the optimum is a corner, asked for again and again
    advance(client, 14, client_function)
    table = timings(client)
    points = [tuple(trial.arm.parameters.values()) for trial in client._experiment.trials.values()]
    assert len(set(points)) == len(points)
    assert (table["attempts"].fillna(0) > 1).any(), "the corner was proposed again"
    assert not table["reasons"].str.contains("Fallback_Sobol").any()

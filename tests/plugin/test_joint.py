"""Outcome constraints, scalarized and several objectives through the Client: closed forms, and good candidates."""

from types import SimpleNamespace

import pytest
import torch
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from ax.generators.torch_base import TorchOptConfig
from botorch.models import ModelListGP, SingleTaskGP
from gpytorch.kernels import PeriodicKernel

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.plugin import closed_form, sequence
from gpu_gs.plugin.joint import JointAcquisition
from tests.gp.models import data, make_model
from tests.plugin.helpers import QUICK, wave


def evaluate(parameters):
    x, y = float(parameters["x"]), float(parameters["y"])
    return {"f": wave(parameters), "g": (x - 0.5) ** 2 + (y - 0.5) ** 2, "h": x - 2 * y}


def client_for(objective, constraints=None, strategy=None, **overrides):
    client = Client(random_seed=0)
    client.configure_experiment(
        name="several",
        parameters=[RangeParameterConfig(name=name, parameter_type="float", bounds=(0.0, 1.0)) for name in "xy"],
    )
    client.configure_optimization(objective=objective, outcome_constraints=constraints)
    if strategy is None:
        strategy = GPUGenerationStrategy.from_config("fast", seed=0, **{**QUICK, **overrides})
    client.set_generation_strategy(strategy)
    return client


def told(client, parameters):
    names = client._experiment.optimization_config.metric_names
    return {name: value for name, value in evaluate(parameters).items() if name in names}


def advance(client, trials, at_once=1):
    asked = []
    while len(asked) < trials:
        wave_of_trials = client.get_next_trials(max_trials=at_once)
        for index, parameters in wave_of_trials.items():
            client.complete_trial(index, told(client, parameters))
            asked.append(dict(parameters))
    return asked


KINDS = {
    "one constraint": ("-f", ["g <= 0.05"], "constrained LogEI"),
    "two constraints": ("-f", ["g <= 0.2", "h >= -0.4"], "constrained LogEI"),
    "an interval": ("-f", ["h <= 0.1", "h >= -0.4"], "constrained LogEI"),
    "scalarized": ("-f + 0.5*h", None, "LogEI"),
    "two objectives": ("-f, -g", None, "LogEHVI"),
    "three objectives": ("-f, -g, h", None, "LogEHVI"),
    "two objectives with a threshold": ("-f, -g", ["f <= 0.5"], "LogEHVI"),
    "two objectives and a constraint": ("-f, h", ["g <= 0.15"], "constrained LogEHVI"),
    "nothing feasible": ("-f", ["g <= -1.0"], "LogPF"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_problem_has_a_closed_form(kind):
    objective, constraints, label = KINDS[kind]
    client = client_for(objective, constraints)
    advance(client, 9)
    table = timings(client).tail(2)
    assert set(table["acquisition"]) == {label}
    assert not [
        reason for reason in ";".join(table["reasons"]).split(";") if "acquisition" in reason or "model" in reason
    ]


@pytest.mark.parametrize("kind", ["one constraint", "two objectives", "two objectives and a constraint"])
@pytest.mark.parametrize("function", ["LogEI", "LogNEI"])
def test_several_candidates_are_the_same_to_the_last_bit_with_and_without_the_cache(kind, function, monkeypatch):
    objective, constraints, _ = KINDS[kind]
    options = {"acquisition": {**QUICK["acquisition"], "function": function}}
    client, other = client_for(objective, constraints, **options), client_for(objective, constraints, **options)
    assert advance(client, 7) == advance(other, 7)
    cached = list(client.get_next_trials(max_trials=3).values())

    class Forgetful(dict):
        def __setitem__(self, key, value):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(sequence, "_KEPT", Forgetful())
        assert list(other.get_next_trials(max_trials=3).values()) == cached
    assert len({tuple(p.values()) for p in cached}) == 3


def test_a_constrained_optimum_is_found():
    client = client_for("-f", ["g <= 0.05"])
    asked = advance(client, 20)
    feasible = [wave(p) for p in asked if evaluate(p)["g"] <= 0.05]
    grid = torch.linspace(0, 1, 401, dtype=torch.double)
    best = min(
        wave({"x": x, "y": y})
        for x in grid.tolist()
        for y in grid[::4].tolist()
        if (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.05
    )
    assert min(feasible) < best + 0.02


def test_metrics_that_some_trials_lack_do_not_stop_an_ask():
    client = client_for("-f", ["g <= 0.3"])
    for i in range(9):
        ((index, parameters),) = client.get_next_trials(max_trials=1).items()
        values = told(client, parameters)
        if i % 3 == 2:
            client.attach_data(index, {"f": values["f"]})
            client.mark_trial_failed(index) if i == 5 else client.complete_trial(index, {"g": values["g"]})
        else:
            client.complete_trial(index, values)
    assert set(timings(client).tail(2)["acquisition"]) <= {"constrained LogEI", "constrained LogNEI"}


def test_the_candidate_is_about_as_good_by_stock_axs_own_acquisition_function():
    # Stock Ax averages over what the values at observed points may be, whatever the noise.
    ours = client_for("-f", ["g <= 0.05"], acquisition={"function": "LogNEI"})
    advance(ours, 12)
    initialization = {"budget": 5, "center": False, "use_existing_trials": True}
    reference = GPUGenerationStrategy.from_config("reference", seed=0, initialization=initialization)
    stock = client_for("-f", ["g <= 0.05"], strategy=reference)
    for trial in ours._experiment.trials.values():
        (index,) = [stock.attach_trial(dict(trial.arm.parameters))]
        stock.complete_trial(index, told(stock, trial.arm.parameters))
    (candidate,) = ours.get_next_trials(max_trials=1).values()
    (theirs,) = stock.get_next_trials(max_trials=1).values()
    adapter = stock._generation_strategy.adapter
    from ax.core.observation import ObservationFeatures

    value_of_ours, value_of_theirs = adapter.evaluate_acquisition_function(
        [ObservationFeatures(parameters=dict(p)) for p in (candidate, theirs)]
    )
    assert value_of_ours > value_of_theirs - 0.7  # log of the improvement; both are estimates by sampling


def test_the_closed_form_serves_axs_own_evaluation():
    client = client_for("-f", ["g <= 0.05"])
    advance(client, 8)
    from ax.core.observation import ObservationFeatures

    values = client._generation_strategy.adapter.evaluate_acquisition_function(
        [ObservationFeatures(parameters={"x": 0.2, "y": 0.3}), ObservationFeatures(parameters={"x": 0.9, "y": 0.9})]
    )
    assert len(values) == 2
    assert all(abs(value) < 1e6 for value in values)


def test_ucb_of_several_outcomes_is_left_to_ax_with_a_reason():
    options = {"acquisition": {**QUICK["acquisition"], "function": "UCB"}}
    client = client_for("-f", ["g <= 0.3"], **options)
    advance(client, 7)
    assert "UCB is of one outcome" in timings(client).iloc[-1]["reasons"]


def test_outcomes_without_a_common_point_are_left_to_ax_with_a_reason():
    one, other = make_model("rbf", 8, 2).eval(), make_model("rbf", 8, 2, seed=1).eval()
    surrogate = SimpleNamespace(model=ModelListGP(one, other), Xs=[one.train_inputs[0], other.train_inputs[0]])
    config = TorchOptConfig(objective_weights=torch.tensor([[1.0, 0.5]], dtype=torch.double))
    reasons = JointAcquisition.reasons_against(surrogate, config, "auto")
    assert reasons == ["acquisition: no point has been observed for all outcomes"]
    surrogate.Xs = [one.train_inputs[0]] * 2
    assert JointAcquisition.reasons_against(surrogate, config, "auto") == []


def test_outcomes_that_do_not_matter_need_no_closed_form():
    plain, own = make_model("rbf", 8, 2).eval(), SingleTaskGP(*data(8, 2), covar_module=PeriodicKernel()).eval()
    surrogate = SimpleNamespace(model=ModelListGP(own, plain, plain), Xs=[plain.train_inputs[0]] * 3)
    config = TorchOptConfig(objective_weights=torch.tensor([[0.0, 1.0, 0.5]], dtype=torch.double))
    assert JointAcquisition.reasons_against(surrogate, config, "auto") == []
    config = TorchOptConfig(objective_weights=torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.double))
    assert JointAcquisition.reasons_against(surrogate, config, "auto") != []


def test_a_pending_point_without_the_fixed_values_raises_no_incumbent(monkeypatch):
    client = client_for("-f", ["g <= 0.3"])
    advance(client, 8)
    client.attach_trial({"x": 0.9, "y": 0.4})
    made = []
    real = closed_form.ClosedFormAcquisition._begin

    def begin(self, *args, **kwargs):
        real(self, *args, **kwargs)
        made.append(self.X_pending)

    monkeypatch.setattr(closed_form.ClosedFormAcquisition, "_begin", begin)
    client.get_next_trials(max_trials=1, fixed_parameters={"x": 0.2})
    client.get_next_trials(max_trials=1)
    assert made[0] is None
    assert len(made[-1]) == 2


def test_both_closed_forms_are_of_one_family():
    assert issubclass(JointAcquisition, closed_form.ClosedFormAcquisition)

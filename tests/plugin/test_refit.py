"""Refits on an ask: kept hyperparameters, what ends their stay, and the same decisions after a reload."""

import copy
import json
import pickle
import subprocess
import sys

import pytest
import torch
from ax.adapter import cross_validation
from ax.adapter.cross_validation import cross_validate
from ax.core.observation import ObservationFeatures
from ax.core.search_space import SearchSpaceDigest
from ax.generators.torch.botorch_modular.surrogate import SurrogateSpec
from ax.generators.torch.botorch_modular.utils import ModelConfig
from botorch.models import SingleTaskGP
from botorch.settings import validate_input_scaling
from botorch.utils.datasets import SupervisedDataset

from gpu_gs import GPUGenerationStrategy, load_client, timings
from gpu_gs.config import StrategyConfig
from gpu_gs.device import DevicePolicy, decide
from gpu_gs.gp import posterior, refit
from gpu_gs.gp.likelihood import MEMORY_MB
from gpu_gs.gp.model import ClosedFormGP
from gpu_gs.gp.posterior import build_states
from gpu_gs.plugin import surrogate as surrogate_module
from gpu_gs.plugin.ask import Ask, in_progress
from gpu_gs.plugin.generator import STATE_VERSION, WarmBoTorchGenerator, fit_options
from gpu_gs.plugin.surrogate import WarmSurrogate
from tests.plugin.helpers import QUICK, advance, largest_difference, make_client, wave


def with_refit(schedule, seed=0, **kwargs):
    return make_client(GPUGenerationStrategy.from_config("fast", seed=seed, fit={"refit": schedule}, **QUICK), **kwargs)


def generator_of(client):
    return client._generation_strategy.current_node.generator_spec._fitted_adapter.generator


def decisions(client):
    return timings(client)["fit_decision"].dropna().tolist()


def attach(client, count, function=wave, seed=0):
    """Random points by hand: many observations in little time."""
    points = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    for x, y in points.tolist():
        index = client.attach_trial({"x": x, "y": y})
        client.complete_trial(index, {"f": function({"x": x, "y": y})})


@pytest.fixture
def soon(monkeypatch):
    """Adaptive keeps hyperparameters from 8 observations on."""
    monkeypatch.setattr(refit, "ALWAYS_BELOW", 8)
    monkeypatch.setattr(refit, "GROWTH", 0.4)
    monkeypatch.setattr(refit, "LOCATION_DRIFT", 10.0)
    monkeypatch.setattr(refit, "SCALE_DRIFT", 10.0)
    monkeypatch.setattr(refit, "SURPRISE", 1e9)


def test_adaptive_keeps_hyperparameters_until_the_data_have_grown(soon):
    client = with_refit("adaptive")
    advance(client, 16)
    assert decisions(client) == [
        "default",
        "warm",
        "warm",
        "kept",
        "kept",
        "warm",
        "kept",
        "kept",
        "kept",
        "warm",
        "kept",
    ]
    table = timings(client)
    assert table["fit_evaluations"].iloc[-1] == 0
    assert "growth from 7 to 10" in table["refit_reason"].loc[10]


def test_always_never_keeps(soon):
    client = with_refit("always")
    advance(client, 12)
    assert decisions(client) == ["default"] + ["warm"] * 6


def test_every_k_refits_on_each_kth_ask():
    client = with_refit({"every": 3})
    advance(client, 13)
    assert decisions(client) == ["default", "kept", "kept", "warm", "kept", "kept", "warm", "kept"]


def test_a_surprising_observation_ends_the_stay(soon, monkeypatch):
    monkeypatch.setattr(refit, "SURPRISE", 3.0)
    client = with_refit("adaptive")
    advance(client, 10)
    advance(client, 1, function=lambda p: 40.0)
    advance(client, 1)
    assert "surprise" in timings(client)["refit_reason"].iloc[-1]
    assert decisions(client)[-1] == "warm"


def test_a_drifted_scale_ends_the_stay(soon, monkeypatch):
    monkeypatch.setattr(refit, "SCALE_DRIFT", 1.25)
    client = with_refit("adaptive")
    advance(client, 10)
    advance(client, 1, function=lambda p: 1e4)
    advance(client, 1)
    assert "the scale of f" in timings(client)["refit_reason"].iloc[-1]


def test_the_state_of_a_kept_ask_is_the_model_from_scratch():
    client = with_refit({"every": 100})
    advance(client, 6)
    generator = generator_of(client)
    for _ in range(3):
        advance(client, 1)
        model = generator.surrogate.model
        assert isinstance(model, ClosedFormGP)
        (found,), (expected,) = model.posterior_states, build_states(model)
        torch.testing.assert_close(found.L, expected.L, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(found.y, model.train_targets, rtol=0, atol=0)
        with validate_input_scaling(False):  # the scale is that of the first fit
            stock = SingleTaskGP(model.train_inputs[0], model.train_targets.unsqueeze(-1), outcome_transform=None)
        stock.load_state_dict(model.state_dict())
        at = torch.rand(5, 2, dtype=torch.double)
        with torch.no_grad():
            torch.testing.assert_close(model.posterior(at).mean, stock.posterior(at).mean, rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(model.posterior(at).variance, stock.posterior(at).variance, rtol=1e-5, atol=1e-8)


def test_rows_are_appended_to_the_factor_of_the_last_ask(monkeypatch):
    client = with_refit({"every": 100})
    advance(client, 7)
    factored = []
    cholesky = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda K, **kw: factored.append(len(K)) or cholesky(K, **kw))
    advance(client, 2)
    assert decisions(client)[-2:] == ["kept", "kept"]
    assert factored.count(1) == 2 and not {8, 9} & set(factored)


def test_known_noise_is_the_same_from_ask_to_ask_so_that_rows_are_appended(soon, monkeypatch):
    def advance_with_noise(client, count):
        for _ in range(count):
            for index, parameters in client.get_next_trials(max_trials=1).items():
                client.complete_trial(index, {"f": (wave(parameters), 0.05 * (1 + index % 3))})

    client = with_refit({"every": 100})
    advance_with_noise(client, 7)
    factored = []
    cholesky = posterior.cholesky  # not that of LogNEI's joint draws
    monkeypatch.setattr(posterior, "cholesky", lambda K: factored.append(len(K)) or cholesky(K))
    advance_with_noise(client, 2)
    assert decisions(client) == ["default", "kept", "kept", "kept"]
    assert factored == [1, 1]
    model = generator_of(client).surrogate.model
    torch.testing.assert_close(model.posterior_states[0].L, build_states(model)[0].L, rtol=1e-9, atol=1e-11)


def test_kept_hyperparameters_keep_the_scale_that_they_were_fitted_to(soon):
    client = with_refit({"every": 3})
    advance(client, 6)
    maps = []
    for _ in range(4):
        advance(client, 1)
        standardized = client._generation_strategy.adapter.transforms["StandardizeY"]
        maps.append(standardized.y_maps)
        (memory,) = generator_of(client).asked["refits"].values()
        assert standardized.y_maps == {name: tuple(pair) for name, pair in memory["y_maps"].items()}
    assert decisions(client)[-4:] == ["kept", "kept", "warm", "kept"]
    assert maps[0] == maps[1] != maps[2] == maps[3]
    observed = torch.tensor([wave(trial.arm.parameters) for trial in client._experiment.trials.values()][:9])
    model = generator_of(client).surrogate.model
    mean, deviation = maps[3]["f"]
    expected = (observed.double() - mean) / deviation  # nothing is winsorized here
    torch.testing.assert_close(model.train_targets.sort().values, expected.sort().values, rtol=1e-6, atol=1e-6)


def test_predictions_and_thresholds_are_in_the_units_of_the_data_whatever_scale_is_kept(soon):
    config = {"objective": "-f", "outcome_constraints": ["g <= 0.5"]}
    client = make_client(
        GPUGenerationStrategy.from_config("fast", seed=3, fit={"refit": {"every": 100}}, **QUICK), **config
    )
    for _ in range(14):
        for index, p in client.get_next_trials(max_trials=1).items():
            client.complete_trial(index, {"f": (wave(p), 0.001), "g": (20 * p["x"] - 9, 0.001)})
    assert decisions(client)[-1] == "kept"
    adapter = client._generation_strategy.adapter
    standardized = adapter.transforms["StandardizeY"]
    for name in ("f", "g"):
        assert standardized.y_maps[name] != pytest.approx(standardized.today[name], rel=0.01)
    points = [client._experiment.trials[i].arm.parameters for i in (6, 9, 12)]
    means, _ = adapter.predict([ObservationFeatures(parameters=p) for p in points])
    assert means["f"] == pytest.approx([wave(p) for p in points], abs=0.02)
    assert means["g"] == pytest.approx([20 * p["x"] - 9 for p in points], abs=0.1)
    (constraint,) = adapter._get_transformed_gen_args(adapter._search_space).optimization_config.outcome_constraints
    mean, deviation = standardized.y_maps["g"]
    assert constraint.bound == pytest.approx((0.5 - mean) / deviation)


def test_a_model_that_cannot_be_kept_gets_the_scale_of_the_day(soon, monkeypatch):
    client = with_refit({"every": 100})
    advance(client, 8)
    monkeypatch.setattr(surrogate_module, "load_hyperparameters", lambda model, values: ["a test"] if values else [])
    for _ in range(4):
        advance(client, 1)
        standardized = client._generation_strategy.adapter.transforms["StandardizeY"]
    assert decisions(client)[-1] != "kept"
    assert standardized.y_maps == standardized.today


def test_what_is_known_of_another_grouping_of_the_outcomes_is_forgotten():
    client = with_refit({"every": 100}, objective="-f, -g")
    for _ in range(9):
        for index, p in client.get_next_trials(max_trials=1).items():
            outcomes = {"f": wave(p), "g": p["x"]}
            client.complete_trial(index, outcomes)
    surrogate = generator_of(client).surrogate
    assert len(surrogate.memories) == len(surrogate.fits) == len(surrogate._submodels) == 1  # one model of both
    index = client.attach_trial({"x": 0.11, "y": 0.22})
    client.attach_data(index, {"f": 0.5})
    client.mark_trial_early_stopped(index)
    client.get_next_trials(max_trials=1)
    assert sorted(key.partition("@")[0] for key in surrogate.memories) == ["f", "g"]
    assert surrogate.memories.keys() == surrogate.fits.keys() == generator_of(client).asked["refits"].keys()
    assert sorted(surrogate._submodels) == [("f",), ("g",)]


def test_several_metrics_are_kept_and_refitted_each_on_its_own():
    client = with_refit({"every": 2}, objective="-f, -g")
    for _ in range(9):
        for index, p in client.get_next_trials(max_trials=1).items():
            client.complete_trial(index, {"f": wave(p), "g": p["x"]})
    assert decisions(client) == ["default", "kept", "warm", "kept"]
    assert len(generator_of(client).asked["refits"]) >= 1


def test_questions_between_asks_change_neither_decisions_nor_candidates(soon):
    plain, asked = with_refit("adaptive", seed=4), with_refit("adaptive", seed=4)
    expected = advance(plain, 14)
    found = advance(asked, 9)
    for _ in range(5):
        before = generator_of(asked).asked
        asked._generation_strategy.fit(asked._experiment)
        asked.predict([{"x": 0.2, "y": 0.4}])
        asked.get_best_parameterization()
        assert generator_of(asked).asked is before
        found += advance(asked, 1)
    assert generator_of(asked).asked == generator_of(plain).asked
    assert largest_difference(found, expected) == 0.0


def test_a_fit_between_asks_on_data_that_grows_on_leaves_the_decision_alone(soon):
    clients = [with_refit("adaptive", seed=4) for _ in range(2)]
    for client in clients:
        advance(client, 9)
    for number, client in enumerate(clients):
        for _ in range(2):
            attach(client, 1, seed=7)
            if number:
                client._generation_strategy.fit(client._experiment)
    one, other = (advance(client, 3) for client in clients)
    assert generator_of(clients[0]).asked["refits"] == generator_of(clients[1]).asked["refits"]
    assert largest_difference(one, other) < 1e-9


CONTINUE = """
import json, sys
from gpu_gs import load_client, timings
sys.path.insert(0, {root!r})
from tests.plugin.helpers import advance, wave
client = load_client({path!r})
asked = advance(client, 6, function=lambda p: round(wave(p), 6))
print(json.dumps([asked, timings(client)["fit_decision"].dropna().tolist()]))
"""


def test_a_fresh_process_makes_the_same_decisions_and_proposes_the_same(tmp_path, pytestconfig):
    def rounded(p):  # Ax's JSON keeps observations to 10 decimals
        return round(wave(p), 6)

    path = tmp_path / "run.json"
    client = with_refit("adaptive", seed=2)
    attach(client, 60, rounded)
    advance(client, 3, rounded)
    assert decisions(client)[-1] == "kept"
    client.save_to_json_file(str(path))
    expected = advance(client, 6, rounded)
    script = CONTINUE.format(root=str(pytestconfig.rootpath), path=str(path))
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    asked, decided = json.loads(found.stdout.strip().splitlines()[-1])
    assert decided == decisions(client)
    assert {"kept", "warm"} <= set(decided[-6:])
    assert largest_difference(asked, expected) < 1e-6


def test_an_unfinished_fit_goes_on_after_new_data_also_after_a_reload(tmp_path, soon, monkeypatch):
    monkeypatch.setattr(refit, "REST", 0.15)  # of 13 observations: the second new one
    monkeypatch.setattr(refit, "LONGEST_STAY", 100)
    fit = {"refit": "adaptive", "warm_iterations": 1}
    client = make_client(GPUGenerationStrategy.from_config("fast", seed=2, fit=fit, **QUICK))
    attach(client, 8, lambda p: round(wave(p), 6))
    advance(client, 6, lambda p: round(wave(p), 6))
    assert decisions(client) == ["default", "kept", "kept", "kept", "warm"]  # by growth from 9 to 13; cut short
    path = tmp_path / "run.json"
    client.save_to_json_file(str(path))
    for one in (client, load_client(path)):
        advance(one, 4, lambda p: round(wave(p), 6))
        found = timings(one).tail(4)
        assert found["fit_decision"].tolist() == ["kept", "warm", "kept", "kept"]  # 15 % of 15 are the third new one
        assert found["refit_reason"].tolist()[1] == "the last refit ran out of iterations"


@pytest.mark.parametrize(
    ("fit", "few", "many"),
    [
        ({}, 30, 15),
        ({"refit": "always"}, 30, 15),
        ({"refit": {"every": 5}}, 30, 30),  # what is unfinished would stay for five asks
        ({"warm_iterations": 20}, 20, 20),
    ],
)
def test_a_number_of_warm_iterations_is_taken_at_its_word_and_auto_means_fewer_for_much_data(fit, few, many):
    options = fit_options(StrategyConfig.load("fast", fit=fit).fit)
    assert (options.iterations("warm", 200), options.iterations("warm", 201)) == (few, many)
    assert options.iterations("default", 1000) == options.iterations("cold", 20) == 200


@pytest.mark.parametrize("schedule", ["always", "adaptive"])
def test_an_ask_without_new_data_is_the_same_after_a_reload(tmp_path, schedule):
    path = tmp_path / "run.json"
    client = with_refit(schedule, seed=2)
    advance(client, 8, lambda p: round(wave(p), 6))
    client.get_next_trials(max_trials=1)  # not told
    client.save_to_json_file(str(path))
    found = [list(one.get_next_trials(max_trials=1).values()) for one in (client, load_client(path))]
    assert largest_difference(*found) < 1e-6


def test_a_state_of_version_1_is_read_and_refitted_warm():
    client = with_refit({"every": 100})
    advance(client, 8)
    settings = client._generation_strategy.current_node.settings.to_stored()
    state = dict(client._generation_strategy.last_generator_run._generator_state_after_gen["warm_state"])
    assert state["version"] == STATE_VERSION
    old = {**{name: value for name, value in state.items() if name != "refits"}, "version": 1}
    surrogate = generator_of(client).surrogate
    generator = WarmBoTorchGenerator(settings=settings, warm_state=old, surrogate_spec=surrogate.surrogate_spec)
    assert generator.asked["hyperparameters"] == state["hyperparameters"]
    data = surrogate.training_data
    generator.y_maps = generator_of(client).y_maps
    generator.fit(data, SearchSpaceDigest(feature_names=["x", "y"], bounds=[(0.0, 1.0)] * 2))
    (result,) = generator.surrogate.fits.values()
    assert (result.decision, result.because) == ("warm", ("no earlier fit is known",))


def test_the_state_stays_small():
    client = with_refit({"every": 3})
    advance(client, 9)
    run = client._generation_strategy.last_generator_run
    assert len(json.dumps(run._generator_state_after_gen)) < 1500


def with_diagnostics(when, refit="always"):
    return make_client(
        GPUGenerationStrategy.from_config("fast", seed=0, diagnostics=when, fit={"refit": refit}, **QUICK)
    )


def test_diagnostics_are_recorded_by_metric_with_their_cost_and_change_no_candidate():
    plain, client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, **QUICK)), with_diagnostics("always")
    assert largest_difference(advance(client, 9), advance(plain, 9)) < 1e-9
    table = timings(client)
    assert table["leave_one_out"].iloc[:5].isna().all()
    for found in table["leave_one_out"].iloc[5:]:
        assert set(found) == {"f"}
        assert set(found["f"]) == {"loo_log_density", "loo_rmse", "loo_coverage", "loo_rank_correlation"}
    assert timings(plain)["leave_one_out"].isna().all()


def test_diagnostics_cost_a_stage_of_their_own():
    client = with_diagnostics({"every": 2})
    advance(client, 9)
    cost = timings(client)["diagnostics"].iloc[5:]
    assert (cost > 0).tolist() == [True, False, True, False]
    assert timings(client)["leave_one_out"].iloc[5:].notna().tolist() == [True, False, True, False]


def test_diagnostics_of_kept_hyperparameters_are_kept_up_and_right():
    client = with_diagnostics("always", refit={"every": 100})
    advance(client, 10)
    assert decisions(client)[-3:] == ["kept"] * 3
    (state,) = generator_of(client).surrogate.model.posterior_states
    expected = torch.linalg.inv(state.L @ state.L.T).diagonal()
    torch.testing.assert_close(state.inverse_diagonal, expected, rtol=1e-6, atol=1e-7)
    recorded = timings(client)["leave_one_out"].iloc[-1]["f"]
    assert recorded["loo_rmse"] == pytest.approx(float((state.alpha / expected).square().mean().sqrt()), rel=1e-6)


def test_diagnostics_after_a_refit_take_the_inverse_that_it_formed(monkeypatch):
    client = with_diagnostics("always")
    advance(client, 8)
    inverted = []
    inverse = torch.cholesky_inverse

    def spy(L, **kwargs):
        inverted.append(L.shape[-1])
        return inverse(L, **kwargs)

    monkeypatch.setattr(torch, "cholesky_inverse", spy)
    advance(client, 1)
    assert decisions(client)[-1] == "warm"
    assert inverted == [8] * int(timings(client)["fit_evaluations"].iloc[-1])
    (state,) = generator_of(client).surrogate.model.posterior_states
    expected = torch.linalg.inv(state.L @ state.L.T).diagonal()
    torch.testing.assert_close(state.inverse_diagonal, expected, rtol=1e-6, atol=1e-7)


def test_half_the_memory_for_batches_is_half_that_of_a_fit_too(monkeypatch):
    client = with_refit("always")
    advance(client, 7)
    generator = generator_of(client)
    given = []
    fit = surrogate_module.fit
    monkeypatch.setattr(surrogate_module, "fit", lambda *a, **kw: given.append(kw["memory_mb"]) or fit(*a, **kw))
    decision = decide(DevicePolicy(device="cpu"), n=7, d=2, num_outputs=1)
    data = generator.surrogate.training_data
    for halved in (False, True):
        generator.surrogate._last_datasets, generator.surrogate._submodels = {}, {}
        generator.asked = {**generator.asked, "refits": {}}
        with in_progress(Ask(decision=decision, halved=halved)):
            generator.fit(data, DIGEST)
    assert given == [MEMORY_MB, MEMORY_MB // 2]


# ------------------------------------------------------------------------------------------ the surrogate alone

DIGEST = SearchSpaceDigest(feature_names=["x", "y"], bounds=[(0.0, 1.0)] * 2)


def dataset(n, seed=0):
    """The first n of a sequence of observations."""
    X = torch.rand(40, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.double)[:n]
    Y = torch.sin(5 * X).sum(-1, keepdim=True)
    Y = (Y - Y.mean()) / Y.std()
    return SupervisedDataset(X=X, Y=Y, feature_names=["x", "y"], outcome_names=["f"])


def ask(surrogate, data):
    surrogate.fit([data], DIGEST)
    surrogate.commit()
    surrogate.warm, surrogate.remembered = surrogate.export_warm(), dict(surrogate.memories)
    return next(iter(surrogate.fits.values())).decision


def appended(monkeypatch):
    """Whether the factor of each fit from now on was had by appending."""
    grown = []
    original = surrogate_module.build_states

    def spy(model, earlier=()):
        states = original(model, earlier)
        grown.append(bool(earlier) and torch.equal(states[0].L[: len(earlier[0].Z), : len(earlier[0].Z)], earlier[0].L))
        return states

    monkeypatch.setattr(surrogate_module, "build_states", spy)
    return grown


@pytest.mark.parametrize("how", [copy.deepcopy, lambda surrogate: pickle.loads(pickle.dumps(surrogate))])
def test_copies_of_a_surrogate_factor_anew_and_end_where_it_does(how, monkeypatch):
    one = WarmSurrogate(surrogate_spec=SurrogateSpec(model_configs=[ModelConfig(name="m")]), schedule=100)
    for n in (15, 18):
        ask(one, dataset(n))
    other = how(one)
    grown = appended(monkeypatch)
    assert ask(one, dataset(21)) == ask(other, dataset(21)) == "kept"
    assert grown == [True, False]
    at = torch.rand(4, 2, dtype=torch.double)
    with torch.no_grad():
        a, b = (surrogate.model.posterior(at).mean for surrogate in (one, other))
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_changed_old_rows_are_factored_anew_with_the_kept_hyperparameters(monkeypatch):
    surrogate = WarmSurrogate(schedule=100)
    ask(surrogate, dataset(15))
    grown = appended(monkeypatch)
    before = surrogate.warm
    assert ask(surrogate, dataset(17, seed=5)) == "kept"
    assert grown == [False]
    assert surrogate.warm == before


def test_a_class_that_the_user_chose_stays():
    class Mine(SingleTaskGP):
        pass

    for chosen, expected in ((None, ClosedFormGP), (SingleTaskGP, ClosedFormGP), (Mine, Mine)):
        spec = SurrogateSpec(model_configs=[ModelConfig(botorch_model_class=chosen, name="m")])
        surrogate = WarmSurrogate(surrogate_spec=spec)
        surrogate.fit([dataset(12)], DIGEST)
        assert type(surrogate.model) is expected


def test_kept_hyperparameters_that_do_not_load_are_refitted_with_the_reason():
    surrogate = WarmSurrogate(schedule=100)
    ask(surrogate, dataset(15))
    (key,) = surrogate.warm
    surrogate.warm = {key: {"something": 1.0}}
    assert ask(surrogate, dataset(16)) == "default"
    assert "another model" in surrogate.fits[key].because[0]


def test_the_scene_of_ax_is_as_ever_with_our_model(monkeypatch):
    client = make_client()
    advance(client, 9)
    assert type(generator_of(client).surrogate.model) is ClosedFormGP

    def refuse(*args, **kwargs):
        raise AssertionError("fold by fold")

    monkeypatch.setattr(cross_validation, "_fold_cross_validate", refuse)
    adapter = client._generation_strategy.current_node.generator_spec._fitted_adapter
    assert len(cross_validate(adapter)) > 4
    client.get_best_parameterization()
    assert client.compute_analyses(display=False)
    assert set(client.predict([{"x": 0.2, "y": 0.4}])[0]) == {"f"}


def test_a_loaded_client_keeps_where_the_saved_one_would(tmp_path):
    path = tmp_path / "run.json"
    client = with_refit({"every": 3})
    advance(client, 9)
    client.save_to_json_file(str(path))
    loaded = load_client(path)
    advance(client, 4), advance(loaded, 4)
    assert decisions(loaded) == decisions(client)

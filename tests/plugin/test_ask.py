"""What an ask does, and what it leaves out and leaves alone."""

import gc
import random
import threading
import warnings

import numpy as np
import pytest
import torch
from ax.adapter import cross_validation
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.experiment import Experiment
from ax.core.metric import Metric
from ax.core.observation import ObservationFeatures
from ax.generators.torch.botorch_modular.generator import BoTorchGenerator
from ax.generators.torch.botorch_modular.surrogate import Surrogate

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.plugin.node import GPUGenerationNode
from tests.gp.test_likelihood import LargeTensors
from tests.plugin.helpers import QUICK, advance, largest_difference, make_client, make_mixed_client, sphere, wave


def refuse(*args, **kwargs):
    raise AssertionError("this must not run on an ask")


def test_an_ask_runs_no_cross_validation_no_best_point_and_no_fetch(monkeypatch):
    client = make_client()
    advance(client, 6)
    monkeypatch.setattr(cross_validation, "cross_validate", refuse)
    monkeypatch.setattr(cross_validation, "_efficient_loo_cross_validate", refuse)
    monkeypatch.setattr(cross_validation, "_fold_cross_validate", refuse)
    monkeypatch.setattr(BoTorchGenerator, "best_point", refuse)
    monkeypatch.setattr(Surrogate, "best_in_sample_point", refuse)
    monkeypatch.setattr(Surrogate, "cross_validate", refuse)
    monkeypatch.setattr(Experiment, "fetch_data", refuse)
    monkeypatch.setattr(Metric, "fetch_experiment_data_multi", refuse)
    advance(client, 3)
    assert client._generation_strategy.current_node_name == "MBM"
    assert len(client._experiment.trials) == 9


def test_the_adapter_is_the_same_object_over_many_asks():
    client = make_client()
    advance(client, 6)
    node = client._generation_strategy.current_node
    assert isinstance(node, GPUGenerationNode)
    adapter = node.generator_spec._fitted_adapter
    assert adapter is not None
    advance(client, 5)
    assert node.generator_spec._fitted_adapter is adapter


def test_hyperparameters_are_warm_started_from_the_previous_ask():
    client = make_client()
    advance(client, 9)
    decisions = timings(client)["fit_decision"].dropna().tolist()
    assert decisions[0] == "default"
    assert set(decisions[1:]) == {"warm"}


def test_without_warm_start_every_fit_begins_at_the_default():
    client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, fit={"warm_start": False}, **QUICK))
    advance(client, 8)
    assert set(timings(client)["fit_decision"].dropna()) == {"default"}


def test_a_useless_warm_start_gives_way_to_the_default():
    client = make_client()
    advance(client, 7)
    generator = client._generation_strategy.current_node.generator_spec._fitted_adapter.generator
    for hyperparameters in generator.asked["hyperparameters"].values():
        for name, value in hyperparameters.items():
            hyperparameters[name] = np.full_like(np.asarray(value, dtype=float), np.nan).tolist()
    advance(client, 1)
    assert timings(client)["fit_decision"].iloc[-1] == "default"


def test_candidates_are_a_function_of_the_seed():
    first = advance(make_client(seed=3), 9)
    torch.rand(17), np.random.rand(3), random.random()
    again = advance(make_client(seed=3), 9)
    other = advance(make_client(seed=4), 9)
    assert first == again
    assert first[1:] != other[1:]


def test_without_a_seed_two_runs_differ():
    torch.manual_seed(0)
    first = advance(make_client(seed=None), 7)
    torch.manual_seed(0)
    assert first[1:] != advance(make_client(seed=None), 7)[1:]


def test_questions_between_asks_do_not_change_the_next_candidate():
    undisturbed = make_client(seed=1)
    expected = advance(undisturbed, 10)

    client = make_client(seed=1)
    asked = advance(client, 6)
    client.predict([{"x": 0.2, "y": 0.4}])
    client.get_best_parameterization()
    asked += advance(client, 2)
    strategy = client._generation_strategy
    strategy.fit(client._experiment)  # a fit that no ask asked for, on data that the next ask will see grown
    index = client.attach_trial(expected[8])
    client.complete_trial(index, {"f": wave(expected[8])})
    strategy.fit(client._experiment)
    client.compute_analyses(display=False)
    reference = make_client(seed=1)
    advance(reference, 8)
    index = reference.attach_trial(expected[8])
    reference.complete_trial(index, {"f": wave(expected[8])})
    assert largest_difference(asked, expected[:8]) == 0.0
    assert largest_difference(advance(client, 1), advance(reference, 1)) < 1e-9


def test_asking_again_without_telling_proposes_another_point():
    client = make_client()
    advance(client, 6)
    ((_, first),) = client.get_next_trials(max_trials=1).items()
    ((_, second),) = client.get_next_trials(max_trials=1).items()
    assert first != second


def test_several_trials_in_one_call_are_distinct_and_fitted_once():
    client = make_client()
    advance(client, 6)
    trials = client.get_next_trials(max_trials=4)
    points = {tuple(sorted(parameters.items())) for parameters in trials.values()}
    assert len(points) == 4
    decisions = timings(client).loc[list(trials), "fit_decision"]
    assert decisions.tolist() == ["warm", "unchanged", "unchanged", "unchanged"]


def test_the_process_is_as_it_was_after_an_ask():
    client = make_client()
    advance(client, 6)
    threads = torch.get_num_threads()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    with torch.no_grad():
        client.get_next_trials(max_trials=1)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert (np.random.get_state()[1] == numpy_state[1]).all()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device() == torch.device("cpu")


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_the_process_is_as_it_was_after_a_failed_ask(monkeypatch, error):
    client = make_client()
    advance(client, 6)
    threads, state = torch.get_num_threads(), torch.get_rng_state()

    def fail(*args, **kwargs):
        torch.set_num_threads(1), torch.set_grad_enabled(False), torch.rand(3)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("gpu_gs.plugin.acquisition.optimize_acquisition", fail)
        with pytest.raises(type(error)):
            client.get_next_trials(max_trials=1)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    expected = make_client()
    advance(expected, 6)
    assert advance(client, 1) == advance(expected, 1)  # the failed ask left no trace


@pytest.mark.parametrize("objective", ["-f", "-f, g"])
def test_two_clients_work_in_two_threads(objective, random_state_untouched):
    def told(client: Client) -> list:
        asked = []
        for _ in range(8):
            for index, point in client.get_next_trials(max_trials=1).items():
                client.complete_trial(index, {"f": wave(point), **({"g": sphere(point)} if "g" in objective else {})})
                asked.append(dict(point))
        return asked

    expected = {seed: told(make_client(seed=seed, objective=objective)) for seed in (1, 2)}
    found: dict[int, list] = {}

    def work(seed: int) -> None:
        found[seed] = told(make_client(seed=seed, objective=objective))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    before = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before[1])
    assert torch.get_num_threads() == before[0]
    assert all(largest_difference(found[seed], expected[seed]) < 1e-6 for seed in (1, 2))


def test_every_stage_is_timed_and_the_stages_add_up():
    client = make_client()
    advance(client, 8)
    table = timings(client)
    asks = table[table["node"] == "MBM"]
    stages = ["strategy", "data", "transform", "fit", "setup", "raw_samples", "optimize", "untransform", "other"]
    assert len(asks) >= 3
    assert (asks[["data", "transform", "fit", "setup", "raw_samples", "optimize", "untransform"]] > 0).all().all()
    assert np.allclose(asks[stages].sum(axis=1), asks["total"])
    assert (asks["other"] < 0.5 * asks["total"]).all()
    assert (asks["fit_evaluations"] > 0).all()
    assert (asks["device"] == "cpu").all()
    assert asks["n"].tolist() == asks.index.tolist()


def test_a_mixed_space_is_searched_in_its_domain():
    client = make_mixed_client(GPUGenerationStrategy.from_config("fast", seed=0, **QUICK))
    for _ in range(9):
        for index, p in client.get_next_trials(max_trials=1).items():
            assert 0 <= p["x"] <= 1 and 1e-4 <= p["rate"] <= 1
            assert p["depth"] in range(1, 9) and isinstance(p["depth"], int)
            assert p["kind"] in ("a", "b", "c")
            client.complete_trial(index, {"f": (p["x"] - 0.5) ** 2 + 0.1 * abs(p["depth"] - 3) + (p["kind"] != "b")})
    assert client._generation_strategy.current_node_name == "MBM"
    assert not any("optimizer:" in reasons for reasons in timings(client)["reasons"])


def test_it_finds_the_optimum_of_a_smooth_function():
    client = make_client(GPUGenerationStrategy.from_config("fast", seed=0))
    advance(client, 20, sphere)
    parameters, _, _, _ = client.get_best_parameterization()
    assert sphere(parameters) < 1e-3


def test_what_cannot_be_fast_says_why():
    client = make_client(objective="-f, -g, h, -k, k2")
    for _ in range(7):
        for index, parameters in client.get_next_trials(max_trials=1).items():
            f, g = sphere(parameters), wave(parameters)
            client.complete_trial(index, {"f": f, "g": g, "h": f * g, "k": f - g, "k2": f + g})
    assert "5 objectives (ParEGO)" in timings(client)["reasons"].iloc[-1]


def test_out_of_memory_on_the_device_moves_the_ask_to_the_cpu(monkeypatch):
    from gpu_gs.device import decision as decision_module
    from gpu_gs.errors import FallbackWarning
    from gpu_gs.plugin import node as node_module

    remembered: dict[str, int] = {}
    monkeypatch.setattr(decision_module, "_RAN_OUT", remembered)
    expected = advance(make_client(), 7)
    client = make_client()
    advance(client, 6)
    real = GPUGenerationNode._gen_on

    def starved(self, attempt, **kwargs):
        if attempt.decision.device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, attempt, **kwargs)

    decide = node_module.decide
    monkeypatch.setattr(GPUGenerationNode, "_gen_on", starved)
    monkeypatch.setattr(
        node_module,
        "decide",
        lambda *args, **kwargs: node_module.Decision(
            device="cuda", dtype="float64", threads=decide(*args, **kwargs).threads, reasons=()
        ),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asked = advance(client, 1)
    assert [str(w.message) for w in caught if w.category is FallbackWarning] == [
        "out of memory on cuda: tried again with half the memory for a batch",
        "out of memory on cuda: this ask ran on the CPU",
    ]
    assert largest_difference(asked, expected[6:]) < 1e-6
    assert "out of memory" in timings(client)["device_reasons"].iloc[-1]
    assert set(remembered) == {"cuda"}  # auto does not try this size there again


def test_fixed_features_are_kept():
    client = make_client()
    advance(client, 6)
    strategy = client._generation_strategy
    for value in (0.25, 0.75):
        ((run,),) = strategy.gen(
            client._experiment, n=1, fixed_features=ObservationFeatures(parameters={"x": value}), num_trials=1
        )
        assert run.arms[0].parameters["x"] == value
        assert run.gen_metadata["gpu_gs"]["acquisition"] in ("LogEI", "LogNEI")


def test_integers_and_choices_of_more_values_than_are_enumerated_stay_in_their_domain():
    client = Client()
    values = [float(k * k) for k in range(100)]
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(name="units", parameter_type="int", bounds=(1, 500)),
            RangeParameterConfig(name="batch", parameter_type="int", bounds=(1, 1024), scaling="log"),
            RangeParameterConfig(name="step", parameter_type="float", bounds=(0.0, 1.0), step_size=0.25),
            ChoiceParameterConfig(name="square", parameter_type="float", values=values, is_ordered=True),
        ]
    )
    client.configure_optimization(objective="-f")
    client.set_generation_strategy(GPUGenerationStrategy.from_config("fast", seed=0, **QUICK))
    asked = advance(
        client, 9, lambda p: (p["units"] / 500 - 0.3) ** 2 + (p["batch"] / 1024) + p["step"] + p["square"] / 1e4
    )
    for parameters in asked:
        assert isinstance(parameters["units"], int)
        assert isinstance(parameters["batch"], int)
        assert 1 <= parameters["units"] <= 500
        assert 1 <= parameters["batch"] <= 1024
        assert parameters["square"] in values
        assert parameters["step"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert timings(client)["node"].iloc[-1] == "MBM"


@pytest.mark.parametrize(
    ("noisy", "refit", "names"),
    [(True, "always", "f"), (True, "adaptive", "fg"), (False, "always", "fg")],
)
def test_asks_hold_four_matrices_of_all_observations_for_each_outcome_at_the_most(noisy, refit, names):
    """Those that were kept from earlier asks included, and without help of the garbage collector."""
    strategy = GPUGenerationStrategy.from_config(
        "fast", seed=0, fit={"refit": refit}, acquisition={"raw_samples": 64, "restarts": 4}
    )
    client = make_client(strategy, objective=", ".join(f"-{name}" for name in names))
    generator = torch.Generator().manual_seed(0)

    def outcomes(p, error):
        return {name: wave(p) * (k + 1) + k * p["x"] + noisy * error for k, name in enumerate(names)}

    for x, y, error in zip(*torch.rand(3, 200, generator=generator).tolist(), strict=True):
        index = client.attach_trial({"x": x, "y": y})
        client.complete_trial(index, outcomes({"x": x, "y": y}, 4 * error))
    gc.collect()
    gc.disable()
    try:
        with LargeTensors(200 * 200) as count:
            for _ in range(5):
                for index, p in client.get_next_trials(max_trials=1).items():
                    client.complete_trial(index, outcomes(p, 0.5))
            kept = len(count.alive)
    finally:
        gc.enable()
    expected = {"default", "kept" if refit == "adaptive" else "warm"}
    assert expected <= {one for cell in timings(client)["fit_decision"].dropna() for one in cell.split(",")}
    assert 3 <= count.most <= 4 * len(names)
    assert kept <= 2 * len(names)

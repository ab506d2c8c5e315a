"""Several candidates: one fit, one scoring of the raw samples, and the same candidates whatever is cached."""

import copy
import pickle
from contextlib import contextmanager

import pytest

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.acquisition.pool import JointPool, Pool
from gpu_gs.plugin import acquisition as acquisition_module
from gpu_gs.plugin import sequence
from tests.kinds.helpers import MODEL_FIRST, attach, client_for, outcomes
from tests.plugin.helpers import QUICK, advance, make_client, make_mixed_client, wave


def strategy(function="auto", **overrides):
    return GPUGenerationStrategy.from_config(
        "fast", seed=0, acquisition={**QUICK["acquisition"], "function": function}, **overrides
    )


def points(trials):
    return [dict(parameters) for parameters in trials.values()]


@contextmanager
def counted_pools(monkeypatch, kind=Pool):
    made = []
    real = kind.of.__func__

    def of(cls, *args, **kwargs):
        made.append(1)
        return real(cls, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "of", classmethod(of))
        yield made


@contextmanager
def without_cache(monkeypatch):
    class Forgetful(dict):
        def __setitem__(self, key, value):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(sequence, "_KEPT", Forgetful())
        yield


@pytest.mark.parametrize("function", ["LogEI", "LogNEI", "UCB"])
def test_candidates_are_the_same_to_the_last_bit_with_and_without_the_cache(function, monkeypatch):
    client, other = make_client(strategy(function)), make_client(strategy(function))
    assert advance(client, 6) == advance(other, 6)
    with counted_pools(monkeypatch) as made:
        cached = points(client.get_next_trials(max_trials=4))
        assert len(made) == 1
    with without_cache(monkeypatch), counted_pools(monkeypatch) as made:
        assert points(other.get_next_trials(max_trials=4)) == cached
        assert len(made) == 4
    assert timings(client)["acquisition"].iloc[-4:].tolist() == [function] * 4
    assert len({tuple(point.values()) for point in cached}) == 4


@pytest.mark.parametrize("function", ["LogEI", "UCB"])
def test_so_are_those_beside_more_pending_points_than_are_added_one_by_one(function, monkeypatch):
    """Over the border of a block: what was added one by one is then added at once."""
    client, other = make_client(strategy(function)), make_client(strategy(function))
    for each in (client, other):
        advance(each, 6)
        for k in range(sequence.BLOCK - 2):
            each.mark_trial_abandoned(each.attach_trial({"x": (k + 0.5) / sequence.BLOCK, "y": (0.37 * k) % 1}))
    cached = points(client.get_next_trials(max_trials=4))
    assert len(sequence._KEPT[client._generation_strategy.adapter.generator.surrogate.model].last.pending) > 32
    with without_cache(monkeypatch):
        assert points(other.get_next_trials(max_trials=4)) == cached
    assert len({tuple(point.values()) for point in cached}) == 4


@pytest.mark.parametrize(("objective", "constraints"), [("-f", ["g <= 0.8"]), ("-f, -g", None), ("-f, -g, -h", None)])
def test_so_are_those_of_several_outcomes(objective, constraints, monkeypatch):
    clients = []
    for _ in range(2):
        client = client_for(objective=objective, outcome_constraints=constraints, **MODEL_FIRST)
        names = ("f", "g", "h") if "h" in objective else ("f", "g")
        attach(client, [{"x": 0.1 + 0.13 * k, "y": (0.4 + 0.37 * k) % 1} for k in range(6)], outcomes(*names))
        for k in range(sequence.BLOCK - 2):
            client.mark_trial_abandoned(client.attach_trial({"x": (k + 0.5) / sequence.BLOCK, "y": (0.37 * k) % 1}))
        clients.append(client)
    cached = points(clients[0].get_next_trials(max_trials=1)) + points(clients[0].get_next_trials(max_trials=3))
    with without_cache(monkeypatch):
        for asked in cached:
            assert points(clients[1].get_next_trials(max_trials=1)) == [asked]


@pytest.mark.parametrize(("objective", "constraints"), [("-f", ["g <= 0.8"]), ("-f, -g", None)])
def test_candidates_of_several_outcomes_share_one_fit_and_one_scoring(objective, constraints, monkeypatch):
    client = client_for(objective=objective, outcome_constraints=constraints, **MODEL_FIRST)
    attach(client, [{"x": 0.1 + 0.13 * k, "y": (0.4 + 0.37 * k) % 1} for k in range(6)], outcomes("f", "g"))
    with counted_pools(monkeypatch, JointPool) as made:
        client.get_next_trials(max_trials=4)
    assert len(made) == 1
    assert timings(client)["fit_decision"].dropna().tolist() == ["default", *["unchanged"] * 3]


def test_a_cached_run_of_candidates_goes_on_alike_in_a_copy_and_in_another_process():
    client = make_client(strategy())
    advance(client, 6)
    index, parameters = next(iter(client.get_next_trials(max_trials=3).items()))
    client.complete_trial(index, {"f": wave(parameters)})
    copied = copy.deepcopy(client)
    pickled = pickle.loads(pickle.dumps(client._generation_strategy))
    again = make_client(strategy())
    again.set_experiment(pickled.experiment)
    again.set_generation_strategy(pickled)
    expected = points(client.get_next_trials(max_trials=2))
    assert points(copied.get_next_trials(max_trials=2)) == expected
    assert points(again.get_next_trials(max_trials=2)) == expected


def test_asking_for_several_at_once_is_asking_for_one_several_times():
    client, other = make_client(strategy()), make_client(strategy())
    advance(client, 6), advance(other, 6)
    at_once = points(client.get_next_trials(max_trials=3))
    one_by_one = [point for _ in range(3) for point in points(other.get_next_trials(max_trials=1))]
    assert at_once == one_by_one


def test_new_data_starts_a_new_run(monkeypatch):
    client, other = make_client(strategy()), make_client(strategy())
    for each in (client, other):
        advance(each, 6)
        trials = each.get_next_trials(max_trials=3)
        index, parameters = next(iter(trials.items()))
        each.complete_trial(index, {"f": wave(parameters)})
    with counted_pools(monkeypatch) as made:
        expected = points(client.get_next_trials(max_trials=2))
        assert len(made) == 1
    with without_cache(monkeypatch):
        assert points(other.get_next_trials(max_trials=2)) == expected


def test_de_duplication_draws_anew(monkeypatch):
    """A refused candidate's second attempt has other raw samples, and the run of candidates goes on."""
    seeds = []
    real = acquisition_module.optimize_acquisition

    def optimize_acquisition(*args, seed, **kwargs):
        seeds.append(seed)
        return real(*args, seed=seed, **kwargs)

    monkeypatch.setattr(acquisition_module, "optimize_acquisition", optimize_acquisition)
    client = make_client(strategy())
    advance(client, 6)
    seeds.clear()
    node = client._generation_strategy.current_node
    real_gen, calls = type(node)._gen, []

    def twice(self, experiment, **kwargs):
        run = real_gen(self, experiment=experiment, **kwargs)
        calls.append(run)
        if len(calls) == 1:  # Ax takes a repeated arm for a duplicate
            run._arm_weight_table = copy.deepcopy(experiment.trials[0].generator_runs[0]._arm_weight_table)
        return run

    monkeypatch.setattr(type(node), "_gen", twice)
    client.get_next_trials(max_trials=1)
    assert len(calls) == 2
    assert len(set(seeds)) == len(seeds) == 2
    assert timings(client)["attempts"].iloc[-1] == 2


def test_a_model_changed_in_place_is_not_taken_for_the_same():
    client = make_client(strategy())
    advance(client, 6)
    client.get_next_trials(max_trials=1)
    model = client._generation_strategy.current_node.generator_spec._fitted_adapter.generator.surrogate.model
    kept = sequence._KEPT[model]
    assert kept.is_of(model)
    noise = model.likelihood.noise.clone()
    model.likelihood.noise = 0.5
    assert not kept.is_of(model)
    model.likelihood.noise = noise
    assert kept.is_of(model)
    model.train_targets[0] += 1.0
    assert not kept.is_of(model)


def test_several_candidates_of_a_mixed_space_stay_in_its_domain():
    client = make_mixed_client(strategy())
    for _ in range(6):
        for index, p in client.get_next_trials(max_trials=1).items():
            client.complete_trial(index, {"f": (p["x"] - 0.5) ** 2 + 0.1 * abs(p["depth"] - 3) + (p["kind"] != "b")})
    found = points(client.get_next_trials(max_trials=3))
    assert all(p["depth"] in range(1, 9) and p["kind"] in ("a", "b", "c") for p in found)
    assert len({tuple(p.values()) for p in found}) == 3


def test_the_upper_confidence_bound_explores_more_with_a_larger_beta():
    best = {}
    for beta in (0.0, 100.0):
        chosen = {**QUICK["acquisition"], "function": "UCB", "beta": beta}
        client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, acquisition=chosen))
        advance(client, 7)
        (parameters,) = points(client.get_next_trials(max_trials=1))
        data = [dict(trial.arm.parameters) for trial in client._experiment.trials.values()][:-1]
        best[beta] = min(sum((parameters[k] - p[k]) ** 2 for k in "xy") ** 0.5 for p in data)
    assert best[100.0] > best[0.0]

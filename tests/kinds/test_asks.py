"""Every kind of ask: several trials at once, fixed parameters, pending trials by the hundred, and spaces that run out."""

import numpy as np
import pytest
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.observation import ObservationFeatures
from ax.core.utils import extract_pending_observations

from gpu_gs import GPUGenerationStrategy
from tests.kinds.helpers import (
    FLOATS,
    MODEL_FIRST,
    Parameters,
    advance,
    assert_as_good_as_random,
    assert_as_good_as_stock,
    assert_by_the_model,
    attach,
    candidate,
    client_for,
    judged_by_stock,
    ripple,
    runs_of,
)


def function(p: Parameters) -> dict[str, float]:
    return {"f": (p["x"] - 0.3) ** 2 + (p["y"] - 0.7) ** 2 + ripple(p["x"], p["y"])}


def points(count: int, seed: int = 0) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in np.random.default_rng(seed).uniform(size=(count, 2)).tolist()]


def begun(count: int = 8, parameters=FLOATS, **kind):
    client = client_for(parameters, **kind, **MODEL_FIRST)
    attach(client, points(count), function)
    return client


def apart(asked) -> float:
    """The smallest distance between two of the points."""
    X = np.array([[p["x"], p["y"]] for p in asked])
    distances = np.linalg.norm(X[:, None] - X[None], axis=-1)
    return float(distances[np.triu_indices(len(X), 1)].min())


@pytest.mark.parametrize("k", [2, 5])
def test_several_trials_in_one_call_differ_and_the_last_is_good_given_the_others(k):
    client = begun()
    asked = list(client.get_next_trials(max_trials=k - 1).values())
    (last,) = candidate(client)
    assert_by_the_model(client, k - 1)
    assert apart([*asked, last]) > 1e-3
    assert_as_good_as_stock(client, last)


def test_fixed_parameters_are_kept_and_the_rest_is_good():
    client = begun()
    ((_, point),) = client.get_next_trials(max_trials=1, fixed_parameters={"x": 0.6}).items()
    assert point["x"] == 0.6
    assert_by_the_model(client, 1)
    client = begun()
    (next_one,) = candidate(client, fixed_features=ObservationFeatures(parameters={"x": 0.6}))
    assert next_one["x"] == 0.6
    assert_as_good_as_stock(client, next_one, fixed={"x": 0.6})


@pytest.mark.parametrize("value", ["a", "b"])
def test_a_fixed_choice_is_kept(value):
    parameters = [
        *FLOATS,
        ChoiceParameterConfig(name="kind", parameter_type="str", values=["a", "b", "c"], is_ordered=False),
        RangeParameterConfig(name="depth", parameter_type="int", bounds=(1, 5)),
    ]
    client = client_for(parameters)
    advance(client, 6, function)
    ((_, point),) = client.get_next_trials(max_trials=1, fixed_parameters={"kind": value, "depth": 2}).items()
    assert (point["kind"], point["depth"]) == (value, 2)
    assert type(point["depth"]) is int
    assert_by_the_model(client, 1)
    fixed = {"kind": value, "depth": 2}
    (next_one,) = candidate(client, fixed_features=ObservationFeatures(parameters=fixed))
    assert fixed.items() <= next_one.items()
    assert_as_good_as_stock(client, next_one, fixed=fixed)


def test_all_parameters_fixed_is_the_point_itself():
    client = begun()
    ((_, point),) = client.get_next_trials(max_trials=1, fixed_parameters={"x": 0.25, "y": 0.5}).items()
    assert point == {"x": 0.25, "y": 0.5}


def test_asking_again_and_again_without_telling_gives_other_points():
    client = begun()
    asked = [point for _ in range(5) for point in client.get_next_trials(max_trials=1).values()]
    assert_by_the_model(client, 5)
    assert apart(asked) > 1e-3


@pytest.mark.parametrize("trials", [20, 105])
def test_pending_means_what_it_means_in_stock_ax_below_and_above_100_trials(trials):
    """From 100 trials on, a running trial is pending although it has data already."""
    client = begun(count=trials - 3)
    running = [client.attach_trial(point) for point in points(3, seed=9)]
    client.attach_data(running[0], {"f": 0.5})
    pending = extract_pending_observations(client._experiment)
    assert len(pending["f"]) == (3 if trials >= 100 else 2)
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, next_one)


def test_hundreds_of_abandoned_trials_stay_pending_and_are_not_asked_for_again():
    client = begun()
    abandoned = points(200, seed=5)
    for point in abandoned:
        client.mark_trial_abandoned(client.attach_trial(point))
    (asked,) = client.get_next_trials(max_trials=1).values()
    assert_by_the_model(client, 1)
    assert asked not in abandoned
    # 200 pending points leave little to gain anywhere: the value is far out in the tail of the samples
    assert_as_good_as_stock(client, candidate(client)[0], margin=2.0)


def grid(**kwargs):
    parameters = [
        RangeParameterConfig(name="x", parameter_type="int", bounds=(0, 2)),
        ChoiceParameterConfig(name="y", parameter_type="int", values=[0, 1, 2], is_ordered=True),
    ]
    client = client_for(parameters, **kwargs)
    return client, lambda p: {"f": float((p["x"] - 1) ** 2 + (p["y"] - 2) ** 2)}


def test_a_discrete_space_is_asked_for_to_its_last_point():
    client, measure = grid()
    asked = advance(client, 9, measure)
    assert len({tuple(point.values()) for point in asked}) == 9
    assert all(type(value) is int for point in asked for value in point.values())


@pytest.mark.parametrize("known", [5, 7, 8])
def test_in_a_nearly_exhausted_space_the_best_of_what_is_left_is_asked_for(known):
    """By stock Ax's own acquisition function; points that wait count as no longer there."""
    client, measure = grid(**MODEL_FIRST)
    every = [{"x": x, "y": y} for x in range(3) for y in range(3)]
    attach(client, every[: known - 1], measure)
    client.attach_trial(every[known - 1])
    (next_one,) = candidate(client)
    left = every[known:]
    assert next_one in left
    found, *others = judged_by_stock(client, [next_one, *left], optimized=False)
    assert found >= max(others) - 0.7


@pytest.mark.parametrize("deduplicate", [True, False])
def test_in_an_exhausted_space_ours_does_what_stock_ax_does(deduplicate):
    def end(preset):
        client, measure = grid()
        client.set_generation_strategy(GPUGenerationStrategy.from_config(preset, seed=0, deduplicate=deduplicate))
        try:
            advance(client, 12, measure)
        except Exception as error:
            return type(error), len(runs_of(client))
        return None, len(runs_of(client))

    assert end("fast") == end("reference")


MIXED = [
    *FLOATS,
    RangeParameterConfig(name="depth", parameter_type="int", bounds=(1, 5)),
    ChoiceParameterConfig(name="kind", parameter_type="str", values=["a", "b", "c"], is_ordered=False),
]


def many_sided(p: Parameters) -> dict[str, float]:
    penalty = 0.3 * (p["kind"] != "b") + abs(p["depth"] - 3) / 10
    return {"f": function(p)["f"] + penalty, "g": p["x"] + 0.5 * p["y"] + penalty, "h": p["y"] - 0.1 * p["depth"]}


@pytest.mark.parametrize(
    ("objective", "constraints", "names"), [("-f", ["g <= 1.2"], "fg"), ("-f, -g", ["h <= 0.6"], "fgh")]
)
def test_everything_at_once_stays_in_the_domain_and_is_good(objective, constraints, names):
    """Mixed parameters, a linear and an outcome constraint, a fixed parameter, waiting trials, several at once."""
    measure = lambda p: {name: many_sided(p)[name] for name in names}  # noqa: E731
    rng = np.random.default_rng(0)
    client = client_for(
        MIXED, objective, outcome_constraints=constraints, parameter_constraints=["x + y <= 1.2"], **MODEL_FIRST
    )
    some = [
        {**point, "depth": int(rng.integers(1, 6)), "kind": str(rng.choice(["a", "b", "c"]))}
        for point in points(24)
        if point["x"] + point["y"] <= 1.2
    ]
    attach(client, some[:10], measure)
    waiting = client.attach_trial(some[10])
    asked = list(client.get_next_trials(max_trials=2, fixed_parameters={"depth": 3}).values())
    assert_by_the_model(client, 2)
    arms = candidate(client, n=2)
    for point in (*asked, *arms):
        assert client._experiment.search_space.check_membership(point, raise_error=True)
        assert point["x"] + point["y"] <= 1.2 + 1e-9
        assert type(point["depth"]) is int
    assert all(point["depth"] == 3 for point in asked)
    assert len({tuple(point.values()) for point in (*asked, *arms)}) == 4
    client.complete_trial(waiting, measure(some[10]))
    (next_one,) = candidate(client)
    others = [point | {"kind": kind} for point in some for kind in "abc"]
    assert_as_good_as_random(client, next_one, others)

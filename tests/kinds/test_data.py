"""Every kind of data: our model sees the rows that stock Ax's model would see, and the next candidate is the model's."""

from typing import Any

import numpy as np
import pytest
from ax.api.configs import ChoiceParameterConfig
from ax.core.arm import Arm
from ax.core.data import Data, DataRow
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.core.metric import Metric
from ax.core.objective import Objective
from ax.core.optimization_config import OptimizationConfig
from ax.core.parameter import ParameterType, RangeParameter
from ax.core.search_space import SearchSpace
from botorch.exceptions.errors import InputDataError

from tests.kinds.helpers import (
    FLOATS,
    MODEL_FIRST,
    Parameters,
    advance,
    assert_as_good_as_stock,
    assert_by_the_model,
    assert_same_rows,
    attach,
    candidate,
    client_for,
    client_of_core,
    model_rows,
    ripple,
    stock_adapter,
)
from tests.plugin.data_helpers import attach as attach_rows


def f(p: Parameters) -> float:
    return (p["x"] - 0.3) ** 2 + (p["y"] - 0.7) ** 2 + ripple(p["x"], p["y"])


def g(p: Parameters) -> float:
    return float(p["x"]) + 0.5 * float(p["y"])


def points(count: int, seed: int = 0) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in np.random.default_rng(seed).uniform(size=(count, 2)).tolist()]


def begun(function: Any = lambda p: {"f": f(p)}, count: int = 8, **kind: Any):
    """A client with eight completed trials, whose next ask is the model's."""
    client = client_for(**kind, **MODEL_FIRST)
    attach(client, points(count), function)
    return client


def assert_goes_on(client, function: Any = lambda p: {"f": f(p)}, good: bool = True) -> None:
    """The model sees what stock Ax's would see, proposes a point, learns from it and proposes another good one."""
    advance(client, 1, function)
    assert_by_the_model(client, 1)
    (next_one,) = candidate(client)
    assert_same_rows(client)
    assert all(0 <= next_one[name] <= 1 for name in ("x", "y"))
    if good:
        assert_as_good_as_stock(client, next_one)


@pytest.mark.parametrize(
    ("objective", "constraints", "names"),
    [("-f", None, "f"), ("-f", ["g <= 0.9"], "fg"), ("-f", ["g <= 0.1"], "fg"), ("-f, -g", None, "fg")],
)
def test_a_single_observation_is_enough(objective, constraints, names):
    functions = {"f": f, "g": g}
    measure = lambda p: {name: functions[name](p) for name in names}  # noqa: E731
    client = client_for(objective=objective, outcome_constraints=constraints, **MODEL_FIRST)
    attach(client, points(1), measure)
    (asked,) = advance(client, 1, measure)
    assert_by_the_model(client, 1)
    assert all(0 <= asked[name] <= 1 for name in ("x", "y"))


# ---------------------------------------------------------------------- noise


@pytest.mark.parametrize("sem", [0.0, 0.05])
def test_known_noise(sem):
    function = lambda p: {"f": (f(p), sem)}  # noqa: E731
    client = begun(function)
    # without noise ours takes LogEI, another function than stock Ax's
    assert_goes_on(client, function, good=sem > 0)
    (dataset,) = client._generation_strategy.adapter.generator.surrogate.training_data
    assert dataset.Yvar is not None


def test_noise_that_differs_from_trial_to_trial():
    rng = np.random.default_rng(0)
    function = lambda p: {"f": (f(p), float(rng.uniform(0.01, 0.3)))}  # noqa: E731
    assert_goes_on(begun(function), function)


def test_known_noise_of_one_metric_and_unknown_noise_of_another():
    function = lambda p: {"f": f(p), "g": (g(p), 0.05)}  # noqa: E731
    assert_goes_on(begun(function, outcome_constraints=["g <= 0.9"]), function)


def test_known_and_unknown_noise_within_one_metric_is_an_error_of_the_class_that_stock_ax_raises():
    def client():
        made = begun(lambda p: {"f": (f(p), 0.05)}, count=4)
        attach(made, points(4, seed=1), lambda p: {"f": f(p)})
        return made

    ours, stock = client(), client()
    with pytest.raises(InputDataError):
        stock_adapter(stock._experiment)
    with pytest.raises(InputDataError, match="the noise of f is known in 4 of its 8 observations"):
        ours.get_next_trials(max_trials=1)
    for index in range(4):  # without those the run goes on
        ours._experiment.trials[index].mark_abandoned(unsafe=True)
    ours.get_next_trials(max_trials=1)
    assert_by_the_model(ours, 1)


# ---------------------------------------------------------------------- what is missing


def test_a_metric_that_some_trials_lack():
    client = begun(lambda p: {"f": f(p), "g": g(p)}, outcome_constraints=["g <= 0.9"])
    attach(client, points(2, seed=1), lambda p: {"f": f(p)})
    attach(client, points(1, seed=2), lambda p: {"g": g(p)})
    assert_goes_on(client, lambda p: {"f": f(p), "g": g(p)})


def test_a_mean_that_is_not_a_number():
    client = begun()
    attach(client, points(1, seed=1), lambda p: {"f": float("nan")})
    assert_goes_on(client)


def test_a_trial_completed_without_data():
    client = begun()
    client.complete_trial(client.attach_trial({"x": 0.2, "y": 0.2}))
    assert_goes_on(client)


@pytest.mark.parametrize("status", ["failed", "abandoned", "early_stopped", "running"])
@pytest.mark.parametrize("with_data", [False, True])
def test_a_trial_that_was_not_completed(status, with_data):
    client = begun()
    index = client.attach_trial({"x": 0.31, "y": 0.69})
    if with_data:
        client.attach_data(index, {"f": 1.0})
    if status == "early_stopped" and not with_data:
        with pytest.raises(Exception, match="data"):
            client.mark_trial_early_stopped(index)
        return
    if status != "running":
        getattr(client, f"mark_trial_{status}")(index)
    assert_goes_on(client)


# ---------------------------------------------------------------------- what is there twice, elsewhere, later


def test_arms_that_were_measured_several_times():
    client = begun()
    attach(client, [*points(3), *points(3)], lambda p: {"f": f(p) + 0.1 * p["x"]})
    assert_goes_on(client)


def test_trials_attached_while_others_run():
    client = begun()
    running = client.get_next_trials(max_trials=2)
    attach(client, points(2, seed=1), lambda p: {"f": f(p)})
    assert_goes_on(client)
    for index, point in running.items():
        client.complete_trial(index, {"f": f(point)})
    assert_goes_on(client)


def test_data_that_come_late_and_in_another_order():
    client = begun(lambda p: {"f": f(p), "g": g(p)}, outcome_constraints=["g <= 0.9"])
    waiting = client.get_next_trials(max_trials=3)
    for index in sorted(waiting, reverse=True):
        client.attach_data(index, {"g": g(waiting[index])})
    candidate(client)
    for index in sorted(waiting, reverse=True):
        client.complete_trial(index, {"f": f(waiting[index])})
    assert_goes_on(client, lambda p: {"f": f(p), "g": g(p)})


def two_floats() -> SearchSpace:
    return SearchSpace([RangeParameter(p.name, ParameterType.FLOAT, 0.0, 1.0) for p in FLOATS])


def core_experiment(**kwargs: Any) -> Experiment:
    return Experiment(
        name="core",
        search_space=two_floats(),
        optimization_config=OptimizationConfig(Objective(expression="-f", metric_name_to_signature={"f": "f"})),
        metrics=[Metric("f")],
        **kwargs,
    )


def test_points_outside_of_the_search_space():
    client = begun()
    trial = client._experiment.new_trial()
    trial.add_arm(Arm(parameters={"x": 1.3, "y": 0.4}))
    trial.mark_running(no_runner_required=True)
    attach_rows(client._experiment, trial.index, {"f": (1.1, float("nan"))})
    trial.mark_completed()
    assert_goes_on(client)


def test_a_search_space_that_is_narrowed_and_widened():
    client = begun()
    advance(client, 1, lambda p: {"f": f(p)})
    x = client._experiment.search_space.parameters["x"]
    x.update_range(lower=0.4)
    point = advance(client, 1, lambda p: {"f": f(p)})[0]
    assert point["x"] >= 0.4
    assert_by_the_model(client, 1)
    (next_one,) = candidate(client)
    assert next_one["x"] >= 0.4
    assert_as_good_as_stock(client, next_one)
    x.update_range(lower=-1.0)
    point = advance(client, 1, lambda p: {"f": f(p)})[0]
    assert -1.0 <= point["x"] <= 1.0
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, next_one)


def test_a_parameter_that_is_added_later():
    """Trials so far had its backfill value, which is off the new optimum."""

    def function(p: Parameters) -> dict[str, float]:
        return {"f": f(p) + 2 * (p.get("z", 4) - 2) ** 2}

    client = begun(function)
    advance(client, 1, function)
    z = RangeParameter("z", ParameterType.INT, 0, 4, backfill_value=4)
    client._experiment.add_parameters_to_search_space([z])
    asked = advance(client, 4, function)
    assert_by_the_model(client, 4)
    assert all(set(point) == {"x", "y", "z"} and point["z"] in range(5) for point in asked)
    assert {point["z"] for point in asked} - {4}
    (next_one,) = candidate(client)
    assert_same_rows(client)
    assert_as_good_as_stock(client, next_one)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_value_that_a_choice_gets_later(ordered):
    cost = {1: 2.0, 2: 1.0, 3: 0.0}
    function = lambda p: {"f": f(p) + cost[p["z"]]}  # noqa: E731
    z = ChoiceParameterConfig(name="z", parameter_type="int", values=[1, 2], is_ordered=ordered)
    client = client_for([*FLOATS, z])
    advance(client, 8, function)
    client._experiment.search_space.parameters["z"].add_values([3])
    asked = advance(client, 4, function)
    assert_by_the_model(client, 4)
    assert 3 in {point["z"] for point in asked}
    (next_one,) = candidate(client)
    assert_same_rows(client)
    assert_as_good_as_stock(client, next_one)


def test_a_parameter_that_is_disabled_later_has_its_default_from_then_on():
    client = begun()
    advance(client, 1, lambda p: {"f": f(p)})
    client._experiment.disable_parameters_in_search_space({"y": 0.25})
    asked = advance(client, 2, lambda p: {"f": f(p)})
    assert_by_the_model(client, 2)
    assert all(point["y"] == 0.25 for point in asked)
    (next_one,) = candidate(client)
    assert next_one["y"] == 0.25
    assert_same_rows(client)
    assert_as_good_as_stock(client, next_one)


# ---------------------------------------------------------------------- curves, tracking, status quo, batches


def test_learning_curves_with_stopped_and_running_trials():
    client = client_for(**MODEL_FIRST)
    for k, point in enumerate(points(8)):
        index = client.attach_trial(point)
        for step in (1, 2, 4):
            client.attach_data(index, {"f": f(point) + 1 / step}, progression=step)
            if k % 4 == 1:
                client.mark_trial_early_stopped(index)
                break
            if k % 4 == 2:
                break
        else:
            client.complete_trial(index)
    ((index, point),) = client.get_next_trials(max_trials=1).items()
    assert_by_the_model(client, 1)
    client.complete_trial(index, {"f": f(point)}, progression=4)
    ((_, point),) = client.get_next_trials(max_trials=1).items()
    assert_by_the_model(client, 1)
    assert_same_rows(client)
    assert set(point) == {"x", "y"}
    (next_one,) = candidate(client)
    assert_as_good_as_stock(client, next_one)


@pytest.mark.parametrize("modelled", [True, False, None])
def test_a_tracking_metric_does_not_steer_and_is_modelled_on_demand_only(modelled):
    client = client_for(**MODEL_FIRST, fit_tracking_metrics=modelled)
    client.configure_tracking_metrics(["spare"])
    function = lambda p: {"f": f(p), "spare": g(p), "unannounced": 1.0 + p["x"]}  # noqa: E731
    attach(client, points(8), function)
    plain = begun()
    (with_spare,), (alone,) = candidate(client), candidate(plain)
    assert with_spare == pytest.approx(alone, abs=1e-4)
    assert ("spare" in model_rows(client)) == bool(modelled)
    assert set(client.predict([{"x": 0.5, "y": 0.5}])[0]) == ({"f", "spare", "unannounced"} if modelled else {"f"})
    assert client.get_best_parameterization()[1].keys() >= {"f"}
    if modelled:  # as stock Ax has it
        assert_as_good_as_stock(client, with_spare)


def test_a_status_quo_is_an_observation_like_the_others():
    client = client_for(**MODEL_FIRST)
    client.complete_trial(client.attach_baseline({"x": 0.5, "y": 0.5}), {"f": 0.4})
    attach(client, points(7), lambda p: {"f": f(p)})
    assert_goes_on(client)


@pytest.mark.parametrize("with_status_quo", [False, True])
def test_batch_trials_with_weights(with_status_quo):
    experiment = core_experiment(status_quo=Arm({"x": 0.5, "y": 0.5}, name="sq") if with_status_quo else None)
    for batch in range(2):
        trial = experiment.new_batch_trial()
        arms = [Arm(point) for point in points(4, seed=batch)]
        trial.add_generator_run(GeneratorRun(arms=arms, weights=[1.0, 2.0, 1.0, 0.5]))
        if with_status_quo:
            trial.add_status_quo_arm(weight=1.0)
        trial.mark_running(no_runner_required=True)
        for arm in trial.arms:
            row = {"f": (f(arm.parameters), 0.05)}
            _attach_arm(experiment, trial.index, arm.name, row)
        trial.mark_completed()
    client = client_of_core(experiment, **MODEL_FIRST)
    arms = candidate(client, n=3)
    assert len({tuple(point.values()) for point in arms}) == 3
    assert all(0 <= value <= 1 for point in arms for value in point.values())
    assert_same_rows(client)
    assert_as_good_as_stock(client, arms[0])


def _attach_arm(experiment: Experiment, trial_index: int, arm_name: str, row: dict[str, tuple[float, float]]) -> None:
    rows = [DataRow(trial_index, arm_name, name, name, mean, sem, step=np.nan) for name, (mean, sem) in row.items()]
    experiment.attach_data(Data(data_rows=rows))

"""Training data by what is new: equal to what a freshly made Ax adapter has, and made without Ax's frames."""

import copy
import pickle

import numpy as np
import pytest
from ax.adapter import base as adapter_base
from ax.adapter import cross_validation
from ax.adapter.registry import MBM_X_trans, Y_trans
from ax.adapter.torch import TorchAdapter
from ax.adapter.transforms.log_y import LogY
from ax.core import utils as core_utils
from ax.core.arm import Arm
from ax.core.data import Data
from ax.core.data_utils import ExperimentData
from ax.core.map_metric import MapMetric
from ax.core.metric import Metric
from ax.core.optimization_config import OptimizationConfig
from ax.core.outcome_constraint import OutcomeConstraint
from ax.core.parameter import ChoiceParameter, RangeParameter
from ax.core.search_space import SearchSpace
from ax.generation_strategy import generation_strategy as ax_strategy

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.device import Decision
from gpu_gs.plugin import adapter as adapter_module
from gpu_gs.plugin.adapter import WarmTorchAdapter
from gpu_gs.plugin.ask import Ask, in_progress
from tests.plugin.data_helpers import (
    FLOAT,
    SIGNATURES,
    STRING,
    TRANSFORMS,
    Recorder,
    Story,
    add_trial,
    assert_same,
    assert_same_frames,
    attach,
    constrained,
    draw,
    float_space,
    last,
    live_adapter,
    make_experiment,
    mixed_space,
    refit,
    single,
    two_objectives,
)
from tests.plugin.helpers import QUICK, advance, make_client, wave

CASES = {
    "floats": (float_space, single, "default", False),
    "floats with known noise": (float_space, single, "default", True),
    "floats with a constraint": (float_space, constrained, "default", True),
    "floats, two objectives": (float_space, two_objectives, "default", False),
    "mixed, one-hot": (mixed_space, single, "default", False),
    "mixed, choices kept": (mixed_space, constrained, "mixed", True),
    "mixed, all continuous": (mixed_space, two_objectives, "continuous", False),
}


def refuse(*args, **kwargs):
    raise AssertionError("this must not run on an ask after one new trial")


@pytest.fixture
def passes(monkeypatch):
    """A list that grows by one with each full pass of a live adapter over its experiment."""
    made = []
    real = adapter_module.extract_experiment_data

    def counted(*args, **kwargs):
        made.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(adapter_module, "extract_experiment_data", counted)
    return made


def fresh(experiment, **kwargs):
    return TorchAdapter(experiment=experiment, generator=Recorder(), **kwargs)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("seed", "keeps"), [(0, False), (1, False), (2, True)])
def test_after_any_course_of_events_the_tensors_are_those_of_a_fresh_adapter(case, seed, keeps):
    """... up to the scale of the outcomes, where that of an earlier fit is kept."""
    space, config, transforms, known_noise = CASES[case]
    experiment = make_experiment(space(), config())
    story = Story(experiment, seed=seed, known_noise=known_noise)
    story.begin()
    live = live_adapter(experiment, keeps=keeps, transforms=TRANSFORMS[transforms])
    for _ in range(10):
        for _ in range(story.rng.integers(1, 4)):
            story.step()
        reference = fresh(experiment, transforms=TRANSFORMS[transforms])
        refit(live, experiment)
        assert_same(live, reference)
        if story.rng.random() < 0.2 and not keeps:
            assert_same_frames(live, reference)


@pytest.mark.parametrize("case", CASES)
def test_what_is_only_added_needs_no_full_pass(case, passes):
    space, config, transforms, known_noise = CASES[case]
    experiment = make_experiment(space(), config())
    story = Story(experiment, seed=11, known_noise=known_noise, tame=True)
    story.begin()
    live = live_adapter(experiment, transforms=TRANSFORMS[transforms])
    for _ in range(60):
        story.step()
        refit(live, experiment)
    assert not passes
    reference = fresh(experiment, transforms=TRANSFORMS[transforms])
    assert_same(live, reference)
    assert_same_frames(live, reference)
    assert len(live.generator.fits) > 8


def test_an_ask_after_one_new_trial_makes_no_frame_and_no_pass_over_the_experiment(monkeypatch):
    client = make_client()
    advance(client, 7)
    for module in (adapter_base, adapter_module, core_utils):
        monkeypatch.setattr(module, "extract_experiment_data", refuse, raising=False)
    for name in ("extract_pending_observations", "compute_metric_availability"):
        monkeypatch.setattr(core_utils, name, refuse)
    monkeypatch.setattr(ax_strategy, "extract_pending_observations", refuse)
    monkeypatch.setattr(WarmTorchAdapter, "_transform_data", refuse)
    monkeypatch.setattr(ExperimentData, "__eq__", refuse)
    for transform in client._generation_strategy.adapter.transforms.values():
        if not isinstance(transform, tuple(Y_trans)):
            monkeypatch.setattr(type(transform), "transform_experiment_data", refuse)
            monkeypatch.setattr(type(transform), "__init__", refuse)
    monkeypatch.setattr(Data, "full_df", property(refuse))
    ((index, parameters),) = client.get_next_trials(max_trials=1).items()
    monkeypatch.undo()
    client.complete_trial(index, {"f": wave(parameters)})
    assert timings(client)["reasons"].iloc[-1].count("data:") == 0
    assert timings(client)["n"].iloc[-1] == 7


def test_a_table_proposes_what_ax_s_own_data_propose(monkeypatch):
    expected = advance(make_client(seed=4), 12)
    monkeypatch.setattr(WarmTorchAdapter, "_reasons_against_increment", lambda *_: ["switched off"])
    assert advance(make_client(seed=4), 12) == expected


def test_an_ask_without_new_data_fits_nothing():
    client = make_client()
    advance(client, 7)
    client.get_next_trials(max_trials=1)
    client.get_next_trials(max_trials=1)
    assert timings(client)["fit_decision"].tolist()[-2:] == ["warm", "unchanged"]


def test_old_rows_stay_in_place_when_trials_are_completed_out_of_order():
    experiment, live = grown()
    for _ in range(3):
        add_trial(experiment, {"x": 0.1, "y": 0.2})
    orders = []
    for index in (6, 4, 5):
        attach(experiment, index, {"f": (float(index), np.nan)})
        experiment.trials[index].mark_completed()
        refit(live, experiment)
        orders.append(last(live)["datasets"][0].group_indices.tolist())
    assert orders == [[0, 1, 2, 3, 6], [0, 1, 2, 3, 6, 4], [0, 1, 2, 3, 6, 4, 5]]
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"]))
    assert_same_frames(live, fresh(experiment, transforms=TRANSFORMS["default"]))


def test_leave_one_out_pairs_each_prediction_with_its_own_trial(monkeypatch):
    client = make_client()
    advance(client, 6)
    trials = client.get_next_trials(max_trials=4)
    for index in sorted(trials, reverse=True):
        client.complete_trial(index, {"f": wave(trials[index])})
        client._generation_strategy.fit(client._experiment)
    adapter = client._generation_strategy.adapter
    monkeypatch.setattr(cross_validation, "_fold_cross_validate", refuse)
    closed_form = cross_validation.cross_validate(adapter, use_posterior_predictive=True)
    monkeypatch.undo()
    folds = cross_validation._fold_cross_validate(adapter, use_posterior_predictive=True)

    def predictions(results):
        return {r.observed.features.trial_index: (r.observed.data.means[0], r.predicted.means[0]) for r in results}

    one, other = predictions(closed_form), predictions(folds)
    assert one.keys() == other.keys() == set(range(10))
    for index in one:
        assert one[index][0] == other[index][0] == pytest.approx(wave(client._experiment.trials[index].arm.parameters))
        # The closed form keeps the outcomes' scale, a fold takes its own: alike, not equal.
        assert one[index][1] == pytest.approx(other[index][1], abs=0.2)


# ---------------------------------------------------------------------- what is read between asks


def test_who_reads_the_training_data_gets_those_of_the_last_fit():
    experiment, live = grown()
    index = add_trial(experiment, {"x": 0.5, "y": 0.5})
    attach(experiment, index, {"f": (1.0, np.nan)})
    refit(live, experiment)
    reference = fresh(experiment, transforms=TRANSFORMS["default"])
    experiment.trials[index].mark_completed()  # later than the fit
    attach(experiment, 0, {"f": (9.0, np.nan)})
    experiment.trials[1].mark_abandoned(unsafe=True)
    assert_same_frames(live, reference)


def test_copies_and_pickles_hold_plain_data():
    experiment, live = grown()
    index = add_trial(experiment, {"x": 0.5, "y": 0.5})
    attach(experiment, index, {"f": (1.0, np.nan)})
    refit(live, experiment)
    for again in (copy.deepcopy(live._training_data), pickle.loads(pickle.dumps(live._training_data))):
        assert type(again) is ExperimentData
        assert again == live._training_data


def test_a_copied_adapter_goes_on_by_itself():
    experiment, live = grown()
    twin, original = copy.deepcopy((experiment, live)), (experiment, live)
    for trials, adapter in (twin, original):
        index = add_trial(trials, {"x": 0.5, "y": 0.5})
        attach(trials, index, {"f": (1.0, np.nan)})
        refit(adapter, trials)
        assert_same(adapter, fresh(trials, transforms=TRANSFORMS["default"]))


def test_a_failed_fit_is_tried_again(monkeypatch):
    experiment, live = grown()
    index = add_trial(experiment, {"x": 0.5, "y": 0.5})
    attach(experiment, index, {"f": (1.0, np.nan)})
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "fit", refuse)
        with pytest.raises(AssertionError):
            refit(live, experiment)
    fits = len(live.generator.fits)
    refit(live, experiment)
    assert len(live.generator.fits) == fits + 1
    refit(live, experiment)
    assert len(live.generator.fits) == fits + 1


def test_a_pass_that_broke_off_leaves_no_table_of_the_old_space(monkeypatch):
    experiment, live = grown()
    new_space(experiment)
    with monkeypatch.context() as patch:
        patch.setattr(WarmTorchAdapter, "_transform_data", refuse)
        with pytest.raises(AssertionError):
            refit(live, experiment)
    attach(experiment, add_trial(experiment, {"x": 1.5, "y": 0.9}), {"f": (2.0, np.nan)})
    refit(live, experiment)
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"]))


# ---------------------------------------------------------------------- what a table cannot follow


def grown(space=float_space, config=single, transforms="default", **kwargs):
    """An experiment with four completed trials, and an adapter that was fitted to it twice."""
    experiment = make_experiment(space(), config())
    rng = np.random.default_rng(0)
    kinds = TRANSFORMS[transforms] if isinstance(transforms, str) else transforms
    live = None
    for k in range(4):
        index = add_trial(experiment, draw(experiment.search_space, rng))
        attach(experiment, index, {"f": (0.3 + k, np.nan), "g": (float(rng.normal()), np.nan)})
        experiment.trials[index].mark_completed()
        if k == 2:
            live = live_adapter(experiment, transforms=kinds, **kwargs)
    refit(live, experiment)
    return experiment, live


def reasons_of(live, experiment, data=None):
    """What an ask would record of its data; the adapter is fitted to them."""
    ask = Ask(decision=Decision(device="cpu", dtype="float64", threads=1, reasons=()))
    with in_progress(ask):
        refit(live, experiment, data)
    return ask.reasons


def edit(experiment):
    attach(experiment, 1, {"f": (7.0, np.nan)})


def remove(experiment):
    experiment.data = Data(data_rows=experiment.data._data_rows[:-1])


def renew(experiment):
    experiment.data = Data(df=experiment.data.full_df)


def abandon(experiment):
    experiment.trials[2].mark_abandoned(unsafe=True)


def curve(experiment):
    index = add_trial(experiment, {"x": 0.2, "y": 0.2})
    for step in (0.0, 1.0):
        attach(experiment, index, {"f": (step, np.nan)}, step=step)


def outside(experiment):
    attach(experiment, add_trial(experiment, {"x": 1.5, "y": 0.2}), {"f": (1.0, np.nan), "g": (0.5, np.nan)})


def barely_outside(experiment):
    attach(experiment, add_trial(experiment, {"x": 1.0 + 1e-9, "y": 0.2}), {"f": (1.0, np.nan), "g": (0.5, np.nan)})


def wider(experiment):
    experiment.search_space.parameters["x"].update_range(upper=1.0 + 1e-7)


def new_space(experiment):
    experiment._search_space = SearchSpace([RangeParameter(name, FLOAT, 0.0, 2.0) for name in ("x", "y")])


def new_config(experiment):
    experiment.optimization_config = constrained()


def drop_metric(experiment):
    experiment.remove_metric("g")


def batch(experiment):
    experiment.new_batch_trial().add_arms_and_weights(arms=[Arm({"x": 0.3, "y": 0.4}), Arm({"x": 0.6, "y": 0.4})])


def status_quo(experiment):
    experiment.status_quo = Arm({"x": 0.5, "y": 0.5}, name="status_quo")


def relative(experiment):
    constraint = OutcomeConstraint("g >= 0.9 * baseline", metric_name_to_signature=SIGNATURES)
    experiment.optimization_config.outcome_constraints = [constraint]


EVENTS = {
    "observations were edited or removed": (edit, remove, renew),
    "trial 2 is ABANDONED now and leaves the data": (abandon,),
    "there are learning curves": (curve,),
    "trial 4 lies outside of the space that the model knows": (outside, barely_outside),
    "the search space was changed": (wider, new_space),
    "the optimization config was changed": (new_config,),
    "metrics were removed: g": (drop_metric,),
    "there are batch trials": (batch,),
}


@pytest.mark.parametrize(("event", "reason"), [(e, reason) for reason, events in EVENTS.items() for e in events])
def test_what_is_not_added_is_noticed_and_goes_ax_s_way(event, reason, passes):
    experiment, live = grown()
    assert not passes
    event(experiment)
    assert reasons_of(live, experiment) == [f"data: {reason}"]
    assert len(passes) == 1
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"]))


@pytest.mark.parametrize("event", [edit, remove, renew, abandon, outside, new_space, new_config, drop_metric])
def test_after_a_pass_of_ax_s_the_table_grows_again(event, passes):
    experiment, live = grown()
    event(experiment)
    refit(live, experiment)
    index = add_trial(experiment, {"x": 0.25, "y": 0.75})
    attach(experiment, index, {"f": (2.0, np.nan)})
    passes.clear()
    assert reasons_of(live, experiment) == []
    assert not passes
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"]))


@pytest.mark.filterwarnings("ignore:Automatic winsorization doesn't support relative")
def test_relative_constraints_and_a_status_quo_go_ax_s_way():
    experiment, live = grown()
    status_quo(experiment)
    assert reasons_of(live, experiment) == ["data: there is a status quo"]
    experiment, live = grown(config=constrained)
    relative(experiment)
    assert reasons_of(live, experiment) == ["data: a constraint is relative"]


def test_data_given_with_the_ask_are_fitted_and_then_forgotten():
    experiment, live = grown()
    given = Data(data_rows=experiment.data._data_rows[:-3])
    assert reasons_of(live, experiment, given) == ["data: the data were given with the ask"]
    assert last(live)["datasets"][0].Y.shape[0] == 3
    assert reasons_of(live, experiment) == ["data: the last fit was to other data than the experiment's"]
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"]))
    assert reasons_of(live, experiment, experiment.data) == []


def test_another_experiment_of_the_same_name_is_another_experiment():
    experiment, live = grown()
    other = copy.deepcopy(experiment)
    attach(other, 0, {"f": (5.0, np.nan)})
    assert reasons_of(live, other) == ["data: the experiment is another object"]
    np.testing.assert_array_equal(
        last(live)["datasets"][0].Y, last(fresh(other, transforms=TRANSFORMS["default"]))["datasets"][0].Y
    )
    assert reasons_of(live, experiment) == ["data: the last fit was to other data than the experiment's"]
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"]))


def test_unknown_transforms_and_changed_ones_go_ax_s_way():
    kinds = [*MBM_X_trans, LogY, *Y_trans]
    experiment, live = grown(transforms=kinds, transform_configs={"LogY": {"metrics": ["f"]}})
    assert reasons_of(live, experiment) == ["data: the transform LogY is not known"]

    class Renamed(type(live.transforms["StandardizeY"])):
        pass

    experiment, live = grown()
    live._raw_transforms[-1] = Renamed
    assert reasons_of(live, experiment) == ["data: the transforms were changed"]
    experiment, live = grown()
    live._transform_configs["Winsorize"] = {"winsorization_config": {}}
    assert reasons_of(live, experiment) == ["data: the transforms were changed"]


def test_metrics_that_count_in_other_statuses_go_ax_s_way():
    from ax.adapter.data_utils import DataLoaderConfig

    experiment, live = grown(data_loader_config=DataLoaderConfig(fit_only_completed_map_metrics=True))
    assert reasons_of(live, experiment) == []
    experiment.add_metric(MapMetric("curve"))
    assert reasons_of(live, experiment) == ["data: metrics count in different statuses"]


def test_a_task_parameter_goes_ax_s_way():
    def space():
        task = ChoiceParameter(
            "task", STRING, ["a", "b"], is_task=True, target_value="a", is_ordered=False, sort_values=False
        )
        return SearchSpace([*float_space().parameters.values(), task])

    from ax.adapter.transforms.task_encode import TaskChoiceToIntTaskChoice

    experiment, live = grown(space=space, transforms=[TaskChoiceToIntTaskChoice, *Y_trans])
    assert "data: a parameter is a task" in reasons_of(live, experiment)


def test_a_changed_objective_is_optimized_from_the_next_ask_on():
    client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, **QUICK))
    advance(client, 7)
    adapter = client._generation_strategy.adapter
    client.configure_optimization(objective="f")
    client.get_next_trials(max_trials=1)
    assert client._generation_strategy.adapter is adapter
    assert adapter._optimization_config is client._experiment.optimization_config
    assert "data: the optimization config was changed" in timings(client)["reasons"].iloc[-1]


def test_a_space_that_is_not_expanded_leaves_points_out_as_ax_does():
    experiment, live = grown(expand_model_space=False)
    attach(experiment, add_trial(experiment, {"x": 1.5, "y": 0.9}), {"f": (2.0, np.nan), "g": (1.0, np.nan)})
    assert reasons_of(live, experiment) == ["data: trial 4 lies outside of the space that the model knows"]
    reference = fresh(experiment, transforms=TRANSFORMS["default"], expand_model_space=False)
    assert_same(live, reference)
    assert_same_frames(live, reference)
    assert len(last(live)["datasets"][0].Y) == 4
    assert reasons_of(live, experiment) == ["data: points lie outside of the search space"]


def test_a_search_space_given_to_the_adapter_is_kept():
    space = SearchSpace([RangeParameter(name, FLOAT, 0.0, 3.0) for name in ("x", "y")])
    experiment, live = grown(search_space=space)
    attach(experiment, add_trial(experiment, {"x": 2.5, "y": 0.9}), {"f": (2.0, np.nan), "g": (1.0, np.nan)})
    assert reasons_of(live, experiment) == []
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"], search_space=space))


def test_tensors_are_made_on_the_adapter_s_device(device):
    experiment, live = grown(config=constrained)
    attach(experiment, add_trial(experiment, {"x": 0.5, "y": 0.9}), {"f": (2.0, 0.1), "g": (1.0, 0.1)})
    live.device = device
    refit(live, experiment)
    for dataset in last(live)["datasets"]:
        assert {dataset.X.device.type, dataset.Y.device.type, dataset.Yvar.device.type} == {device.type}


def test_only_the_outcomes_of_the_optimization_config_are_fitted_if_so_configured():
    experiment, live = grown(fit_tracking_metrics=False)
    attach(experiment, add_trial(experiment, {"x": 0.1, "y": 0.9}), {"f": (2.0, np.nan), "g": (1.0, np.nan)})
    assert reasons_of(live, experiment) == []
    assert live.outcomes == ["f"]
    experiment.optimization_config = constrained()
    reasons_of(live, experiment)
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"], fit_tracking_metrics=False))
    assert live.outcomes == ["f", "g"]


def test_a_parameter_that_was_added_later_is_filled_in(passes):
    experiment, live = grown()
    z = RangeParameter("z", FLOAT, 0.0, 1.0, backfill_value=0.5)
    experiment._properties["immutable_search_space_and_optimization_config"] = False
    experiment.search_space.add_parameters([z])
    assert reasons_of(live, experiment) == ["data: the search space was changed"]
    attach(experiment, add_trial(experiment, {"x": 0.1, "y": 0.9, "z": 0.1}), {"f": (2.0, np.nan)})
    refit(live, experiment)
    reference = fresh(experiment, transforms=TRANSFORMS["default"])
    assert_same(live, reference)
    assert last(live)["datasets"][0].X[:, 2].tolist() == [0.5] * 4 + [0.1]


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
def test_an_all_nan_metric_goes_ax_s_way():
    experiment, live = grown()
    experiment.add_metric(Metric("empty"))
    attach(experiment, 0, {"empty": (np.nan, np.nan)})
    ask = Ask(decision=Decision(device="cpu", dtype="float64", threads=1, reasons=()))
    with in_progress(ask):
        live._process_and_transform_data(experiment)
    assert ask.reasons == ["data: no number was observed for empty"]


def test_the_config_s_constraint_is_read_anew_when_it_is_edited_in_place():
    experiment, live = grown(config=constrained)
    config = experiment.optimization_config
    assert isinstance(config, OptimizationConfig)
    config.outcome_constraints = [OutcomeConstraint("g <= -0.3", metric_name_to_signature=SIGNATURES)]
    assert reasons_of(live, experiment) == []
    assert_same(live, fresh(experiment, transforms=TRANSFORMS["default"]))
    assert live.transforms["BilogY"].metric_to_bound == {"g": -0.3}

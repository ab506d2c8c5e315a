"""Pending observations: equal to Ax's, in both of Ax's meanings."""

import gc
from typing import ClassVar

import numpy as np
import pytest
from ax.core.arm import Arm
from ax.core.data import Data, DataRow
from ax.core.trial_status import TrialStatus
from ax.core.utils import MANY_TRIALS_IN_EXPERIMENT, extract_pending_observations

from gpu_gs.plugin.pending import _SEEN, pending_observations
from tests.plugin.data_helpers import (
    Story,
    add_trial,
    attach,
    constrained,
    draw,
    float_space,
    make_experiment,
    mixed_space,
    single,
    two_objectives,
)


def assert_equal_to_ax(experiment):
    expected, found = extract_pending_observations(experiment), pending_observations(experiment)
    assert found == expected
    if found is None:
        return
    features = [feature for features in found.values() for feature in features]
    assert len({id(feature) for feature in features}) == len(features)  # transforms work in place
    for metric, features in found.items():
        assert [feature.metadata for feature in features] == [feature.metadata for feature in expected[metric]]


@pytest.mark.parametrize("config", [single, constrained, two_objectives])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("already", [0, MANY_TRIALS_IN_EXPERIMENT - 20])
def test_pending_points_are_ax_s_after_any_course_of_events(config, seed, already):
    experiment = make_experiment(mixed_space() if seed else float_space(), config())
    story = Story(experiment, seed=seed, known_noise=False)
    assert_equal_to_ax(experiment)
    story.begin()
    for _ in range(already):
        index = add_trial(experiment, draw(experiment.search_space, story.rng))
        attach(experiment, index, story.outcomes())
        experiment.trials[index].mark_as(
            story.rng.choice([TrialStatus.COMPLETED] * 6 + [TrialStatus.FAILED, TrialStatus.EARLY_STOPPED]), unsafe=True
        )
    for k in range(40):
        story.step()
        if k % 4 == 0:
            candidate = experiment.new_trial().add_arm(Arm(draw(experiment.search_space, story.rng)))
            if k % 8 == 0:
                candidate.mark_staged()
        assert_equal_to_ax(experiment)
    assert (len(experiment.trials) >= MANY_TRIALS_IN_EXPERIMENT) == bool(already)


def test_nothing_pending_is_none():
    for already in (2, MANY_TRIALS_IN_EXPERIMENT):
        experiment = make_experiment(float_space(), single())
        for k in range(already):
            attach(experiment, add_trial(experiment, {"x": 0.5, "y": 0.5}), {"f": (k, np.nan), "g": (k, 0.1)})
            attach(experiment, k, {"spare": (0.0, 0.0)})
            experiment.trials[k].mark_completed()
        assert pending_observations(experiment) is None is extract_pending_observations(experiment)


@pytest.mark.parametrize("already", [0, MANY_TRIALS_IN_EXPERIMENT])
def test_batch_trials_and_abandoned_arms_are_taken_as_ax_takes_them(already):
    experiment = make_experiment(float_space(), single())
    for k in range(already):
        attach(experiment, add_trial(experiment, {"x": 0.5, "y": 0.5}), {"f": (k, np.nan)})
    batch = experiment.new_batch_trial().add_arms_and_weights(
        arms=[Arm({"x": 0.3, "y": 0.4}), Arm({"x": 0.6, "y": 0.4})]
    )
    assert_equal_to_ax(experiment)
    batch.mark_running(no_runner_required=True)
    batch.mark_arm_abandoned(batch.arms[0].name)
    assert_equal_to_ax(experiment)
    batch.mark_abandoned()
    assert_equal_to_ax(experiment)


def test_points_outside_of_the_search_space_are_not_pending():
    experiment = make_experiment(float_space(), single())
    add_trial(experiment, {"x": 3.0, "y": 0.5})
    assert_equal_to_ax(experiment)
    add_trial(experiment, {"x": 0.3, "y": 0.5})
    assert_equal_to_ax(experiment)
    assert len(pending_observations(experiment)["f"]) == 1


def completed_trials(count):
    experiment = make_experiment(float_space(), single())
    for k in range(count):
        attach(experiment, add_trial(experiment, {"x": 0.5, "y": 0.5}), {"f": (k, 0.1), "g": (k, 0.1)})
        experiment.trials[k].mark_completed()
    return experiment


class Watched(DataRow):
    """A row that says when somebody reads its metric."""

    reads: ClassVar[list[int]] = []

    def __getattribute__(self, name):
        if name == "metric_name":
            Watched.reads.append(1)
        return super().__getattribute__(name)


def test_only_new_rows_of_data_are_looked_at():
    experiment = completed_trials(5)
    add_trial(experiment, {"x": 0.1, "y": 0.2})
    assert_equal_to_ax(experiment)
    for row in experiment.data._data_rows:
        row.__class__ = Watched
    Watched.reads.clear()
    pending_observations(experiment)
    assert Watched.reads == []
    attach(experiment, 5, {"f": (1.0, 0.1)})
    assert sum(isinstance(row, Watched) for row in experiment.data._data_rows) == 10  # the same objects
    Watched.reads.clear()  # Ax's own
    pending_observations(experiment)
    assert Watched.reads == []
    assert_equal_to_ax(experiment)


def test_removed_data_are_not_remembered():
    experiment = completed_trials(5)
    assert_equal_to_ax(experiment)
    experiment.data = Data(data_rows=experiment.data._data_rows[:7])
    assert len(pending_observations(experiment)["f"]) >= 1
    assert_equal_to_ax(experiment)


def test_what_is_remembered_goes_with_the_experiment():
    gc.collect()
    before = len(_SEEN)
    experiment = completed_trials(3)
    pending_observations(experiment)
    assert len(_SEEN) == before + 1
    del experiment
    gc.collect()
    assert len(_SEEN) == before

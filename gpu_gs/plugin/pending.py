"""Pending observations without pandas: what Ax's ``extract_pending_observations`` returns, from sets.

Ax groups a frame of all data by trial on every ask (25 to 65 ms at 1,000 trials). Here it is remembered which trials have
which metric, new rows of data are added to that, and only trials that are pending are looked at.
"""

from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from weakref import ref

from ax.core.arm import Arm
from ax.core.base_trial import BaseTrial
from ax.core.data import DataRow
from ax.core.experiment import Experiment
from ax.core.observation import ObservationFeatures
from ax.core.trial import Trial
from ax.core.trial_status import TrialStatus
from ax.core.utils import MANY_TRIALS_IN_EXPERIMENT

Pending = dict[str, list[ObservationFeatures]]

_ALWAYS_PENDING = (TrialStatus.CANDIDATE, TrialStatus.STAGED, TrialStatus.RUNNING, TrialStatus.ABANDONED)
"""From 100 trials on, whatever data there are; in Ax's order."""

_PENDING_WITHOUT_DATA = (TrialStatus.STAGED, TrialStatus.RUNNING, TrialStatus.COMPLETED, TrialStatus.ABANDONED)
"""Below 100 trials, for each metric that the trial has no data for. Candidates are pending for all metrics."""


def pending_observations(experiment: Experiment) -> Pending | None:
    """Equal to Ax's ``extract_pending_observations(experiment)``.

    Its two meanings: below 100 trials (or with batch trials) a trial is pending for a metric that it has no data for;
    from 100 on, a trial that is not completed is pending for all metrics, and so is a completed one that lacks a
    metric of the optimization config.
    """
    trials = experiment.trials
    if len(trials) >= MANY_TRIALS_IN_EXPERIMENT and all(
        issubclass(kind, Trial) for kind in set(map(type, trials.values()))
    ):
        return _by_status(experiment)
    return _by_metric(experiment)


def _by_metric(experiment: Experiment) -> Pending | None:
    """``get_pending_observation_features``."""
    metrics = list(experiment.metrics)
    observed = _observed(experiment)
    pending: Pending = {metric: [] for metric in metrics}
    for index, trial in experiment.trials.items():
        status = trial.status
        if status is TrialStatus.CANDIDATE:
            lacking = metrics
        elif status in _PENDING_WITHOUT_DATA:
            lacking = [metric for metric in metrics if index not in observed[metric]]
        else:
            continue
        if not lacking:
            continue
        arms = _in_design(experiment, trial)
        for metric in lacking:
            pending[metric] += [_features(trial, arm) for arm in arms]
    return pending if any(pending.values()) else None


def _by_status(experiment: Experiment) -> Pending | None:
    """``get_pending_observation_features_based_on_trial_status``."""
    by_status = experiment.trial_indices_by_status
    pending = [experiment.trials[index] for status in _ALWAYS_PENDING for index in by_status[status]]
    config = experiment.optimization_config
    if config is not None and config.metric_names:
        observed = _observed(experiment)
        complete = set.intersection(*(observed[metric] for metric in config.metric_names))
        completed = by_status[TrialStatus.COMPLETED]
        if not completed <= complete:
            # In the order of the set itself, as Ax goes through it.
            pending += [experiment.trials[index] for index in completed if index not in complete]
    features = [_features(trial, arm) for trial in pending for arm in _in_design(experiment, trial)]
    # A copy for each metric, since transforms work in place.
    return {metric: deepcopy(features) for metric in experiment.metrics} if features else None


@dataclass(frozen=True)
class _Seen:
    """What some rows of data say: the trials that have data, by metric."""

    rows: list[DataRow] = field(default_factory=list)
    observed: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))


_SEEN: dict[int, tuple[ref[Experiment], _Seen]] = {}
"""By the identity of an experiment, which has no hash; entries go with their experiments."""


def _observed(experiment: Experiment) -> defaultdict[str, set[int]]:
    """The trials that have data, by metric; not to be changed."""
    rows = list(experiment.data._data_rows)
    key = id(experiment)
    known, seen = _SEEN.get(key, (None, _Seen()))
    if known is None or known() is not experiment or rows[: len(seen.rows)] != seen.rows:  # edited or removed
        known, seen = ref(experiment, lambda _: _SEEN.pop(key, None)), _Seen()
    _SEEN.pop(key, None)  # should this break off, nothing half-done is remembered
    for row in rows[len(seen.rows) :]:
        seen.observed[row.metric_name].add(row.trial_index)
    _SEEN[key] = known, _Seen(rows, seen.observed)
    return seen.observed


def _in_design(experiment: Experiment, trial: BaseTrial) -> list[Arm]:
    space = experiment.search_space
    return [arm for arm in trial.arms if space.check_membership(arm.parameters)]


def _features(trial: BaseTrial, arm: Arm) -> ObservationFeatures:
    return ObservationFeatures.from_arm(
        arm=arm, trial_index=trial.index, metadata=trial._get_candidate_metadata(arm_name=arm.name)
    )


__all__ = ["pending_observations"]

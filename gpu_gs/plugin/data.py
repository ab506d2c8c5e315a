"""From experiment to training tensors by what is new: an ask after one new trial does the work of one trial.

Ax converts and transforms all data on every ask (about 85 ms at n = 1,000). Here a ``Table`` keeps what the last ask
read; ``Table.advanced`` brings it up to date from what was attached since, found by comparing object identities.
Whatever is not an addition (edited or removed data, a trial that left) raises ``NotIncremental`` with its reasons, and
the adapter goes Ax's way.

Notation
    n   rows of the table: the trials that the model sees, in the order in which they came. Rows stay in their
        place, so the rows of the last ask are a prefix of the present ones. Trials that came together stand in
        Ax's order, that of ``experiment.trials``.
    d   features after all transforms
    m   metrics with data, by signature, sorted as Ax sorts them
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import compress, count
from operator import attrgetter, ne
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ax.core.arm import Arm
from ax.core.data import DataRow
from ax.core.data_utils import DataLoaderConfig
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.core.map_metric import MapMetric
from ax.core.metric import Metric
from ax.core.optimization_config import OptimizationConfig, PreferenceOptimizationConfig
from ax.core.parameter import ChoiceParameter, DerivedParameter
from ax.core.search_space import SearchSpace
from ax.core.trial import Trial
from ax.core.trial_status import TrialStatus
from ax.core.types import TCandidateMetadata
from ax.utils.common.constants import Keys
from botorch.utils.datasets import SupervisedDataset

from gpu_gs.transfer import to_device

FloatArray = npt.NDArray[np.float64]

State = tuple[TrialStatus, datetime | None, GeneratorRun | None]
Encode = Callable[[list[tuple[int, Arm]]], FloatArray]
"""From (trial index, arm) to transformed features. # shape: (k, d)"""

_state = attrgetter("_status", "_time_completed", "_generator_run")


class NotIncremental(Exception):
    """The experiment is not the one of the last ask with something added; ``reasons`` say why."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = list(reasons)


@dataclass(frozen=True)
class Snapshot:
    """An experiment at one moment, by reference: only the lists are copied.

    Attributes:
        indices: The trials' indices, in the order of ``experiment.trials``.
        states: Status, time of completion and generator run of each of them.
        rows: The rows of ``experiment.data``. ``attach_data`` keeps the objects of old rows.
        metrics: The experiment's metrics by name.
    """

    indices: list[int]
    states: list[State]
    rows: list[DataRow]
    metrics: dict[str, Metric]

    @classmethod
    def of(cls, experiment: Experiment) -> "Snapshot":
        trials = experiment.trials  # the property marks candidates past their time to live as stale
        return cls(
            indices=list(trials),
            states=list(map(_state, trials.values())),
            rows=list(experiment.data._data_rows),
            metrics=dict(experiment.metrics),
        )


@dataclass(frozen=True)
class Table:
    """The observations that the model sees, with transformed features and raw outcomes.

    Attributes:
        snapshot: What it was read from.
        row_of: The row of each trial, by trial index.
        place: Where each row's trial stands in ``experiment.trials``. # shape: (n,)
        X: Features after the transforms. # shape: (n, d)
        metadata: Candidate metadata of each row, with the time of completion, as Ax hands it to a generator.
        signatures: The metrics of the columns.
        mean: Raw outcomes; NaN where there is none. # shape: (n, m)
        sem: Their standard errors; NaN where unknown. # shape: (n, m)
        given: Whether there is an observation (its mean may be NaN). # shape: (n, m)
        waiting: Observations that the model does not see now: of a trial in another status, or of a metric that is
            not on the experiment.
    """

    snapshot: Snapshot
    row_of: dict[int, int]
    place: npt.NDArray[np.int64]
    X: FloatArray
    metadata: list[dict[str, Any]]
    signatures: tuple[str, ...]
    mean: FloatArray
    sem: FloatArray
    given: npt.NDArray[np.bool_]
    waiting: list[DataRow] = field(default_factory=list)

    @classmethod
    def empty(cls, d: int) -> "Table":
        return cls(
            snapshot=Snapshot([], [], [], {}),
            row_of={},
            place=np.empty(0, dtype=np.int64),
            X=np.empty((0, d)),
            metadata=[],
            signatures=(),
            mean=np.empty((0, 0)),
            sem=np.empty((0, 0)),
            given=np.empty((0, 0), dtype=bool),
        )

    @property
    def trial_indices(self) -> npt.NDArray[np.int64]:
        """The trial of each row. # shape: (n,)"""
        return np.fromiter(self.row_of, dtype=np.int64, count=len(self.row_of))

    def advanced(self, now: Snapshot, statuses: Collection[TrialStatus], encode: Encode) -> "Table":
        """The table of ``now``, by adding to this one.

        Args:
            now: The experiment as it is.
            statuses: The data of trials in these statuses reach the model.
            encode: Gives the transformed features of new trials.

        Raises:
            NotIncremental: Something is not an addition.
        """
        before = self.snapshot
        known, seen = len(before.indices), len(before.rows)
        signatures = {metric.signature for metric in now.metrics.values()}
        if now.indices[:known] != before.indices:
            raise NotIncremental("trials were removed")
        if now.rows[:seen] != before.rows:
            raise NotIncremental("observations were edited or removed")
        if gone := set(self.signatures) - signatures:
            raise NotIncremental(f"metrics were removed: {', '.join(sorted(gone))}")
        metadata = self._metadata_of(now, statuses)

        places = dict(zip(now.indices, range(len(now.indices)), strict=True))
        arrived: dict[int, list[DataRow]] = defaultdict(list)  # by place
        waiting = []
        for row in [*self.waiting, *now.rows[seen:]]:
            place = places.get(row.trial_index)
            if place is None:
                raise NotIncremental(f"there are observations of trial {row.trial_index}, which does not exist")
            if not math.isnan(_number(row.step)):  # a Client's data without a progression have the step NaN
                raise NotIncremental("there are learning curves")
            if row.metric_signature in signatures and now.states[place][0] in statuses:
                arrived[place].append(row)
            else:
                waiting.append(row)
        if not arrived:
            return replace(self, snapshot=now, metadata=metadata, waiting=waiting)

        new = sorted(place for place in arrived if now.indices[place] not in self.row_of)
        arms = {place: _only_arm(now, place) for place in arrived}
        row_of = dict(self.row_of)
        row_of |= {now.indices[place]: len(self.row_of) + k for k, place in enumerate(new)}
        metadata += [_metadata(now.states[place], arms[place]) for place in new]
        columns = sorted({*self.signatures, *(row.metric_signature for rows in arrived.values() for row in rows)})
        column_of = {signature: column for column, signature in enumerate(columns)}
        shape = (len(row_of), len(columns))
        mean, sem, given = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        old = np.ix_(range(len(self.row_of)), [column_of[signature] for signature in self.signatures])
        mean[old], sem[old], given[old] = self.mean, self.sem, self.given
        for place, rows in arrived.items():
            for row in rows:
                if row.arm_name != arms[place].name:
                    raise NotIncremental(f"trial {row.trial_index} has observations of another arm, {row.arm_name}")
                cell = row_of[row.trial_index], column_of[row.metric_signature]
                if given[cell]:
                    raise NotIncremental(f"trial {row.trial_index} has several observations of {row.metric_signature}")
                mean[cell], sem[cell], given[cell] = _number(row.mean), _number(row.se), True
        features = encode([(now.indices[place], arms[place]) for place in new]) if new else self.X[:0]
        return Table(
            snapshot=now,
            row_of=row_of,
            place=np.concatenate([self.place, np.array(new, dtype=np.int64)]),
            X=np.concatenate([self.X, features]),
            metadata=metadata,
            signatures=tuple(columns),
            mean=mean,
            sem=sem,
            given=given,
            waiting=waiting,
        )

    def _metadata_of(self, now: Snapshot, statuses: Collection[TrialStatus]) -> list[dict[str, Any]]:
        """The old rows' metadata, where a trial changed (was completed, say) its new one."""
        metadata = list(self.metadata)
        before = self.snapshot
        for place in compress(count(), map(ne, before.states, now.states)):  # in C: n comparisons of identities
            old, new = before.states[place], now.states[place]
            row = self.row_of.get(now.indices[place])
            if row is None:
                continue
            if new[0] not in statuses:
                raise NotIncremental(f"trial {now.indices[place]} is {new[0].name} now and leaves the data")
            if old[2] is not new[2]:
                raise NotIncremental(f"trial {now.indices[place]} has another generator run")
            metadata[row] = _metadata(new, _only_arm(now, place))
        return metadata


def _only_arm(snapshot: Snapshot, place: int) -> Arm:
    run = snapshot.states[place][2]
    arms = [] if run is None else run.arms
    if len(arms) != 1:
        raise NotIncremental(f"trial {snapshot.indices[place]} has {len(arms)} arms")
    return arms[0]


def _metadata(state: State, arm: Arm) -> dict[str, Any]:
    """What Ax's ``_extract_arm_data`` puts into the column ``metadata``."""
    _, time_completed, run = state
    by_signature = None if run is None else run.candidate_metadata_by_arm_signature
    metadata = dict((by_signature or {}).get(arm.signature) or {})
    if time_completed is not None and Keys.TRIAL_COMPLETION_TIMESTAMP not in metadata:
        metadata[Keys.TRIAL_COMPLETION_TIMESTAMP] = time_completed.timestamp()
    return metadata


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


# ---------------------------------------------------------------------- decisions


def reasons_against_table(
    experiment: Experiment,
    optimization_config: OptimizationConfig | None,
    model_space: SearchSpace,
    loader: DataLoaderConfig,
) -> list[str]:
    """Why data of this kind go Ax's way; empty means that a ``Table`` can hold them."""
    reasons = []
    if any(kind is not Trial for kind in set(map(type, experiment.trials.values()))):
        reasons.append("there are batch trials")
    if experiment.status_quo is not None:
        reasons.append("there is a status quo")
    if experiment._properties.get("parameter_decomposition") is not None:
        reasons.append("the experiment is contextual")
    metrics = experiment.metrics.values()
    if isinstance(optimization_config, PreferenceOptimizationConfig) or any(
        metric.signature == Keys.PAIRWISE_PREFERENCE_QUERY.value for metric in metrics
    ):
        reasons.append("preferences are learned")
    if optimization_config is not None and any(c.relative for c in optimization_config.all_constraints):
        reasons.append("a constraint is relative")
    if loader.statuses_to_fit_map_metric != loader.statuses_to_fit and any(
        isinstance(metric, MapMetric) for metric in metrics
    ):
        reasons.append("metrics count in different statuses")
    parameters = model_space.parameters.values()
    if model_space.is_hierarchical:
        reasons.append("the search space is hierarchical")
    if any(isinstance(parameter, DerivedParameter) for parameter in parameters):
        reasons.append("a parameter is derived")
    if any(isinstance(parameter, ChoiceParameter) and parameter.is_task for parameter in parameters):
        reasons.append("a parameter is a task")
    return reasons


# ---------------------------------------------------------------------- datasets


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A table with its outcomes transformed: what a fit depends on.

    Attributes:
        table: Features, metadata, and where they come from.
        outcomes: The outcomes to model, sorted.
        mean: Transformed outcomes, by the table's rows and columns. # shape: (n, m)
        sem: Their standard errors. # shape: (n, m)
    """

    table: Table
    outcomes: list[str]
    mean: FloatArray
    sem: FloatArray

    def equals(self, other: "TrainingData | None") -> bool:
        """Whether a fit to ``other`` is a fit to these data."""
        if other is None:
            return False
        ours, theirs = self.table, other.table
        return (
            self.outcomes == other.outcomes
            and ours.signatures == theirs.signatures
            and np.array_equal(ours.place, theirs.place)
            and np.array_equal(ours.X, theirs.X)
            and np.array_equal(self.mean, other.mean, equal_nan=True)
            and np.array_equal(self.sem, other.sem, equal_nan=True)
            and ours.metadata == theirs.metadata
        )

    def datasets(
        self, parameters: list[str], device: torch.device | None
    ) -> tuple[list[SupervisedDataset], list[list[TCandidateMetadata]]]:
        """What ``TorchAdapter._convert_experiment_data`` makes of them, a dataset for each outcome."""
        table = self.table
        trial_indices = table.trial_indices
        datasets: list[SupervisedDataset] = []
        metadata: list[list[TCandidateMetadata]] = []
        for outcome in self.outcomes:
            column = table.signatures.index(outcome)
            observed = ~np.isnan(self.mean[:, column])
            sem = self.sem[observed, column]
            datasets.append(
                SupervisedDataset(
                    X=to_device(torch.from_numpy(table.X[observed]), device),
                    Y=to_device(torch.from_numpy(self.mean[observed, column]).view(-1, 1), device),
                    Yvar=None if np.isnan(sem).all() else to_device(torch.from_numpy(sem).square().view(-1, 1), device),
                    feature_names=parameters,
                    outcome_names=[outcome],
                    group_indices=torch.from_numpy(trial_indices[observed]),
                )
            )
            metadata.append(list(compress(table.metadata, observed)))
        return datasets, metadata

"""Ax's ExperimentData: made when somebody reads it, and converted to observations by columns.

An ask needs no frames of the data (see ``data.py``). Who reads them between asks (an analysis, a prediction, cross
validation) gets Ax's own, as of the last fit. ``Client.get_best_parameterization`` and the analyses turn all training data into ``Observation`` objects; Ax does it
with several pandas look-ups a row, about 5 ms each. The same objects come from one pass over the columns.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from ax.adapter.transforms.base import Transform
from ax.core.arm import Arm
from ax.core.data import Data
from ax.core.data_utils import DataLoaderConfig, ExperimentData, extract_experiment_data
from ax.core.generator_run import GeneratorRun
from ax.core.observation import Observation, ObservationData, ObservationFeatures
from ax.core.trial import Trial
from ax.core.trial_status import TrialStatus

from gpu_gs.plugin.data import Snapshot, TrainingData


class FastExperimentData(ExperimentData):
    """An ExperimentData that equals its original and converts quickly."""

    @classmethod
    def of(cls, data: ExperimentData) -> "FastExperimentData":
        return cls(arm_data=data.arm_data, observation_data=data.observation_data)

    def convert_to_list_of_observations(self) -> list[Observation]:
        """See ``ExperimentData.convert_to_list_of_observations``; learning curves and repeated rows go its way."""
        arms, observed = self.arm_data, self.observation_data
        if (
            observed.index.nlevels > 2
            or not observed.index.is_unique
            or "mean" not in observed.columns.get_level_values(0)
            or not arms.index.isin(observed.index).all()
        ):
            return super().convert_to_list_of_observations()
        rows = observed.index.get_indexer(arms.index)
        signatures = np.array(observed["mean"].columns, dtype=object)
        means = observed["mean"].to_numpy(dtype=float)[rows]  # shape: (n, m)
        variances = np.square(observed["sem"][list(signatures)].to_numpy(dtype=float)[rows])
        names = [name for name in arms.columns if name != "metadata"]
        parameters = [arms[name].astype(object).to_list() for name in names]
        given = [(~pd.isna(arms[name])).to_list() for name in names]
        present = ~np.isnan(means)
        observations = []
        for row, ((trial_index, arm_name), metadata) in enumerate(zip(arms.index, arms["metadata"], strict=True)):
            has_data = present[row]
            if not has_data.any():
                continue
            observations.append(
                Observation(
                    features=ObservationFeatures(
                        parameters={
                            name: column[row]
                            for name, column, is_given in zip(names, parameters, given, strict=True)
                            if is_given[row]
                        },
                        trial_index=trial_index,
                        metadata=metadata.copy(),
                    ),
                    data=ObservationData(
                        metric_signatures=list(signatures[has_data]),
                        means=means[row, has_data],
                        covariance=np.diag(variances[row, has_data]),
                    ),
                    arm_name=arm_name,
                )
            )
        return observations


def only_metrics(data: ExperimentData, signatures: Sequence[str]) -> ExperimentData:
    """The same arms with the observations of some metrics; rows that have none of them stay, as NaN."""
    observed = data.observation_data
    columns = observed.columns[observed.columns.get_level_values(1).isin(signatures)]
    if len(columns) == len(observed.columns):
        return data
    return ExperimentData(arm_data=data.arm_data, observation_data=observed[columns])


# ---------------------------------------------------------------------- frames as of the last fit


@dataclass(frozen=True)
class _TrialAsOf:
    """What Ax's ``extract_experiment_data`` reads of a trial."""

    index: int
    status: TrialStatus
    _time_completed: datetime | None
    generator_run: GeneratorRun | None

    @property
    def arms(self) -> list[Arm]:
        return [] if self.generator_run is None else self.generator_run.arms

    @property
    def abandoned_arms(self) -> list[Arm]:
        return self.arms if self.status == TrialStatus.ABANDONED else []

    _get_candidate_metadata = Trial._get_candidate_metadata


class _ExperimentAsOf:
    """What Ax's ``extract_experiment_data`` reads of an experiment, as it was at a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        states = zip(snapshot.indices, snapshot.states, strict=True)
        self.trials = {index: _TrialAsOf(index, *state) for index, state in states}
        self.metrics = snapshot.metrics
        self.parameters: dict[str, Any] = {}  # read only if there are no trials


class LazyExperimentData(ExperimentData):
    """An ExperimentData whose frames Ax makes when they are first read. Copies and pickles are plain.

    Args:
        data: The training data that the frames describe.
        loader: The adapter's.
        transforms: The fitted transforms to apply, in their order.
    """

    def __init__(self, data: TrainingData, loader: DataLoaderConfig, transforms: Sequence[Transform] = ()) -> None:
        self.training = data
        self._loader = loader
        self._transforms = tuple(transforms)
        self._made: ExperimentData | None = None

    def _frames(self) -> ExperimentData:
        if self._made is None:
            table = self.training.table
            raw = extract_experiment_data(
                experiment=_ExperimentAsOf(table.snapshot),  # type: ignore[arg-type]
                data_loader_config=self._loader,
                data=Data(data_rows=table.snapshot.rows),
            )
            # Cross-validation pairs these rows with the model's: they stand in the model's order.
            made = ExperimentData(
                arm_data=_in_order(raw.arm_data, table.trial_indices),
                observation_data=_in_order(raw.observation_data, table.trial_indices),
            )
            if self._transforms:
                made = deepcopy(made)
                for transform in self._transforms:
                    made = transform.transform_experiment_data(made)
            self._made = made
        return self._made

    @property
    def arm_data(self) -> pd.DataFrame:  # type: ignore[override]
        return self._frames().arm_data

    @property
    def observation_data(self) -> pd.DataFrame:  # type: ignore[override]
        return self._frames().observation_data

    def __reduce__(self) -> Any:
        return ExperimentData, (self.arm_data, self.observation_data)


def _in_order(frame: pd.DataFrame, trial_indices: npt.NDArray[np.int64]) -> pd.DataFrame:
    present = frame.index.get_level_values("trial_index").to_numpy()
    if np.array_equal(present, trial_indices):
        return frame
    row_of = {index: row for row, index in enumerate(present)}
    return frame.iloc[[row_of[index] for index in trial_indices]]

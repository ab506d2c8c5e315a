"""Ax's transforms applied to what is new (features) and to columns instead of frames (outcomes).

The transforms of features depend on the search space only: the fitted instances of the last full pass are applied to
the new trials' parameters. The transforms of outcomes depend on all outcomes: Ax's own classes are made anew on each
ask, but on plain columns that answer to the few methods of pandas which they call, which takes 0.1 ms instead of 10.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ax.adapter.transforms.base import Transform
from ax.adapter.transforms.bilog_y import BilogY
from ax.adapter.transforms.cast import Cast
from ax.adapter.transforms.choice_encode import ChoiceToNumericChoice, OrderedChoiceToIntegerRange
from ax.adapter.transforms.derelativize import Derelativize
from ax.adapter.transforms.fill_missing_parameters import FillMissingParameters
from ax.adapter.transforms.int_to_float import IntToFloat
from ax.adapter.transforms.log import Log
from ax.adapter.transforms.logit import Logit
from ax.adapter.transforms.map_key_to_float import MapKeyToFloat
from ax.adapter.transforms.one_hot import OneHot
from ax.adapter.transforms.remove_fixed import RemoveFixed
from ax.adapter.transforms.standardize_y import StandardizeY as AxStandardizeY
from ax.adapter.transforms.unit_x import UnitX
from ax.adapter.transforms.winsorize import Winsorize
from ax.core.arm import Arm
from ax.core.data_utils import ExperimentData
from ax.core.observation import ObservationFeatures
from ax.core.parameter import RangeParameter
from ax.core.search_space import SearchSpace

from gpu_gs.plugin.data import FloatArray, NotIncremental, Table
from gpu_gs.plugin.kept_scale import StandardizeY

FEATURE_TRANSFORMS: tuple[type[Transform], ...] = (
    FillMissingParameters,
    Cast,
    MapKeyToFloat,
    RemoveFixed,
    ChoiceToNumericChoice,
    OrderedChoiceToIntegerRange,
    OneHot,
    IntToFloat,
    Log,
    Logit,
    UnitX,
)
"""Exact types whose effect on features depends on the search space alone; tests compare each with a fresh adapter."""

OUTCOME_TRANSFORMS: tuple[type[Transform], ...] = (Derelativize, Winsorize, BilogY, AxStandardizeY, StandardizeY)
"""Exact types that run on ``OutcomeColumns``; tests compare each with a fresh adapter."""


def reasons_against_transforms(transforms: Iterable[type[Transform]]) -> list[str]:
    """Why these transforms go Ax's way; empty means that they can be applied to what is new."""
    known = (*FEATURE_TRANSFORMS, *OUTCOME_TRANSFORMS)
    kinds = list(transforms)
    reasons = [f"the transform {kind.__name__} is not known" for kind in kinds if kind not in known]
    if len(set(kinds)) != len(kinds):
        reasons.append("a transform is applied twice")
    return reasons


# ---------------------------------------------------------------------- features


def encode(
    arms: Sequence[tuple[int, Arm]],
    transforms: Mapping[str, Transform],
    model_space: SearchSpace,
    parameters: list[str],
) -> FloatArray:
    """Transformed features of new arms.

    Args:
        arms: Trial indices and arms.
        transforms: The fitted transforms, in their order.
        model_space: The space that they were fitted on.
        parameters: The features, in the order of the columns.

    Returns:
        A row for each arm. # shape: (k, d)

    Raises:
        NotIncremental: An arm lies outside of the model space, which data may expand.
    """
    features = []
    for trial_index, arm in arms:
        (feature,) = transforms[FillMissingParameters.__name__].transform_observation_features(
            [ObservationFeatures(parameters=arm.parameters)]
        )
        values = feature.parameters
        if not _inside(values, model_space):
            raise NotIncremental(f"trial {trial_index} lies outside of the space that the model knows")
        for name, parameter in model_space.parameters.items():
            if isinstance(parameter, RangeParameter) and parameter.digits is not None:
                # Ax rounds columns by NumPy but single values by Python, which differ in ties.
                number: Any = values[name]
                values[name] = float(np.round(float(number), parameter.digits))
        features.append(feature)
    for transform in transforms.values():
        features = transform.transform_observation_features(features)
    rows: list[dict[str, Any]] = [feature.parameters for feature in features]
    return np.array([[float(row[name]) for name in parameters] for row in rows])


def _inside(values: Mapping[str, Any], space: SearchSpace) -> bool:
    if values.keys() != space.parameters.keys() or not space.check_membership(values):
        return False
    return all(  # membership tolerates a little, and by that little Ax expands the model space
        parameter.lower <= values[name] <= parameter.upper
        for name, parameter in space.parameters.items()
        if isinstance(parameter, RangeParameter)
    )


# ---------------------------------------------------------------------- outcomes


class Column(np.ndarray[Any, np.dtype[np.float64]]):
    """A column of numbers with those methods of a pandas Series that Ax's transforms of outcomes call."""

    @property
    def values(self) -> FloatArray:
        return np.asarray(self)

    def to_numpy(self) -> FloatArray:
        return np.asarray(self)

    def dropna(self) -> "Column":
        return self[~np.isnan(self)].view(Column)

    def isnull(self) -> Any:
        return np.isnan(np.asarray(self))

    def clip(self, lower: float, upper: float) -> "Column":  # type: ignore[override]
        return np.clip(np.asarray(self), lower, upper).view(Column)


class _Group(dict[str, Column]):
    @property
    def columns(self) -> list[str]:
        return list(self)


class OutcomeColumns:
    """``ExperimentData.observation_data`` as far as Ax's transforms of outcomes use it."""

    def __init__(self, signatures: Sequence[str], mean: FloatArray, sem: FloatArray) -> None:
        self._groups = {
            group: _Group({s: matrix[:, k].copy().view(Column) for k, s in enumerate(signatures)})
            for group, matrix in (("mean", mean), ("sem", sem))
        }

    @property
    def empty(self) -> bool:
        return not self._groups["mean"]

    def __getitem__(self, key: str | tuple[str, str]) -> Any:
        return self._groups[key] if isinstance(key, str) else self._groups[key[0]][key[1]]

    def __setitem__(self, key: tuple[str, str], values: FloatArray) -> None:
        self._groups[key[0]][key[1]] = np.asarray(values, dtype=float).view(Column)

    def matrix(self, group: str) -> FloatArray:
        return np.stack([np.asarray(column) for column in self._groups[group].values()], axis=1)


def transformed_outcomes(
    table: Table, transforms: Iterable[type[Transform]], configs: Mapping[str, Any], adapter: Any
) -> tuple[FloatArray, FloatArray, dict[str, Transform]]:
    """Means and standard errors after Ax's transforms of outcomes, made anew from all of the table's rows.

    Args:
        table: Raw outcomes.
        transforms: All transforms of the adapter; those of features are passed over.
        configs: Their configurations, by name.
        adapter: The adapter, for its optimization config.

    Returns:
        Means and standard errors by the table's rows and columns, and the transforms by name.

    Raises:
        NotIncremental: A metric has no number at all, which Ax's transforms treat in their own ways.
    """
    unobserved = np.isnan(table.mean).all(axis=0)
    if unobserved.any():
        raise NotIncremental(f"no number was observed for {table.signatures[int(unobserved.argmax())]}")
    order = np.argsort(table.place)  # Ax's order of rows, so that sums round as they do there
    nothing: Any = None  # no transform of outcomes reads the arms
    columns: Any = OutcomeColumns(table.signatures, table.mean[order], table.sem[order])
    data = ExperimentData(arm_data=nothing, observation_data=columns)
    made: dict[str, Transform] = {}
    for kind in transforms:
        if kind not in OUTCOME_TRANSFORMS:
            continue
        transform = kind(experiment_data=data, adapter=adapter, config=configs.get(kind.__name__))
        data = transform.transform_experiment_data(data)
        made[kind.__name__] = transform
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    columns = data.observation_data
    return columns.matrix("mean")[back], columns.matrix("sem")[back], made

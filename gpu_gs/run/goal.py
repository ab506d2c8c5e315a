"""What a run is to achieve, and how trials compare under it: one value or several, feasible or not.

Notation: a trial's metrics m; goal k is the weighted sum v_k = sum_j w_kj m_j, always to be maximized. Shown is v_k in
the user's own sense: for "-error" the error itself, to be minimized.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpu_gs.errors import ConfigError
from gpu_gs.run.objectives import Metrics


@dataclass(frozen=True)
class Single:
    """One of the goals.

    Attributes:
        label: The metric's name, or the whole expression for a weighted sum.
        weights: The metrics and their weights; the sum is to be maximized.
        minimize: Whether the label names something to be minimized.
        threshold: The worst value of interest, in the label's own sense.
    """

    label: str
    weights: tuple[tuple[str, float], ...]
    minimize: bool
    threshold: float | None = None

    def value(self, metrics: Mapping[str, Any]) -> float:
        """In the label's own sense."""
        total = sum(weight * _mean(metrics[name]) for name, weight in self.weights)
        if len(self.weights) == 1:
            return _mean(metrics[self.weights[0][0]])
        return total

    @property
    def sign(self) -> float:
        return -1.0 if self.minimize else 1.0


@dataclass(frozen=True)
class Bound:
    """One outcome constraint: the weighted sum of metrics is at most, or at least, the bound."""

    label: str
    weights: tuple[tuple[str, float], ...]
    at_most: bool
    bound: float

    def holds(self, metrics: Mapping[str, Any]) -> bool:
        total = sum(weight * _mean(metrics[name]) for name, weight in self.weights)
        return total <= self.bound if self.at_most else total >= self.bound


@dataclass(frozen=True)
class Goal:
    """All goals and constraints of a task."""

    singles: tuple[Single, ...]
    bounds: tuple[Bound, ...]

    @classmethod
    def parse(cls, optimize: str, outcome_constraints: Sequence[str] = ()) -> "Goal":
        """From Ax's own notation.

        Raises:
            ConfigError: Ax does not understand it, or it needs what a run does not have (a baseline).
        """
        from ax.api.utils.instantiation.from_string import optimization_config_from_string
        from ax.core.types import ComparisonOp
        from ax.utils.common.sympy import extract_metric_weights_from_objective_expr, parse_objective_expression

        problems: list[str] = []
        expressions: list[Any] = []
        weights: list[tuple[tuple[str, float], ...]] = []
        try:
            parsed = parse_objective_expression(optimize)
            expressions = list(parsed) if isinstance(parsed, tuple) else [parsed]
            weights = [tuple(extract_metric_weights_from_objective_expr(part)) for part in expressions]
            optimization_config_from_string(optimize)
        except Exception as error:
            problems.append(f"optimize: {optimize!r} is not understood by Ax: {_text(error)}")
        thresholds: dict[str, float] = {}
        bounds = []
        goals = [pairs[0][0] for pairs in weights if len(pairs) == 1]
        for place, text in enumerate(outcome_constraints):
            where = f"outcome_constraints.{place}: {text!r}"
            try:
                parsed_bound = optimization_config_from_string("__goal__", [text]).outcome_constraints[0]
                pairs, at_most = tuple(parsed_bound.metric_weights), parsed_bound.op is ComparisonOp.LEQ
            except Exception as error:
                problems.append(f"{where} is not understood by Ax: {_text(error)}")
                continue
            if parsed_bound.relative:
                problems.append(f"{where} needs a baseline, which a run does not have")
            elif len(pairs) == 1 and pairs[0][0] in goals and len(weights) > 1:
                thresholds[pairs[0][0]] = float(parsed_bound.bound)
            elif len(pairs) == 1 and pairs[0][0] in goals:
                problems.append(f"{where} is on the goal itself, which Ax refuses for one goal")
            else:
                bounds.append(Bound(text, pairs, at_most, float(parsed_bound.bound)))
        if problems:
            raise ConfigError(problems)
        singles = []
        for expression, pairs in zip(expressions, weights, strict=True):
            if len(pairs) == 1:
                name, weight = pairs[0]
                singles.append(Single(name, pairs, weight < 0, thresholds.get(name)))
            else:
                singles.append(Single(str(expression), pairs, minimize=False))
        return cls(tuple(singles), tuple(bounds))

    @property
    def metrics(self) -> list[str]:
        """The metrics that an objective must return, goals first."""
        parts: list[Single | Bound] = [*self.singles, *self.bounds]
        names = [name for part in parts for name, _ in part.weights]
        return list(dict.fromkeys(names))

    @property
    def several(self) -> bool:
        return len(self.singles) > 1

    def values(self, metrics: Metrics) -> tuple[float, ...]:
        """The value of each goal, in its label's own sense."""
        return tuple(single.value(metrics) for single in self.singles)

    def feasible(self, metrics: Metrics) -> bool:
        return all(bound.holds(metrics) for bound in self.bounds)

    def score(self, metrics: Metrics) -> np.ndarray:
        """All goals to be maximized. shape: (goals,)"""
        return np.array([single.sign * single.value(metrics) for single in self.singles])

    def ranking(self, trials: Mapping[int, Metrics]) -> list[int]:
        """The trials' keys, best first: feasible before infeasible; several goals by front, then by the first goal."""
        scores = {key: self.score(metrics) for key, metrics in trials.items()}
        ranked: list[int] = []
        for wanted in (True, False):
            left = {key: scores[key] for key in trials if self.feasible(trials[key]) == wanted}
            while left:
                front = [key for key in left if not self.several or _undominated(left[key], left.values())]
                ranked += sorted(front, key=lambda key: (*(-left[key]), key))
                left = {key: score for key, score in left.items() if key not in set(front)}
        return ranked

    def front(self, trials: Mapping[int, Metrics]) -> list[int]:
        """The feasible trials that no feasible trial beats in all goals; for one goal, the best trial.

        Sorted by the first goal, best first.
        """
        scores = {key: self.score(metrics) for key, metrics in trials.items() if self.feasible(metrics)}
        found = [key for key, score in scores.items() if _undominated(score, scores.values())]
        found.sort(key=lambda key: (*(-scores[key]), key))
        unique: dict[tuple[float, ...], int] = {}
        for key in found:
            unique.setdefault(tuple(scores[key]), key)
        return list(unique.values()) if self.several else found[:1]

    def best(self, trials: Mapping[int, Metrics]) -> int | None:
        """The best feasible trial; for several goals, that of the front which is best in the first goal."""
        front = self.front(trials)
        return front[0] if front else None

    def so_far(self, trials: Iterable[Metrics | None], reference: np.ndarray | None = None) -> list[float]:
        """Progress after each trial, NaN before the first feasible one.

        One goal: the best value, in its label's own sense. Several: the hypervolume beyond ``reference`` (which is to
        be maximized, shape (goals,)).
        """
        progress: list[float] = []
        best, kept = float("nan"), list[np.ndarray]()
        for metrics in trials:
            if metrics is not None and self.feasible(metrics):
                score = self.score(metrics)
                if self.several:
                    assert reference is not None
                    kept = [*(other for other in kept if not _beats(score, other)), score]
                    best = hypervolume(np.array(kept), reference)
                else:
                    best = score[0] if np.isnan(best) else max(best, score[0])
            progress.append(float(best if self.several else self.singles[0].sign * best))
        return progress

    def achieved(self, trials: Sequence[Metrics]) -> float:
        """The last value of ``so_far``, without those before it; several goals: from the worst value seen."""
        scores = [self.score(metrics) for metrics in trials if self.feasible(metrics)]
        if not scores:
            return float("nan")
        if self.several:
            return hypervolume(np.array(scores), self.reference(trials))
        return float(self.singles[0].sign * max(score[0] for score in scores))

    def reference(self, trials: Iterable[Metrics]) -> np.ndarray:
        """Where hypervolume is counted from: the thresholds, else the worst value seen. shape: (goals,)"""
        scores = np.array([self.score(metrics) for metrics in trials]).reshape(-1, len(self.singles))
        worst = scores.min(axis=0) if len(scores) else np.zeros(len(self.singles))
        return np.array(
            [
                low if single.threshold is None else single.sign * single.threshold
                for single, low in zip(self.singles, worst, strict=True)
            ]
        )


def hypervolume(scores: np.ndarray, reference: np.ndarray) -> float:
    """Volume between a reference point and what the points dominate; all goals maximized.

    Args:
        scores: The points. shape: (n, goals)
        reference: shape: (goals,)
    """
    beyond = scores[(scores > reference).all(axis=1)] - reference
    if not len(beyond):
        return 0.0
    if beyond.shape[1] == 1:
        return float(beyond.max())
    # Slices along the last goal, each the volume of the goals before it.
    order = beyond[np.argsort(-beyond[:, -1])]
    depths = np.append(order[1:, -1], 0.0)
    zero = np.zeros(beyond.shape[1] - 1)
    return float(
        sum(
            (order[i, -1] - depths[i]) * hypervolume(order[: i + 1, :-1], zero)
            for i in range(len(order))
            if order[i, -1] > depths[i]
        )
    )


def _undominated(score: np.ndarray, others: Iterable[np.ndarray]) -> bool:
    return not any(_beats(other, score) for other in others)


def _beats(score: np.ndarray, other: np.ndarray) -> bool:
    return bool((score >= other).all() and (score > other).any())


def _mean(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple | list) else value)


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


__all__ = ["Bound", "Goal", "Single", "hypervolume"]

"""When hyperparameters are fitted again, and when the last ones are kept. Decisions only: no tensors, no models.

A decision looks at a ``RefitMemory``, a value that an ask hands to the next one, also through storage: so a run that
is resumed decides as one that was not interrupted. An empty list of reasons means that the hyperparameters are kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Schedule = Literal["always", "adaptive"] | int
"""Refit on each ask, by the rules below, or on each k-th ask with new data."""

YMaps = Mapping[str, tuple[float, float]]
"""Mean and deviation by which the raw outcomes of a name were standardized."""

ALWAYS_BELOW = 50
"""Observations up to which adaptive means always: a warm fit takes a few milliseconds, and each datum tells much."""

GROWTH = 0.1
"""Share by which the data may grow between refits."""

REST = 0.005
"""Share by which the data grow after a refit before anything but lost data leads to the next: one observation up to 200,
two up to 400, five at 1,000.

A refit costs n^3. One that ran out of iterations goes on after this at the earliest, and one that did not keep the model
from being surprised is followed by another then, not at once (docs/benchmarks.md)."""

LONGEST_STAY = 25
"""Asks with new data after which the hyperparameters are fitted again in any case."""

SURPRISE = 3.0
"""Standardized residual of a new observation, given those before it, above which the model is not believed any more."""

SCALE_DRIFT = 1.25
"""Factor by which the deviation of the raw outcomes may change, in either direction, between refits."""

LOCATION_DRIFT = 0.25
"""Deviations by which the mean of the raw outcomes may move between refits."""

SAME = 1e-6
"""... and up to which both are the same: Ax's stores round observations."""

COLD_FROM = 20
"""Observations below which there is no cold refit: the priors leave one basin."""

COLD_GROWTH = 1.5
"""Growth of the data since the last cold refit after which a refit is cold."""

# The numbers above are choices: GROWTH and SURPRISE those of a first comparison of regret over 10 seeds,
# REST that of others over 20; the others have not been measured one by one. All together end as low as
# refitting on each ask, with 50 to 60 and with 250 to 290 observations (docs/benchmarks.md).


@dataclass(frozen=True)
class RefitMemory:
    """What the next decision must know of the past; ready for JSON by ``to_json``.

    Attributes:
        n: Observations at the last refit.
        seen: Observations at the last ask.
        kept: Asks with new data since then that kept the hyperparameters.
        refits: Refits so far.
        cold_n: Observations at the last fit that did not only start warm.
        converged: Whether the last refit ended at an optimum; else it ran out of iterations.
        at_bound: Whether a lengthscale ended at its lower bound.
        y_maps: Mean and deviation by which the raw outcomes were standardized at the last refit; empty where they are not
            known or not to be kept.
        seen_y_maps: Mean and deviation of the raw outcomes at the last ask, where known.
        curvature: ``FitResult.curvature`` of the last refit.
    """

    n: int
    seen: int
    kept: int = 0
    refits: int = 1
    cold_n: int = 0
    converged: bool = True
    at_bound: bool = False
    y_maps: YMaps = field(default_factory=dict)
    seen_y_maps: YMaps = field(default_factory=dict)
    curvature: str = ""

    def to_json(self) -> dict[str, Any]:
        maps = {"y_maps": self.y_maps, "seen_y_maps": self.seen_y_maps}
        return {**asdict(self), **{key: {name: list(pair) for name, pair in of.items()} for key, of in maps.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RefitMemory":
        maps = {
            key: {name: (float(mean), float(deviation)) for name, (mean, deviation) in values.get(key, {}).items()}
            for key in ("y_maps", "seen_y_maps")
        }
        return cls(**{**values, **maps})

    def after_keeping(self, n: int, today: YMaps) -> "RefitMemory":
        """The memory of an ask that kept the hyperparameters; without new data it does not count."""
        kept = self.kept if n == self.seen else self.kept + 1
        return replace(self, seen=n, kept=kept, seen_y_maps=dict(today))

    @property
    def judged(self) -> int:
        """How many observations earlier asks have judged whether they surprise; while a refit rests, none is judged."""
        return self.n if _rests(self, self.seen) else self.seen


def after_refit(
    memory: RefitMemory | None,
    n: int,
    y_maps: YMaps,
    today: YMaps,
    *,
    cold: bool,
    converged: bool,
    at_bound: bool,
    curvature: str = "",
) -> RefitMemory:
    """The memory of an ask that fitted.

    Args:
        memory: That of the ask before it.
        n: Observations.
        y_maps: How the outcomes were standardized for the fit.
        today: The mean and deviation that they have.
        cold: Whether it did not only start warm.
        converged: Whether it ended at an optimum.
        at_bound: Whether a lengthscale ended at its lower bound.
        curvature: ``FitResult.curvature``.
    """
    return RefitMemory(
        n=n,
        seen=n,
        kept=0,
        refits=1 if memory is None else memory.refits + 1,
        cold_n=n if cold or memory is None else memory.cold_n,
        converged=converged,
        at_bound=at_bound,
        y_maps=dict(y_maps),
        seen_y_maps=dict(today),
        curvature=curvature,
    )


def reasons_to_refit(schedule: Schedule, memory: RefitMemory | None, n: int, today: YMaps) -> list[str]:
    """Why the hyperparameters must be fitted again, as far as that is known without looking at the model.

    Args:
        schedule: What the user wants.
        memory: What the last ask left; None before the first.
        n: Observations now.
        today: Mean and deviation of the raw outcomes now, where known.
    """
    if memory is None:
        return ["no earlier fit is known"]
    if n == memory.seen:
        # Nothing new, so a process that went on would not even ask: one that was resumed decides alike. If the outcomes
        # have been edited, their mean and deviation are not those of the last ask.
        edited = _drifts(memory.seen_y_maps, today, 1 + SAME, SAME)
        if schedule == "always":
            return [] if today and not edited else ["always"]
        return _drifts(memory.y_maps, today, SCALE_DRIFT, LOCATION_DRIFT) if schedule == "adaptive" and edited else []
    if schedule == "always":
        return ["always"]
    if n < memory.seen:
        return ["observations are gone"]
    if isinstance(schedule, int):
        return [f"every {schedule}"] if memory.kept + 1 >= schedule else []
    if n < ALWAYS_BELOW:
        return [f"fewer than {ALWAYS_BELOW} observations"]
    if _rests(memory, n):
        return []
    reasons = []
    if n - memory.n >= GROWTH * memory.n:
        reasons.append(f"growth from {memory.n} to {n} observations")
    if memory.kept + 1 >= LONGEST_STAY:
        reasons.append(f"{LONGEST_STAY} asks since the last refit")
    if not memory.converged:
        reasons.append("the last refit ran out of iterations")
    if memory.at_bound:
        reasons.append("a lengthscale at its lower bound")
    return reasons + _drifts(memory.y_maps, today, SCALE_DRIFT, LOCATION_DRIFT)


def _drifts(before: YMaps, today: YMaps, scale: float, location: float) -> list[str]:
    """Outcomes whose deviation has changed by more than a factor, or their mean by more than a share of it."""
    reasons = []
    for name, (mean, deviation) in today.items():
        if name not in before:
            continue
        old_mean, old_deviation = before[name]
        ratio = deviation / old_deviation if old_deviation > 0 else float("inf")
        if not 1 / scale <= ratio <= scale:
            reasons.append(f"the scale of {name} is {ratio:.3g} times that of the last refit")
        elif abs(mean - old_mean) > location * old_deviation:
            reasons.append(f"the mean of {name} has moved by {abs(mean - old_mean) / old_deviation:.2g} deviations")
    return reasons


def kept_y_maps(
    schedule: Schedule, memories: Sequence[RefitMemory], counts: Mapping[str, int], today: YMaps
) -> dict[str, tuple[float, float]]:
    """The y-maps of the last refit of those outcomes that are not refitted now, unless they surprise.

    A model keeps those of all its outcomes or none. Not kept are those on which two models do not agree, and, where the
    schedule keeps hyperparameters nevertheless, those that have drifted.

    Args:
        schedule: What the user wants.
        memories: What the last ask left of each model.
        counts: Observations of each outcome now.
        today: Mean and deviation of the raw outcomes now.
    """
    keeping: list[YMaps] = []
    changed: set[str] = set()  # outcomes that some model wants as they are today
    for memory in memories:
        names = set(memory.y_maps)
        sizes = {counts.get(name) for name in names}
        n = sizes.pop() if len(sizes) == 1 else None
        now = {name: today[name] for name in names if name in today}
        if (
            n is None
            or reasons_to_refit(schedule, memory, n, now)
            or (schedule != "adaptive" and _drifts(memory.y_maps, now, SCALE_DRIFT, LOCATION_DRIFT))
        ):
            changed |= names
        else:
            keeping.append(memory.y_maps)
    first: dict[str, tuple[float, float]] = {}
    for maps in keeping:
        changed |= {name for name, y_map in maps.items() if first.setdefault(name, y_map) != y_map}
    while spoilt := [maps for maps in keeping if changed & maps.keys()]:
        keeping = [maps for maps in keeping if maps not in spoilt]
        changed |= {name for maps in spoilt for name in maps}
    return {name: y_map for maps in keeping for name, y_map in maps.items()}


def _rests(memory: RefitMemory, n: int) -> bool:
    """Whether the last refit is so recent that another would find little new."""
    return n - memory.n < REST * memory.n


def reasons_by_surprise(schedule: Schedule, memory: RefitMemory, n: int, largest: float) -> list[str]:
    """Why the newest observations demand a refit.

    Args:
        schedule: What the user wants; a fixed schedule does not mind surprises.
        memory: What the last ask left.
        n: Observations now.
        largest: The largest standardized residual, in absolute value, of the observations that are not ``judged``.
    """
    if schedule != "adaptive" or largest <= SURPRISE or _rests(memory, n):
        return []
    return [f"surprise: a residual of {largest:.2g} deviations"]


def cold_is_due(memory: RefitMemory | None, n: int) -> bool:
    """Whether a refit should look at other basins too."""
    return memory is not None and n >= COLD_FROM and n >= COLD_GROWTH * memory.cold_n


__all__ = [
    "RefitMemory",
    "Schedule",
    "YMaps",
    "after_refit",
    "cold_is_due",
    "kept_y_maps",
    "reasons_by_surprise",
    "reasons_to_refit",
]

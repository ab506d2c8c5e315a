"""Benchmark problems: BoTorch's synthetic test functions as minimization problems over a box."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A function to minimize over a box.

    Attributes:
        name: As given on the command line, such as ``hartmann6``.
        function: Name of a class in ``botorch.test_functions.synthetic``.
        dim: Number of parameters.
        noise: Standard deviation of the Gaussian noise added to each evaluation (0: exact).
    """

    name: str
    function: str
    dim: int
    noise: float = 0.0

    @cached_property
    def _instance(self) -> Any:
        import botorch.test_functions.synthetic as synthetic

        cls = getattr(synthetic, self.function)
        return cls() if self.function == "Branin" else cls(dim=self.dim)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        return [(float(lower), float(upper)) for lower, upper in self._instance.bounds.T.tolist()]

    @property
    def optimum(self) -> float:
        """The smallest value."""
        return float(self._instance.optimal_value)

    def true_value(self, x: Sequence[float]) -> float:
        """The noise-free value at x, a point inside the bounds."""
        import torch

        return float(self._instance(torch.tensor([list(x)], dtype=torch.double))[0])

    def observe(self, x: Sequence[float], seed: int) -> float:
        """The observed value at x; the noise is a function of ``seed`` alone."""
        value = self.true_value(x)
        if self.noise == 0.0:
            return value
        import numpy as np

        return value + self.noise * float(np.random.default_rng(seed).standard_normal())

    def initial_points(self, count: int, seed: int) -> list[list[float]]:
        """The first points of a scrambled Sobol sequence, in the problem's own units."""
        import torch

        engine = torch.quasirandom.SobolEngine(self.dim, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
        unit = engine.draw(count, dtype=torch.double)
        return [
            [low + (high - low) * u for u, (low, high) in zip(row, self.bounds, strict=True)] for row in unit.tolist()
        ]


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem("hartmann6", "Hartmann", 6),
        Problem("branin", "Branin", 2),
        Problem("levy4", "Levy", 4),
        Problem("rosenbrock4", "Rosenbrock", 4),
        Problem("ackley10", "Ackley", 10),
        Problem("ackley20", "Ackley", 20),
        Problem("hartmann6-noisy", "Hartmann", 6, noise=0.1),
        Problem("branin-noisy", "Branin", 2, noise=1.0),
        Problem("levy4-noisy", "Levy", 4, noise=0.5),
        Problem("rosenbrock4-noisy", "Rosenbrock", 4, noise=100.0),
        Problem("ackley10-noisy", "Ackley", 10, noise=0.2),
    )
}
"""Problems by name."""

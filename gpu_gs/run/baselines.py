"""What a tuned result is compared with: random points of the same search space, as many as there were trials."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu_gs.errors import ConfigError
from gpu_gs.rng import derive_seed
from gpu_gs.run.task_config import Parameter, TaskConfig

if TYPE_CHECKING:
    from ax.core.search_space import SearchSpace

ATTEMPTS = 10_000
"""Points drawn for one that satisfies the parameter constraints, before giving up."""


def random_point(config: TaskConfig, space: "SearchSpace", index: int) -> dict[str, Any]:
    """The random search's point of that index: uniform, or log-uniform where the scaling is log.

    A function of the seed and the index only, so that a search can be continued or made longer.

    Raises:
        ConfigError: No point was found that satisfies the parameter constraints.
    """
    assert config.strategy.seed is not None
    generator = np.random.default_rng(derive_seed(config.strategy.seed, index, 3, 0))
    for _ in range(ATTEMPTS):
        point = {parameter.name: _draw(parameter, generator) for parameter in config.parameters}
        if not config.parameter_constraints or space.check_membership(point):
            return point
    raise ConfigError([f"parameter_constraints: none of {ATTEMPTS} random points satisfies them"])


def _draw(parameter: Parameter, generator: np.random.Generator) -> Any:
    if parameter.bounds is None:
        return parameter.choices[int(generator.integers(len(parameter.choices)))]
    low, high = parameter.bounds
    if parameter.type == "int":
        if parameter.scaling != "log":
            return int(generator.integers(int(low), int(high), endpoint=True))
        edges = math.log(low - 0.5), math.log(high + 0.5)  # so that both ends get their share when rounded
        return min(max(round(math.exp(generator.uniform(*edges))), int(low)), int(high))
    if parameter.scaling == "log":
        return min(max(math.exp(generator.uniform(math.log(low), math.log(high))), low), high)
    return float(generator.uniform(low, high))


__all__ = ["ATTEMPTS", "random_point"]

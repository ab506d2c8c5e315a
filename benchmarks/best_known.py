"""Searches the best value of a problem whose optimum nobody knows: ``python benchmarks/best_known.py svr-diabetes``.

Half of the evaluations are a Sobol sequence; each of the others changes one of the best points so far (of several
objectives: one of the front) in a few coordinates, by a little or by a lot. Prints the value, or the hypervolume, and
the points as Python; ``gpu_gs/bench/problems.py`` states the value, ``tests/bench/test_tuning.py`` the points.
"""

import math
from typing import Annotated, Any

import numpy as np
import typer

from gpu_gs.bench.problems import PROBLEMS, Problem

PARENTS = 20


def main(
    problem: str,
    evaluations: Annotated[int, typer.Option("-n")] = 3000,
    seed: int = 0,
) -> None:
    """Prints the best that was found, after every 100 evaluations."""
    function = PROBLEMS[problem]
    sobol = list(function.space._sobol(evaluations // 2, seed))[: evaluations // 2]
    rng = np.random.default_rng(seed)
    tried: list[tuple[list[float], dict[str, float]]] = []
    for k in range(evaluations):
        u = sobol[k] if k < len(sobol) else _changed(_parent(function, tried, rng), rng)
        tried.append((u, function.true_outcomes(_point(function, u))))
        if (k + 1) % 100 == 0 or k + 1 == evaluations:
            best = [u for u, _ in _best(function, tried)]
            regret = function.regrets([outcomes for _, outcomes in tried])[-1]
            several = function.reference_point is not None
            value = function.optimum - regret if several else function.optimum + regret
            print(k + 1, repr(value), [_point(function, u) for u in (best if several else best[:1])], flush=True)


def _point(function: Problem, u: list[float]) -> list[Any]:
    return [parameter.at(value) for parameter, value in zip(function.space.parameters, u, strict=True)]


def _best(function: Problem, tried: list[tuple[list[float], dict[str, float]]]) -> list[Any]:
    """The best points, best first; of several objectives those that no other beats."""
    if function.reference_point is None:
        return sorted(tried, key=lambda each: each[1]["f"])[:PARENTS]
    values = np.array([[outcomes[name] for name in function.objectives] for _, outcomes in tried])
    values = np.where((values < function.reference_point).all(1, keepdims=True), values, math.inf)
    found = {
        tuple(value): tried[i]
        for i, value in enumerate(values)
        if np.isfinite(value).all() and not ((values <= value).all(1) & (values < value).any(1)).any()
    }
    return list(found.values())


def _parent(function: Problem, tried: list[Any], rng: np.random.Generator) -> list[float]:
    best = _best(function, tried)
    return best[int(rng.integers(len(best)))][0]


def _changed(u: list[float], rng: np.random.Generator) -> list[float]:
    change = rng.uniform(size=len(u)) < 2 / len(u)
    change[rng.integers(len(u))] = True
    step = 10 ** rng.uniform(-2.5, -0.3)
    return np.clip(np.where(change, rng.normal(u, step), u), 0.0, 1.0).tolist()


if __name__ == "__main__":
    typer.run(main)

"""The functions behind the benchmark problems: BoTorch's and Ax's test functions, with their spaces and optima.

Metrics: ``f`` is the objective, or ``f0``, ``f1``, ... are; ``c0``, ``c1``, ... are slacks, feasible from zero on. An
optimum given here as a number is checked by a test that says how; BoTorch's own is used where it is right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_gs.bench.spaces import AtMost, Choice, Float, Int, Parameter, Space
from gpu_gs.bench.statistics import FLOOR


@dataclass(frozen=True)
class Definition:
    """What a problem is made of.

    Attributes:
        space: Its parameters and linear constraints.
        evaluate: From a point to the noise-free values of all metrics.
        optimum: The smallest feasible value; with several objectives the largest hypervolume.
        objectives: Names of the metrics to minimize.
        constraints: Names of the metrics that must not be negative.
        reference_point: Of several objectives, the values that a point must stay below to count.
        penalty: The regret while no point is feasible.
        floor: Regrets below this count as this in comparisons: nobody would pay for more.
        optimizers: Points with the optimum, where the function draws them.
    """

    space: Space
    evaluate: Callable[[Sequence[Any]], dict[str, float]]
    optimum: float
    objectives: tuple[str, ...] = ("f",)
    constraints: tuple[str, ...] = ()
    reference_point: tuple[float, ...] | None = None
    penalty: float = float("inf")
    floor: float = FLOOR
    optimizers: Sequence[Sequence[float]] = ()


def _tensor(x: Sequence[Any]) -> Any:
    import torch

    return torch.tensor([list(x)], dtype=torch.double)


def _box(function: Any) -> Space:
    return Space(tuple(Float(float(low), float(high)) for low, high in function.bounds.T.tolist()))


def _single(function: Any) -> Callable[[Sequence[Any]], dict[str, float]]:
    return lambda x: {"f": float(function(_tensor(x))[0])}


def synthetic(name: str, **options: Any) -> Callable[[], Definition]:
    """A class of ``botorch.test_functions.synthetic`` over its box."""

    def define() -> Definition:
        import botorch.test_functions.synthetic as module

        function = getattr(module, name)(**options)
        return Definition(_box(function), _single(function), float(function.optimal_value))

    return define


# ------------------------------------------------------------------------------------------------------ constrained


def _constrained(function: Any, optimum: float, floor: float) -> Definition:
    """A constrained function of BoTorch; the penalty is that of its worst feasible value."""
    names = tuple(f"c{i}" for i in range(function.num_constraints))

    def evaluate(x: Sequence[Any]) -> dict[str, float]:
        row = _tensor(x)
        slacks = function.evaluate_slack_true(row)[0].tolist()
        return {"f": float(function(row)[0]), **dict(zip(names, slacks, strict=True))}

    penalty = float(function.worst_feasible_value) - optimum
    return Definition(_box(function), evaluate, optimum, constraints=names, penalty=penalty, floor=floor)


def pressure_vessel() -> Definition:
    """BoTorch rounds the thicknesses in the cost, not in the constraints, so that its published optimum, 6059.946, can
    be undercut: thicknesses just below the middle between two steps pay for the lower one."""
    from botorch.test_functions.synthetic import PressureVessel

    return _constrained(PressureVessel(), optimum=5633.950241007438, floor=0.1)


def speed_reducer() -> Definition:
    from botorch.test_functions.synthetic import SpeedReducer

    return _constrained(SpeedReducer(), optimum=2996.3481649, floor=0.1)


def constrained_hartmann() -> Definition:
    """Hartmann6 with its minimizer inside the ball that is feasible."""
    from botorch.test_functions.synthetic import ConstrainedHartmann

    function = ConstrainedHartmann(dim=6)
    return _constrained(function, optimum=float(function.optimal_value), floor=1e-4)


LINEAR = (AtMost({0: 1.0, 1: 1.0, 2: 1.0}, 0.7), AtMost({3: -1.0, 4: 1.0}, -0.1))
"""x0 + x1 + x2 <= 0.7 and x3 - x4 >= 0.1: 2.4 % of the box, without Hartmann6's own minimizer; both are active at the
constrained one."""


def hartmann_linear() -> Definition:
    from botorch.test_functions.synthetic import Hartmann

    function = Hartmann(dim=6)
    space = Space(_box(function).parameters, LINEAR)
    return Definition(space, _single(function), optimum=-2.949400502716588, floor=1e-4)


# ------------------------------------------------------------------------------------------------ several objectives


def several(name: str, **options: Any) -> Callable[[], Definition]:
    """A class of ``botorch.test_functions.multi_objective``, judged by hypervolume against its reference point."""

    def define() -> Definition:
        import botorch.test_functions.multi_objective as module

        function = getattr(module, name)(**options)
        objectives = tuple(f"f{i}" for i in range(function.num_objectives))
        constraints = tuple(f"c{i}" for i in range(getattr(function, "num_constraints", 0)))

        def evaluate(x: Sequence[Any]) -> dict[str, float]:
            row = _tensor(x)
            slacks = function.evaluate_slack_true(row)[0].tolist() if constraints else []
            values = function(row)[0].tolist()
            return {**dict(zip(objectives, values, strict=True)), **dict(zip(constraints, slacks, strict=True))}

        largest = float(function.max_hv)
        return Definition(
            _box(function),
            evaluate,
            optimum=largest,
            objectives=objectives,
            constraints=constraints,
            reference_point=tuple(function.ref_point.tolist()),
            floor=1e-4 * largest,
        )

    return define


def two_hartmanns() -> Definition:
    """For timing: Hartmann6 at x and at the point with its coordinates in reverse order, with thresholds of zero.

    The largest hypervolume is not known; the product of both smallest values bounds it.
    """
    from botorch.test_functions.synthetic import Hartmann

    function = Hartmann(dim=6)

    def evaluate(x: Sequence[Any]) -> dict[str, float]:
        return {"f0": float(function(_tensor(x))[0]), "f1": float(function(_tensor(x[::-1]))[0])}

    bound = float(function.optimal_value) ** 2
    return Definition(
        _box(function), evaluate, bound, objectives=("f0", "f1"), reference_point=(0.0, 0.0), floor=1e-4 * bound
    )


# ------------------------------------------------------------------------------------------------------------ mixed


def ackley_mixed() -> Definition:
    """Ten binary parameters, as unordered choices, and three floats; the optimum is at a fixed random point."""
    import torch
    from botorch.test_functions.synthetic import AckleyMixed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        function = AckleyMixed(dim=13, randomize_optimum=True)
    binary = set(function.discrete_inds)
    parameters = tuple(Choice((0, 1)) if i in binary else Float(0.0, 1.0) for i in range(function.dim))
    return Definition(
        Space(parameters),
        _single(function),
        float(function.optimal_value),
        floor=1e-3,
        optimizers=function._optimizers or (),
    )


def _from_ax(name: str, optimum: float, floor: float) -> Definition:
    """One of Ax's discrete benchmark problems, ``get_<name>`` of ``ax.benchmark``'s mixed-integer ones."""
    import ax.benchmark.problems.synthetic.discretized.mixed_integer as module
    from ax.core.parameter import ParameterType, RangeParameter

    problem = getattr(module, f"get_{name}")()
    theirs: list[RangeParameter] = list(problem.search_space.parameters.values())
    parameters: list[Parameter] = [
        Int(int(p.lower), int(p.upper))
        if p.parameter_type == ParameterType.INT
        else Float(float(p.lower), float(p.upper))
        for p in theirs
    ]

    def evaluate(x: Sequence[Any]) -> dict[str, float]:
        outcomes = problem.test_function.evaluate_true(dict(zip((p.name for p in theirs), x, strict=True)))
        return {"f": float(outcomes.reshape(()))}

    return Definition(Space(tuple(parameters)), evaluate, optimum, floor=floor)


def discrete_hartmann() -> Definition:
    """Hartmann6 with four parameters on grids of 4, 4, 20 and 20 steps."""
    return _from_ax("discrete_hartmann", optimum=-2.8893836571433287, floor=1e-4)


def discrete_rosenbrock() -> Definition:
    """Rosenbrock in ten dimensions, six of them with the values -5, 0, 5 and 10, so that (1, ..., 1) cannot be reached."""
    return _from_ax("discrete_rosenbrock", optimum=8.969896989707385, floor=1e-2)


CHOICES = (("a", "b", "c"), ("p", "q", "r", "s"))
LEVELS = {"a": 0.1, "b": 0.45, "c": 0.8, "p": 0.66, "q": 0.1, "r": 0.95, "s": 0.35}
"""The coordinate of Hartmann6 behind each value of the unordered choices of ``hartmann6-mixed``."""

STEPS = 10


def hartmann_mixed() -> Definition:
    """For timing: Hartmann6 with three floats, an int from 0 to 10, and two unordered choices of three and four values.

    The optimum is Hartmann6's own, which the discrete values do not reach.
    """
    from botorch.test_functions.synthetic import Hartmann

    function = Hartmann(dim=6)

    def evaluate(x: Sequence[Any]) -> dict[str, float]:
        return {"f": float(function(_tensor([*x[:3], x[3] / STEPS, LEVELS[x[4]], LEVELS[x[5]]]))[0])}

    parameters: tuple[Parameter, ...] = (*[Float(0.0, 1.0)] * 3, Int(0, STEPS), *(Choice(values) for values in CHOICES))
    return Definition(Space(parameters), evaluate, float(function.optimal_value), floor=1e-4)

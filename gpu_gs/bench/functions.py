"""The functions behind the benchmark problems: BoTorch's and Ax's test functions, with their spaces and optima.

Metrics: ``f`` is the objective, or ``f0``, ``f1``, ... are; ``c0``, ``c1``, ... are slacks, feasible from zero on. An
optimum given here as a number is checked by a test that says how; BoTorch's own is used where it is right.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpu_gs.bench.spaces import AtMost, Choice, Derived, Equal, Float, Int, Parameter, Space
from gpu_gs.bench.statistics import FLOOR


@dataclass(frozen=True)
class Definition:
    """What a problem is made of.

    Attributes:
        space: Its parameters and linear constraints.
        evaluate: From a point to the noise-free values of all metrics.
        optimum: The smallest feasible value; with several objectives the largest hypervolume.
        objectives: Names of the metrics to minimize.
        constraints: Names of the metrics that must not be negative; those in ``relative`` have another bound.
        reference_point: Of several objectives, the values that a point must stay below to count.
        penalty: The regret while no point is feasible.
        floor: Regrets below this count as this in comparisons: nobody would pay for more.
        optimizers: Points with the optimum, where the function draws them.
        exact: Whether ``optimum`` is the optimum, up to rounding; else it is an approximation, a bound, or the best
            value that anyone found, and a regret may be negative.
        baseline: The value (of several objectives, the hypervolume) that Ax's score counts from.
        seconds: How long the evaluation of a point takes where it is only looked up here.
        repeat: What an evaluation with a seed observes, where its noise is no Gaussian one.
        weights: Of a scalarized objective: the weight of each metric of ``objectives``, whose sum is minimized; None
            where each is an objective of its own.
        status_quo: The point that ``relative`` is about, which is evaluated before all others.
        relative: Of some constraints, the share of the metric's value at the status quo, above zero, that it must reach.
        tracking: Names of metrics that are observed and steer nothing.
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
    exact: bool = True
    baseline: float | None = None
    seconds: Callable[[Sequence[Any]], float] | None = None
    repeat: Callable[[Sequence[Any], int], dict[str, float]] | None = None
    weights: tuple[float, ...] | None = None
    status_quo: Sequence[Any] | None = None
    relative: Mapping[str, float] = field(default_factory=dict)
    tracking: tuple[str, ...] = ()


def _tensor(x: Sequence[Any]) -> Any:
    import torch

    return torch.tensor([list(x)], dtype=torch.double)


def _box(function: Any) -> Space:
    return Space(tuple(Float(float(low), float(high)) for low, high in function.bounds.T.tolist()))


def _single(function: Any) -> Callable[[Sequence[Any]], dict[str, float]]:
    return lambda x: {"f": float(function(_tensor(x))[0])}


def synthetic(
    name: str, optimum: float | None = None, floor: float = FLOOR, **options: Any
) -> Callable[[], Definition]:
    """A class of ``botorch.test_functions.synthetic`` over its box.

    Args:
        name: The class.
        optimum: In place of BoTorch's, where that is rounded.
        floor: Of the regret.
        options: The class's arguments.
    """

    def define() -> Definition:
        import botorch.test_functions.synthetic as module

        function = getattr(module, name)(**options)
        smallest = float(function.optimal_value) if optimum is None else optimum
        return Definition(_box(function), _single(function), smallest, floor=floor)

    return define


# ------------------------------------------------------------------------------------------------------ constrained


def constrained(name: str, floor: float, optimum: float | None = None, **options: Any) -> Callable[[], Definition]:
    """The same of a constrained function; the penalty is that of its worst feasible value."""

    def define() -> Definition:
        import botorch.test_functions.synthetic as module

        function = getattr(module, name)(**options)
        smallest = float(function.optimal_value) if optimum is None else optimum
        names = tuple(f"c{i}" for i in range(function.num_constraints))

        def evaluate(x: Sequence[Any]) -> dict[str, float]:
            row = _tensor(x)
            slacks = function.evaluate_slack_true(row)[0].tolist()
            return {"f": float(function(row)[0]), **dict(zip(names, slacks, strict=True))}

        penalty = float(function.worst_feasible_value) - smallest
        return Definition(_box(function), evaluate, smallest, constraints=names, penalty=penalty, floor=floor)

    return define


LINEAR = (AtMost({0: 1.0, 1: 1.0, 2: 1.0}, 0.7), AtMost({3: -1.0, 4: 1.0}, -0.1))
"""x0 + x1 + x2 <= 0.7 and x3 - x4 >= 0.1: 2.4 % of the box, without Hartmann6's own minimizer; both are active at the
constrained one."""


def hartmann_linear() -> Definition:
    from botorch.test_functions.synthetic import Hartmann

    function = Hartmann(dim=6)
    space = Space(_box(function).parameters, LINEAR)
    return Definition(space, _single(function), optimum=-2.949400502716588, floor=1e-4)


EQUATION = Equal({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, 1.0)
"""x0 + x1 + x2 + x3 = 1, as of a mixture; Hartmann6's own minimizer has 1.10 there."""


def hartmann_equation() -> Definition:
    """For timing: Hartmann6 under one linear equation. The optimum is Hartmann6's own, which bounds it."""
    from botorch.test_functions.synthetic import Hartmann

    function = Hartmann(dim=6)
    space = Space(_box(function).parameters, (EQUATION,))
    return Definition(space, _single(function), float(function.optimal_value), floor=1e-4, exact=False)


CENTER = (0.5,) * 6
SHARE = 1.125
"""Of c0 at the center, 1.775; as far from zero as that is |x| = 1.003."""


def hartmann_relative() -> Definition:
    """For timing: Hartmann6 where c0 = 3 - |x| must reach so many times its value at the status quo, the center.

    That leaves a ball about as large as that of BoTorch's constrained Hartmann6, with Hartmann6's own minimizer in it.
    """
    from botorch.test_functions.synthetic import Hartmann

    function = Hartmann(dim=6)

    def evaluate(x: Sequence[Any]) -> dict[str, float]:
        return {"f": float(function(_tensor(x))[0]), "c0": 3.0 - math.hypot(*x)}

    smallest = float(function.optimal_value)
    return Definition(
        _box(function),
        evaluate,
        smallest,
        constraints=("c0",),
        penalty=-smallest,
        floor=1e-4,
        status_quo=CENTER,
        relative={"c0": SHARE},
    )


# ------------------------------------------------------------------------------------------------ several objectives


def several(name: str, exact: bool = False, **options: Any) -> Callable[[], Definition]:
    """A class of ``botorch.test_functions.multi_objective``, judged by hypervolume against its reference point.

    Args:
        name: The class.
        exact: Whether BoTorch knows the largest hypervolume from a formula, not from a search.
        options: The class's arguments.
    """

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
            exact=exact,
        )

    return define


def rotated(x: Sequence[Any], k: int) -> list[Any]:
    """The k-th order of six coordinates: as they are, reversed, both after a turn by two places, by four.

    Args:
        x: Six values.
        k: From 0 to 5.
    """
    turn = 2 * (k // 2)
    order = [*x[turn:], *x[:turn]]
    return order[::-1] if k % 2 else order


def hartmanns(count: int, ball: bool = False) -> Callable[[], Definition]:
    """For timing: Hartmann6 at x and at points with its coordinates in other orders, with thresholds of zero.

    The largest hypervolume is not known; the product of the smallest values bounds it.

    Args:
        count: Objectives, six at most.
        ball: Whether c0 = 1 - |x| must not be negative either, as in BoTorch's constrained Hartmann6.
    """

    def define() -> Definition:
        from botorch.test_functions.synthetic import Hartmann

        function = Hartmann(dim=6)
        names = tuple(f"f{k}" for k in range(count))

        def evaluate(x: Sequence[Any]) -> dict[str, float]:
            values = {name: float(function(_tensor(rotated(x, k)))[0]) for k, name in enumerate(names)}
            return {**values, "c0": 1.0 - math.hypot(*x)} if ball else values

        bound = abs(float(function.optimal_value)) ** count
        return Definition(
            _box(function),
            evaluate,
            bound,
            objectives=names,
            constraints=("c0",) if ball else (),
            reference_point=(0.0,) * count,
            floor=1e-4 * bound,
            exact=False,
        )

    return define


WEIGHTS = (1.0, 0.5)


def hartmann_scalarized() -> Definition:
    """For timing: one objective, f0 + f1 / 2 of the two of ``hartmann6-two``. The sum of both smallest values bounds it."""
    two = hartmanns(2)()
    smallest = -math.sqrt(two.optimum) * sum(WEIGHTS)
    return Definition(
        two.space, two.evaluate, smallest, objectives=two.objectives, weights=WEIGHTS, floor=1e-4, exact=False
    )


def hartmann_tracking() -> Definition:
    """For timing: Hartmann6, and its value at the point with its coordinates in reverse order as a metric to be tracked."""
    from botorch.test_functions.synthetic import Hartmann

    function = Hartmann(dim=6)

    def evaluate(x: Sequence[Any]) -> dict[str, float]:
        return {name: float(function(_tensor(rotated(x, k)))[0]) for k, name in enumerate(("f", "t0"))}

    return Definition(_box(function), evaluate, float(function.optimal_value), floor=1e-4, tracking=("t0",))


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
    return Definition(Space(parameters), evaluate, float(function.optimal_value), floor=1e-4, exact=False)


def _hartmann_of(space: Space, coordinates: Callable[[Sequence[Any]], list[float]], exact: bool) -> Definition:
    """Hartmann6 at the six coordinates behind a point; ``exact`` says whether one of the points has its optimum."""
    from botorch.test_functions.synthetic import Hartmann

    function = Hartmann(dim=6)

    def evaluate(x: Sequence[Any]) -> dict[str, float]:
        return {"f": float(function(_tensor(coordinates(x)))[0])}

    return Definition(space, evaluate, float(function.optimal_value), floor=1e-4, exact=exact)


OCTAVES = 6
SIZES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def hartmann_all_discrete() -> Definition:
    """For timing: two ints from 1 to 64 on a logarithmic scale, two from 0 to 10, and two ordered choices of six values.

    17.8 million points. The optimum is Hartmann6's own, which they do not reach.
    """

    def coordinates(x: Sequence[Any]) -> list[float]:
        return [*(math.log2(k) / OCTAVES for k in x[:2]), *(k / STEPS for k in x[2:4]), *x[4:]]

    size, step, power = Choice(SIZES, ordered=True), Int(0, STEPS), Int(1, 2**OCTAVES, log=True)
    return _hartmann_of(Space((power, power, step, step, size, size)), coordinates, exact=False)


def hartmann_grid() -> Definition:
    """For timing: six ints from 0 to 3, so 4,096 points. The optimum is Hartmann6's own, which they do not reach."""
    return _hartmann_of(Space((Int(0, 3),) * 6), lambda x: [k / 3 for k in x], exact=False)


ABSENT = 0.5
"""The coordinate of Hartmann6 behind a parameter that is not there."""


def hartmann_hierarchical() -> Definition:
    """For timing: a choice, two floats that are there with one of its values, one with the other, and two always.

    The optimum is Hartmann6's own, which is not reached.
    """

    def coordinates(x: Sequence[Any]) -> list[float]:
        return [LEVELS[x[0]], *(ABSENT if value is None else value for value in x[1:])]

    parameters = (Choice(("p", "q")), *(Float(0.0, 1.0),) * 5)
    return _hartmann_of(Space(parameters, branches={0: {"p": (1, 2), "q": (3,)}}), coordinates, exact=False)


def hartmann_derived() -> Definition:
    """For timing: six floats and a seventh, the mean of the third and the sixth, which is Hartmann6's last coordinate.

    The optimum is Hartmann6's own, where the sixth is 0.838.
    """
    space = Space((Float(0.0, 1.0),) * 6, derived=(Derived({2: 0.5, 5: 0.5}),))
    return _hartmann_of(space, lambda x: [*x[:5], x[6]], exact=True)


# ------------------------------------------------------------------------------------------------- Ax's own benchmarks

SCORE_FLOOR = 1e-6
"""Of the distance from Ax's baseline to its optimum: a ten-thousandth of a point of its score."""


def from_ax(key: str) -> Callable[[], Definition]:
    """A problem of ``ax.benchmark``'s registry, with Ax's own optimum, which may be a bound or a published value.

    Args:
        key: In the registry.

    Raises:
        ValueError: By what is returned, where the problem does not fit: see ``reasons_against``.
    """

    def define() -> Definition:
        from ax.benchmark.problems.registry import get_benchmark_problem

        problem = get_benchmark_problem(key)
        if reasons := reasons_against(problem):
            raise ValueError(f"Ax's problem {key!r} does not fit: {'; '.join(reasons)}")
        return _of_ax(problem)

    return define


def discrete_from_ax(name: str, optimum: float, floor: float) -> Callable[[], Definition]:
    """One of Ax's mixed-integer problems, ``get_<name>``, with the optimum that Ax only bounds; unlike the registry,
    it needs no scikit-learn."""

    def define() -> Definition:
        import ax.benchmark.problems.synthetic.discretized.mixed_integer as module

        definition = _of_ax(getattr(module, f"get_{name}")())
        return replace(definition, optimum=optimum, floor=floor, exact=True, baseline=None)

    return define


def reasons_against(problem: Any) -> list[str]:
    """Why a ``BenchmarkProblem`` of Ax cannot be one of ours; empty if it can."""
    from ax.core.parameter import RangeParameter

    parameters = problem.search_space.parameters.values()
    config = problem.optimization_config
    return [
        reason
        for reason, applies in {
            "it has parameters that are no ranges": not all(isinstance(p, RangeParameter) for p in parameters),
            "it has fidelities or tasks": bool(problem.target_fidelity_and_task),
            "it tells the noise of its values": any(m.observe_noise_sd for m in problem.opt_config_metrics),
            "it is judged by what the model takes for the best": problem.report_inference_value_as_trace,
            "it is maximized": not all(weight < 0 for _, weight in config.objective.metric_weights),
            "its values are curves": problem.test_function.n_steps > 1,
            "it has constraints relative to a status quo": problem.status_quo_params is not None,
        }.items()
        if applies
    ]


def _of_ax(problem: Any) -> Definition:
    import math

    from ax.core.parameter import ParameterType

    ranges = list(problem.search_space.parameters.values())
    config = problem.optimization_config
    goals = [name for name, _ in config.objective.metric_weights]
    slacks = [name for constraint in config.outcome_constraints for name in constraint.metric_names]
    short = {goal: f"f{i}" if problem.is_moo else "f" for i, goal in enumerate(goals)}
    short |= {slack: f"c{i}" for i, slack in enumerate(slacks)}

    def named(x: Sequence[Any]) -> dict[str, Any]:
        return dict(zip((p.name for p in ranges), x, strict=True))

    def evaluate(x: Sequence[Any]) -> dict[str, float]:
        values = problem.test_function.evaluate_true(named(x))[:, 0].tolist()
        return {short[name]: value for name, value in zip(problem.test_function.outcome_names, values, strict=True)}

    worst, clock = problem.worst_feasible_value, problem.step_runtime_function
    baseline = float(problem.baseline_value if math.isfinite(problem.baseline_value) else worst)
    optimum = float(problem.optimal_value)
    bounds = {c.metric_names[0]: float(c.bound) for c in config.objective_thresholds} if problem.is_moo else {}
    return Definition(
        Space(
            tuple(
                Int(int(p.lower), int(p.upper), p.log_scale)
                if p.parameter_type == ParameterType.INT
                else Float(float(p.lower), float(p.upper), p.log_scale)
                for p in ranges
            )
        ),
        evaluate,
        optimum,
        objectives=tuple(short[goal] for goal in goals),
        constraints=tuple(short[slack] for slack in slacks),
        reference_point=tuple(bounds[goal] for goal in goals) if problem.is_moo else None,
        penalty=float("inf") if problem.is_moo or worst is None else float(worst) - optimum,
        floor=SCORE_FLOOR * abs(baseline - optimum),
        exact=False,
        baseline=baseline,
        seconds=None if clock is None else lambda x: float(clock(named(x))),
    )

"""What an ask costs, predicted from a few measured curves.

Notation: n training rows, d parameters, m outputs; a *place* is a device with a number of threads. Measured at each
place, at a few n and at d = D parameters, are the seconds of

    f(n)  one evaluation of the marginal likelihood with its gradient, with a step of the optimizer around it
    c(n)  one covariance and its factorization
    s(n)  the scores of S raw samples
    a(n)  one step of the acquisition's optimizer: value and gradient at 16 restarts, and the step
    g     a multiplication and an addition in a product of matrices
    y, v  a number read back from the device, and a byte brought to it (0 on the CPU)

and, on the host, o, the seconds of one small operation of torch. With the counts of ``Workload`` (evaluations E,
factorizations F, raw samples R, steps A, small operations H of Ax and Python, numbers read back Y) an ask takes

    T(n, d, m) = o H(n) + m (E (f(n) + 2 n^2 (d - D) g) + F c(n) + R / S s(n) + A a(n)) + Y y + 8 n (d + m) v

Between the measured n a curve is interpolated in logarithms; below the first it is constant. Beyond the last, what it
has more than at the first (where launching operations is all that takes time) grows as between the last two, but at
least as n^2 and at most as n^3 (f and c), or as n^2 (s and a). The first summand is the same at every place and decides
nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MEASURED_PARAMETERS = 8
"""D."""

SCORED_SAMPLES = 256
"""S."""

RESTARTS = 16
"""Points in a step of the acquisition's optimizer."""

SWITCH_MARGIN = 0.1
"""Predictions that differ by less than this share count as equal: then fewer threads, and the CPU, are taken."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Workload:
    """How often an ask does what was measured, with the settings of the preset ``fast``.

    Means over asks, most of which keep their hyperparameters (Hartmann6, n from 100 to 1,000, noise-free: 0.6 to 1.2
    evaluations of the marginal likelihood an ask, a refit on every fifth to tenth).

    Attributes:
        evaluations_per_hyperparameter: E is this times d + 2 (lengthscales, mean, noise).
        factorizations: F: after a refit, and that of the draws where the incumbent is noisy.
        raw_samples: R: those that are scored exactly, and what the bounds of the others take.
        acquisition_steps: A.
        host_operations: H at n = 0, in small operations of torch on the host.
        host_operations_per_row: What H grows by with each training row.
        reads: Y, those outside of the steps that were measured.
    """

    evaluations_per_hyperparameter: float = 0.13
    factorizations: float = 0.3
    raw_samples: float = 450.0
    acquisition_steps: float = 25.0
    host_operations: float = 8_000.0
    host_operations_per_row: float = 2.0
    reads: float = 20.0

    def evaluations(self, d: int) -> float:
        """E."""
        return self.evaluations_per_hyperparameter * (d + 2)


class Costs(BaseModel):
    """The measured costs of one place. See the notation above.

    Attributes:
        threads: Threads of torch and BLAS.
        sizes: The measured n, ascending.
        fit: f.
        factor: c.
        score: s.
        step: a.
        multiply_add: g.
        read: y; 0 on the CPU.
        byte: v; 0 on the CPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    threads: Annotated[int, Field(ge=1)]
    sizes: tuple[Annotated[int, Field(ge=1)], ...]
    fit: tuple[Seconds, ...]
    factor: tuple[Seconds, ...]
    score: tuple[Seconds, ...]
    step: tuple[Seconds, ...]
    multiply_add: Seconds
    read: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    byte: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _curves_fit_sizes(self) -> Self:
        if not self.sizes or list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError("sizes must ascend")
        if {len(curve) for curve in (self.fit, self.factor, self.score, self.step)} != {len(self.sizes)}:
            raise ValueError("a curve needs a value for each size")
        return self

    def seconds(self, n: int, d: int, num_outputs: int, workload: Workload) -> float:
        """T without its first summand, the host's own share."""
        more_parameters = 2.0 * n * n * (d - MEASURED_PARAMETERS) * self.multiply_add
        fit = at(self.sizes, self.fit, n, growth=(2, 3))
        evaluation = max(fit + more_parameters, 0.5 * fit)  # few parameters take off what is hardly there
        each = (
            workload.evaluations(d) * evaluation
            + workload.factorizations * at(self.sizes, self.factor, n, growth=(2, 3))
            + workload.raw_samples / SCORED_SAMPLES * at(self.sizes, self.score, n, growth=(2, 2))
            + workload.acquisition_steps * at(self.sizes, self.step, n, growth=(2, 2))
        )
        return num_outputs * each + workload.reads * self.read + 8.0 * n * (d + num_outputs) * self.byte


def host_seconds(operation: float, n: int, workload: Workload) -> float:
    """The first summand of T: Ax and Python."""
    return operation * (workload.host_operations + workload.host_operations_per_row * n)


def at(sizes: Sequence[int], seconds: Sequence[float], n: int, growth: tuple[float, float]) -> float:
    """A measured curve at n; ``growth`` is the range of its exponent beyond the last size."""
    if n <= sizes[0]:
        return seconds[0]
    if n >= sizes[-1]:
        constant = seconds[0] if len(sizes) > 1 else 0.0
        last, before = seconds[-1] - constant, (seconds[-2] if len(sizes) > 1 else 0.0) - constant
        slope = math.log(last / before) / math.log(sizes[-1] / sizes[-2]) if 0 < before <= last else growth[1]
        return float(constant + last * (n / sizes[-1]) ** min(max(slope, growth[0]), growth[1]))
    right = bisect_right(sizes, n)
    left = right - 1
    share = math.log(n / sizes[left]) / math.log(sizes[right] / sizes[left])
    return math.exp((1 - share) * math.log(seconds[left]) + share * math.log(seconds[right]))


def cheapest(predictions: Sequence[float]) -> int:
    """The index of the first prediction that no other undercuts by more than ``SWITCH_MARGIN``."""
    limit = min(predictions) / (1 - SWITCH_MARGIN)
    return next(index for index, prediction in enumerate(predictions) if prediction <= limit)


__all__ = ["SWITCH_MARGIN", "Costs", "Workload", "at", "cheapest", "host_seconds"]

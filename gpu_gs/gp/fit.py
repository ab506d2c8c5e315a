"""Maximum a posteriori fit of a BoTorch GP, over an ordered list of attempts: cold if it is due, else warm; then default.

The first attempt that ends with a finite objective wins. A cold attempt is several starts in one batch (warm, default,
random), of which the best wins: it guards a warm-started run against a basin that has become a bad one. The objective is
the closed form where a model has one, else that through d L / d K; what has neither, and what does not factor with the
latter, goes through BoTorch's own ``fit_gpytorch_mll``.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from gpytorch.mlls import ExactMarginalLogLikelihood, MarginalLogLikelihood
from linear_operator.utils.errors import NanError, NotPSDError
from torch import Tensor

from gpu_gs.errors import FitError
from gpu_gs.gp.kernel_likelihood import KernelLikelihood, reasons_against_kernel_likelihood
from gpu_gs.gp.likelihood import MEMORY_MB, MarginalLikelihood
from gpu_gs.gp.parts import reasons_against
from gpu_gs.minimize import minimize, projected_gradient_norm
from gpu_gs.transfer import looking_is_cheap, on_host, read, to_device

Hyperparameters = Mapping[str, Any]
Objective = MarginalLikelihood | KernelLikelihood

WARM_VALUE_TOLERANCE = 1e-3
"""A warm fit ends when a step gains less than this in the log posterior of all n data.

On Hartmann6 with a point added at a time (n from 60 to 510) the fit ends within 0.02 of the maximum, that is, at
hyperparameters 0.98 times as likely as the best, after 4 evaluations in the median."""

WARM_GRADIENT_TOLERANCE = 1e-2
"""... or when the gradient of the log posterior per datum falls below this over the square root of n."""


RANDOM_STARTS = 4
"""Random starts of a cold fit ..."""

RANDOM_STARTS_UP_TO = 300
"""... up to this many observations. Beyond, the data leave few basins, and an evaluation costs n^3: warm and default."""

MANY = 200
"""Observations above which ``FitOptions.warm_iterations_of_many`` holds: an evaluation costs n^3.

A warm fit that runs out of iterations is followed by one that goes on (``refit.REST``). Compared were final
regrets at 250 to 290 observations of one noise-free outcome with 10, 20 and 30 parameters, on the CPU: docs/benchmarks.md."""

FIRST_STEPS = {"warm": 0.02, "cold": 0.2, "default": 0.5}
"""Largest component of the very first step, in logarithms."""

FIRST_STEP_AS_BOTORCH = 0.1
"""... of a fit from the default in the parameters as they stand, as BoTorch's own fit has them.

On ten mixed problems (MixedSingleTaskGP, n = 40) it then ended as high as BoTorch's on each, after 140 evaluations in
the mean; in logarithms, after 68, but lower on three of them."""

LARGEST_CURVATURE = 1024
"""Characters up to which an inverse Hessian is kept between fits: one output of up to 23 parameters.

It travels in the state that is stored with each trial. On Hartmann6 sequences (n from 20 to 200, 4 seeds) it halves the
evaluations of a warm fit: from 15.2 to 7.2 in the mean after 10 % more data, from 7.3 to 3.7 after one more
observation, and the fit ends as near to the maximum."""

SPREAD = 1.0
"""Deviation of random starts around the default, in the logarithms of the hyperparameters."""


@dataclass(frozen=True)
class FitOptions:
    """Iterations allowed in each kind of attempt.

    Attributes:
        warm_iterations: In a warm one with up to ``MANY`` observations ...
        warm_iterations_of_many: ... and with more.
        cold_iterations: In a default or a cold one, from all of its starts.
    """

    warm_iterations: int = 30
    warm_iterations_of_many: int = 15
    cold_iterations: int = 200

    def iterations(self, decision: str, n: int) -> int:
        """Those of an attempt with n observations."""
        if decision != "warm":
            return self.cold_iterations
        return self.warm_iterations if n <= MANY else self.warm_iterations_of_many


@dataclass(frozen=True)
class FitResult:
    """How a fit went.

    Attributes:
        decision: The attempt that won: ``warm``, ``default`` or ``cold``; ``kept`` and ``unchanged``, set by those who
            did not call ``fit``, are no fits.
        method: ``closed_form``, ``kernel`` (through d L / d K) or ``autograd`` (BoTorch's fit).
        evaluations: Evaluations of the objective over all starts; -1 where BoTorch does not tell.
        value: The objective at the end, per datum, summed over outputs; NaN where BoTorch does not tell.
        gradient_norm: Largest component of the projected gradient at the end; NaN where BoTorch does not tell.
        reasons: Why earlier attempts failed, and why there is no closed form.
        start: The start that won: ``warm``, ``default`` or ``random``; of several outputs, each different one.
        converged: Whether the winner met a tolerance; else it ran out of iterations.
        at_bound: Whether a lengthscale ended at its lower bound; False where that was not looked at.
        curvature: The inverse Hessian at the end as ``pack`` writes it, for the next warm fit; empty if there is none.
        because: Why there was a fit at all, where that was decided.
        inverse_diagonal: diag(K^-1) at the end, if it was to be recorded and there is a closed form. shape: (m, n)
    """

    decision: str
    method: str
    evaluations: int
    value: float
    gradient_norm: float
    reasons: tuple[str, ...] = ()
    start: str = ""
    converged: bool = True
    at_bound: bool = False
    curvature: str = ""
    because: tuple[str, ...] = ()
    inverse_diagonal: Tensor | None = field(default=None, repr=False, compare=False)


def export_hyperparameters(model: Any) -> dict[str, Any]:
    """The free parameters of a model as nested lists, exact and ready for JSON."""
    own = _free_parameters(model)
    return {name: value.tolist() for name, value in zip(own, read(own.values()), strict=True)}


def copied_hyperparameters(model: Any) -> dict[str, Tensor]:
    """The free parameters of a model as copies on its device, for ``load_hyperparameters``."""
    return {name: parameter.clone() for name, parameter in _free_parameters(model).items()}


def _free_parameters(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def load_hyperparameters(model: Any, values: Hyperparameters) -> list[str]:
    """Gives a model the parameters that ``export_hyperparameters`` or ``copied_hyperparameters`` returned.

    Copies come from such a model, so on a device nobody looks whether they are finite and within bounds.

    Returns:
        What is wrong with them; the model is then unchanged. Empty: loaded.
    """
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if set(own) != set(values):
        return [f"they are of another model ({', '.join(sorted(set(own) ^ set(values)))})"]
    loaded: dict[str, Tensor] = {}
    given = {
        name: value if isinstance(value := values[name], Tensor) else torch.tensor(value, dtype=parameter.dtype)
        for name, parameter in own.items()
    }
    for name, parameter in own.items():
        value = given[name]
        if value.shape != parameter.shape:
            return [f"{name} has shape {tuple(value.shape)}, not {tuple(parameter.shape)}"]
        if looking_is_cheap(value) and not bool(value.isfinite().all()):
            return [f"{name} is not finite"]
        loaded[name] = to_device(value, parameter.device)
    for name, constraint in model.named_constraints():
        raw = name.removesuffix("_constraint")
        if raw in loaded and looking_is_cheap(given[raw]) and not _allows(constraint, given[raw], loaded[raw]):
            return [f"{raw} violates its bounds"]
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(loaded[name])
    model._clear_cache()  # GPyTorch itself does so at a change of mode only
    return []


def _allows(constraint: Any, value: Tensor, there: Tensor) -> bool:
    """Whether a constraint allows a raw value, given on the host and on the device of the constraint."""
    if looking_is_cheap(there) or constraint.enforced:
        return bool(constraint.check_raw(there))
    lower, upper = on_host(constraint.lower_bound), on_host(constraint.upper_bound)
    return bool(((value >= lower) & (value <= upper)).all())


def fit(
    model: Any,
    mll_class: type[MarginalLogLikelihood] | None = None,
    mll_options: Mapping[str, Any] | None = None,
    *,
    warm: Hyperparameters | None = None,
    options: FitOptions | None = None,
    cold_seed: int | None = None,
    curvature: str = "",
    record_inverse_diagonal: bool = False,
    memory_mb: int = MEMORY_MB,
) -> FitResult:
    """Fits a GP in place and leaves it in evaluation mode.

    Args:
        model: The model, as constructed: its present hyperparameters are the default start.
        mll_class: The objective; the closed form is ``ExactMarginalLogLikelihood``'s.
        mll_options: Its options.
        warm: Hyperparameters to start from first, as ``export_hyperparameters`` returned them.
        options: Iterations allowed.
        curvature: That of the fit which ended at ``warm``, as its result told it.
        cold_seed: Seed of the random starts of a cold attempt; None: no such attempt. BoTorch's fit has none.
        record_inverse_diagonal: Whether the result has ``inverse_diagonal``, for leave-one-out predictions.
        memory_mb: Memory for evaluations in one batch, in MiB.

    Raises:
        FitError: Every attempt failed; the message lists each with its reason.
    """
    options = options or FitOptions()
    mll_class = mll_class or ExactMarginalLogLikelihood
    method, against = _method(model, mll_class, mll_options)
    default = copied_hyperparameters(model)
    named: dict[str, Hyperparameters] = {"default": default} if warm is None else {"warm": warm, "default": default}
    attempts = [(method, name, [name]) for name in named]
    if cold_seed is not None and warm is not None and method != "autograd":
        attempts[0] = (method, "cold", ["warm", "default"])
    if method == "kernel":
        attempts.append(("autograd", "default", ["default"]))
    failures: list[str] = []
    evaluations = 0
    for method, decision, names in attempts:
        usable = [name for name in names if not _refused(model, name, named[name], failures)]
        if not usable:
            continue
        if method == "autograd":
            load_hyperparameters(model, named[usable[0]])
            if problem := _fit_by_autograd(model, mll_class, mll_options):
                failures.append(f"{decision} start: {problem}")
                continue
            return FitResult(decision, method, -1, float("nan"), float("nan"), (*failures, *against), start=usable[0])
        objective: Objective
        if method == "closed_form":
            objective = MarginalLikelihood(model, memory_mb)
            objective.records_inverse_diagonals = record_inverse_diagonal
        else:
            objective = KernelLikelihood(model, logarithms=decision != "default", memory_mb=memory_mb)
        starts = []
        for name in usable:
            load_hyperparameters(model, named[name])
            starts.append((name, objective.read()))
        if decision == "cold":
            load_hyperparameters(model, default)
            assert cold_seed is not None
            starts += _random_starts(objective, cold_seed)
        found = _maximize(
            objective,
            starts,
            options.iterations(decision, objective.n),
            first_step=FIRST_STEP_AS_BOTORCH if (method, decision) == ("kernel", "default") else FIRST_STEPS[decision],
            exact=decision == "default",
            curvature=curvature if decision == "warm" else "",
        )
        evaluations += found.evaluations
        if found.winners is None:
            failures.append(f"{decision} start: the covariance matrix does not factor")
            continue
        model.eval()
        return FitResult(
            decision,
            method,
            evaluations,
            found.value,
            found.gradient_norm,
            (*failures, *against),
            start=",".join(dict.fromkeys(found.winners)),
            converged=found.converged,
            at_bound=found.at_bound,
            # A default fit through the kernel is in other coordinates than the warm ones after it.
            curvature="" if (method, decision) == ("kernel", "default") else found.curvature or curvature,
            inverse_diagonal=found.inverse_diagonal,
        )
    load_hyperparameters(model, default)
    raise FitError("The hyperparameters cannot be fitted. " + ". ".join(failures))


def _method(model: Any, mll_class: Any, mll_options: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """How to fit a model, and why not in closed form."""
    if mll_class is not ExactMarginalLogLikelihood or mll_options:
        return "autograd", [f"the objective is {mll_class.__name__} with options {dict(mll_options or {})}"]
    against = reasons_against(model)
    if not against:
        return "closed_form", []
    harder = reasons_against_kernel_likelihood(model)
    return ("autograd", [*against, *harder]) if harder else ("kernel", against)


def _refused(model: Any, name: str, values: Hyperparameters, failures: list[str]) -> bool:
    """Whether a start cannot be loaded; notes why."""
    problems = load_hyperparameters(model, values)
    if problems:
        failures.append(f"{name} start: {'; '.join(problems)}")
    return bool(problems)


@dataclass(frozen=True)
class _Found:
    """The outcome of one attempt in closed form; ``winners`` (a start for each output) is None if none is finite."""

    winners: list[str] | None
    evaluations: int
    value: float = float("nan")
    gradient_norm: float = float("nan")
    converged: bool = False
    at_bound: bool = False
    curvature: str = ""
    inverse_diagonal: Tensor | None = None


def pack(H: Tensor) -> str:
    """Positive definite matrices in few characters, or none if they are too many or not positive definite.

    H = D R R^T D with D diagonal and the rows of the lower R of unit norm: D in single, R in half precision. What is
    read back is positive definite whatever the roundings, and good to three digits, as much as it deserves.

    Args:
        H: shape: (m, p, p)
    """
    m, p = H.shape[:2]
    entries = m * p * (p + 1) // 2
    if 4 * math.ceil((4 * m * p + 2 * entries) / 3) > LARGEST_CURVATURE:
        return ""
    C, info = torch.linalg.cholesky_ex(H)
    D = C.norm(dim=-1)  # shape: (m, p)
    row, column = torch.tril_indices(p, p, device=H.device)
    R = (C / D.unsqueeze(-1))[:, row, column]
    if bool((info > 0).any()) or not bool(R.isfinite().all() & (D < 1e30).all() & (D > 1e-30).all()):
        return ""
    numbers = D.float().cpu().numpy().astype("<f4").tobytes() + R.half().cpu().numpy().astype("<f2").tobytes()
    return base64.b64encode(numbers).decode("ascii")


def unpack(text: str, theta: Tensor) -> Tensor | None:
    """What ``pack`` packed; None if it is nothing or does not fit theta. shape: (m, p) -> (m, p, p)"""
    m, p = theta.shape
    entries = p * (p + 1) // 2
    try:
        numbers = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    if not numbers or len(numbers) != 4 * m * p + 2 * m * entries:
        return None
    D = torch.tensor(np.frombuffer(numbers, "<f4", m * p).astype("f8").reshape(m, p))
    R = torch.zeros(m, p, p, dtype=torch.double)
    row, column = torch.tril_indices(p, p)
    R[:, row, column] = torch.tensor(np.frombuffer(numbers, "<f2", m * entries, 4 * m * p).astype("f8").reshape(m, -1))
    C = D.unsqueeze(-1) * R
    H = C @ C.mT
    return to_device(H.to(theta.dtype), theta.device) if bool(H.isfinite().all()) else None


def _random_starts(objective: Objective, seed: int) -> list[tuple[str, Tensor]]:
    """Starts around the hyperparameters that the model has now."""
    if objective.n > RANDOM_STARTS_UP_TO:
        return []
    theta = objective.read()  # shape: (m, p)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same starts on every device
    steps = torch.randn(RANDOM_STARTS, *theta.shape, generator=generator, dtype=torch.double)
    steps = to_device(steps.to(theta.dtype), theta.device)
    return [("random", theta + SPREAD * step) for step in steps]


def _maximize(
    objective: Objective,
    starts: list[tuple[str, Tensor]],
    iterations: int,
    first_step: float,
    exact: bool,
    curvature: str,
) -> _Found:
    """Maximizes from all starts in one batch and gives the model the best of each output."""
    n, m, S = objective.n, objective.rows, len(starts)
    lower, upper = objective.bounds()
    outputs = torch.arange(m, device=lower.device).repeat(S)  # of each row of the batch

    def loss(theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = objective.value_and_grad(theta, outputs[rows])
        return -value, -gradient

    result = minimize(
        loss,
        torch.cat([theta for _, theta in starts]),
        lower,
        upper,
        max_iterations=iterations,
        gradient_tolerance=1e-5 if exact else WARM_GRADIENT_TOLERANCE / math.sqrt(n),
        value_tolerance=1e-9 if exact else WARM_VALUE_TOLERANCE / n,
        first_step=first_step,
        H0=unpack(curvature, starts[0][1]) if S == 1 else None,
    )
    x, value, gradient, converged, curved, lower_here, upper_here, *H = read(
        tensor
        for tensor in (
            result.x,
            result.value,
            result.gradient,
            result.converged,
            result.curved,
            lower,
            upper,
            result.inverse_hessian,
        )
        if tensor is not None
    )  # all that follows is on the host
    values = value.reshape(S, m)
    best = values.amin(0)
    # The first start within the tolerance of the best, lest a rounding decide between basins that are the same.
    good_enough = values <= best + 2 * WARM_VALUE_TOLERANCE / n
    chosen = good_enough.to(torch.int8).argmax(0) * m + torch.arange(m)  # shape: (m,)
    if not bool(best.isfinite().all()):
        return _Found(None, result.evaluations)
    x, gradient = x[chosen], gradient[chosen]
    theta = to_device(x, lower.device)
    objective.write(theta)
    lengthscales = objective.slices.get("lengthscale", slice(0))
    at_bound = x[:, lengthscales] <= lower_here[lengthscales] + 1e-6  # of their logarithms
    return _Found(
        winners=[starts[row // m][0] for row in chosen.tolist()],
        evaluations=result.evaluations,
        value=-float(value[chosen].sum()),
        gradient_norm=float(projected_gradient_norm(x, gradient, lower_here, upper_here).max()),
        converged=bool(converged[chosen].all()),
        at_bound=bool(at_bound.any()),
        curvature=pack(H[0][chosen]) if H and bool(curved[chosen].all()) else "",
        inverse_diagonal=objective.inverse_diagonal(theta) if isinstance(objective, MarginalLikelihood) else None,
    )


def _fit_by_autograd(model: Any, mll_class: Any, mll_options: Mapping[str, Any] | None) -> str | None:
    """Why BoTorch's fit failed, or None."""
    mll = mll_class(likelihood=model.likelihood, model=model, **(mll_options or {}))
    try:
        # A model of ours would come back here from ``fit_gpytorch_mll``.
        getattr(model, "stock_fit", fit_gpytorch_mll)(mll)
    except (ModelFittingError, NotPSDError, NanError) as error:
        return f"{type(error).__name__}: {error}"
    return None

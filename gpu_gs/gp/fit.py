"""Maximum a posteriori fit of a BoTorch GP, over an ordered list of starting points: warm, then default.

The first start that ends with a finite objective wins. Models with a closed form use it; the others go through
BoTorch's own ``fit_gpytorch_mll`` from the same starts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from gpytorch.mlls import ExactMarginalLogLikelihood, MarginalLogLikelihood
from linear_operator.utils.errors import NanError, NotPSDError
from torch import Tensor

from gpu_gs.errors import FitError
from gpu_gs.gp.likelihood import MarginalLikelihood
from gpu_gs.gp.parts import reasons_against
from gpu_gs.minimize import MinimizeResult, minimize, projected_gradient_norm

Hyperparameters = Mapping[str, Any]

WARM_VALUE_TOLERANCE = 1e-3
"""A warm fit ends when a step gains less than this in the log posterior of all n data.

On Hartmann6 with a point added at a time (n from 60 to 510) the fit ends within 0.02 of the maximum, that is, at
hyperparameters 0.98 times as likely as the best, after 4 evaluations in the median."""

WARM_GRADIENT_TOLERANCE = 1e-2
"""... or when the gradient of the log posterior per datum falls below this over the square root of n."""


@dataclass(frozen=True)
class FitOptions:
    """Iterations allowed from each kind of start."""

    warm_iterations: int = 30
    cold_iterations: int = 200


@dataclass(frozen=True)
class FitResult:
    """How a fit went.

    Attributes:
        decision: The start that won: ``warm`` or ``default``.
        method: ``closed_form`` or ``autograd``.
        evaluations: Evaluations of the objective over all starts; -1 where BoTorch does not tell.
        value: The objective at the end, per datum, summed over outputs; NaN where BoTorch does not tell.
        gradient_norm: Largest component of the projected gradient at the end; NaN where BoTorch does not tell.
        reasons: Why earlier starts failed, and why there is no closed form.
    """

    decision: str
    method: str
    evaluations: int
    value: float
    gradient_norm: float
    reasons: tuple[str, ...] = ()


def export_hyperparameters(model: Any) -> dict[str, Any]:
    """The free parameters of a model as nested lists, exact and ready for JSON."""
    return {
        name: parameter.detach().cpu().tolist()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_hyperparameters(model: Any, values: Hyperparameters) -> list[str]:
    """Gives a model the parameters that ``export_hyperparameters`` returned.

    Returns:
        What is wrong with them; the model is then unchanged. Empty: loaded.
    """
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if set(own) != set(values):
        return [f"they are of another model ({', '.join(sorted(set(own) ^ set(values)))})"]
    loaded: dict[str, Tensor] = {}
    for name, parameter in own.items():
        value = torch.tensor(values[name], dtype=parameter.dtype, device=parameter.device)
        if value.shape != parameter.shape:
            return [f"{name} has shape {tuple(value.shape)}, not {tuple(parameter.shape)}"]
        if not bool(value.isfinite().all()):
            return [f"{name} is not finite"]
        loaded[name] = value
    for name, constraint in model.named_constraints():
        raw = name.removesuffix("_constraint")
        if raw in loaded and not constraint.check_raw(loaded[raw]):
            return [f"{raw} violates its bounds"]
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(loaded[name])
    return []


def fit(
    model: Any,
    mll_class: type[MarginalLogLikelihood] | None = None,
    mll_options: Mapping[str, Any] | None = None,
    *,
    warm: Hyperparameters | None = None,
    options: FitOptions | None = None,
) -> FitResult:
    """Fits a GP in place and leaves it in evaluation mode.

    Args:
        model: The model, as constructed: its present hyperparameters are the default start.
        mll_class: The objective; the closed form is ``ExactMarginalLogLikelihood``'s.
        mll_options: Its options.
        warm: Hyperparameters to start from first, as ``export_hyperparameters`` returned them.
        options: Iterations allowed.

    Raises:
        FitError: Every start failed; the message lists each with its reason.
    """
    options = options or FitOptions()
    mll_class = mll_class or ExactMarginalLogLikelihood
    against = reasons_against(model)
    if mll_class is not ExactMarginalLogLikelihood or mll_options:
        against.append(f"the objective is {mll_class.__name__} with options {dict(mll_options or {})}")
    default = export_hyperparameters(model)
    failures: list[str] = []
    starts = [("warm", warm)] if warm is not None else []
    evaluations = 0
    for decision, start in [*starts, ("default", default)]:
        assert start is not None
        if problems := load_hyperparameters(model, start):
            failures.append(f"{decision} start: {'; '.join(problems)}")
            continue
        if against:
            if problem := _fit_by_autograd(model, mll_class, mll_options):
                failures.append(f"{decision} start: {problem}")
                continue
            return FitResult(decision, "autograd", -1, float("nan"), float("nan"), (*failures, *against))
        iterations = options.warm_iterations if decision == "warm" else options.cold_iterations
        result = _fit_in_closed_form(model, iterations, warm=decision == "warm")
        evaluations += result[0].evaluations
        if not bool(result[0].value.isfinite().all()):
            failures.append(f"{decision} start: the covariance matrix does not factor")
            continue
        model.eval()
        return FitResult(
            decision, "closed_form", evaluations, -float(result[0].value.sum()), result[1], tuple(failures)
        )
    load_hyperparameters(model, default)
    raise FitError("The hyperparameters cannot be fitted. " + ". ".join(failures))


def _fit_in_closed_form(model: Any, iterations: int, warm: bool) -> tuple[MinimizeResult, float]:
    likelihood = MarginalLikelihood(model)
    n = len(likelihood.X)
    lower, upper = likelihood.bounds()

    def loss(theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = likelihood.value_and_grad(theta, rows)
        return -value, -gradient

    result = minimize(
        loss,
        likelihood.read(),
        lower,
        upper,
        max_iterations=iterations,
        gradient_tolerance=WARM_GRADIENT_TOLERANCE / math.sqrt(n) if warm else 1e-5,
        value_tolerance=WARM_VALUE_TOLERANCE / n if warm else 1e-9,
        first_step=0.02 if warm else 0.5,
    )
    if bool(result.value.isfinite().all()):
        likelihood.write(result.x)
    norm = projected_gradient_norm(result.x, result.gradient, lower, upper).max()
    return result, float(norm)


def _fit_by_autograd(model: Any, mll_class: Any, mll_options: Mapping[str, Any] | None) -> str | None:
    """Why BoTorch's fit failed, or None."""
    mll = mll_class(likelihood=model.likelihood, model=model, **(mll_options or {}))
    try:
        fit_gpytorch_mll(mll)
    except (ModelFittingError, NotPSDError, NanError) as error:
        return f"{type(error).__name__}: {error}"
    return None

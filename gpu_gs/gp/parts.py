"""What the closed forms need of a BoTorch model: its kernel, priors, bounds and data, taken apart once.

``reasons_against`` says why a model cannot be taken apart; an empty list means ``take_apart`` will.
"""

import math
from dataclasses import dataclass
from typing import Any

from botorch.models import SingleTaskGP
from botorch.models.transforms.input import Normalize
from gpytorch.constraints import Interval
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
from gpytorch.means import ConstantMean
from gpytorch.priors import GammaPrior, LogNormalPrior, NormalPrior
from torch import Tensor

from gpu_gs.gp.covariance import Kind
from gpu_gs.transfer import on_host

PRIORS = (LogNormalPrior, GammaPrior, NormalPrior)
LARGEST = 1e8
SMALLEST = 1e-8


@dataclass(frozen=True)
class Parts:
    """A model of m outputs, taken apart.

    Attributes:
        X: Inputs after the input transform. shape: (n, d)
        Y: Targets. shape: (m, n)
        kind: The covariance.
        base: The kernel that has the lengthscale.
        scaled: The ScaleKernel around it, if any.
        fixed_noise: Known noise variances, or None where the noise is a hyperparameter. shape: (m, n)
    """

    X: Tensor
    Y: Tensor
    kind: Kind
    base: RBFKernel | MaternKernel
    scaled: ScaleKernel | None
    fixed_noise: Tensor | None


def _kernels(model: Any) -> tuple[Any, ScaleKernel | None]:
    kernel = model.covar_module
    return (kernel.base_kernel, kernel) if isinstance(kernel, ScaleKernel) else (kernel, None)


def base_kernel(model: Any) -> Any:
    """The kernel that has the lengthscale."""
    return _kernels(model)[0]


def is_plain(model: Any) -> bool:
    """Whether a model's prior is that of ``SingleTaskGP``: its class is that one or says so itself (not by heritage)."""
    return type(model) is SingleTaskGP or bool(vars(type(model)).get("has_prior_of_single_task_gp", False))


def reasons_against(model: Any) -> list[str]:
    """Why the closed forms do not apply to a model; empty means they do."""
    if not is_plain(model):
        return [f"the model is a {type(model).__name__}"]
    reasons = []
    base, scaled = _kernels(model)
    if type(base) not in (RBFKernel, MaternKernel):
        reasons.append(f"the kernel is a {type(base).__name__}")
    elif base.active_dims is not None:
        reasons.append("the kernel sees some of the inputs only")
    if scaled is not None and scaled.active_dims is not None:
        reasons.append("the kernel sees some of the inputs only")
    if type(model.mean_module) is not ConstantMean:
        reasons.append(f"the mean is a {type(model.mean_module).__name__}")
    likelihood = model.likelihood
    if type(likelihood) is FixedNoiseGaussianLikelihood:
        if likelihood.second_noise_covar is not None:
            reasons.append("the likelihood learns noise on top of the known")
    elif type(likelihood) is not GaussianLikelihood:
        reasons.append(f"the likelihood is a {type(likelihood).__name__}")
    for name, _, prior, _, _ in model.named_priors():
        if type(prior) not in PRIORS:
            reasons.append(f"{name} is a {type(prior).__name__}")
    if getattr(model, "outcome_transform", None) is not None:
        reasons.append("the model transforms its outcomes")
    transform = getattr(model, "input_transform", None)
    if transform is not None and (type(transform) is not Normalize or transform.learn_coefficients):
        reasons.append(f"the input transform is a {type(transform).__name__}")
    if model.train_targets.dim() != (1 if model.num_outputs == 1 else 2):
        reasons.append("the model has batches of its own")
    return reasons


def take_apart(model: Any) -> Parts:
    """The parts of a model without ``reasons_against``, in training or in evaluation mode."""
    X = model.train_inputs[0]
    if model.training:
        X = model.transform_inputs(X)
    X = X[0] if X.dim() == 3 else X  # outputs of a batched model share their inputs
    Y = model.train_targets
    Y = Y.unsqueeze(0) if Y.dim() == 1 else Y
    base, scaled = _kernels(model)
    kind: Kind = "rbf"
    if isinstance(base, MaternKernel):
        kind = {0.5: "matern12", 1.5: "matern32", 2.5: "matern52"}[base.nu]  # type: ignore[assignment]
    fixed = None
    if isinstance(model.likelihood, FixedNoiseGaussianLikelihood):
        fixed = model.likelihood.noise.detach().expand_as(Y)
    return Parts(X.detach(), Y.detach(), kind, base, scaled, fixed)


@dataclass(frozen=True)
class Block:
    """One kind of hyperparameter: where it stands in theta, its prior and its bounds.

    Attributes:
        name: ``lengthscale``, ``outputscale``, ``noise`` or ``mean``.
        module: The GPyTorch module that holds it.
        attribute: Its name there.
        width: How many components it has for one output.
        log: Whether theta holds its logarithm.
        prior: Its prior, on the natural scale.
        lower: Lower bound on the natural scale.
        upper: Upper bound on the natural scale.
    """

    name: str
    module: Any
    attribute: str
    width: int
    log: bool
    prior: LogNormalPrior | GammaPrior | NormalPrior | None
    lower: float
    upper: float


def blocks(model: Any, parts: Parts) -> list[Block]:
    """The free hyperparameters in the order in which theta holds them."""
    priors: dict[int, dict[str, Any]] = {id(module): {} for module in model.modules()}
    for name, module, prior, _, _ in model.named_priors():
        priors[id(module)][name.rsplit(".", 1)[-1]] = prior
    base = parts.base
    found = [
        Block(
            "lengthscale",
            base,
            "lengthscale",
            base.lengthscale.shape[-1],
            True,
            priors[id(base)].get("lengthscale_prior"),
            *_bounds(base.raw_lengthscale_constraint),
        )
    ]
    if parts.scaled is not None:
        found.append(
            Block(
                "outputscale",
                parts.scaled,
                "outputscale",
                1,
                True,
                priors[id(parts.scaled)].get("outputscale_prior"),
                *_bounds(parts.scaled.raw_outputscale_constraint),
            )
        )
    if parts.fixed_noise is None:
        noise = model.likelihood.noise_covar
        found.append(
            Block(
                "noise",
                noise,
                "noise",
                1,
                True,
                priors[id(noise)].get("noise_prior"),
                *_bounds(noise.raw_noise_constraint),
            )
        )
    mean = model.mean_module
    found.append(Block("mean", mean, "constant", 1, False, priors[id(mean)].get("mean_prior"), -math.inf, math.inf))
    return [block for block in found if _is_free(block)]


def _is_free(block: Block) -> bool:
    return all(parameter.requires_grad for parameter in block.module.parameters(recurse=False))


def _bounds(constraint: Interval) -> tuple[float, float]:
    lower = max(float(on_host(constraint.lower_bound).max()), SMALLEST)
    upper = min(float(on_host(constraint.upper_bound).min()), LARGEST)
    if constraint.enforced:  # a transform maps the open interval: stay inside
        lower, upper = lower * (1 + 1e-9) + 1e-12, upper * (1 - 1e-9)
    return lower, upper

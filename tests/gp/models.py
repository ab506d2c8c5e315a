"""BoTorch models that the numeric tests share."""

from typing import Any

import torch
from botorch.models import SingleTaskGP
from botorch.models.transforms.input import Normalize
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
from gpytorch.priors import GammaPrior, LogNormalPrior, NormalPrior
from torch import Tensor

NO_BATCH = torch.Size()
KINDS = {"rbf": None, "matern12": 0.5, "matern32": 1.5, "matern52": 2.5}


def kernel(kind: str, d: int, *, ard: bool = True, prior: bool = True, batch_shape: torch.Size = NO_BATCH) -> Any:
    options: dict[str, Any] = {
        "batch_shape": batch_shape,
        "ard_num_dims": d if ard else None,
        "lengthscale_prior": LogNormalPrior(0.3, 1.2) if prior else None,
    }
    nu = KINDS[kind]
    return RBFKernel(**options) if nu is None else MaternKernel(nu=nu, **options)


def data(n: int, d: int, m: int = 1, seed: int = 0, device: Any = "cpu", noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """Inputs in [-1, 3]^d and smooth targets with noise. shape: (n, d), (n, m)"""
    generator = torch.Generator().manual_seed(seed)
    X = 4 * torch.rand(n, d, generator=generator, dtype=torch.double) - 1
    directions = torch.randn(d, m, generator=generator, dtype=torch.double) / d**0.5
    Y = torch.sin(X @ directions) + noise * torch.randn(n, m, generator=generator, dtype=torch.double)
    return X.to(device), ((Y - Y.mean(0)) / Y.std(0)).to(device)


def make_model(
    kind: str = "rbf",
    n: int = 20,
    d: int = 3,
    *,
    m: int = 1,
    scaled: bool = False,
    ard: bool = True,
    known_noise: bool = False,
    normalize: bool = False,
    seed: int = 0,
    device: Any = "cpu",
) -> SingleTaskGP:
    """A model that is not fitted, at random hyperparameters."""
    X, Y = data(n, d, m, seed, device)
    generator = torch.Generator().manual_seed(seed + 1)
    Yvar = None
    if known_noise:
        Yvar = (0.01 + 0.1 * torch.rand(n, m, generator=generator, dtype=torch.double)).to(device)
    batch = torch.Size([m]) if m > 1 else NO_BATCH
    base = kernel(kind, d, ard=ard, batch_shape=batch)
    covariance = ScaleKernel(base, batch_shape=batch, outputscale_prior=GammaPrior(2.0, 0.5)) if scaled else base
    model = SingleTaskGP(
        X,
        Y,
        train_Yvar=Yvar,
        covar_module=covariance,
        outcome_transform=None,
        input_transform=Normalize(d, bounds=torch.tensor([[-1.0] * d, [3.0] * d]).to(X)) if normalize else None,
    ).to(X)
    if not known_noise:
        noise = model.likelihood.noise_covar
        noise.register_prior("noise_prior", NormalPrior(0.1, 0.3).to(X), lambda module: module.noise)
        noise.register_constraint("raw_noise", GreaterThan(1e-4))
    randomize(model, seed)
    return model


def randomize(model: Any, seed: int = 0) -> None:
    """Gives a model random hyperparameters of ordinary size."""
    generator = torch.Generator().manual_seed(seed + 2)

    def draw(shape: torch.Size, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.double)

    scaled = isinstance(model.covar_module, ScaleKernel)
    base = model.covar_module.base_kernel if scaled else model.covar_module
    reference = model.train_targets
    base.initialize(lengthscale=draw(base.lengthscale.shape, 0.5, 2.0).to(reference))
    if scaled:
        model.covar_module.initialize(outputscale=draw(model.covar_module.outputscale.shape, 0.5, 2.0).to(reference))
    constant = model.mean_module.constant
    model.mean_module.initialize(constant=draw(constant.shape, -0.5, 0.5).to(reference))
    if hasattr(model.likelihood, "noise_covar") and hasattr(model.likelihood.noise_covar, "raw_noise"):
        model.likelihood.initialize(noise=draw(model.likelihood.noise.shape, 0.02, 0.3).to(reference))

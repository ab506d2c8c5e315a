"""Covariances against GPyTorch's kernels, their weights against autograd through those."""

import pytest
import torch

from gpu_gs.gp.covariance import covariance, covariance_and_weight, squared_distances
from tests.gp.models import KINDS, kernel


@pytest.mark.parametrize("kind", KINDS)
def test_covariance_equals_the_kernel_of_gpytorch(kind, device):
    Z = torch.randn(12, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0)).to(device)
    Zp = torch.randn(7, 4, dtype=torch.double, generator=torch.Generator().manual_seed(1)).to(device)
    theirs = kernel(kind, 4, prior=False).to(Z)
    theirs.initialize(lengthscale=torch.ones(1, 4).to(Z))
    ours = covariance(kind, squared_distances(Z, Zp))
    torch.testing.assert_close(ours, theirs(Z, Zp).to_dense(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_gives_the_gradient_that_autograd_gives(kind, device):
    generator = torch.Generator().manual_seed(2)
    Z = torch.randn(9, 3, dtype=torch.double, generator=generator).to(device)
    z = torch.randn(5, 3, dtype=torch.double, generator=generator).to(device).requires_grad_(True)
    theirs = kernel(kind, 3, prior=False).to(Z)
    theirs.initialize(lengthscale=torch.ones(1, 3).to(Z))
    value = theirs(z, Z).to_dense()
    gradient = torch.stack(
        [torch.autograd.grad(value[:, j].sum(), z, retain_graph=True)[0] for j in range(9)], dim=1
    )  # shape: (5, 9, 3)
    with torch.no_grad():
        _, w = covariance_and_weight(kind, squared_distances(z, Z))
        ours = -w.unsqueeze(-1) * (z.unsqueeze(1) - Z)
    torch.testing.assert_close(ours, gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_has_covariance_one_and_a_finite_weight_with_itself(kind):
    k, w = covariance_and_weight(kind, torch.zeros(2, 2, dtype=torch.double))
    assert torch.equal(k, torch.ones_like(k))
    assert bool(w.isfinite().all())


def test_squared_distances_of_equal_points_are_not_negative():
    Z = 1e3 + torch.rand(50, 6, dtype=torch.float32, generator=torch.Generator().manual_seed(3))
    assert bool((squared_distances(Z, Z) >= 0).all())

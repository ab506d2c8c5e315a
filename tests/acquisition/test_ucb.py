"""The upper confidence bound against BoTorch's."""

import pytest
import torch
from botorch.acquisition import UpperConfidenceBound as BoTorchUpperConfidenceBound

from gpu_gs.acquisition.autograd import AutogradAcquisition
from gpu_gs.acquisition.ucb import UpperConfidenceBound
from gpu_gs.gp.posterior import state_from_model
from tests.gp.models import KINDS, make_model


def uniform(b, d, seed, device="cpu"):
    return (4 * torch.rand(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double) - 1).to(device)


@pytest.mark.parametrize("weight", [1.0, -1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_equal_botorchs(kind, weight, device):
    model = make_model(kind, 20, 3, device=device).eval()
    X = uniform(9, 3, 4, device)
    ours = UpperConfidenceBound(state_from_model(model), 0.7, weight)
    theirs = AutogradAcquisition(BoTorchUpperConfidenceBound(model, beta=0.7, maximize=weight > 0))
    value, gradient = ours.value_and_grad(X)
    expected, expected_gradient = theirs.value_and_grad(X)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.value(X), value)


def test_a_pending_point_takes_its_variance_and_leaves_the_mean():
    model = make_model("rbf", 15, 2).eval()
    X, x = uniform(9, 2, 4), uniform(1, 2, 5)
    state = state_from_model(model)
    with torch.no_grad():
        mean = model.posterior(X).mean[:, 0]
        joint = model.posterior(torch.cat([X, x])).distribution.covariance_matrix
    variance = joint.diagonal()[:-1] - joint[:-1, -1] ** 2 / joint[-1, -1]
    function = UpperConfidenceBound(state, 2.0).given(x)
    torch.testing.assert_close(function.value(X), mean + (2.0 * variance).sqrt(), rtol=1e-6, atol=1e-6)

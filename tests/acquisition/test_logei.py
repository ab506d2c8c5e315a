"""LogEI against BoTorch and arbitrary precision; its noisy form against BoTorch's qLogNEI."""

import mpmath
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement, qLogNoisyExpectedImprovement
from botorch.sampling import IIDNormalSampler

from gpu_gs.acquisition.autograd import AutogradAcquisition
from gpu_gs.acquisition.logei import LogEI, log_h, log_h_and_ratios
from gpu_gs.gp.posterior import state_from_model
from tests.gp.models import KINDS, make_model

POINTS = [-1e5, -2e3, -1000.5, -999.5, -300.0, -40.0, -10.0, -3.0, -1.0001, -1.0, -0.9999, -0.5, 0.0, 0.5, 3.0, 30.0]


def exact_log_h(u):
    with mpmath.workdps(60):
        u = mpmath.mpf(u)
        phi = mpmath.exp(-u * u / 2) / mpmath.sqrt(2 * mpmath.pi)
        Phi = mpmath.erfc(-u / mpmath.sqrt(2)) / 2
        if u < -50:  # asymptotic series, to far more digits than a double has
            return float(mpmath.log(phi / u**2 * (1 - 3 / u**2 + 15 / u**4 - 105 / u**6 + 945 / u**8)))
        return float(mpmath.log(phi + u * Phi))


@pytest.mark.parametrize("u", POINTS)
def test_log_h_is_right_to_rounding(u):
    assert float(log_h(torch.tensor(u, dtype=torch.double))) == pytest.approx(exact_log_h(u), rel=1e-9)


def test_log_h_rises_and_is_finite_everywhere():
    u = torch.linspace(-1100, 50, 200_001, dtype=torch.double)
    value = log_h(u)
    assert bool(value.isfinite().all())
    assert bool((value.diff() > 0).all())


@pytest.mark.parametrize("weight", [1.0, -1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_log_ei_and_its_gradient_equal_botorchs(kind, weight, device):
    model = make_model(kind, 20, 3, device=device).eval()
    X = (4 * torch.rand(15, 3, generator=torch.Generator().manual_seed(4), dtype=torch.double) - 1).to(device)
    best = model.train_targets.max() if weight > 0 else model.train_targets.min()
    ours = LogEI(state_from_model(model), best, weight)
    theirs = AutogradAcquisition(LogExpectedImprovement(model, best_f=best, maximize=weight > 0))
    value, gradient = ours.value_and_grad(X)
    expected, expected_gradient = theirs.value_and_grad(X)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.value(X), value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("draws", [1, 7])
def test_gradient_of_the_noisy_form_equals_finite_differences(draws):
    model = make_model("matern52", 15, 2).eval()
    X = 4 * torch.rand(6, 2, generator=torch.Generator().manual_seed(5), dtype=torch.double) - 1
    state, f = state_from_model(model).draw(X[:2], draws, torch.Generator().manual_seed(6))
    function = LogEI(state, f.amax(0))
    X = X[2:]
    _, gradient = function.value_and_grad(X)
    step = 1e-6
    for k in range(2):
        shift = torch.zeros_like(X)
        shift[:, k] = step
        slope = (function.value(X + shift) - function.value(X - shift)) / (2 * step)
        torch.testing.assert_close(gradient[:, k], slope, rtol=1e-4, atol=1e-5)


def noisy_model():
    model = make_model("rbf", 12, 2).eval()
    model.likelihood.noise = 0.2
    return model


def uniform(b, seed):
    return 4 * torch.rand(b, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.double) - 1


def test_noisy_form_equals_botorchs_noisy_expected_improvement():
    model, X = noisy_model(), uniform(8, 7)
    state, f = state_from_model(model).draw(X[:0], 20_000, torch.Generator().manual_seed(9))
    ours = LogEI(state, f.amax(0)).value(X)
    with torch.no_grad():
        theirs = qLogNoisyExpectedImprovement(
            model,
            X_baseline=model.train_inputs[0],
            prune_baseline=False,
            sampler=IIDNormalSampler(torch.Size([20_000]), seed=10),
            tau_relu=1e-6,
            tau_max=1e-3,
        )(X.unsqueeze(-2))
    torch.testing.assert_close(ours.exp(), theirs.exp(), rtol=0.05, atol=0.002)


def test_noisy_form_with_pending_points_equals_the_expectation_by_sampling():
    model, X, pending = noisy_model(), uniform(8, 7), uniform(2, 8)
    state, f = state_from_model(model).draw(pending, 20_000, torch.Generator().manual_seed(9))
    ours = LogEI(state, f.amax(0)).value(X)
    with torch.no_grad():
        joint = model.posterior(torch.cat([model.train_inputs[0], pending, X])).distribution
    L = torch.linalg.cholesky(joint.covariance_matrix + 1e-8 * torch.eye(22))
    e = torch.randn(22, 200_000, generator=torch.Generator().manual_seed(11), dtype=torch.double)
    samples = joint.mean.unsqueeze(-1) + L @ e
    improvement = (samples[14:] - samples[:14].amax(0)).clamp_min(0).mean(-1)
    torch.testing.assert_close(ours.exp(), improvement, rtol=0.05, atol=0.002)


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_pending_points_count_as_the_expectation_by_sampling(weight):
    model, X, pending = make_model("rbf", 12, 2).eval(), uniform(8, 7), uniform(2, 8)
    best = torch.tensor(0.4 * weight).double()
    function = LogEI(state_from_model(model), best, weight)
    generator = torch.Generator().manual_seed(9)
    for x in pending.split(1):
        function = function.given(x, torch.randn(1, 20_000, generator=generator, dtype=torch.double))
    with torch.no_grad():
        joint = model.posterior(torch.cat([pending, X])).distribution
    L = torch.linalg.cholesky(joint.covariance_matrix + 1e-8 * torch.eye(10))
    e = torch.randn(10, 200_000, generator=torch.Generator().manual_seed(11), dtype=torch.double)
    samples = weight * (joint.mean.unsqueeze(-1) + L @ e)
    incumbent = samples[:2].amax(0).clamp_min(weight * float(best))
    improvement = (samples[2:] - incumbent).clamp_min(0).mean(-1)
    torch.testing.assert_close(function.value(X).exp(), improvement, rtol=0.05, atol=0.002)


@pytest.mark.parametrize("kind", ["rbf", "matern32"])
def test_gradient_with_pending_points_equals_finite_differences(kind):
    model, X, pending = make_model(kind, 12, 2).eval(), uniform(6, 7), uniform(2, 8)
    function = LogEI(state_from_model(model), torch.tensor(0.2).double())
    for place, x in enumerate(pending.split(1)):
        e = torch.randn(1, 5, generator=torch.Generator().manual_seed(place), dtype=torch.double)
        function = function.given(x, e)
    _, gradient = function.value_and_grad(X)
    step = 1e-6
    for k in range(2):
        shift = torch.zeros_like(X)
        shift[:, k] = step
        slope = (function.value(X + shift) - function.value(X - shift)) / (2 * step)
        torch.testing.assert_close(gradient[:, k], slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("u", POINTS)
def test_the_ratios_are_the_derivatives_of_log_h(u):
    with mpmath.workdps(60):
        exact = mpmath.mpf(u)
        phi = mpmath.exp(-exact * exact / 2) / mpmath.sqrt(2 * mpmath.pi)
        Phi = mpmath.erfc(-exact / mpmath.sqrt(2)) / 2
        if u < -50:
            h = phi / exact**2 * (1 - 3 / exact**2 + 15 / exact**4 - 105 / exact**6 + 945 / exact**8)
        else:
            h = phi + exact * Phi
        expected = [float(Phi / h), float(phi / h)]
    _, Phi_ratio, phi_ratio = log_h_and_ratios(torch.tensor([u], dtype=torch.double))
    assert [float(Phi_ratio), float(phi_ratio)] == pytest.approx(expected, rel=1e-7, abs=1e-100)

"""The posterior state against BoTorch's posterior, dense algebra and autograd."""

import pytest
import torch
from linear_operator.utils.errors import NotPSDError

from gpu_gs.gp.posterior import build_states, reasons_against_extending, reasons_against_state, state_from_model
from gpu_gs.gp.predictor import Predictor
from tests.gp.models import KINDS, make_model

CASES = {
    "default": {},
    "scaled": {"scaled": True},
    "shared lengthscale": {"ard": False},
    "known noise": {"known_noise": True},
    "normalized inputs": {"normalize": True},
}


def queries(b, d, device="cpu", seed=9):
    return (4 * torch.rand(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double) - 1).to(device)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_variance_equal_botorchs_posterior(kind, case, device):
    model = make_model(kind, 25, 3, device=device, **CASES[case]).eval()
    X = queries(11, 3, device)
    state = state_from_model(model)
    mean, variance = state.mean_and_variance(X)
    with torch.no_grad():
        theirs = model.posterior(X)
    torch.testing.assert_close(mean, theirs.mean.squeeze(-1), rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(variance, theirs.variance.squeeze(-1), rtol=1e-6, atol=1e-8)
    query = Predictor(state).at(X)
    torch.testing.assert_close(query.mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(query.variance, variance, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["default", "scaled", "normalized inputs"])
@pytest.mark.parametrize("kind", KINDS)
def test_pull_back_equals_autograd_through_botorchs_posterior(kind, case):
    model = make_model(kind, 20, 3, **CASES[case]).eval()
    X = queries(6, 3).requires_grad_(True)
    posterior = model.posterior(X.unsqueeze(-2))  # shape: (6, 1, 1)
    f = (posterior.mean.sin() + posterior.variance.log()).reshape(-1)
    (expected,) = torch.autograd.grad(f.sum(), X)
    with torch.no_grad():
        query = Predictor(state_from_model(model)).at(X)
        gradient = query.pull_back(query.mean.cos(), 1 / query.variance)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_appending_rows_equals_starting_again_with_them(kind):
    model = make_model(kind, 30, 2, known_noise=True, normalize=True)
    whole = state_from_model(model)
    X, Y = model.train_inputs[0], model.train_targets
    noise = model.likelihood.noise.detach()
    part = make_model(kind, 30, 2, known_noise=True, normalize=True)
    part.set_train_data(X[:26], Y[:26], strict=False)
    part.likelihood.noise_covar.noise = noise[:26]
    appended = state_from_model(part).append(X[26:], Y[26:], noise[26:])
    at = queries(9, 2)
    for one, other in zip(appended.mean_and_variance(at), whole.mean_and_variance(at), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(appended.L @ appended.L.T, whole.L @ whole.L.T, rtol=1e-12, atol=1e-12)


def test_mean_at_the_training_inputs_needs_no_solve():
    model = make_model("matern52", 25, 3)
    state = state_from_model(model)
    expected, _ = state.mean_and_variance(model.train_inputs[0])
    torch.testing.assert_close(state.mean_at_training_inputs(), expected, rtol=1e-9, atol=1e-10)


def test_draws_have_the_mean_and_covariance_of_the_joint_posterior():
    model = make_model("rbf", 12, 2)
    state = state_from_model(model)
    pending = queries(3, 2)
    S = 60_000
    _, f = state.draw(pending, S, torch.Generator().manual_seed(0))
    with torch.no_grad():
        joint = model.eval().posterior(torch.cat([model.train_inputs[0], pending])).distribution
    covariance = joint.covariance_matrix
    deviation = covariance.diagonal().sqrt()
    # five standard errors of a mean and of a covariance
    assert float(((f.mean(-1) - joint.mean).abs() / deviation).max()) < 5 / S**0.5
    error = (torch.cov(f) - covariance).abs() / (deviation.unsqueeze(-1) * deviation)
    assert float(error.max()) < 5 * (2 / S) ** 0.5 + 1e-3


def test_the_state_given_draws_interpolates_each_of_them():
    state = state_from_model(make_model("matern52", 15, 3))
    pending = queries(2, 3)
    given, f = state.draw(pending, 8, torch.Generator().manual_seed(1))
    X = given.Z * state.scale + state.offset
    mean, variance = given.mean_and_variance(X)
    torch.testing.assert_close(mean, f, rtol=0, atol=1e-3)
    assert float(variance.max()) < 1e-5


def test_draws_are_a_function_of_the_generator():
    state = state_from_model(make_model("rbf", 10, 2))
    pending = queries(1, 2)
    one, other, third = (state.draw(pending, 4, torch.Generator().manual_seed(seed))[1] for seed in (3, 3, 4))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


def test_draws_where_points_repeat_are_equal_there():
    state = state_from_model(make_model("rbf", 10, 2))
    pending = queries(1, 2).expand(3, -1)
    _, f = state.draw(pending, 16, torch.Generator().manual_seed(5))
    assert float((f[-1] - f[-2]).abs().max()) < 1e-2


def test_a_covariance_without_any_factor_is_a_clear_error():
    state = state_from_model(make_model("rbf", 10, 2))
    with pytest.raises(NotPSDError, match="does not factor with jitter"):
        state.draw(torch.full((1, 2), float("nan"), dtype=torch.double), 4, torch.Generator().manual_seed(0))


def test_several_outputs_have_no_state_and_the_reason_says_so():
    assert reasons_against_state(make_model("rbf", 10, 2, m=2)) == ["model: it has 2 outputs"]


def grown(kind="rbf", n=30, rows=26, **options):
    """A model, and a model of its first rows with other targets but the same hyperparameters."""
    whole, part = (make_model(kind, n, 2, **options) for _ in range(2))
    X, Y = whole.train_inputs[0], whole.train_targets
    part.set_train_data(X[..., :rows, :].clone(), 3 * Y[..., :rows] - 1, strict=False)
    if hasattr(part.likelihood.noise_covar, "noise") and options.get("known_noise"):
        part.likelihood.noise_covar.noise = part.likelihood.noise_covar.noise[..., :rows]
    return whole, part


@pytest.mark.parametrize("options", [{}, {"scaled": True, "normalize": True}, {"known_noise": True}, {"m": 3}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_states_grown_by_rows_with_all_targets_anew_equal_states_from_scratch(kind, options, device):
    whole, part = grown(kind, **options, device=device)
    earlier = build_states(part)
    expected = build_states(whole)
    found = build_states(whole, earlier)
    at = queries(9, 2, device)
    for one, other, old in zip(found, expected, earlier, strict=True):
        assert reasons_against_extending(old, one.kind, one.Z, one.noise, one.s) == []
        for a, b in zip(one.mean_and_variance(at), other.mean_and_variance(at), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(one.alpha, other.alpha, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(one.L, other.L, rtol=1e-9, atol=1e-11)


def test_without_new_rows_the_factor_is_the_old_one_and_the_targets_are_new():
    whole, part = grown(rows=30)
    (earlier,) = build_states(part)
    (found,) = build_states(whole, [earlier])
    assert found.L is earlier.L
    torch.testing.assert_close(found.alpha, build_states(whole)[0].alpha, rtol=1e-10, atol=1e-11)


def test_what_has_changed_is_factored_anew_and_the_reason_says_what():
    cases = {
        "old rows": lambda part: part.train_inputs[0][3].add_(0.1),
        "lengthscales": lambda part: part.covar_module.base_kernel.initialize(lengthscale=0.7),
        "noise": lambda part: part.likelihood.initialize(noise=0.07),
        "prior variance": lambda part: part.covar_module.initialize(outputscale=1.7),
        "fewer rows": lambda part: None,
    }
    for word, change in cases.items():
        whole, part = grown(scaled=True, rows=26)
        change(part)
        if word == "fewer rows":
            whole, part = part, whole
        (earlier,), (expected,) = build_states(part), build_states(whole)
        (found,) = build_states(whole, [earlier])
        (reason,) = reasons_against_extending(earlier, found.kind, found.Z, found.noise, found.s)
        assert word in reason
        assert torch.equal(found.L, expected.L)


def test_innovations_are_standardized_residuals_of_one_step_predictions():
    model = make_model("matern52", 12, 2)
    state = state_from_model(model)
    X, y = model.train_inputs[0], model.train_targets
    for n in (5, 8, 11):
        part = make_model("matern52", 12, 2)
        part.set_train_data(X[:n], y[:n], strict=False)
        part.eval()
        with torch.no_grad():
            ahead = part.posterior(X[n : n + 1], observation_noise=True)
        expected = (y[n] - ahead.mean) / ahead.variance.sqrt()
        torch.testing.assert_close(state.innovations()[n], expected.reshape(()), rtol=1e-8, atol=1e-9)

"""The closed-form marginal likelihood against GPyTorch's value and autograd's gradient."""

import math
import weakref

import pytest
import torch
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpu_gs.gp.likelihood import MarginalLikelihood
from gpu_gs.gp.parts import reasons_against
from tests.gp.models import KINDS, make_model


def _parameter(block):
    return getattr(block.module, f"raw_{block.attribute}" if block.log else block.attribute)


def reference(model, likelihood):
    """GPyTorch's value, and its gradient carried over to theta by the chain rule. shape: (m,), (m, p)"""
    model.train()
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    theta = likelihood.read()
    output = model(*model.train_inputs)
    value = mll(output, model.train_targets)
    names, parameters = zip(*model.named_parameters(), strict=True)
    # all outputs are independent: the gradient of the sum has each output's own
    raw_gradient = dict(zip(names, torch.autograd.grad(value.sum(), parameters), strict=True))
    gradient = torch.zeros_like(theta)
    for block in likelihood.blocks:
        where = likelihood.slices[block.name]
        parameter = _parameter(block)
        name = next(name for name, own in zip(names, parameters, strict=True) if own is parameter)
        g = raw_gradient[name]
        if block.log:  # d f / d natural = (d f / d raw) / (d natural / d raw)
            again = parameter.detach().requires_grad_(True)
            natural = getattr(block.module, f"raw_{block.attribute}_constraint").transform(again)
            (slope,) = torch.autograd.grad(natural.sum(), again)
            g = g / slope * natural.detach()
        gradient[:, where] = g.reshape(len(theta), -1)
    return value.detach().reshape(-1), gradient


def condition(model):
    with torch.no_grad():
        model.train()
        K = model.likelihood(model(*model.train_inputs)).covariance_matrix
        return float(torch.linalg.cond(K).max())


CASES = {
    "default": {},
    "scaled": {"scaled": True},
    "shared lengthscale": {"ard": False},
    "known noise": {"known_noise": True},
    "known noise, scaled": {"known_noise": True, "scaled": True},
    "normalized inputs": {"normalize": True},
    "two outputs": {"m": 2},
    "three outputs, known noise": {"m": 3, "known_noise": True},
    "two outputs, scaled": {"m": 2, "scaled": True},
}


def sizes(count, seed):
    """Random numbers of observations and parameters, after the smallest and a larger one. (n, d, seed) each"""
    generator = torch.Generator().manual_seed(seed)
    n = torch.randint(2, 70, (count,), generator=generator).tolist()
    d = torch.randint(1, 13, (count,), generator=generator).tolist()
    return [(2, 1, 0), (60, 9, 2), *zip(n, d, range(3, 3 + count), strict=True)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_d_seed", sizes(4, seed=0), ids=str)
def test_value_and_gradient_equal_gpytorch(kind, case, n_d_seed, device):
    n, d, seed = n_d_seed
    model = make_model(kind, n, d, seed=seed, device=device, **CASES[case])
    assert reasons_against(model) == []
    likelihood = MarginalLikelihood(model)
    theta = likelihood.read()
    value, gradient = likelihood.value_and_grad(theta, torch.arange(len(theta), device=theta.device))
    expected_value, expected_gradient = reference(model, likelihood)
    tolerance = max(1e-8, 100 * torch.finfo(torch.double).eps * condition(model))
    if kind == "matern12":
        # GPyTorch's diagonal is exp(-r), r the square root of a rounding error of q: 1e-8 off. See the next test.
        tolerance = max(tolerance, 1e-6)
    torch.testing.assert_close(value, expected_value, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        gradient, expected_gradient, rtol=tolerance, atol=tolerance * float(expected_gradient.abs().max())
    )


def dense_log_posterior(kind, likelihood, theta):
    """By differences of coordinates and the textbook formulas, without GPyTorch; differentiable. shape: ()"""
    X, y = likelihood.X, likelihood.parts.Y[0]
    natural = {name: theta[0, where] for name, where in likelihood.slices.items()}
    Z = X / natural["lengthscale"].exp()
    difference = Z.unsqueeze(1) - Z.unsqueeze(0)
    off = ~torch.eye(len(X), dtype=torch.bool)
    q = (difference * difference).sum(-1)
    r = q.where(off, torch.ones_like(q)).sqrt()  # the square root has no derivative on the diagonal
    k = {
        "rbf": lambda: torch.exp(-q / 2),
        "matern12": lambda: torch.exp(-r),
        "matern32": lambda: (1 + math.sqrt(3) * r) * torch.exp(-math.sqrt(3) * r),
        "matern52": lambda: (1 + math.sqrt(5) * r + 5 / 3 * r * r) * torch.exp(-math.sqrt(5) * r),
    }[kind]()
    K = natural["outputscale"].exp() * k.where(off, torch.ones_like(k)) + natural["noise"].exp() * torch.eye(len(X))
    normal = torch.distributions.MultivariateNormal(natural["mean"].expand(len(X)), K)
    total = normal.log_prob(y)
    for block in likelihood.blocks:
        if block.prior is not None:
            total = total + block.prior.log_prob(natural[block.name].exp()).sum()
    return total / len(X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_d_seed", sizes(3, seed=1)[1:], ids=str)
def test_value_and_gradient_equal_dense_algebra(kind, n_d_seed):
    n, d, seed = n_d_seed
    likelihood = MarginalLikelihood(make_model(kind, n, d, scaled=True, seed=seed))
    theta = likelihood.read().requires_grad_(True)
    expected = dense_log_posterior(kind, likelihood, theta)
    (expected_gradient,) = torch.autograd.grad(expected, theta)
    value, gradient = likelihood.value_and_grad(theta.detach(), torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(value[0], expected.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_equals_finite_differences(kind):
    likelihood = MarginalLikelihood(make_model(kind, 18, 3, scaled=True))
    theta = likelihood.read()
    rows = torch.zeros(1, dtype=torch.long)
    _, gradient = likelihood.value_and_grad(theta, rows)
    step = 1e-5
    for k in range(theta.shape[-1]):
        shift = torch.zeros_like(theta)
        shift[0, k] = step
        up, down = (likelihood.value_and_grad(theta + sign * shift, rows)[0] for sign in (1, -1))
        assert float((up - down)[0]) / (2 * step) == pytest.approx(float(gradient[0, k]), rel=1e-6, abs=1e-8)


def test_rows_of_a_batch_do_not_depend_on_each_other():
    likelihood = MarginalLikelihood(make_model("matern52", 15, 2, m=3))
    theta = likelihood.read()
    together, gradients = likelihood.value_and_grad(theta, torch.arange(3))
    for row in (2, 0, 1):
        alone, gradient = likelihood.value_and_grad(theta[row : row + 1], torch.tensor([row]))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(gradient[0], gradients[row], rtol=1e-11, atol=1e-13)


def test_written_hyperparameters_are_read_back():
    model = make_model("matern32", 10, 3, scaled=True)
    likelihood = MarginalLikelihood(model)
    theta = likelihood.read() + 0.1
    likelihood.write(theta)
    torch.testing.assert_close(MarginalLikelihood(model).read(), theta, rtol=1e-12, atol=1e-12)


def test_a_covariance_that_does_not_factor_has_value_minus_infinity_and_gradient_zero():
    model = make_model("rbf", 12, 2, known_noise=True)
    model.likelihood.noise_covar.noise.fill_(-0.5)
    likelihood = MarginalLikelihood(model)
    value, gradient = likelihood.value_and_grad(likelihood.read(), torch.zeros(1, dtype=torch.long))
    assert float(value[0]) == -math.inf
    assert not bool(gradient.any())


def test_a_frozen_hyperparameter_keeps_its_value():
    model = make_model("rbf", 15, 2)
    model.mean_module.constant.requires_grad_(False)
    likelihood = MarginalLikelihood(model)
    assert "mean" not in likelihood.slices
    value, _ = likelihood.value_and_grad(likelihood.read(), torch.zeros(1, dtype=torch.long))
    model.train()
    expected = ExactMarginalLogLikelihood(model.likelihood, model)(model(*model.train_inputs), model.train_targets)
    assert float(value[0]) == pytest.approx(float(expected.detach()), rel=1e-10)


def test_single_precision_agrees_with_double_to_its_own_rounding():
    double = MarginalLikelihood(make_model("matern52", 30, 3))
    single = MarginalLikelihood(make_model("matern52", 30, 3).float())
    rows = torch.zeros(1, dtype=torch.long)
    value, gradient = double.value_and_grad(double.read(), rows)
    value32, gradient32 = single.value_and_grad(double.read().float(), rows)
    torch.testing.assert_close(value32.double(), value, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient32.double(), gradient, rtol=1e-3, atol=1e-3)


def test_evaluations_that_do_not_fit_into_the_memory_are_done_in_turn(monkeypatch):
    objective = MarginalLikelihood(make_model("matern52", 15, 2, m=3))
    theta = objective.read()
    rows = torch.tensor([2, 0, 1, 1])
    expected = objective.value_and_grad(theta[rows], rows)
    batches = []
    evaluate = objective._evaluate
    monkeypatch.setattr(objective, "_evaluate", lambda theta, rows: batches.append(len(rows)) or evaluate(theta, rows))
    objective.memory_mb = 0
    found = objective.value_and_grad(theta[rows], rows)
    assert batches == [1, 1, 1, 1]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


class LargeTensors(TorchDispatchMode):
    """Counts the memory of at least ``size`` numbers that tensors hold at the same time."""

    def __init__(self, size):
        super().__init__()
        self.size, self.most, self.alive = size, 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and tensor.numel() >= self.size:
                self.alive.setdefault(tensor.untyped_storage().data_ptr(), []).append(weakref.ref(tensor))
        self.alive = {
            at: held for at, refs in self.alive.items() if (held := [ref for ref in refs if ref() is not None])
        }
        self.most = max(self.most, len(self.alive))
        return found


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", ["rbf", "matern12", "matern32", "matern52"])
def test_an_evaluation_holds_four_matrices_at_the_most(kind, scaled):
    objective = MarginalLikelihood(make_model(kind, 40, 2, scaled=scaled))
    theta, rows = objective.read(), torch.zeros(1, dtype=torch.long)
    with LargeTensors(40 * 40) as count:
        for _ in range(2):
            objective.value_and_grad(theta, rows)
    assert 2 < count.most <= 4

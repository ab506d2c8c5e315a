"""The likelihood through d L / d K against GPyTorch's own, for kernels of all kinds, and its fits against BoTorch's."""

import math

import pytest
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import MixedSingleTaskGP, MultiTaskGP, SingleTaskGP
from botorch.models.likelihoods.sparse_outlier_noise import SparseOutlierGaussianLikelihood
from botorch.models.transforms.input import Normalize
from botorch.models.transforms.outcome import Standardize
from gpytorch.kernels import (
    LinearKernel,
    MaternKernel,
    PeriodicKernel,
    RBFKernel,
    RQKernel,
    ScaleKernel,
)
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import GammaPrior, HalfCauchyPrior, LogNormalPrior, UniformPrior
from linear_operator.utils.errors import NotPSDError

from gpu_gs.gp.fit import export_hyperparameters, fit
from gpu_gs.gp.kernel_likelihood import KernelLikelihood, reasons_against_kernel_likelihood
from gpu_gs.gp.likelihood import MarginalLikelihood
from tests.gp.models import KINDS, data, make_model

KERNELS = {
    "rbf": lambda d: RBFKernel(ard_num_dims=d, lengthscale_prior=LogNormalPrior(0.0, 1.0)),
    "shared matern": lambda d: MaternKernel(1.5),
    "rational quadratic": lambda d: ScaleKernel(RQKernel(ard_num_dims=d), outputscale_prior=GammaPrior(2.0, 0.15)),
    "periodic": lambda d: ScaleKernel(PeriodicKernel(period_length_prior=HalfCauchyPrior(1.0))),
    "sum": lambda d: ScaleKernel(MaternKernel(2.5, ard_num_dims=d)) + LinearKernel(),
    "product": lambda d: (
        ScaleKernel(RBFKernel(active_dims=[0])) * MaternKernel(0.5, lengthscale_prior=UniformPrior(0, 9))
    ),
    "frozen part": lambda d: frozen(ScaleKernel(RBFKernel(ard_num_dims=d))),
}


def frozen(kernel):
    kernel.raw_outputscale.requires_grad_(False)
    return kernel


def unit(X):
    """From [-1, 3]^d to the unit cube."""
    return (X + 1) / 4


def build(name, n=20, d=3, seed=0, m=1, device="cpu"):
    """A model of this name, not fitted."""
    X, Y = data(n, d, m, seed, device)
    X = unit(X)
    generator = torch.Generator().manual_seed(seed)
    noise = (0.01 + 0.1 * torch.rand(n, m, generator=generator, dtype=torch.double)).to(device)
    if name in KERNELS:
        return SingleTaskGP(X, Y, covar_module=KERNELS[name](d), outcome_transform=None).to(X)
    if name == "known noise":
        return SingleTaskGP(X, Y, noise, covar_module=RQKernel(), outcome_transform=None).to(X)
    if name == "known noise and more":
        model = SingleTaskGP(X, Y, noise, outcome_transform=None).to(X)
        model.likelihood = type(model.likelihood)(noise.squeeze(-1), learn_additional_noise=True).to(X)
        return model
    if name == "two outputs":
        return SingleTaskGP(X, torch.cat([Y, -Y.sin()], -1), outcome_transform=Standardize(2)).to(X)
    if name == "two outputs, one kernel":
        kernel = RBFKernel(ard_num_dims=d)
        return SingleTaskGP(X, torch.cat([Y, -Y], -1), covar_module=kernel, outcome_transform=None).to(X)
    if name == "batch":
        X, Y = X.expand(2, -1, -1), torch.stack([Y, -Y])
        return SingleTaskGP(X, Y, outcome_transform=None).to(X)
    if name == "transforms":
        return SingleTaskGP(4 * X - 1, 3 * Y + 1, input_transform=Normalize(d)).to(X)
    X = torch.cat([X[:, :-1], (3 * X[:, -1:]).floor()], -1)
    if name == "mixed":
        return MixedSingleTaskGP(X, Y, [d - 1], outcome_transform=None).to(X)
    assert name == "tasks"
    return MultiTaskGP(X, Y, task_feature=-1, outcome_transform=None).to(X)


MODELS = [
    *KERNELS,
    "known noise",
    "known noise and more",
    "two outputs",
    "two outputs, one kernel",
    "batch",
    "transforms",
    "mixed",
]


def moved(model, seed):
    """Moves each hyperparameter by a random step."""
    generator = torch.Generator().manual_seed(seed)
    objective = KernelLikelihood(model)
    theta = objective.read()
    step = 0.3 * torch.randn(theta.shape, generator=generator, dtype=torch.double).to(theta)
    lower, upper = objective.bounds()
    objective.write((theta + step).clamp(lower, upper))
    return objective


def stock(model, objective):
    """GPyTorch's value by row, its gradient by autograd in theta, and the largest condition number."""
    model.train()
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    value = mll(model(*model.train_inputs), model.train_targets)
    raw = torch.autograd.grad(value.sum(), objective.parameters, allow_unused=True)
    columns = [
        torch.zeros_like(p) if g is None else g * p.detach() if log else g
        for p, g, log in zip(objective.parameters, raw, objective.log, strict=True)
    ]
    gradient = torch.cat([column.reshape(objective.rows, -1) for column in columns], -1)
    with torch.no_grad():
        K = model.likelihood(model(*model.train_inputs)).covariance_matrix
    return value.detach().reshape(objective.rows, -1).sum(-1), gradient, float(torch.linalg.cond(K).detach().max())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_d_seed", [(8, 2, 0), (30, 4, 1), (70, 6, 2)], ids=str)
def test_value_and_gradient_equal_gpytorch(name, n_d_seed, device):
    n, d, seed = n_d_seed
    model = build(name, n, d, seed, device=device)
    assert reasons_against_kernel_likelihood(model) == []
    objective = moved(model, seed)
    theta = objective.read()
    value, gradient = objective.value_and_grad(theta, torch.arange(objective.rows, device=device))
    expected, expected_gradient, condition = stock(model, objective)
    tolerance = max(1e-8, 100 * torch.finfo(torch.double).eps * condition)
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    scale = float(expected_gradient.abs().max())
    torch.testing.assert_close(gradient, expected_gradient, rtol=tolerance, atol=tolerance * max(scale, 1.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 3])
def test_it_agrees_with_the_closed_form_where_there_is_one(kind, m):
    model = make_model(kind, 20, 3, m=m, scaled=True)
    closed = MarginalLikelihood(model)
    value, _ = closed.value_and_grad(closed.read(), torch.arange(m))
    objective = KernelLikelihood(model)
    found, _ = objective.value_and_grad(objective.read(), torch.arange(objective.rows))
    assert objective.rows == m
    torch.testing.assert_close(found, value, rtol=1e-6, atol=1e-6)


def test_outputs_with_parameters_of_their_own_are_rows_and_others_one_problem():
    assert KernelLikelihood(build("two outputs")).rows == 2
    assert KernelLikelihood(build("batch")).rows == 2
    assert KernelLikelihood(build("two outputs, one kernel")).rows == 1


def test_rows_do_not_depend_on_each_other_and_may_come_more_than_once():
    objective = moved(build("two outputs"), 0)
    theta = objective.read()
    other = theta + 0.2
    both, gradients = objective.value_and_grad(torch.cat([other[1:], theta, other[:1]]), torch.tensor([1, 0, 1, 0]))
    for position, (start, row) in enumerate([(other, 1), (theta, 0), (theta, 1), (other, 0)]):
        objective.write(theta)
        value, gradient = objective.value_and_grad(start[row : row + 1], torch.tensor([row]))
        torch.testing.assert_close(both[position], value[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients[position], gradient[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("memory_mb", [1024, 0])
@pytest.mark.parametrize("name", MODELS)
def test_several_starts_are_factored_together_and_each_is_as_if_alone(name, memory_mb, monkeypatch, device):
    objective = moved(build(name, 12, 3, device=device), 0)
    theta = objective.read()
    starts = torch.cat([theta, theta + 0.1, theta - 0.1])
    rows = torch.arange(objective.rows, device=device).repeat(3)
    expected = [objective.value_and_grad(starts[i : i + 1], rows[i : i + 1]) for i in range(len(starts))]
    factored = []
    cholesky = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda K, **kw: factored.append(K.shape) or cholesky(K, **kw))
    objective.memory_mb = memory_mb
    value, gradient = objective.value_and_grad(starts, rows)
    assert [shape[0] for shape in factored if len(shape) > 2 and shape[-1] == 12] == ([3] if memory_mb else [1, 1, 1])
    torch.testing.assert_close(value, torch.cat([v for v, _ in expected]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, torch.cat([g for _, g in expected]), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(objective.read(), theta, rtol=0, atol=0)  # the model is as it was


def test_a_start_whose_kernel_does_not_evaluate_leaves_the_others_alone(monkeypatch):
    objective = moved(build("rbf", 12, 3), 0)
    theta = objective.read()
    starts, rows = torch.cat([theta, theta + 0.1, theta - 0.1]), torch.zeros(3, dtype=torch.long)
    expected, _ = objective.value_and_grad(starts, rows)
    calls = []
    prior = objective._prior

    def fails_once():
        calls.append(1)
        if len(calls) == 2:
            raise NotPSDError("a part of the kernel does not factor")
        return prior()

    monkeypatch.setattr(objective, "_prior", fails_once)
    value, gradient = objective.value_and_grad(starts, rows)
    assert float(value[1]) == -math.inf and not bool(gradient[1].any())
    torch.testing.assert_close(value[[0, 2]], expected[[0, 2]], rtol=0, atol=0)


def test_a_covariance_that_does_not_factor_has_value_minus_infinity_and_gradient_zero():
    model = build("known noise")
    model.likelihood.noise_covar.noise.fill_(-2.0)
    objective = KernelLikelihood(model)
    value, gradient = objective.value_and_grad(objective.read(), torch.zeros(1, dtype=torch.long))
    assert float(value[0]) == -math.inf and not bool(gradient.any())


@pytest.mark.parametrize("name", ["rational quadratic", "sum", "mixed", "known noise", "two outputs", "transforms"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_fit_is_at_least_as_good_as_botorchs(name, seed):
    ours, theirs = build(name, 40, 3, seed), build(name, 40, 3, seed)
    objective = KernelLikelihood(ours)
    start = objective.read()
    result = fit(ours)
    assert result.method == "kernel"
    fit_gpytorch_mll(ExactMarginalLogLikelihood(theirs.likelihood, theirs))
    rows = torch.arange(objective.rows)
    values = []
    for model in (ours, theirs):
        one = KernelLikelihood(model)
        values.append(float(one.value_and_grad(one.read(), rows)[0].sum()))
    # as a sum over the data: within 0.04 of the log posterior density
    assert values[0] >= values[1] - 1e-3
    assert values[0] > float(objective.value_and_grad(start, rows)[0].sum())
    assert result.value == pytest.approx(values[0], abs=1e-9)


def test_a_model_of_several_tasks_is_fitted_by_botorch_which_says_why():
    model = build("tasks", 6, 2)
    result = fit(model)
    assert result.method == "autograd" and "Hadamard" in result.reasons[1]


def test_a_warm_and_a_cold_fit_through_the_kernel():
    before = build("mixed", 38, 3, 3)
    cold_result = fit(before)
    results = {}
    for name, options in {"warm": {}, "cold": {"cold_seed": 1}}.items():
        model = build("mixed", 40, 3, 3)
        results[name] = fit(model, warm=export_hyperparameters(before), **options)
    assert [r.decision for r in results.values()] == ["warm", "cold"]
    assert results["warm"].evaluations < cold_result.evaluations
    assert results["cold"].value >= results["warm"].value - 1e-3


def test_what_does_not_factor_is_left_to_botorchs_fit_and_its_jitter():
    X, Y = data(20, 2)
    model = SingleTaskGP(unit(X), Y, torch.full_like(Y, 1e-30), covar_module=ScaleKernel(LinearKernel()))
    model.likelihood.noise_covar.noise.fill_(0.0)
    result = fit(model)
    assert result.method == "autograd"
    assert "does not factor" in result.reasons[0]


def test_innovations_are_those_of_the_joint_covariance(device):
    for name in ("mixed", "two outputs", "transforms"):
        model = build(name, 15, 3, device=device)
        objective = moved(model, 4)
        found = objective.innovations()
        with torch.no_grad():
            joint = model.likelihood(model(*model.train_inputs))
            L = torch.linalg.cholesky(joint.covariance_matrix)
            expected = torch.linalg.solve(L, (model.train_targets - joint.mean).unsqueeze(-1)).reshape(-1, 15)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_reasons_name_what_it_cannot_do():
    X, Y = data(10, 2)
    model = SingleTaskGP(unit(X), Y, outcome_transform=None)
    model.likelihood = SparseOutlierGaussianLikelihood(GaussianLikelihood(), dim=10)
    assert reasons_against_kernel_likelihood(model) == ["the likelihood is a SparseOutlierGaussianLikelihood"]
    assert "not an exact GP" in reasons_against_kernel_likelihood(torch.nn.Linear(1, 1))[0]

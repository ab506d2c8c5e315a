"""Several outcomes: expected improvement, feasibility and hypervolume against BoTorch, sampling and finite differences."""

import math

import pytest
import torch
from botorch.acquisition.analytic import LogConstrainedExpectedImprovement, LogExpectedImprovement
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning

from gpu_gs.acquisition.factors import Feasibility, HypervolumeImprovement, Improvement
from gpu_gs.acquisition.joint import Joint
from gpu_gs.acquisition.pool import JointPool
from gpu_gs.gp.posterior import build_states
from tests.gp.models import make_model


def uniform(b, d, seed, device="cpu"):
    return (4 * torch.rand(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double) - 1).to(device)


def eye(p, device="cpu"):
    return torch.eye(p, dtype=torch.double, device=device)


def tensor(values, device="cpu"):
    return torch.tensor(values, dtype=torch.double, device=device)


def states_of(m, kind="rbf", n=14, d=2, device="cpu"):
    return build_states(make_model(kind, n, d, m=m, device=device).eval())


def constrained(states, device="cpu", best=0.2, lower=(-0.7, -math.inf), upper=(math.inf, 0.4)):
    bounds = Feasibility(tensor(lower, device), tensor(upper, device), slice(1, 3))
    return Joint(states, eye(3, device), [Improvement(tensor([best], device), slice(0, 1)), bounds], 8)


def hypervolume_of(states, front, reference, valid=None):
    front = front.unsqueeze(0) if front.dim() == 2 else front
    valid = torch.ones_like(front[..., 0], dtype=torch.bool) if valid is None else valid
    o = front.shape[-1]
    gain = HypervolumeImprovement.over(front, valid, reference, slice(0, o))
    return Joint(states[:o], eye(o, front.device), [gain], 8)


def with_draws(states, S, seed=0):
    drawn, values = [], []
    for i, state in enumerate(states):
        generator = torch.Generator(device=state.Z.device).manual_seed(seed + i)
        after, f = state.draw(state.offset.new_empty(0, len(state.offset)), S, generator)
        drawn.append(after)
        values.append(f)
    return drawn, torch.stack(values)  # shape: (m, n, S)


def drawn_constrained(device):
    drawn, values = with_draws(states_of(3, device=device), 6)
    bounds = constrained(drawn, device).factors[1]
    return Joint(drawn, eye(3, device), [Improvement(values[0].amax(0), slice(0, 1)), bounds], 8)


def drawn_hypervolume(device):
    drawn, values = with_draws(states_of(3, device=device), 6)
    front, valid = values[:2].permute(2, 1, 0).contiguous(), values[2].T > -0.5
    gain = HypervolumeImprovement.over(front, valid, tensor([-1.0, -1.0], device), slice(0, 2))
    above = Feasibility(tensor([-0.5], device), tensor([math.inf], device), slice(2, 3))
    return Joint(drawn, eye(3, device), [gain, above], 8)


def scalarized(device):
    forms = tensor([[0.7, 0.0, -0.4], [0.0, 1.0, 0.0]], device)
    within = Feasibility(tensor([-0.5], device), tensor([0.6], device), slice(1, 2))
    return Joint(states_of(3, device=device), forms, [Improvement(tensor([0.1], device), slice(0, 1)), within], 8)


def hypervolume(o, device):
    states = states_of(3, device=device)
    front = torch.stack([state.mean_at_training_inputs() for state in states[:o]], 1)
    return hypervolume_of(states, front, torch.full((o,), -1.0, dtype=torch.double, device=device))


FUNCTIONS = {
    "constrained": lambda device: constrained(states_of(3, device=device), device),
    "an interval": lambda device: constrained(
        states_of(3, device=device), device, lower=(-0.3, -0.2), upper=(0.3, 0.1)
    ),
    "scalarized": scalarized,
    "feasibility alone": lambda device: Joint(
        states_of(3, device=device), eye(3, device), constrained(states_of(3, device=device), device).factors[1:], 8
    ),
    "hypervolume": lambda device: hypervolume(2, device),
    "three objectives": lambda device: hypervolume(3, device),
    "constrained, with draws": drawn_constrained,
    "constrained hypervolume, with draws": drawn_hypervolume,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_equal_finite_differences(name, device):
    function, X = FUNCTIONS[name](device), uniform(12, 2, 3, device)
    value, gradient = function.value_and_grad(X)
    torch.testing.assert_close(value, function.value(X), rtol=1e-9, atol=1e-9)
    step = 1e-6
    for k in range(2):
        shift = torch.zeros_like(X)
        shift[:, k] = step
        slope = (function.value(X + shift) - function.value(X - shift)) / (2 * step)
        torch.testing.assert_close(gradient[:, k], slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_with_a_pending_point_equal_finite_differences(name):
    function, X = FUNCTIONS[name]("cpu"), uniform(6, 2, 3)
    e = torch.randn(1, *function.sample_shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    function = function.given(uniform(1, 2, 8), e)
    _, gradient = function.value_and_grad(X)
    step = 1e-6
    for k in range(2):
        shift = torch.zeros_like(X)
        shift[:, k] = step
        slope = (function.value(X + shift) - function.value(X - shift)) / (2 * step)
        torch.testing.assert_close(gradient[:, k], slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pending_points_given_at_once_are_those_given_one_by_one(name, device):
    """Of the function and of a pool of scored points, whose scores are those from scratch."""
    function, pending, X = FUNCTIONS[name](device), uniform(5, 2, 8, device), uniform(40, 2, 3, device)
    generator = torch.Generator().manual_seed(1)
    e = torch.randn(5, *function.sample_shape, generator=generator, dtype=torch.double).to(device)
    one_by_one, at_once, pool = function, function, JointPool.of(function, X)
    for j in range(5):
        one_by_one = one_by_one.given(pending[j : j + 1], e[j : j + 1])
    for some in (slice(0, 2), slice(2, 5)):
        at_once = at_once.given(pending[some], e[some])
        pool = pool.given(at_once, e[some])
    torch.testing.assert_close(at_once.value(X), one_by_one.value(X), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(at_once.score(pool.mean, pool.variance), at_once.value(pool.X), rtol=1e-5, atol=1e-5)


def test_constrained_improvement_equals_botorchs():
    model, X = make_model("rbf", 14, 2, m=3).eval(), uniform(40, 2, 3)
    ours = constrained(build_states(model)).value(X)
    with torch.no_grad():
        theirs = LogConstrainedExpectedImprovement(
            model, best_f=0.2, objective_index=0, constraints={1: (-0.7, None), 2: (None, 0.4)}
        )(X.unsqueeze(-2))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_an_interval_equals_botorchs():
    model, X = make_model("rbf", 14, 2, m=3).eval(), uniform(40, 2, 3)
    ours = constrained(build_states(model), lower=(-0.3, -0.2), upper=(0.3, 0.1)).value(X)
    with torch.no_grad():
        theirs = LogConstrainedExpectedImprovement(
            model, best_f=0.2, objective_index=0, constraints={1: (-0.3, 0.3), 2: (-0.2, 0.1)}
        )(X.unsqueeze(-2))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_scalarized_objective_equals_botorchs():
    model, X = make_model("rbf", 14, 2, m=2).eval(), uniform(40, 2, 3)
    weights = tensor([[0.7, -0.4]])
    ours = Joint(build_states(model), weights, [Improvement(tensor([0.1]), slice(0, 1))], 8).value(X)
    with torch.no_grad():
        theirs = LogExpectedImprovement(model, 0.1, posterior_transform=ScalarizedPosteriorTransform(weights[0]))(
            X.unsqueeze(-2)
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("m", [2, 3])
def test_hypervolume_improvement_equals_botorchs(m):
    model, X = make_model("rbf", 14, 2, m=m).eval(), uniform(40, 2, 3)
    states = build_states(model)
    front = torch.stack([state.mean_at_training_inputs() for state in states], 1)
    reference = torch.full((m,), -1.0, dtype=torch.double)
    ours = hypervolume_of(states, front, reference).value(X).exp()
    with torch.no_grad():
        theirs = ExpectedHypervolumeImprovement(
            model, reference.tolist(), FastNondominatedPartitioning(ref_point=reference, Y=front)
        )(X.unsqueeze(-2))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-10)


def test_infeasible_points_do_not_bound_the_hypervolume():
    states = states_of(2)
    front = uniform(6, 2, 9)
    valid = torch.tensor([True, False, True, True, False, False])
    reference, X = tensor([-1.5, -1.5]), uniform(10, 2, 3)
    ours = hypervolume_of(states, front, reference, valid.unsqueeze(0)).value(X)
    torch.testing.assert_close(ours, hypervolume_of(states, front[valid], reference).value(X))


@pytest.mark.parametrize("z", [-1e8, -1e5, -300.0, -8.0, 0.0, 8.0, 1e5])
def test_a_probability_of_feasibility_far_in_the_tails_has_a_finite_value_and_slope(z):
    factor = Feasibility(tensor([-math.inf, 0.0]), tensor([0.0, 1.0]), slice(0, 2))
    mean = tensor([[[-z], [0.5]]])
    value, d_mean, d_variance = factor.log_and_grad(mean, tensor([[1.0, 4.0]]))
    assert value.isfinite().all()
    assert d_mean.isfinite().all()
    assert d_variance.isfinite().all()
    if z < -10:
        assert float(value) == pytest.approx(-0.5 * z * z, rel=0.2)
        assert float(d_mean[0, 0]) == pytest.approx(z, rel=1e-2)  # d log Phi(-mu) / d mu


@pytest.mark.parametrize(("mean", "slope"), [(0.0, 1e12), (3.0, -1e12)])
def test_an_interval_far_away_in_units_of_the_deviation_pulls_towards_its_nearer_bound(mean, slope):
    factor = Feasibility(tensor([1.0]), tensor([2.0]), slice(0, 1))
    _, d_mean, d_variance = factor.log_and_grad(tensor([[[mean]]]), tensor([[1e-12]]))
    assert float(d_mean) == pytest.approx(slope, rel=1e-6)
    assert float(d_variance) == pytest.approx(0.5e24, rel=1e-6)


@pytest.mark.parametrize("at", [3.0, 30.0, -30.0])
def test_a_narrow_interval_in_a_tail_keeps_its_digits(at):
    factor = Feasibility(tensor([at]), tensor([at + 1e-3]), slice(0, 1))
    value = factor.log(tensor([[[0.0]]]), tensor([[1.0]]))
    middle = at + 5e-4
    density = -0.5 * middle**2 - 0.5 * math.log(2 * math.pi)
    assert float(value) == pytest.approx(density + math.log(1e-3), rel=1e-6, abs=1e-4)


def latent_samples(state, points, count, generator):
    """Joint draws of the latent values at the points, by dense algebra. shape: (b, count)"""
    z = state.to_z(points)
    k = state.s * torch.exp(-0.5 * torch.cdist(z, state.Z) ** 2)
    V = torch.linalg.solve_triangular(state.L, k.T, upper=False)
    covariance = state.s * torch.exp(-0.5 * torch.cdist(z, z) ** 2) - V.T @ V
    L = torch.linalg.cholesky(covariance + 1e-8 * torch.eye(len(points)))
    e = torch.randn(len(points), count, generator=generator, dtype=torch.double)
    return (state.c + k @ state.alpha).unsqueeze(-1) + L @ e


def test_draws_with_constraints_equal_the_expectation_by_sampling():
    model, X = make_model("rbf", 10, 2, m=2).eval(), uniform(6, 2, 7)
    model.likelihood.noise = torch.full((2, 1), 0.2, dtype=torch.double)
    states = build_states(model)
    drawn, values = with_draws(states, 20_000)
    lowest = tensor(-4.0)
    best = values[0].where(values[1] <= 0.3, lowest).amax(0)
    below = Feasibility(tensor([-math.inf]), tensor([0.3]), slice(1, 2))
    ours = Joint(drawn, eye(2), [Improvement(best, slice(0, 1)), below], 8).value(X)
    generator = torch.Generator().manual_seed(5)
    points = torch.cat([model.train_inputs[0][0], X])
    f, g = (latent_samples(state, points, 100_000, generator) for state in states)
    incumbent = f[:10].where(g[:10] <= 0.3, lowest).amax(0)
    expected = ((f[10:] - incumbent).clamp_min(0) * (g[10:] <= 0.3)).mean(-1)
    torch.testing.assert_close(ours.exp(), expected, rtol=0.05, atol=0.003)


def test_a_pending_point_counts_as_the_expectation_by_sampling():
    states, X, pending = states_of(2, n=10), uniform(6, 2, 7), uniform(1, 2, 8)
    below = Feasibility(tensor([-math.inf]), tensor([0.3]), slice(1, 2))
    function = Joint(states, eye(2), [Improvement(tensor([0.1]), slice(0, 1)), below], 20_000)
    e = torch.randn(1, 2, 20_000, generator=torch.Generator().manual_seed(3), dtype=torch.double)
    ours = function.given(pending, e).value(X)
    generator = torch.Generator().manual_seed(5)
    f, g = (latent_samples(state, torch.cat([pending, X]), 200_000, generator) for state in states)
    incumbent = f[0].where(g[0] <= 0.3, tensor(-9.0)).clamp_min(0.1)
    expected = ((f[1:] - incumbent).clamp_min(0) * (g[1:] <= 0.3)).mean(-1)
    torch.testing.assert_close(ours.exp(), expected, rtol=0.05, atol=0.003)

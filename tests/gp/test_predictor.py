"""The arranged posterior against the plain one; conditioning on draws against dense algebra."""

import pytest
import torch

from gpu_gs.gp import draws as module
from gpu_gs.gp.draws import given_values
from gpu_gs.gp.posterior import state_from_model
from gpu_gs.gp.predictor import Predictor
from tests.gp import reference
from tests.gp.models import KINDS, make_model


def uniform(b, d, seed, device="cpu"):
    return (4 * torch.rand(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double) - 1).to(device)


@pytest.mark.parametrize("weight", [1.0, -1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_and_their_gradients_are_those_of_the_state(kind, weight, device):
    model = make_model(kind, 20, 3, scaled=True, normalize=True, device=device).eval()
    state, X = state_from_model(model), uniform(7, 3, 4, device)
    query, prediction = reference.query(state, X), Predictor(state, weight).at(X)
    torch.testing.assert_close(prediction.mean, weight * query.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(prediction.variance, query.variance, rtol=1e-9, atol=1e-12)
    d_mean, d_variance = torch.linspace(-1, 1, 7).to(X), torch.linspace(2, -1, 7).to(X)
    expected = query.pull_back(weight * d_mean, d_variance)
    torch.testing.assert_close(prediction.pull_back(d_mean, d_variance), expected, rtol=1e-8, atol=1e-10)


def test_values_given_are_those_of_dense_conditioning(device):
    """Two points are given one after the other; each draw's mean is that of a GP with these values among its data."""
    state = state_from_model(make_model("matern52", 15, 2, device=device).eval())
    pending, X = uniform(2, 2, 5, device), uniform(6, 2, 6, device)
    e = torch.randn(2, 3, generator=torch.Generator().manual_seed(7), dtype=torch.double).to(device)
    one, f_one = given_values(state, pending[:1], e[:1])
    two, f_two = given_values(one, pending[1:], e[1:])
    mean, variance = two.mean_and_variance(X)
    for draw in range(3):
        values = torch.cat([f_one, f_two])[:, draw]
        dense = state.append(pending, values, torch.full((2,), 1e-12, dtype=torch.double, device=device))
        expected_mean, expected_variance = dense.mean_and_variance(X)
        torch.testing.assert_close(mean[:, draw], expected_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(variance, expected_variance, rtol=1e-5, atol=1e-8)


def test_given_values_have_the_posteriors_joint_distribution():
    state = state_from_model(make_model("rbf", 10, 2).eval())
    pending = uniform(2, 2, 5)
    e = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(7), dtype=torch.double)
    one, f_one = given_values(state, pending[:1], e[:1])
    _, f_two = given_values(one, pending[1:], e[1:])
    mean, variance = state.mean_and_variance(pending)
    f = torch.cat([f_one, f_two])
    torch.testing.assert_close(f.mean(-1), mean, rtol=0, atol=0.01)
    torch.testing.assert_close(f.var(-1), variance, rtol=0.02, atol=0)
    after = one.mean_and_variance(pending[1:])[1]
    explained = torch.corrcoef(f)[0, 1] ** 2
    torch.testing.assert_close(1 - explained, (after / variance[1])[0], rtol=0, atol=0.02)


def test_a_value_given_at_the_mean_leaves_the_mean_alone_and_takes_the_variance():
    state = state_from_model(make_model("rbf", 10, 2).eval())
    pending, X = uniform(2, 2, 5), uniform(6, 2, 6)
    after, f = given_values(state, pending, None)
    torch.testing.assert_close(f, state.mean_and_variance(pending)[0])
    torch.testing.assert_close(after.mean_and_variance(X)[0], state.mean_and_variance(X)[0])
    assert float(after.mean_and_variance(pending)[1].amax()) < 1e-5


def test_the_same_point_can_be_given_twice():
    state = state_from_model(make_model("rbf", 10, 2).eval())
    x = uniform(1, 2, 5)
    e = torch.ones(1, 4).double()
    for _ in range(3):
        state, f = given_values(state, x, e)
        assert bool(f.isfinite().all())
    assert bool(state.mean_and_variance(uniform(6, 2, 6))[0].isfinite().all())


@pytest.mark.parametrize("draws", [None, 5])
@pytest.mark.parametrize("how", ["at once", "at once, one there twice", "one by one, for want of a factor"])
def test_values_given_at_once_are_those_given_one_by_one(draws, how, device, monkeypatch):
    """Also of a state that has draws already. A point that is there twice gets a little variance in either way."""
    state = state_from_model(make_model("matern52", 15, 2, device=device).eval())
    pending, X = uniform(7, 2, 5, device), uniform(6, 2, 6, device)
    if "twice" in how:
        pending[4] = pending[3]
    generator = torch.Generator().manual_seed(7)
    e = None if draws is None else torch.randn(7, draws, generator=generator, dtype=torch.double).to(device)
    one_by_one, values = state, []
    for j in range(7):
        one_by_one, f = given_values(one_by_one, pending[j : j + 1], None if e is None else e[j : j + 1])
        values.append(f)
    if "want" in how:
        real = module._factor_given
        monkeypatch.setattr(module, "_factor_given", lambda state, z, u: None if len(z) > 1 else real(state, z, u))
    first, f_first = given_values(state, pending[:3], None if e is None else e[:3])
    at_once, f_rest = given_values(first, pending[3:], None if e is None else e[3:])
    close = 5e-3 if "twice" in how else 1e-7
    torch.testing.assert_close(torch.cat([f_first, f_rest]), torch.cat(values), rtol=close, atol=close)
    torch.testing.assert_close(at_once.L, one_by_one.L, rtol=close, atol=close)
    for got, expected in zip(at_once.mean_and_variance(X), one_by_one.mean_and_variance(X), strict=True):
        torch.testing.assert_close(got, expected, rtol=close, atol=close)


def test_hundreds_of_values_in_a_small_space_are_given_in_blocks(monkeypatch):
    """So many that most are almost known from the others."""
    state, pending = state_from_model(make_model("rbf", 10, 2).eval()), uniform(256, 2, 5)
    calls = []
    real = module._factor_given
    monkeypatch.setattr(module, "_factor_given", lambda state, z, u: calls.append(len(z)) or real(state, z, u))
    generator = torch.Generator().manual_seed(7)
    for some in pending.split(32):
        e = torch.randn(len(some), 4, generator=generator, dtype=torch.double)
        state, f = given_values(state, some, e)
        assert bool(f.isfinite().all())
    assert calls == [32] * 8
    mean, variance = state.mean_and_variance(pending)
    given = torch.cat([state.y[-256:]])
    assert float((mean.mean(-1) - given).abs().max()) < 0.02
    assert float(variance.max()) < 1e-5 * float(state.s) + 1e-5

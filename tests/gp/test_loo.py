"""Leave-one-out in closed form against leaving one out, and its upkeep against computing it anew."""

import math

import pytest
import torch
from botorch.models import MixedSingleTaskGP
from gpytorch.kernels import ScaleKernel
from scipy.stats import spearmanr

from gpu_gs.gp.loo import LeaveOneOut, leave_one_out, leave_one_out_of, with_inverse_diagonal
from gpu_gs.gp.posterior import build_states, state_from_model
from tests.gp.models import KINDS, data, make_model
from tests.gp.test_posterior import grown, queries


def brute_force(model):
    """Each observation predicted by a dense GP on the others. shape: (n,), (n,)"""
    with torch.no_grad():
        model.train()
        joint = model.likelihood(model(*model.train_inputs))
        K, c, y = joint.covariance_matrix, joint.mean, model.train_targets
    means, variances = [], []
    for i in range(len(y)):
        others = [j for j in range(len(y)) if j != i]
        k = K[i, others]
        solved = torch.linalg.solve(K[others][:, others], torch.stack([y[others] - c[others], k], -1))
        means.append(c[i] + k @ solved[:, 0])
        variances.append(K[i, i] - k @ solved[:, 1])
    return torch.stack(means), torch.stack(variances)


@pytest.mark.parametrize("options", [{}, {"scaled": True, "normalize": True}, {"known_noise": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_closed_form_equals_leaving_each_observation_out(kind, options, device):
    model = make_model(kind, 18, 3, device=device, **options)
    found = leave_one_out(state_from_model(model))
    mean, variance = brute_force(model)
    torch.testing.assert_close(found.mean, mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.variance, variance, rtol=1e-7, atol=1e-7)
    expected = torch.distributions.Normal(mean, variance.sqrt()).log_prob(model.train_targets)
    torch.testing.assert_close(found.log_density, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"scaled": True}, {"known_noise": True}, {"m": 2}], ids=str)
@pytest.mark.parametrize("rows", [29, 22])
def test_the_diagonal_of_the_inverse_is_kept_up_while_rows_are_appended(rows, options, device):
    whole, part = grown("matern52", 30, rows, **options, device=device)
    earlier = [with_inverse_diagonal(state) for state in build_states(part)]
    for state in build_states(whole, earlier):
        expected = torch.linalg.inv(state.L @ state.L.T).diagonal()
        torch.testing.assert_close(state.inverse_diagonal, expected, rtol=1e-8, atol=1e-9)
        assert with_inverse_diagonal(state) is state  # nothing left to compute


def test_the_diagonal_is_not_kept_up_where_nobody_asked_for_it_or_the_factor_is_new():
    whole, part = grown("rbf", 30, 26)
    assert build_states(whole, build_states(part))[0].inverse_diagonal is None
    earlier = [with_inverse_diagonal(state) for state in build_states(part)]
    whole.likelihood.initialize(noise=0.5)
    assert build_states(whole, earlier)[0].inverse_diagonal is None


def test_a_state_given_draws_forgets_the_diagonal():
    state = with_inverse_diagonal(state_from_model(make_model("rbf", 10, 2)))
    given, _ = state.draw(queries(1, 2), 4, torch.Generator().manual_seed(0))
    assert given.inverse_diagonal is None


def test_any_exact_gp_goes_botorchs_way_to_the_same_predictions():
    X, Y = data(18, 3, 2)
    X = torch.cat([(X[:, :-1] + 1) / 4, X[:, -1:].floor().clamp_min(0)], -1)
    model = MixedSingleTaskGP(X, Y[:, :1], [2], outcome_transform=None).eval()
    assert isinstance(model.covar_module.kernels[0], ScaleKernel)
    (found,) = leave_one_out_of(model)
    mean, variance = brute_force(model)
    torch.testing.assert_close(found.mean, mean, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(found.variance, variance, rtol=1e-7, atol=1e-8)
    several = make_model("rbf", 12, 2, m=2).eval()
    for one, state in zip(leave_one_out_of(several), build_states(several), strict=True):
        torch.testing.assert_close(one.mean, leave_one_out(state).mean, rtol=1e-7, atol=1e-8)


def test_the_summary_is_what_it_says():
    generator = torch.Generator().manual_seed(0)
    y, mean = torch.randn(2, 50, generator=generator, dtype=torch.double)
    variance = torch.rand(50, generator=generator, dtype=torch.double) + 0.1
    found = LeaveOneOut(y, mean, variance)
    summary = found.summary()
    normal = torch.distributions.Normal(mean, variance.sqrt())
    assert summary["loo_log_density"] == pytest.approx(float(normal.log_prob(y).mean()))
    assert summary["loo_rmse"] == pytest.approx(math.sqrt(float(((y - mean) ** 2).mean())))
    inside = (normal.icdf(torch.full_like(y, 0.025)) <= y) & (y <= normal.icdf(torch.full_like(y, 0.975)))
    assert summary["loo_coverage"] == pytest.approx(float(inside.double().mean()))
    assert summary["loo_rank_correlation"] == pytest.approx(spearmanr(y, mean).statistic)


def test_a_good_model_has_good_predictions():
    summary = leave_one_out(state_from_model(make_model("rbf", 80, 2))).summary()
    assert summary["loo_rank_correlation"] > 0.9
    assert summary["loo_rmse"] < 0.3

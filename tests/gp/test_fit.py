"""The MAP fit: as good as BoTorch's own, warm first, default second, and clear when neither works."""

import copy

import pytest
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms.outcome import Standardize
from gpytorch.kernels import RBFKernel, RQKernel
from gpytorch.mlls import ExactMarginalLogLikelihood, LeaveOneOutPseudoLikelihood

from gpu_gs.errors import FitError
from gpu_gs.gp.fit import FitOptions, export_hyperparameters, fit, load_hyperparameters, pack, unpack
from gpu_gs.gp.likelihood import MarginalLikelihood
from gpu_gs.gp.posterior import build_states
from tests.gp.models import KINDS, data, make_model


def default_model(n, d, seed, m=1):
    X, Y = data(n, d, m, seed=seed)
    return SingleTaskGP(unit(X), Y, outcome_transform=None)


def unit(X):
    """From [-1, 3]^d to the unit cube."""
    return (X + 1) / 4


def objective(model):
    likelihood = MarginalLikelihood(model)
    theta = likelihood.read()
    return likelihood.value_and_grad(theta, torch.arange(len(theta)))[0].sum()


@pytest.mark.parametrize("n_d_seed", [(6, 2, 0), (20, 3, 1), (40, 6, 2), (60, 4, 3), (80, 10, 4)], ids=str)
def test_cold_fit_reaches_the_objective_of_botorchs_fit(n_d_seed):
    n, d, seed = n_d_seed
    ours, theirs = default_model(n, d, seed), default_model(n, d, seed)
    result = fit(ours)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(theirs.likelihood, theirs))
    assert (result.decision, result.method) == ("default", "closed_form")
    assert float(objective(ours)) >= float(objective(theirs)) - 1e-3 / n
    assert result.value == pytest.approx(float(objective(ours)), abs=1e-9)


@pytest.mark.parametrize("options", [{}, {"known_noise": True}, {"scaled": True}, {"normalize": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_fits_of_all_kinds_reach_the_objective_of_botorchs(kind, options):
    n = 30
    ours, theirs = (make_model(kind, n, 3, seed=11, **options) for _ in range(2))
    result = fit(ours)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(theirs.likelihood, theirs))
    assert (result.decision, result.method) == ("default", "closed_form")
    assert float(objective(ours)) >= float(objective(theirs)) - 1e-3 / n


def test_fit_of_several_outputs_reaches_that_of_each_alone():
    together = default_model(30, 3, 5, m=3)
    fit(together)
    X, Y = data(30, 3, 3, seed=5)
    alone = 0.0
    for column in range(3):
        model = SingleTaskGP(unit(X), Y[:, column : column + 1], outcome_transform=None)
        fit(model)
        alone += float(objective(model))
    assert float(objective(together)) >= alone - 1e-3


def test_warm_fit_needs_fewer_evaluations_and_ends_as_high():
    before = default_model(60, 4, 6)
    fit(before)
    start = export_hyperparameters(before)
    X, Y = data(63, 4, seed=6)
    warm, cold = (SingleTaskGP(unit(X), Y, outcome_transform=None) for _ in range(2))
    warm_result, cold_result = fit(warm, warm=start), fit(cold)
    assert (warm_result.decision, cold_result.decision) == ("warm", "default")
    assert warm_result.evaluations < cold_result.evaluations
    # hyperparameters at least 0.95 times as likely as the best
    assert float(objective(warm)) * 63 >= float(objective(cold)) * 63 - 0.05


def test_unusable_warm_hyperparameters_give_way_to_the_default_start_with_a_reason():
    model = default_model(20, 2, 7)
    names = dict(export_hyperparameters(model))
    cases = {
        "shape": {**names, "covar_module.raw_lengthscale": [[1.0, 1.0, 1.0]]},
        "finite": {**names, "mean_module.raw_constant": float("nan")},
        "another model": {"something": 1.0},
        "bounds": {**names, "covar_module.raw_lengthscale": [[-5.0, -5.0]]},
    }
    reference = copy.deepcopy(model)
    fit(reference)
    for word, warm in cases.items():
        own = copy.deepcopy(model)
        result = fit(own, warm=warm)
        assert result.decision == "default"
        assert word in result.reasons[0], result.reasons
        assert float(objective(own)) == pytest.approx(float(objective(reference)), abs=1e-9)


def test_export_and_load_are_exact():
    one, other = default_model(15, 3, 8), default_model(15, 3, 8)
    fit(one)
    assert load_hyperparameters(other, export_hyperparameters(one)) == []
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_refused_hyperparameters_leave_the_model_unchanged():
    model = default_model(15, 3, 8)
    before = export_hyperparameters(model)
    assert load_hyperparameters(model, {**before, "mean_module.raw_constant": float("inf")})
    assert export_hyperparameters(model) == before


@pytest.mark.parametrize("what", ["kernel", "outcome transform"])
def test_what_has_no_closed_form_is_fitted_through_its_kernel_with_a_reason(what):
    X, Y = data(15, 2, seed=9)
    model = SingleTaskGP(
        unit(X),
        Y,
        covar_module=RQKernel() if what == "kernel" else RBFKernel(ard_num_dims=2),
        outcome_transform=Standardize(1) if what == "outcome transform" else None,
    )
    start = export_hyperparameters(model)
    result = fit(model)
    assert (result.method, result.decision) == ("kernel", "default")
    assert result.reasons and result.evaluations > 1
    assert export_hyperparameters(model) != start
    assert not model.training


def test_another_objective_is_fitted_by_botorch_with_a_reason():
    X, Y = data(15, 2, seed=9)
    model = SingleTaskGP(unit(X), Y, outcome_transform=None)
    start = export_hyperparameters(model)
    result = fit(model, LeaveOneOutPseudoLikelihood)
    assert (result.method, result.decision) == ("autograd", "default")
    assert "LeaveOneOutPseudoLikelihood" in result.reasons[0]
    assert export_hyperparameters(model) != start
    assert not model.training


def test_botorchs_fit_starts_warm_too():
    X, Y = data(25, 2, seed=10)
    first, second = (SingleTaskGP(unit(X), Y, outcome_transform=None) for _ in range(2))
    fit(first, LeaveOneOutPseudoLikelihood)
    result = fit(second, LeaveOneOutPseudoLikelihood, warm=export_hyperparameters(first), cold_seed=3)
    assert (result.method, result.decision) == ("autograd", "warm")
    assert float(second.likelihood.noise.detach()) == pytest.approx(float(first.likelihood.noise.detach()), rel=0.05)


def test_when_no_start_works_the_error_lists_each_and_the_model_is_as_before():
    model = make_model("rbf", 10, 2, known_noise=True)
    model.likelihood.noise_covar.noise.fill_(-3.0)
    start = export_hyperparameters(model)
    with pytest.raises(FitError, match=r"warm start: .*default start: ") as caught:
        fit(model, warm=start)
    assert "does not factor" in str(caught.value)
    assert export_hyperparameters(model) == start


def test_iterations_of_a_cold_fit_are_limited():
    short, long = default_model(40, 6, 11), default_model(40, 6, 11)
    one = fit(short, options=FitOptions(cold_iterations=2))
    other = fit(long)
    assert one.evaluations < other.evaluations
    assert one.value < other.value


def test_each_kind_of_attempt_has_its_own_number_of_iterations(monkeypatch):
    monkeypatch.setattr("gpu_gs.gp.fit.MANY", 40)
    options = FitOptions(warm_iterations=5, warm_iterations_of_many=3, cold_iterations=6)
    for n, decision, iterations in ((40, "warm", 5), (41, "warm", 3), (41, "default", 6), (41, "cold", 6)):
        model = default_model(n, 6, 11)
        warm = None if decision == "default" else export_hyperparameters(model)
        result = fit(model, warm=warm, options=options, cold_seed=0 if decision == "cold" else None)
        assert (result.decision, result.converged, result.evaluations) == (decision, False, 1 + iterations)


@pytest.mark.parametrize("known_noise", [False, True])
def test_fit_leaves_a_model_on_its_device_in_evaluation_mode(known_noise, device):
    model = make_model("matern52", 15, 2, known_noise=known_noise, device=device)
    result = fit(model)
    assert result.method == "closed_form"
    assert not model.training
    assert all(parameter.device.type == device.type for parameter in model.parameters())


def two_basins(n=24):
    """Data that a short and a long lengthscale explain, and hyperparameters in the worse of the two basins."""
    generator = torch.Generator().manual_seed(1)
    X = torch.rand(n, 2, generator=generator, dtype=torch.double)
    Y = torch.sin(14 * X[:, :1]) + 0.05 * torch.randn(n, 1, generator=generator, dtype=torch.double)
    model = SingleTaskGP(X, (Y - Y.mean()) / Y.std(), outcome_transform=None)
    model.covar_module.initialize(lengthscale=torch.tensor([30.0, 30.0]))
    model.likelihood.initialize(noise=1.0)
    return model


def test_a_cold_fit_leaves_a_bad_basin_that_a_warm_one_stays_in():
    stuck = two_basins()
    start = export_hyperparameters(stuck)
    warm, cold = (
        SingleTaskGP(stuck.train_inputs[0], stuck.train_targets.unsqueeze(-1), outcome_transform=None) for _ in "ab"
    )
    one, other = fit(warm, warm=start), fit(cold, warm=start, cold_seed=3)
    assert (one.decision, other.decision) == ("warm", "cold")
    assert other.start in ("default", "random")
    assert other.value > one.value + 0.1


def test_a_cold_fit_is_at_least_as_good_as_each_of_its_starts_alone():
    for seed in range(4):
        X, Y = data(40, 4, seed=seed)
        values = {}
        before = default_model(30, 4, seed + 20)
        fit(before)
        start = export_hyperparameters(before)
        for name, options in {"warm": {"warm": start}, "default": {}, "cold": {"warm": start, "cold_seed": 1}}.items():
            model = SingleTaskGP(unit(X), Y, outcome_transform=None)
            fit(model, **options)
            values[name] = float(objective(model)) * 40
        assert values["cold"] >= max(values["warm"], values["default"]) - 0.02


def test_a_cold_fit_is_a_function_of_its_seed_and_prefers_the_warm_start_among_equals():
    before = default_model(40, 3, 12)
    fit(before)
    start = export_hyperparameters(before)
    found = []
    for seed in (5, 5, 6):
        model = default_model(40, 3, 12)
        result = fit(model, warm=start, cold_seed=seed)
        found.append((export_hyperparameters(model), result.start, result.evaluations))
    assert found[0] == found[1]
    assert {start for _, start, _ in found} == {"warm"}
    assert found[2][0] == found[0][0]  # all starts end in one basin; the warm one ends there first
    assert found[2][2] > 1


def test_a_cold_fit_of_several_outputs_chooses_for_each_of_them():
    alone = [default_model(30, 3, 5, m=3) for _ in range(2)]
    start = export_hyperparameters(alone[0])
    one = fit(alone[0], warm=start, cold_seed=0)
    other = fit(alone[1])
    assert one.value >= other.value - 1e-3


def test_unusable_warm_hyperparameters_leave_the_other_starts_of_a_cold_fit():
    model = default_model(30, 3, 5)
    result = fit(model, warm={"something": 1.0}, cold_seed=0)
    assert result.decision == "cold" and "another model" in result.reasons[0]


def test_a_lengthscale_at_its_bound_and_a_fit_cut_short_are_told():
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(80, 1, generator=generator, dtype=torch.double)
    Y = torch.sin(100 * X)  # its best lengthscale is about 0.015
    model = SingleTaskGP(X, (Y - Y.mean()) / Y.std(), outcome_transform=None)
    model.covar_module.initialize(lengthscale=0.03)
    model.likelihood.initialize(noise=1e-3)
    assert fit(model).at_bound
    assert not fit(default_model(40, 6, 11), options=FitOptions(cold_iterations=2)).converged
    result = fit(default_model(40, 6, 11))
    assert result.converged and not result.at_bound


def sequence(seed, sizes):
    """Models of a growing data set."""
    X, Y = data(max(sizes), 4, seed=seed)
    for n in sizes:
        y = Y[:n]
        yield SingleTaskGP(unit(X[:n]), (y - y.mean()) / y.std(), outcome_transform=None)


def test_curvature_of_the_last_fit_saves_evaluations_and_ends_as_high():
    evaluations, shortfalls = [0, 0], []
    for seed in range(4):
        for keep in (False, True):
            previous = None
            for model in sequence(seed, [30, 33, 37, 41, 46, 51, 57]):
                if previous is None:
                    previous = fit(model), export_hyperparameters(model)
                    continue
                result, warm = previous
                result = fit(model, warm=warm, curvature=result.curvature if keep else "")
                previous = result, export_hyperparameters(model)
                evaluations[keep] += result.evaluations
                assert result.decision == "warm" and result.curvature
            best = fit(next(sequence(seed, [57])))
            shortfalls.append((best.value - result.value) * 57)
    assert evaluations[1] < 0.75 * evaluations[0]
    assert max(shortfalls) < 0.1


def test_packed_matrices_are_read_back_to_three_digits_and_positive_definite():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(2, 9, 9, generator=generator, dtype=torch.double)
    scale = torch.logspace(-4, 4, 9, dtype=torch.double)
    H = scale.unsqueeze(-1) * (A @ A.mT + 0.1 * torch.eye(9)) * scale
    text = pack(H)
    found = unpack(text, torch.zeros(2, 9, dtype=torch.double))
    size = H.diagonal(dim1=-2, dim2=-1).sqrt()
    relative = (found - H) / (size.unsqueeze(-1) * size.unsqueeze(-2))
    assert float(relative.abs().max()) < 3e-3
    assert bool((torch.linalg.eigvalsh(found / (size.unsqueeze(-1) * size.unsqueeze(-2))) > 0).all())
    assert len(text) < 400 and text.isascii()
    assert pack(found) and unpack(pack(found), torch.zeros(2, 9)).dtype == torch.float32


def test_what_is_too_large_or_no_inverse_hessian_is_not_packed_and_nonsense_not_read():
    assert pack(torch.eye(25, dtype=torch.double).unsqueeze(0))
    assert pack(torch.eye(60, dtype=torch.double).unsqueeze(0)) == ""
    assert pack(-torch.eye(3, dtype=torch.double).unsqueeze(0)) == ""
    assert pack(torch.full((1, 3, 3), float("nan"), dtype=torch.double)) == ""
    theta = torch.zeros(1, 3, dtype=torch.double)
    for text in ("", "????", "AAAA", pack(torch.eye(4, dtype=torch.double).unsqueeze(0))):
        assert unpack(text, theta) is None


def test_curvature_of_another_model_is_ignored():
    model, other = default_model(30, 4, 5), default_model(30, 4, 5)
    warm = export_hyperparameters(default_model(30, 4, 5))
    one, two = fit(model, warm=warm, curvature="AAAA"), fit(other, warm=warm)
    assert one == two


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("cold", [False, True])
def test_a_fit_tells_the_diagonal_of_the_inverse_that_it_formed(m, cold, monkeypatch, device):
    before = make_model("matern52", 25, 3, m=m, device=device)
    fit(before)
    model = make_model("matern52", 30, 3, m=m, device=device)
    inverted = []
    inverse = torch.cholesky_inverse
    monkeypatch.setattr(torch, "cholesky_inverse", lambda L, **kw: inverted.append(1) or inverse(L, **kw))
    result = fit(
        model,
        warm=export_hyperparameters(before),
        cold_seed=0 if cold else None,
        record_inverse_diagonal=True,
    )
    assert len(inverted) <= result.evaluations
    assert result.decision == ("cold" if cold else "warm")
    for state, found in zip(build_states(model), result.inverse_diagonal, strict=True):
        expected = torch.linalg.inv(state.L @ state.L.T).diagonal()
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_a_fit_without_a_closed_form_or_a_need_for_it_tells_no_diagonal():
    assert fit(make_model("rbf", 12, 2)).inverse_diagonal is None
    model = SingleTaskGP(*data(12, 2), covar_module=RQKernel(), outcome_transform=None)
    assert fit(model, record_inverse_diagonal=True).inverse_diagonal is None

"""The best point that a user asks for: the model's, quickly, also under outcome constraints."""

import numpy as np
import pytest
import torch
from ax.adapter import cross_validation
from ax.generators.torch.botorch_modular.surrogate import Surrogate

from gpu_gs.plugin.best_point import outcome_bounds, probability_of_feasibility
from gpu_gs.plugin.surrogate import WarmSurrogate
from tests.plugin.helpers import make_client, sphere, wave


def filled(objective: str, constraints=(), n: int = 120):
    client = make_client(objective=objective)
    client.configure_optimization(objective=objective, outcome_constraints=list(constraints))
    rng = np.random.default_rng(0)
    for trial in range(n):
        if trial < n - 1:
            point = {"x": float(rng.random()), "y": float(rng.random())}
            index = client.attach_trial(point)
        else:
            ((index, point),) = client.get_next_trials(max_trials=1).items()
        told = {"f": sphere(point)}
        if "g" in objective or constraints:
            told["g"] = wave(point)
        client.complete_trial(index, told)
    return client


def test_the_probability_of_feasibility_is_that_of_samples():
    A = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]], dtype=torch.double)
    b = torch.tensor([[0.5], [1.0], [0.2]], dtype=torch.double)
    bounds = outcome_bounds(A, b)
    assert bounds is not None
    assert bounds[0].tolist() == [-0.5, -torch.inf] and bounds[1].tolist() == [0.5, 0.2]
    mean = torch.tensor([[0.1, 0.0], [0.6, 0.3]], dtype=torch.double)
    covariance = torch.diag_embed(torch.tensor([[0.2, 0.1], [0.05, 0.4]], dtype=torch.double))
    found = probability_of_feasibility(mean, covariance, *bounds)
    rng = np.random.default_rng(0)
    for i in range(2):
        draws = torch.from_numpy(rng.multivariate_normal(mean[i].numpy(), covariance[i].numpy(), size=400_000))
        assert found[i].item() == pytest.approx((draws @ A.T <= b.T).all(-1).double().mean().item(), abs=0.004)


def test_correlated_outcomes_and_constraints_of_several_outcomes_have_no_closed_form():
    assert outcome_bounds(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0]])) is None
    correlated = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]])
    assert probability_of_feasibility(torch.zeros(1, 2), correlated, torch.zeros(2), torch.ones(2)) is None


def test_the_best_point_under_a_constraint_is_the_one_that_ax_finds_by_sampling(monkeypatch):
    client = filled("-f", ["g <= 0.5"], n=40)
    found = client.get_best_parameterization()
    monkeypatch.setattr(WarmSurrogate, "best_in_sample_point", Surrogate.best_in_sample_point)
    np.random.seed(0)
    expected = client.get_best_parameterization()
    assert found[0] == expected[0] and found[2] == expected[2]
    assert found[1]["f"][0] == pytest.approx(expected[1]["f"][0], rel=1e-6)


@pytest.mark.parametrize("constraints", [(), ("g <= 0.5",)])
def test_the_best_point_is_neither_sampled_nor_cross_validated_by_folds(monkeypatch, constraints):
    client = filled("-f", constraints, n=40)

    def slow(*args, **kwargs):
        raise AssertionError("Ax's slow way was taken")

    if constraints:  # without any, Ax draws no samples either
        monkeypatch.setattr(Surrogate, "best_in_sample_point", slow)
    monkeypatch.setattr(cross_validation, "_fold_cross_validate", slow)
    assert client.get_best_parameterization() is not None

"""Maximizing acquisition functions: as high as BoTorch's optimizer, repeatable, within what is allowed."""

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.optim import optimize_acqf

from gpu_gs.acquisition.autograd import AutogradAcquisition
from gpu_gs.acquisition.logei import LogEI
from gpu_gs.gp.fit import fit
from gpu_gs.gp.posterior import state_from_model
from gpu_gs.optimize.candidates import optimize_acquisition
from tests.gp.models import make_model


class Peaks:
    """Two Gaussian peaks in the unit square, the higher one at (0.8, 0.3)."""

    calls: list[int]

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, X):
        def bump(x, y, width):
            return torch.exp(-((X[..., 0] - x) ** 2 + (X[..., 1] - y) ** 2) / width)

        return bump(0.8, 0.3, 0.02) + 0.7 * bump(0.2, 0.7, 0.05)

    def value(self, X):
        self.calls.append(len(X))
        return self(X)

    def value_and_grad(self, X):
        X = X.detach().requires_grad_(True)
        value = self(X)
        (gradient,) = torch.autograd.grad(value.sum(), X)
        return value.detach(), gradient


def box(d, device="cpu"):
    return torch.zeros(d, dtype=torch.double, device=device), torch.ones(d, dtype=torch.double, device=device)


@pytest.mark.parametrize("seed", range(4))
def test_the_acquisition_value_is_at_least_that_of_botorchs_optimizer(seed):
    model = make_model("rbf", 30, 4, seed=seed)
    fit(model)
    best = model.train_targets.max()
    lower, upper = torch.full((4,), -1.0).double(), torch.full((4,), 3.0).double()
    ours = optimize_acquisition(LogEI(state_from_model(model), best), lower, upper, seed=seed)
    torch.manual_seed(seed)
    _, theirs = optimize_acqf(
        LogExpectedImprovement(model, best_f=best),
        bounds=torch.stack([lower, upper]),
        q=1,
        num_restarts=20,
        raw_samples=1024,
    )
    assert ours.value >= float(theirs) - 0.01


def test_any_botorch_acquisition_function_is_maximized_by_autograd(device):
    model = make_model("matern52", 20, 2, device=device)
    fit(model)
    best = model.train_targets.max()
    lower, upper = box(2, device)
    by_autograd = optimize_acquisition(AutogradAcquisition(LogExpectedImprovement(model, best_f=best)), lower, upper)
    closed = optimize_acquisition(LogEI(state_from_model(model), best), lower, upper)
    torch.testing.assert_close(by_autograd.x, closed.x, rtol=0, atol=1e-3)


def test_the_result_is_a_function_of_the_seed(device):
    lower, upper = box(2, device)
    one, again = (optimize_acquisition(Peaks(), lower, upper, raw_samples=64, seed=5) for _ in range(2))
    assert torch.equal(one.x, again.x)
    short = {"raw_samples": 8, "restarts": 2, "iterations": 1}
    five, six = (optimize_acquisition(Peaks(), lower, upper, seed=seed, **short) for seed in (5, 6))
    assert not torch.equal(five.x, six.x)


def test_the_global_generator_is_left_alone(random_state_untouched):
    optimize_acquisition(Peaks(), *box(2), raw_samples=64)


def test_the_higher_peak_wins():
    result = optimize_acquisition(Peaks(), *box(2), raw_samples=256)
    torch.testing.assert_close(result.x, torch.tensor([0.8, 0.3]).double(), rtol=0, atol=0.01)
    assert result.value == pytest.approx(float(Peaks()(result.x)), rel=1e-12)


def test_raw_samples_are_scored_in_chunks_that_fit_the_memory_to_the_same_result():
    small, large = Peaks(), Peaks()
    one = optimize_acquisition(small, *box(2), raw_samples=200, memory_mb=1, bytes_per_point=2**20 // 50)
    other = optimize_acquisition(large, *box(2), raw_samples=200)
    assert max(small.calls) <= 50 < max(large.calls)
    assert torch.equal(one.x, other.x)


def test_fixed_coordinates_keep_their_value():
    result = optimize_acquisition(Peaks(), *box(2), fixed={0: 0.2})
    assert float(result.x[0]) == 0.2
    assert float(result.x[1]) == pytest.approx(0.7, abs=0.01)


def test_all_coordinates_fixed_is_that_point():
    result = optimize_acquisition(Peaks(), *box(2), fixed={0: 0.25, 1: 0.5})
    assert result.x.tolist() == [0.25, 0.5]


def test_discrete_coordinates_take_the_best_allowed_value():
    allowed = torch.tensor([0.1, 0.35, 0.75, 0.95]).double()
    result = optimize_acquisition(Peaks(), *box(2), discrete={0: allowed})
    assert float(result.x[0]) == 0.75
    assert float(result.x[1]) == pytest.approx(0.3, abs=0.01)


def test_a_space_of_discrete_coordinates_only_is_searched_exhaustively():
    values = torch.linspace(0, 1, 11, dtype=torch.double)
    grid = torch.cartesian_prod(values, values)
    expected = grid[Peaks()(grid).argmax()]
    result = optimize_acquisition(Peaks(), *box(2), discrete={0: values, 1: values})
    torch.testing.assert_close(result.x, expected)


def test_post_processing_decides_the_value_that_counts():
    def rounded(X):
        return (X * 4).round() / 4

    result = optimize_acquisition(Peaks(), *box(2), post_process=rounded)
    torch.testing.assert_close(result.x, rounded(result.x))
    assert result.value == pytest.approx(float(Peaks()(result.x)), rel=1e-12)


def test_points_where_the_acquisition_is_not_a_number_are_not_chosen():
    class Holes(Peaks):
        def __call__(self, X):
            return super().__call__(X).where(X[..., 1] > 0.5, torch.nan)

    result = optimize_acquisition(Holes(), *box(2), raw_samples=256)
    assert float(result.x[1]) > 0.5
    assert result.value > 0.5


def test_anchors_are_searched_around():
    class Needle(Peaks):
        def __call__(self, X):
            return torch.exp(-1e3 * ((X - 0.123) ** 2).sum(-1))

    anchor = torch.full((1, 8), 0.14, dtype=torch.double)
    lost = optimize_acquisition(Needle(), *box(8), raw_samples=64)
    found = optimize_acquisition(Needle(), *box(8), raw_samples=64, anchors=anchor)
    assert lost.value < 0.5 < found.value

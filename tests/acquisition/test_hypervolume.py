"""Log expected hypervolume improvement against BoTorch, arbitrary precision and finite differences."""

import mpmath
import pytest
import torch
from botorch.acquisition.multi_objective import ExpectedHypervolumeImprovement
from botorch.utils.multi_objective.box_decompositions import NondominatedPartitioning
from botorch.utils.testing import MockModel, MockPosterior

from gpu_gs.acquisition import hypervolume
from gpu_gs.acquisition.hypervolume import Q_COEFFICIENTS, Hypervolume, Scratch, scaled_h
from gpu_gs.acquisition.logei import log_h
from gpu_gs.acquisition.pareto import cells
from tests.acquisition.test_logei import exact_log_h
from tests.acquisition.test_pareto import clouds, zero


def posterior(b, m, S, seed=3, device="cpu"):
    """Means around the fronts of ``clouds`` and variances. shape: (b, m, S), (b, m)"""
    generator = torch.Generator().manual_seed(seed)
    mean = 1.2 * torch.rand(b, m, 1, generator=generator, dtype=torch.double)
    mean = mean + 0.1 * torch.randn(b, m, S, generator=generator, dtype=torch.double)
    variance = 0.01 + 0.2 * torch.rand(b, m, generator=generator, dtype=torch.double)
    return mean.to(device), variance.to(device)


def shuffled(lower, upper, seed=4):
    """The same cells in another order, so that nothing follows from it."""
    order = torch.randperm(lower.shape[1], generator=torch.Generator().manual_seed(seed)).to(lower.device)
    return lower[:, order], upper[:, order]


def factors(m, S=1, n=20, device="cpu"):
    """A factor as ``cells`` orders its cells and, for two objectives, one that cannot see that they are a staircase."""
    Y = clouds(S, n, m, device=device)
    bounds = cells(Y, zero(Y))
    return [Hypervolume(*bounds)] + ([Hypervolume(*shuffled(*bounds))] if m == 2 else [])


def exact(lower, upper, mean, variance):
    """The log in 120 digits. shape: (K, m), (K, m), (m,), (m,)"""
    with mpmath.workdps(120):

        def h(z):
            return mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi) + z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2

        total = mpmath.mpf(0)
        for low, up in zip(lower.tolist(), upper.tolist(), strict=True):
            product = mpmath.mpf(1)
            for l, u, mu, v in zip(low, up, mean.tolist(), variance.tolist(), strict=True):
                sigma = mpmath.sqrt(mpmath.mpf(v))
                above = mpmath.mpf(0) if u == float("inf") else h((mpmath.mpf(mu) - u) / sigma)
                product *= sigma * (h((mpmath.mpf(mu) - l) / sigma) - above)
            total += product
        return float(mpmath.log(total))


@pytest.mark.parametrize("z", [-1e5, -2e3, -300.0, -40.0, -4.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 3.0, 30.0, 1e5])
def test_scaled_h_is_h_to_rounding(z):
    point = torch.tensor([z], dtype=torch.double)
    E, g, w, s = scaled_h(point, list(point.new_tensor(Q_COEFFICIENTS[1:])), Scratch(point))
    assert float(E + g.log()) == pytest.approx(exact_log_h(z), rel=1e-12)
    assert float(w) == abs(z)
    assert float(s) == pytest.approx(float(mpmath.exp(-(max(z, 0.0) ** 2) / 2)), rel=1e-14)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_value_and_gradient_equal_botorchs(m, device):
    Y = clouds(1, 12, m, device=device)
    mean, variance = posterior(30, m, 1, device=device)
    x, v = mean[..., 0].clone().requires_grad_(), variance.clone().requires_grad_()
    model = MockModel(MockPosterior(mean=x.unsqueeze(1), variance=v.unsqueeze(1)))
    partitioning = NondominatedPartitioning(zero(Y), Y=Y[0])
    theirs = ExpectedHypervolumeImprovement(model, [0.0] * m, partitioning)(Y.new_zeros(30, 1, 1)).log()
    theirs.sum().backward()
    for ours in factors(m, n=12, device=device):
        value, d_mean, d_variance = ours.log_and_grad(mean, variance)
        torch.testing.assert_close(ours.log(mean, variance)[:, 0], theirs.detach(), rtol=0.0, atol=1e-8)
        torch.testing.assert_close(value[:, 0], theirs.detach(), rtol=0.0, atol=1e-8)
        torch.testing.assert_close(d_mean[..., 0], x.grad, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(d_variance[..., 0], v.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize(
    ("mean", "deviation"), [(0.5, 0.3), (-1.0, 0.1), (-1.0, 0.02), (0.6, 1e-6), (3.0, 1e-6), (-40.0, 0.3), (0.7, 50.0)]
)
def test_value_is_right_far_from_the_front_and_for_any_deviation(m, mean, deviation):
    Y = clouds(1, 6, m)
    lower, upper = cells(Y, zero(Y))
    place = mean + 0.1 * torch.arange(m, dtype=torch.double)
    variance = (deviation * (1 + 0.3 * torch.arange(m, dtype=torch.double))).square()
    expected = exact(lower[0], upper[0], place, variance)
    for ours in factors(m, n=6):
        value = ours.log(place.reshape(1, m, 1), variance.reshape(1, m))
        # The deviation from an edge is known to rounding of its size, 1e-16, in units of sigma.
        assert float(value) == pytest.approx(expected, rel=1e-11, abs=1e-9)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("deviation", [1e-6, 0.1])
def test_value_rises_with_the_means_and_is_finite_everywhere(m, deviation, device):
    place = torch.linspace(-30 * deviation - 0.5, 2, 2000, dtype=torch.double, device=device)
    mean = place.reshape(-1, 1, 1).expand(-1, m, 1)
    variance = torch.full((2000, m), deviation**2, dtype=torch.double, device=device)
    for ours in factors(m, device=device):
        value, d_mean, d_variance = ours.log_and_grad(mean, variance)
        assert bool(value.isfinite().all()) and bool((value.diff(dim=0) > 0).all())
        assert float(value[0]) < -500  # below 1e-200
        assert bool(d_mean.isfinite().all()) and bool((d_mean >= 0).all())
        assert bool(d_variance.isfinite().all())
        torch.testing.assert_close(ours.log(mean, variance), value, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_gradient_equals_finite_differences(m, shift, device):
    for ours in factors(m, S=3, device=device):
        mean, variance = posterior(8, m, 3, device=device)
        mean = mean + shift
        _, d_mean, d_variance = ours.log_and_grad(mean, variance)
        step = 1e-6
        for k in range(m):
            e = torch.zeros(m, dtype=torch.double, device=device)
            e[k] = step
            slope = ours.log(mean + e.unsqueeze(-1), variance) - ours.log(mean - e.unsqueeze(-1), variance)
            torch.testing.assert_close(d_mean[:, k], slope / (2 * step), rtol=1e-5, atol=1e-6)
            slope = ours.log(mean, variance + e) - ours.log(mean, variance - e)
            torch.testing.assert_close(d_variance[:, k], slope / (2 * step), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_draws_together_equal_each_alone(m, device):
    Y = clouds(5, 20, m, device=device)
    Y[2] *= -1  # no front
    bounds = cells(Y, zero(Y))
    mean, variance = posterior(7, m, 5, device=device)
    for lower, upper in (bounds, shuffled(*bounds)):
        together = Hypervolume(lower, upper)
        value, d_mean, d_variance = together.log_and_grad(mean, variance)
        torch.testing.assert_close(together.log(mean, variance), value, rtol=1e-13, atol=1e-13)
        for s in range(5):
            alone = Hypervolume(*cells(Y[s : s + 1], zero(Y)))
            expected = alone.log_and_grad(mean[..., s : s + 1], variance)
            for got, one in zip((value, d_mean, d_variance), expected, strict=True):
                torch.testing.assert_close(got[..., s : s + 1], one, rtol=1e-9, atol=1e-11)
        few = together.log_and_grad(mean[..., :2], variance)
        for got, all_draws in zip(few, (value, d_mean, d_variance), strict=True):
            torch.testing.assert_close(got, all_draws[..., :2], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(together.log(mean[..., :2], variance), value[:, :2], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_empty_cells_change_nothing(m, device):
    Y = clouds(2, 15, m, device=device)
    lower, upper = cells(Y, zero(Y))
    mean, variance = posterior(9, m, 2, device=device)
    mean[4:] -= 20  # where a cell nearer by would hide all others
    expected = Hypervolume(*shuffled(lower, upper)).log_and_grad(mean, variance)
    empty_upper = torch.full_like(lower[:, :3], torch.inf)
    for place in (-5.0, 0.0, 50.0):
        empty = torch.full_like(lower[:, :3], place)
        for k in range(m):
            flat = empty_upper.clone()
            flat[..., k] = place
            padded = Hypervolume(torch.cat([empty, lower, empty], 1), torch.cat([flat, upper, empty], 1))
            for got, one in zip(padded.log_and_grad(mean, variance), expected, strict=True):
                torch.testing.assert_close(got, one, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(padded.log(mean, variance), expected[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("shift", [0.0, -20.0])
def test_points_that_nearly_coincide_count_as_one(m, shift):
    Y = clouds(1, 8, m)
    direction = torch.randn(1, 8, m, generator=torch.Generator().manual_seed(5), dtype=torch.double)
    near = torch.cat([Y, Y + 1e-13 * direction], 1)
    mean, variance = posterior(9, m, 1)
    mean = mean + shift
    lower, upper = cells(near, zero(Y))
    assert lower.shape[1] > cells(Y, zero(Y))[0].shape[1]
    expected = Hypervolume(*cells(Y, zero(Y))).log_and_grad(mean, variance)
    for got, one in zip(Hypervolume(lower, upper).log_and_grad(mean, variance), expected, strict=True):
        torch.testing.assert_close(got, one, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_without_a_front_it_is_the_expected_improvement_in_every_objective(m, device):
    reference = torch.linspace(-1, 1, m, dtype=torch.double, device=device)
    mean, variance = posterior(9, m, 2, device=device)
    mean[5:] -= 50
    sigma = variance.sqrt().unsqueeze(-1)
    expected = (log_h((mean - reference.unsqueeze(-1)) / sigma) + sigma.log()).sum(1)
    ours = Hypervolume(*cells(mean.new_zeros(2, 0, m), reference))
    torch.testing.assert_close(ours.log(mean, variance), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_single_precision_gives_four_digits(m, device):
    for ours, S in ((factor, 3) for factor in factors(m, S=3, device=device)):
        mean, variance = posterior(20, m, S, device=device)
        mean[10:] -= 2
        expected = ours.log_and_grad(mean, variance)
        Y = clouds(S, 20, m, device=device)
        single = Hypervolume(*(bound.float() for bound in cells(Y, zero(Y))))
        got = single.log_and_grad(mean.float(), variance.float())
        for one, other in zip(got, expected, strict=True):
            assert one.dtype == torch.float32
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("m", [2, 3])
def test_points_in_blocks_equal_all_at_once(m, monkeypatch):
    mean, variance = posterior(70, m, 4)
    for ours in factors(m, S=4):
        expected = ours.log(mean, variance)
        for block, row in [(1, 64), (1, 3), (10_000, 3), (10**9, 3)]:
            monkeypatch.setattr(hypervolume, "BLOCK", block)
            monkeypatch.setattr(hypervolume, "ROW", row)
            torch.testing.assert_close(ours.log(mean, variance), expected, rtol=1e-13, atol=1e-13)
        assert ours.log(mean[:0], variance[:0]).shape == (0, 4)
        monkeypatch.undo()


@pytest.mark.parametrize("m", [2, 3])
def test_arguments_stay_as_they_are(m):
    mean, variance = posterior(5, m, 2)
    before = mean.clone(), variance.clone()
    for ours in factors(m, S=2):
        first = ours.log_and_grad(mean, variance)
        again = ours.log_and_grad(mean, variance)
        ours.log(mean, variance)
        assert torch.equal(mean, before[0]) and torch.equal(variance, before[1])
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))

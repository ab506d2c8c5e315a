"""The batched minimizer against SciPy's L-BFGS-B, and on what tends to break minimizers."""

import pytest
import torch
from scipy.optimize import minimize as scipy_minimize

from gpu_gs.minimize import (
    DENSE_UP_TO,
    FIRST_LOOK,
    LOOKS_FURTHER_APART,
    minimize,
    projected_gradient_norm,
)


def rosenbrock(x):
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def differentiable(function):
    """value_and_grad of a function of points, by autograd."""

    def value_and_grad(x, rows):
        x = x.detach().requires_grad_(True)
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    return value_and_grad


def starts(b, d, low=-2.0, high=2.0, seed=0):
    return low + (high - low) * torch.rand(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@pytest.mark.parametrize("d", [2, 5, 10])
@pytest.mark.parametrize("box", [(-2.0, 2.0), (-2.0, 0.6), (0.5, 2.0)], ids=str)
def test_every_row_ends_as_low_as_scipy_does_from_there(d, box, device):
    x0 = starts(8, d, *box).to(device)
    lower, upper = (torch.full((d,), bound, dtype=torch.double, device=device) for bound in box)
    result = minimize(differentiable(rosenbrock), x0, lower, upper, max_iterations=500, gradient_tolerance=1e-7)
    one = differentiable(rosenbrock)
    for row in range(8):

        def function(x):
            value, gradient = one(torch.tensor(x).unsqueeze(0), None)
            return float(value[0]), gradient[0].numpy()

        theirs = scipy_minimize(
            function, x0[row].cpu().numpy(), jac=True, method="L-BFGS-B", bounds=[box] * d, options={"ftol": 1e-14}
        )
        assert float(result.value[row]) <= theirs.fun + 1e-6 * max(1.0, abs(theirs.fun))
    assert bool(((result.x >= lower) & (result.x <= upper)).all())
    assert bool(result.converged.all())


def test_a_row_does_not_depend_on_the_others():
    x0 = starts(6, 3)
    lower, upper = torch.full((3,), -2.0).double(), torch.full((3,), 2.0).double()
    together = minimize(differentiable(rosenbrock), x0, lower, upper, max_iterations=60)
    for row in range(6):
        alone = minimize(differentiable(rosenbrock), x0[row : row + 1], lower, upper, max_iterations=60)
        torch.testing.assert_close(alone.x[0], together.x[row], rtol=1e-6, atol=1e-6)


def test_equal_bounds_freeze_a_coordinate():
    lower, upper = torch.tensor([-2.0, 0.25]).double(), torch.tensor([2.0, 0.25]).double()
    result = minimize(differentiable(rosenbrock), starts(4, 2), lower, upper, max_iterations=100)
    assert bool((result.x[:, 1] == 0.25).all())
    torch.testing.assert_close(result.x[:, 0].abs(), torch.full((4,), 0.5).double(), rtol=0, atol=0.02)


def test_a_minimum_in_a_corner_is_found_and_converges():
    target = torch.tensor([3.0, -3.0, 0.5]).double()
    function = differentiable(lambda x: ((x - target) ** 2).sum(-1))
    box = torch.ones(3).double()
    result = minimize(function, starts(5, 3, -1, 1), -box, box, max_iterations=50)
    torch.testing.assert_close(result.x, torch.tensor([[1.0, -1.0, 0.5]]).double().expand(5, -1), rtol=0, atol=1e-6)
    assert bool((projected_gradient_norm(result.x, result.gradient, -box, box) < 1e-6).all())


def test_values_that_are_not_finite_shorten_the_step():
    function = differentiable(lambda x: (x - x.log()).sum(-1))  # NaN for x < 0, infinite at 0
    low, high = torch.full((2,), -5.0).double(), torch.full((2,), 5.0).double()
    result = minimize(function, torch.full((1, 2), 4.9).double(), low, high, max_iterations=50, first_step=8.0)
    torch.testing.assert_close(result.x, torch.ones(1, 2).double(), rtol=1e-4, atol=1e-4)


def test_a_start_without_a_finite_value_stays_and_the_others_go_on():
    function = differentiable(lambda x: (x - x.log()).sum(-1))
    low, high = torch.full((1,), -5.0).double(), torch.full((1,), 5.0).double()
    result = minimize(function, torch.tensor([[-1.0], [3.0]]).double(), low, high, max_iterations=50)
    assert float(result.x[0]) == -1.0
    assert not bool(result.converged[0])
    assert float(result.x[1]) == pytest.approx(1.0, abs=1e-4)


def test_the_result_is_never_worse_than_the_start():
    x0 = starts(10, 4, seed=3)
    low, high = torch.full((4,), -2.0).double(), torch.full((4,), 2.0).double()
    for iterations in (0, 1, 2, 5):
        result = minimize(differentiable(rosenbrock), x0, low, high, max_iterations=iterations)
        assert bool((result.value <= rosenbrock(x0)).all())
        torch.testing.assert_close(rosenbrock(result.x), result.value)
        assert result.iterations <= iterations


def test_rows_are_told_which_they_are():
    targets = torch.tensor([-1.0, 0.0, 1.5]).double()

    def value_and_grad(x, rows):
        difference = x[:, 0] - targets[rows]
        return difference**4, (4 * difference**3).unsqueeze(-1)

    box = torch.full((1,), 2.0).double()
    result = minimize(value_and_grad, torch.full((3, 1), 0.7).double(), -box, box, max_iterations=200)
    torch.testing.assert_close(result.x[:, 0], targets, rtol=0, atol=0.02)


@pytest.mark.parametrize("box", [(-2.0, 2.0), (-2.0, 0.6)], ids=str)
def test_many_coordinates_end_as_low_as_scipy_does_from_there(box, device):
    d = DENSE_UP_TO + 10
    scales = torch.logspace(-1, 2, d, dtype=torch.double, device=device)

    def function(x):
        return (scales * (x - 0.7) ** 2).sum(-1) + ((x[..., 1:] - x[..., :-1]) ** 4).sum(-1)

    x0 = starts(4, d, *box).to(device)
    lower, upper = (torch.full((d,), bound, dtype=torch.double, device=device) for bound in box)
    result = minimize(differentiable(function), x0, lower, upper, max_iterations=400, gradient_tolerance=1e-7)
    one = differentiable(function)
    for row in range(4):

        def of_numpy(x):
            value, gradient = one(torch.tensor(x, device=device).unsqueeze(0), None)
            return float(value[0]), gradient[0].cpu().numpy()

        theirs = scipy_minimize(of_numpy, x0[row].cpu().numpy(), jac=True, method="L-BFGS-B", bounds=[box] * d)
        assert float(result.value[row]) <= theirs.fun + 1e-6 * max(1.0, abs(theirs.fun))
    assert bool(result.converged.all())
    assert result.inverse_hessian is None


def test_more_memory_than_pairs_makes_limited_memory_the_same_as_dense(monkeypatch):
    d = 6
    A = torch.randn(d, d, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    A = A @ A.T + torch.eye(d)
    function = differentiable(lambda x: 0.5 * ((x @ A) * x).sum(-1))
    box = torch.full((d,), 100.0).double()
    options = {"max_iterations": 7, "value_tolerance": 0.0, "gradient_tolerance": 0.0}
    dense = minimize(function, starts(3, d), -box, box, **options)
    monkeypatch.setattr("gpu_gs.minimize.DENSE_UP_TO", 0)
    limited = minimize(function, starts(3, d), -box, box, **options)
    # BFGS scales its first matrix once, L-BFGS at each step: they agree in what they reach, not in each step.
    torch.testing.assert_close(limited.x, dense.x, rtol=0, atol=0.2)
    assert bool((limited.value < 1e-2 * 0.5 * ((starts(3, d) @ A) * starts(3, d)).sum(-1)).all())


@pytest.mark.parametrize("d", [4, DENSE_UP_TO + 2])
def test_rows_that_stand_still_and_rows_that_leave_give_the_same(d, device):
    x0 = starts(6, d, -1.0, 0.6).to(device)
    lower, upper = (torch.full((d,), bound, dtype=torch.double, device=device) for bound in (-1.0, 0.6))
    function = differentiable(rosenbrock)
    leaving, staying = (
        minimize(function, x0, lower, upper, max_iterations=60, compact=compact) for compact in (True, False)
    )
    torch.testing.assert_close(leaving.x, staying.x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(leaving.value, staying.value, rtol=1e-9, atol=1e-9)
    assert torch.equal(leaving.converged, staying.converged)
    assert staying.iterations <= max(FIRST_LOOK, LOOKS_FURTHER_APART * leaving.iterations)


def test_the_inverse_hessian_comes_back_and_saves_evaluations_when_handed_in():
    A = torch.tensor([[50.0, 3.0, 0.0], [3.0, 1.0, 0.1], [0.0, 0.1, 0.5]]).double()
    function = differentiable(lambda x: 0.5 * ((x @ A) * x).sum(-1))
    box = torch.full((3,), 100.0).double()
    options = {"max_iterations": 60, "gradient_tolerance": 1e-8, "value_tolerance": 0.0}
    cold = minimize(function, starts(2, 3), -box, box, **options)
    assert bool(cold.curved.all())
    for H in cold.inverse_hessian:
        torch.testing.assert_close(H, torch.linalg.inv(A), rtol=0.02, atol=0.02)
    for H0 in (torch.linalg.inv(A), cold.inverse_hessian):
        warm = minimize(function, starts(2, 3, seed=1), -box, box, H0=H0, **options)
        assert bool(warm.converged.all())
        assert warm.evaluations <= 5 < cold.evaluations


def test_scales_make_up_for_coordinates_of_different_lengths():
    lengths = torch.tensor([1.0, 0.01, 0.3]).double()
    function = differentiable(lambda x: (((x - 0.3) / lengths) ** 2).sum(-1).log1p())
    lower, upper = torch.zeros(3).double(), torch.ones(3).double()
    plain, scaled = (
        minimize(function, starts(4, 3, 0.0, 1.0), lower, upper, max_iterations=100, scale=scale)
        for scale in (None, lengths)
    )
    torch.testing.assert_close(scaled.x, torch.full((4, 3), 0.3).double(), rtol=0, atol=1e-4)
    assert scaled.evaluations < 0.7 * plain.evaluations


def test_steps_grow_where_there_is_no_curvature_to_tell_their_length():
    function = differentiable(lambda x: ((x - 0.5) ** 2).sum(-1).mul(1e6).log1p())  # concave but near the minimum
    lower, upper = torch.full((2,), -1e3).double(), torch.full((2,), 1e3).double()
    result = minimize(function, starts(4, 2, 500.0, 900.0), lower, upper, max_iterations=60)
    torch.testing.assert_close(result.x, torch.full((4, 2), 0.5).double(), rtol=0, atol=1e-3)


def test_bounds_that_are_reached_do_not_spoil_the_curvature_of_the_rest():
    # x_0 is bound at the minimum and its gradient changes with x_1: the rest of the Hessian is what counts.
    A = torch.tensor([[10.0, 9.0, 0.0], [9.0, 10.0, 1.0], [0.0, 1.0, 2.0]]).double()
    b = torch.tensor([50.0, 1.0, -1.0]).double()
    function = differentiable(lambda x: 0.5 * ((x @ A) * x).sum(-1) - (x * b).sum(-1))
    lower, upper = torch.full((3,), -5.0).double(), torch.tensor([1.0, 5.0, 5.0]).double()
    result = minimize(function, starts(5, 3), lower, upper, max_iterations=40, gradient_tolerance=1e-9)
    rest = torch.linalg.solve(A[1:, 1:], b[1:] - A[1:, 0])
    torch.testing.assert_close(result.x, torch.cat([torch.ones(1).double(), rest]).expand(5, 3), rtol=0, atol=1e-5)
    assert bool(result.converged.all())
    assert result.evaluations <= 20

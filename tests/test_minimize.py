"""The batched minimizer against SciPy's L-BFGS-B, and on what tends to break minimizers."""

import pytest
import torch
from scipy.optimize import minimize as scipy_minimize

from gpu_gs.minimize import minimize, projected_gradient_norm


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

"""Steps and minimization under linear constraints: the conditions of Karush, Kuhn and Tucker, SciPy's SLSQP, and rounding."""

import pytest
import torch
from scipy.optimize import LinearConstraint, nnls
from scipy.optimize import minimize as scipy_minimize

from gpu_gs.minimize import DENSE_UP_TO, FIRST_LOOK, LOOKS_FURTHER_APART, minimize
from gpu_gs.working_set import LinearRows, WorkingSet
from tests.test_minimize import differentiable, rosenbrock

KINDS = ["inequalities", "with an equation", "repeated rows", "a vertex of too many rows"]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def problem(d, m, kind, seed=0):
    """Rows that leave room around a point of the unit box, and that point."""
    made = generator(seed)
    A = torch.randn(m, d, generator=made, dtype=torch.double)
    A /= A.norm(dim=-1, keepdim=True)
    inside = 0.2 + 0.6 * torch.rand(d, generator=made, dtype=torch.double)
    slack = 0.15 * torch.rand(m, generator=made, dtype=torch.double)
    if kind == "repeated rows":
        A, slack = torch.cat([A, A, -A[:1]]), torch.cat([slack, slack, slack[:1]])
    if kind == "a vertex of too many rows":
        slack[:] = 0.0  # all rows meet in the point, and with as many again of the bounds' neighbours
        A = torch.cat([A, A.sum(0, keepdim=True) / A.sum(0).norm()])
        slack = torch.cat([slack, slack[:1]])
    high = A @ inside + slack
    low = torch.full_like(high, -torch.inf)
    if kind == "with an equation":
        low[0] = high[0] = A[0] @ inside
    return LinearRows(A, low, high), inside


def starts(rows, inside, count, seed=0):
    """Points on the way from the point inside to random points of the box, as far as the rows let them go."""
    far = torch.rand(count, len(inside), generator=generator(seed), dtype=torch.double)
    equations = rows.A[rows.low == rows.high]
    along = far - inside
    if len(equations):
        along = along - along @ torch.linalg.pinv(equations) @ equations
    speed = along @ rows.A.T
    reach = torch.where(speed > 1e-9, (rows.high - rows.A @ inside) / speed.clamp_min(1e-9), 1.0).amin(-1).clamp(0, 1)
    side = torch.where(along > 0, (1 - inside) / along, torch.where(along < 0, -inside / along, 1.0)).amin(-1)
    return inside + 0.9 * torch.minimum(reach, side.clamp(0, 1)).unsqueeze(-1) * along


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 5, 12])
def test_a_step_is_the_minimum_of_the_quadratic_model_within_all_limits(d, kind, device):
    b = 12
    rows, inside = problem(d, 3, kind, seed=d)
    x = starts(rows, inside, b).to(device)
    root = torch.randn(b, d, d, generator=generator(1), dtype=torch.double).to(device)
    H = root @ root.mT + 0.1 * torch.eye(d, dtype=torch.double, device=device)
    g = 3 * torch.randn(b, d, generator=generator(2), dtype=torch.double).to(device)
    rows = LinearRows(rows.A.to(device), rows.low.to(device), rows.high.to(device))
    limits = WorkingSet(rows, torch.zeros_like(x), torch.ones_like(x))
    p, size, wrong = limits.step(H, x, g)
    assert not bool(wrong.any())
    reached = x + p
    assert float(rows.violation(reached).max()) < 1e-12
    assert bool(((reached > -1e-12) & (reached < 1 + 1e-12)).all())
    # Stationary and complementary: -(H^-1 p + g) is a combination of the limits that hold, pushing outwards.
    push = -(torch.linalg.solve(H, p.unsqueeze(-1)).squeeze(-1) + g)
    A = torch.cat([torch.eye(d, dtype=torch.double, device=device), rows.A])
    lo = torch.cat([torch.zeros(d).double(), rows.low.cpu()])
    hi = torch.cat([torch.ones(d).double(), rows.high.cpu()])
    at = reached.cpu() @ A.cpu().T
    for row in range(b):
        above, below = (at[row] - hi).abs() < 1e-9, (at[row] - lo).abs() < 1e-9
        outwards = torch.cat([A.cpu()[above], -A.cpu()[below]])
        _, distance = nnls(outwards.T.numpy(), push[row].cpu().numpy()) if len(outwards) else (0, push[row].norm())
        assert float(distance) < 1e-6 * float(push[row].norm().clamp_min(1.0))
    assert bool((size >= 0).all())


def test_the_working_set_is_kept_from_step_to_step():
    rows, inside = problem(6, 3, "inequalities")
    x = starts(rows, inside, 4)
    limits = WorkingSet(rows, torch.zeros_like(x), torch.ones_like(x))
    H, g = torch.eye(6).double().expand(4, -1, -1), torch.randn(4, 6, generator=generator(0), dtype=torch.double)
    p, _, _ = limits.step(H, x, g)
    marks = limits.marks.clone()
    again, _, _ = limits.step(H, x, g)
    assert bool((marks != 0).any())
    assert torch.equal(marks, limits.marks)
    torch.testing.assert_close(again, p, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 4, 7, 10])
def test_every_row_ends_as_low_as_slsqp_does_from_there(d, kind):
    rows, inside = problem(d, 1 + d % 4, kind, seed=10 + d)
    x0 = starts(rows, inside, 5)
    zero, one = torch.zeros(d).double(), torch.ones(d).double()
    Q = torch.randn(d, d, generator=generator(3), dtype=torch.double)
    Q = Q @ Q.T + 0.1 * torch.eye(d)
    q = 3 * torch.randn(d, generator=generator(4), dtype=torch.double)
    function = differentiable(lambda x: 0.5 * ((x @ Q) * x).sum(-1) + x @ q)
    result = minimize(
        function, x0, zero, one, max_iterations=200, gradient_tolerance=1e-9, value_tolerance=1e-14, linear=rows
    )
    assert float(rows.violation(result.x).max()) < 1e-12
    assert bool(((result.x >= 0) & (result.x <= 1)).all())
    equation = (rows.low == rows.high).numpy()
    A, low, high = rows.A.numpy(), rows.low.numpy(), rows.high.numpy()
    conditions = [LinearConstraint(A[which], low[which], high[which]) for which in (equation, ~equation) if which.any()]

    def of_numpy(x):
        value, gradient = function(torch.tensor(x).unsqueeze(0), None)
        return float(value[0]), gradient[0].numpy()

    for row in range(5):
        theirs = scipy_minimize(
            of_numpy,
            x0[row].numpy(),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * d,
            constraints=conditions,
            options={"ftol": 1e-14, "maxiter": 300},
        )
        # SLSQP ends outside by up to 1e-8 or so.
        assert float(result.value[row]) <= theirs.fun + 1e-6 * max(1.0, abs(theirs.fun))


def test_a_minimum_on_a_constraint_known_in_closed_form_is_found():
    # min |x - c|^2 on sum x = 1, x >= 0 with c = (0.9, 0.7, -0.5): subtract 0.3 from the first two, the third is at 0.
    c = torch.tensor([0.9, 0.7, -0.5]).double()
    length = 3**0.5
    rows = LinearRows(
        torch.full((1, 3), 1 / length).double(),
        torch.tensor([1 / length]).double(),
        torch.tensor([1 / length]).double(),
    )
    start = torch.full((2, 3), 1 / 3).double()
    zero, one = torch.zeros(3).double(), torch.ones(3).double()
    function = differentiable(lambda x: ((x - c) ** 2).sum(-1))
    result = minimize(function, start, zero, one, max_iterations=50, value_tolerance=0.0, linear=rows)
    expected = torch.tensor([[0.6, 0.4, 0.0]]).double().expand(2, -1)
    torch.testing.assert_close(result.x, expected, rtol=0, atol=1e-7)
    assert float((result.x.sum(-1) - 1).abs().max()) < 1e-12


def test_rosenbrocks_valley_cut_off_by_a_constraint():
    # The valley's floor x_1 = x_0^2 meets x_0 + x_1 = 0.75 at (0.5, 0.25); the minimum lies close to it.
    rows = LinearRows(
        torch.tensor([[0.5**0.5, 0.5**0.5]]).double(),
        torch.tensor([-torch.inf]).double(),
        torch.tensor([0.75 * 0.5**0.5]).double(),
    )
    zero, one = torch.zeros(2).double(), torch.ones(2).double()
    x0 = torch.tensor([[0.1, 0.6], [0.4, 0.1], [0.0, 0.0]]).double()
    result = minimize(
        differentiable(rosenbrock), x0, zero, one, max_iterations=200, gradient_tolerance=1e-8, linear=rows
    )
    t = torch.linspace(0, 1, 200_001, dtype=torch.double)
    best = rosenbrock(torch.stack([t, 0.75 - t], -1)).min()
    torch.testing.assert_close(result.value, best.expand(3), rtol=1e-6, atol=1e-8)
    assert bool(result.converged.all())


@pytest.mark.parametrize("d", [5, DENSE_UP_TO + 10])
def test_the_result_repeats_bit_for_bit_and_more_coordinates_than_dense_ones_work(d):
    rows, inside = problem(d, 4, "with an equation", seed=d)
    x0 = starts(rows, inside, 3)
    zero, one = torch.zeros(d).double(), torch.ones(d).double()
    results = [minimize(differentiable(rosenbrock), x0, zero, one, max_iterations=150, linear=rows) for _ in range(2)]
    assert torch.equal(results[0].x, results[1].x)
    assert bool((results[0].value <= rosenbrock(x0)).all())
    assert float(rows.violation(results[0].x).max()) < 1e-11
    assert results[0].inverse_hessian is not None


def test_rows_that_stand_still_and_rows_that_leave_give_the_same(device):
    rows, inside = problem(5, 2, "inequalities")
    x0 = starts(rows, inside, 8).to(device)
    rows = LinearRows(rows.A.to(device), rows.low.to(device), rows.high.to(device))
    zero, one = torch.zeros(5).double().to(device), torch.ones(5).double().to(device)
    leaving, staying = (
        minimize(differentiable(rosenbrock), x0, zero, one, max_iterations=80, compact=compact, linear=rows)
        for compact in (True, False)
    )
    torch.testing.assert_close(leaving.value, staying.value, rtol=1e-8, atol=1e-8)
    assert torch.equal(leaving.converged, staying.converged)
    assert staying.evaluations <= max(FIRST_LOOK, LOOKS_FURTHER_APART * leaving.evaluations)


def test_coordinates_frozen_at_different_values_stay_to_the_last_bit():
    rows, inside = problem(5, 2, "inequalities")
    x0 = starts(rows, inside, 6)
    lower, upper = torch.zeros_like(x0), torch.ones_like(x0)
    lower[:, 1:3] = upper[:, 1:3] = x0[:, 1:3]
    result = minimize(differentiable(rosenbrock), x0, lower, upper, max_iterations=80, linear=rows)
    assert torch.equal(result.x[:, 1:3], x0[:, 1:3])
    assert bool((result.value < rosenbrock(x0)).all())
    assert float(rows.violation(result.x).max()) < 1e-12


def test_loose_constraints_change_nothing_but_the_steps():
    d = 4
    rows = LinearRows(torch.full((1, d), 0.5).double(), torch.tensor([-9.0]).double(), torch.tensor([9.0]).double())
    x0 = torch.rand(6, d, generator=generator(0), dtype=torch.double)
    zero, one = torch.zeros(d).double(), torch.ones(d).double()
    options = {"max_iterations": 300, "gradient_tolerance": 1e-8, "value_tolerance": 1e-14}
    within = minimize(differentiable(rosenbrock), x0, zero, one, linear=rows, **options)
    box = minimize(differentiable(rosenbrock), x0, zero, one, **options)
    torch.testing.assert_close(within.value, box.value, rtol=0, atol=1e-8)

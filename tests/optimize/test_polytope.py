"""Polytopes: emptiness, flatness, exact projections, and samples with the moments of the uniform distribution."""

import pytest
import torch
from botorch.exceptions.errors import InfeasibilityError, UnsupportedError
from scipy.optimize import LinearConstraint
from scipy.optimize import minimize as scipy_minimize

from gpu_gs.optimize.feasible import FeasibleSet
from gpu_gs.optimize.hit_and_run import uniform
from gpu_gs.optimize.polytope import Constraints, Polytope


def tuples(*rows):
    return [(torch.tensor(indices), torch.tensor(coefficients).double(), rhs) for indices, coefficients, rhs in rows]


def constraints(*inequalities, equal=(), names=None):
    return Constraints.of(tuples(*inequalities), tuples(*equal), names)


def box(d, device="cpu"):
    return torch.zeros(d, dtype=torch.double, device=device), torch.ones(d, dtype=torch.double, device=device)


def generator(seed=0, device="cpu"):
    return torch.Generator(device=device).manual_seed(seed)


def simplex(d):
    return constraints((list(range(d)), [-1.0] * d, -1.0))


def many(polytope, seeds=20, device="cpu"):
    return torch.cat([uniform(polytope, 1024, generator(seed, device)) for seed in range(seeds)])


@pytest.mark.parametrize(("d", "tolerance"), [(2, 0.05), (6, 0.07), (10, 0.12)])
def test_samples_of_a_simplex_have_its_mean_and_covariance(d, tolerance, device):
    polytope = Polytope.of(*box(d, device), simplex(d))
    X = many(polytope, device=device).cpu()  # by rejection for d = 2, by chains for the others
    covariance = X.T.cov()
    expected = (torch.eye(d) * (d + 1) - 1).double() / ((d + 1) ** 2 * (d + 2))  # a Dirichlet distribution's
    torch.testing.assert_close(X.mean(0), torch.full((d,), 1 / (d + 1)).double(), rtol=0.03, atol=0)
    torch.testing.assert_close(covariance, expected, rtol=0, atol=tolerance * float(expected[0, 0]))
    assert float(polytope.violation(X.to(device)).max()) <= 1e-14


@pytest.mark.parametrize("width", [1e-2, 1e-4, 1e-6])
def test_a_thin_polytope_is_filled_along_and_across(width):
    # |x_0 - x_1| <= width and |x_1 - x_2| <= width: a share of about 4 width^2 of the box.
    pairs = [([0, 1], [1.0, -1.0]), ([0, 1], [-1.0, 1.0]), ([1, 2], [1.0, -1.0]), ([1, 2], [-1.0, 1.0])]
    polytope = Polytope.of(*box(6), constraints(*((i, c, -width) for i, c in pairs)))
    X = many(polytope)
    across = (X[:, 0] - X[:, 1]) / width
    assert float(across.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(across.var()) == pytest.approx(1 / 3, rel=0.04)
    for along in (X[:, 1], X[:, 4]):
        assert float(along.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(along.var()) == pytest.approx(1 / 12, rel=0.04)
    assert float(polytope.violation(X).max()) < 1e-14


def test_equations_are_met_and_their_plane_is_filled():
    # x_0 + x_1 + x_2 = 1 is a triangle: each coordinate has mean 1/3 and variance 1/18.
    polytope = Polytope.of(*box(4), constraints(equal=[([0, 1, 2], [1.0, 1.0, 1.0], 1.0)]))
    X = many(polytope)
    assert polytope.spread.shape == (3, 4)
    assert float((X[:, :3].sum(-1) - 1).abs().max()) < 1e-13
    torch.testing.assert_close(X[:, :3].mean(0), torch.full((3,), 1 / 3).double(), rtol=0.03, atol=0)
    torch.testing.assert_close(X[:, :3].var(0), torch.full((3,), 1 / 18).double(), rtol=0.06, atol=0)


def test_inequalities_that_leave_a_plane_or_a_point_are_equations():
    line = Polytope.of(*box(2), constraints(([0, 1], [1.0, 1.0], 1.0), ([0, 1], [-1.0, -1.0], -1.0)))
    X = many(line, 4)
    assert float((X.sum(-1) - 1).abs().max()) < 1e-13
    assert float(X[:, 0].var()) == pytest.approx(1 / 12, rel=0.1)
    # Three inequalities of which no two are alike: x_0 >= x_1 >= x_2 >= x_0.
    cycle = constraints(([0, 1], [1.0, -1.0], 0.0), ([1, 2], [1.0, -1.0], 0.0), ([2, 0], [1.0, -1.0], 0.0))
    X = many(Polytope.of(*box(3), cycle), 4)
    assert float((X - X[:, :1]).abs().max()) < 1e-9
    assert float(X[:, 0].var()) == pytest.approx(1 / 12, rel=0.1)
    corner = Polytope.of(*box(2), constraints(([0, 1], [1.0, 1.0], 2.0)))
    assert uniform(corner, 3, generator()).tolist() == [[1.0, 1.0]] * 3


@pytest.mark.parametrize(
    "empty",
    [
        constraints(([0, 1], [1.0, 1.0], 2.001)),
        constraints(([0, 1], [1.0, 1.0], 1.5), ([0], [-1.0], -0.4)),
        constraints(equal=[([0], [1.0], 3.0)]),
        constraints(equal=[([0, 1], [1.0, 1.0], 1.0), ([0, 1], [1.0, 1.0], 1.1)]),
        constraints(([0, 1], [1.0, 1.0], 1.0), ([0, 1], [-1.0, -1.0], -0.9)),
    ],
)
def test_an_empty_polytope_is_an_error_that_names_the_constraints(empty):
    named = Constraints(empty.inequalities, empty.equalities, ("width", "height"))
    with pytest.raises(InfeasibilityError, match=r"The parameter constraints allow no point: 1 width.*"):
        Polytope.of(*box(2), named)


def test_fixed_values_that_leave_nothing_are_an_error():
    lower, upper = box(2)
    lower[:] = upper[:] = 0.25
    with pytest.raises(InfeasibilityError, match="allow no point with these fixed values"):
        Polytope.of(lower, upper, constraints(([0, 1], [1.0, 1.0], 1.0)))
    assert Polytope.of(lower, upper, constraints(([0, 1], [1.0, 1.0], 0.5))).spread.shape == (0, 2)


def test_constraints_between_candidates_are_refused():
    row = (torch.tensor([[0, 0], [1, 0]]), torch.ones(2).double(), 1.0)
    with pytest.raises(UnsupportedError, match="between candidates"):
        Constraints.of([row], None)


def test_points_outside_are_moved_to_the_nearest_inside_and_the_others_left_alone():
    lower, upper = torch.tensor([-1.0, 0.0, 10.0]).double(), torch.tensor([1.0, 5.0, 30.0]).double()
    polytope = Polytope.of(
        lower, upper, constraints(([0, 1, 2], [-1.0, -0.5, -0.1], -3.0), ([0, 1], [1.0, -1.0], -2.0))
    )
    X = lower + (upper - lower) * torch.rand(60, 3, generator=generator(), dtype=torch.double)
    Y = polytope.inside(X)
    before = polytope.feasible(X)
    assert 5 < int(before.sum()) < 50
    assert torch.equal(Y[before], X[before])
    assert float(polytope.violation(Y).max()) <= 1e-13
    rows = LinearConstraint(polytope.rows.A.numpy(), polytope.rows.low.numpy(), polytope.rows.high.numpy())
    for x, y in zip(polytope.to_units(X[~before])[:10], polytope.to_units(Y[~before]), strict=False):
        nearest = scipy_minimize(
            lambda z, x: ((z - x) ** 2).sum(), x, (x.numpy(),), bounds=[(0, 1)] * 3, constraints=[rows], tol=1e-14
        )
        torch.testing.assert_close(y, torch.as_tensor(nearest.x), rtol=0, atol=1e-6)


def test_samples_are_a_function_of_the_generator_and_the_polytope_is_made_once():
    polytope = Polytope.of(*box(6), simplex(6))
    assert Polytope.of(*box(6), simplex(6)) is polytope
    one, again, other = (uniform(polytope, 100, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_scales_far_from_one_are_no_matter():
    lower, upper = torch.tensor([0.0, 1e-6]).double(), torch.tensor([1e6, 2e-6]).double()
    polytope = Polytope.of(lower, upper, constraints(([0, 1], [-1.0, -1e12], -2e6)))
    X = uniform(polytope, 500, generator())
    assert bool((X[:, 0] + 1e12 * X[:, 1] <= 2e6 * (1 + 1e-12)).all())
    assert float(X[:, 0].max()) > 0.9e6


def values(count):
    return torch.arange(count).double()


def test_discrete_samples_have_allowed_values_and_the_continuous_make_up_for_them():
    lower, upper = torch.zeros(3).double(), torch.tensor([4.0, 4.0, 10.0]).double()
    discrete = {0: values(5), 1: values(5)}
    feasible = FeasibleSet.of(lower, upper, constraints(equal=[([0, 1, 2], [1.0, 1.0, 1.0], 7.5)]), discrete)
    X = feasible.samples(200, generator())
    assert len(X) == 200
    assert bool((X[:, :2] == X[:, :2].round()).all())
    assert float((X.sum(-1) - 7.5).abs().max()) < 1e-12
    assert len(X[:, :2].unique(dim=0)) > 15


def test_discrete_samples_of_a_tight_equation_are_found():
    lower, upper = torch.zeros(4).double(), torch.full((4,), 9.0).double()
    discrete = {index: values(10) for index in range(4)}
    feasible = FeasibleSet.of(lower, upper, constraints(equal=[([0, 1, 2, 3], [1.0] * 4, 20.0)]), discrete)
    X = feasible.samples(100, generator())
    assert len(X) == 100
    assert bool((X.sum(-1) == 20).all())


def test_what_no_sample_meets_a_program_finds_and_what_no_value_meets_is_an_error():
    lower, upper = torch.zeros(3).double(), torch.tensor([1000.0, 1000.0, 1.0]).double()
    odd = torch.tensor([0.0, 0.25, 1.0]).double()
    discrete = {0: values(1001), 1: values(1001), 2: odd}

    def within(rhs):
        row = ([0, 1, 2], [997.0, 991.0, 1.0], rhs)
        return FeasibleSet.of(lower, upper, constraints(equal=[row], names="abc"), discrete)

    X = within(997.0 * 3 + 991.0 * 5 + 0.25).samples(4, generator())
    assert X.unique(dim=0).tolist() == [[3.0, 5.0, 0.25]]
    with pytest.raises(InfeasibilityError, match=r"no point of the discrete values: 997 a \+ 991 b \+ 1 c = 0\.5"):
        within(0.5).samples(4, generator())


def test_neighbours_of_discrete_points_keep_an_equation_by_changing_two():
    lower, upper = torch.zeros(3).double(), torch.tensor([4.0, 4.0, 4.0]).double()
    discrete = {index: values(5) for index in range(3)}
    feasible = FeasibleSet.of(lower, upper, constraints(equal=[([0, 1, 2], [1.0, 2.0, 1.0], 6.0)]), discrete)
    X = torch.tensor([[2.0, 1.0, 2.0]]).double()
    around = feasible.neighbours(X, X.unsqueeze(1))[0]
    kept = around[feasible.polytope.feasible(around)].unique(dim=0).tolist()
    assert kept == [[0.0, 2.0, 2.0], [1.0, 1.0, 3.0], [2.0, 0.0, 4.0], [2.0, 1.0, 2.0], [2.0, 2.0, 0.0], [3.0, 1.0, 1.0], [4.0, 0.0, 2.0]]  # fmt: skip

"""Acquisition functions under linear constraints: as high as BoTorch's SLSQP from the same starts, and feasible."""

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement, qLogNoisyExpectedImprovement
from botorch.exceptions.errors import InfeasibilityError
from botorch.optim import optimize_acqf

from gpu_gs import maximize_acquisition
from gpu_gs.optimize.candidates import optimize_acquisition, raw_samples_of
from gpu_gs.optimize.hit_and_run import uniform
from gpu_gs.optimize.polytope import Constraints, Polytope
from tests.optimize.test_candidates import Peaks
from tests.optimize.test_maximize import fitted, unit_box
from tests.optimize.test_polytope import box, generator, tuples, values


def on_data(model, kind, d):
    """Constraints that cut through the model's best points: inequalities and equations of BoTorch's form."""
    best = model.train_inputs[0][model.train_targets.argmax()].clamp(0.05, 0.95)
    everything = list(range(d))
    if kind == "two":
        rows = [([0, 1], [-1.0, -1.0], -float(best[:2].sum()) + 0.05), (everything, [1.0] * d, float(best.sum()) - 0.1)]
        return tuples(*rows), None
    if kind == "four":
        made = generator(1)
        A = torch.randn(4, d, generator=made, dtype=torch.double)
        return tuples(*((everything, row.tolist(), float(row @ best) - 0.02) for row in A)), None
    if kind == "tight":  # a slab of a thousandth of the box's width around the best point, and an order
        share = 0.001 * d**0.5
        rows = [
            (everything, [1.0] * d, float(best.sum()) - share),
            (everything, [-1.0] * d, -float(best.sum()) - share),
        ]
        sign = 1.0 if best[0] >= best[1] else -1.0
        return tuples(*rows, ([0, 1], [sign, -sign], 0.0)), None
    return tuples(([0, 1], [1.0, -1.0], float(best[0] - best[1]) - 0.1)), tuples(
        (everything, [1.0] * d, float(best.sum()))
    )


@pytest.mark.filterwarnings("ignore:Optimization failed in:RuntimeWarning")  # SLSQP
@pytest.mark.parametrize("kind", ["two", "four", "tight", "equation"])
@pytest.mark.parametrize("name", ["branin", "levy", "hartmann", "ackley"])
def test_optima_are_at_least_as_good_as_botorchs_from_the_same_starts(name, kind):
    model = fitted(name)
    d = model.train_inputs[0].shape[-1]
    acqf = LogExpectedImprovement(model, best_f=model.train_targets.max())
    inequalities, equations = on_data(model, kind, d)
    linear = {"inequality_constraints": inequalities, "equality_constraints": equations}
    polytope = Polytope.of(*box(d), Constraints.of(**linear))
    best = polytope.inside(model.train_inputs[0][model.train_targets.topk(4).indices])
    starts = torch.cat([uniform(polytope, 6, generator()), best])
    _, theirs = optimize_acqf(
        acqf,
        unit_box(d),
        q=1,
        num_restarts=len(starts),
        batch_initial_conditions=starts.unsqueeze(1),
        options={"maxiter": 200},
        **linear,
    )
    candidate, ours = maximize_acquisition(acqf, unit_box(d), starts=starts, iterations=200, **linear)
    # SLSQP's best may lie outside by its own tolerance; half a percent of the improvement allows for that.
    assert float(ours) >= float(theirs) - 0.005
    assert float(polytope.violation(candidate).max()) <= 1e-9
    assert bool(((candidate >= 0) & (candidate <= 1)).all())
    torch.testing.assert_close(acqf(candidate.unsqueeze(1)).detach(), ours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["two", "tight", "equation"])
def test_own_raw_samples_reach_at_least_what_botorch_reaches_with_its_own(kind):
    model = fitted("hartmann")
    acqf = LogExpectedImprovement(model, best_f=model.train_targets.max())
    inequalities, equations = on_data(model, kind, 6)
    linear = {"inequality_constraints": inequalities, "equality_constraints": equations}
    polytope = Polytope.of(*box(6), Constraints.of(**linear))
    candidate, ours = maximize_acquisition(acqf, unit_box(6), seed=1, **linear)
    again, _ = maximize_acquisition(acqf, unit_box(6), seed=1, **linear)
    starts = uniform(polytope, 1000, generator(5))
    starts = starts[acqf(starts.unsqueeze(1)).topk(10).indices]
    _, theirs = optimize_acqf(acqf, unit_box(6), 1, len(starts), batch_initial_conditions=starts.unsqueeze(1), **linear)
    assert float(ours) >= float(theirs) - 0.01
    assert torch.equal(candidate, again)


def test_every_raw_sample_satisfies_the_constraints_also_around_anchors_outside(device):
    lower, upper = box(3, device)
    rows = tuples(([0, 1, 2], [-1.0, -1.0, -1.0], -0.5))
    anchors = torch.tensor([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]]).double().to(device)
    X = raw_samples_of(lower, upper, count=64, seed=0, anchors=anchors, inequality_constraints=rows)
    assert len(X) == 64 + 100
    assert bool((X.sum(-1) <= 0.5 + 1e-12).all())
    assert bool(((X >= 0) & (X <= 1)).all())


def test_the_higher_peak_that_is_allowed_wins_and_a_peak_outside_is_approached_to_the_constraint(device):
    lower, upper = box(2, device)
    left = tuples(([0], [-1.0], -0.5))
    result = optimize_acquisition(Peaks(), lower, upper, raw_samples=256, inequality_constraints=left)
    torch.testing.assert_close(result.x.cpu(), torch.tensor([0.2, 0.7]).double(), rtol=0, atol=0.01)
    near = tuples(([0, 1], [-1.0, -1.0], -1.0))  # the peak at (0.8, 0.3) lies beyond by 0.1
    result = optimize_acquisition(Peaks(), lower, upper, raw_samples=256, inequality_constraints=near)
    torch.testing.assert_close(result.x.cpu(), torch.tensor([0.75, 0.25]).double(), rtol=0, atol=0.01)


def test_fixed_coordinates_take_part_in_constraints():
    rows = tuples(([0, 1], [-1.0, -1.0], -1.0))
    result = optimize_acquisition(Peaks(), *box(2), fixed={0: 0.8}, inequality_constraints=rows)
    assert float(result.x[0]) == 0.8
    assert float(result.x[1]) == pytest.approx(0.2, abs=1e-6)
    with pytest.raises(InfeasibilityError, match="fixed values"):
        optimize_acquisition(Peaks(), *box(2), fixed={0: 0.8, 1: 0.8}, inequality_constraints=rows)


class Bowl:
    """Minus the squared distance to a point."""

    def __init__(self, *target):
        self.target = torch.tensor(target).double()

    def value(self, X):
        return -((X - self.target) ** 2).sum(-1)

    def value_and_grad(self, X):
        return self.value(X), -2 * (X - self.target)


def brute_force(bowl, grids, feasible):
    points = torch.cartesian_prod(*grids)
    points = points[feasible(points)]
    return float(bowl.value(points).max())


@pytest.mark.parametrize("seed", range(3))
def test_ints_alone_reach_the_best_feasible_point(seed):
    bowl = Bowl(6.3, 5.2, 1.1)
    discrete = {index: values(10) for index in range(3)}
    lower, upper = torch.zeros(3).double(), torch.full((3,), 9.0).double()
    rows = tuples(([0, 1], [-1.0, -1.0], -8.0), ([2, 0], [1.0, -1.0], -3.0))
    result = optimize_acquisition(
        bowl, lower, upper, raw_samples=16, restarts=4, seed=seed, discrete=discrete, inequality_constraints=rows
    )
    expected = brute_force(bowl, [values(10)] * 3, lambda X: (X[:, 0] + X[:, 1] <= 8) & (X[:, 2] - X[:, 0] >= -3))
    assert result.value == pytest.approx(expected, abs=1e-12)
    assert float(result.x[:2].sum()) <= 8 and float(result.x[2] - result.x[0]) >= -3


@pytest.mark.parametrize("seed", range(3))
def test_an_equation_of_ints_is_kept_while_they_move(seed):
    bowl = Bowl(2.2, 8.6, 9.0)
    discrete = {index: values(10) for index in range(3)}
    lower, upper = torch.zeros(3).double(), torch.full((3,), 9.0).double()
    equation = tuples(([0, 1, 2], [1.0, 1.0, 1.0], 12.0))
    result = optimize_acquisition(
        bowl, lower, upper, raw_samples=8, restarts=2, seed=seed, discrete=discrete, equality_constraints=equation
    )
    expected = brute_force(bowl, [values(10)] * 3, lambda X: X.sum(-1) == 12)
    assert result.value == pytest.approx(expected, abs=1e-12)


def test_a_float_makes_up_for_an_int_in_an_equation_and_an_inequality():
    bowl = Bowl(3.4, 0.45)
    lower, upper = torch.zeros(2).double(), torch.tensor([9.0, 4.0]).double()
    equation = tuples(([0, 1], [1.0, 1.0], 4.25))
    result = optimize_acquisition(bowl, lower, upper, discrete={0: values(10)}, equality_constraints=equation)
    assert result.x.tolist() == pytest.approx([4.0, 0.25], abs=1e-9)
    rows = tuples(([0, 1], [-1.0, -2.0], -3.5))
    result = optimize_acquisition(bowl, lower, upper, discrete={0: values(10)}, inequality_constraints=rows)
    assert result.x.tolist() == pytest.approx([3.0, 0.25], abs=1e-6)


def test_rounded_points_that_break_a_constraint_are_mended_or_dropped():
    def rounded(X):
        return torch.stack([X[:, 0].round(), X[:, 1]], -1)

    bowl = Bowl(3.6, 0.9)
    lower, upper = torch.zeros(2).double(), torch.tensor([9.0, 4.0]).double()
    rows = tuples(([0, 1], [-1.0, -1.0], -4.1))
    result = optimize_acquisition(bowl, lower, upper, post_process=rounded, inequality_constraints=rows)
    assert float(result.x.sum()) <= 4.1 + 1e-9  # (3.4, 0.7) without rounding, (4.0, 0.1) mended
    assert float(result.x[0]) in (3.0, 4.0)


def test_where_no_rounded_point_is_feasible_the_error_says_so():
    rows = tuples(([0], [1.0], 0.2), ([0], [-1.0], -0.8))
    with pytest.raises(InfeasibilityError, match=r"after rounding: 1 x\[0\] >= 0\.2; -1 x\[0\] >= -0\.8"):
        optimize_acquisition(Peaks(), *box(2), post_process=torch.round, inequality_constraints=rows)


def test_points_to_avoid_are_avoided_within_the_constraints():
    rows = tuples(([0, 1], [-1.0, -1.0], -1.0))
    first = optimize_acquisition(Peaks(), *box(2), raw_samples=64, inequality_constraints=rows)
    other = optimize_acquisition(Peaks(), *box(2), raw_samples=64, inequality_constraints=rows, avoid=first.x[None])
    assert not torch.equal(first.x, other.x)
    assert float(other.x.sum()) <= 1 + 1e-9


def test_several_candidates_are_all_feasible():
    model = fitted("branin")
    acqf = qLogNoisyExpectedImprovement(model, model.train_inputs[0])
    rows = tuples(([0, 1], [-1.0, -1.0], -0.8))
    candidates, _ = maximize_acquisition(acqf, unit_box(2), q=3, raw_samples=64, inequality_constraints=rows)
    assert len(candidates.unique(dim=0)) == 3
    assert bool((candidates.sum(-1) <= 0.8 + 1e-9).all())


def test_the_global_generator_is_left_alone(random_state_untouched):
    rows = tuples(([0, 1, 2, 3, 4, 5], [-1.0] * 6, -0.3))
    optimize_acquisition(Bowl(*[0.5] * 6), *box(6), raw_samples=64, inequality_constraints=rows)

"""Discrete coordinates: options of one or several columns, neighbours, enumeration, and as high as BoTorch's optimizer."""

import itertools
import math

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.models import SingleTaskGP
from botorch.models.transforms.input import Normalize
from botorch.optim.optimize_mixed import optimize_acqf_mixed_alternating

from gpu_gs.acquisition.logei import LogEI
from gpu_gs.gp.fit import fit
from gpu_gs.gp.posterior import state_from_model
from gpu_gs.optimize import candidates
from gpu_gs.optimize.candidates import optimize_acquisition
from gpu_gs.optimize.discrete import DiscreteSpace, best_neighbours

THREE = torch.tensor([0.0, 1.0, 5.0], dtype=torch.double)


def tensor(values, device="cpu"):
    return torch.tensor(values, dtype=torch.double, device=device)


def make_space(device="cpu"):
    """A float, an ordered coordinate and a one-hot encoded choice of three."""
    lower, upper = tensor([0.0, 0, 0, 0, 0], device), tensor([1.0, 5, 1, 1, 1], device)
    return DiscreteSpace.of(lower, upper, {1: THREE.to(device)}, one_hot=[[2, 3, 4]]), lower, upper


class Table:
    """A function of points that counts its calls and points."""

    def __init__(self, function):
        self.function = function
        self.calls = self.points = self.gradients = 0

    def value(self, X):
        self.calls += 1
        self.points += len(X)
        return self.function(X)

    def value_and_grad(self, X):
        self.gradients += 1
        X = X.detach().requires_grad_(True)
        value = self.function(X)
        (gradient,) = torch.autograd.grad(value.sum(), X)
        return value.detach(), gradient


# ---------------------------------------------------------------------- spaces


def test_points_are_snapped_to_the_nearest_option_and_the_other_columns_stay(device):
    space, _, _ = make_space(device)
    X = tensor([[0.3, 2.9, 0.2, 0.4, 0.3], [0.7, 3.1, 1.0, 0.0, 0.0], [0.1, -4.0, 0.0, 0.0, 9.0]], device)
    expected = tensor([[0.3, 1, 0, 1, 0], [0.7, 5, 1, 0, 0], [0.1, 0, 0, 0, 1]], device)
    assert torch.equal(space.snap_(X.clone()), expected)


def test_an_ordered_coordinate_of_a_million_values_is_snapped_in_little_memory():
    values = torch.arange(1_000_000, dtype=torch.double)
    space = DiscreteSpace.of(tensor([0.0]), tensor([1e6]), {0: values})
    X = 1e6 * torch.rand(5000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    expected = X.round().clamp(0, 999_999)
    assert torch.equal(space.snap_(X.clone()), expected)


def test_drawn_points_take_every_option_about_equally_often(device):
    space, lower, _ = make_space(device)
    X = space.draw_(lower.repeat(6000, 1), torch.Generator(device=device).manual_seed(0))
    shares = torch.stack([(X[:, 1] == value).double().mean() for value in THREE.tolist()] + list(X[:, 2:].mean(0)))
    assert torch.equal(space.snap_(X.clone()), X)
    assert float((shares - 1 / 3).abs().max()) < 0.03  # five standard deviations


def test_the_neighbours_differ_in_one_variable_and_are_all_there(device):
    space, _, _ = make_space(device)
    x = tensor([[0.3, 1, 0, 0, 1]], device)
    around = space.neighbours(x, space.places(x))
    expected = {(0.3, 0, 0, 0, 1), (0.3, 5, 0, 0, 1), (0.3, 1, 1, 0, 0), (0.3, 1, 0, 1, 0)}
    assert {tuple(row) for row in around[0].tolist()} == expected
    assert around.shape[1] == len(expected)


def test_of_many_ordered_values_the_neighbours_are_near_and_far_and_never_the_point_itself():
    space = DiscreteSpace.of(tensor([0.0]), tensor([39.0]), {0: torch.arange(40, dtype=torch.double)})
    x = tensor([[10.0]])
    around = sorted(space.neighbours(x, space.places(x)).flatten().tolist())
    assert set(around) >= {2.0, 6.0, 8.0, 9.0, 11.0, 12.0, 14.0, 18.0, 26.0}
    assert len(set(around)) == len(around) < 15
    assert 10.0 not in around


def test_enumeration_gives_each_combination_once_with_its_own_code(device):
    space, lower, _ = make_space(device)
    X = space.points(0, space.size, lower)
    expected = {(0.0, value, *row) for value, row in itertools.product(THREE.tolist(), torch.eye(3).tolist())}
    assert {tuple(row) for row in X.tolist()} == expected
    assert len(X) == space.size == 9
    assert torch.equal(space.codes(space.places(X)), torch.arange(9, device=device))


def test_fixed_columns_leave_the_options_that_agree_with_them():
    lower, upper = tensor([0.0, 1, 0, 1, 0]), tensor([1.0, 1, 0, 1, 0])
    space = DiscreteSpace.of(lower, upper, {1: THREE}, one_hot=[[2, 3, 4]])
    assert space.size == 1
    assert not space.is_movable
    assert space.points(0, 1, lower).tolist() == [[0, 1, 0, 1, 0]]


def test_the_best_of_each_combination_comes_in_the_order_of_scores():
    space, _, _ = make_space()
    X = tensor([[0.1, 0, 1, 0, 0], [0.2, 0, 1, 0, 0], [0.3, 1, 1, 0, 0], [0.4, 1, 1, 0, 0], [0.5, 5, 1, 0, 0]])
    assert space.best_of_each(X, tensor([1.0, 3, 5, 4, math.nan]), 3).tolist() == [2, 1, 4]


def test_the_search_over_neighbours_ends_where_none_is_better_in_few_calls_of_bounded_size():
    space, _, _ = make_space()
    table = Table(lambda X: -((X[:, 1] - 5) ** 2) + 3 * X[:, 3] - X[:, 0])
    sizes = []

    def value(X):
        sizes.append(len(X))
        return table.value(X)

    x = tensor([[0.3, 0, 1, 0, 0], [0.6, 5, 0, 1, 0]])
    improved, x, values = best_neighbours(value, x, table.function(x), space, chunk=5)
    assert improved
    assert x.tolist() == [[0.3, 5, 0, 1, 0], [0.6, 5, 0, 1, 0]]
    torch.testing.assert_close(values, table.function(x))
    assert max(sizes) <= 5


def test_neighbours_that_are_not_feasible_are_not_moved_to():
    space, _, _ = make_space()
    x = tensor([[0.3, 0, 1, 0, 0]])
    _, moved, _ = best_neighbours(lambda X: X[:, 1], x, x[:, 1], space, feasible=lambda X: X[:, 1] < 5)
    assert float(moved[0, 1]) == 1.0


# ---------------------------------------------------------------------- optimization


def grid_function(X):
    return torch.sin(3 * X[:, 0]) + torch.cos(2.1 * X[:, 1]) + 0.1 * X[:, 0] * X[:, 1]


@pytest.mark.parametrize("post_process", [None, lambda X: X + 0.0, lambda X: X.clamp_max(8.0)])
def test_a_small_discrete_space_is_enumerated_without_a_gradient_and_without_points_to_avoid(post_process):
    values = torch.arange(11, dtype=torch.double)
    grid = torch.cartesian_prod(values, values)
    order = grid_function(grid).argsort(descending=True)
    allowed = [row for row in grid[order] if post_process is None or torch.equal(post_process(row), row)]
    table = Table(grid_function)
    result = optimize_acquisition(
        table,
        tensor([0.0, 0]),
        tensor([10.0, 10]),
        discrete={0: values, 1: values},
        avoid=torch.stack(allowed[:5]),
        post_process=post_process,
    )
    assert torch.equal(result.x, allowed[5])
    assert result.value == pytest.approx(float(grid_function(allowed[5].unsqueeze(0))), abs=1e-12)
    assert not result.exhausted
    assert table.gradients == 0
    assert table.points <= 121 + candidates.SECOND_CHOICES


def test_a_discrete_space_without_a_point_left_says_so():
    values = torch.arange(3, dtype=torch.double)
    result = optimize_acquisition(
        Table(grid_function),
        tensor([0.0, 1.5]),
        tensor([2.0, 1.5]),
        discrete={0: values},
        avoid=tensor([[0.0, 1.5], [1.0, 1.5], [2.0, 1.5]]),
    )
    assert result.exhausted
    left = optimize_acquisition(
        Table(grid_function),
        tensor([0.0, 1.5]),
        tensor([2.0, 1.5]),
        discrete={0: values},
        avoid=tensor([[0.0, 1.5], [1.0, 1.5], [2.0, 0.0]]),  # the last is another point: its fixed value differs
    )
    assert left.x.tolist() == [2.0, 1.5]


def test_a_large_discrete_space_is_searched_around_the_points_to_avoid():
    values = torch.arange(30, dtype=torch.double)
    best = tensor([11.0, 3, 20, 7])

    def bowl(X):
        return -((X - best - tensor([0.0, 0.2, 0, 0])) ** 2).sum(-1)

    d = 4
    lower, upper = torch.zeros(d).double(), torch.full((d,), 29.0).double()
    second = best + tensor([0.0, 1, 0, 0])
    for avoid, expected in ((None, best), (best.unsqueeze(0), second)):
        result = optimize_acquisition(
            Table(bowl), lower, upper, discrete=dict.fromkeys(range(d), values), avoid=avoid, seed=1
        )
        assert torch.equal(result.x, expected)


def test_a_coordinate_of_many_values_ends_at_the_best_of_them_and_not_at_the_nearest_to_the_relaxed_optimum():
    values = torch.arange(1000, dtype=torch.double)

    def ridge(X):  # the optimum of the float moves with the integer
        return -((X[:, 0] - 500.4) ** 2) / 1e4 - 100 * (X[:, 1] - X[:, 0] / 1000) ** 2

    result = optimize_acquisition(Table(ridge), tensor([0.0, 0]), tensor([999.0, 1]), discrete={0: values})
    assert float(result.x[0]) == 500.0
    assert float(result.x[1]) == pytest.approx(0.5, abs=1e-4)


def test_a_one_hot_encoded_choice_is_one_option_of_them_whatever_the_relaxation_promises(device):
    def between(X):  # highest half way between the first two options, else best at the third
        return 4 * X[:, 1] * X[:, 2] + 0.5 * X[:, 3] - (X[:, 0] - 0.3) ** 2

    result = optimize_acquisition(
        Table(between),
        torch.zeros(4, device=device).double(),
        torch.ones(4, device=device).double(),
        one_hot=[[1, 2, 3]],
    )
    assert result.x[1:].tolist() == [0, 0, 1]
    assert float(result.x[0]) == pytest.approx(0.3, abs=1e-3)


def test_the_result_is_a_function_of_the_seed_with_discrete_coordinates_too(device):
    _, lower, upper = make_space(device)

    def run(seed):
        table = Table(lambda X: torch.sin(9 * X[:, 0] + X[:, 1]) + X[:, 3] * X[:, 0])
        return optimize_acquisition(
            table, lower, upper, discrete={1: THREE.to(device)}, one_hot=[[2, 3, 4]], raw_samples=32, seed=seed
        ).x

    assert torch.equal(run(3), run(3))


def test_where_all_refined_points_are_refused_another_combination_of_options_is_refined():
    def two_bowls(X):  # the first option is the better one everywhere
        return X[:, 1] - (X[:, 0] - 0.3) ** 2 - (X[:, 2] * (X[:, 0] - 0.7)).abs() ** 2

    result = optimize_acquisition(
        Table(two_bowls),
        torch.zeros(3).double(),
        torch.ones(3).double(),
        one_hot=[[1, 2]],
        avoid=tensor([[0.3, 1, 0]]),
        also_avoid=lambda X: X[:, 1] == 1,
    )
    assert result.x[1:].tolist() == [0, 1]
    assert float(result.x[0]) == pytest.approx(0.5, abs=1e-4)


# ---------------------------------------------------------------------- quality


def one_hot(index, count):
    return torch.nn.functional.one_hot(index, count).double()


def ackley(n, generator):
    """Three binary and two continuous coordinates (BoTorch's AckleyMixed has 50 and 3)."""
    X = torch.rand(n, 5, generator=generator, dtype=torch.double)
    X[:, :3] = X[:, :3].round()
    f = 20 * torch.exp(-0.2 * (X * X).mean(-1).sqrt()) + torch.exp(torch.cos(2 * math.pi * X).mean(-1))
    return X, f, {0: [0, 1], 1: [0, 1], 2: [0, 1]}, [], [(0, 1)] * 5


def choices(n, generator):
    """Two floats and two choices of five, each combination with another optimum."""
    u = 4 * torch.rand(n, 2, generator=generator, dtype=torch.double) - 2
    k, o = (torch.randint(5, (n,), generator=generator) for _ in range(2))
    angle = 2 * math.pi * k.double() / 5
    center = torch.stack([angle.cos(), angle.sin()], dim=-1)
    f = -((u - center) ** 2).sum(-1) * (1 + 0.5 * ((2 * k + o) % 5)) - torch.sin(3 * u[:, 0] + o)
    X = torch.cat([u, one_hot(k, 5), one_hot(o, 5)], dim=1)
    return X, f, {}, [[2, 3, 4, 5, 6], [7, 8, 9, 10, 11]], [(-2, 2)] * 2 + [(0, 1)] * 10


def mixed(n, generator):
    """Two floats, an integer of eight values and a choice of three."""
    u = torch.rand(n, 2, generator=generator, dtype=torch.double)
    depth = torch.randint(1, 9, (n, 1), generator=generator).double()
    k = torch.randint(3, (n,), generator=generator)
    f = -torch.sin(5 * u[:, 0] + 0.4 * k) - torch.cos(4 * u[:, 1]) - 0.05 * (depth[:, 0] - 5 + k) ** 2
    X = torch.cat([u, depth, one_hot(k, 3)], dim=1)
    return X, f, {2: list(range(1, 9))}, [[3, 4, 5]], [(0, 1), (0, 1), (1, 8), (0, 1), (0, 1), (0, 1)]


@pytest.mark.parametrize("problem", [ackley, choices, mixed])
@pytest.mark.parametrize(("n", "seed"), [(15, 0), (40, 1)])
def test_the_acquisition_value_is_at_least_that_of_botorchs_alternating_optimizer(problem, n, seed):
    X, Y, discrete, groups, bounds = problem(n, torch.Generator().manual_seed(seed))
    box = tensor(bounds).T
    Y = (Y - Y.mean()) / Y.std()
    model = SingleTaskGP(X, Y.unsqueeze(-1), outcome_transform=None, input_transform=Normalize(X.shape[1], bounds=box))
    fit(model)
    model.eval()
    function = LogEI(state_from_model(model), Y.max())
    ours = optimize_acquisition(
        function,
        *box,
        discrete={index: tensor(values) for index, values in discrete.items()},
        one_hot=groups,
        anchors=X[Y.topk(5).indices],
        seed=seed,
    )

    def rounded(points):
        """As Ax rounds candidates: the largest of a group is 1."""
        points = points.clone()
        for group in groups:
            points[..., group] = one_hot(points[..., group].argmax(-1), len(group))
        return points

    torch.manual_seed(seed)
    theirs, _ = optimize_acqf_mixed_alternating(
        LogExpectedImprovement(model, best_f=Y.max()),
        bounds=box,
        discrete_dims=discrete,
        q=1,
        num_restarts=4,
        raw_samples=256,
        post_processing_func=rounded,
    )
    assert torch.equal(rounded(ours.x), ours.x)
    assert ours.value == pytest.approx(float(function.value(ours.x.unsqueeze(0))), abs=1e-9)
    assert ours.value >= float(function.value(theirs)) - 0.01


class Bowl:
    """Highest at 3 and 0.5, which is no allowed value of the first coordinate."""

    top = tensor([3.0, 0.5])

    def value(self, X):
        return -((X - self.top) ** 2).sum(-1)

    def value_and_grad(self, X):
        return self.value(X), -2 * (X - self.top)


def test_points_that_are_refined_whatever_their_values_take_allowed_values_too():
    result = optimize_acquisition(
        Bowl(), tensor([1.0, 0.0]), tensor([8.0, 1.0]), discrete={0: tensor([1, 2, 4, 8])}, also=tensor([[3.0, 0.5]])
    )
    assert float(result.x[0]) in (2.0, 4.0)
    assert result.value == pytest.approx(-1.0, abs=1e-6)


def test_a_start_that_is_to_be_avoided_is_no_result():
    values = {j: torch.arange(40.0, dtype=torch.double) for j in range(3)}  # too many points to be enumerated
    center = tensor([20.0, 20.0, 20.0])

    class Peak:
        def value(self, X):
            return -((X - center) ** 2).sum(-1)

    result = optimize_acquisition(
        Peak(), torch.zeros(3, dtype=torch.double), tensor([39.0] * 3), discrete=values, avoid=center[None],
        also=center[None], restarts=1, raw_samples=8,
    )  # fmt: skip
    assert result.value == pytest.approx(-1.0)

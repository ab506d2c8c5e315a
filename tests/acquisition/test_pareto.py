"""Fronts and cells against BoTorch's partitionings and hypervolume, and against what makes a partition one."""

import pytest
import torch
from botorch.utils.multi_objective.box_decompositions import (
    FastNondominatedPartitioning,
    NondominatedPartitioning,
)
from botorch.utils.multi_objective.hypervolume import Hypervolume
from botorch.utils.multi_objective.pareto import is_non_dominated

from gpu_gs.acquisition import pareto
from gpu_gs.acquisition.pareto import Partitions, cells, cells_above, extended, fronts, hypervolume, nondominated


def clouds(S, n, m, seed=0, device="cpu"):
    """Points whose fronts hold a good part of them, of different sizes. shape: (S, n, m)"""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(S, n, m, generator=generator, dtype=torch.double).abs()
    radius = 1 - 0.3 * torch.rand(S, n, 1, generator=generator, dtype=torch.double).sqrt()
    return (radius * directions / directions.norm(dim=-1, keepdim=True)).to(device)


def coarse(S, n, m, seed=0, device="cpu"):
    """Points on a grid of step 1/4: full of ties and duplicates, some on the reference point 0. shape: (S, n, m)"""
    return (clouds(S, n, m, seed, device) * 4).round() / 4


def zero(Y):
    return Y.new_zeros(Y.shape[-1])


def inside(points, lower, upper):
    """How many cells of its draw hold each point. shape: (S, p, m) -> (S, p)"""
    points = points.unsqueeze(2)
    return ((points >= lower.unsqueeze(1)) & (points < upper.unsqueeze(1))).all(-1).sum(-1)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("make", [clouds, coarse])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_nondominated_points_are_botorchs_in_each_draw(n, make, m, device):
    Y = make(3, n, m, device=device)
    assert torch.equal(nondominated(Y), torch.stack([is_non_dominated(draw) for draw in Y]))


@pytest.mark.parametrize("m", [2, 3])
def test_nondominated_points_are_the_same_when_draws_are_compared_a_few_at_a_time(m, monkeypatch):
    Y = clouds(5, 40, m)
    expected = nondominated(Y)
    monkeypatch.setattr(pareto, "PAIRS", 2 * 40**2)
    assert torch.equal(nondominated(Y), expected)


@pytest.mark.parametrize("m", [2, 3])
def test_a_point_with_nan_is_dominated_and_dominates_nothing(m):
    Y = clouds(2, 200, m)
    Y[:, 3, 0], Y[:, 5] = torch.nan, torch.nan
    rest = [i for i in range(200) if i not in (3, 5)]
    got = nondominated(Y)
    assert not got[:, [3, 5]].any()
    assert torch.equal(got[:, rest], nondominated(Y[:, rest]))


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("make", [clouds, coarse])
def test_cells_are_disjoint_and_cover_what_no_point_dominates(make, m, device):
    S, n = 4, 25
    Y = make(S, n, m, device=device)
    lower, upper = cells(Y, zero(Y))
    generator = torch.Generator().manual_seed(1)
    points = 1.2 * torch.rand(S, 2000, m, generator=generator, dtype=torch.double).to(device)
    points = torch.cat([points, Y, Y * 0.999, lower, torch.full_like(Y[:, :1], 1e6)], 1)  # corners and edges too
    counted = (zero(Y) < Y).all(-1)
    dominated = ((Y.unsqueeze(1) > points.unsqueeze(2)).all(-1) & counted.unsqueeze(1)).any(-1)
    assert torch.equal(inside(points, lower, upper), (~dominated).long())


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("make", [clouds, coarse])
def test_hypervolume_is_botorchs(make, m, device):
    Y = make(3, 40, m, device=device)
    reference = torch.full((m,), 0.1, dtype=torch.double, device=device)
    sizes = []
    for draw, volume in zip(Y, hypervolume(Y, reference), strict=True):
        front = draw[is_non_dominated(draw)]
        sizes.append(len(front))
        assert float(volume) == pytest.approx(Hypervolume(reference).compute(front), rel=1e-12)
    assert make is coarse or len(set(sizes)) > 1  # fronts of different sizes, hence padded


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("theirs", [FastNondominatedPartitioning, NondominatedPartitioning])
def test_cells_leave_as_much_of_a_box_as_botorchs(theirs, m):
    Y = clouds(1, 12, m)
    top = torch.full((m,), 1.5, dtype=torch.double)

    def volume(lower, upper):
        return (torch.minimum(upper, top) - torch.minimum(lower, top)).prod(-1).sum()

    expected = volume(*theirs(ref_point=zero(Y), Y=Y[0]).get_hypercell_bounds())
    lower, upper = cells(Y, zero(Y))
    torch.testing.assert_close(volume(lower[0], upper[0]), expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("m", [2, 3])
def test_cells_are_as_few_as_can_be(m):
    Y = clouds(1, 80, m)
    F = int(nondominated(Y).sum())
    lower, upper = cells(Y, zero(Y))
    assert lower.shape[1] == (F + 1 if m == 2 else 2 * F + 1)
    assert bool((lower < upper).all())
    assert bool(upper[..., 0 if m > 2 else 1].isinf().all())


def test_cells_of_four_objectives_are_no_more_than_botorchs():
    Y = clouds(1, 60, 4)
    assert (
        cells(Y, zero(Y))[0].shape[1] <= FastNondominatedPartitioning(zero(Y), Y=Y[0]).get_hypercell_bounds().shape[1]
    )


@pytest.mark.parametrize("m", [2, 3, 4])
def test_points_that_do_not_count_change_nothing(m, device):
    Y = clouds(3, 20, m, device=device)
    reference = torch.full((m,), 0.2, dtype=torch.double, device=device)
    expected = cells(Y, reference)
    on_it, below, better, unknown = Y.clone(), Y.clone(), Y + 1, Y + 1
    on_it[..., 0], below[..., m - 1], unknown[..., 1] = 0.2, 0.1, torch.nan
    more = torch.cat([better, Y, on_it, below, unknown, Y], 1)
    valid = torch.ones(more.shape[:2], dtype=torch.bool, device=device)
    valid[:, :20] = False
    for got, bound in zip(cells(more, reference, valid), expected, strict=True):
        assert torch.equal(got, bound)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_cells_do_not_depend_on_the_order_of_the_points(m):
    Y = coarse(2, 60, m)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    for got, bound in zip(cells(Y[:, order], zero(Y)), cells(Y, zero(Y)), strict=True):
        assert torch.equal(got, bound)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_no_point_leaves_one_cell_and_one_point_leaves_m(m, device):
    reference = torch.arange(m, dtype=torch.double, device=device)
    nothing = cells(reference.new_zeros(2, 0, m), reference)
    below = cells(reference.expand(2, 3, m), reference)
    for lower, upper in (nothing, below):
        assert torch.equal(lower, reference.expand(2, 1, m))
        assert bool(upper.isinf().all())
    lower, _ = cells((reference + 1).expand(2, 1, m), reference)
    assert lower.shape == (2, m, m)
    Y = reference.new_zeros(2, 0, m)
    assert torch.equal(hypervolume(Y, reference), reference.new_zeros(2))
    assert hypervolume((reference + 2).expand(2, 1, m), reference).tolist() == [2.0**m] * 2


@pytest.mark.parametrize("m", [2, 3, 4])
def test_a_draw_without_a_front_is_padded_to_the_others(m):
    Y = clouds(3, 10, m)
    Y[1] = -Y[1]
    lower, upper = cells(Y, zero(Y))
    real = (lower < upper).all(-1)
    assert real.sum(-1).tolist()[1] == 1
    assert torch.equal(lower[1][real[1]], torch.zeros(1, m, dtype=torch.double))
    assert bool(upper[1][real[1]].isinf().all())
    assert bool(lower.isfinite().all())
    if m == 2:  # a staircase for all that, empty cells included
        assert torch.equal(upper[:, :-1, 0], lower[:, 1:, 0])
        assert bool((lower[..., 1].diff(dim=-1) <= 0).all()) and bool(upper[..., 1].isinf().all())


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("at_once", [1, 3])
def test_more_points_in_each_draw_give_the_cells_of_all_points(at_once, draws, m, device):
    Y, new = clouds(4, 30, m, device=device), clouds(4, 6, m, seed=5, device=device) * 1.05
    Y = Y[:draws]
    reference = torch.full((m,), 0.1, dtype=torch.double, device=device)
    new[1, 0], new[2, 1], new[3, 2] = 0.05, 0.3, Y[-1, 0]  # below the reference point, dominated, known
    lower, upper = cells(Y, reference)
    for some in new.split(at_once, 1):
        lower, upper = extended(lower, upper, some)
    everything = torch.cat([Y.expand(4, -1, -1), new], 1)
    points = 1.3 * torch.rand(4, 2000, m, generator=torch.Generator().manual_seed(3), dtype=torch.double).to(device)
    assert torch.equal(inside(points, lower, upper), inside(points, *cells(everything, reference)))
    real = (lower < upper).all(-1)
    assert int(real.sum(-1).max()) == lower.shape[1]


def test_cells_of_two_objectives_extended_by_a_point_are_those_cut_anew():
    Y, new = clouds(3, 20, 2), clouds(3, 1, 2, seed=4)
    got = extended(*cells(Y, zero(Y)), new)
    for bound, expected in zip(got, cells(torch.cat([Y, new], 1), zero(Y)), strict=True):
        assert torch.equal(bound, expected)


def test_partitions_cut_again_only_when_a_front_or_the_reference_point_changed(monkeypatch):
    cuts = []
    monkeypatch.setattr(pareto, "cells_above", lambda *arguments: cuts.append(1) or cells_above(*arguments))
    Y, kept = clouds(1, 30, 3), Partitions()
    first = kept.cells(Y, zero(Y))
    dominated = torch.cat([Y, 0.5 * Y], 1)
    assert kept.cells(dominated, zero(Y)) is first and len(cuts) == 1
    better = torch.cat([Y, 1.1 * Y[:, :1]], 1)
    for given, reference in [(better, zero(Y)), (better, zero(Y) + 0.01), (Y, zero(Y)), (Y.float(), zero(Y).float())]:
        before = len(cuts)
        got = kept.cells(given, reference)
        assert len(cuts) == before + 1
        for bound, expected in zip(got, cells_above(fronts(given, reference), reference), strict=True):
            assert torch.equal(bound, expected)


def test_single_precision_stays_single(device):
    for m in (2, 3):
        Y = clouds(2, 10, m, device=device).float()
        for bound in (*cells(Y, zero(Y)), *extended(*cells(Y, zero(Y)), Y[:, :1] * 2)):
            assert bound.dtype == torch.float32 and bound.device == Y.device

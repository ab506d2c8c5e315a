"""What passes between host and device, and that what goes the way of a GPU ends where the CPU's own way does."""

import pytest
import torch
from botorch.models import SingleTaskGP

from gpu_gs import transfer
from gpu_gs.acquisition.logei import LogEI, log_h_and_ratios
from gpu_gs.gp.fit import export_hyperparameters, fit
from gpu_gs.gp.posterior import state_from_model
from gpu_gs.minimize import minimize
from gpu_gs.optimize.candidates import optimize_acquisition
from gpu_gs.transfer import looking_is_cheap, on_host, read, to_device
from tests.gp.models import data

SAME = 1e-6
"""How far the two ways may end apart: in coordinates as shares of their ranges, and in hyperparameters, relative."""


@pytest.fixture
def both_ways(monkeypatch):
    """Runs a function as on the CPU, then as on a GPU."""

    def run(function):
        as_on_the_cpu = function()
        monkeypatch.setattr(transfer, "CHEAP_ON", ())
        assert not looking_is_cheap(torch.zeros(1))
        return as_on_the_cpu, function()

    return run


def made(n=30, d=3, seed=0, m=1):
    X, Y = data(n, d, m, seed=seed)
    return SingleTaskGP((X + 1) / 4, Y, outcome_transform=None)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("cold_seed", [None, 3])
def test_a_fit_ends_where_the_cpus_does(both_ways, m, cold_seed):
    start = made(seed=1, m=m)
    fit(start)
    warm = export_hyperparameters(start)

    def fitted():
        model = made(n=36, seed=1, m=m)
        return fit(model, warm=warm, cold_seed=cold_seed), model

    (one, ours), (other, theirs) = both_ways(fitted)
    assert (one.decision, one.start, one.converged) == (other.decision, other.start, other.converged)
    assert other.value == pytest.approx(one.value, abs=1e-9)
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("seed", range(3))
def test_an_optimum_is_where_the_cpu_finds_it(both_ways, seed):
    model = made(seed=seed)
    fit(model)
    function = LogEI(state_from_model(model), model.train_targets.max())
    box = torch.zeros(3).double(), torch.ones(3).double()
    one, other = both_ways(lambda: optimize_acquisition(function, *box, seed=seed))
    torch.testing.assert_close(one.x, other.x, rtol=0, atol=SAME)
    assert other.value == pytest.approx(one.value, abs=1e-8)


def test_values_far_out_are_computed_as_those_that_are_looked_for(both_ways):
    u = torch.tensor([-1e4, -301.0, -299.0, 0.0, 29.0, 31.0, 1e4], dtype=torch.double)
    for one, other in zip(*both_ways(lambda: log_h_and_ratios(u)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0)


def test_rows_that_are_done_before_they_begin_keep_their_points(both_ways):
    x0 = torch.tensor([[0.5, -0.5], [0.25, 0.75]], dtype=torch.double)
    box = torch.full((2,), -1.0).double(), torch.full((2,), 1.0).double()
    finished = torch.tensor([False, True])

    def minimum():
        return minimize(lambda x, _: ((x * x).sum(-1), 2 * x), x0, *box, max_iterations=20, finished=finished)

    for result in both_ways(minimum):
        torch.testing.assert_close(result.x, torch.stack([torch.zeros(2).double(), x0[1]]), rtol=0, atol=1e-5)
        assert torch.equal(result.x[1], x0[1])


def test_what_was_brought_to_a_device_is_what_comes_back(device):
    here = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.double)
    there = to_device(here, device)
    assert there.device.type == device.type
    assert torch.equal(on_host(there), here)
    there.add_(1.0)
    expected = torch.tensor([[2.0, 3.0], [4.0, 5.0]], dtype=torch.double)
    assert torch.equal(on_host(there), expected)


def test_tensors_are_read_with_their_shapes_and_kinds(device):
    given = [torch.arange(6, device=device).reshape(2, 3), torch.tensor([True, False], device=device)]
    given += [torch.tensor(0.1, dtype=torch.double, device=device), torch.empty(0, 2, device=device)]
    found = read(given)
    assert [(part.device.type, part.dtype, part.shape) for part in found] == [
        ("cpu", part.dtype, part.shape) for part in given
    ]
    assert all(torch.equal(part, original.cpu()) for part, original in zip(found, given, strict=True))
    assert read([]) == []

"""Pools: the same scores as from scratch, of the points that matter."""

import pytest
import torch

from gpu_gs.acquisition.logei import LogEI
from gpu_gs.acquisition.pool import KEPT, Pool
from gpu_gs.acquisition.ucb import UpperConfidenceBound
from gpu_gs.gp.posterior import state_from_model
from tests.gp.models import make_model


def uniform(b, d, seed, device="cpu"):
    return (4 * torch.rand(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double) - 1).to(device)


def functions(device="cpu"):
    model = make_model("rbf", 40, 3, device=device).eval()
    state = state_from_model(model)
    best = state.mean_at_training_inputs()
    drawn, f = state.draw(uniform(0, 3, 0, device), 16, torch.Generator(device=device).manual_seed(1))
    return {
        "LogEI": LogEI(state, best.max()),
        "LogEI, minimizing": LogEI(state, best.min(), -1.0),
        "LogNEI": LogEI(drawn, f.amax(0)),
        "UCB": UpperConfidenceBound(state, 0.5),
        "UCB, minimizing": UpperConfidenceBound(state, 0.5, -1.0),
    }


@pytest.mark.parametrize("name", functions())
def test_scores_with_more_and_more_pending_points_are_those_from_scratch(name, device):
    function = functions(device)[name]
    X, pending = uniform(300, 3, 2, device), uniform(6, 3, 3, device)
    pool = Pool.of(function, X)
    assert len(pool.X) == KEPT
    draws = function.best.numel() if isinstance(function, LogEI) else 0
    generator = torch.Generator(device=device).manual_seed(4)
    for some in torch.split(pending, [1, 3, 2]):
        e = None
        if draws:
            e = torch.randn(len(some), max(draws, 8), generator=generator, dtype=torch.double, device=device)
        function = function.given(some, e)
        draws = function.best.numel() if isinstance(function, LogEI) else 0
        pool = pool.given(function, e)
        torch.testing.assert_close(
            function.score(pool.mean, pool.variance), function.value(pool.X), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", functions())
def test_the_best_points_are_in_the_pool(name):
    function, X = functions()[name], uniform(2000, 3, 2)
    pool = Pool.of(function, X)
    scores = function.value(X)
    kept = function.score(pool.mean, pool.variance)
    assert float(kept.max()) == pytest.approx(float(scores.max()), abs=1e-9)
    fifth = scores.topk(5).values[-1]
    assert int((kept >= fifth - 1e-9).sum()) >= 4


def test_fewer_points_than_it_may_keep_all_stay():
    function, X = functions()["LogEI"], uniform(50, 3, 2)
    assert torch.equal(Pool.of(function, X).X, X)

import numpy as np
import pytest

from gpu_gs.errors import ConfigError
from gpu_gs.run.goal import Goal, hypervolume


def test_one_goal_to_be_minimized():
    goal = Goal.parse("-loss")
    trials = {0: {"loss": 3.0}, 1: {"loss": 1.0}, 2: {"loss": 2.0}}
    assert goal.metrics == ["loss"]
    assert goal.best(trials) == 1
    assert goal.ranking(trials) == [1, 2, 0]
    assert goal.so_far(trials.values()) == [3.0, 1.0, 1.0]
    assert goal.achieved(list(trials.values())) == 1.0


def test_a_goal_to_be_maximized_with_a_constraint():
    goal = Goal.parse("score", ["size <= 10"])
    trials = {0: {"score": 1.0, "size": 5.0}, 1: {"score": 9.0, "size": 11.0}, 2: {"score": 2.0, "size": (10.0, 1.0)}}
    assert goal.metrics == ["score", "size"]
    assert goal.best(trials) == 2
    assert goal.ranking(trials) == [2, 0, 1]
    assert np.isnan(goal.so_far([trials[1]])[0])


def test_a_weighted_sum_is_one_goal():
    goal = Goal.parse("-loss - 0.5*size")
    assert not goal.several
    assert goal.best({0: {"loss": 1.0, "size": 1.0}, 1: {"loss": 0.0, "size": 4.0}}) == 0


def test_two_goals_have_a_front_and_thresholds():
    goal = Goal.parse("-loss, score", ["loss <= 4"])
    trials = {
        0: {"loss": 1.0, "score": 1.0},
        1: {"loss": 2.0, "score": 3.0},
        2: {"loss": 3.0, "score": 2.0},
        3: {"loss": 1.0, "score": 1.0},
    }
    assert [single.threshold for single in goal.singles] == [4.0, None]
    assert goal.front(trials) == [0, 1]
    assert goal.best(trials) == 0
    assert goal.ranking(trials)[:3] == [0, 3, 1]
    reference = goal.reference(trials.values())
    np.testing.assert_array_equal(reference, [-4.0, 1.0])
    assert goal.so_far(trials.values(), reference)[-1] == goal.achieved(list(trials.values()))


@pytest.mark.parametrize("goals", [2, 3])
def test_hypervolume_agrees_with_botorch(goals):
    import torch
    from botorch.utils.multi_objective.hypervolume import Hypervolume

    scores = np.random.default_rng(goals).uniform(-1, 1, (12, goals))
    reference = np.full(goals, -0.5)
    expected = Hypervolume(torch.from_numpy(reference)).compute(
        torch.from_numpy(
            scores[[not ((s >= x).all(1) & (s > x).any(1)).any() for s, x in ((scores, x) for x in scores)]]
        )
    )
    assert hypervolume(scores, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("optimize", "constraints", "words"),
    [
        ("loss +", [], "not understood"),
        ("loss + 3", [], "not understood"),
        ("loss", ["size"], "not understood"),
        ("loss", ["size <= 0.5 * baseline"], "needs a baseline"),
        ("loss", ["loss <= 3"], "on the goal itself"),
    ],
)
def test_a_goal_that_ax_does_not_take_is_explained(optimize, constraints, words):
    with pytest.raises(ConfigError, match=words):
        Goal.parse(optimize, constraints)

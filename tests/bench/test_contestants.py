"""Names of contestants, and that each asks for as many points as wanted inside the bounds."""

import pytest

from gpu_gs.bench.contestants import build, is_ours, label, missing, on_cuda, problems_with, short, split
from gpu_gs.bench.problems import PROBLEMS


@pytest.mark.parametrize(
    ("name", "shown", "ours", "cuda"),
    [
        ("reference", "stock Ax", False, False),
        ("reference@cuda", "stock Ax on CUDA", False, True),
        ("optuna", "Optuna", False, False),
        ("ax-random", "Ax, random", False, False),
        ("fast", "gpu_gs fast", True, False),
        ("fast@cuda:1", "gpu_gs fast on CUDA:1", True, True),
        ("cuda", "gpu_gs cuda", True, True),
        ("cuda@cpu", "gpu_gs cuda on CPU", True, False),
    ],
)
def test_a_name_says_who_and_where(name, shown, ours, cuda):
    assert problems_with(name) == []
    assert (label(name), is_ours(name), on_cuda(name), short(name)) == (shown, ours, cuda, name)


def test_a_file_is_called_by_its_stem_also_with_an_at_in_its_folder(tmp_path):
    folder = tmp_path / "me@home"
    folder.mkdir()
    (folder / "mine.yaml").write_text("preset: fast\n")
    name = str(folder / "mine.yaml")
    assert split(name) == (name, None)
    assert (short(name), short(f"{name}@cpu")) == ("mine", "mine@cpu")
    assert problems_with(f"{name}@cpu") == []


@pytest.mark.parametrize("name", ["fsat", "fast@gpu", "optuna@cuda", "nothing.yaml"])
def test_what_is_no_name_is_refused(name):
    (problem,) = problems_with(name)
    assert name in problem


def test_a_file_that_would_pass_for_stock_ax_is_refused(tmp_path):
    (tmp_path / "reference.yaml").write_text("preset: fast\n")
    (problem,) = problems_with(str(tmp_path / "reference.yaml"))
    assert "another name" in problem


@pytest.mark.parametrize("name", ["random", "ax-random", "fast@cpu", "optuna"])
def test_a_contestant_asks_for_several_points_and_takes_their_values(name):
    if reason := missing(name):
        pytest.skip(reason)
    problem = PROBLEMS["branin"]
    points = problem.initial_points(6, seed=0)
    contestant = build(name)
    contestant.start(problem, 0, points, [problem.true_value(x) for x in points])
    contestant.tell(first := contestant.ask(), [problem.true_value(x) for x in first])
    for count in (3, 1):
        asked = contestant.ask(count)
        assert len({tuple(x) for x in asked}) == count
        for x in asked:
            assert len(x) == 2
            assert all(low <= value <= high for value, (low, high) in zip(x, problem.bounds, strict=True))
        contestant.tell(asked, [problem.true_value(x) for x in asked])

import pytest

from gpu_gs.run.goal import Goal
from gpu_gs.run.progress import Progress


@pytest.fixture
def shown(monkeypatch, capsys):
    """What a terminal of some width shows last."""

    def show(width, *updates):
        monkeypatch.setenv("COLUMNS", str(width))
        with Progress(Goal.parse("-cv_rmse"), 100, shown=True) as progress:
            for doing, done in updates:
                progress.update(doing, done, best=53.925, objective=10.0, strategy=14.3, device="cpu")
        return capsys.readouterr().err.splitlines()[-1]

    return show


@pytest.mark.parametrize("width", [80, 120])
def test_trial_best_times_and_device_fit_into_a_line(shown, width):
    line = shown(width, ("tuning", 26), ("tuning", 27))
    for words in ("27/100", "53.925", "objective 20 s", "strategy 28.6 s", "cpu"):
        assert words in line
    assert ("cv_rmse" in line) == (width == 120)


def test_a_line_too_short_keeps_the_trial(shown):
    line = shown(40, ("held-out score", 100))
    assert len(line) <= 40 and "100/100" in line and line.endswith("…")


def test_the_random_search_counts_from_its_own_beginning(shown):
    assert "31/100" in shown(80, ("tuning", 100), ("random search", 0), ("random search", 31))


def test_a_log_file_gets_nothing(capsys):
    with Progress(Goal.parse("-cv_rmse"), 100) as progress:
        progress.update("tuning", 3, best=1.0)
        progress.say("something")
    assert capsys.readouterr() == ("", "")

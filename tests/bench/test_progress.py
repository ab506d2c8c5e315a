"""What a benchmark shows of itself: lines in a log, a view on a terminal, and the time that is left."""

import io

import pytest
from rich.console import Console

from gpu_gs.bench.progress import Estimates, Progress, duration


def job(contestant, seed=0, problem="branin", **more):
    return {"kind": "regret", "problem": problem, "contestant": contestant, "seed": seed, "threads": 1, **more}


def line(job, seconds, **more):
    return {"job": job, "run": {"seconds": seconds}, **(more or {"answer": {}})}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_job_takes_as_long_as_those_most_like_it():
    estimates = Estimates()
    assert estimates.of(job("fast")) is None
    estimates.add(job("reference", problem="ackley"), 1_000)
    assert estimates.of(job("fast")) == 1_000  # of any of its kind
    assert estimates.of({"kind": "latency", "contestant": "fast"}) is None
    estimates.add(job("random"), 1)
    assert estimates.of(job("fast")) == 1  # of its case
    estimates.add(job("fast", problem="ackley"), 30)
    assert estimates.of(job("fast")) == 30  # of its contestant
    for seed, seconds in enumerate((10, 20)):
        estimates.add(job("fast", seed), seconds)
    assert estimates.of(job("fast", seed=9)) == 15  # of the same but for the seed


def test_what_is_left_is_shared_by_the_jobs_that_run_at_once():
    estimates = Estimates()
    assert estimates.left([(job("fast"), 3)], [], 1) is None
    estimates.add(job("fast"), 10)
    estimates.add(job("reference"), 100)
    assert estimates.left([(job("fast"), 6)], [(job("fast"), 4), (job("fast"), 99)], 2) == (60 + 6) / 2
    assert estimates.left([(job("fast"), 1), (job("reference"), 1)], [], 4) == 100  # no shorter than the longest


def test_a_log_gets_a_line_for_each_job(capsys):
    clock = Clock()
    first, second, third = (job("fast", seed, batch=4) for seed in range(3))
    with Progress(live=False, clock=clock) as progress:
        progress.plan([first, second, third], [(job("random"), None)])
        progress.started(first)
        clock.now = 200
        progress.finished(line(first, 200))
        progress.started(second)
        clock.now += 60
        progress.finished(line(second, 60, error="Traceback\n...\nValueError: too bad\n"))
        progress.started(third)
        progress.finished(line(third, 100))
    assert capsys.readouterr().err.splitlines() == [
        "[2/4] fast branin seed 0, 4 at once, 1 thread: done in 3 min; about 7 min left by 1 job done",
        "[3/4] fast branin seed 1, 4 at once, 1 thread: failed in 60 s: ValueError: too bad; "
        "about 2 min left by 2 jobs done",
        "[4/4] fast branin seed 2, 4 at once, 1 thread: done in 2 min",
    ]


def test_jobs_that_were_done_before_are_known_and_cost_nothing(capsys):
    progress = Progress(live=False, clock=Clock())
    progress.plan([], [(job("fast"), 10.0), (job("random"), None)])
    assert capsys.readouterr().err == "regret: nothing to run, 2 jobs done before\n"
    progress.plan([job("fast", seed) for seed in (1, 2)], [(job("fast"), 10.0)])
    progress.started(job("fast", 1))
    progress.finished(line(job("fast", 1), 20.0))
    assert "about 15 s left by 2 jobs done" in capsys.readouterr().err


def view_of(progress, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(progress.view())
    return console.file.getvalue().splitlines()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_a_terminal_shows_what_runs_what_is_left_and_the_time_expected(terminal, capsys):
    clock = Clock()
    jobs = [job(name, seed) for seed in range(6) for name in ("fast", "reference")]
    with Progress(live=True, clock=clock) as progress:
        assert view_of(progress) == [""]
        progress.plan(jobs, [])
        for begun in jobs[:2]:
            progress.started(begun)
        clock.now = 30
        head, fast, reference = view_of(progress)
        assert head.startswith("regret ") and "0 of 12 · 30 s gone · time left unknown" in head
        assert fast.strip() == "fast branin seed 0, 1 thread: 30 s"
        progress.finished(line(jobs[0], 30))
        progress.started(jobs[2])
        clock.now = 40
        progress.finished(line(jobs[1], 40, error="no memory"))
        progress.started(jobs[3])
        clock.now = 45
        head, fast, reference = view_of(progress)
        assert "2 of 12 · 1 failed · 45 s gone · about 3 min left by 2 jobs done" in head
        assert fast.strip() == "fast branin seed 1, 1 thread: 15 s of about 30 s"
        assert reference.strip() == "reference branin seed 1, 1 thread: 5 s of about 40 s"
        for begun in jobs[4:]:
            progress.started(begun)
        assert view_of(progress)[-1].strip() == "and 2 more"
        for over in jobs[2:]:
            progress.finished(line(over, 60))
        assert "12 of 12" in view_of(progress)[0]
    shown = capsys.readouterr().err
    assert "reference branin seed 0, 1 thread: failed in 40 s: no memory\n" in shown
    assert "regret: 12 jobs in 45 s, 1 failed\n" in shown


def test_a_narrow_terminal_has_no_bar(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    with Progress(live=True) as progress:
        progress.plan([job("fast")], [])
        (head,) = view_of(progress, 60)
    assert head.split() == ["regret", "0", "of", "1", "·", "0", "s", "gone", "·", "time", "left", "unknown"]


def test_a_job_that_begins_anew_is_one_job():
    clock = Clock()
    progress = Progress(live=False, clock=clock)
    progress.plan([job("fast"), job("fast", 1)], [(job("fast", 2), 10.0)])
    progress.started(job("fast"))
    clock.now = 8
    progress.started(job("fast"))  # its worker died
    assert progress._left() == "about 20 s left by 1 job done"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3_570, "1 h"),
        (12_000, "3 h 20 min"),
        (86_400, "1 d"),
        (187_000, "2 d 4 h"),
    ],
)
def test_durations_are_as_exact_as_a_person_wants_them(seconds, text):
    assert duration(seconds) == text

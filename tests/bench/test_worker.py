"""Runs of a contestant that keeps a record: how many points are out at each ask, and the order of the tells."""

import pytest
from ax.utils.testing.mock import mock_botorch_optimize

from gpu_gs.bench import worker
from gpu_gs.bench.contestants import RandomContestant
from gpu_gs.bench.problems import PROBLEMS


class Recorder(RandomContestant):
    """Notes (points running, points asked for) at each ask; its first ask yields one point, as Ax's does."""

    def start(self, problem, seed, points, outcomes):
        super().start(problem, seed, points, outcomes)
        self.problem = problem
        self.asks, self.running, self.told = [], [], list(outcomes)

    def ask(self, count=1):
        count = count if self.asks else 1
        self.asks.append((len(self.running), count))
        points = super().ask(count)
        self.running += points
        return points

    def tell(self, points, outcomes):
        for point, known in zip(points, outcomes, strict=True):
            assert point == self.running.pop(0)
            assert known == self.problem.true_outcomes(point)
            self.told.append(known)


@pytest.fixture
def recorder(monkeypatch):
    """The contestant of a measurement without a warm-up."""
    made = Recorder()
    monkeypatch.setattr(worker, "build", lambda name: made)
    monkeypatch.setattr(worker, "_warm_up", lambda job, points, outcomes: None)
    return made


def run(**more):
    job = {"kind": "regret", "problem": "constrained-branincurrin", "contestant": "any", "seed": 1}
    return worker.regret({**job, "evaluations": 13, "initial": 3, "threads": 1, **more})


@pytest.mark.parametrize(
    ("more", "asks"),
    [
        ({}, [(0, 1)] * 10),
        ({"batch": 4}, [(0, 1), (1, 3), (0, 4), (0, 2)]),
        ({"pending": 3}, [(0, 1), (1, 1), (2, 1), *[(3, 1)] * 7]),
    ],
)
def test_asks_are_single_in_batches_or_with_others_running(recorder, more, asks):
    answer = run(**more)
    assert recorder.asks == asks
    assert recorder.running == []
    problem = PROBLEMS["constrained-branincurrin"]
    assert len(recorder.told) == len(answer["regret"]) == 13
    assert answer["regret"] == problem.regrets(recorder.told)
    assert [problem.true_outcomes(x) for x in answer["points"]] == recorder.told[3:]


def test_seconds_of_the_strategy_and_of_the_objective_are_apart(recorder, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(worker.time, "perf_counter", clock)
    for kind, seconds in (("start", 1_000), ("ask", 10), ("tell", 2)):
        monkeypatch.setattr(recorder, kind, clock.around(getattr(recorder, kind), seconds))
    problem = PROBLEMS["constrained-branincurrin"]
    monkeypatch.setitem(PROBLEMS, problem.name, Slow(problem, clock))
    answer = run(batch=4)
    assert answer["start"] == 1_000
    # Two asks for the first batch, as the first ask of all yields one point.
    assert answer["strategy_seconds"] == [*[22 / 4] * 4, *[12 / 4] * 4, *[12 / 2] * 2]
    assert answer["objective_seconds"] == [300] * 10


def test_what_happens_once_in_a_process_is_no_part_of_a_run(monkeypatch):
    clock, once = Clock(), [500, 50]

    class Importing(Recorder):
        """Its first start and its first ask in a process take long."""

        def start(self, *arguments):
            clock.now += once.pop(0) if len(once) == 2 else 1
            super().start(*arguments)

        def ask(self, count=1):
            clock.now += once.pop(0) if once else 2
            return super().ask(count)

    monkeypatch.setattr(worker, "build", lambda name: Importing())
    monkeypatch.setattr(worker.time, "perf_counter", clock)
    answer = run()
    assert (answer["warm_up"], answer["start"]) == (550, 1)
    assert answer["strategy_seconds"] == [2] * 10


def test_runs_repeat_that_draw_from_the_generators_of_the_process(monkeypatch):
    import random

    import numpy as np
    import torch

    class Careless(Recorder):
        """Draws from the generators of the process."""

        def ask(self, count=1):
            super().ask(count)
            return [[random.random() * np.random.rand(), float(torch.rand(()))] for _ in range(count)]

    monkeypatch.setattr(Careless, "tell", lambda self, points, outcomes: None)
    monkeypatch.setattr(worker, "build", lambda name: Careless())
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        first, again, other = run(), run(), run(seed=2)
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
    assert first["points"] == again["points"] != other["points"]


def test_a_point_outside_of_the_search_space_is_a_failed_run_not_a_good_one(recorder, monkeypatch):
    # Hartmann6's own minimizer violates the linear constraints of this problem.
    minimizer = [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]
    monkeypatch.setattr(recorder, "ask", lambda count=1: [minimizer] * count)
    assert PROBLEMS["hartmann6-linear"].true_outcomes(minimizer)
    with pytest.raises(RuntimeError, match=r"outside of the search space of hartmann6-linear: \[0.20169"):
        run(problem="hartmann6-linear")


def test_processor_time_of_asks_and_tells_does_not_count_the_objective(recorder, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(worker.time, "process_time", clock)
    for kind, seconds in (("ask", 10), ("tell", 2)):
        monkeypatch.setattr(recorder, kind, clock.around(getattr(recorder, kind), seconds))
    problem = PROBLEMS["constrained-branincurrin"]
    monkeypatch.setitem(PROBLEMS, problem.name, Slow(problem, clock))
    assert run()["cpu_seconds"] == 10 * (10 + 2)


class Clock:
    """Seconds that pass only where something is said to take some."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def around(self, function, seconds):
        def slow(*arguments):
            self.now += seconds
            return function(*arguments)

        return slow


class Slow:
    """A problem whose evaluations take 300 seconds."""

    def __init__(self, problem, clock):
        self.problem = problem
        self.observe = clock.around(problem.observe, 300)

    def __getattr__(self, name):
        return getattr(self.problem, name)


def test_asks_with_storage_are_those_of_a_contestant_that_stores(recorder):
    job = {"problem": "branin", "contestant": "any", "n": 5, "asks": 2, "batch": 1, "limit": 60.0, "seed": 0}
    with pytest.raises(NotImplementedError, match="Recorder stores nothing"):
        worker.latency({**job, "storage": True})
    stored = []
    recorder.store = lambda path: stored.append((path.suffix, path.parent.is_dir(), hasattr(recorder, "asks")))
    worker.latency({**job, "storage": True})
    worker.latency(job)
    assert stored == [(".sqlite", True, False)]


def test_asks_with_other_data_are_those_of_a_contestant_that_was_told_which(recorder):
    job = {"problem": "branin", "contestant": "any", "n": 5, "asks": 2, "batch": 1, "limit": 60.0, "seed": 0}
    with pytest.raises(NotImplementedError, match="Recorder takes no batch trials"):
        worker.latency({**job, "data": "batch_trials"})
    heard = []
    recorder.report = lambda data: heard.append((data, hasattr(recorder, "asks")))
    worker.latency({**job, "data": "batch_trials"})
    worker.latency(job)
    assert heard == [("batch_trials", False)]


def test_where_a_contestant_ran_is_in_its_answer(recorder):
    recorder.details = lambda: [{"device": "cuda:0"}, {"device": "cpu"}, {"device": None}, {}]
    assert run()["devices"] == ["cpu", "cuda:0"]


def test_the_limit_of_a_job_is_for_all_of_it_or_for_what_it_times():
    assert worker.patience({"kind": "regret", "limit": 60}) == 60
    assert worker.patience({"kind": "latency", "limit": 60}) == 900
    assert worker.patience({"kind": "regret"}) is None


def test_a_kind_of_job_may_be_answered_by_a_module_that_is_imported_for_it(monkeypatch):
    monkeypatch.setitem(worker.KINDS, "other", "collections:Counter")
    assert worker.measure({"kind": "other"}) == {"kind": "other"}


def test_timed_asks_have_the_pending_trials_running(recorder):
    recorder.best = lambda: None
    job = {"problem": "branin", "contestant": "any", "n": 5, "asks": 4, "batch": 2, "pending": 3, "limit": 60.0}
    answer = worker.latency({**job, "seed": 0})
    assert len(answer["ask"]) == 4
    assert recorder.asks == [(0, 1), (1, 1), (2, 1), *[(3, 2)] * 5]


@pytest.mark.parametrize("problem", ["branincurrin", "constrained-branincurrin"])
@mock_botorch_optimize  # the asks, of a few iterations, only come before the question
def test_the_question_for_the_best_is_one_that_ax_answers(problem):
    job = {"problem": problem, "contestant": "reference", "n": 8, "asks": 1, "batch": 1, "limit": 0.0, "seed": 2}
    answer = worker.latency(job)
    assert len(answer["best"]) == 3
    assert min(answer["best"]) > 0

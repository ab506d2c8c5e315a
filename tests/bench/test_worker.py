"""Runs of a contestant that keeps a record: how many points are out at each ask, and the order of the tells."""

import pytest

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
    made = Recorder()
    monkeypatch.setattr(worker, "build", lambda name: made)
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


def test_timed_asks_have_the_pending_trials_running(recorder):
    recorder.best = lambda: None
    job = {"problem": "branin", "contestant": "any", "n": 5, "asks": 4, "batch": 2, "pending": 3, "limit": 60.0}
    answer = worker.latency({**job, "seed": 0})
    assert len(answer["ask"]) == 4
    assert recorder.asks == [(0, 1), (1, 1), (2, 1), *[(3, 2)] * 5]


@pytest.mark.parametrize("problem", ["branincurrin", "constrained-branincurrin"])
def test_the_question_for_the_best_is_one_that_ax_answers(problem):
    job = {"problem": problem, "contestant": "reference", "n": 8, "asks": 1, "batch": 1, "limit": 0.0, "seed": 2}
    answer = worker.latency(job)
    assert len(answer["best"]) == 3
    assert min(answer["best"]) > 0

"""A timed job has the machine to itself, also when several benchmarks run at once."""

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from time import monotonic, sleep

import pytest

from gpu_gs.bench import executors, turns
from gpu_gs.bench.executors import LocalExecutor
from gpu_gs.bench.provenance import config_hash, installed
from gpu_gs.bench.turns import turn
from tests.bench.processes import wait_for


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv(turns.VARIABLE, str(tmp_path))
    monkeypatch.setattr(turns, "POLL_S", 0.01)
    monkeypatch.setattr(turns, "_said", set())
    return tmp_path


@pytest.fixture
def threads():
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield pool


def never():
    return False


def someone_waits(folder):
    """Whether a job holds the gate."""
    fcntl = pytest.importorskip("fcntl")
    with (folder / turns.name_of(turns.GATE)).open("a+") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def has_turn(timed, inside, leave):
    with turn(timed, never):
        inside.set()
        assert leave.wait(10)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_timed_job_shares_the_machine_with_none(threads, first, second):
    inside, leave, later = Event(), Event(), Event()
    one = threads.submit(has_turn, first, inside, leave)
    assert inside.wait(10)
    leave_later = Event()
    leave_later.set()
    other = threads.submit(has_turn, second, later, leave_later)
    assert not later.wait(0.2)
    leave.set()
    assert later.wait(10)
    one.result(), other.result()


def test_jobs_that_are_not_timed_run_together():
    with turn(False, never), turn(False, never):
        pass


def test_a_timed_job_that_waits_is_overtaken_by_none(threads, folder):
    order = []

    def note(timed, name):
        with turn(timed, never):
            order.append(name)

    with ExitStack() as running:
        running.enter_context(turn(False, never))
        timed = threads.submit(note, True, "timed")
        wait_for(lambda: someone_waits(folder))
        later = threads.submit(note, False, "later")
        sleep(0.1)  # in vain, but for one that overtakes
        assert order == []
    timed.result(10), later.result(10)
    assert order == ["timed", "later"]


def test_a_job_that_is_ended_waits_no_longer_and_keeps_nothing(threads, folder):
    over = Event()

    def wait():
        with turn(True, over.is_set):
            raise AssertionError("had its turn")

    with turn(False, never):
        waiting = threads.submit(wait)
        wait_for(lambda: someone_waits(folder))
        over.set()
        with pytest.raises(RuntimeError, match="has been ended"):
            waiting.result(10)
    with turn(True, never):
        pass


def test_a_long_wait_is_said_once(threads, monkeypatch, caplog):
    monkeypatch.setattr(turns, "SILENT_S", 0.05)
    caplog.set_level(logging.WARNING)
    with ExitStack() as running:
        running.enter_context(turn(True, never))
        events = [Event(), Event()]
        events[1].set()
        waiting = threads.submit(has_turn, False, *events)
        wait_for(lambda: caplog.records)
    waiting.result(10)
    assert [record.getMessage() for record in caplog.records] == [
        "bench: waits for another benchmark on this machine: what is timed runs alone"
    ]


def test_a_folder_that_cannot_be_written_is_said_and_the_job_runs(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(turns.VARIABLE, str(tmp_path / "file"))
    with turn(True, never), turn(True, never):
        pass
    assert "are not waited for" in caplog.text


def test_turns_can_be_turned_off(monkeypatch):
    monkeypatch.setenv(turns.VARIABLE, "off")
    with turn(True, never), turn(True, never):
        pass


def test_the_locks_are_in_the_users_cache_by_default(monkeypatch):
    monkeypatch.delenv(turns.VARIABLE)
    assert turns.folder_of_turns().name == "gpu_gs"


def test_two_benchmarks_take_turns_with_timed_jobs(monkeypatch):
    monkeypatch.setattr(executors, "TIMED", ("probe",))
    spans = []

    def job(seed):
        return {"kind": "probe", "contestant": "random", "seed": seed, "threads": 1, "seconds": 0.2}

    def submit(executor, seed):
        begun = []
        future = executor.submit(job(seed), lambda job: begun.append(monotonic()))
        future.add_done_callback(lambda future: spans.append((begun[0], future.result())))

    with LocalExecutor() as one, LocalExecutor() as other:
        for seed in range(2):
            submit(one, seed)
            submit(other, seed + 2)
    assert ["answer" in line for _, line in spans] == [True] * 4
    spans.sort(key=lambda span: span[0])
    for (begun, line), (next_begun, _) in itertools.pairwise(spans):
        assert next_begun >= begun + line["run"]["seconds"]


PROBE = {"kind": "probe", "contestant": "random", "seed": 0, "threads": 1, "seconds": 0}


@pytest.mark.parametrize("forks", [False, True])
def test_a_benchmark_that_is_ended_while_it_waits_ends(folder, forks):
    with turn(True, never):
        executor = LocalExecutor(forks=forks)
        future = executor.submit(PROBE, print)
        wait_for(lambda: someone_waits(folder))
        executor.shutdown(end=True)
        with pytest.raises(RuntimeError, match="has been ended"):
            future.result(0)


def test_a_job_on_a_dask_worker_has_its_turn_and_ends_while_it_waits(monkeypatch, threads, folder):
    distributed = pytest.importorskip("distributed")
    begun = []

    class Worker:
        address = "here"

        def log_event(self, topic, number):
            begun.append(number)

    monkeypatch.setattr(distributed, "get_worker", Worker)
    monkeypatch.setattr(executors, "_CHILDREN", {})
    expected = {**installed(), "config": config_hash("random")}
    with turn(True, never):
        waiting = threads.submit(executors._on_worker, PROBE, expected, "this one", 7)
        wait_for(lambda: someone_waits(folder))
        assert begun == []
        executors._end("this one")
        with pytest.raises(RuntimeError, match="has been ended"):
            waiting.result(10)
    assert "answer" in executors._on_worker(PROBE, expected, "another", 8)
    assert begun == [8]

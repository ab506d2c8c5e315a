"""Benchmarks end to end, small: jobs in processes of their own, results that go on, tables that add up."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore, get_ident

import pytest

from gpu_gs.bench.provenance import record
from gpu_gs.bench.runner import other_origins, read_results, run_jobs
from gpu_gs.errors import ConfigError, TaskError
from tests.bench.processes import IN_PROC, children_of, runs, wait_for


def job(seed, **more):
    return {"kind": "probe", "contestant": "random", "seed": seed, "threads": 1, "seconds": 0, **more}


class Watcher:
    """Notes what is planned, begun and finished."""

    def __init__(self):
        self.begun, self.over = [], []

    def plan(self, waiting, done):
        self.planned = (len(waiting), len(done))

    def started(self, job):
        self.begun.append(job["seed"])

    def finished(self, line):
        self.over.append(line["job"]["seed"])


class Here:
    """An executor that answers at once, with what ``answer`` says."""

    alone = True

    def __init__(self, answer):
        self.answer = answer
        self.ended = False

    def submit(self, job, started):
        started(job)
        future = Future()
        try:
            future.set_result({"job": job, "answer": self.answer(job), "run": record(job)})
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, end=False):
        self.ended = end


def test_an_interrupted_benchmark_goes_on_and_a_failed_job_is_tried_again(tmp_path):
    results = tmp_path / "results.jsonl"
    first = run_jobs([job(0), job(1, kind="nothing")], results)
    assert "answer" in first[0]
    assert "nothing" in first[1]["error"]
    with results.open("a") as file:
        file.write('{"job": {"torn')  # a process was killed while it wrote
    watcher = Watcher()
    again = run_jobs([job(0), job(2), job(1, kind="nothing")], results, progress=watcher)
    assert again[0] == first[0]
    assert [line["job"]["seed"] for line in read_results(results) if "answer" in line] == [0, 2]
    assert watcher.planned == (2, 1)
    assert watcher.begun == watcher.over == [2, 1]
    assert [line["job"]["seed"] for line in again] == [line["job"]["seed"] for line in again[:]] == [0, 2, 1]


def test_every_line_says_what_it_rests_on_also_that_of_a_failure(tmp_path):
    lines = run_jobs([job(3), job(4, status=7, contestant="fast@cuda")], tmp_path / "results.jsonl")
    for line in lines:
        run = line["run"]
        assert set(run) == {
            "commit", "versions", "machine", "device", "config", "threads", "seed", "at", "seconds"
        }  # fmt: skip
        assert {"gpu-gs", "ax-platform", "torch"} <= set(run["versions"])
        assert run["machine"]["cores"] == os.cpu_count()
        assert (run["threads"], run["seed"]) == (1, line["job"]["seed"])
        assert run["seconds"] > 0
    assert [line["run"]["device"] for line in lines] == ["cpu", "cuda"]
    assert lines[1]["error"] == "ended with status 7"
    assert lines[0]["run"]["config"] != lines[1]["run"]["config"]


def test_an_answer_does_not_count_once_its_contestant_is_configured_otherwise(tmp_path):
    results, file = tmp_path / "results.jsonl", tmp_path / "mine.yaml"
    jobs = [job(0, contestant=str(file)), job(0, contestant="fast")]
    executor = Here(lambda job: {"value": file.read_text()})

    def runs_of(text):
        file.write_text(text)
        watcher = Watcher()
        lines = run_jobs(jobs, results, executor, progress=watcher)
        assert lines[0]["answer"]["value"] == text
        return len(watcher.begun)

    assert runs_of("preset: fast\nacquisition:\n  restarts: 4\n") == 2
    again = run_jobs(jobs, results, executor)
    assert len(list(read_results(results))) == len(again) == 2
    assert runs_of("preset: fast\nacquisition:\n  restarts: 8\n") == 1
    assert len(list(read_results(results))) == 3


def test_times_of_another_machine_do_not_count_and_what_else_differs_is_said(tmp_path):
    results = tmp_path / "latency.jsonl"
    run_jobs([job(0), job(1, kind="memory")], results, Here(lambda job: {}))
    assert other_origins(results) == []
    lines = list(read_results(results))
    for line in lines:
        line["run"] |= {"machine": {"cores": 64}, "commit": "abc1234", "versions": {"botorch": "0.1"}}
    results.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (words,) = other_origins(results)
    assert "2 of its answers have commit abc1234, botorch 0.1, another machine" in words
    made = []
    run_jobs([job(0), job(1, kind="memory")], results, Here(lambda job: made.append(job["seed"]) or {}))
    assert made == [1]


def test_a_whole_run_counts_under_another_limit(tmp_path):
    results = tmp_path / "regret.jsonl"
    run_jobs([job(0, kind="regret", limit=5.0)], results, Here(lambda job: {}))
    (line,) = run_jobs([job(0, kind="regret")], results, Here(lambda job: pytest.fail("run again")))
    assert line["answer"] == {}


def test_an_answer_from_before_there_were_hashes_counts(tmp_path):
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps({"job": job(0), "answer": {"value": 1}}) + "\n")
    assert run_jobs([job(0)], results, Here(lambda job: 1 / 0))[0]["answer"] == {"value": 1}


def test_jobs_that_are_timed_run_alone(tmp_path):
    with pytest.raises(ConfigError, match="latency: is timed"):
        run_jobs([job(0), job(1, kind="latency")], tmp_path / "results.jsonl", workers=2)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_job_whose_process_is_lost_is_a_row_and_lost_jobs_end_the_benchmark(tmp_path):
    def answer(job):
        if job["seed"] == 1:
            raise ConnectionError("its worker died")
        return {}

    lines = run_jobs([job(0), job(1), job(2)], tmp_path / "results.jsonl", Here(answer))
    assert ["answer" in line for line in lines] == [True, False, True]
    assert lines[1]["error"] == "ConnectionError: its worker died"
    assert lines[1]["run"]["machine"] is None

    executor = Here(answer)
    given_up = Future()
    given_up.cancel()
    given_up.set_running_or_notify_cancel()
    executor.submit = lambda job, started: given_up if job["seed"] == 3 else Future()
    with pytest.raises(TaskError, match="lost"):
        run_jobs([job(3), job(4)], tmp_path / "results.jsonl", executor)
    assert executor.ended


def test_two_processes_do_not_write_the_same_results(tmp_path):
    results = tmp_path / "results.jsonl"

    def second_one(job):
        with pytest.raises(TaskError, match=f"another process \\(pid {os.getpid()}\\) is running here"):
            run_jobs([job], results)
        return {}

    (line,) = run_jobs([job(0)], results, Here(second_one))
    assert line["answer"] == {}


def test_a_full_disk_ends_the_benchmark_with_whole_lines_from_which_it_goes_on(tmp_path):
    results = tmp_path / "results.jsonl"
    jobs = [job(seed) for seed in range(4)]
    executor = Here(lambda job: {"numbers": [0.5] * 1_000})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run_jobs(jobs[:2], results, executor)
    resource.setrlimit(resource.RLIMIT_FSIZE, (results.stat().st_size + 3_000, hard))
    try:
        with pytest.raises(TaskError, match=r"results\.jsonl: cannot be written: File too large"):
            run_jobs(jobs, results, executor)
        assert executor.ended
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {line["job"]["seed"] for line in map(json.loads, results.read_text().splitlines())} == {0, 1}
    assert [line["job"]["seed"] for line in run_jobs(jobs, results, executor)] == [0, 1, 2, 3]
    assert len(list(read_results(results))) == 4


def test_memory_stays_flat_over_hundreds_of_runs(tmp_path):
    jobs = [job(seed) for seed in range(200)]
    free = Semaphore(2)  # two answers wait to be written at the most, as with two workers

    def line_of(job):
        assert free.acquire(timeout=60)
        return {"job": job, "answer": {"points": [[job["seed"] + i / 7] * 10 for i in range(100)]}, "run": {}}

    executor, watcher = Here(None), Watcher()
    watcher.finished = lambda line: free.release()
    tracemalloc.start()
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            executor.submit = lambda job, started: pool.submit(line_of, job)
            lines = run_jobs(jobs, tmp_path / "results.jsonl", executor, progress=watcher)
        total = sum(line["answer"]["points"][0][0] for line in lines)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == sum(range(200))
    assert (tmp_path / "results.jsonl").stat().st_size > 2.5e6
    assert peak < 1e6


DRIVER = """
import sys
from pathlib import Path
from gpu_gs.bench.runner import run_jobs

class Watcher:
    def plan(self, waiting, done): pass
    def started(self, job): pass
    def finished(self, line): print("finished", flush=True)

def job(seed, seconds):
    return {"kind": "probe", "contestant": "random", "seed": seed, "threads": 1, "seconds": seconds}

jobs = [job(0, 0), job(1, 0), job(2, 600), job(3, 600), job(4, 0)]
run_jobs(jobs, Path(sys.argv[1]), workers=2, progress=Watcher())
"""


def test_an_interruption_that_another_thread_received_ends_it_too(tmp_path):
    def interrupt(job):
        time.sleep(0.5)  # until the main thread waits
        signal.pthread_kill(get_ident(), signal.SIGINT)

    watcher = Watcher()
    watcher.started = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(0, seconds=600)], tmp_path / "results.jsonl", progress=watcher)


@IN_PROC
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_ends_what_runs_and_leaves_readable_results(tmp_path, by):
    results = tmp_path / "results.jsonl"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(results)], stdout=subprocess.PIPE, text=True)
    with driver:
        assert [driver.stdout.readline() for _ in range(2)] == ["finished\n"] * 2
        workers = wait_for(lambda: found if len(found := children_of(driver.pid)) == 2 else None)
        driver.send_signal(by)
        try:
            driver.wait(timeout=60)
        finally:
            driver.kill()
        wait_for(lambda: not any(runs(pid) for pid in workers))
    seeds = [line["job"]["seed"] for line in map(json.loads, results.read_text().splitlines())]
    assert sorted(seeds) == [0, 1]
    watcher = Watcher()
    run_jobs([job(0), job(1), job(4)], results, progress=watcher)
    assert watcher.begun == [4]

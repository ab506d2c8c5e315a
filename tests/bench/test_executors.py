"""Where jobs run: each in a process of its own, whatever becomes of it, here and on a real Dask cluster."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from threading import Event

import pytest

from gpu_gs.bench import executors
from gpu_gs.bench.executors import Children, DaskExecutor, Forks, LocalExecutor, alone
from gpu_gs.bench.runner import read_results, run_jobs
from gpu_gs.errors import ConfigError, TaskError
from tests.bench.processes import IN_PROC, children_of, runs, wait_for


def probe(seed=0, **more):
    return {"kind": "probe", "contestant": "random", "seed": seed, "threads": 1, "seconds": 0, **more}


def regret(contestant, **more):
    job = {"kind": "regret", "problem": "branin", "contestant": contestant, "seed": 0}
    return {**job, "evaluations": 3, "initial": 2, "threads": 1, **more}


def lines_of(jobs, **options):
    with LocalExecutor(**options) as executor:
        return [future.result() for future in [executor.submit(job, lambda job: None) for job in jobs]]


def test_jobs_have_processes_and_threads_of_their_own():
    lines = lines_of([probe(threads=3), probe(), probe()], workers=3)
    assert [line["answer"]["threads"] for line in lines] == ["3", "1", "1"]
    assert len({line["answer"]["process"] for line in lines} | {os.getpid()}) == 4


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"kind": "nothing"}, "KeyError: 'nothing'"),
        ({"status": 3}, "ended with status 3"),
        ({"status": 0}, "ended without an answer"),
        ({"seconds": 600, "limit": 0.5}, "ended after 0.5 seconds"),
    ],
)
def test_whatever_becomes_of_a_job_is_in_its_line(more, error):
    (line,) = lines_of([probe(**more)])
    assert error in line["error"]


def test_an_interpreter_that_is_gone_is_a_line_too(monkeypatch, tmp_path):
    monkeypatch.setattr(executors, "python_of", lambda contestant: str(tmp_path / "python"))
    (line,) = lines_of([probe()])
    assert "FileNotFoundError" in line["error"]


def test_a_contestant_with_an_environment_of_its_own_runs_there_and_is_not_forked(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nOMP_NUM_THREADS=77 exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(executors, "python_of", lambda contestant: str(python) if contestant == "optuna" else None)
    lines = lines_of([probe(contestant="optuna"), probe()])
    assert [line["answer"]["threads"] for line in lines] == ["77", "1"]
    (line,) = lines_of([probe(contestant="optuna")], forks=True)
    assert line["answer"]["threads"] == "77"


def test_a_job_that_is_ended_leaves_no_process_and_no_other_starts():
    children = Children()
    with LocalExecutor(workers=2) as executor:
        executor._children = children
        futures = [executor.submit(probe(seconds=600, seed=seed), lambda job: None) for seed in range(3)]
        processes = wait_for(lambda: found if len(found := list(children._lifelines)) == 2 else None)
        executor.shutdown(end=True)
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2
    assert "perhaps for want of memory" in futures[0].result()["error"]
    assert futures[2].cancelled()
    with pytest.raises(RuntimeError, match="has been ended"):
        alone(probe(), children)


def test_forked_runs_are_those_of_fresh_processes():
    (fresh,) = lines_of([regret("fast")])
    (forked,) = lines_of([regret("fast")], forks=True)
    assert forked["answer"]["regret"] == fresh["answer"]["regret"]


IMPORTS_NOTHING = """#!/bin/sh
shift 2  # -m gpu_gs.bench.worker
exec {python} -c 'from gpu_gs.bench import worker; worker.TO_IMPORT = (); worker.main()' "$@"
"""


@pytest.fixture
def imports_nothing(monkeypatch, tmp_path):
    """Servers of forks are up in a moment: they import nothing before the first job."""
    python = tmp_path / "python"
    python.write_text(IMPORTS_NOTHING.format(python=sys.executable))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


@pytest.mark.usefixtures("imports_nothing")
def test_each_worker_has_a_server_of_forks_and_each_job_a_process():
    lines = lines_of([probe(seed, seconds=0.5) for seed in range(4)], workers=2, forks=True)
    assert len({line["answer"]["process"] for line in lines} | {os.getpid()}) == 5


@pytest.mark.usefixtures("imports_nothing")
def test_failures_of_forked_runs_cost_one_job_each():
    children = Children()
    forks = Forks(children)
    try:
        assert "KeyError: 'nothing'" in forks.run(probe(kind="nothing"))["error"]
        assert forks.run(probe(seconds=600, limit=0.5))["error"] == "ended after 0.5 seconds"
        assert forks.run(probe(status=3))["error"] == "ended with status 3"
        assert "answer" in forks.run(probe())
        opened = open_files()
        forked = [forks.run(probe())["answer"]["process"] for _ in range(20)]
        assert len(set(forked)) == 20
        assert open_files() == opened
        forks._server.kill()
        forks._server.wait()
        assert "ended" in forks.run(probe())["error"]
        assert "answer" in forks.run(probe())
    finally:
        forks.close()
        children.end()


def open_files():
    with suppress(OSError):
        return sorted(path.name for path in Path("/proc/self/fd").iterdir())
    return []


@IN_PROC
def test_files_and_processes_do_not_add_up():
    with LocalExecutor(workers=2) as executor:

        def after(count):
            for future in [executor.submit(probe(), lambda job: None) for _ in range(count)]:
                assert "answer" in future.result()
            return open_files(), children_of(os.getpid())

        assert after(2) == after(6)


# ------------------------------------------------------------------------------------------------------------- Dask


def test_without_dask_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'gpu-gs\[dask\]'"):
        DaskExecutor("tcp://127.0.0.1:1")


class Cluster:
    """A scheduler and workers of one thread in processes of their own."""

    def __init__(self, folder, stack, **environment):
        self.folder, self.stack = folder, stack
        self.environment = {**os.environ, **environment}
        self.scheduler = self.start("scheduler", "--port", "0")
        self.address = wait_for(self.written_address)
        self.workers = {}

    def written_address(self):
        try:
            return json.loads((self.folder / "scheduler.json").read_text())["address"]
        except (OSError, json.JSONDecodeError):
            return None

    def start(self, kind, *options, **environment):
        command = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.dask_{kind}", *options]
        command += ["--scheduler-file", str(self.folder / "scheduler.json"), "--host", "127.0.0.1", "--no-dashboard"]
        log = self.stack.enter_context((self.folder / f"{kind}.log").open("a"))
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**self.environment, **environment})
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def add_workers(self, count, **environment):
        import distributed

        for _ in range(count):
            folder = self.folder / f"worker{len(self.workers)}"
            options = ["--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
            process = self.start("worker", *options, **environment)
            self.workers[process.pid] = process
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=120)


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("distributed")

    @contextmanager
    def make(**environment):
        folder = tmp_path / "cluster"
        folder.mkdir()
        with ExitStack() as stack:
            yield Cluster(folder, stack, **environment)

    return make


class Watcher:
    """Notes how often each job has begun; ``busy`` is set when two have."""

    def __init__(self):
        self.begun, self.over = Counter(), []
        self.busy = Event()

    def plan(self, waiting, done):
        pass

    def started(self, job):
        self.begun[job["seed"]] += 1
        if len(self.begun) == 2:
            self.busy.set()

    def finished(self, line):
        self.over.append(line["job"]["seed"])


def killed_in_the_middle(cluster, jobs, results):
    """Runs jobs while the first worker is killed in the middle of one; the lines, and what a watcher saw."""
    watcher = Watcher()
    first, _ = cluster.workers

    def kill():
        assert watcher.busy.wait(timeout=120)
        (job,) = wait_for(lambda: children_of(first))
        cluster.workers.pop(first).kill()
        return job

    with ThreadPoolExecutor() as pool, DaskExecutor(cluster.address) as executor:
        killed = pool.submit(kill)
        lines = run_jobs(jobs, results, executor, progress=watcher)
        wait_for(lambda: not runs(killed.result()))  # a job does not outlive its worker
    return lines, watcher


@IN_PROC
def test_a_dask_worker_killed_in_the_middle_of_a_job_loses_nothing(cluster, tmp_path):
    jobs = [probe(seed, seconds=1) for seed in range(6)]
    results = tmp_path / "results.jsonl"
    with cluster() as cluster:
        cluster.add_workers(2)
        lines, watcher = killed_in_the_middle(cluster, jobs, results)
        assert ["answer" in line for line in lines] == [True] * 6
        assert sorted(watcher.over) == sorted(line["job"]["seed"] for line in read_results(results)) == list(range(6))
        assert max(watcher.begun.values()) == 2
        assert {line["run"]["versions"]["gpu-gs"] for line in lines} == {version("gpu-gs")}

        # Interrupted, it ends what runs on the workers that are left.
        (worker,) = cluster.workers
        interrupted = Watcher()
        interrupted.finished = lambda line: wait_for(lambda: children_of(worker)) and signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), DaskExecutor(cluster.address) as executor:
            run_jobs([*jobs, probe(6), probe(7, seconds=600)], results, executor, progress=interrupted)
        wait_for(lambda: not children_of(worker))
        assert len(list(read_results(results))) == 7

        # Without its scheduler it ends, and says how to go on.
        with (
            pytest.raises(TaskError, match="the same command goes on"),
            ThreadPoolExecutor() as pool,
            DaskExecutor(cluster.address) as executor,
        ):
            watcher = Watcher()
            pool.submit(lambda: wait_for(lambda: watcher.begun[7]) and cluster.scheduler.kill())
            run_jobs([*jobs, probe(7, seconds=600)], results, executor, progress=watcher)
        wait_for(lambda: not children_of(worker))


@IN_PROC
def test_a_job_that_takes_its_dask_workers_along_is_a_row_and_is_tried_again(cluster, tmp_path):
    jobs = [probe(seed, seconds=1) for seed in range(6)]
    with cluster(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as cluster:
        cluster.add_workers(2)
        lines, _ = killed_in_the_middle(cluster, jobs, tmp_path / "results.jsonl")
        failed = [line for line in lines if "error" in line]
        assert 1 <= len(failed) <= 2  # what it ran, and perhaps what it was to run next
        assert all("KilledWorker" in line["error"] for line in failed)
        watcher = Watcher()
        with DaskExecutor(cluster.address) as executor:
            again = run_jobs(jobs, tmp_path / "results.jsonl", executor, progress=watcher)
        assert all("answer" in line for line in again)
        assert sorted(watcher.begun) == [line["job"]["seed"] for line in failed]


def test_dask_workers_have_the_versions_of_the_client(cluster, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ConfigError, match=r"no scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        DaskExecutor("tcp://127.0.0.1:1", patience=1)
    other = tmp_path / "other"
    (other / "xopt-0.0.1.dist-info").mkdir(parents=True)
    (other / "xopt-0.0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: xopt\nVersion: 0.0.1\n")
    with cluster() as cluster:
        with pytest.raises(ConfigError, match="has no workers"):
            DaskExecutor(cluster.address, patience=1)
        cluster.add_workers(1)
        with DaskExecutor(cluster.address) as executor:
            cluster.add_workers(1, PYTHONPATH=os.pathsep.join([str(other), os.environ.get("PYTHONPATH", "")]))
            lines = run_jobs([probe(seed, seconds=1) for seed in range(6)], tmp_path / "results.jsonl", executor)
        answers, errors = ([line for line in lines if key in line] for key in ("answer", "error"))
        assert answers and errors
        assert all("xopt is 0.0.1 there, and" in line["error"] for line in errors)
        with pytest.raises(ConfigError, match=r"worker tcp://\S+: xopt is 0\.0\.1 there, and"):
            DaskExecutor(cluster.address)

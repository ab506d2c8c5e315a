"""One contestant's measurement in a process of its own: ``python -m gpu_gs.bench.worker`` with a job on stdin.

The job and the answer are JSON. The parent sets the thread count through the environment before this starts.

With ``--forks`` it takes a job a line, and forks a process for each from one that has imported everything: a whole run
of 60 evaluations may take less time than the imports. With ``--lifeline FD`` it ends, and its whole process group with
it, when the other end of that pipe is closed: when its parent is gone, however it went.
"""

import argparse
import gc
import importlib
import json
import operator
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from gpu_gs.bench.contestants import Contestant, build
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.spaces import Point

SMALLEST = 3
"""Asks that are timed also where the limit is over sooner."""


def latency(job: dict[str, Any]) -> dict[str, Any]:
    """Asks in sequence, each told its value, from n random evaluations on.

    Args:
        job: contestant, problem, n, asks, batch (candidates of an ask), pending (other trials that run during each
            ask; 0 if it is missing), limit (seconds of all asks together after which no further one is timed), seed;
            storage (whether the contestant writes every trial into a database, False if it is missing); data (the kind
            of data that evaluations are reported as, of ``cases.DataKind``; one value of each metric if it is missing).

    Returns:
        ``start``: seconds of the start with all n evaluations, imports included; ``ask`` and ``tell``: seconds of each,
        the tell of all its candidates; ``first``: seconds of the first ask, apart; ``details``: what the contestant
        recorded, a list an ask; ``devices``: where it ran, as far as it recorded that; ``peak_mb`` of the process;
        ``asks_mb``: by how much it exceeds what was there before the first ask; ``cuda_mb``: the peak of torch's memory
        on CUDA; ``best``: seconds of the question for the best parameters, after the last tell, three times; none
        where the contestant has no such question.

    Raises:
        NotImplementedError: The contestant stores nothing, or takes no such data.
        ValueError: The problem's evaluations cannot be reported as such data.
    """
    contestant = build(job["contestant"])
    if job.get("data"):
        contestant.report(job["data"])
    with tempfile.TemporaryDirectory() as folder:
        if job.get("storage", False):
            contestant.store(Path(folder) / "experiment.sqlite")
        return _latency(job, contestant)


def _latency(job: Mapping[str, Any], contestant: Contestant) -> dict[str, Any]:
    problem = PROBLEMS[job["problem"]]
    batch = job["batch"]
    points = problem.initial_points(job["n"], job["seed"])
    outcomes = [problem.observe(p, i) for i, p in enumerate(points)]
    started = time.perf_counter()
    contestant.start(problem, job["seed"], points, outcomes)
    start = time.perf_counter() - started
    running = _running(contestant, job.get("pending", 0))
    before = resident_mb()
    asks: list[float] = []
    tells: list[float] = []
    counts: list[int] = []
    for k in range(job["asks"] + 1):
        started = time.perf_counter()
        candidates = contestant.ask(batch)
        asked = time.perf_counter()
        # Ax's first ask after the initial points yields one trial: Sobol's node still decides how many.
        if k > 0 and len(candidates) != batch:
            raise RuntimeError(f"asked for {batch} candidates, got {len(candidates)}")
        running += candidates
        told = [running.pop(0) for _ in candidates]
        outcomes = [problem.observe(x, job["n"] + sum(counts) + i) for i, x in enumerate(told)]
        counts.append(len(candidates))
        evaluated = time.perf_counter()
        contestant.tell(told, outcomes)
        tells.append(time.perf_counter() - evaluated)
        asks.append(asked - started)
        if sum(asks) + sum(tells) > job["limit"] and k >= SMALLEST:
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    questions = []
    for _ in range(3 if contestant.answers_best else 0):
        started = time.perf_counter()
        contestant.best()
        questions.append(time.perf_counter() - started)
    recorded = contestant.details()
    details = recorded[-batch * (len(asks) - 1) :]
    return {
        "start": start,
        "best": questions,
        "first": asks[0],
        "ask": asks[1:],
        "tell": tells[1:],
        "details": [details[i : i + batch] for i in range(0, len(details), batch)],
        "devices": _devices(recorded),
        "peak_mb": peak,
        "asks_mb": max(peak - before, 0.0),
        "cuda_mb": cuda_peak_mb(),
    }


def _devices(details: list[dict[str, Any]]) -> list[str]:
    return sorted({str(row["device"]) for row in details if row.get("device")})


def cuda_peak_mb() -> float | None:
    """The peak of torch's memory on all GPUs; None where CUDA was not used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20


def _running(contestant: Contestant, count: int) -> list[Point]:
    """So many points asked for, one after the other, and not told."""
    running: list[Point] = []
    while len(running) < count:
        running += contestant.ask()
    return running


def regret(job: dict[str, Any]) -> dict[str, Any]:
    """A whole run from shared initial points.

    Args:
        job: contestant, problem, seed, evaluations, initial; batch (candidates of an ask, all told before the next
            ask) and pending (other trials that run during each ask: the oldest is told after each), 1 and 0 if missing;
            limit (seconds after which the run is given up), none if missing.

    Returns:
        ``regret``: the noise-free regret after each evaluation, in the order in which the values were told;
        ``seconds``: of each ask plus tell; ``points``: those evaluated after the initial ones; ``strategy_seconds`` and
        ``objective_seconds``: for each of these, what went to asks and tells since the one before it (those told
        together share it evenly), and to its evaluation; ``warm_up``: seconds of ``_warm_up``, which are in none of
        these; ``start``: seconds of the start with the initial points; ``cpu_seconds``: processor time of all asks and tells, which other processes on the machine
        hardly change; ``devices``: where the contestant ran, as far as it recorded that.

    Raises:
        RuntimeError: A point asked for is outside of the search space or violates a linear constraint: what it would be
            judged by is worth nothing.
    """
    problem = PROBLEMS[job["problem"]]
    seed, evaluations, batch = job["seed"], job["evaluations"], job.get("batch", 1)
    points = problem.initial_points(job["initial"], seed)
    outcomes = [problem.observe(p, seed * 100_000 + i) for i, p in enumerate(points)]
    started = time.perf_counter()
    _warm_up(job, points, outcomes)
    warm_up = time.perf_counter() - started
    contestant = build(job["contestant"])
    started = time.perf_counter()
    contestant.start(problem, seed, points, outcomes)
    start = time.perf_counter() - started
    seconds: list[float] = []
    strategy: list[float] = []
    objective: list[float] = []
    cpu = 0.0
    running: list[Point] = []
    first_evaluated = len(points)
    while len(points) < evaluations:
        # With others pending, one a time: the first ask fills up, the last ones only wait.
        free = job.get("pending", 0) + batch - len(running)
        count = min(free, evaluations - len(points) - len(running))
        begun_cpu, started = time.process_time(), time.perf_counter()
        asked: list[Point] = []
        while len(asked) < count:  # Ax's first ask after the initial points yields one trial
            asked += contestant.ask(min(batch, count - len(asked)))
        paused, paused_cpu = time.perf_counter(), time.process_time()
        if outside := [x for x in asked if not problem.space.admits(x)]:
            raise RuntimeError(f"asked for a point outside of the search space of {problem.name}: {outside[0]}")
        running += asked
        told = [running.pop(0) for _ in range(min(batch, len(running)))]
        outcomes = []
        for i, x in enumerate(told):
            begun = time.perf_counter()
            outcomes.append(problem.observe(x, seed * 100_000 + len(points) + i))
            objective.append(time.perf_counter() - begun)
        evaluated, evaluated_cpu = time.perf_counter(), time.process_time()
        contestant.tell(told, outcomes)
        spent = paused - started + time.perf_counter() - evaluated
        cpu += paused_cpu - begun_cpu + time.process_time() - evaluated_cpu
        strategy += [spent / len(told)] * len(told)
        if asked:
            seconds.append(spent / len(asked))
        points += told
    return {
        "regret": problem.regrets([problem.true_outcomes(x) for x in points]),
        "seconds": seconds,
        "points": points[first_evaluated:],
        "strategy_seconds": strategy,
        "objective_seconds": objective,
        "warm_up": warm_up,
        "start": start,
        "cpu_seconds": cpu,
        "devices": _devices(contestant.details()),
    }


def _warm_up(job: Mapping[str, Any], points: Sequence[Point], outcomes: Sequence[Mapping[str, float]]) -> None:
    """The start and first ask, for one candidate, of a contestant that is thrown away.

    So what happens once in a process (imports, a calibration, compiling) is no part of the run: contestants differ in
    how much of it they do in their first ask. Nor is what a contestant keeps in its process of the search space.
    Afterwards the global random generators have the job's seed.
    """
    contestant = build(job["contestant"])
    contestant.start(PROBLEMS[job["problem"]], job["seed"], points, outcomes)
    contestant.ask()
    random.seed(job["seed"])
    for name, seed in (("numpy", "random.seed"), ("torch", "manual_seed")):
        if name in sys.modules:
            operator.attrgetter(seed)(sys.modules[name])(job["seed"])


def memory(job: dict[str, Any]) -> dict[str, Any]:
    """Many asks with the same n evaluations known: every point asked for is given up again.

    Args:
        job: contestant, problem, n, asks, seed.

    Returns:
        ``resident_mb``: memory after each tenth of the asks, the first value after a twentieth of them;
        ``state_bytes``: of the stored state, at the same times; ``seconds``: of all asks.
    """
    problem = PROBLEMS[job["problem"]]
    points = problem.initial_points(job["n"], job["seed"])
    contestant = build(job["contestant"])
    contestant.start(problem, job["seed"], points, [problem.observe(p, i) for i, p in enumerate(points)])
    asks = job["asks"]
    marks = {max(asks // 20, 1), *(asks * tenth // 10 for tenth in range(1, 11))}
    at, resident, state = [], [], []
    started = time.perf_counter()
    for k in range(1, asks + 1):
        contestant.ask()
        contestant.drop()
        if k in marks:
            gc.collect()
            at.append(k)
            resident.append(resident_mb())
            state.append(contestant.state_bytes())
    return {"at": at, "resident_mb": resident, "state_bytes": state, "seconds": time.perf_counter() - started}


def resident_mb() -> float:
    """Memory of this process in main memory now; its peak where /proc is missing."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


def probe(job: dict[str, Any]) -> dict[str, Any]:
    """Nothing that takes more than time: to try executors, environments and machines.

    Args:
        job: seconds to wait; status to end with instead of an answer, none if missing.

    Returns:
        ``process``: its number; ``threads``: what numerical libraries are told.
    """
    time.sleep(job["seconds"])
    if "status" in job:
        os._exit(job["status"])
    return {"process": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}


Measurement = Callable[[dict[str, Any]], dict[str, Any]]
KINDS: dict[str, Measurement | str] = {
    "latency": latency,
    "regret": regret,
    "memory": memory,
    "article": "gpu_gs.bench.article:measure",
    "probe": probe,
}
"""What answers each kind of job; a text is imported first."""

STOP_THEMSELVES = ("latency", "article")
"""Kinds of jobs whose ``limit`` is for what they time; that of the others is for the whole job."""

TO_IMPORT = ("gpu_gs.plugin.strategy", "ax.api.client", "botorch.optim.optimize")
"""What most contestants import; no CUDA context and no threads come of it."""


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Answers a job; the system ends this process when the job's time is over, whatever it does then."""
    kind = KINDS[job["kind"]]
    if isinstance(kind, str):
        module, _, name = kind.partition(":")
        kind = cast("Measurement", getattr(importlib.import_module(module), name))
    seconds = patience(job)
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    return kind(job)


def patience(job: Mapping[str, Any]) -> float | None:
    """Seconds after which a job is ended without an answer; None if it may take forever.

    A job that stops by itself at its ``limit`` gets five times that and the minutes that the start may take.
    """
    if "limit" not in job:
        return None
    return float(5 * job["limit"] + 600 if job["kind"] in STOP_THEMSELVES else job["limit"])


def ending(code: int, job: Mapping[str, Any], said: str) -> str:
    """Why a process ended without an answer, from its exit code and the last that it said."""
    if code == -signal.SIGALRM and (seconds := patience(job)) is not None:
        return f"ended after {seconds:g} seconds"  # what it said until then does not matter
    if code >= 0:
        return said or f"ended with status {code}"
    name = signal.Signals(-code).name
    return f"{said}\nended by {name}{', perhaps for want of memory' if name == 'SIGKILL' else ''}".strip()


def tail(file: IO[bytes], length: int = 2000) -> str:
    """The last that was written into a file."""
    file.seek(max(file.seek(0, os.SEEK_END) - length, 0))
    return file.read().decode("utf-8", "replace").strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--forks", action="store_true")
    parser.add_argument("--lifeline", type=int)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    if options.forks:
        serve(answers, options.lifeline)
        return
    hold(options.lifeline)
    job = json.load(sys.stdin)
    json.dump(measure(job), answers)
    answers.close()


def hold(lifeline: int | None) -> None:
    """Has this process, and its group, end when the other end of the pipe is closed."""
    if lifeline is None:
        return

    def wait() -> None:
        os.read(lifeline, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def serve(answers: IO[str], lifeline: int | None = None) -> None:
    """Answers each line with a line: ``{"answer": ...}`` or ``{"error": text}``."""
    for module in TO_IMPORT:
        importlib.import_module(module)
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                os.dup2(errors.fileno(), 2)
                os.dup2(errors.fileno(), 1)
                status = 1
                try:
                    hold(lifeline)
                    answers.write(json.dumps({"answer": measure(job)}) + "\n")
                    answers.flush()
                    status = 0
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            if status != 0:
                text = ending(os.waitstatus_to_exitcode(status), job, tail(errors))
                answers.write(json.dumps({"error": text}) + "\n")
                answers.flush()


if __name__ == "__main__":
    main()

"""One contestant's measurement in a process of its own: ``python -m gpu_gs.bench.worker`` with a job on stdin.

The job and the answer are JSON. The parent sets the thread count through the environment before this starts.

``python -m gpu_gs.bench.worker --forks`` takes a job a line, and forks a process for each from one that has imported
everything: a whole run of 60 evaluations may take less time than the imports.
"""

import gc
import importlib
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import Contestant, build
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.spaces import Point

SMALLEST = 3
"""Asks that are timed also where the limit is over sooner."""


def latency(job: dict[str, Any]) -> dict[str, Any]:
    """Asks in sequence, each told its value, from n random evaluations on.

    Args:
        job: contestant, problem, n, asks, batch (candidates of an ask), pending (other trials that run during each
            ask; 0 if it is missing), limit (seconds of all asks together after which no further one is timed), seed.

    Returns:
        ``ask`` and ``tell``: seconds of each, the tell of all its candidates; ``first``: seconds of the first ask,
        apart; ``details``: what the contestant recorded, a list an ask; ``peak_mb`` of the process; ``asks_mb``: by
        how much it exceeds what was there before the first ask; ``cuda_mb``: the peak of torch's memory on CUDA;
        ``best``: seconds of the question for the best parameters, after the last tell, three times.
    """
    problem = PROBLEMS[job["problem"]]
    batch = job["batch"]
    points = problem.initial_points(job["n"], job["seed"])
    contestant = build(job["contestant"])
    contestant.start(problem, job["seed"], points, [problem.observe(p, i) for i, p in enumerate(points)])
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
    for _ in range(3):
        started = time.perf_counter()
        contestant.best()
        questions.append(time.perf_counter() - started)
    details = contestant.details()[-batch * (len(asks) - 1) :]
    return {
        "best": questions,
        "first": asks[0],
        "ask": asks[1:],
        "tell": tells[1:],
        "details": [details[i : i + batch] for i in range(0, len(details), batch)],
        "peak_mb": peak,
        "asks_mb": max(peak - before, 0.0),
        "cuda_mb": cuda_peak_mb(),
    }


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
            ask) and pending (other trials that run during each ask: the oldest is told after each), 1 and 0 if missing.

    Returns:
        ``regret``: the noise-free regret after each evaluation, in the order in which the values were told;
        ``seconds``: of each ask plus tell; ``points``: those evaluated after the initial ones.
    """
    problem = PROBLEMS[job["problem"]]
    seed, evaluations, batch = job["seed"], job["evaluations"], job.get("batch", 1)
    points = problem.initial_points(job["initial"], seed)
    contestant = build(job["contestant"])
    contestant.start(problem, seed, points, [problem.observe(p, seed * 100_000 + i) for i, p in enumerate(points)])
    seconds = []
    running: list[Point] = []
    first_evaluated = len(points)
    while len(points) < evaluations:
        # With others pending, one a time: the first ask fills up, the last ones only wait.
        free = job.get("pending", 0) + batch - len(running)
        count = min(free, evaluations - len(points) - len(running))
        started = time.perf_counter()
        asked: list[Point] = []
        while len(asked) < count:  # Ax's first ask after the initial points yields one trial
            asked += contestant.ask(min(batch, count - len(asked)))
        running += asked
        paused = time.perf_counter()
        told = [running.pop(0) for _ in range(min(batch, len(running)))]
        outcomes = [problem.observe(x, seed * 100_000 + len(points) + i) for i, x in enumerate(told)]
        evaluated = time.perf_counter()
        contestant.tell(told, outcomes)
        if asked:
            seconds.append((paused - started + time.perf_counter() - evaluated) / len(asked))
        points += told
    regrets = problem.regrets([problem.true_outcomes(x) for x in points])
    return {"regret": regrets, "seconds": seconds, "points": points[first_evaluated:]}


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


KINDS = {"latency": latency, "regret": regret, "memory": memory}
TO_IMPORT = ("gpu_gs.plugin.strategy", "ax.api.client", "botorch.optim.optimize")
"""What most contestants import; no CUDA context and no threads come of it."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    if "--forks" in sys.argv[1:]:
        serve(answers)
        return
    job = json.load(sys.stdin)
    json.dump(KINDS[job["kind"]](job), answers)
    answers.close()


def serve(answers: Any) -> None:
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
                    answers.write(json.dumps({"answer": KINDS[job["kind"]](job)}) + "\n")
                    answers.flush()
                    status = 0
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            if status != 0:
                errors.seek(max(errors.seek(0, os.SEEK_END) - 2000, 0))
                text = errors.read().decode("utf-8", "replace").strip()
                answers.write(json.dumps({"error": text or f"ended with status {status}"}) + "\n")
                answers.flush()


if __name__ == "__main__":
    main()

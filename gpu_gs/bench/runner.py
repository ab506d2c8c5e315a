"""Runs benchmark jobs in processes of their own and keeps their answers as JSON lines.

Latency jobs run alone, one after the other, each contestant with its better thread setting; regret jobs run in
parallel, one thread each. A job that fails is a line with its error, not a gap; a benchmark that was interrupted goes
on where it was.
"""

import functools
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Done = Callable[[int, int, Job], None]
"""Called after each job with (finished, all, answer)."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment() -> dict[str, Any]:
    """What a figure depends on: versions, processor, number of cores, GPUs."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("gpu-gs", "ax-platform", "botorch", "gpytorch", "torch", "scipy", "numpy", "optuna"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "commit": commit or None,
        "versions": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": list(gpus()),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


@functools.cache
def gpus() -> tuple[str, ...]:
    """The GPUs on which an ask could run, by model; found out in another process, so that this one holds no memory."""
    code = "from gpu_gs.device import cuda_devices; import json; print(json.dumps([d.model for d in cuda_devices()]))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return tuple(json.loads(process.stdout.splitlines()[-1])) if process.returncode == 0 else ()


def run_job(job: Job) -> Job:
    """Runs one job in a process of its own, with ``job["threads"]`` threads; the answer carries the job.

    A job with a ``limit`` is ended, without an answer, after five times that and the minutes that the start may take.
    """
    patience = 5 * job["limit"] + 600 if "limit" in job else None
    try:
        process = subprocess.run(
            [sys.executable, "-m", "gpu_gs.bench.worker"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
            env=_with_threads(job["threads"]),
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return {"job": job, "error": f"ended after {patience:.0f} seconds"}
    if process.returncode != 0:
        return {"job": job, "error": process.stderr.strip()[-2000:] or f"ended with status {process.returncode}"}
    return {"job": job, "answer": json.loads(process.stdout)}


def _with_threads(count: int) -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(count))}


class Forks:
    """Runs jobs of one thread each in processes forked from one that has imported everything; see the worker."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run_job(self, job: Job) -> Job:
        """As ``run_job`` of this module; a server that died is started anew for the next job."""
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "gpu_gs.bench.worker", "--forks"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=_with_threads(1),
            )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        try:
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            return {"job": job, **json.loads(self._server.stdout.readline())}
        except (BrokenPipeError, json.JSONDecodeError):
            self.close()
            return {"job": job, "error": "the process that runs the jobs ended"}

    def close(self) -> None:
        if self._server is not None:
            assert self._server.stdin is not None
            assert self._server.stdout is not None
            with suppress(BrokenPipeError):
                self._server.stdin.close()
            self._server.stdout.close()
            self._server.wait()
            self._server = None


def run_jobs(
    jobs: Sequence[Job],
    results: Path,
    workers: int = 1,
    done: Callable[[int, int, Job], None] | None = None,
    forks: bool = False,
) -> list[Job]:
    """Runs what ``results`` does not hold yet, appending each answer as it comes.

    Args:
        jobs: The jobs; two equal ones are one.
        results: A JSONL file, made if missing. Failed jobs in it are tried again.
        workers: Jobs at a time; 1 for latency.
        done: Called after each with (finished, all, answer).
        forks: Fork the processes from one that has imported everything, where the system can: for jobs of one thread
            that are shorter than the imports.

    Returns:
        The answers of ``jobs``, in their order.
    """
    keys = [json.dumps(job, sort_keys=True) for job in jobs]
    answers = {json.dumps(line["job"], sort_keys=True): line for line in read_results(results) if "answer" in line}
    open_jobs = {key: job for key, job in zip(keys, jobs, strict=True) if key not in answers}
    results.parent.mkdir(parents=True, exist_ok=True)
    finished = len(set(keys)) - len(open_jobs)
    own = threading.local()  # a server for each worker
    servers: list[Forks] = []

    def run(job: Job) -> Job:
        if not (forks and hasattr(os, "fork")):
            return run_job(job)
        if not hasattr(own, "forks"):
            own.forks = Forks()
            servers.append(own.forks)
        return own.forks.run_job(job)

    with ThreadPoolExecutor(max_workers=workers) as pool, results.open("a", encoding="utf-8") as file:
        if results.stat().st_size and not results.read_bytes().endswith(b"\n"):
            file.write("\n")  # after a torn line
        futures = [pool.submit(run, job) for job in open_jobs.values()]
        try:
            for future in as_completed(futures):
                line = future.result()
                file.write(json.dumps(line) + "\n")
                file.flush()
                answers[json.dumps(line["job"], sort_keys=True)] = line
                finished += 1
                if done is not None:
                    done(finished, len(set(keys)), line)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        finally:
            pool.shutdown()
            for server in servers:
                server.close()
    return [answers[key] for key in keys]


def read_results(results: Path) -> Iterable[Job]:
    """The lines of a results file; a torn last line is left out."""
    if not results.exists():
        return
    for line in results.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue

"""Where benchmark jobs run: in processes of this machine, or on the workers of a Dask cluster.

Every job has a process of its own, with the interpreter of its contestant's environment, and is over with it. A process
ends when the one that started it does, however that ends.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import IO, Any, Protocol, Self

from gpu_gs.bench.contestants import python_of
from gpu_gs.bench.provenance import config_hash, device_of, installed, record
from gpu_gs.bench.turns import TIMED, turn
from gpu_gs.bench.worker import ending, tail
from gpu_gs.errors import ConfigError

Job = dict[str, Any]
Line = dict[str, Any]
"""``job``, ``answer`` or ``error``, and ``run``: what it rests on."""

Outcome = dict[str, Any]
"""``answer`` or ``error``."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
HASH_SEED = "0"
"""Of every job: some optimizers go through sets, and would not repeat without it."""
TOPIC = "gpu_gs-started-"


class Executor(Protocol):
    """Like those of ``concurrent.futures``, for jobs instead of functions.

    Attributes:
        alone: Whether a job has this machine to itself, as one that is timed must.
    """

    alone: bool

    def submit(self, job: Job, started: Callable[[Job], None]) -> Future[Line]:
        """Has the job run some time; ``started`` is called in some thread when it begins, again if it must anew."""

    def shutdown(self, end: bool = False) -> None:
        """Waits for what runs; with ``end``, ends it instead."""


class Closing(ABC):
    """``with`` waits for what runs at its end, and ends it if there was an error."""

    @abstractmethod
    def shutdown(self, end: bool = False) -> None:
        """See ``Executor``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(end=error is not None)


# --------------------------------------------------------------------------------------------- processes of this one


class Children:
    """Processes of workers, which end with this process at the latest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lifelines: dict[subprocess.Popen[str], int] = {}
        self._over = False

    def start(self, python: str, threads: int, errors: IO[Any], *options: str) -> subprocess.Popen[str]:
        """A worker with pipes to its input and output.

        Args:
            python: The interpreter.
            threads: The threads that numerical libraries may use in it.
            errors: Gets what it prints.
            options: Of the worker.

        Raises:
            RuntimeError: After ``end``.
        """
        read, write = os.pipe()  # the worker reads its end: it is closed when this process is gone
        try:
            with self._lock:
                if self._over:
                    raise RuntimeError("the benchmark has been ended")
                process = subprocess.Popen(
                    [python, "-m", "gpu_gs.bench.worker", "--lifeline", str(read), *options],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    pass_fds=(read,),
                    start_new_session=True,  # Ctrl-C is for this process alone
                    env={
                        **os.environ,
                        "PYTHONHASHSEED": HASH_SEED,
                        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
                    },
                )
                self._lifelines[process] = write
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        return process

    def finish(self, process: subprocess.Popen[str]) -> int:
        """Ends a process and all that it has left running; its exit code."""
        _kill(process)
        code = process.wait()
        with self._lock:
            os.close(self._lifelines.pop(process))
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return code

    @property
    def over(self) -> bool:
        """Whether ``end`` was called."""
        return self._over

    def end(self) -> None:
        """Ends all, and lets no other start."""
        with self._lock:
            self._over = True
            for process in self._lifelines:
                _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def run_job(job: Job, run: Callable[[Job], Outcome]) -> Line:
    """Runs a job; whatever happens, its line comes of it."""
    kept = record(job)
    begun = time.perf_counter()
    try:
        outcome = run(job)
    except Exception as error:  # an interpreter that is gone, a full disk
        outcome = {"error": f"{type(error).__name__}: {error}"}
    kept["seconds"] = round(time.perf_counter() - begun, 3)
    if "answer" in outcome:
        kept["device"] = device_of(job.get("contestant", ""), outcome["answer"])
    return {"job": job, **outcome, "run": kept}


def alone(job: Job, children: Children) -> Outcome:
    """Runs a job in a fresh process."""
    with tempfile.TemporaryFile() as errors:
        process = children.start(python_of(job.get("contestant", "")) or sys.executable, job["threads"], errors)
        try:
            output, _ = process.communicate(json.dumps(job))
        except BaseException:
            children.finish(process)
            raise
        # Its own code: what finish ends then are processes that it left behind.
        if code := children.finish(process):
            return {"error": ending(code, job, tail(errors))}
        try:
            return {"answer": json.loads(output)}
        except json.JSONDecodeError:
            return {"error": f"{tail(errors)}\nended without an answer".strip()}


class Forks:
    """Runs jobs of one thread each in processes forked from one that has imported everything; see the worker."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._server: subprocess.Popen[str] | None = None

    def run(self, job: Job) -> Outcome:
        """Runs a job; a server that died is started anew for the next one."""
        if self._server is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server runs
            self._server = self._children.start(sys.executable, 1, self._errors, "--forks")
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        try:
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            return dict(json.loads(self._server.stdout.readline()))
        except (BrokenPipeError, json.JSONDecodeError):
            said = tail(self._errors)
            self.close()
            return {"error": f"{said}\nthe process that runs the jobs ended".strip()}

    def close(self) -> None:
        if self._server is not None:
            assert self._server.stdin is not None
            with suppress(OSError, subprocess.TimeoutExpired):
                self._server.stdin.close()
                self._server.wait(timeout=2)
            self._children.finish(self._server)
            self._errors.close()
            self._server = None


class LocalExecutor(Closing):
    """Runs jobs in processes of this machine.

    Args:
        workers: Jobs at a time; 1 for those that are timed.
        forks: Fork the processes from one that has imported everything, where the system can: for jobs of one thread
            that are shorter than the imports. Contestants with an environment of their own get fresh ones.
    """

    def __init__(self, workers: int = 1, forks: bool = False) -> None:
        self.alone = workers == 1
        self._forks = forks and hasattr(os, "fork")
        self._pool = ThreadPoolExecutor(max_workers=workers)
        self._children = Children()
        self._own = threading.local()
        self._servers: list[Forks] = []

    def submit(self, job: Job, started: Callable[[Job], None]) -> Future[Line]:
        return self._pool.submit(self._run, job, started)

    def shutdown(self, end: bool = False) -> None:
        if end:
            self._children.end()
        self._pool.shutdown(cancel_futures=end)
        while self._servers:
            self._servers.pop().close()

    def _run(self, job: Job, started: Callable[[Job], None]) -> Line:
        with turn(job["kind"] in TIMED, lambda: self._children.over):
            started(job)
            if self._forks and job["threads"] == 1 and python_of(job.get("contestant", "")) is None:
                return run_job(job, self._server().run)
            return run_job(job, lambda job: alone(job, self._children))

    def _server(self) -> Forks:
        if not hasattr(self._own, "server"):
            self._own.server = Forks(self._children)
            self._servers.append(self._own.server)
        server: Forks = self._own.server
        return server


# ------------------------------------------------------------------------------------------------------------- Dask


class DaskExecutor(Closing):
    """Runs jobs on the workers of a Dask cluster, one a thread of a worker; each has a process of its own there.

    Nothing is sent there but the jobs: gpu_gs, the contestants' packages and environments, and strategies in files must
    be there. A job whose worker dies is run on another one; one that has taken several along is a line with its error.

    Args:
        address: Of the scheduler, such as ``tcp://10.0.0.5:8786``.
        patience: Seconds to wait for the scheduler and a first worker.

    Raises:
        ConfigError: Dask is not installed, nobody answers, or a worker has another commit or other versions.
    """

    alone = False

    def __init__(self, address: str, patience: float = 30.0) -> None:
        self._address = address
        self._client = _client(address, patience)
        try:
            self._check_workers()
        except BaseException:
            self._client.close()
            raise
        self._id = uuid.uuid4().hex
        self._closed = False
        self._pool = self._client.get_executor(pure=False)
        self._numbers = itertools.count()
        self._waiting: dict[int, Callable[[], None]] = {}
        self._client.subscribe_topic(TOPIC + self._id, self._has_started)

    def submit(self, job: Job, started: Callable[[Job], None]) -> Future[Line]:
        number = next(self._numbers)
        self._waiting[number] = lambda: started(job)
        expected = {**installed(), "config": config_hash(job.get("contestant", ""))}
        future: Future[Line] = self._pool.submit(_on_worker, job, expected, self._id, number)
        future.add_done_callback(lambda _: self._waiting.pop(number, None))
        return future

    def shutdown(self, end: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        if not end:
            self._pool.shutdown()
        elif self._client.status == "running":
            with suppress(Exception):  # the scheduler may be gone: its workers end their jobs when they go
                self._client.run(_end, self._id, on_error="ignore")
        self._client.close()

    def _has_started(self, event: tuple[float, int]) -> None:
        if (started := self._waiting.get(event[1])) is not None:
            started()

    def _check_workers(self) -> None:
        found = self._client.run(installed, on_error="return")
        wrong = [line for worker, theirs in found.items() for line in _differences(worker, theirs, installed())]
        if wrong:
            raise ConfigError(wrong)


def _client(address: str, patience: float) -> Any:
    """A client of a cluster that has a worker."""
    try:
        distributed: Any = import_module("distributed")  # its types are not complete
    except ImportError:
        raise ConfigError(["bench: dask: distributed is not installed (pip install 'gpu-gs[dask]')"]) from None
    try:
        client = distributed.Client(address, timeout=patience, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError([f"bench: dask: no scheduler answers at {address!r}: {error}"]) from None
    try:
        client.wait_for_workers(1, timeout=patience)
    except TimeoutError:
        client.close()
        raise ConfigError(
            [f"bench: dask: the scheduler at {address!r} has no workers; start some with: dask worker {address}"]
        ) from None
    return client


def _differences(worker: str, theirs: Mapping[str, Any] | BaseException, ours: Mapping[str, Any]) -> list[str]:
    """What a worker has in another version than the process that sends it jobs; a line each."""
    if isinstance(theirs, BaseException):
        return [f"bench: dask: worker {worker}: cannot run gpu_gs: {type(theirs).__name__}: {theirs}"]
    pairs = {name: (theirs["versions"].get(name), ours["versions"].get(name)) for name in _names(theirs, ours)}
    pairs["commit"] = (theirs["commit"], ours["commit"])
    return [
        f"bench: dask: worker {worker}: {name} is {there or 'missing'} there, and {here or 'missing'} here"
        for name, (there, here) in pairs.items()
        if there != here
    ]


def _names(*sides: Mapping[str, Any]) -> list[str]:
    return sorted({name for side in sides for name in side["versions"]})


_CHILDREN: dict[str, Children] = {}
"""On a worker: the processes of each executor that has sent it jobs."""


def _on_worker(job: Job, expected: Mapping[str, Any], executor: str, number: int) -> Line:
    """Runs on a worker, which may have come after the check of all."""
    from distributed import get_worker

    worker = get_worker()
    children = _CHILDREN.setdefault(executor, Children())

    def run(job: Job) -> Outcome:
        wrong = _differences(worker.address, installed(), expected)
        if config_hash(job.get("contestant", "")) != expected["config"]:
            wrong.append(f"bench: dask: worker {worker.address}: {job['contestant']} has other settings there")
        return {"error": "\n".join(wrong)} if wrong else alone(job, children)

    with turn(job["kind"] in TIMED, lambda: children.over):
        worker.log_event(TOPIC + executor, number)
        return run_job(job, run)


def _end(executor: str) -> None:
    """Runs on a worker."""
    _CHILDREN.setdefault(executor, Children()).end()

"""Runs benchmark jobs and keeps their answers as JSON lines, each with what it rests on.

Jobs that are timed run alone on this machine, one after the other; the others as many at once as the executor takes. A
job that fails is a line with its error, not a gap. A benchmark that was interrupted goes on where it was; an answer whose contestant
has been configured otherwise since does not count.
"""

import json
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, overload

from gpu_gs.bench.contestants import python_of
from gpu_gs.bench.executors import Executor, Job, Line, LocalExecutor
from gpu_gs.bench.provenance import config_hash, environment, gpus, installed, machine, record
from gpu_gs.bench.turns import TIMED
from gpu_gs.errors import ConfigError, TaskError
from gpu_gs.run.folder import Lock

HEEDS_SIGNALS_EACH_S = 0.5
"""A thread that waits for a lock may miss a signal: one that came just before, or that another thread got."""


class Watcher(Protocol):
    """Who is told how far the jobs are; see ``progress.Progress``."""

    def plan(self, waiting: Sequence[Job], done: Sequence[tuple[Job, float | None]]) -> None:
        """What is to run, and what has run before, with its seconds."""

    def started(self, job: Job) -> None:
        """A job begins, perhaps anew; called from any thread."""

    def finished(self, line: Line) -> None:
        """A job is over, and its line is written."""


class Lines(Sequence[Line]):
    """Lines of a results file, read when they are asked for: hundreds of runs need no memory."""

    def __init__(self, path: Path, offsets: Sequence[int]) -> None:
        self._path = path
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> "Lines": ...
    def __getitem__(self, index: int | slice) -> "Line | Lines":
        if isinstance(index, slice):
            return Lines(self._path, self._offsets[index])
        return next(iter(Lines(self._path, [self._offsets[index]])))

    def __iter__(self) -> Iterator[Line]:
        with self._path.open("rb") as file:
            for offset in self._offsets:
                file.seek(offset)
                yield json.loads(file.readline())


def run_jobs(
    jobs: Sequence[Job],
    results: Path,
    executor: Executor | None = None,
    *,
    workers: int = 1,
    forks: bool = False,
    progress: Watcher | None = None,
) -> Lines:
    """Runs what ``results`` does not hold yet, appending each answer as it comes.

    Whatever ends this early (Ctrl-C, a full disk) ends what runs, and leaves every line written so far whole.

    Args:
        jobs: The jobs; two equal ones are one.
        results: A JSONL file, made if missing. Failed jobs in it are tried again.
        executor: Where jobs run; by default a ``LocalExecutor`` with the next two.
        workers: Jobs at a time.
        forks: Fork the processes from one that has imported everything.
        progress: Is told how far it is.

    Returns:
        The lines of ``jobs``, in their order.

    Raises:
        ConfigError: Jobs that are timed would not run alone.
        TaskError: Another process writes there, the disk is full, or the executor has lost the jobs.
    """
    if executor is None:
        with LocalExecutor(workers, forks) as own:
            return run_jobs(jobs, results, own, progress=progress)
    if not executor.alone and (timed := sorted({job["kind"] for job in jobs if job["kind"] in TIMED})):
        raise ConfigError([f"bench: {', '.join(timed)}: is timed, and runs one job at a time on this machine"])
    by_key = {_key(job): job for job in jobs}
    make_folder(results.parent)
    with Lock(results.parent), _Appender(results) as file:
        offsets: dict[str, int] = {}
        done: dict[str, float | None] = {}
        for offset, line in _answers(results, by_key):
            key = _key(line["job"])
            offsets[key], done[key] = offset, line.get("run", {}).get("seconds")
        waiting = {key: job for key, job in by_key.items() if key not in offsets}
        if progress is not None:
            progress.plan(list(waiting.values()), [(by_key[key], seconds) for key, seconds in done.items()])
        with closing(_outcomes(waiting, executor, progress)) as outcomes:
            for key, line in outcomes:
                offsets[key] = file.append(line)
                if progress is not None:
                    progress.finished(line)
    return Lines(results, [offsets[_key(job)] for job in jobs])


def make_folder(folder: Path) -> None:
    """Makes a folder of results.

    Raises:
        TaskError: It cannot be made, or is no folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TaskError(f"{folder}: cannot be a folder of results: {error.strerror or error}") from None


def _key(job: Job) -> str:
    """What an answer is the answer to: a whole run that came to its end is the same under every limit."""
    return json.dumps(
        {name: x for name, x in job.items() if (name, job["kind"]) != ("limit", "regret")}, sort_keys=True
    )


def _answers(results: Path, wanted: Container[str]) -> Iterator[tuple[int, Line]]:
    """The answers to wanted jobs, with their places.

    Those of contestants with other settings by now do not count, and neither do times of another machine.
    """
    settings: dict[str, str] = {}
    for offset, line in _lines(results):
        if "answer" not in line or _key(line["job"]) not in wanted:
            continue
        if line["job"]["kind"] in TIMED and line.get("run", {}).get("machine", machine()) != machine():
            continue
        contestant = line["job"].get("contestant", "")
        if contestant not in settings:
            settings[contestant] = config_hash(contestant)
        # Lines written before there were hashes have none.
        if line.get("run", {}).get("config", settings[contestant]) == settings[contestant]:
            yield offset, line


def other_origins(results: Path) -> list[str]:
    """What answers in a results file rest on that this process does not have, to be said before it goes on; a line each.

    They count all the same: a run is not made again because a comment has changed. Timed answers of another machine do
    not, see ``_answers``.
    """
    here = {**installed(), "machine": machine()}
    counts: dict[str, int] = {}
    for line in read_results(results):
        run = line.get("run")
        if "answer" not in line:
            continue
        if run is None:
            words = ["no origin"]
        else:
            words = [f"commit {run.get('commit')}"] if run.get("commit") != here["commit"] else []
            if python_of(line["job"].get("contestant", "")) is None:  # others have versions of their own
                theirs, ours = run.get("versions", {}), here["versions"]
                words += [f"{name} {x}" for name, x in theirs.items() if name != "gpu-gs" and ours.get(name) != x]
            words += ["another machine"] if run.get("machine") != here["machine"] else []
        if words:
            counts[", ".join(words)] = counts.get(", ".join(words), 0) + 1
    return [
        f"{results}: {count} of its answers have {words}; they count, take another folder to make them anew"
        for words, count in counts.items()
    ]


def _outcomes(
    waiting: dict[str, Job], executor: Executor, progress: Watcher | None
) -> Generator[tuple[str, Line], None, None]:
    """The line of each job as it comes; if that is not taken to the end, what runs is ended."""
    futures: dict[Future[Line], str] = {}
    try:
        for key, job in waiting.items():
            futures[executor.submit(job, _nobody if progress is None else progress.started)] = key
        for future in _as_completed(futures):
            key = futures.pop(future)
            yield key, _line(future, waiting[key])
    finally:
        if futures:
            for future in futures:
                future.cancel()
            executor.shutdown(end=True)


def _as_completed(futures: Iterable[Future[Line]]) -> Iterator[Future[Line]]:
    """Like that of ``concurrent.futures``, which a Ctrl-C does not wake if it comes at the wrong moment."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=HEEDS_SIGNALS_EACH_S, return_when=FIRST_COMPLETED)
        while done:
            yield done.pop()


def _nobody(job: Job) -> None:
    pass


def _line(future: Future[Line], job: Job) -> Line:
    if future.cancelled():
        raise TaskError("bench: the cluster has lost its jobs; the same command goes on from what is written")
    error = future.exception()
    if error is None:
        return future.result()
    # The process that was to run it is gone, and what it ran on is not known.
    return {"job": job, "error": f"{type(error).__name__}: {error}", "run": {**record(job), "machine": None}}


# --------------------------------------------------------------------------------------------------------- the file


class _Appender:
    """A results file, open for one line after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("a+b", buffering=0)
        except OSError as error:
            raise TaskError(f"{self._path}: cannot be written: {error.strerror or error}") from None
        self._end = self._file.seek(0, 2)
        try:
            if self._end and self._last() != b"\n":
                self._write(b"\n")  # after a torn line
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, line: Line) -> int:
        """Writes a line, whole or not at all; its place.

        Raises:
            TaskError: It cannot be written.
        """
        start = self._end
        self._write(json.dumps(line).encode() + b"\n")
        return start

    def _last(self) -> bytes:
        self._file.seek(self._end - 1)
        return self._file.read(1)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise TaskError(
                f"{self._path}: cannot be written: {error.strerror or error}; the lines in it are whole, and the same "
                "command goes on from there"
            ) from None
        self._end += len(data)


def read_results(results: Path) -> Iterator[Line]:
    """The lines of a results file; a torn one is left out."""
    return (line for _, line in _lines(results))


def _lines(results: Path) -> Iterator[tuple[int, Any]]:
    """The lines with their places in bytes."""
    if not results.exists():
        return
    offset = 0
    with results.open("rb") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:  # not JSON, not even UTF-8
                line = None
            if isinstance(line, dict) and isinstance(line.get("job"), dict):
                yield offset, line
            offset += len(text)


__all__ = [
    "TIMED",
    "Job",
    "Lines",
    "Watcher",
    "environment",
    "gpus",
    "make_folder",
    "other_origins",
    "read_results",
    "run_jobs",
]

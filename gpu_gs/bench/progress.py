"""What a person sees while a benchmark runs: what runs now, what is left, and how long that may take.

On a terminal, a few lines that are kept up to date; elsewhere, such as in a log file, a line for each job.

The time left is estimated from the jobs that are done: a job takes the mean of those that differ from it in nothing but
the seed; where there is none, of those of the same contestant, else of those of the same case, else of all. What that
adds up to is shared by as many jobs as run at once.
"""

import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from gpu_gs.bench.contestants import short
from gpu_gs.bench.executors import Job, Line
from gpu_gs.bench.words import unusual

SHOWN = 8
"""Running jobs that have a line of their own."""

WIDE = 100
"""Columns of a terminal from which there is room for a bar."""


class Estimates:
    """Seconds that jobs take, from those that are done."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()
        self.count = 0

    def add(self, job: Job, seconds: float) -> None:
        self.count += 1
        for group in _groups(job):
            self._sums[group] += seconds
            self._counts[group] += 1

    def of(self, job: Job) -> float | None:
        """The mean of the jobs most like this one; None while there are none of its kind."""
        for group in _groups(job):
            if self._counts[group]:
                return self._sums[group] / self._counts[group]
        return None

    def left(
        self, waiting: Sequence[tuple[Job, int]], running: Sequence[tuple[Job, float]], at_once: int
    ) -> float | None:
        """Seconds until all are done; None while one of them is of a kind of which none is done.

        Args:
            waiting: Jobs with their number.
            running: Jobs with the seconds that they have run.
            at_once: Jobs at a time.
        """
        total = longest = 0.0
        for job, count in waiting:
            if (seconds := self.of(job)) is None:
                return None
            total += seconds * count
            longest = max(longest, seconds)
        for job, gone in running:
            if (seconds := self.of(job)) is None:
                return None
            rest = max(seconds - gone, 0.0)
            total += rest
            longest = max(longest, rest)
        return max(total / max(at_once, 1), longest)


def _groups(job: Job) -> list[str]:
    """The groups of jobs that this one is in, the most like it first."""
    who = ("contestant", "threads")
    case = {key: value for key, value in job.items() if key not in (*who, "seed")}
    return [
        json.dumps(group, sort_keys=True)
        for group in (
            [case, [job.get(key) for key in who]],
            [job["kind"], job.get("contestant")],
            [case],
            [job["kind"]],
        )
    ]


class Progress:
    """``with Progress() as progress:`` shows how far the jobs are that ``run_jobs(..., progress=progress)`` runs.

    Args:
        live: Whether to keep lines up to date on stderr, instead of writing one a job; by default, on a terminal.
        clock: Seconds from any time on.
    """

    def __init__(self, live: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._live: Any = None  # rich.live.Live; what a terminal shows is asked of ``view``
        self._wanted = sys.stderr.isatty() if live is None else live
        self.plan([], [])

    def __enter__(self) -> Self:
        if self._wanted:
            from rich.console import Console
            from rich.live import Live

            # Once a second: what is shown costs the benchmark no time to speak of.
            self._live = Live(
                console=Console(stderr=True), get_renderable=self.view, refresh_per_second=1, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def plan(self, waiting: Sequence[Job], done: Sequence[tuple[Job, float | None]]) -> None:
        """A section begins.

        Args:
            waiting: What is to run.
            done: What has run before, with its seconds where they are known.
        """
        with self._lock:
            self._kind = next((job["kind"] for job in (*waiting, *(job for job, _ in done))), "")
            self._total = len(waiting) + len(done)
            self._finished = len(done)
            self._failed = 0
            self._here = 0
            self._begun = self._clock()
            self._running: dict[str, tuple[Job, float]] = {}
            self._at_once = 1
            self._estimates = Estimates()
            # Jobs that differ in their seed alone take the same time.
            self._waiting = Counter(_groups(job)[0] for job in waiting)
            self._sample = {_groups(job)[0]: job for job in waiting}
            for job, seconds in done:
                if seconds is not None:
                    self._estimates.add(job, seconds)
        if done and not waiting:
            self._say(f"{self._kind}: nothing to run, {_jobs(len(done))} done before")

    def started(self, job: Job) -> None:
        with self._lock:
            key = json.dumps(job, sort_keys=True)
            if key not in self._running:
                self._waiting[_groups(job)[0]] -= 1
            self._running[key] = (job, self._clock())
            if self._waiting.total() > 0:  # with nothing left to begin, places stay empty
                self._at_once = len(self._running)

    def finished(self, line: Line) -> None:
        with self._lock:
            job = line["job"]
            _, begun = self._running.pop(json.dumps(job, sort_keys=True), (job, self._clock()))
            seconds = line.get("run", {}).get("seconds", self._clock() - begun)
            self._estimates.add(job, seconds)
            self._finished += 1
            self._here += 1
            failed = "error" in line
            self._failed += failed
            text = f"{_described(job)}: {'failed' if failed else 'done'} in {duration(seconds)}"
            if failed:
                text += f": {line['error'].strip().splitlines()[-1]}"
            left = self._left()
        if self._live is None:
            self._say(f"[{self._finished}/{self._total}] {text}{f'; {left}' if left else ''}")
            return
        if failed:
            self._say(text)
        if self._finished == self._total:
            ending = f", {self._failed} failed" if self._failed else ""
            self._say(f"{self._kind}: {_jobs(self._here)} in {duration(self._clock() - self._begun)}{ending}")

    def _say(self, text: str) -> None:
        """A line above what is shown, where something is."""
        if self._live is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._live.console.print(text, markup=False, highlight=False)

    def _left(self) -> str:
        """The time left in words; empty where nothing is left."""
        if self._finished >= self._total:
            return ""
        now = self._clock()
        waiting = [(self._sample[group], count) for group, count in self._waiting.items() if count > 0]
        running = [(job, now - begun) for job, begun in self._running.values()]
        seconds = self._estimates.left(waiting, running, self._at_once)
        if seconds is None:
            return "time left unknown"
        if seconds < 1:
            return "soon done"
        return f"about {duration(seconds)} left by {_jobs(self._estimates.count)} done"

    def view(self) -> Any:
        """What a terminal shows."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            if not self._total:
                return Text("")
            now = self._clock()
            facts = [f"{self._finished} of {self._total}", f"{self._failed} failed" if self._failed else ""]
            facts += [f"{duration(now - self._begun)} gone", self._left()]
            table = Table.grid(padding=(0, 1))
            table.add_column(no_wrap=True, overflow="ellipsis")
            head = Table.grid(padding=(0, 1))
            bar = [ProgressBar(self._total, self._finished, width=20)] if self._live.console.width >= WIDE else []
            head.add_row(Text(self._kind, "bold"), *bar, Text(" · ".join(fact for fact in facts if fact)))
            table.add_row(head)
            running = sorted(self._running.values(), key=lambda item: item[1])
            for job, begun in running[:SHOWN]:
                expected = self._estimates.of(job)
                of = "" if expected is None else f" of about {duration(expected)}"
                table.add_row(Text(f"  {_described(job)}: {duration(now - begun)}{of}"))
            if len(running) > SHOWN:
                table.add_row(Text(f"  and {len(running) - SHOWN} more"))
            return table


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _described(job: Job) -> str:
    where = f"n={job['n']}" if "n" in job else f"seed {job.get('seed')}"
    where += "".join(f", {words}" for words in unusual(job))
    threads = f"{job['threads']} thread{'s' if job['threads'] > 1 else ''}"
    return " ".join(
        [*(str(part) for part in (short(job.get("contestant", "")), job.get("problem")) if part), f"{where}, {threads}"]
    )


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return _two(minutes, 60, "h", "min")
    return _two(hours, 24, "d", "h")


def _two(count: int, of: int, large: str, small: str) -> str:
    whole, rest = divmod(count, of)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"

"""The main job: ask, evaluate, tell, with every step in the journal before the next one begins.

Whatever stops a run (the last trial, Ctrl-C, failures, a kill), the journal has all of it but the trial in flight, and
``resume`` goes on from there.
"""

import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_gs.config import dump_yaml
from gpu_gs.errors import ConfigError, GpuGsError, TaskError
from gpu_gs.run import journal
from gpu_gs.run.baselines import random_point
from gpu_gs.run.experiment import (
    build_client,
    complete,
    metrics_of,
    pinned,
    problems_of,
    rebuild,
    run_to_json,
    versions,
    with_folder,
    with_seed,
)
from gpu_gs.run.folder import Lock, create, replace
from gpu_gs.run.goal import Goal
from gpu_gs.run.objectives import Objective, Outcome, evaluate, import_objective
from gpu_gs.run.outputs import write_experiment, write_results, write_tables
from gpu_gs.run.progress import Progress
from gpu_gs.run.signals import Interrupted, Signals
from gpu_gs.run.summary import summarize
from gpu_gs.run.task_config import TaskConfig

if TYPE_CHECKING:
    from ax.api.client import Client

Say = Callable[[str], object]


class _Stopped(Exception):
    """The run ends before its last trial, for a reason that it can name."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def run_task(
    config: TaskConfig,
    folder: str | Path,
    *,
    task_folder: Path | None = None,
    shown: bool | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Runs a task from its first trial to its report.

    Args:
        config: The task.
        folder: The run's folder; it must be empty or not exist.
        task_folder: The folder of the task's file, where its modules are looked for too.
        shown: Whether progress is shown on stderr; by default, where it is a terminal.
        say: Gets remarks, a line each.

    Returns:
        The summary, as in ``result.json``.

    Raises:
        ConfigError: The task is wrong.
        DeviceUnavailableError: The strategy's device is not there.
        TaskError: The folder cannot be used.
    """
    config = with_seed(with_folder(config, task_folder))
    if problems := problems_of(config):  # every mistake in the task shows before a folder is made
        raise ConfigError(problems)
    client = build_client(config)
    goal = Goal.parse(config.optimize, config.outcome_constraints)
    objective, held_out = _functions(config)
    folder = create(Path(folder))
    with Lock(folder):
        _write_resolved(config, folder)
        dumped = config.model_dump(mode="json")
        with journal.Journal(folder) as book:
            start = book.append(
                "start",
                format=journal.FORMAT,
                config=dumped,
                config_hash=config_hash(dumped),
                versions=versions(),
                pid=os.getpid(),
            )
            run = Run(config, goal, folder, book, [start], client, objective, held_out, shown, say)
            return run.execute()


def resume(
    folder: str | Path, *, trials: int | None = None, shown: bool | None = None, say: Say | None = None
) -> dict[str, Any]:
    """Goes on with a run after a stop or a kill; the trial in flight is evaluated again.

    Args:
        folder: The run's folder.
        trials: Another total number of trials, to make a run longer.
        shown: Whether progress is shown on stderr; by default, where it is a terminal.
        say: Gets remarks, a line each.

    Returns:
        The summary, as in ``result.json``.

    Raises:
        TaskError: The folder or its journal cannot be used.
    """
    folder, say = Path(folder), say or (lambda text: None)
    if not folder.is_dir():
        raise TaskError(f"{folder}: no such folder")
    if not (folder / journal.NAME).exists():
        raise TaskError(f"{folder}: holds no {journal.NAME}; it is not the folder of a run")
    with Lock(folder):
        record = journal.read(folder)
        config = config_of(record)
        asked = len(record.all("ask"))
        if trials is not None and trials < asked:
            raise ConfigError(
                [f"--trials: {trials} is not allowed; allowed: {asked} or more, as so many exist already"]
            )
        if record.torn:
            say(f"The journal's last line was cut off ({record.torn} bytes); it is dropped.")
        for package, now in versions().items():
            before = record.start["versions"].get(package)
            if before != now:
                say(f"{package} was {before} when this run began and is {now} now; candidates may differ.")
        if is_finished(record, config) and trials in (None, config.trials):
            say(f"This run is finished ({asked} trials). To make it longer: gpu-gs resume {folder} --trials N")
            return summarize(record, config, folder)
        if trials is not None:
            config = config.model_copy(update={"trials": trials})
        goal = Goal.parse(config.optimize, config.outcome_constraints)
        objective, held_out = _functions(config)
        client = rebuild(record, config)
        _write_resolved(config, folder)
        with journal.Journal(folder, record) as book:
            again = book.append("resume", trials=config.trials, versions=versions(), pid=os.getpid())
            run = Run(config, goal, folder, book, [*record.events, again], client, objective, held_out, shown, say)
            return run.execute()


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration's plain values, its keys sorted."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def config_of(record: journal.Record) -> TaskConfig:
    """The task of a run, with the number of trials as last asked for.

    Raises:
        TaskError: The journal's configuration was changed, or this version does not understand it.
    """
    start = record.start
    if config_hash(start["config"]) != start["config_hash"]:
        raise TaskError("the journal's configuration is not the one that it began with; its first line was changed")
    try:
        config = TaskConfig.load(start["config"])
    except ConfigError as error:
        raise TaskError(f"the journal's configuration is not understood by this version: {error}") from None
    again = record.last("resume")
    return config if again is None else config.model_copy(update={"trials": again["trials"]})


def is_finished(record: journal.Record, config: TaskConfig) -> bool:
    """Whether nothing is left to do."""
    stop = record.last("stop")
    return stop is not None and record.events[-1] is stop and stop["status"] == "finished"


def _functions(config: TaskConfig) -> tuple[Objective, Objective | None]:
    objective = import_objective(config.objective, config.python_path)
    if config.held_out is None:
        return objective, None
    return objective, import_objective(config.held_out, config.python_path, key="held_out")


def _write_resolved(config: TaskConfig, folder: Path) -> None:
    resolved, remarks = pinned(config)
    header = "What this run resolved to. Running this file gives the same trials on the same device and versions."
    text = dump_yaml(resolved, header="\n".join([header, *remarks]))
    replace(folder / "resolved.yaml", lambda path: path.write_text(text, encoding="utf-8"))


class Run:
    """One run in progress.

    Args:
        config: The task, its seed set.
        goal: The task's goal.
        folder: The run's folder.
        book: The journal, open for appending.
        events: What the journal says so far.
        client: The Client, in the state that the events describe.
        objective: The function to optimize.
        held_out: The function that scores on unseen data.
        shown: See ``run_task``.
        say: See ``run_task``.
    """

    def __init__(
        self,
        config: TaskConfig,
        goal: Goal,
        folder: Path,
        book: journal.Journal,
        events: list[journal.Event],
        client: "Client",
        objective: Objective,
        held_out: Objective | None,
        shown: bool | None,
        say: Say | None,
    ) -> None:
        self.config, self.goal, self.folder = config, goal, folder
        self._book, self._events, self._client = book, events, client
        self._objective, self._held_out = objective, held_out
        self._say = say or (lambda text: None)
        self._progress = Progress(goal, config.trials, shown)
        self._signals = Signals(self._progress.say)
        self._client_is_whole = True
        self._told_seconds: float | None = None
        self._failures_in_a_row = 0
        self._done = len(self.record.all("complete")) + len(self.record.all("fail"))

    @property
    def record(self) -> journal.Record:
        return journal.Record(tuple(self._events))

    def execute(self) -> dict[str, Any]:
        """Everything that is left to do; returns the summary."""
        failure: BaseException | None = None
        with self._signals, self._progress:
            try:
                status, reason = "finished", self._tune()
                self._compare()
            except _Stopped as stop:
                status, reason = stop.status, stop.reason
            except KeyboardInterrupt as error:
                name = error.signal if isinstance(error, Interrupted) else "Ctrl-C"
                status, reason = "interrupted", f"stopped by {name}"
            except Exception as error:
                status, failure = "error", error
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            with self._signals.held():
                self._show("writing")
                trace = "" if failure is None else "".join(traceback.format_exception(failure))
                self._append("stop", status=status, reason=reason, traceback=trace)
                summary = self._write_all()
        if failure is not None and not isinstance(failure, GpuGsError):
            raise failure
        return summary

    # ------------------------------------------------------------------ trials

    def _tune(self) -> str:
        """Evaluates what is in flight, then asks and evaluates up to the last trial; returns why it ended."""
        from ax.exceptions.core import OptimizationComplete

        for ask, end in list(journal.trials(self.record)):
            if end is None:
                self._evaluate(ask["trial"], ask["parameters"], ask["seconds"])
        while self._count("ask") < self.config.trials:
            try:
                trial, parameters, seconds = self._ask()
            except OptimizationComplete as error:
                return f"nothing is left to try: {' '.join(str(error).split())}"
            self._evaluate(trial, parameters, seconds)
        return f"all {self.config.trials} trials are done"

    def _count(self, kind: str) -> int:
        return sum(event["event"] == kind for event in self._events)

    def _ask(self) -> tuple[int, dict[str, Any], float]:
        from ax.exceptions.core import DataRequiredError

        self._show("tuning")
        self._client_is_whole = False
        started = time.perf_counter()
        try:
            ((trial, parameters),) = self._client.get_next_trials(max_trials=1).items()
        except DataRequiredError as error:
            raise _Stopped(
                "failures", f"too few trials were completed for the model to start: {' '.join(str(error).split())}"
            ) from None
        seconds = time.perf_counter() - started
        with self._signals.held():
            run = self._client._experiment.trials[trial].generator_runs[0]
            known = ((run.gen_metadata or {}).get("gpu_gs")) or {}
            self._append(
                "ask",
                trial=trial,
                parameters=dict(parameters),
                node=run._generation_node_name,
                seconds=seconds,
                device=known.get("device", "cpu"),
                told_seconds=self._told_seconds,
                run=run_to_json(run),
            )
            self._client_is_whole = True
        self._progress.update("tuning", self._done, strategy=seconds, device=known.get("device", "cpu"))
        return trial, dict(parameters), seconds

    def _evaluate(self, trial: int, parameters: dict[str, Any], ask_seconds: float) -> None:
        self._show("tuning")
        outcome = evaluate(self._objective, parameters, self.goal.metrics)
        with self._signals.held():
            self._tell(trial, outcome, ask_seconds)
        if self._failures_in_a_row >= self.config.max_consecutive_failures:
            raise _Stopped(
                "failures",
                f"{self._failures_in_a_row} trials in a row failed, the last one with: {outcome.error}",
            )
        every = self.config.checkpoint_every
        if every and self._done % every == 0 and self._done < self.config.trials:
            self._checkpoint()

    def _tell(self, trial: int, outcome: Outcome, ask_seconds: float) -> None:
        seconds = {"seconds": outcome.seconds, "strategy_seconds": ask_seconds}
        if outcome.metrics is None:
            self._append("fail", trial=trial, error=outcome.error, traceback=outcome.traceback, **seconds)
            self._progress.say(f"Trial {trial} failed: {outcome.error}")
            self._failures_in_a_row += 1
        else:
            event = self._append("complete", trial=trial, metrics=outcome.metrics, **seconds)
            self._failures_in_a_row = 0
        started = time.perf_counter()
        if outcome.metrics is None:
            self._client.mark_trial_failed(trial, failed_reason=outcome.error)
        else:
            complete(self._client, trial, metrics_of(event))
        self._told_seconds = time.perf_counter() - started
        self._done += 1
        self._progress.update(
            "tuning", self._done, best=self._best(), objective=outcome.seconds, strategy=self._told_seconds
        )

    def _best(self) -> float:
        done = [metrics_of(event) for event in self._events if event["event"] == "complete"]
        return self.goal.achieved(done)

    # -------------------------------------------------------------- comparison

    def _compare(self) -> None:
        """The default parameters, a random search, and the scores on held-out data; each once, and journaled."""
        if self.config.defaults is not None and not self._count("defaults"):
            self._show("defaults")
            self._append_outcome("defaults", self.config.defaults)
        if self.config.random_search:
            for index in range(self._count("random"), self.config.trials):
                self._progress.update("random search", index)
                point = random_point(self.config, self._client._experiment.search_space, index)
                self._append_outcome("random", point, index=index)
        if self._held_out is None:
            return
        for who, parameters in self._contenders():
            known = [event for event in self.record.all("held_out") if event["parameters"] == parameters]
            if not known:
                self._show("held-out score")
                self._append_outcome("held_out", parameters, function=self._held_out, who=who)

    def _contenders(self) -> list[tuple[str, dict[str, Any]]]:
        record = self.record
        found: list[tuple[str, dict[str, Any]]] = []
        tuned = {event["trial"]: metrics_of(event) for event in record.all("complete")}
        if (best := self.goal.best(tuned)) is not None:
            found.append(("tuned", record.all("ask")[best]["parameters"]))
        if self.config.defaults is not None:
            found.append(("defaults", dict(self.config.defaults)))
        drawn = {e["index"]: metrics_of(e) for e in record.all("random") if e["metrics"] is not None}
        if (best := self.goal.best(drawn)) is not None:
            found.append(("random search", record.all("random")[best]["parameters"]))
        return found

    def _append_outcome(
        self, event: str, parameters: Mapping[str, Any], function: Objective | None = None, **more: Any
    ) -> None:
        if function is None:
            outcome = evaluate(self._objective, parameters, self.goal.metrics)
        else:  # any metrics, or one number
            outcome = evaluate(function, parameters, (), lone="held_out")
        with self._signals.held():
            self._append(
                event,
                parameters=dict(parameters),
                metrics=outcome.metrics,
                error=outcome.error,
                traceback=outcome.traceback,
                seconds=outcome.seconds,
                **more,
            )
        if outcome.metrics is None and event != "random":
            self._say(f"{more.get('who', event)}: {outcome.error}")

    # ------------------------------------------------------------------ record

    def _append(self, event: str, **values: Any) -> journal.Event:
        with self._signals.held():
            entry = self._book.append(event, **values)
            self._events.append(entry)
        return entry

    def _show(self, doing: str) -> None:
        self._progress.update(doing, self._done)

    def _checkpoint(self) -> None:
        with self._signals.held():
            self._show("checkpoint")
            write_tables(self.record, self.goal, self.folder)
            write_experiment(self._client, self.folder)
            self._append("checkpoint", trials=self._done)

    def _write_all(self) -> dict[str, Any]:
        if not self._client_is_whole:  # stopped inside the strategy: what it left half done is not written
            self._client = rebuild(self.record, self.config)
        return write_results(self.record, self.config, self.folder, self._client)


__all__ = ["Run", "config_hash", "config_of", "is_finished", "resume", "run_task"]

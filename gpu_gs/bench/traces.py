"""Runs of the regret benchmark, kept short, and the files they are read from.

A trace holds the regret of a run at a few numbers of evaluations: after the initial points, after every ``EVERY``, at the
end, and wherever it changed, so that the regret is known after each evaluation. Traces of older results lack the
changes and the times.
"""

import bisect
import json
import statistics as st
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from gpu_gs.bench.cases import Case
from gpu_gs.bench.contestants import short
from gpu_gs.bench.runner import read_results
from gpu_gs.errors import ConfigError

EVERY = 10
"""Evaluations from one regret that is always kept to the next."""


@dataclass(frozen=True)
class Trace:
    """A run.

    Attributes:
        at: The numbers of evaluations whose regret is kept, the initial ones first, all of them last.
        regrets: After so many evaluations.
        seconds: Median of an ask plus tell; a pause in between does not show.
        elapsed: Seconds in the strategy, asks plus tells, up to there; the initial points cost none. None: not known.
        objective: Seconds in the objective up to there, without the initial points. None: not known.
        warm_up: Seconds of what happens once in a process, which are in none of these. None: older runs, whose first ask
            contains it.
        exact: Whether every change of the regret is kept.
        kept: Whether the run was not made here but taken from a file.
        ran: What it ran on: commit, versions, machine, device, config, threads, as far as known.
    """

    at: tuple[int, ...]
    regrets: tuple[float, ...]
    seconds: float
    elapsed: tuple[float, ...] | None = None
    objective: tuple[float, ...] | None = None
    warm_up: float | None = None
    exact: bool = True
    kept: bool = False
    ran: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clock(self) -> tuple[Any, bool]:
        """What seconds must have in common to be compared: the machine, and whether there was a warm-up."""
        return self.ran.get("machine"), self.warm_up is not None

    @property
    def final(self) -> float:
        return self.regrets[-1]

    def regret_at(self, evaluations: int) -> float:
        """After so many evaluations, or after the last kept number before."""
        return self.regrets[bisect.bisect_right(self.at, evaluations) - 1]

    def reaches(self, target: float, among: Sequence[int]) -> int | None:
        """The first of these numbers of evaluations after which the regret is ``target`` or less."""
        return next((count for count in among if self.regret_at(count) <= target), None)

    def elapsed_at(self, evaluations: int) -> float | None:
        """Seconds in the strategy; between two kept numbers of evaluations interpolated."""
        return None if self.elapsed is None else _between(self.at, self.elapsed, evaluations)

    def objective_at(self, evaluations: int) -> float | None:
        """Seconds in the objective, likewise."""
        return None if self.objective is None else _between(self.at, self.objective, evaluations)


def _between(at: Sequence[int], values: Sequence[float], x: int) -> float:
    k = min(bisect.bisect_right(at, x), len(at) - 1)
    if k == 0:
        return values[0]
    return values[k - 1] + (values[k] - values[k - 1]) * (x - at[k - 1]) / (at[k] - at[k - 1])


Traces = dict[tuple[str, str, int], Trace]
"""By contestant, case and seed."""


def runs_of(traces: Traces, contestant: str, case: str) -> dict[int, Trace]:
    """The runs of a contestant on a case, by seed."""
    return {seed: trace for (name, where, seed), trace in traces.items() if (name, where) == (contestant, case)}


def agreed(facts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of these say alike; not when they ran, nor with which seed."""
    first, *others = list(facts) or [{}]
    return {
        key: value
        for key, value in first.items()
        if key not in ("at", "seed") and all(x.get(key) == value for x in others)
    }


def checkpoints(initial: int, evaluations: int, every: int = EVERY) -> list[int]:
    """The numbers of evaluations whose regret is kept of every run."""
    return sorted({initial, evaluations, *range((initial // every + 1) * every, evaluations, every)})


# ------------------------------------------------------------------------------------------------------ raw answers


def schedule(case: Case) -> list[tuple[int, int]]:
    """How many points each round of a run asks for and then tells, as the worker does it."""
    rounds = []
    known, running = case.initial, 0
    while known < case.evaluations:
        asked = min(case.pending + case.batch - running, case.evaluations - known - running)
        told = min(case.batch, running + asked)
        rounds.append((asked, told))
        known, running = known + told, running + asked - told
    return rounds


def of_lines(lines: Iterable[Mapping[str, Any]], kept: bool = False) -> Iterator[tuple[tuple[str, str, int], Trace]]:
    """The traces of raw answers, with contestant, case and seed; lines without an answer have none."""
    for line in lines:
        if "answer" not in line:
            continue
        job, answer = line["job"], line["answer"]
        case, regret = Case.of(job), answer["regret"]
        changes = (n for n in range(case.initial + 1, case.evaluations) if regret[n - 1] != regret[n - 2])
        at = tuple(sorted({*checkpoints(case.initial, case.evaluations), *changes}))
        trace = Trace(
            at=at,
            regrets=tuple(regret[count - 1] for count in at),
            seconds=st.median(answer["seconds"]) if answer["seconds"] else 0.0,
            elapsed=_elapsed(case, answer, at),
            objective=_objective(case, answer.get("objective_seconds"), at),
            warm_up=answer.get("warm_up"),
            kept=kept,
            ran={"threads": job["threads"], **line.get("run", {})},
        )
        yield (short(job["contestant"]), case.name, job["seed"]), trace


def _elapsed(case: Case, answer: Mapping[str, Any], at: Sequence[int]) -> tuple[float, ...] | None:
    """Values told together come together, after all that was asked and told until then."""
    rounds = schedule(case)
    if len(answer.get("strategy_seconds", ())) == case.evaluations - case.initial:
        each = iter(answer["strategy_seconds"])
        spent = [sum(islice(each, told)) for _, told in rounds]
    elif len(answer["seconds"]) == sum(asked > 0 for asked, _ in rounds):
        # Older answers: a candidate's share of each round that asked. A round that only told was not timed.
        each = iter(answer["seconds"])
        spent = [asked * next(each) if asked else 0.0 for asked, _ in rounds]
    else:
        return None
    known = [0.0]
    for seconds, (_, told) in zip(accumulate(spent), rounds, strict=True):
        known += [seconds] * told
    return tuple(known[count - case.initial] for count in at)


def _objective(case: Case, seconds: Sequence[float] | None, at: Sequence[int]) -> tuple[float, ...] | None:
    if seconds is None or len(seconds) != case.evaluations - case.initial:
        return None
    return tuple(sum(seconds[: count - case.initial]) for count in at)


# ----------------------------------------------------------------------------------------------------------- files


def read_traces(path: Path, cases: Sequence[Case]) -> Traces:
    """Runs of the cases made before: from a result (``regret.json``), from raw answers (``regret.jsonl``), or a folder.

    Raises:
        ConfigError: The file is neither, or its runs of one of the cases have another length.
    """
    if path.is_dir():
        path = next((inside for name in ("regret.json", "regret.jsonl") if (inside := path / name).is_file()), path)
    if not path.is_file():
        reason = "no regret.json or regret.jsonl in it" if path.is_dir() else "no such file"
        raise ConfigError([f"bench: reference: {path}: {reason}"])
    wanted = {case.name: case for case in cases}
    if path.suffix == ".jsonl":
        lines = [line for line in read_results(path) if line["job"].get("kind") == "regret"]
        _refuse_other_lengths(path, wanted, [Case.of(line["job"]) for line in lines])
        return dict(of_lines([line for line in lines if Case.of(line["job"]).name in wanted], kept=True))
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if (kind := stored.get("benchmark", "regret")) != "regret":
            raise ConfigError([f"bench: reference: {path}: a result of {kind}, not of whole runs (regret)"])
        runs = {
            (contestant, name, int(seed)): run
            for contestant, of_contestant in stored["traces"].items()
            for name, of_case in of_contestant.items()
            for seed, run in of_case.items()
            if name in wanted
        }
        # Before there were cases, all problems of a result had the same length.
        theirs = (
            [Case(**case) for case in stored["cases"].values()]
            if "cases" in stored
            else [Case(name, stored["evaluations"], stored["initial"]) for _, name, _ in runs]
        )
        every = stored["every"]
        ran = {(row["contestant"], row["problem"]): row.get("run", {}) for row in stored["rows"]}
        found = {key: _unpacked(wanted[key[1]], run, ran.get(key[:2], {})) for key, run in runs.items()}
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ConfigError([f"bench: reference: {path}: no result of gpu-gs bench regret: it is not JSON"]) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError([f"bench: reference: {path}: no result of gpu-gs bench regret: {error!r}"]) from None
    if every != EVERY:
        raise ConfigError([f"bench: reference: {path}: keeps a regret every {every} evaluations, not every {EVERY}"])
    _refuse_other_lengths(path, wanted, theirs)
    return found


def _refuse_other_lengths(path: Path, wanted: Mapping[str, Case], theirs: Sequence[Case]) -> None:
    wrong = [
        f"bench: reference: {path}: its runs of {case.name} have {case.evaluations} evaluations, {case.initial} of them "
        f"initial, not {wanted[case.name].evaluations} and {wanted[case.name].initial}"
        for case in dict.fromkeys(theirs)
        if case.name in wanted and case != wanted[case.name]
    ]
    if wrong:
        raise ConfigError(wrong)


def packed(traces: Traces, cases: Sequence[Case]) -> dict[str, dict[str, dict[str, Any]]]:
    """The traces for a result, by contestant, case and seed; figures of six digits, times of four."""
    places = {case.name: i for i, case in enumerate(cases)}
    stored: dict[str, dict[str, dict[str, Any]]] = {}
    for (contestant, case, seed), trace in sorted(traces.items(), key=lambda x: (x[0][0], places[x[0][1]], x[0][2])):
        run: dict[str, Any] = {"regret": _digits(trace.regrets, 6), "seconds": float(f"{trace.seconds:.3g}")}
        if trace.exact:
            run["at"] = list(trace.at)
        for key, values in (("elapsed", trace.elapsed), ("objective", trace.objective)):
            if values is not None:
                run[key] = _digits(values, 4)
        if trace.warm_up is not None:
            run["warm_up"] = float(f"{trace.warm_up:.3g}")
        stored.setdefault(contestant, {}).setdefault(case, {})[str(seed)] = run
    return stored


def _unpacked(case: Case, run: Mapping[str, Any], ran: Mapping[str, Any]) -> Trace:
    times = {key: tuple(run[key]) for key in ("elapsed", "objective") if run.get(key) is not None}
    at = tuple(run.get("at") or checkpoints(case.initial, case.evaluations))
    warm_up = run.get("warm_up")
    return Trace(
        at, tuple(run["regret"]), run["seconds"], **times, warm_up=warm_up, exact="at" in run, kept=True, ran=ran
    )


def _digits(values: Iterable[float], count: int) -> list[float]:
    return [float(f"{value:.{count}g}") for value in values]

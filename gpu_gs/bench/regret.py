"""``gpu-gs bench regret``: the regret of whole runs, paired by problem and seed, one problem and all pooled.

A result, or the JSONL file of raw answers, can stand in for contestants that take long: ``kept``.
"""

import json
import math
import statistics as st
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gpu_gs.bench.cases import Case
from gpu_gs.bench.contestants import is_ours, short, split, unsuited
from gpu_gs.bench.executors import Executor
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.profiles import on_the_way, performance_profiles, race, summary
from gpu_gs.bench.runner import Watcher, environment, run_jobs
from gpu_gs.bench.statistics import (
    ALPHA,
    MARGIN,
    POWER,
    holm,
    interval_of_median,
    interval_of_pooled_median,
    log_difference,
    of_differences,
    pairs_needed,
    power_of,
    quantile,
    seed_means,
    signed_rank,
)
from gpu_gs.bench.traces import EVERY, Trace, Traces, agreed, checkpoints, of_lines, packed, read_traces, runs_of

OPPONENTS = {"ax": "reference", "optuna": "optuna"}
FIRST = "first"
"""The key of the comparisons with the first contestant, where none of ``OPPONENTS`` takes part."""
KEYS = (*OPPONENTS, FIRST)
PLANNED_SPREADS = {"problem": 0.64, "pooled": 0.26}
"""Spreads of the differences to stock Ax, in decades, that earlier results let expect (``benchmarks/results/regret.json``):
the median over the problems without Ackley-10, which has hardly any; of the seeds' means over ten problems."""
FEWEST_PAIRS = 10
"""Pairs below which nothing is said to be not worse."""
MOST_FAILED = 0.05
"""The share of a contestant's runs that may fail before nothing is said of it: those that end may be the easy ones."""
POINTS = 30
"""Numbers of evaluations of a curve, about."""


@dataclass(frozen=True)
class Runs:
    """What was to be run, and what came out.

    Attributes:
        cases: No two of one name.
        names: Short names of the contestants, in the order of the tables.
        traces: The runs.
        seeds: Runs wanted of each contestant on each case.
        now: Contestants that were to run now; the others' runs are kept ones.
        errors: Of runs that failed, by case and contestant.
    """

    cases: Sequence[Case]
    names: Sequence[str]
    traces: Traces
    seeds: int
    now: Collection[str] = ()
    errors: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def of(self) -> dict[tuple[str, str], dict[int, Trace]]:
        """The runs of each contestant and case, by seed."""
        return {(name, case.name): runs_of(self.traces, name, case.name) for name in self.names for case in self.cases}

    @cached_property
    def clock(self) -> Any:
        """``Trace.clock`` of the seconds that are shown: that of most runs in this folder, or if there are none of most."""
        made = [trace for trace in self.traces.values() if not trace.kept] or list(self.traces.values())
        found = [trace.clock for trace in made]
        return max(found, key=found.count) if found else None

    def compare(self, traces: Iterable[Trace]) -> bool:
        """Whether the seconds of these runs may stand beside the others."""
        return all(trace.clock == self.clock for trace in traces)

    def on_the_clock(self, name: str, case: Case) -> dict[int, Trace]:
        """The runs of a contestant on a case, by seed; without seconds where those of one of them do not compare."""
        mine = self.of[name, case.name]
        if self.compare(mine.values()):
            return mine
        return {seed: replace(trace, elapsed=None, objective=None) for seed, trace in mine.items()}

    def took(self, name: str, case: Case) -> bool:
        """Whether the contestant had a go at the case, however it ended."""
        fits = unsuited(name, PROBLEMS[case.problem]) is None
        return fits and (name in self.now or bool(self.of[name, case.name]))

    def tried(self, name: str) -> set[int]:
        """The seeds with which the contestant ran; of a kept one those that it has on any case."""
        if name in self.now:
            return set(range(self.seeds))
        return {seed for case in self.cases for seed in self.of[name, case.name]}

    def gaps(self, name: str, cases: Sequence[Case]) -> dict[str, int]:
        """Runs of the contestant that are not there: ``failed`` ones, and those ``missing`` since nobody made them."""
        wanting = sum(self.seeds - len(self.of[name, case.name]) for case in cases)
        return {"failed": wanting, "missing": 0} if name in self.now else {"failed": 0, "missing": wanting}

    def opponent(self, name: str, key: str) -> str | None:
        """Whom ``against_<key>`` compares the contestant with: the one on the same device, or else the first.

        Without a device in its name stock Ax is on the CPU; ours is compared with it there.
        """
        if key == FIRST:
            known = any(split(each)[0] in OPPONENTS.values() for each in self.names)
            return None if known or name == self.names[0] else self.names[0]
        rivals = [each for each in self.names if split(each)[0] == OPPONENTS[key]]
        if name in rivals or not rivals:
            return None
        return next((each for each in rivals if _device(each) == _device(name)), rivals[0])

    def differences(self, name: str, opponent: str, case: Case) -> dict[int, float]:
        """Decades from the opponent's final regret to the contestant's, by seed."""
        ours, theirs = self.of[name, case.name], self.of[opponent, case.name]
        floor = PROBLEMS[case.problem].floor
        return {
            seed: log_difference(ours[seed].final, theirs[seed].final, floor)
            for seed in sorted(set(ours) & set(theirs))
        }


@dataclass(frozen=True)
class Kept:
    """Runs made before."""

    traces: Traces
    paths: Sequence[Path] = ()

    @classmethod
    def read(cls, paths: Sequence[Path], cases: Sequence[Case]) -> "Kept":
        """From results or raw answers, see ``read_traces``; a run in two of them is that of the later one.

        Raises:
            ConfigError: A file that is neither, or with runs of other lengths.
        """
        return cls({key: trace for path in paths for key, trace in read_traces(path, cases).items()}, paths)

    def without(self, contestants: Collection[str], seeds: int) -> Traces:
        """Those of other contestants, with the first so many seeds."""
        return {key: trace for key, trace in self.traces.items() if key[0] not in contestants and key[2] < seeds}


def bench_regret(
    cases: Sequence[Case],
    contestants: Sequence[str],
    seeds: int,
    out: Path,
    executor: Executor | None = None,
    kept: Kept | None = None,
    progress: Watcher | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """Regret after equal evaluations from the same initial points, and paired tests against the opponents.

    Args:
        cases: What to run; no two of one name.
        contestants: Those to run.
        seeds: Runs of each, with the seeds 0, 1, ...
        out: The folder of the results.
        executor: Where they run; by default one after the other on this machine.
        kept: Runs made before; those of contestants that are not to run now are taken from there.
        progress: Is told how far it is.
        limit: Seconds after which a run is ended, and has failed; None: never.

    Returns:
        What ``figures`` does, with ``benchmark`` and ``environment``. Also written to ``out/regret.json``.
    """
    ours = [short(name) for name in contestants]
    known = {} if kept is None else kept.without(ours, seeds)
    jobs = [
        case.job(contestant, seed, limit)
        for seed in range(seeds)
        for case in cases
        for contestant in contestants
        if _fits(contestant, case)
    ]
    lines = run_jobs(jobs, out / "regret.jsonl", executor, progress=progress)
    runs = Runs(
        cases,
        list(dict.fromkeys([*ours, *(key[0] for key in known)])),
        {**known, **dict(of_lines(lines))},
        seeds,
        ours,
        {(Case.of(x["job"]).name, short(x["job"]["contestant"])): x["error"] for x in lines if "error" in x},
    )
    result = {"benchmark": "regret", "environment": environment(), **figures(runs)}
    (out / "regret.json").write_text(as_json(result), encoding="utf-8")
    return result


def figures(runs: Runs) -> dict[str, Any]:
    """All that is said about runs.

    Returns:
        ``cases``, ``floors`` (regrets below count as it), ``every``, ``seeds``; ``plan``: the power of so many seeds, by
        earlier spreads; ``rows``: a dict for each case and contestant; ``pooled``: one for each contestant, over the
        cases; ``targets``, ``equal_time`` and ``profiles``: see ``profiles``, the pooled rows of ``equal_time`` with no
        case; ``curves``: by case and contestant; ``traces``.
    """
    rows = [_row(runs, case, name) for case in runs.cases for name in runs.names if _fits(name, case)]
    _adjust(rows)
    return {
        "cases": {case.name: asdict(case) for case in runs.cases},
        "floors": {case.name: PROBLEMS[case.problem].floor for case in runs.cases},
        "every": EVERY,
        "seeds": runs.seeds,
        "plan": _plan(runs.seeds),
        "rows": rows,
        "pooled": [_pooled_row(runs, name) for name in runs.names],
        "targets": [row for case in runs.cases for row in _targets(runs, case)],
        "equal_time": _equal_time(runs),
        "profiles": _profiles(runs),
        "curves": {
            case.name: {
                name: _curve(case, list(of_case.values()))
                for name in runs.names
                if (of_case := runs.on_the_clock(name, case))
            }
            for case in runs.cases
        },
        "traces": packed(runs.traces, runs.cases),
    }


def _device(name: str) -> str:
    return (split(name)[1] or "cpu").partition(":")[0]


def _fits(name: str, case: Case) -> bool:
    return unsuited(name, PROBLEMS[case.problem]) is None


def _plan(seeds: int) -> dict[str, Any]:
    """How many pairs show "not worse", and how likely so many seeds do, at the spreads that earlier results let expect."""
    expected = {
        key: {
            "spread": spread,
            "pairs_needed": pairs_needed(spread),
            "power": power_of(seeds, spread) if seeds > 1 else 0.0,
        }
        for key, spread in PLANNED_SPREADS.items()
    }
    return {"margin": MARGIN, "alpha": ALPHA, "power": POWER, **expected}


# ------------------------------------------------------------------------------------------------------------- rows


def _row(runs: Runs, case: Case, name: str) -> dict[str, Any]:
    mine = runs.on_the_clock(name, case)
    row: dict[str, Any] = {"problem": case.name, "contestant": name, **runs.gaps(name, [case])}
    if (error := runs.errors.get((case.name, name))) is not None:
        row["error"] = error
    if not mine:
        return row
    traces = list(mine.values())
    values = [trace.final for trace in traces]
    row |= {
        "median": st.median(values),
        "interval": [float(end) for end in interval_of_median(values)] if len(values) > 1 else None,
        "quartiles": [quantile(values, 0.25), quantile(values, 0.75)],
        "worst": max(values),
        "seconds_per_evaluation": st.median(trace.seconds for trace in traces) if runs.compare(traces) else None,
        "warm_up": _median([trace.warm_up for trace in traces]),
        "strategy_seconds": _median([trace.elapsed_at(case.evaluations) for trace in traces]),
        "objective_seconds": _median([trace.objective_at(case.evaluations) for trace in traces]),
        "kept": all(trace.kept for trace in traces),
        "run": agreed(trace.ran for trace in traces),
    }
    for key in KEYS:
        opponent = runs.opponent(name, key)
        differences = {} if opponent is None else runs.differences(name, opponent, case)
        if len(differences) >= 2:
            values = list(differences.values())
            row[f"against_{key}"] = {
                "opponent": opponent,
                **_test(values, values, runs.gaps(name, [case])["failed"] / runs.seeds),
                "interval": [float(end) for end in interval_of_median(values)],
            }
    return row


def _test(independent: Sequence[float], every: Sequence[float], failed: float) -> dict[str, Any]:
    """Both tests on independent differences, and the median of all differences.

    Args:
        independent: Differences in decades, one a pair.
        every: The same, or those that each of them is the mean of.
        failed: The share of our runs that failed, and are in no pair.
    """
    test = of_differences(independent)
    no_claim = None
    if test.pairs < FEWEST_PAIRS:
        no_claim = f"fewer than {FEWEST_PAIRS} pairs"
    elif failed > MOST_FAILED:
        no_claim = f"{100 * failed:.0f} % of the runs failed"
    median = st.median(every)
    better = sum(1.0 if d < 0 else 0.5 if d == 0 else 0.0 for d in every)
    return {
        **asdict(test),
        "not_worse": test.not_worse and no_claim is None,
        "no_claim": no_claim,
        "p_value": signed_rank(independent),
        "median_difference": median,
        "median_not_worse": median <= 0,
        "better_share": better / len(every),
    }


def _adjust(rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds the p-values corrected for the number of problems on which a contestant meets an opponent."""
    for name in dict.fromkeys(row["contestant"] for row in rows):
        for key in KEYS:
            tests = [row[f"against_{key}"] for row in rows if row["contestant"] == name and f"against_{key}" in row]
            for test, adjusted in zip(tests, holm([test["p_value"] for test in tests]), strict=True):
                test["p_adjusted"] = adjusted


def _pooled_row(runs: Runs, name: str) -> dict[str, Any]:
    """A contestant over all cases that it and its opponent ran with two shared seeds or more.

    A run that failed is no pair, so the tests say nothing about it: ``failed`` counts them.
    """
    cases = [case for case in runs.cases if _fits(name, case)]
    row: dict[str, Any] = {"contestant": name, **runs.gaps(name, cases)}
    for key in KEYS:
        opponent = runs.opponent(name, key)
        if opponent is None:
            continue
        every = {case.name: runs.differences(name, opponent, case) for case in cases}
        differences = {name: of_case for name, of_case in every.items() if len(of_case) >= 2}
        means = seed_means(differences)
        if len(means) < 2:
            continue
        seeds = sorted({seed for of_case in differences.values() for seed in of_case})
        table = [[of_case.get(seed, math.nan) for of_case in differences.values()] for seed in seeds]
        row[f"against_{key}"] = {
            "opponent": opponent,
            "problems": list(differences),
            **_test(
                means,
                [d for of_case in differences.values() for d in of_case.values()],
                row["failed"] / (runs.seeds * len(cases)),
            ),
            "interval": list(interval_of_pooled_median(table)),
        }
    return row


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return st.median(known) if known and len(known) == len(values) else None


# -------------------------------------------------------------------------------------------------- the whole of runs


def _targets(runs: Runs, case: Case) -> list[dict[str, Any]]:
    """The way to stock Ax's median final regret; without stock Ax, to the smallest median of all contestants."""
    names = [name for name in runs.names if runs.took(name, case)]
    medians = {name: st.median(x.final for x in mine.values()) for name in names if (mine := runs.of[name, case.name])}
    if not medians:
        return []
    stock = [name for name in medians if split(name)[0] == OPPONENTS["ax"]]
    whose = stock[0] if stock else min(medians, key=medians.__getitem__)
    rows = on_the_way(
        case,
        {name: runs.on_the_clock(name, case) for name in names},
        {name: len(runs.tried(name)) for name in names},
        max(medians[whose], PROBLEMS[case.problem].floor),
    )
    return [{**row, "of": whose} for row in rows]


def _equal_time(runs: Runs) -> list[dict[str, Any]]:
    rows = []
    for name in filter(is_ours, runs.names):
        for key in KEYS:
            opponent = runs.opponent(name, key)
            if opponent is None:
                continue
            races = {}
            for case in runs.cases:
                mine, theirs = runs.on_the_clock(name, case), runs.on_the_clock(opponent, case)
                floor = PROBLEMS[case.problem].floor
                pairs = {seed: race(case, mine[seed], theirs[seed], floor) for seed in sorted(set(mine) & set(theirs))}
                timed = {seed: pair for seed, pair in pairs.items() if pair is not None}
                if timed:
                    races[case.name] = timed
            groups = [(case, {case: of_case}) for case, of_case in races.items()]
            rows += [
                {"case": case, "contestant": name, "against": opponent, **summary(group)}
                for case, group in [*groups, *([(None, races)] if len(races) > 1 else [])]
            ]
    return rows


def _profiles(runs: Runs) -> dict[str, dict[str, Any]]:
    """Performance profiles over all cases, of the contestants that took all of them; none if those are not two."""
    names = [name for name in runs.names if all(runs.took(name, case) for case in runs.cases)]
    if len(names) < 2:
        return {}
    seeds = sorted(set.intersection(*map(runs.tried, names)))

    def final(name: str, case: Case, seed: int) -> float:
        trace = runs.of[name, case.name].get(seed)
        return math.inf if trace is None else max(trace.final, PROBLEMS[case.problem].floor)

    values = {name: [final(name, case, seed) for case in runs.cases for seed in seeds] for name in names}
    return {name: {**profile, "runs": len(values[name])} for name, profile in performance_profiles(values).items()}


def _curve(case: Case, traces: Sequence[Trace]) -> dict[str, Any]:
    """The median regret on the way with its interval, and the seconds in strategy and objective up to there."""
    counts = checkpoints(case.initial, case.evaluations)
    if all(trace.exact for trace in traces):
        step = max(math.ceil((case.evaluations - case.initial) / POINTS), 1)
        counts = [*range(case.initial, case.evaluations, step), case.evaluations]
    low, high = interval_of_median([[trace.regret_at(count) for count in counts] for trace in traces])
    return {
        "evaluations": counts,
        "median": [st.median(trace.regret_at(count) for trace in traces) for count in counts],
        "low": low.tolist(),
        "high": high.tolist(),
        "elapsed": _all([_median([trace.elapsed_at(count) for trace in traces]) for count in counts]),
        "objective": _all([_median([trace.objective_at(count) for trace in traces]) for count in counts]),
        "seeds": len(traces),
    }


def _all(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


# ------------------------------------------------------------------------------------------------------------- file


def as_json(result: Mapping[str, Any]) -> str:
    """JSON with a line for each row, and for each contestant's or case's part of the rest; figures of six digits."""
    parts = []
    for key, value in result.items():
        if isinstance(value, list):
            inner = ",\n  ".join(map(_compact, value))
            parts.append(f" {json.dumps(key)}: [\n  {inner}\n ]" if value else f" {json.dumps(key)}: []")
        elif isinstance(value, dict) and value:
            inner = ",\n  ".join(f"{json.dumps(name)}: {_compact(part)}" for name, part in value.items())
            parts.append(f" {json.dumps(key)}: {{\n  {inner}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(_rounded(value), separators=(",", ":"), allow_nan=False)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value

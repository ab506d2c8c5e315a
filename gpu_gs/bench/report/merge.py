"""Results of several runs and machines, put together.

Results of one machine are merged: where a case was measured twice with the same contestant, the newest counts. Results
of different machines stand beside each other, under the name of their machine: times of two machines do not compare.
"""

import json
import statistics as st
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import is_ours, split
from gpu_gs.bench.latency import growth_rows
from gpu_gs.bench.statistics import quantile
from gpu_gs.bench.traces import checkpoints
from gpu_gs.errors import ConfigError

SECTIONS = ("latency", "regret", "memory", "article")

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One result of ``gpu-gs bench``: a file."""

    path: Path
    result: Row

    @property
    def section(self) -> str:
        return str(self.result["benchmark"])

    @property
    def environment(self) -> Row:
        return dict(self.result.get("environment") or {})

    @property
    def machine(self) -> str:
        """Processor, cores and GPUs: what times depend on."""
        environment = self.environment
        gpus: list[str] = environment.get("gpus") or []
        cores = environment.get("cores")
        parts = [
            environment.get("processor") or environment.get("machine") or "unknown machine",
            f"{cores} {'core' if cores == 1 else 'cores'}" if cores else "",
            *(f"{gpus.count(gpu)}x {gpu}" if gpus.count(gpu) > 1 else gpu for gpu in dict.fromkeys(gpus)),
        ]
        return ", ".join(part for part in parts if part)

    @property
    def at(self) -> str:
        """When it ended, as ISO 8601; empty where the result does not say."""
        return str(self.environment.get("at") or "")


@dataclass(frozen=True)
class Curve:
    """The regret of a contestant on a case, over its seeds.

    Attributes:
        evaluations: Where the regret is known.
        median: There.
        low: Lower end of the interval.
        high: Upper end.
        elapsed: Seconds in the strategy up to there, the median; empty where the result does not say.
        seeds: Runs.
        floor: Smaller regrets are rounding; 0 where the result does not say.
        interval: What ``low`` and ``high`` are.
    """

    evaluations: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    elapsed: tuple[float, ...]
    seeds: int
    interval: str
    floor: float = 0.0


@dataclass(frozen=True)
class Book:
    """All results of a report, the oldest first."""

    runs: tuple[Run, ...]

    def of(self, section: str, machine: str | None = None) -> list[Run]:
        """The results of a section; of one machine, or of all."""
        return [run for run in self.runs if run.section == section and machine in (None, run.machine)]

    @cached_property
    def machines(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.machine for run in self.runs))

    @cached_property
    def names(self) -> dict[str, str]:
        """A short name for each machine, "machine A"; none where there is one only."""
        return (
            {} if len(self.machines) < 2 else {each: f"machine {_letters(i)}" for i, each in enumerate(self.machines)}
        )

    def titled(self, words: str, machine: str) -> str:
        """The words, with the machine's short name if there are several."""
        return f"{words} ({self.names[machine]})" if self.names else words

    @cached_property
    def contestants(self) -> tuple[str, ...]:
        """All of them: ours, stock Ax, the others, each in the order in which they appear."""
        names = dict.fromkeys(row["contestant"] for run in self.runs for row in run.result.get("rows", []))
        return tuple(sorted(names, key=lambda name: 0 if is_ours(name) else 1 if split(name)[0] == "reference" else 2))

    def latency(self, machine: str) -> Row | None:
        """The times of a machine as one result."""
        runs = self.of("latency", machine)
        if not runs:
            return None
        rows = _of_one_run_each(_newest(_numbered(run.result["rows"], k) for k, run in enumerate(runs)))
        problems = list(dict.fromkeys(row["problem"] for row in rows))
        rows.sort(key=lambda row: (problems.index(row["problem"]), *how(row), row["n"]))
        return {**runs[-1].result, "rows": rows, "growth": growth_rows(rows)}

    def memory(self, machine: str) -> list[Row]:
        """Results of a machine, those of the same problem and number of asks as one."""
        merged: dict[tuple[str, int], Row] = {}
        for run in self.of("memory", machine):
            key = run.result["problem"], run.result["asks"]
            known = merged[key]["rows"] if key in merged else []
            merged[key] = {**run.result, "rows": _newest([known, run.result["rows"]])}
        return list(merged.values())

    def curves(self, machine: str) -> dict[str, dict[str, Curve]]:
        """The regret curves of a machine by case and contestant; runs of a case of several lengths are cases of their own."""
        every = [
            (case, who, curve)
            for run in self.of("regret", machine)
            for case, of_case in _curves(run.result).items()
            for who, curve in of_case.items()
        ]
        lengths: dict[str, set[float]] = {}
        for case, _, curve in every:
            lengths.setdefault(case, set()).add(curve.evaluations[-1])
        found: dict[str, dict[str, Curve]] = {}
        for case, who, curve in every:
            name = case if len(lengths[case]) == 1 else f"{case}, {curve.evaluations[-1]:g} evaluations"
            found.setdefault(name, {})[who] = curve
        return found

    def failures(self) -> list[tuple[Run, Row]]:
        """Rows of what failed, wholly or (some seeds of a case) in part, but for those that were measured again."""
        found = {}
        for run in self.runs:
            for row in run.result.get("rows", []):
                found[run.machine, run.section, *_key(row)] = run, row
        return [(run, row) for run, row in found.values() if "error" in row or row.get("failed")]


def is_benchmark(folder: Path) -> bool:
    """Whether a folder holds results of ``gpu-gs bench``."""
    return folder.is_dir() and bool(_files(folder) or _raw(folder))


def read(places: Sequence[Path]) -> Book:
    """All results of these folders; a file in place of a folder is one result.

    Results that say when they ended are in that order, after all that do not; these are in the order given, in a folder
    by name, ``latency.json`` after ``latency-kinds.json``.

    Raises:
        ConfigError: A folder without results, or a file that is none; a line for each.
    """
    wrong: list[str] = []
    runs: list[Run] = []
    for place in places:
        files = [place] if place.is_file() else _files(place)
        if not files:
            wrong.append(_nothing(place))
        for path in files:
            try:
                result = json.loads(path.read_text(encoding="utf-8"))
                if result["benchmark"] not in SECTIONS:
                    raise KeyError(result["benchmark"])
            except OSError as error:
                wrong.append(f"report: {path}: {error.strerror}")
            except (ValueError, KeyError, TypeError) as error:
                wrong.append(f"report: {path}: no result of gpu-gs bench: {error!r}")
            else:
                runs.append(Run(path, result))
    if wrong:
        raise ConfigError(wrong)
    return Book(tuple(sorted(runs, key=lambda run: run.at)))


def _letters(i: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


def _files(folder: Path) -> list[Path]:
    return [
        path
        for name in SECTIONS
        for path in (*sorted(folder.glob(f"{name}-*.json")), folder / f"{name}.json")
        if path.is_file()
    ]


def _raw(folder: Path) -> list[Path]:
    return [path for name in SECTIONS if (path := folder / f"{name}.jsonl").is_file()]


def _nothing(folder: Path) -> str:
    if raw := _raw(folder):
        names = ", ".join(path.name for path in raw)
        return (
            f"report: {folder}: the benchmark was interrupted ({names} and no result yet); give its command again with "
            f"--out {folder}, it goes on where it was"
        )
    if not folder.exists():
        return f"report: {folder}: no such folder"
    allowed = ", ".join(f"{name}.json" for name in SECTIONS)
    return f"report: {folder}: holds no result of gpu-gs bench ({allowed})"


def how(row: Mapping[str, Any]) -> tuple[int, int, bool, str]:
    """How is asked: candidates at once, other trials pending, whether trials are stored, what is told."""
    return row.get("batch", 1), row.get("pending", 0), row.get("storage", False), row.get("data", "")


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    of_article = row.get("part"), row.get("way")
    return row.get("problem"), row.get("n"), *how(row), *of_article, row["contestant"]


def _newest(groups: Iterable[Iterable[Row]]) -> list[Row]:
    """Rows of several results, the later in place of the earlier."""
    found: dict[tuple[Any, ...], Row] = {}
    for rows in groups:
        for row in rows:
            found[_key(row)] = row
    return list(found.values())


def _numbered(rows: Iterable[Row], run: int) -> list[Row]:
    return [{**row, "_run": run} for row in rows]


def _of_one_run_each(rows: Sequence[Row]) -> list[Row]:
    """Without the ratios, and what rests on them, whose opponent's row has been replaced by one of another run.

    A ratio is one of two times from the same run; beside a time of another day it would be taken for that of the two.
    """
    run_of = {_key(row): row["_run"] for row in rows}
    kept = []
    for row in rows:
        known = {key: x for key, x in row.items() if key != "_run"}
        if "against" in known:
            ratios = known["against"].items()
            theirs = {key: run_of.get(_key({**row, "contestant": x["contestant"]})) for key, x in ratios}
            known["against"] = {key: x for key, x in ratios if theirs[key] == row["_run"]}
            known["targets"] = [
                x for x in known.get("targets", []) if "against" not in x or x["against"] in known["against"]
            ]
        kept.append(known)
    return kept


def _curves(result: Row) -> dict[str, dict[str, Curve]]:
    """As the result has them; one made before there were curves has traces only, then with their quartiles."""
    if "curves" in result:
        return {
            case: {
                name: Curve(
                    evaluations=tuple(curve["evaluations"]),
                    median=tuple(curve["median"]),
                    low=tuple(curve["low"]),
                    high=tuple(curve["high"]),
                    elapsed=tuple(curve.get("elapsed") or ()),
                    seeds=curve["seeds"],
                    interval="95 % bootstrap intervals of the median",
                    floor=result.get("floors", {}).get(case, 0.0),
                )
                for name, curve in of_case.items()
            }
            for case, of_case in result["curves"].items()
        }
    found: dict[str, dict[str, Curve]] = {}
    for name, of_contestant in result["traces"].items():
        for case, runs in of_contestant.items():
            lengths = result["cases"][case] if "cases" in result else result
            at = tuple(checkpoints(lengths["initial"], lengths["evaluations"], result["every"]))
            columns = list(zip(*(run["regret"] for run in runs.values()), strict=True))
            found.setdefault(case, {})[name] = Curve(
                evaluations=at,
                median=tuple(st.median(column) for column in columns),
                low=tuple(quantile(column, 0.25) for column in columns),
                high=tuple(quantile(column, 0.75) for column in columns),
                elapsed=(),
                seeds=len(runs),
                interval="quartiles",
            )
    return found

"""``gpu-gs bench regret``: the regret of whole runs, paired by problem and seed, one problem and all pooled.

Traces are kept short (the regret at the initial points and after every ``EVERY`` evaluations), in the result itself; a
result, or the JSONL file of raw answers, can stand in for contestants that take long: ``kept``.
"""

import json
import statistics as st
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_gs.bench.cases import Case
from gpu_gs.bench.contestants import short, unsuited
from gpu_gs.bench.entries import suited, validate
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.progress import Progress
from gpu_gs.bench.runner import environment, read_results, run_jobs
from gpu_gs.bench.statistics import log_difference, of_differences, pooled, quantile
from gpu_gs.errors import ConfigError

OPPONENTS = {"ax": "reference", "optuna": "optuna"}
EVERY = 10
"""Evaluations from one kept regret to the next."""


@dataclass(frozen=True)
class Trace:
    """A run: its regret after ``initial`` evaluations, then after every ``EVERY``, and at the end.

    ``kept`` says that it was not run here but taken from a file.
    """

    regrets: tuple[float, ...]
    seconds: float  # median of an ask plus tell; a pause in between does not show
    kept: bool = False

    @property
    def final(self) -> float:
        return self.regrets[-1]


Traces = dict[tuple[str, str, int], Trace]
"""By contestant, case and seed."""


def bench_regret(
    cases: Sequence[Case],
    contestants: list[str],
    seeds: int,
    workers: int,
    out: Path,
    kept: Sequence[Path] = (),
) -> dict[str, Any]:
    """Regret after equal evaluations from the same initial points, and paired tests against the opponents.

    Args:
        cases: What to run; no two of one name.
        contestants: Those to run.
        seeds: Runs of each, with the seeds 0, 1, ...
        workers: Runs at a time.
        out: The folder of the results.
        kept: Files with runs made before; those of contestants that are not to run now are taken from there.

    Returns:
        ``rows``: a dict for each case and contestant; ``pooled``: one for each contestant, over the cases; ``traces``.
        Also written to ``out/regret.json``.

    Raises:
        ConfigError: An unknown name, or a file with runs of other lengths.
    """
    contestants = validate(list(dict.fromkeys(case.problem for case in cases)), contestants)
    ours = [short(name) for name in contestants]
    by_name = {case.name: case for case in cases}
    known = {
        key: trace
        for path in kept
        for key, trace in read_traces(path, cases).items()
        if key[0] not in ours and key[2] < seeds
    }
    present = {case.name: suited(case.problem, contestants) for case in cases}
    jobs = [case.job(contestant, seed) for seed in range(seeds) for case in cases for contestant in present[case.name]]
    with Progress() as progress:
        lines = run_jobs(jobs, out / "regret.jsonl", workers=workers, progress=progress, forks=True)
    traces: Traces = {**known, **dict(_of_lines(lines))}
    names = list(dict.fromkeys([*ours, *(key[0] for key in known)]))
    errors = {(Case.of(x["job"]).name, short(x["job"]["contestant"])): x["error"] for x in lines if "error" in x}
    rows = [
        _row(case, name, traces, seeds, errors.get((case.name, name)))
        for case in cases
        for name in names
        if unsuited(name, PROBLEMS[case.problem]) is None
    ]
    result = {
        "benchmark": "regret",
        "environment": environment(),
        "cases": {name: asdict(case) for name, case in by_name.items()},
        "every": EVERY,
        "seeds": seeds,
        "rows": rows,
        "pooled": [_pooled_row(cases, name, traces, seeds) for name in names],
        "traces": _packed(traces, list(by_name)),
    }
    text = json.dumps({**result, "traces": None}, indent=1).replace(
        '"traces": null', '"traces": ' + json.dumps(result["traces"], separators=(",", ":"))
    )
    (out / "regret.json").write_text(text + "\n", encoding="utf-8")
    return result


# ------------------------------------------------------------------------------------------------------ its figures


def _row(case: Case, contestant: str, traces: Traces, seeds: int, error: str | None) -> dict[str, Any]:
    ours = _of(traces, contestant, case.name)
    row: dict[str, Any] = {"problem": case.name, "contestant": contestant, "failed": seeds - len(ours)}
    if error is not None:
        row["error"] = error
    if not ours:
        return row
    values = [trace.final for trace in ours.values()]
    row |= {
        "median": st.median(values),
        "quartiles": [quantile(values, 0.25), quantile(values, 0.75)],
        "worst": max(values),
        "seconds_per_evaluation": st.median(trace.seconds for trace in ours.values()),
        "kept": all(trace.kept for trace in ours.values()),
    }
    for key, opponent in OPPONENTS.items():
        differences = _differences(case, ours, _of(traces, opponent, case.name))
        if contestant != opponent and len(differences) >= 2:
            test = of_differences(list(differences.values()))
            row[f"against_{key}"] = {
                **asdict(test),
                "not_worse": test.not_worse,
                **_in_the_median(list(differences.values())),
            }
    return row


def _differences(case: Case, ours: Mapping[int, Trace], theirs: Mapping[int, Trace]) -> dict[int, float]:
    """Decades from their final regret to ours, by seed."""
    floor = PROBLEMS[case.problem].floor
    return {
        seed: log_difference(ours[seed].final, theirs[seed].final, floor) for seed in sorted(set(ours) & set(theirs))
    }


def _pooled_row(cases: Sequence[Case], contestant: str, traces: Traces, seeds: int) -> dict[str, Any]:
    """A contestant over all cases that it and its opponent ran with two shared seeds or more.

    A run that failed is no pair, so the tests say nothing about it: ``failed`` counts them.
    """
    cases = [case for case in cases if unsuited(contestant, PROBLEMS[case.problem]) is None]
    runs = {case.name: _of(traces, contestant, case.name) for case in cases}
    failed = sum(seeds - len(of_case) for of_case in runs.values())
    row: dict[str, Any] = {"contestant": contestant, "failed": failed}
    for key, opponent in OPPONENTS.items():
        if contestant == opponent:
            continue
        every = {case.name: _differences(case, runs[case.name], _of(traces, opponent, case.name)) for case in cases}
        differences = {name: of_case for name, of_case in every.items() if len(of_case) >= 2}
        try:
            test = pooled(differences)
        except ValueError:
            continue
        row[f"against_{key}"] = {
            "problems": list(differences),
            **asdict(test),
            "not_worse": test.not_worse,
            **_in_the_median([d for of_problem in differences.values() for d in of_problem.values()]),
        }
    return row


def _in_the_median(differences: list[float]) -> dict[str, Any]:
    """The median difference in decades, whether it is not worse than none, and the share of runs that are better."""
    median = st.median(differences)
    better = sum(1.0 if d < 0 else 0.5 if d == 0 else 0.0 for d in differences)
    return {
        "median_difference": median,
        "median_not_worse": median <= 0,
        "better_share": better / len(differences),
    }


def _of(traces: Traces, contestant: str, problem: str) -> dict[int, Trace]:
    return {seed: trace for (name, where, seed), trace in traces.items() if (name, where) == (contestant, problem)}


# ----------------------------------------------------------------------------------------------------- kept traces


def checkpoints(initial: int, evaluations: int) -> list[int]:
    """The numbers of evaluations whose regret is kept."""
    return sorted({initial, evaluations, *range((initial // EVERY + 1) * EVERY, evaluations, EVERY)})


def _of_lines(lines: Sequence[Mapping[str, Any]], kept: bool = False) -> Iterator[tuple[tuple[str, str, int], Trace]]:
    for line in lines:
        if "answer" not in line:
            continue
        job, answer = line["job"], line["answer"]
        at = checkpoints(job["initial"], job["evaluations"])
        regrets = tuple(answer["regret"][count - 1] for count in at)
        seconds = st.median(answer["seconds"]) if answer["seconds"] else 0.0
        yield (short(job["contestant"]), Case.of(job).name, job["seed"]), Trace(regrets, seconds, kept)


def read_traces(path: Path, cases: Sequence[Case]) -> Traces:
    """Runs of the cases made before: from a result (``regret.json``) or from raw answers (``regret.jsonl``).

    Raises:
        ConfigError: The file is neither, or its runs of one of the cases have another length.
    """
    if not path.is_file():
        raise ConfigError([f"bench: reference: {path}: no such file"])
    wanted = {case.name: case for case in cases}
    if path.suffix == ".jsonl":
        lines = [line for line in read_results(path) if line["job"].get("kind") == "regret"]
        _refuse_other_lengths(path, wanted, [Case.of(line["job"]) for line in lines])
        return dict(_of_lines([line for line in lines if Case.of(line["job"]).name in wanted], kept=True))
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        found = {
            (contestant, name, int(seed)): Trace(tuple(run["regret"]), run["seconds"], kept=True)
            for contestant, of_contestant in stored["traces"].items()
            for name, of_case in of_contestant.items()
            for seed, run in of_case.items()
            if name in wanted
        }
        # Before there were cases, all problems of a result had the same length.
        theirs = (
            [Case(**case) for case in stored["cases"].values()]
            if "cases" in stored
            else [Case(name, stored["evaluations"], stored["initial"]) for _, name, _ in found]
        )
        every = stored["every"]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
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


def _packed(traces: Traces, problems: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    packed: dict[str, dict[str, dict[str, Any]]] = {}
    for (contestant, problem, seed), trace in sorted(
        traces.items(), key=lambda item: (item[0][0], problems.index(item[0][1]), item[0][2])
    ):
        packed.setdefault(contestant, {}).setdefault(problem, {})[str(seed)] = {
            "regret": [float(f"{value:.6g}") for value in trace.regrets],
            "seconds": float(f"{trace.seconds:.3g}"),
        }
    return packed

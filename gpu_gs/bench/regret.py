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

from gpu_gs.bench.contestants import short
from gpu_gs.bench.entries import progress, validate
from gpu_gs.bench.runner import environment, read_results, run_jobs
from gpu_gs.bench.statistics import log_difference, non_inferiority, pooled, quantile
from gpu_gs.errors import ConfigError

POOL = ("hartmann6", "branin", "levy4", "rosenbrock4", "ackley10")
PROBLEMS_OF_THE_CLAIM = (*POOL, *(f"{name}-noisy" for name in POOL))
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
"""By contestant, problem and seed."""


def bench_regret(
    problems: list[str],
    contestants: list[str],
    seeds: int,
    evaluations: int,
    initial: int,
    workers: int,
    out: Path,
    kept: Sequence[Path] = (),
) -> dict[str, Any]:
    """Simple regret after equal evaluations from the same initial points, and paired tests against the opponents.

    Args:
        problems: Names of test functions.
        contestants: Those to run.
        seeds: Runs of each, with the seeds 0, 1, ...
        evaluations: Evaluations of a run.
        initial: Of these, Sobol points that all contestants share.
        workers: Runs at a time.
        out: The folder of the results.
        kept: Files with runs made before; those of contestants that are not to run now are taken from there.

    Returns:
        ``rows``: a dict for each problem and contestant; ``pooled``: one for each contestant, over the problems;
        ``traces``. Also written to ``out/regret.json``.

    Raises:
        ConfigError: An unknown name, or a file with runs of other lengths.
    """
    contestants = validate(problems, contestants)
    ours = [short(name) for name in contestants]
    known = {
        key: trace
        for path in kept
        for key, trace in read_traces(path, evaluations, initial).items()
        if key[0] not in ours and key[1] in problems and key[2] < seeds
    }
    jobs = [
        {
            "kind": "regret",
            "problem": problem,
            "contestant": contestant,
            "seed": seed,
            "evaluations": evaluations,
            "initial": initial,
            "threads": 1,
        }
        for seed in range(seeds)
        for problem in problems
        for contestant in contestants
    ]
    lines = run_jobs(jobs, out / "regret.jsonl", workers=workers, done=progress, forks=True)
    traces: Traces = {**known, **dict(_of_lines(lines))}
    names = list(dict.fromkeys([*ours, *(key[0] for key in known)]))
    errors = {(x["job"]["problem"], short(x["job"]["contestant"])): x["error"] for x in lines if "error" in x}
    rows = [_row(problem, name, traces, seeds, errors.get((problem, name))) for problem in problems for name in names]
    result = {
        "benchmark": "regret",
        "environment": environment(),
        "evaluations": evaluations,
        "initial": initial,
        "every": EVERY,
        "seeds": seeds,
        "rows": rows,
        "pooled": [_pooled_row(problems, name, traces, seeds) for name in names],
        "traces": _packed(traces, problems),
    }
    text = json.dumps({**result, "traces": None}, indent=1).replace(
        '"traces": null', '"traces": ' + json.dumps(result["traces"], separators=(",", ":"))
    )
    (out / "regret.json").write_text(text + "\n", encoding="utf-8")
    return result


# ------------------------------------------------------------------------------------------------------ its figures


def _row(problem: str, contestant: str, traces: Traces, seeds: int, error: str | None) -> dict[str, Any]:
    ours = _of(traces, contestant, problem)
    row: dict[str, Any] = {"problem": problem, "contestant": contestant, "failed": seeds - len(ours)}
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
        theirs = _of(traces, opponent, problem)
        shared = sorted(set(ours) & set(theirs))
        if contestant != opponent and len(shared) >= 2:
            pairs = [(ours[seed].final, theirs[seed].final) for seed in shared]
            test = non_inferiority([a for a, _ in pairs], [b for _, b in pairs])
            row[f"against_{key}"] = {
                **asdict(test),
                "not_worse": test.not_worse,
                **_in_the_median([log_difference(a, b) for a, b in pairs]),
            }
    return row


def _pooled_row(problems: list[str], contestant: str, traces: Traces, seeds: int) -> dict[str, Any]:
    """A contestant over all problems that it and its opponent ran with two shared seeds or more.

    A run that failed is no pair, so the tests say nothing about it: ``failed`` counts them.
    """
    failed = seeds * len(problems) - sum(len(_of(traces, contestant, problem)) for problem in problems)
    row: dict[str, Any] = {"contestant": contestant, "failed": failed}
    for key, opponent in OPPONENTS.items():
        if contestant == opponent:
            continue
        differences = {}
        for problem in problems:
            ours, theirs = _of(traces, contestant, problem), _of(traces, opponent, problem)
            shared = sorted(set(ours) & set(theirs))
            if len(shared) >= 2:
                differences[problem] = {s: log_difference(ours[s].final, theirs[s].final) for s in shared}
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
        yield (short(job["contestant"]), job["problem"], job["seed"]), Trace(regrets, seconds, kept)


def read_traces(path: Path, evaluations: int, initial: int) -> Traces:
    """Runs made before: from a result (``regret.json``) or from raw answers (``regret.jsonl``).

    Raises:
        ConfigError: The file is neither, or its runs have another length.
    """
    if not path.is_file():
        raise ConfigError([f"bench: reference: {path}: no such file"])
    wrong = f"bench: reference: {path}: its runs do not have {evaluations} evaluations, {initial} of them initial"
    if path.suffix == ".jsonl":
        lines = [line for line in read_results(path) if line["job"].get("kind") == "regret"]
        if any((x["job"]["evaluations"], x["job"]["initial"]) != (evaluations, initial) for x in lines):
            raise ConfigError([wrong])
        return dict(_of_lines(lines, kept=True))
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if (stored["evaluations"], stored["initial"], stored["every"]) != (evaluations, initial, EVERY):
            raise ConfigError([wrong])
        return {
            (contestant, problem, int(seed)): Trace(tuple(run["regret"]), run["seconds"], kept=True)
            for contestant, of_contestant in stored["traces"].items()
            for problem, of_problem in of_contestant.items()
            for seed, run in of_problem.items()
        }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError([f"bench: reference: {path}: no result of gpu-gs bench regret: {error!r}"]) from None


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

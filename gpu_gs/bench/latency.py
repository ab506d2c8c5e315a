"""``gpu-gs bench latency``: seconds of an ask at several numbers of trials, each contestant in a process of its own.

Contestants run one after the other, those of one size next to each other, each with every thread count; its better one,
by the median, counts. Ratios are of medians (and of means) over asks in sequence, each told its value, refits included.
"""

import json
import os
import statistics as st
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import is_ours, on_cuda, short
from gpu_gs.bench.curves import draw
from gpu_gs.bench.entries import suited, validate
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.progress import Progress
from gpu_gs.bench.runner import Job, environment, gpus, run_jobs
from gpu_gs.bench.statistics import growth, quantile

SIZES = (50, 100, 250, 500, 1_000, 2_000)
CUDA_SIZES = (5_000, 10_000)
"""By default, only contestants on CUDA run at these."""

BATCH_SIZE = 200
"""Evaluations known at the first ask for several candidates at once."""

GROWTH_RANGE = (250, 2_000)
"""The numbers of trials between which an ask shall grow no faster than their square."""

KEPT = ("kept", "unchanged")
"""Fit decisions that are no refit: hyperparameters kept, or no new data."""

STAGES = ("strategy", "data", "transform", "fit", "setup", "raw_samples", "optimize", "untransform", "other")


@dataclass(frozen=True)
class Target:
    """What the project wants of an ask of ours; ``ax`` and ``optuna`` are ratios of medians, ``seconds`` a median.

    The mean over the same asks is to reach ``MEAN_SHARE`` of each ratio. Without a problem it is for all that have one
    objective over a box.
    """

    n: int
    batch: int = 1
    cuda: bool = False
    ax: float | None = None
    optuna: float | None = None
    seconds: float | None = None
    problem: str | None = None
    pending: int = 0


MEAN_SHARE = 0.6
TARGETS = (
    Target(100, ax=20, optuna=2),
    Target(250, ax=20, optuna=4),
    Target(500, ax=30, optuna=8),
    Target(1_000, ax=50, optuna=15),
    Target(BATCH_SIZE, batch=8, ax=20),
    Target(1_000, cuda=True, ax=20),
    Target(10_000, cuda=True, seconds=1.0),
    Target(50, problem="hartmann6-linear", ax=50),
    Target(BATCH_SIZE, problem="hartmann6-linear", ax=50),
    Target(BATCH_SIZE, problem="constrained-hartmann6", ax=20),
    Target(BATCH_SIZE, problem="hartmann6-two", ax=20),
    Target(BATCH_SIZE, problem="hartmann6-mixed", ax=8),
    Target(BATCH_SIZE, problem="ackley20", ax=15),
    Target(BATCH_SIZE, problem="hartmann6", pending=3, ax=15),
    Target(BATCH_SIZE, problem="hartmann6-linear", batch=8, ax=20),
    Target(BATCH_SIZE, problem="constrained-hartmann6", batch=8, ax=20),
    Target(BATCH_SIZE, problem="hartmann6-two", batch=8, ax=20),
    Target(BATCH_SIZE, problem="hartmann6-mixed", batch=8, ax=20),
)


@dataclass(frozen=True)
class Case:
    """Asks for ``batch`` candidates from n evaluations on, while ``pending`` other trials run."""

    problem: str
    n: int
    batch: int = 1
    pending: int = 0

    def job(self, **rest: Any) -> Job:
        """The job of one contestant; it names pending trials only where there are some."""
        pending = {"pending": self.pending} if self.pending else {}
        return {"kind": "latency", "problem": self.problem, "n": self.n, "batch": self.batch, **pending, **rest}

    @classmethod
    def of(cls, job: Job) -> "Case":
        return cls(job["problem"], job["n"], job["batch"], job.get("pending", 0))


KINDS = (
    *(Case(t.problem, t.n, t.batch, t.pending) for t in TARGETS if t.problem is not None),
    Case("hartmann6", BATCH_SIZE, batch=8),
)
"""All kinds of problems, 6 parameters where not said otherwise."""


def default_contestants() -> list[str]:
    """Stock Ax and ours on each device that is here, and Optuna where it is installed."""
    return ["reference", "fast@cpu", "optuna", *(["reference@cuda", "fast@cuda"] if gpus() else [])]


def bench_latency(
    problems: list[str],
    sizes: list[int] | None = None,
    contestants: list[str] | None = None,
    asks: int = 20,
    threads: list[int] | None = None,
    seed: int = 0,
    out: Path = Path("runs/bench-latency"),
    batch: int = 8,
    limit: float = 600.0,
    pending: int = 0,
    kinds: bool = False,
) -> dict[str, Any]:
    """Seconds of an ask through each contestant, at each number of evaluations known.

    Args:
        problems: Names of test functions; with ``kinds`` those of its cases that run, all if there are none.
        sizes: Evaluations known at the first ask; by default ``SIZES``, ``CUDA_SIZES`` on CUDA, and ``BATCH_SIZE``
            for ``batch`` candidates at once.
        contestants: Names; by default those of ``default_contestants``.
        asks: Asks timed, after one that is not.
        threads: Thread counts to try; by default one and all cores.
        seed: Of the initial points.
        out: The folder of the results.
        batch: Candidates at once at ``BATCH_SIZE``, or at all ``sizes`` if some are given; 1 for none.
        limit: Seconds after which a job times no further ask, three at least.
        pending: Other trials that run during each ask.
        kinds: Run the cases of ``KINDS`` instead; ``sizes``, ``batch`` and ``pending`` do not count then.

    Returns:
        ``rows``: a dict for each problem, size and contestant; ``growth``: one for each problem and contestant. Also
        written to ``out/latency.json``, with a picture beside it.
    """
    contestants = contestants or default_contestants()
    contestants = validate(problems, contestants)
    if kinds:
        cases = [(case, contestants) for case in KINDS if not problems or case.problem in problems]
    else:
        cases = [
            (Case(problem, n, together, pending), present)
            for problem in problems
            for n, together, present in _cases(sizes, batch, contestants)
        ]
    cases = [(case, suited(case.problem, present)) for case, present in cases]
    counts = sorted(set(threads or (1, os.cpu_count() or 1)))
    jobs = [
        case.job(contestant=contestant, asks=asks, limit=limit, threads=count, seed=seed)
        for case, present in cases
        for contestant in present
        for count in counts
    ]
    before = environment()
    with Progress() as progress:
        lines = run_jobs(jobs, out / "latency.jsonl", workers=1, progress=progress)
    rows = []
    for case, present in cases:
        group = [line for line in lines if Case.of(line["job"]) == case]
        rows.extend(_compared([_row([x for x in group if x["job"]["contestant"] == name]) for name in present]))
    result = {
        "benchmark": "latency",
        "environment": before,
        "asks": asks,
        "seed": seed,
        "rows": rows,
        "growth": growth_rows(rows),
    }
    (out / "latency.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, out / "latency.svg", out / "latency.png")
    return result


def _cases(sizes: list[int] | None, batch: int, contestants: list[str]) -> list[tuple[int, int, list[str]]]:
    """(evaluations known, candidates at once, contestants), in the order in which they run."""
    if sizes is not None:
        return [(n, batch, contestants) for n in sizes]
    cases = [(n, 1, contestants) for n in SIZES]
    if batch > 1:
        cases.append((BATCH_SIZE, batch, contestants))
    if large := [name for name in contestants if on_cuda(name)]:
        cases += [(n, 1, large) for n in CUDA_SIZES]
    return cases


# ------------------------------------------------------------------------------------------------------ its figures


def _row(lines: Sequence[Job]) -> dict[str, Any]:
    """One contestant at one size: its better thread count, or its error."""
    job = lines[0]["job"]
    row = {name: job[name] for name in ("problem", "n", "batch")}
    if job.get("pending", 0):
        row["pending"] = job["pending"]
    row |= {"contestant": short(job["contestant"]), "d": PROBLEMS[job["problem"]].dim}
    answers = [line for line in lines if "answer" in line]
    if not answers:
        return {**row, "error": lines[0]["error"]}
    best = min(answers, key=lambda line: st.median(line["answer"]["ask"]))
    answer = best["answer"]
    asks = answer["ask"]
    row |= {
        "threads": best["job"]["threads"],
        "medians_by_threads": {str(x["job"]["threads"]): st.median(x["answer"]["ask"]) for x in answers},
        "asks": len(asks),
        "asks_wanted": job["asks"],
        "median": st.median(asks),
        "mean": st.fmean(asks),
        "p95": quantile(asks, 0.95),
        "first": answer["first"],
        "ask_and_tell": st.median(a + t for a, t in zip(asks, answer["tell"], strict=True)),
        "best_parameterization": st.median(answer["best"]),
        "peak_mb": answer["peak_mb"],
        "asks_mb": answer["asks_mb"],
        "cuda_mb": answer["cuda_mb"],
    }
    details = answer["details"]
    if details and all(d.get("fit_decision") for ask in details for d in ask):
        row |= _recorded(asks, details)
    elif details and "ax_fit" in details[0][0]:
        stages = {
            "fit": [sum(d["ax_fit"] for d in ask) for ask in details],
            "generate": [sum(d["ax_generate"] for d in ask) for ask in details],
        }
        parts = zip(asks, *stages.values(), strict=True)
        stages["other"] = [max(ask - sum(known), 0.0) for ask, *known in parts]
        row["stages"] = {name: st.median(seconds) for name, seconds in stages.items()}
    return row


def _recorded(asks: list[float], details: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """What the records of our asks say: a list of records for each ask, one for each of its candidates."""
    stages = {name: [sum(d[name] for d in ask) for ask in details] for name in STAGES}
    # What the Client did around the strategy: the trial, its log line, its storage.
    stages["client"] = [seconds - sum(d["total"] for d in ask) for seconds, ask in zip(asks, details, strict=True)]
    refits = [any(d["fit_decision"] not in KEPT for d in ask) for ask in details]
    between = [seconds for seconds, refit in zip(asks, refits, strict=True) if not refit]
    after = [seconds for seconds, refit in zip(asks, refits, strict=True) if refit]
    return {
        "stages": {name: st.median(seconds) for name, seconds in stages.items()},
        "stages_mean": {name: st.fmean(seconds) for name, seconds in stages.items()},
        "fit_evaluations": st.fmean(sum(d["fit_evaluations"] or 0 for d in ask) for ask in details),
        "refit_share": st.fmean(refits),
        "median_between_refits": st.median(between) if between else None,
        "median_of_refits": st.median(after) if after else None,
        "fit_decisions": dict(Counter(d["fit_decision"] for ask in details for d in ask)),
        "acquisitions": sorted({str(d["acquisition"]) for ask in details for d in ask}),
        "devices": sorted({str(d["device"]) for ask in details for d in ask}),
        "reasons": sorted({d["reasons"] for ask in details for d in ask if d.get("reasons")}),
    }


def _compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds to the rows of one case their ratios against the others, and whether targets are met."""
    by_name = {row["contestant"]: row for row in rows if "median" in row}
    for row in by_name.values():
        cuda = on_cuda(row["contestant"]) or any(device.startswith("cuda") for device in row.get("devices", []))
        # Stock Ax on the same device; where it is not there, on the CPU.
        stock = by_name.get("reference@cuda") if cuda else None
        opponents = {"ax": stock or by_name.get("reference"), "optuna": by_name.get("optuna")}
        row["against"] = {
            key: {
                "contestant": other["contestant"],
                "median": other["median"] / row["median"],
                "mean": other["mean"] / row["mean"],
            }
            for key, other in opponents.items()
            if other is not None
        }
        if is_ours(row["contestant"]):
            row["targets"] = targets_of(row, cuda)
    return rows


def targets_of(row: dict[str, Any], cuda: bool) -> list[dict[str, Any]]:
    """The targets for a row of ours, each with whether it is met by the median and by the mean.

    A ratio against stock Ax on CUDA counts only if it was taken there; without the opponent, ``met`` is None.
    """
    found = []
    for target in TARGETS:
        wanted_of = (target.n, target.batch, target.pending, target.cuda)
        if wanted_of != (row["n"], row["batch"], row.get("pending", 0), cuda):
            continue
        if target.problem != row["problem"] and (target.problem or not PROBLEMS[row["problem"]].is_plain):
            continue
        if target.seconds is not None:
            found.append({"seconds": target.seconds, "met": row["median"] < target.seconds, "mean_met": None})
        for key in ("ax", "optuna"):
            wanted = getattr(target, key)
            if wanted is None:
                continue
            ratio = row["against"].get(key)
            if ratio is not None and cuda and not on_cuda(ratio["contestant"]):
                ratio = None
            found.append(
                {
                    "against": key,
                    "ratio": wanted,
                    "met": None if ratio is None else ratio["median"] >= wanted,
                    "mean_met": None if ratio is None else ratio["mean"] >= MEAN_SHARE * wanted,
                }
            )
    return found


def growth_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The exponent of an ask's growth with n over ``GROWTH_RANGE``, one candidate at a time.

    ``between_refits`` is the exponent over the asks that kept their hyperparameters, where each size has some.
    """
    low, high = GROWTH_RANGE
    found = []
    for problem, contestant in dict.fromkeys((row["problem"], row["contestant"]) for row in rows):
        mine = [
            row
            for row in rows
            if (row["problem"], row["contestant"], row["batch"]) == (problem, contestant, 1)
            and not row.get("pending")
            and low <= row["n"] <= high
            and "median" in row
        ]
        if len({row["n"] for row in mine}) < 2:
            continue
        sizes = [row["n"] for row in mine]
        between = [row.get("median_between_refits") for row in mine]
        found.append(
            {
                "problem": problem,
                "contestant": contestant,
                "from": min(sizes),
                "to": max(sizes),
                "exponent": growth(sizes, [row["median"] for row in mine]),
                "between_refits": growth(sizes, [s for s in between if s is not None]) if all(between) else None,
            }
        )
    return found

"""``gpu-gs bench latency``: seconds of an ask at several numbers of trials, each contestant in a process of its own.

Contestants run one after the other, those of one size next to each other, each with every thread count; its better one,
by the median, counts. Ratios are of medians (and of means) over asks in sequence, each told its value, refits included.
Several rounds, each from other initial points, let what the machine does meanwhile and the data vary alike for all: a
ratio is then the geometric mean of those of the rounds that both have, with an interval from three rounds on.
"""

import json
import math
import statistics as st
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_gs.bench.cases import DataKind
from gpu_gs.bench.contestants import before_accelerate, is_ours, is_strategy, on_cuda, short, unsuited
from gpu_gs.bench.plan import LatencySection
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.runner import Job, Watcher, environment, run_jobs
from gpu_gs.bench.statistics import LEVEL, growth, quantile
from gpu_gs.device import cores_of_process

BATCH_SIZE = 200
"""Evaluations known at the first ask of most kinds of problems."""

GROWTH_RANGE = (250, 2_000)
"""The numbers of trials between which an ask shall grow no faster than their square."""

FEWEST_FOR_P95 = 20
"""Asks of which the slowest twentieth is one at least."""

FEWEST_ROUNDS = 3
"""Rounds from which on a ratio has an interval."""

ROUNDS = "_rounds"
"""Of a row in the making: the seconds of its asks by the seed of their round."""

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
    """Asks for ``batch`` candidates from n evaluations on, while ``pending`` other trials run.

    With ``storage``, Ax writes every trial into an SQLite file; ``data`` is what it is told besides one value of each
    metric.
    """

    problem: str
    n: int
    batch: int = 1
    pending: int = 0
    storage: bool = False
    data: DataKind | None = None

    def job(self, **rest: Any) -> Job:
        """The job of one contestant; it names what is unusual only, so that older answers still count."""
        unusual: Job = {"pending": self.pending} if self.pending else {}
        unusual |= {"storage": True} if self.storage else {}
        unusual |= {"data": self.data} if self.data else {}
        return {"kind": "latency", "problem": self.problem, "n": self.n, "batch": self.batch, **unusual, **rest}

    @classmethod
    def of(cls, job: Job) -> "Case":
        more = job.get("pending", 0), job.get("storage", False), job.get("data")
        return cls(job["problem"], job["n"], job["batch"], *more)


def bench_latency(
    section: LatencySection, contestants: Sequence[str], out: Path, progress: Watcher | None = None
) -> dict[str, Any]:
    """Seconds of an ask through each contestant, at each number of evaluations known.

    Args:
        section: What is asked.
        contestants: Names of those that take part where they can.
        out: The folder of the results.
        progress: Is told how far it is.

    Returns:
        ``rows``: a dict for each case and contestant; ``growth``: one for each problem and contestant. Also written to
        ``out/latency.json``.
    """
    every = [
        (Case(case.problem, n, case.batch, case.pending, case.storage, case.data), case.cuda_only)
        for case in section.cases
        for n in case.n
    ]
    cases = {case: suited(case, contestants, cuda_only) for case, cuda_only in every}
    counts = sorted(set(section.threads or (1, cores_of_process())))
    jobs = [
        case.job(contestant=contestant, asks=section.asks, limit=section.limit, threads=count, seed=seed)
        for case, present in cases.items()
        for seed in range(section.seed, section.seed + section.rounds)
        for contestant in present
        for count in counts
    ]
    before = environment()
    lines = run_jobs(jobs, out / "latency.jsonl", progress=progress)
    rows = []
    for case, present in cases.items():
        group = [line for line in lines if Case.of(line["job"]) == case]
        rows.extend(_compared([_row([x for x in group if x["job"]["contestant"] == name]) for name in present]))
    result = {
        "benchmark": "latency",
        "environment": before,
        "asks": section.asks,
        "rounds": section.rounds,
        "seed": section.seed,
        "rows": rows,
        "growth": growth_rows(rows),
    }
    (out / "latency.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def suited(case: Case, contestants: Sequence[str], cuda_only: bool = False) -> list[str]:
    """The contestants that can take part in a case."""
    problem = PROBLEMS[case.problem]
    present = [
        name for name in contestants if unsuited(name, problem) is None and not (cuda_only and not on_cuda(name))
    ]
    return [name for name in present if is_strategy(name)] if case.storage or case.data else present


# ------------------------------------------------------------------------------------------------------ its figures


def _row(lines: Sequence[Job]) -> dict[str, Any]:
    """One contestant at one size: its better thread count, or its error."""
    job = lines[0]["job"]
    row = {name: job[name] for name in ("problem", "n", "batch")}
    if job.get("pending", 0):
        row["pending"] = job["pending"]
    if job.get("storage", False):
        row["storage"] = True
    if job.get("data"):
        row["data"] = job["data"]
    row |= {"contestant": short(job["contestant"]), "d": PROBLEMS[job["problem"]].dim}
    answers = [line for line in lines if "answer" in line]
    if not answers:
        return {**row, "error": lines[0]["error"]}
    by_threads: dict[int, dict[int, Any]] = {}  # by seed
    for line in answers:
        by_threads.setdefault(line["job"]["threads"], {})[line["job"]["seed"]] = line["answer"]
    # A thread count that failed in a round is one to choose only if all did.
    rounds = max(map(len, by_threads.values()))
    medians = {count: st.median(_asks(found)) for count, found in by_threads.items()}
    threads = min((count for count, found in by_threads.items() if len(found) == rounds), key=lambda x: medians[x])
    failed = {
        str(line["job"]["seed"]): line["error"]
        for line in lines
        if "error" in line and line["job"]["threads"] == threads
    }
    if failed:
        row["failed_rounds"] = failed
    answer = _joined(list(by_threads[threads].values()))
    asks = answer["ask"]
    row |= {
        ROUNDS: {seed: one["ask"] for seed, one in by_threads[threads].items()},
        "threads": threads,
        "medians_by_threads": {str(count): median for count, median in medians.items()},
        "asks": len(asks),
        "asks_wanted": job["asks"] * len({line["job"]["seed"] for line in lines}),
        "median": st.median(asks),
        "mean": st.fmean(asks),
        "p95": quantile(asks, 0.95) if len(asks) >= FEWEST_FOR_P95 else None,
        "first": answer["first"],
        "ask_and_tell": st.median(a + t for a, t in zip(asks, answer["tell"], strict=True)),
        "best_parameterization": st.median(answer["best"]) if answer["best"] else None,
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


def _asks(by_seed: Mapping[int, Any]) -> list[float]:
    return [seconds for answer in by_seed.values() for seconds in answer["ask"]]


def _joined(answers: Sequence[Any]) -> dict[str, Any]:
    """The answers of several rounds as one: lists in a row, the median of the first asks, the most memory."""
    joined: dict[str, Any] = {"first": st.median(answer["first"] for answer in answers)}
    for name in ("ask", "tell", "best", "details"):
        joined[name] = [each for answer in answers for each in answer[name] or ()]
    for name in ("peak_mb", "asks_mb", "cuda_mb"):
        known = [answer[name] for answer in answers if answer[name] is not None]
        joined[name] = max(known) if known else None
    return joined


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
        "reasons": sorted({reasons for ask in details for d in ask if (reasons := _worth_saying(d))}),
    }


def _worth_saying(record: Mapping[str, Any]) -> str:
    """Why a fast part was not used, and of the device only that an ask left it: why it was chosen is no news."""
    left = [reason for reason in (record.get("device_reasons") or "").split("; ") if "out of memory" in reason]
    return "; ".join(filter(None, [record.get("reasons") or "", *left]))


def _compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds to the rows of one case their ratios against the others, and whether targets are met."""
    by_name = {row["contestant"]: row for row in rows if "median" in row}
    for row in by_name.values():
        cuda = on_cuda(row["contestant"]) or any(device.startswith("cuda") for device in row.get("devices", []))
        # Stock Ax on the same device; where it is not there, on the CPU. Of an accelerated strategy, what it was before.
        stock = by_name.get(before_accelerate(row["contestant"]) or ("reference@cuda" if cuda else "reference"))
        opponents = {"ax": stock or by_name.get("reference"), "optuna": by_name.get("optuna")}
        row["against"] = {
            key: {
                "contestant": other["contestant"],
                **ratio_over_rounds(other[ROUNDS], row[ROUNDS]),
            }
            for key, other in opponents.items()
            if other is not None and set(other[ROUNDS]) & set(row[ROUNDS])
        }
        if is_ours(row["contestant"]):
            row["targets"] = targets_of(row, cuda)
    for row in by_name.values():
        row["medians_by_seed"] = {str(seed): st.median(asks) for seed, asks in row.pop(ROUNDS).items()}
    return rows


def ratio_over_rounds(theirs: Mapping[int, list[float]], ours: Mapping[int, list[float]]) -> dict[str, Any]:
    """How many times slower they are than we are, over the rounds of both.

    Args:
        theirs: Seconds of their asks, by the round's seed.
        ours: The same of ours.

    Returns:
        ``median`` and ``mean``: the geometric mean of the rounds' ratios of medians, and of means; ``interval``, from
        three rounds on: the 95 % interval of ``median``, by Student's t of its logarithm, rounds being independent.
    """
    common = sorted(set(theirs) & set(ours))
    ratios = {
        name: [of(theirs[seed]) / of(ours[seed]) for seed in common]
        for name, of in (("median", st.median), ("mean", st.fmean))
    }
    # Of one round the ratio itself, to the last bit.
    ratio: dict[str, Any] = {
        name: values[0] if len(common) == 1 else st.geometric_mean(values) for name, values in ratios.items()
    }
    if len(common) >= FEWEST_ROUNDS:
        from scipy.stats import t

        half = (
            float(t.ppf((1 + LEVEL) / 2, len(common) - 1))
            * st.stdev(map(math.log, ratios["median"]))
            / math.sqrt(len(common))
        )
        ratio["interval"] = [ratio["median"] * math.exp(-half), ratio["median"] * math.exp(half)]
    return ratio


def targets_of(row: dict[str, Any], cuda: bool) -> list[dict[str, Any]]:
    """The targets for a row of ours, each with whether it is met by the median and by the mean.

    A ratio against stock Ax on CUDA counts only if it was taken there; without the opponent, ``met`` is None.
    """
    found: list[dict[str, Any]] = []
    if row.get("storage") or row.get("data"):
        return found
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
            and not row.get("storage")
            and not row.get("data")
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

"""Made-up results of ``gpu-gs bench``, as its sections write them, for the report."""

import json
import math
from pathlib import Path

VERSIONS = {"gpu-gs": "0.1.0", "ax-platform": "1.3.1", "torch": "2.13.0"}
SIZES = (100, 250, 500, 1_000)
EXPONENTS = {"fast": (0.004, 0.4), "fast@cpu": (0.004, 0.4), "fast@cuda": (0.02, 0.02), "optuna": (0.002, 1.0)}
STOCK = (0.002, 1.3)
GPU = "NVIDIA H100"


def environment(at=None, gpus=(), processor="Zen", commit="abc1234"):
    found = {
        "commit": commit,
        "versions": VERSIONS,
        "python": "3.11.7",
        "machine": "x86_64",
        "processor": processor,
        "cores": 2,
        "gpus": list(gpus),
        "load": 1.5,
    }
    return found if at is None else {**found, "at": at}


def timed(contestant, n, problem="branin", scale=1.0, **more):
    """A row of the latency benchmark: c n^p seconds; ``more`` is what is unusual about the case."""
    factor, exponent = EXPONENTS.get(contestant, STOCK)
    seconds = scale * factor * n**exponent
    row = {"problem": problem, "n": n, "batch": 1, **more, "contestant": contestant, "d": 2, "threads": 1}
    row |= {
        "medians_by_threads": {"1": seconds},
        "asks": 20,
        "asks_wanted": 20,
        "median": seconds,
        "mean": 1.1 * seconds,
    }
    row |= {"p95": 1.5 * seconds, "first": 3 * seconds, "ask_and_tell": 1.2 * seconds, "best_parameterization": seconds}
    row |= {"peak_mb": 500.0, "asks_mb": 30.0, "cuda_mb": 900.0 if "cuda" in contestant else None, "against": {}}
    if contestant.startswith("fast"):
        row["stages"] = {"fit": 0.5 * seconds, "optimize": 0.4 * seconds, "client": 0.1 * seconds}
        row |= {"fit_evaluations": 1.5, "refit_share": 0.2, "devices": ["cuda:0" if "cuda" in contestant else "cpu"]}
        row |= {"median_between_refits": seconds, "median_of_refits": 2 * seconds}
    if contestant.startswith("reference"):
        row["stages"] = {"fit": 0.3 * seconds, "generate": 0.6 * seconds, "other": 0.1 * seconds}
    return row


def compared(rows):
    """Adds the ratios, and a target of 20 times stock Ax."""
    cases = {(row["problem"], row["n"], row["batch"], row["contestant"]): row for row in rows if "median" in row}
    for (problem, n, batch, name), row in cases.items():
        for key, opponent in (("ax", "reference"), ("optuna", "optuna")):
            if other := cases.get((problem, n, batch, opponent)):
                ratios = {kind: other[kind] / row[kind] for kind in ("median", "mean")}
                row["against"][key] = {"contestant": opponent, **ratios}
        if name.startswith("fast") and "ax" in row["against"]:
            met = row["against"]["ax"]["median"] >= 20
            row["targets"] = [{"against": "ax", "ratio": 20, "met": met, "mean_met": met}]
    return rows


def latency(rows=None, contestants=("fast@cpu", "reference", "optuna"), scale=1.0, **about):
    if rows is None:
        rows = [timed(name, n, scale=scale) for n in SIZES for name in contestants]
        rows += [timed(name, 200, scale=8 * scale, batch=8) for name in contestants if name != "optuna"]
    result = {"benchmark": "latency", "environment": environment(**about), "asks": 20, "seed": 0}
    return {**result, "rows": compared(rows), "growth": []}


CASES = ("branin", "levy4-batch4")


def curve(end, seeds=20, elapsed=0.05):
    evaluations = [*range(10, 60, 5), 60]
    median = [10 ** (1 + (math.log10(end) - 1) * (count - 10) / 50) for count in evaluations]
    return {
        "evaluations": evaluations,
        "median": median,
        "low": [0.6 * value for value in median],
        "high": [1.7 * value for value in median],
        "elapsed": [elapsed * (count - 10) for count in evaluations],
        "objective": None,
        "seeds": seeds,
    }


def difference(mean, p_adjusted=0.4):
    return {
        "opponent": "reference",
        "mean_difference": mean,
        "upper_bound": mean + 0.1,
        "margin": 0.3,
        "pairs": 20,
        "spread": 0.25,
        "pairs_for_power": 6,
        "power": 0.99,
        "not_worse": mean + 0.1 < 0.3,
        "p_value": 0.2,
        "p_adjusted": p_adjusted,
        "interval": [mean - 0.1, mean + 0.1],
        "median_difference": mean,
        "median_not_worse": mean <= 0,
        "better_share": 0.55,
    }


def regret(mean=-0.09, contestants=("fast", "reference"), failed=None, **about):
    """A result with all that today's have; ``failed`` maps (case, contestant) to the runs that are missing."""
    ends = {name: 0.01 * 10**i for i, name in enumerate(contestants)}
    rows = []
    for case in CASES:
        for name in contestants:
            count = (failed or {}).get((case, name), 0)
            row = {"problem": case, "contestant": name, "failed": count}
            if count:
                row["error"] = "Traceback (most recent call last):\nValueError: no candidate was found"
            row |= {"median": ends[name], "interval": [0.5 * ends[name], 2 * ends[name]], "quartiles": [0.01, 1.0]}
            row |= {"worst": 5.0, "seconds_per_evaluation": 0.05, "strategy_seconds": 2.5, "objective_seconds": 0.1}
            row |= {"kept": False, "run": {"commit": "abc1234", "device": "cpu", "threads": 1}}
            if name != "reference":
                row["against_ax"] = difference(mean, 0.01 if case == "branin" else 0.4)
            rows.append(row)
    pooled = [{"contestant": name, "failed": 0} for name in contestants]
    for row in pooled:
        if row["contestant"] != "reference":
            row["against_ax"] = {**difference(mean), "problems": list(CASES)}
    tau = [10 ** (k / 20) for k in range(61)]
    lengths = {"problem": "branin", "evaluations": 60, "initial": 10, "batch": 1, "pending": 0}
    return {
        "benchmark": "regret",
        "environment": environment(**about),
        "cases": dict.fromkeys(CASES, lengths),
        "floors": {"branin": 1e-8, "levy4-batch4": 0.05},
        "every": 10,
        "seeds": 20,
        "rows": rows,
        "pooled": pooled,
        "targets": [],
        "equal_time": [],
        "profiles": {
            name: {"tau": tau, "share": [min(1.0, 0.5 / (i + 1) + 0.01 * k) for k in range(61)], "runs": 40}
            for i, name in enumerate(contestants)
        },
        "curves": {
            case: {name: curve(ends[name], elapsed=0.05 if name == "fast" else 2.0) for name in contestants}
            for case in CASES
        },
        "traces": {},
    }


def old_regret(**about):
    """As before there were curves, cases of different lengths and intervals."""
    traces = {str(seed): {"regret": [8.0, 4.0, 2.0 + seed, 1.0 + seed], "seconds": 0.1} for seed in range(5)}
    rows = [
        {"problem": "branin", "contestant": "always", "failed": 0, "median": 3.0, "quartiles": [2.0, 4.0], "worst": 5.0,
         "seconds_per_evaluation": 0.1, "kept": False}
    ]  # fmt: skip
    result = {"benchmark": "regret", "environment": environment(**about), "evaluations": 35, "initial": 10, "every": 10}
    return {
        **result,
        "seeds": 5,
        "rows": rows,
        "pooled": [{"contestant": "always", "failed": 0}],
        "traces": {"always": {"branin": traces}},
    }


def memory(**about):
    row = {"contestant": "fast", "n": 40, "at": [250, 500, 1_000], "resident_mb": [470.0, 480.0, 490.0]}
    row |= {"state_bytes": [706, 706, 707], "seconds": 60.0, "kb_an_ask": 10.0}
    rows = [row, {"contestant": "reference", "n": 40, "error": "MemoryError: out of memory"}]
    return {
        "benchmark": "memory",
        "environment": environment(**about),
        "problem": "branin",
        "asks": 1_000,
        "rows": rows,
    }


def article(**about):
    table = {
        "title": "Seconds at 1000 trials with 2 metrics",
        "caption": "Medians of calls.",
        "columns": ["what", "seconds", "the article"],
        "rows": [
            ["fetch_data: a Client's metrics", "1.24", "14.185"],
            ["lookup_data: a <b>Client's</b> metrics", "", ""],
        ],
    }
    return {"benchmark": "article", "environment": environment(**about), "tables": [table], "rows": []}


def write(folder: Path, *results, name=None) -> Path:
    """Each result as its section's file in the folder; a single one under another name if wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        path = folder / f"{name or result['benchmark']}.json"
        path.write_text(json.dumps(result), encoding="utf-8")
    return folder

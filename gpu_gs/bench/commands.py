"""``gpu-gs bench``: the benchmarks behind the project's claims, as plain commands."""

import json
import statistics as st
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import missing
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.runner import environment, run_jobs
from gpu_gs.bench.statistics import non_inferiority, quantile
from gpu_gs.config import closest, presets
from gpu_gs.errors import ConfigError


def validate(problems: list[str], contestants: list[str]) -> list[str]:
    """The contestants that can take part here.

    Raises:
        ConfigError: An unknown problem or contestant.
    """
    wrong = [
        f"bench: problem: {name!r} is unknown{closest(name, PROBLEMS)}; allowed: {', '.join(sorted(PROBLEMS))}"
        for name in problems
        if name not in PROBLEMS
    ]
    allowed = ["optuna", "random", *presets("strategies")]
    wrong += [
        f"bench: contestant: {name!r} is unknown{closest(name, allowed)}; allowed: {', '.join(allowed)}, or a YAML file"
        for name in contestants
        if name not in allowed and not Path(name).is_file()
    ]
    if wrong:
        raise ConfigError(wrong)
    present = []
    for name in contestants:
        if reason := missing(name):
            print(f"skipped {name}: {reason}", file=sys.stderr)
        else:
            present.append(name)
    return present


def bench_latency(
    problem: str, sizes: list[int], contestants: list[str], asks: int, threads: list[int], seed: int, out: Path
) -> dict[str, Any]:
    """Seconds of an ask through each contestant, at each number of evaluations known.

    Every contestant runs with each thread count, and its better one (by the median at each size) is reported.

    Returns:
        ``rows``: a dict for each contestant and size; also written to ``out/latency.json``.
    """
    contestants = validate([problem], contestants)
    jobs = [
        {
            "kind": "latency",
            "problem": problem,
            "contestant": contestant,
            "n": n,
            "asks": asks,
            "threads": count,
            "seed": seed,
        }
        for n in sizes
        for contestant in contestants
        for count in threads
    ]
    lines = run_jobs(jobs, out / "latency.jsonl", workers=1, done=_progress)
    rows: list[dict[str, Any]] = []
    for n in sizes:
        for contestant in contestants:
            answers = [
                line
                for line in lines
                if line["job"]["n"] == n and line["job"]["contestant"] == contestant and "answer" in line
            ]
            if not answers:
                errors = [
                    line["error"] for line in lines if line["job"]["contestant"] == contestant and "error" in line
                ]
                rows.append({"contestant": contestant, "n": n, "error": errors[0] if errors else "no answer"})
                continue
            best = min(answers, key=lambda line: st.median(line["answer"]["ask"]))
            rows.append(_latency_row(best))
    by_size = {row["n"]: row for row in rows if row["contestant"] == "reference" and "median" in row}
    for row in rows:
        if "median" in row and row["n"] in by_size:
            row["faster_than_ax"] = by_size[row["n"]]["median"] / row["median"]
    result = {"benchmark": "latency", "environment": environment(), "problem": problem, "rows": rows}
    (out / "latency.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _latency_row(line: dict[str, Any]) -> dict[str, Any]:
    answer = line["answer"]
    details = answer["details"][-len(answer["ask"]) :] if answer["details"] else []
    both = [a + t for a, t in zip(answer["ask"], answer["tell"], strict=True)]
    row = {
        "contestant": line["job"]["contestant"],
        "n": line["job"]["n"],
        "threads": line["job"]["threads"],
        "median": st.median(answer["ask"]),
        "mean": st.fmean(answer["ask"]),
        "p95": quantile(answer["ask"], 0.95),
        "first": answer["first"],
        "ask_and_tell": st.median(both),
        "best_parameterization": st.median(answer["best"]),
        "peak_mb": answer["peak_mb"],
    }
    if details and details[0].get("fit_decision"):
        stages = ("strategy", "data", "transform", "fit", "setup", "raw_samples", "optimize", "untransform", "other")
        row["stages"] = {stage: st.median(d[stage] for d in details) for stage in stages}
        row["fit_evaluations"] = st.median(d["fit_evaluations"] or 0 for d in details)
        row["fit_decisions"] = sorted({d["fit_decision"] for d in details})
        row["acquisitions"] = sorted({d["acquisition"] for d in details})
    elif details and "ax_fit" in details[0]:
        row["stages"] = {
            "fit": st.median(d["ax_fit"] for d in details),
            "generate": st.median(d["ax_generate"] for d in details),
        }
        row["stages"]["other"] = max(row["median"] - sum(row["stages"].values()), 0.0)
    return row


def bench_regret(
    problems: list[str],
    contestants: list[str],
    seeds: int,
    evaluations: int,
    initial: int,
    workers: int,
    out: Path,
) -> dict[str, Any]:
    """Simple regret after equal evaluations from the same initial points, and the paired test against stock Ax.

    Returns:
        ``rows``: a dict for each problem and contestant; also written to ``out/regret.json``.
    """
    contestants = validate(problems, contestants)
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
    lines = run_jobs(jobs, out / "regret.jsonl", workers=workers, done=_progress, forks=True)
    rows: list[dict[str, Any]] = []
    for problem in problems:
        finals = {
            contestant: {
                line["job"]["seed"]: line["answer"]
                for line in lines
                if line["job"]["contestant"] == contestant and line["job"]["problem"] == problem and "answer" in line
            }
            for contestant in contestants
        }
        rows.extend(_regret_row(problem, contestant, finals, seeds) for contestant in contestants)
    result = {
        "benchmark": "regret",
        "environment": environment(),
        "evaluations": evaluations,
        "initial": initial,
        "rows": rows,
    }
    (out / "regret.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _regret_row(
    problem: str, contestant: str, finals: dict[str, dict[int, dict[str, Any]]], seeds: int
) -> dict[str, Any]:
    ours = finals[contestant]
    values = [answer["regret"][-1] for answer in ours.values()]
    row: dict[str, Any] = {"problem": problem, "contestant": contestant, "failed": seeds - len(values)}
    if not values:
        return row
    row |= {
        "median": st.median(values),
        "quartiles": [quantile(values, 0.25), quantile(values, 0.75)],
        "worst": max(values),
        "seconds_per_evaluation": st.fmean(st.fmean(answer["seconds"]) for answer in ours.values()),
    }
    theirs = finals.get("reference", {})
    shared = sorted(set(ours) & set(theirs))
    if contestant != "reference" and len(shared) >= 2:
        test = non_inferiority(
            [ours[seed]["regret"][-1] for seed in shared], [theirs[seed]["regret"][-1] for seed in shared]
        )
        row["against_ax"] = {**asdict(test), "not_worse": test.not_worse}
    return row


def bench_memory(contestants: list[str], problem: str, n: int, asks: int, seed: int, out: Path) -> dict[str, Any]:
    """Memory and stored state over many asks with the same evaluations known.

    Returns:
        ``rows``: a dict for each contestant; also written to ``out/memory.json``.
    """
    contestants = validate([problem], contestants)
    jobs = [
        {
            "kind": "memory",
            "problem": problem,
            "contestant": contestant,
            "n": n,
            "asks": asks,
            "threads": 1,
            "seed": seed,
        }
        for contestant in contestants
    ]
    lines = run_jobs(jobs, out / "memory.jsonl", workers=1, done=_progress)
    rows = []
    for line in lines:
        row = {"contestant": line["job"]["contestant"], "n": n}
        if "error" in line:
            rows.append({**row, "error": line["error"]})
            continue
        answer = line["answer"]
        grown = answer["resident_mb"][-1] - answer["resident_mb"][0]
        row |= answer
        row["kb_an_ask"] = 1024 * grown / max(answer["at"][-1] - answer["at"][0], 1)
        rows.append(row)
    result = {"benchmark": "memory", "environment": environment(), "problem": problem, "asks": asks, "rows": rows}
    (out / "memory.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _progress(finished: int, total: int, line: dict[str, Any]) -> None:
    job = line["job"]
    state = "failed" if "error" in line else "done"
    where = f"n={job['n']}" if "n" in job else f"{job['problem']} seed {job['seed']}"
    print(f"[{finished}/{total}] {job['contestant']} {where}, {job['threads']} thread(s): {state}", file=sys.stderr)


def show(result: dict[str, Any]) -> None:
    """Prints the table of a result."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if result["benchmark"] == "latency":
        table = Table(title="Milliseconds of an ask", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("n", "contestant", "threads", "median", "mean", "p95", "first", "ask+tell", "MB", "vs Ax"):
            table.add_column(heading, justify="left" if heading == "contestant" else "right", no_wrap=True)
        for row in result["rows"]:
            if "error" in row:
                table.add_row(str(row["n"]), row["contestant"], "failed")
                continue
            times = (row["median"], row["mean"], row["p95"], row["first"], row["ask_and_tell"])
            table.add_row(
                str(row["n"]),
                row["contestant"],
                str(row["threads"]),
                *(f"{1e3 * seconds:.0f}" for seconds in times),
                f"{row['peak_mb']:.0f}",
                f"{row['faster_than_ax']:.1f}x" if "faster_than_ax" in row else "",
            )
    elif result["benchmark"] == "memory":
        table = Table(title=f"Memory over {result['asks']} asks", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("contestant", "n", "MB early", "MB at end", "kB an ask", "state early", "state at end"):
            table.add_column(heading, justify="left" if heading == "contestant" else "right", no_wrap=True)
        for row in result["rows"]:
            if "error" in row:
                table.add_row(row["contestant"], str(row["n"]), "failed")
                continue
            table.add_row(
                row["contestant"],
                str(row["n"]),
                *(f"{row['resident_mb'][k]:.0f}" for k in (0, -1)),
                f"{row['kb_an_ask']:.1f}",
                *(f"{row['state_bytes'][k]} B" for k in (0, -1)),
            )
    else:
        table = Table(title="Simple regret at the end of a run", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("problem", "contestant", "median", "worst", "s/eval", "decades vs Ax", "not worse"):
            left = heading in ("problem", "contestant")
            table.add_column(heading, justify="left" if left else "right", no_wrap=True)
        for row in result["rows"]:
            if "median" not in row:
                table.add_row(row["problem"], row["contestant"], "failed")
                continue
            test = row.get("against_ax")
            table.add_row(
                row["problem"],
                row["contestant"],
                f"{row['median']:.3g}",
                f"{row['worst']:.3g}",
                f"{row['seconds_per_evaluation']:.3f}",
                f"{test['mean_difference']:+.2f} (< {test['upper_bound']:+.2f})" if test else "",
                ("yes" if test["not_worse"] else "no") if test else "",
            )
    Console().print(table)
    for row in result["rows"]:
        if "error" in row:
            print(f"{row['contestant']} at n={row['n']}: {row['error'].splitlines()[-1]}", file=sys.stderr)

"""``gpu-gs bench memory``: does a process that asks for days grow?"""

import json
from pathlib import Path
from typing import Any

from gpu_gs.bench.entries import validate
from gpu_gs.bench.progress import Progress
from gpu_gs.bench.runner import environment, run_jobs


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
    with Progress() as progress:
        lines = run_jobs(jobs, out / "memory.jsonl", workers=1, progress=progress)
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

"""``gpu-gs bench memory``: does a process that asks for days grow?"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import is_strategy
from gpu_gs.bench.plan import MemorySection
from gpu_gs.bench.runner import Watcher, environment, run_jobs


def bench_memory(
    section: MemorySection, contestants: Sequence[str], out: Path, progress: Watcher | None = None
) -> dict[str, Any]:
    """Memory and stored state over many asks with the same evaluations known.

    Args:
        section: What is asked.
        contestants: Names; those that are no strategy are left out.
        out: The folder of the results.
        progress: Is told how far it is.

    Returns:
        ``rows``: a dict for each contestant; also written to ``out/memory.json``.
    """
    jobs = [
        {
            "kind": "memory",
            "problem": section.problem,
            "contestant": contestant,
            "n": section.n,
            "asks": section.asks,
            "threads": 1,
            "seed": section.seed,
        }
        for contestant in contestants
        if is_strategy(contestant)
    ]
    lines = run_jobs(jobs, out / "memory.jsonl", progress=progress)
    rows = []
    for line in lines:
        row = {"contestant": line["job"]["contestant"], "n": section.n}
        if "error" in line:
            rows.append({**row, "error": line["error"]})
            continue
        answer = line["answer"]
        grown = answer["resident_mb"][-1] - answer["resident_mb"][0]
        row |= answer
        row["kb_an_ask"] = 1024 * grown / max(answer["at"][-1] - answer["at"][0], 1)
        rows.append(row)
    result = {
        "benchmark": "memory",
        "environment": environment(),
        "problem": section.problem,
        "asks": section.asks,
        "rows": rows,
    }
    (out / "memory.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result

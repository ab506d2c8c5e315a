"""What came of a run, as plain values: result.json, the terminal's last words and the report's first lines."""

from pathlib import Path
from typing import Any

from gpu_gs.run import journal
from gpu_gs.run.experiment import metrics_of
from gpu_gs.run.goal import Goal
from gpu_gs.run.objectives import Metrics
from gpu_gs.run.tables import completed
from gpu_gs.run.task_config import TaskConfig


def summarize(record: journal.Record, config: TaskConfig, folder: Path) -> dict[str, Any]:
    """The summary of a run, finished or not.

    Args:
        record: The journal.
        config: The task.
        folder: The run's folder.
    """
    goal = Goal.parse(config.optimize, config.outcome_constraints)
    done = completed(record)
    stop = record.last("stop")
    if stop is not None and record.events[-1] is not stop:
        stop = None  # it went on afterwards
    asks, fails = record.all("ask"), record.all("fail")
    best = goal.best(done)
    devices = list(dict.fromkeys(ask["device"] for ask in asks))
    told = sum(ask.get("told_seconds") or 0.0 for ask in asks)
    return {
        "task": config.name,
        "status": "unfinished" if stop is None else stop["status"],
        "reason": "it was killed, or is running" if stop is None else stop["reason"],
        "folder": str(folder),
        "trials": {
            "wanted": config.trials,
            "asked": len(asks),
            "completed": len(done),
            "failed": len(fails),
            "infeasible": sum(not goal.feasible(metrics) for metrics in done.values()),
        },
        "goals": [
            {"label": single.label, "minimize": single.minimize, "threshold": single.threshold}
            for single in goal.singles
        ],
        "best": None if best is None else _trial(best, record, done),
        "front": [_trial(index, record, done) for index in goal.front(done)] if goal.several else None,
        "comparison": _comparison(record, goal, done),
        "seconds": {
            "objective": sum(event["seconds"] for event in (*record.all("complete"), *fails)),
            "strategy": sum(ask["seconds"] for ask in asks) + told,
            "random_search": sum(event["seconds"] for event in record.all("random")),
        },
        "seed": config.strategy.seed,
        "devices": devices,
        "remarks": _remarks(record),
        "versions": record.start["versions"],
    }


def _trial(index: int, record: journal.Record, done: dict[int, Metrics]) -> dict[str, Any]:
    return {"trial": index, "parameters": record.all("ask")[index]["parameters"], "metrics": done[index]}


def _comparison(record: journal.Record, goal: Goal, done: dict[int, Metrics]) -> list[dict[str, Any]]:
    """A row for each contender: its best parameters, their metrics, and their score on held-out data."""
    drawn = {event["index"]: metrics_of(event) for event in record.all("random") if event["metrics"] is not None}
    defaults = [event for event in record.all("defaults") if event["metrics"] is not None]
    points = [*done.values(), *drawn.values(), *(metrics_of(event) for event in defaults)]
    reference = goal.reference(points)
    rows = []

    def add(who: str, parameters: dict[str, Any], metrics: Metrics, evaluated: list[Metrics]) -> None:
        held_out = [event for event in record.all("held_out") if event["parameters"] == parameters]
        rows.append(
            {
                "who": who,
                "evaluations": len(evaluated),
                "parameters": parameters,
                "metrics": metrics,
                "values": dict(zip([single.label for single in goal.singles], goal.values(metrics), strict=True)),
                "feasible": goal.feasible(metrics),
                "hypervolume": goal.so_far(evaluated, reference)[-1] if goal.several else None,
                "held_out": held_out[-1]["metrics"] if held_out else None,
            }
        )

    if (best := goal.best(done)) is not None:
        add("tuned", record.all("ask")[best]["parameters"], done[best], list(done.values()))
    if drawn and (best := goal.best(drawn)) is not None:
        add("random search", record.all("random")[best]["parameters"], drawn[best], list(drawn.values()))
    for event in defaults[-1:]:
        add("defaults", event["parameters"], metrics_of(event), [metrics_of(event)])
    return rows


def _remarks(record: journal.Record) -> list[str]:
    """What a reader should know: failures, and what breaks the promise that the same seed gives the same trials."""
    remarks = []
    if fails := record.all("fail"):
        remarks.append(f"{len(fails)} trials failed, the last one (trial {fails[-1]['trial']}): {fails[-1]['error']}")
    remarks += [
        f"the default parameters failed: {event['error']}"
        for event in record.all("defaults")
        if event["metrics"] is None
    ]
    remarks += [
        f"the held-out score ({event['who']}) failed: {event['error']}"
        for event in record.all("held_out")
        if event["metrics"] is None
    ]
    for ask in record.all("ask"):
        reasons = ((ask["run"].get("gen_metadata") or {}).get("gpu_gs") or {}).get("reasons", [])
        remarks += [
            f"trial {ask['trial']}: {reason}; running it again may give other trials"
            for reason in reasons
            if "out of memory" in reason
        ]
    before = record.start["versions"]
    for event in record.all("resume"):
        if event["versions"] != before:
            remarks.append("it was continued with other versions than it began with; running it again may differ")
            break
    return remarks


__all__ = ["summarize"]

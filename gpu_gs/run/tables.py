"""The journal as tables: trials.csv and timings.csv."""

from itertools import pairwise
from typing import Any

import pandas as pd

from gpu_gs.run import journal
from gpu_gs.run.experiment import metrics_of
from gpu_gs.run.goal import Goal
from gpu_gs.run.objectives import Metrics
from gpu_gs.telemetry import reason_columns

METADATA_KEY = "gpu_gs"
STAGES = ("strategy", "data", "transform", "fit", "setup", "raw_samples", "optimize", "untransform", "other")
"""Stages of an ask, in their order; with stock Ax's engine only ``fit``, ``optimize`` and ``other`` are known."""


def completed(record: journal.Record) -> dict[int, Metrics]:
    """The metrics of each trial that was completed, in order."""
    return {event["trial"]: metrics_of(event) for event in record.all("complete")}


def trials_frame(record: journal.Record, goal: Goal) -> pd.DataFrame:
    """A row for each trial: status, node, parameters, metrics, and whether it is feasible and (one of) the best."""
    done = completed(record)
    front = set(goal.front(done))
    rows = []
    for ask, end in journal.trials(record):
        index = ask["trial"]
        row: dict[str, Any] = {
            "trial": index,
            "status": {"complete": "completed", "fail": "failed"}[end["event"]] if end else "running",
            "node": ask["node"],
            **ask["parameters"],
        }
        if index in done:
            for name, value in done[index].items():
                if isinstance(value, tuple):
                    row[name], row[f"{name}_sem"] = value
                else:
                    row[name] = value
            row["feasible"] = goal.feasible(done[index])
            row["best"] = index in front
        row["error"] = end["error"] if end and end["event"] == "fail" else ""
        rows.append(row)
    frame = pd.DataFrame(rows)
    if "error" in frame:
        frame = frame[[*(column for column in frame if column != "error"), "error"]]
    return frame.set_index("trial") if len(frame) else frame


def timings_frame(record: journal.Record) -> pd.DataFrame:
    """A row for each trial, seconds: the ask and its stages, the tell, the objective; device, threads, fit."""
    rows = []
    asks = record.all("ask")
    told = {ask["trial"]: later.get("told_seconds") for ask, later in pairwise(asks)}
    for ask, end in journal.trials(record):
        run = ask["run"]
        known = (run.get("gen_metadata") or {}).get(METADATA_KEY) or {}
        stages = known.get("stages") or {"fit": run.get("fit_time") or 0.0, "optimize": run.get("gen_time") or 0.0}
        seconds = {stage: float(stages.get(stage, 0.0)) for stage in STAGES}
        seconds["other"] += ask["seconds"] - sum(seconds.values())
        rows.append(
            {
                "trial": ask["trial"],
                "node": ask["node"],
                "device": known.get("device", ask["device"]),
                "threads": known.get("threads"),
                "n": known.get("n"),
                "fit_decision": known.get("fit_decision"),
                "fit_evaluations": known.get("fit_evaluations"),
                "acquisition": known.get("acquisition"),
                **seconds,
                "ask": ask["seconds"],
                "tell": told.get(ask["trial"]),
                "objective": end["seconds"] if end else None,
                **reason_columns(known.get("reasons", [])),
            }
        )
    frame = pd.DataFrame(rows)
    return frame.set_index("trial") if len(frame) else frame


__all__ = ["STAGES", "completed", "timings_frame", "trials_frame"]

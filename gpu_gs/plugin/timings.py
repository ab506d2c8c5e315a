"""Stage times: kept with each trial's generator run, read back as a table."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from gpu_gs.plugin.ask import Ask
from gpu_gs.telemetry import REASON_COLUMNS, Spans, reason_columns

if TYPE_CHECKING:
    from ax.core.experiment import Experiment

METADATA_KEY = "gpu_gs"
"""Where the record stands in ``GeneratorRun.gen_metadata``."""

STAGES = (
    "strategy",
    "data",
    "transform",
    "fit",
    "diagnostics",
    "setup",
    "raw_samples",
    "optimize",
    "untransform",
    "other",
)
"""The columns of seconds, in the order in which an ask passes through them; they add up to ``total``."""

FACTS = (
    "node",
    "device",
    "threads",
    "n",
    "ask",
    "attempts",
    "fit_decision",
    "fit_method",
    "fit_evaluations",
    "refit_reason",
    "leave_one_out",
    "acquisition",
)

EXACT = "GPU_GS_STAGE_TIMES"
"""The environment variable that, set to ``exact``, charges each stage for the work that it gave to a GPU: asks then wait for
the GPU at every border of a stage. Else a stage takes the time of the host, waits for what earlier stages queued included."""


def waiting_at_borders(device: str) -> Callable[[], None] | None:
    """What an ask on this device calls at the borders of its stages, if anything."""
    if device == "cpu" or os.environ.get(EXACT, "") != "exact":
        return None
    import torch

    return lambda: torch.cuda.synchronize(device)


def record_of(ask: Ask, spans: Spans, seconds: float, node: str) -> dict[str, Any]:
    """What is stored of an ask: seconds by stage, and the facts that explain them. Ready for JSON."""
    stages = {name: spans.seconds.get(name, 0.0) for name in STAGES if name in spans.seconds}
    return {
        "node": node,
        "stages": stages,
        "total": seconds,
        "device": ask.decision.device,
        "threads": ask.decision.threads,
        "ask": ask.index,
        "attempts": ask.attempt,
        "reasons": list(ask.reasons),
        **spans.facts,
    }


def add_strategy_time(record: dict[str, Any], seconds: float) -> None:
    """Adds the strategy's own share (pending points, transitions) to a record."""
    stages = record.setdefault("stages", {})
    stages["strategy"] = stages.get("strategy", 0.0) + seconds
    record["total"] = record.get("total", 0.0) + seconds


def timings(source: Any) -> pd.DataFrame:
    """Where the time of each ask went.

    Args:
        source: A ``Client``, an ``AxClient``, an ``Orchestrator``, a ``GenerationStrategy`` or an ``Experiment``.

    Returns:
        A row for each generator run that carries a record, indexed by trial: the facts (node, device, threads, n,
        fit decision and evaluations, acquisition), a column of seconds for each stage, their sum ``total``, and, each
        joined by "; ", ``reasons``, why a fast part was not used, and ``device_reasons``, why it ran where it did.
    """
    rows = []
    for index, trial in sorted(_experiment_of(source).trials.items()):
        for run in trial.generator_runs:
            record = (run.gen_metadata or {}).get(METADATA_KEY)
            if record is None:
                continue
            seconds = {name: float(record["stages"].get(name, 0.0)) for name in STAGES}
            seconds["other"] = record["total"] - sum(seconds.values())
            rows.append(
                {
                    "trial_index": index,
                    **{fact: record.get(fact) for fact in FACTS},
                    **seconds,
                    "total": record["total"],
                    **reason_columns(record.get("reasons", [])),
                }
            )
    columns = ["trial_index", *FACTS, *STAGES, "total", *REASON_COLUMNS]
    return pd.DataFrame(rows, columns=columns).set_index("trial_index")


def _experiment_of(source: Any) -> "Experiment":
    from ax.core.experiment import Experiment

    if isinstance(source, Experiment):
        return source
    # A Client's own properties assert that there is an experiment.
    for attribute in ("_maybe_experiment", "_experiment", "experiment"):
        if attribute != "_maybe_experiment" and hasattr(source, "_maybe_experiment"):
            continue
        experiment = getattr(source, attribute, None)
        if isinstance(experiment, Experiment):
            return experiment
    raise TypeError(
        f"timings() found no experiment in this {type(source).__name__}; it takes a Client, AxClient, Orchestrator or "
        "GenerationStrategy that has one, or an Experiment."
    )

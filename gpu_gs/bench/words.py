"""How times and ways to ask are said, in tables, in the display and in reports alike."""

from collections.abc import Mapping
from typing import Any

from gpu_gs.bench.cases import DataKind

DATA_WORDS: dict[DataKind, str] = {
    "known_noise": "known noise",
    "missing_metrics": "missing metrics",
    "curves": "learning curves",
    "batch_trials": "batch trials",
}


def milliseconds(seconds: float) -> str:
    """Three digits or more, so that a ratio of what is shown is the ratio that is meant."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def unusual(row: Mapping[str, Any]) -> list[str]:
    """What is unusual about the asks of a row or a job; empty for one candidate, nothing pending, nothing stored, and
    one value of each metric reported."""
    words = [f"{row['batch']} at once"] if row.get("batch", 1) > 1 else []
    words += [f"{row['pending']} pending"] if row.get("pending") else []
    words += ["stored"] if row.get("storage") else []
    words += [DATA_WORDS[row["data"]]] if row.get("data") else []
    return words

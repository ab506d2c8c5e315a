"""The files of a run's folder that are made from the journal, and can be made again from it at any time."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gpu_gs.errors import TaskError
from gpu_gs.run import journal
from gpu_gs.run.experiment import rebuild
from gpu_gs.run.folder import replace
from gpu_gs.run.goal import Goal
from gpu_gs.run.report import write_report
from gpu_gs.run.summary import summarize
from gpu_gs.run.tables import timings_frame, trials_frame
from gpu_gs.run.task_config import TaskConfig

if TYPE_CHECKING:
    from ax.api.client import Client


def write_tables(record: journal.Record, goal: Goal, folder: Path) -> None:
    """trials.csv and timings.csv."""

    def write(frame: pd.DataFrame, name: str) -> None:
        replace(folder / name, lambda path: frame.to_csv(path))

    write(trials_frame(record, goal), "trials.csv")
    write(timings_frame(record), "timings.csv")


def write_experiment(client: "Client", folder: Path) -> None:
    """experiment.json, as ``Client.load_from_json_file`` and ``gpu_gs.load_client`` read it."""
    replace(folder / "experiment.json", lambda path: client.save_to_json_file(str(path)))


def write_database(record: journal.Record, config: TaskConfig, folder: Path) -> None:
    """experiment.sqlite, as ``Client.load_from_database`` reads it.

    It is made whole from the journal: Ax's way of saving each ask grows with the number of trials.

    Raises:
        TaskError: SQLAlchemy is not installed.
    """
    require_sql()
    from ax.storage.sqa_store import db
    from ax.storage.sqa_store.save import save_experiment, save_generation_strategy

    def write(path: Path) -> None:
        client = rebuild(record, config)  # objects that no other database knows
        users = db.SESSION_FACTORY  # Ax knows one database at a time; the caller may be using another
        try:
            db.init_engine_and_session_factory(url=database_url(path), force_init=True)
            engine = db.get_engine()
            db.create_all_tables(engine)
            save_experiment(client._experiment)
            save_generation_strategy(client._generation_strategy)
            engine.dispose()
        finally:
            db.SESSION_FACTORY = users

    replace(folder / "experiment.sqlite", write)


def database_url(path: Path) -> str:
    """SQLAlchemy's name for a SQLite file."""
    return f"sqlite:///{path.resolve()}"


def require_sql() -> None:
    """Raises if a database cannot be written here.

    Raises:
        TaskError: The packages of the extra ``sql`` are not installed.
    """
    try:
        import sqlalchemy  # noqa: F401
        import tabulate  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise TaskError(f"storage: sqlite needs {error.name}; install it with: pip install 'gpu-gs[sql]'") from None


def write_results(
    record: journal.Record, config: TaskConfig, folder: Path, client: "Client | None" = None
) -> dict[str, Any]:
    """All files; returns the summary.

    Args:
        record: The journal.
        config: The task.
        folder: The run's folder.
        client: The Client of the journal's last line; without it, Ax's own files are left as they are.
    """
    goal = Goal.parse(config.optimize, config.outcome_constraints)
    summary = summarize(record, config, folder)
    write_tables(record, goal, folder)
    text = json.dumps(summary, indent=2) + "\n"
    replace(folder / "result.json", lambda path: path.write_text(text, encoding="utf-8"))
    write_report(record, config, folder / "report.html", summary)
    if client is not None:
        write_experiment(client, folder)
        if config.storage == "sqlite":
            write_database(record, config, folder)
    return summary


__all__ = [
    "database_url",
    "require_sql",
    "write_database",
    "write_experiment",
    "write_results",
    "write_tables",
]

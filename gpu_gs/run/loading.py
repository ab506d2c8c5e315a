"""``load_client``: a Client from wherever an experiment was kept, with the strategy's class and warm state."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_gs.errors import TaskError

if TYPE_CHECKING:
    from ax.api.client import Client


def load_client(source: Any, experiment_name: str | None = None, storage_config: Any = None) -> "Client":
    """Loads a Client that goes on where the saved one stopped.

    Args:
        source: The folder of a run (``gpu-gs run``), whose journal keeps every value exactly; a JSON file that
            ``Client.save_to_json_file`` wrote; or Ax's ``StorageConfig`` of a database.
        experiment_name: The experiment's name in the database.
        storage_config: For a JSON file that needs one, as in ``Client.load_from_json_file``.

    Returns:
        The Client. From a run's folder, a trial that was in flight is still running.

    Raises:
        TaskError: There is nothing to load there.
    """
    from ax.api.configs import StorageConfig

    if isinstance(source, StorageConfig):
        return _from_database(source, experiment_name)
    if not isinstance(source, str | Path):
        raise TaskError(
            f"load_client: a {type(source).__name__} is not allowed; allowed: a run's folder, a JSON file or a "
            "StorageConfig with experiment_name"
        )
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise TaskError(f"{path}: no such file or folder")
    return _from_json(path, storage_config)


def _from_folder(folder: Path) -> "Client":
    from gpu_gs.run import journal
    from gpu_gs.run.experiment import rebuild
    from gpu_gs.run.loop import config_of

    if not (folder / journal.NAME).exists():
        raise TaskError(f"{folder}: holds no {journal.NAME}; it is not the folder of a run")
    record = journal.read(folder)
    return rebuild(record, config_of(record))


def _from_json(path: Path, storage_config: Any) -> "Client":
    from gpu_gs.plugin.storage import load_json

    try:
        return load_json(path, storage_config=storage_config)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise TaskError(
            f"{path}: is not a file that Client.save_to_json_file wrote ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]})"
        ) from error


def _from_database(storage_config: Any, experiment_name: str | None) -> "Client":
    from ax.exceptions.core import ObjectNotFoundError

    from gpu_gs.plugin.storage import load_database

    if experiment_name is None:
        raise TaskError("load_client: experiment_name: is missing; a StorageConfig needs the experiment's name")
    try:
        return load_database(storage_config, experiment_name)
    except (ObjectNotFoundError, ValueError) as error:
        raise TaskError(f"load_client: {' '.join(str(error).split())}{_other_database(storage_config)}") from error


def _other_database(storage_config: Any) -> str:
    """A hint where Ax, which knows one database in a process, looked into another one than was asked for."""
    from ax.storage.sqa_store import db

    used = None if db.SESSION_FACTORY is None else db.SESSION_FACTORY.get_bind().engine.url
    wanted = storage_config.url
    if used is None or wanted is None or used.render_as_string(hide_password=False) == wanted:
        return ""
    return (
        f" Ax looked into {used.render_as_string()}, the database that this process used before: it keeps to one. "
        "Load from the other in a new process."
    )


__all__ = ["load_client"]

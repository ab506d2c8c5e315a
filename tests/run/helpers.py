"""Small tasks, and ways to run them, shared by the tests of the application."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_gs.run import journal
from gpu_gs.run.task_config import TaskConfig

MODULE = '''
"""An objective that can be told, by files beside it, to fail, to wait or to kill its own process."""
import os
import signal
import time
from pathlib import Path

HERE = Path(__file__).parent


def _called():
    calls = HERE / "calls"
    with calls.open("a") as file:
        file.write("x")
    return len(calls.read_text())


def bowl(parameters):
    count = _called()
    plan = HERE / "plan"
    if plan.exists():
        deed, at = plan.read_text().split()
        if count == int(at):
            plan.unlink()
            if deed == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if deed == "wait":
                (HERE / "waiting").touch()
                time.sleep(60)
    x, k = parameters["x"], parameters["k"]
    return {"loss": (x - 1.3) ** 2 + 0.1 * abs(k - 4) + (0.0 if parameters["kind"] == "b" else 0.3)}


def raises(parameters):
    raise ValueError("no such luck")
'''

PARAMETERS: list[dict[str, Any]] = [
    {"name": "x", "type": "float", "bounds": [0.01, 10.0], "scaling": "log"},
    {"name": "k", "type": "int", "bounds": [1, 9]},
    {"name": "kind", "type": "choice", "values": ["a", "b", "c"]},
]

QUICK = {
    "seed": 7,
    "device": "cpu",
    "initialization": {"budget": 3},
    "acquisition": {"raw_samples": 64, "restarts": 2, "iterations": 20},
}
"""A strategy whose asks take as little time as possible."""


def task(**changes: Any) -> TaskConfig:
    """A small task whose objective is this module's."""
    values: dict[str, Any] = {
        "name": "small",
        "objective": f"{__name__}:bowl",
        "parameters": PARAMETERS,
        "optimize": "-loss",
        "trials": 6,
        "strategy": QUICK,
        "random_search": False,
        **changes,
    }
    return TaskConfig.load(values)


def bowl(parameters: Mapping[str, Any]) -> dict[str, float]:
    x, k = parameters["x"], parameters["k"]
    return {"loss": (x - 1.3) ** 2 + 0.1 * abs(k - 4) + (0.0 if parameters["kind"] == "b" else 0.3)}


def held_out(parameters: Mapping[str, Any]) -> float:
    return bowl(parameters)["loss"] + 1.0


def two_goals(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {"loss": bowl(parameters)["loss"], "size": (float(parameters["k"]), 0.1), "seen": parameters["x"]}


def raises(parameters: Mapping[str, Any]) -> float:
    raise ValueError("no such luck")


def sometimes(parameters: Mapping[str, Any]) -> Any:
    """Fails in one way or another for most values of k."""
    k = parameters["k"]
    if k in (1, 2, 3):
        raise RuntimeError(f"k is {k}")
    return {"loss": float("nan")} if k in (7, 8) else bowl(parameters)


def task_files(folder: Path, **changes: Any) -> Path:
    """A task in files of its own, for a process of its own; returns the YAML's path."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own_objective.py").write_text(MODULE)
    values = task(objective="own_objective:bowl", **changes).model_dump(mode="json")
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def gpu_gs(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """``gpu-gs ARGUMENTS`` in a process of its own."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=200, env=environment(), **options
    )


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "gpu_gs.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread, as two test processes share the cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def parameters_of(folder: Path) -> list[dict[str, Any]]:
    """The parameters of each trial, from the journal."""
    return [ask["parameters"] for ask in journal.read(folder).all("ask")]


def assert_same_trials(one: Path, other: Path) -> None:
    """The same parameters in each trial, to 1e-6 of a parameter's range."""
    ours, theirs = parameters_of(one), parameters_of(other)
    assert len(ours) == len(theirs)
    for mine, yours in zip(ours, theirs, strict=True):
        assert abs(mine["x"] - yours["x"]) <= 1e-6 * (10.0 - 0.01)
        assert (mine["k"], mine["kind"]) == (yours["k"], yours["kind"])

"""The user's objective: found by its name, called with a dict, and its answer checked before Ax sees it."""

import importlib
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from gpu_gs.config import closest
from gpu_gs.errors import ConfigError

Metrics = dict[str, float | tuple[float, float]]
"""A value of each metric, or its mean and standard error."""

Objective = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Outcome:
    """What one evaluation gave.

    Attributes:
        metrics: The values; None if the evaluation failed.
        error: One line that says why it failed; empty if it did not.
        traceback: The whole traceback where the objective raised.
        seconds: Time in the objective.
    """

    metrics: Metrics | None
    seconds: float
    error: str = ""
    traceback: str = ""


def search_path(folders: Sequence[str | Path]) -> list[str]:
    """Where the modules of objectives are looked for: the current folder first, then those given."""
    return list(dict.fromkeys(str(Path(folder).expanduser().resolve()) for folder in (os.curdir, *folders)))


def import_objective(name: str, folders: Sequence[str | Path] = (), key: str = "objective") -> Objective:
    """The function that ``module:function`` names.

    Args:
        name: The module and the function.
        folders: Folders searched besides the current one.
        key: The setting that holds the name, for messages.

    Raises:
        ConfigError: There is no such module or function, or importing it fails.
    """
    module_name, _, function_name = name.partition(":")
    for folder in search_path(folders):
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        wanted = {".".join(module_name.split(".")[: i + 1]) for i in range(module_name.count(".") + 1)}
        if isinstance(error, ModuleNotFoundError) and error.name in wanted:
            looked = ", ".join(search_path(folders))
            raise ConfigError([f"{key}: {name}: there is no module {error.name!r} (looked in {looked})"]) from None
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}, line {last.lineno}"
        raise ConfigError([f"{key}: {name}: importing {module_name} fails: {_one_line(error)} ({where})"]) from None
    function = getattr(module, function_name, None)
    if function is None:
        names = [other for other, value in vars(module).items() if callable(value) and not other.startswith("_")]
        raise ConfigError([f"{key}: {name}: {module_name} has no {function_name!r}{closest(function_name, names)}"])
    if not callable(function):
        raise ConfigError([f"{key}: {name}: is a {type(function).__name__}, not a function"])
    return function


def evaluate(
    objective: Objective, parameters: Mapping[str, Any], needed: Sequence[str], lone: str | None = None
) -> Outcome:
    """Calls the objective; an exception or an unusable answer is an outcome, not an error.

    Args:
        objective: The function.
        parameters: Its argument; it gets a copy.
        needed: The metrics that the goal is made of.
        lone: What a lone number is called; by default, the one metric needed.
    """
    started = perf_counter()
    try:
        answer = objective(dict(parameters))
    except (Exception, SystemExit) as error:
        return Outcome(None, perf_counter() - started, _one_line(error), traceback.format_exc())
    seconds = perf_counter() - started
    metrics, problems = check_metrics(answer, needed, lone)
    if problems:
        return Outcome(None, seconds, "; ".join(problems))
    return Outcome(metrics, seconds)


def check_metrics(answer: Any, needed: Sequence[str], lone: str | None = None) -> tuple[Metrics, list[str]]:
    """An objective's answer as floats, and what is wrong with it."""
    if not isinstance(answer, Mapping):
        if lone is None and len(needed) != 1:
            listed = ", ".join(needed)
            return {}, [f"the objective returned {_shown(answer)}; a dict with the metrics {listed} is needed"]
        answer = {lone or needed[0]: answer}
    metrics: Metrics = {}
    problems = []
    for name, value in answer.items():
        number = _as_numbers(value)
        if number is None:
            problems.append(
                f"the metric {name!r} is {_shown(value)}; a finite number, or a pair (mean, standard error), is needed"
            )
        else:
            metrics[str(name)] = number
    missing = [name for name in needed if name not in answer]
    if missing:
        given = ", ".join(map(str, answer)) or "none"
        problems.append(f"the objective returned no {' and no '.join(map(repr, missing))} (metrics returned: {given})")
    return metrics, problems


def _as_numbers(value: Any) -> float | tuple[float, float] | None:
    if isinstance(value, tuple | list):
        if len(value) != 2:
            return None
        pair = [_as_number(part) for part in value]
        mean, error = pair
        return None if mean is None or error is None or error < 0 else (mean, error)
    return _as_number(value)


def _as_number(value: Any) -> float | None:
    """A finite real number as a float; numpy's scalars and one-element tensors count, texts and booleans do not."""
    if isinstance(value, str | bytes | bool) or value is None or type(value).__name__ in ("bool_", "bool"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


__all__ = ["Metrics", "Objective", "Outcome", "check_metrics", "evaluate", "import_objective", "search_path"]

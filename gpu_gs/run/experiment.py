"""From a task to Ax and back: the Client, its strategy, and both rebuilt exactly from the journal."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_gs.config import StrategyConfig
from gpu_gs.device import DevicePolicy, check, crossovers
from gpu_gs.errors import ConfigError, TaskError
from gpu_gs.rng import derive_seed, fresh_seed
from gpu_gs.run import journal
from gpu_gs.run.goal import Goal
from gpu_gs.run.objectives import Metrics, import_objective
from gpu_gs.run.task_config import Parameter, TaskConfig, TaskStrategy

if TYPE_CHECKING:
    from ax.api.client import Client
    from ax.core.generator_run import GeneratorRun
    from ax.generation_strategy.generation_strategy import GenerationStrategy

PACKAGES = ("ax-platform", "botorch", "gpytorch", "linear-operator", "torch", "numpy", "scipy", "scikit-learn")
"""Packages whose versions can change a run's trials."""


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that can change a run's trials, where installed."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import gpu_gs

    found = {"python": platform.python_version(), "gpu_gs": gpu_gs.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# ------------------------------------------------------------------------------------------------- from a task


def with_seed(config: TaskConfig) -> TaskConfig:
    """The task with a seed: its own, else a new one."""
    if config.strategy.seed is not None:
        return config
    return config.model_copy(update={"strategy": config.strategy.model_copy(update={"seed": fresh_seed()})})


def with_folder(config: TaskConfig, folder: Path | None) -> TaskConfig:
    """The task with its file's folder on its search path, if it has functions that are not this package's own."""
    own = all(name is None or name.startswith("gpu_gs.") for name in (config.objective, config.held_out))
    if folder is None or own:
        return config
    base = folder.resolve()
    folders = dict.fromkeys(
        [*(str((base / Path(entry).expanduser()).resolve()) for entry in config.python_path), str(base)]
    )
    return config.model_copy(update={"python_path": tuple(folders)})


def pinned(config: TaskConfig) -> tuple[TaskConfig, list[str]]:
    """The task with what ``auto`` chooses on this machine, and remarks on what could not be pinned.

    ``auto`` depends on the number of trials; it is pinned where it chooses the same from the first trial to the last.
    """
    strategy, remarks = config.strategy, []
    if strategy.engine == "gpu_gs":
        policy = DevicePolicy(device=strategy.device, threads=strategy.threads)
        d, outputs = len(config.parameters), len(Goal.parse(config.optimize, config.outcome_constraints).metrics)
        decisions = [decision for _, decision in crossovers(policy, d, outputs, up_to=config.trials)]
        chosen: dict[str, Any] = {}
        for key in ("device", "threads"):
            values = list(dict.fromkeys(getattr(decision, key) for decision in decisions))
            if len(values) == 1:
                chosen[key] = values[0]
            else:
                changes = " to ".join(map(str, values))
                remarks.append(f"strategy.{key} stays auto: it goes from {changes} within the run")
        strategy = strategy.model_copy(update=chosen)
    strategy = strategy.model_copy(update={"preset": None})
    return config.model_copy(update={"strategy": strategy, "versions": versions()}), remarks


def build_strategy(strategy: TaskStrategy | StrategyConfig) -> "GenerationStrategy":
    """The strategy that a task describes."""
    from gpu_gs.plugin.strategy import GPUGenerationStrategy

    settings = strategy.settings() if isinstance(strategy, TaskStrategy) else strategy
    return GPUGenerationStrategy.from_config(settings)


def problems_of(config: TaskConfig) -> list[str]:
    """What Ax says against a task, and against importing its functions; each line begins with the key to mend."""
    problems: list[str] = []
    with _collected(problems):
        Goal.parse(config.optimize, config.outcome_constraints)
        _configure_goal(_client_with_space(config), config)
    with _collected(problems):
        _client_with_space(config)
        for place, text in enumerate(config.parameter_constraints):
            with _collected(problems, f"parameter_constraints.{place}: {text!r} is not allowed; "):
                _client_with_space(config, [text])
    for key, name in (("objective", config.objective), ("held_out", config.held_out)):
        if name is not None:
            with _collected(problems):
                import_objective(name, config.python_path, key=key)
    return list(dict.fromkeys(problems))


@contextmanager
def _collected(problems: list[str], prefix: str = "") -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        problems += [prefix + problem for problem in error.problems]


def build_client(config: TaskConfig, name: str | None = None) -> "Client":
    """A Client with the task's experiment, goal and strategy, and no trials yet.

    Raises:
        ConfigError: Ax refuses a part of the task.
        DeviceUnavailableError: The strategy's device is not there.
    """
    check(DevicePolicy(device=config.strategy.device, threads=config.strategy.threads))
    Goal.parse(config.optimize, config.outcome_constraints)
    client = _client_with_space(config, config.parameter_constraints, name)
    _configure_goal(client, config)
    client.set_generation_strategy(build_strategy(config.strategy))
    return client


def _client_with_space(config: TaskConfig, constraints: Sequence[str] = (), name: str | None = None) -> "Client":
    from ax.api.client import Client
    from ax.exceptions.core import AxParameterWarning

    seed = config.strategy.seed
    # Stock Ax draws from the global generators, which its Client seeds with 32 bits at the most.
    client = Client(random_seed=None if seed is None else derive_seed(seed, 0, 2, 0) % 2**32)
    with _refused(), warnings.catch_warnings():
        warnings.simplefilter("ignore", AxParameterWarning)
        client.configure_experiment(
            name=name or config.name,
            description=config.description or None,
            parameters=[_parameter(parameter) for parameter in config.parameters],
            parameter_constraints=list(constraints),
        )
    return client


def _configure_goal(client: "Client", config: TaskConfig) -> None:
    with _refused():
        client.configure_optimization(
            objective=config.optimize, outcome_constraints=list(config.outcome_constraints) or None
        )


@contextmanager
def _refused() -> Iterator[None]:
    from ax.exceptions.core import AxError

    try:
        yield
    except (AxError, ValueError, TypeError) as error:
        raise ConfigError([f"Ax refuses it: {' '.join(str(error).split())}"]) from None


def _parameter(parameter: Parameter) -> Any:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    if parameter.bounds is not None:
        return RangeParameterConfig(
            name=parameter.name,
            parameter_type="int" if parameter.type == "int" else "float",
            bounds=parameter.bounds,
            scaling=parameter.scaling,
        )
    values = parameter.choices
    kinds: dict[type, Any] = {bool: "bool", int: "int", float: "float", str: "str"}
    return ChoiceParameterConfig(
        name=parameter.name, parameter_type=kinds[type(values[0])], values=values, is_ordered=parameter.ordered
    )


# ----------------------------------------------------------------------------------------------- and back to it


def run_to_json(run: "GeneratorRun") -> dict[str, Any]:
    """A generator run with its state, as the journal keeps it."""
    from ax.storage.json_store.encoder import object_to_json

    return object_to_json(run)


def run_from_json(value: Mapping[str, Any]) -> "GeneratorRun":
    """The generator run that ``run_to_json`` described, bit for bit."""
    from ax.storage.json_store.decoder import object_from_json

    import gpu_gs.plugin  # noqa: F401  (registers our classes with Ax's decoder)

    return object_from_json(json.loads(json.dumps(journal.revive(dict(value)))))


def complete(client: "Client", trial: int, metrics: Metrics) -> None:
    """Tells a trial's metrics, new ones in a fixed order."""
    extra = sorted(set(metrics) - set(client._experiment.metrics))
    if extra:
        client.configure_tracking_metrics(metric_names=extra)
    client.complete_trial(trial_index=trial, raw_data=dict(metrics))


def metrics_of(event: journal.Event) -> Metrics:
    """The metrics of a ``complete`` event: pairs as tuples again."""
    return {
        name: (value[0], value[1]) if isinstance(value, list) else value for name, value in event["metrics"].items()
    }


def rebuild(record: journal.Record, config: TaskConfig) -> "Client":
    """The Client as it was when the journal's last line was written; the trial in flight is running.

    Raises:
        TaskError: The journal and the task do not fit together.
    """
    client = build_client(config)
    experiment, strategy = client._experiment, client._generation_strategy
    strategy.experiment = experiment
    for ask, end in journal.trials(record):
        run = run_from_json(ask["run"])
        trial = experiment.new_trial(generator_run=run)
        if trial.index != ask["trial"]:
            raise TaskError(f"the journal's trial {ask['trial']} would become trial {trial.index}")
        trial.mark_running(no_runner_required=True)
        strategy._generator_runs.append(run)
        if end is None:
            continue
        if end["event"] == "complete":
            complete(client, trial.index, metrics_of(end))
        else:
            client.mark_trial_failed(trial.index, failed_reason=end["error"])
    last = strategy.last_generator_run
    if last is not None:
        if last._generation_node_name not in strategy.nodes_by_name:
            raise TaskError(f"the journal's strategy has a node {last._generation_node_name!r}, the task's has not")
        strategy._curr = strategy.nodes_by_name[last._generation_node_name]
    return client


__all__ = [
    "build_client",
    "build_strategy",
    "complete",
    "metrics_of",
    "pinned",
    "problems_of",
    "rebuild",
    "run_from_json",
    "run_to_json",
    "versions",
    "with_folder",
    "with_seed",
]

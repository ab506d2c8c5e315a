"""One benchmark from its configuration to its results: ``gpu-gs bench``."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gpu_gs.bench.article import bench_article
from gpu_gs.bench.entries import who_takes_part
from gpu_gs.bench.executors import Executor, LocalExecutor
from gpu_gs.bench.latency import bench_latency
from gpu_gs.bench.memory import bench_memory
from gpu_gs.bench.plan import BenchmarkConfig
from gpu_gs.bench.progress import Progress
from gpu_gs.bench.regret import Kept, bench_regret
from gpu_gs.bench.runner import make_folder, other_origins
from gpu_gs.config import dump_yaml
from gpu_gs.device import cores_of_process
from gpu_gs.errors import ConfigError, TaskError


def run_benchmark(
    config: BenchmarkConfig,
    out: Path,
    say: Callable[[str], None],
    executor: Callable[[], AbstractContextManager[Executor]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Runs all sections, what is timed first and alone.

    Args:
        config: What to run.
        out: The folder of the results; what it holds already is not run again.
        say: Gets a line for whoever is left out.
        executor: Where whole runs go; by default to processes of this machine.

    Returns:
        A result for each section, by its name.

    Raises:
        ConfigError: Something in the configuration cannot be run; nothing has run then.
        DeviceUnavailableError: There is no GPU, and nothing to do without one.
        TaskError: The folder is unusable.
    """
    contestants, config = who_takes_part(config, say)
    regret = config.regret
    cases = [] if regret is None else [case.case() for case in regret.cases]
    if executor is not None:
        if regret is None:
            raise ConfigError(["bench: --dask is for the section regret, which is not there"])
        with executor():  # is somebody there? It runs last.
            pass
    kept = Kept.read([Path(path) for path in regret.references] if regret else [], cases)
    for case in cases:
        if kept.paths and not any(name == case.name for _, name, _ in kept.traces):
            say(f"reference: no run of {case.name} in {', '.join(map(str, kept.paths))}")
    make_folder(out)
    for name in config.sections:
        for line in other_origins(out / f"{name}.jsonl"):
            say(line)
    _keep(config, out / "benchmark.yaml", say)
    results: dict[str, dict[str, Any]] = {}
    with Progress() as progress:
        if config.latency is not None:
            results["latency"] = bench_latency(config.latency, contestants, out, progress)
        if config.memory is not None:
            results["memory"] = bench_memory(config.memory, contestants, out, progress)
        if config.article is not None:
            results["article"] = bench_article(config.article, contestants, out, progress)
        if regret is not None:  # last, as it alone may go elsewhere
            workers = regret.workers or cores_of_process()
            with executor() if executor is not None else LocalExecutor(workers, forks=True) as where:
                results["regret"] = bench_regret(
                    cases, contestants, regret.seeds, out, where, kept, progress, limit=regret.limit
                )
    return results


def _keep(config: BenchmarkConfig, path: Path, say: Callable[[str], None]) -> None:
    """Writes the configuration beside its results; says if the folder held results of another one."""
    text = dump_yaml(config)
    try:
        if path.exists() and path.read_text(encoding="utf-8") != text:
            say(
                f"{path.parent}: holds results of other settings too (benchmark.yaml is written anew); they stay, and "
                "those that these settings ask for count"
            )
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TaskError(f"{path}: cannot be written: {error.strerror or error}") from None

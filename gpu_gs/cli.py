"""The command line: ``gpu-gs run | resume | report | validate | presets | schema | doctor | bench``.

Neither torch nor Ax is imported before a command needs it. With ``--json`` the answer stands on stdout as one JSON
document; everything else goes to stderr.
"""

import json
import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gpu_gs.errors import ConfigError, DeviceUnavailableError, GpuGsError, GpuGsWarning, TaskError

OK, ERROR, USAGE, DEVICE, FAILURES, UNUSABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_OF_STATUS = {"finished": OK, "failures": FAILURES, "interrupted": INTERRUPTED, "error": ERROR}

EPILOG = (
    "Exit codes: 0 done; 1 an error inside; 2 wrong usage or configuration; 3 the device is not there; "
    "4 failing trials stopped the run; 5 the folder, its journal or a needed package is unusable; "
    "130 interrupted (continue with: gpu-gs resume DIR)."
)

BENCH_EPILOG = (
    "Exit codes: 0 done, failed jobs included: the report lists them; 1 an error inside; 2 wrong usage or configuration; "
    "3 the device is not there; 5 the folder or a needed package is unusable; 130 interrupted (the same command goes on "
    "from there)."
)

MOST_PLACES = 8
"""Columns of predictions that ``doctor`` shows side by side."""

app = typer.Typer(
    name="gpu-gs",
    help="Bayesian optimization with Ax, its asks made fast: run a task, resume it, look at the report.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials in total.")]


class ConfigKind(StrEnum):
    """What a file can be."""

    strategy = "strategy"
    task = "task"
    benchmark = "benchmark"


def _version(wanted: bool) -> None:
    if wanted:
        import gpu_gs

        print(f"gpu-gs {gpu_gs.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


# ------------------------------------------------------------------------------------------------- run, resume


@app.command(epilog=EPILOG)
def run(
    task: Annotated[str, typer.Argument(help="A task's YAML file, or the name of a shipped one.")],
    trials: Trials = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random draws.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.  [default: runs/TASK-TIME]")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any setting of the task; repeatable.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(metavar="PRESET", help="Another strategy preset.")] = None,
    as_json: Json = False,
) -> None:
    """Run a task from its first trial to its report."""
    from gpu_gs.config import resolve_source
    from gpu_gs.run.task_config import TaskConfig, load_task

    lines = [
        *(settings or []),
        *([] if trials is None else [f"trials={trials}"]),
        *([] if device is None else [f"strategy.device={json.dumps(device)}"]),
        *([] if seed is None else [f"strategy.seed={seed}"]),
    ]
    config = load_task(task, set_values=lines, strategy=strategy)
    folder = out or _new_folder(config.name)
    with _ax_loaded():
        from gpu_gs.run.experiment import versions
        from gpu_gs.run.loop import run_task
        from gpu_gs.run.outputs import require_sql
    if config.storage == "sqlite":
        require_sql()
    now = versions()
    for package, version in config.versions.items():
        if now.get(package) != version:
            _say(
                f"{package} was {version} when this file was written and is {now.get(package)} here; trials may differ."
            )
    _say(f"{config.name}: {config.trials} trials into {folder}")
    with _stdout_kept(as_json), _about(task):
        summary = run_task(config, folder, task_folder=resolve_source(TaskConfig, task).parent, say=_say)
    _finish(summary, as_json)


@app.command(epilog=EPILOG)
def resume(
    folder: Annotated[Path, typer.Argument(help="The folder of a run that was stopped or killed.")],
    trials: Trials = None,
    as_json: Json = False,
) -> None:
    """Go on with a run where it stopped; the trial in flight is evaluated again."""
    with _ax_loaded():
        from gpu_gs.run.loop import resume as resume_run
    with _stdout_kept(as_json):
        summary = resume_run(folder, trials=trials, say=_say)
    _finish(summary, as_json)


@app.command(epilog=EPILOG)
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="The folder of a run; or folders of benchmarks, merged.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where a benchmark's report goes.  [default: the first folder]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the report of a run again from its journal, or one report of benchmarks of several machines."""
    from gpu_gs.bench.report import is_benchmark, write_report

    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise TaskError(f"{missing[0]}: {'is a file, not a folder' if missing[0].exists() else 'no such folder'}")
    benchmarks = [folder for folder in folders if is_benchmark(folder)]
    if benchmarks:
        if others := [folder for folder in folders if folder not in benchmarks]:
            raise TaskError(f"{others[0]}: no results of a benchmark; only folders of benchmarks are merged")
        page = write_report(benchmarks, out or benchmarks[0])
        if as_json:
            _print_json({"report": str(page)})
        else:
            print(page)
        return
    if len(folders) > 1 or out is not None:
        raise TaskError(f"{folders[0]}: no results of a benchmark; the report of a run takes one folder and no --out")
    _report_of_run(folders[0], as_json)


def _report_of_run(folder: Path, as_json: bool) -> None:
    with _ax_loaded():
        from gpu_gs.run import journal
        from gpu_gs.run.loop import config_of
        from gpu_gs.run.outputs import write_results
    record = journal.read(folder)
    summary = write_results(record, config_of(record), folder)
    if as_json:
        _print_json(summary)
    else:
        _print_summary(summary)


def _new_folder(name: str) -> Path:
    base = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = base, 2
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder


def _finish(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(summary)
    else:
        _print_summary(summary)
    code = EXIT_OF_STATUS[summary["status"]]
    if code:
        _say(f"{summary['status']}: {summary['reason']}")
        _say(f"Nothing is lost. Continue with: gpu-gs resume {summary['folder']}")
        raise typer.Exit(code)


def _print_summary(summary: dict[str, Any]) -> None:
    counts, seconds = summary["trials"], summary["seconds"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    infeasible = f", {counts['infeasible']} infeasible" if counts["infeasible"] else ""
    drawn = seconds["random_search"]
    random_search = f", random search {drawn:.1f} s" if drawn else ""
    print(
        f"{summary['task']}: {counts['completed']} of {counts['wanted']} trials{failed}{infeasible}; "
        f"objective {seconds['objective']:.1f} s, strategy {seconds['strategy']:.1f} s{random_search}; "
        f"device {', '.join(summary['devices']) or 'none yet'}, seed {summary['seed']}"
    )
    rows = summary["comparison"]
    if rows:
        held_out = list(dict.fromkeys(name for row in rows for name in row["held_out"] or {}))
        lines = [["", *(row["who"] for row in rows)]]
        lines += [[label, *(_cell(row["values"][label]) for row in rows)] for label in rows[0]["values"]]
        if len(rows[0]["values"]) > 1:
            lines.append(["hypervolume", *(_cell(row["hypervolume"]) for row in rows)])
        lines += [
            [f"held-out {name}", *(_cell((row["held_out"] or {}).get(name)) for row in rows)] for name in held_out
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        for name, *cells in lines:
            row_of_cells = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            print("  ".join([name.ljust(widths[0]), *row_of_cells]))
        best = ", ".join(f"{name} = {_short(value)}" for name, value in rows[0]["parameters"].items())
        if rows[0]["who"] == "tuned":
            print(f"Best parameters: {best}")
    for remark in summary["remarks"]:
        print(f"Note: {remark}")
    print(f"Report: {Path(summary['folder']) / 'report.html'}")


def _cell(value: Any) -> str:
    """A number as the table shows it; of a mean and its standard error, the mean."""
    if value is None:
        return "–"
    return f"{float(value[0] if isinstance(value, tuple | list) else value):.5g}"


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


# --------------------------------------------------------------------------------------- validate, presets, schema


@app.command(epilog=EPILOG)
def validate(
    file: Annotated[
        str, typer.Argument(help="A YAML file of a strategy, task or benchmark, or the name of a shipped one.")
    ],
    kind: Annotated[ConfigKind | None, typer.Option(help="What it is; by default, what it looks like.")] = None,
    as_json: Json = False,
) -> None:
    """Check a file without running it; a task also against Ax, with its functions imported."""
    from gpu_gs.config import StrategyConfig, resolve_source
    from gpu_gs.run.task_config import TaskConfig, load_task

    try:
        kind = kind or _kind_of(file)
        if kind is ConfigKind.strategy:
            strategy = StrategyConfig.load(file)
            words = f"strategy {strategy.name or ''} with engine {strategy.engine} on device {strategy.device}"
        elif kind is ConfigKind.benchmark:
            from gpu_gs.bench.entries import who_takes_part
            from gpu_gs.bench.plan import load_benchmark

            benchmark = load_benchmark(file)
            with _about(file):
                present, benchmark = who_takes_part(benchmark, _say)
            words = f"benchmark of {', '.join(benchmark.sections)} with contestants {', '.join(present)}"
        else:
            config = load_task(file)
            with _ax_loaded():
                from gpu_gs.run.experiment import build_client, problems_of, with_folder
            config = with_folder(config, resolve_source(TaskConfig, file).parent)
            with _stdout_kept(as_json), _about(file):
                if problems := problems_of(config):
                    raise ConfigError(problems)
                build_client(config)
            words = f"task {config.name} with {len(config.parameters)} parameters and {config.trials} trials"
    except ConfigError as error:
        if as_json:
            _print_json({"valid": False, "kind": None if kind is None else kind.value, "problems": error.problems})
            raise typer.Exit(USAGE) from None
        raise
    if as_json:
        _print_json({"valid": True, "kind": kind.value, "problems": []})
    else:
        print(f"{file}: valid: {words}")


def _kind_of(file: str) -> ConfigKind:
    from gpu_gs.config import closest, parse_yaml, presets

    if file in presets("tasks"):
        return ConfigKind.task
    if file in presets("benchmarks"):
        return ConfigKind.benchmark
    known = [*presets("strategies"), *presets("tasks"), *presets("benchmarks")]
    if file not in known and not Path(file).expanduser().exists():
        hint = closest(Path(file).stem, known) or ";"
        raise ConfigError([f"{file}: no such file or preset{hint} presets: {', '.join(known)}"])
    try:
        values = parse_yaml(Path(file).expanduser().read_text(encoding="utf-8-sig"), file)
    except (ConfigError, OSError, UnicodeDecodeError):
        return ConfigKind.strategy
    tasks_own = {"objective", "parameters", "optimize", "trials", "held_out"}
    if isinstance(values, dict) and (tasks_own & set(values) or values.get("preset") in presets("tasks")):
        return ConfigKind.task
    benchmarks_own = {"latency", "regret", "memory", "article", "contestants"}
    if isinstance(values, dict) and (benchmarks_own & set(values) or values.get("preset") in presets("benchmarks")):
        return ConfigKind.benchmark
    return ConfigKind.strategy


@app.command()
def presets(as_json: Json = False) -> None:
    """List the configurations that come with gpu-gs."""
    from gpu_gs import config

    kinds: tuple[config.Kind, ...] = ("strategies", "tasks", "benchmarks")
    found = {kind: {name: str(path) for name, path in config.presets(kind).items()} for kind in kinds}
    if as_json:
        _print_json(found)
        return
    for kind in kinds:
        print(f"{kind}:")
        for name, path in found[kind].items():
            print(f"  {name:16} {_first_comment(Path(path))}")


def _first_comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


@app.command()
def schema(kind: Annotated[ConfigKind, typer.Argument()] = ConfigKind.task) -> None:
    """Print the JSON Schema of a file of this kind, for editors that complete and check YAML."""
    from gpu_gs.bench.plan import BenchmarkConfig
    from gpu_gs.config import ConfigModel, StrategyConfig, json_schema
    from gpu_gs.run.task_config import TaskConfig

    models: dict[ConfigKind, type[ConfigModel]] = {
        ConfigKind.strategy: StrategyConfig,
        ConfigKind.task: TaskConfig,
        ConfigKind.benchmark: BenchmarkConfig,
    }
    _print_json(json_schema(models[kind]))


@app.command()
def doctor(
    recalibrate: Annotated[bool, typer.Option(help="Measure this machine anew; leave it alone meanwhile.")] = False,
    parameters: Annotated[int, typer.Option(min=1, help="Parameters to assume.")] = 6,
    outputs: Annotated[int, typer.Option(min=1, help="Modelled metrics to assume.")] = 1,
    as_json: Json = False,
) -> None:
    """Show versions, devices and threads here, what an ask is predicted to take, and what ``auto`` chooses."""
    with _ax_loaded():
        from gpu_gs.device import describe

        found = describe(d=parameters, num_outputs=outputs, recalibrate=recalibrate)
    if as_json:
        _print_json(found)
        return
    print(f"gpu_gs {found['gpu_gs']}, Python {found['python']}")
    print(", ".join(f"{package} {version}" for package, version in found["versions"].items()))
    blas = ", ".join(f"{lib['library']} {lib['version']} ({lib['threads']} threads)" for lib in found["blas"])
    limit = found["OMP_NUM_THREADS"]
    cores = f"{found['cores']} of {found['cores_of_machine']} cores" + (f" (OMP_NUM_THREADS={limit})" if limit else "")
    print(f"{cores}; torch uses {found['torch_threads']} threads; BLAS: {blas or 'none found'}")
    devices = found["cuda"]
    problems = "; ".join(problem.removeprefix("no CUDA device: ") for problem in found["cuda_problems"])
    print("CUDA devices: " + (", ".join(devices) if devices else f"none ({problems})"))
    for device, calibration in found["calibration"].items():
        print(_words_on_calibration(device, calibration))
    _print_choices(found)


def _words_on_calibration(device: str, calibration: dict[str, Any]) -> str:
    if calibration["measured"] is None:
        return f"Calibration of {device}: none ({calibration['problem']})"
    when = f"{datetime.fromtimestamp(calibration['measured']):%Y-%m-%d %H:%M}"
    lines = [f"Calibration of {device}: measured {when} in {calibration['took']:.1f} s"]
    if calibration["busy"]:
        lines.append("  while the machine was busy: repeat it with --recalibrate when it is not")
    return "\n".join([*lines, f"  {calibration['file']}"])


def _print_choices(found: dict[str, Any]) -> None:
    """What is predicted and chosen at each n, and where the choice changes."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    def name(place: dict[str, Any]) -> str:
        return f"cpu×{place['threads']}" if place["device"] == "cpu" else str(place["device"])

    console = Console()
    rows, changes = found["auto"], found["crossovers"]
    predicted = [{name(place): place["seconds"] for place in row["predictions"]} for row in rows]
    columns = list(dict.fromkeys(column for row in predicted for column in row))
    if len(columns) > MOST_PLACES:  # --json has them all
        chosen = {columns[0], *map(name, changes), *(column for column in columns if column.startswith("cuda"))}
        columns = [column for column in columns if column in chosen]
    size = f"{found['parameters']} parameters, {found['outputs']} output{'s' if found['outputs'] > 1 else ''}"
    unit = "predicted seconds of an ask; " if columns else ""
    print()
    console.print(f"auto would choose, with {size} ({unit}cpu×2: two threads):", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for column in ("trials", *columns, "auto"):
        table.add_column(column, justify="left" if column == "auto" else "right", no_wrap=True)
    for row, seconds in zip(rows, predicted, strict=True):
        cells = [_seconds(seconds[column]) if column in seconds else "–" for column in columns]
        table.add_row(f"{row['n']:,}", *cells, name(row))
    console.print(table)
    places = ", ".join(f"{name(change)} from {change['n']:,}" for change in changes)
    console.print(f"auto by the number of trials: {places}", highlight=False)
    remarks = dict.fromkeys(remark for row in rows for remark in row["remarks"])
    for remark in remarks:
        if remark not in found["cuda_problems"]:  # they stand above
            console.print(f"Note: {remark}", highlight=False, markup=False)


# ----------------------------------------------------------------------------------------------------------- bench


@app.command(epilog=BENCH_EPILOG)
def bench(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[BENCHMARK]",
            help="A benchmark's YAML file, or the name of a shipped one: smoke, latency, latency-kinds, "
            "latency-accelerate, regret, kinds, hpo, article, devices, memory. With --setup, contestants.",
            show_default=False,
        ),
    ] = None,
    contestants: Annotated[
        list[str] | None,
        typer.Option(
            help="In place of the benchmark's, with commas between: reference (stock Ax), other optimizers by name, "
            "strategy presets or YAML files; the strategies with a device if wanted: fast@cuda.",
        ),
    ] = None,
    devices: Annotated[
        list[str] | None,
        typer.Option("--device", help="Where each strategy runs, with commas between: cpu, cuda, cuda:N."),
    ] = None,
    problems: Annotated[
        list[str] | None, typer.Option("--problem", help="Only the cases of these, with commas between.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Whole runs of each contestant on each case.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any setting of the benchmark; repeatable."),
    ] = None,
    references: Annotated[
        list[Path] | None,
        typer.Option("--reference", help="A regret.json or regret.jsonl with runs that were made before; repeatable."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Whole runs at a time, one thread each.")] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Send whole runs to the workers of this Dask scheduler.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results; an interrupted benchmark goes on there.  [default: runs/bench-BENCHMARK]"
        ),
    ] = None,
    setup: Annotated[
        bool,
        typer.Option(
            "--setup",
            help="Only install what contestants need that gpu_gs does not, into environments of their own: of "
            "those named, or of all.",
        ),
    ] = False,
    listing: Annotated[
        bool, typer.Option("--list", help="Only list the contestants, whether they are installed, and the problems.")
    ] = False,
    stages: Annotated[bool, typer.Option("--stages", help="Also print where the time of an ask goes.")] = False,
    as_json: Json = False,
) -> None:
    """Measure asks and whole runs against stock Ax and others, and write a report. Leave the machine alone meanwhile."""
    names = _split(contestants)
    if listing:
        _print_choices_of_bench(as_json)
        return
    if setup:
        from gpu_gs.bench.contestants import setup as set_up

        set_up([*([] if source is None else _split([source])), *names], _say)
        return
    if source is None:
        from gpu_gs.config import presets

        raise ConfigError([f"bench: which benchmark? allowed: {', '.join(presets('benchmarks'))}, or a YAML file"])
    from gpu_gs.bench.plan import load_benchmark

    config = load_benchmark(
        source,
        set_values=settings or (),
        contestants=names,
        devices=_split(devices),
        problems=_split(problems),
        seeds=seeds,
        workers=workers,
        references=[str(path) for path in references or ()],
    )
    from gpu_gs.bench.benchmark import run_benchmark
    from gpu_gs.bench.executors import DaskExecutor
    from gpu_gs.bench.report import write_report
    from gpu_gs.bench.tables import show

    folder = out or Path("runs") / f"bench-{Path(source).stem}"
    try:
        results = run_benchmark(config, folder, say=_say, executor=None if dask is None else lambda: DaskExecutor(dask))
    except KeyboardInterrupt:
        _say(f"Interrupted; what is done is in {folder}, and the same command goes on from there.")
        raise typer.Exit(INTERRUPTED) from None
    page = write_report([folder], folder)
    if as_json:
        _print_json(results)
        return
    for result in results.values():
        show(result, stages=stages)
    _say(f"Report: {page}")


def _print_choices_of_bench(as_json: bool) -> None:
    from gpu_gs.bench.contestants import label, missing, names
    from gpu_gs.bench.problems import PROBLEMS, missing_problem
    from gpu_gs.config import presets

    everyone = [*presets("strategies"), *names()]
    by_kind: dict[str, list[str]] = {}
    for problem in PROBLEMS.values():
        by_kind.setdefault(problem.kind, []).append(problem.name)
    if as_json:
        why_not = {"contestants": {name: missing(name) for name in everyone}}
        why_not["problems"] = {name: missing_problem(name) for name in PROBLEMS}
        _print_json(why_not)
        return
    print("contestants (or a strategy's YAML file; strategies take a device, as fast@cuda):")
    for name in everyone:
        print(f"  {name:20} {label(name)}" + (f"; {reason}" if (reason := missing(name)) else ""))
    print("problems:")
    for kind, found in by_kind.items():
        reasons = {reason for name in found if (reason := missing_problem(name))}
        print(f"  {kind}" + (f" ({'; '.join(sorted(reasons))})" if reasons else "") + ":")
        print(
            textwrap.fill(
                ", ".join(found), 110, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
            )
        )


def _split(values: list[str] | None) -> list[str]:
    """``a,b`` and ``--option a --option b`` alike."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


# -------------------------------------------------------------------------------------------------------- plumbing


@contextmanager
def _ax_loaded() -> Iterator[None]:
    """Imports Ax and torch in this process of our own with Ax's line for each trial turned off."""
    from rich.console import Console

    console = Console(stderr=True)
    logging.disable(logging.INFO)
    try:
        if console.is_terminal:
            with console.status("Loading Ax and torch"):
                import ax.api.client
        else:
            import ax.api.client  # noqa: F401
        yield
    finally:
        logging.disable(logging.NOTSET)
    for handler in logging.getLogger("ax").handlers:
        handler.setLevel(logging.WARNING)
        handler.addFilter(_once())


def _once() -> Callable[[logging.LogRecord], bool]:
    """A filter that lets each message through once: Ax repeats its warnings on every ask."""
    seen: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        known = text in seen
        seen.add(text)
        return not known

    return new


@contextmanager
def _stdout_kept(as_json: bool) -> Iterator[None]:
    """With ``--json``, whatever the user's functions print, from whatever language, goes to stderr."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _about(file: str) -> Iterator[None]:
    """Puts the file's name before problems that only show when its values are used."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([f"{file}: {problem}" for problem in error.problems]) from None


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Our own warnings in a line; those of the libraries below concern their developers."""
    if issubclass(category, GpuGsWarning):
        _say(f"warning: {message}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _fail(lines: list[str], code: int) -> int:
    if "--json" in sys.argv[1:]:
        _print_json({"status": "error", "exit_code": code, "problems": lines})
    for line in lines:
        _say(f"error: {line}")
    return code


def main() -> None:
    """The entry point: a mistake of the user's ends in a message and an exit code, not in a traceback."""
    warnings.showwarning = _show_warning
    try:
        app()
    except ConfigError as error:
        sys.exit(_fail(error.problems, USAGE))
    except DeviceUnavailableError as error:
        sys.exit(_fail([str(error)], DEVICE))
    except TaskError as error:
        sys.exit(_fail([str(error)], UNUSABLE))
    except GpuGsError as error:
        sys.exit(_fail([str(error)], ERROR))
    except KeyboardInterrupt:
        _say("Interrupted.")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()

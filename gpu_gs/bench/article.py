"""What the article found that the project began with (docs/article.md), measured in today's Ax.

The article says what an iteration of Ax spends its time on besides its model: leave-one-out cross-validation, the best
point, ``fetch_data``. Each part times asks through Ax's ``Client`` with one of them and without, or the call itself:

- ``stages``: asks as they are, each with the seconds of its stages; what the next two parts compare with
- ``cross_validation``: leave-one-out predictions after each ask, by folds, in Ax's closed form, or our ``diagnostics``
- ``best_point``: without any, computed on each ask, or asked for by ``get_best_parameterization`` after each
- ``data``: ``fetch_data`` against ``lookup_data``
"""

import functools
import json
import statistics as st
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any
from unittest import mock

from gpu_gs.bench.contestants import AxContestant, build, is_ours, is_strategy, label, on_cuda, short
from gpu_gs.bench.plan import ArticleSection
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.runner import Job, Watcher, environment, run_jobs
from gpu_gs.bench.words import milliseconds
from gpu_gs.device import cores_of_process
from gpu_gs.telemetry import collect, stage

if TYPE_CHECKING:
    from rich.table import Table

PLAIN = "hartmann6"
TWO_METRICS = "constrained-hartmann6"
"""With an outcome constraint Ax estimates the best point from samples; its two metrics are those of the data."""

LARGEST_CONSTRAINED = 250
"""The largest of the sizes at which the best point is timed with a constraint, where stock Ax takes several seconds an ask."""

PUBLISHED = {"fetch_data": 14.185, "lookup_data": 0.015}
"""The article's seconds, at 1,000 trials with 2 metrics, on its own machine."""

STAGES_OF_AX = {
    "ax.generation_strategy.generation_strategy:extract_pending_observations": "strategy",
    "ax.adapter.base:Adapter._process_and_transform_data": "data",
    "ax.adapter.base:Adapter._transform_data": "transform",
    "ax.adapter.torch:TorchAdapter._fit": "fit",
    "ax.generation_strategy.generator_spec:GeneratorSpec.gen": "untransform",
    "ax.adapter.torch:TorchAdapter._gen": "setup",
    "ax.generators.torch.botorch_modular.acquisition:Acquisition.optimize": "optimize",
    "botorch.optim.optimize:gen_batch_initial_conditions": "raw_samples",
    "ax.generators.torch.botorch_modular.generator:BoTorchGenerator.best_point": "best_point",
}
"""Functions of stock Ax by the stage, named as ours, that their own time is charged to."""

STAGES = (
    *("strategy", "data", "transform", "fit", "diagnostics", "setup", "raw_samples", "optimize", "best_point"),
    *("untransform", "other"),
)

WAYS = {
    "cross_validation": {
        "folds": "by folds, as in the article",
        "closed": "Ax's closed form",
        "always": "diagnostics: always",
    },
    "best_point": {
        "off": "none",
        "on": "on each ask, as in the article",
        "question": "get_best_parameterization()",
    },
    "data": {"client": "a Client's metrics", "functions": "metrics that are functions"},
    "stages": {"plain": "none"},
}
"""The ways to measure each part, as tables call them."""


def ways(part: str, contestant: str) -> tuple[str, ...]:
    """The ways of a part that say something of this contestant beside its asks as they are.

    Ours leaves the best point out, stock Ax computes it; only ours has a setting ``diagnostics``.
    """
    ours = is_ours(contestant)
    return {
        "cross_validation": ("closed", "always") if ours else ("folds", "closed"),
        "best_point": ("on", "question") if ours else ("off", "question"),
        "stages": ("plain",),
    }[part]


# ------------------------------------------------------------------------------------------------- one measurement


def measure(job: Job) -> dict[str, Any]:
    """One job.

    Args:
        job: part, way, problem, n (evaluations known), contestant, seed, repeats, limit (seconds after which nothing is
            timed once more).

    Returns:
        Of ``data``: ``calls``, the seconds of each call by its name, and the number of ``metrics``. Else lists with an
        item for each ask but the first: ``ask``, seconds; ``after``, seconds of what the way adds; ``stages``, seconds
        of the ask by stage, which add up to ``ask`` (and ``after`` where it is part of the ask).
    """
    contestant = build(job["contestant"])
    if not isinstance(contestant, AxContestant):
        raise ValueError(f"{job['contestant']} is no strategy under Ax's Client")
    if job["part"] == "data":
        return _data(job, contestant)
    after, around = _added(job["way"], contestant)
    ours = is_ours(job["contestant"])
    with nullcontext() if ours else _traced(), around:
        answer = _asks(job, contestant, after)
    if ours:
        answer["stages"] = _recorded(answer["ask"], contestant)
    if job["way"] == "always":
        answer["after"] = [stages["diagnostics"] for stages in answer["stages"]]
        answer["ask"] = [ask - own for ask, own in zip(answer["ask"], answer["after"], strict=True)]
    return answer


def _added(
    way: str, contestant: AxContestant
) -> tuple[Callable[[AxContestant], object] | None, AbstractContextManager[object]]:
    """What a way does after each ask, and the context of all asks."""
    from ax.adapter.cross_validation import cross_validate
    from ax.generators.torch.botorch_modular.generator import BoTorchGenerator

    if way == "always":
        contestant.overrides["diagnostics"] = "always"
        return None, nullcontext()
    if way == "off":
        # The adapter takes this for a generator that knows no best point.
        return None, mock.patch.object(BoTorchGenerator, "best_point", side_effect=NotImplementedError)
    after: dict[str, Callable[[AxContestant], object]] = {
        "closed": lambda asked: cross_validate(_adapter(asked), untransform=False),
        # Whoever selects test points gets folds, also where they are all points.
        "folds": lambda asked: cross_validate(_adapter(asked), test_selector=lambda _: True, untransform=False),
        "on": lambda asked: _adapter(asked).model_best_point(),
        "question": lambda asked: asked.best(),
    }
    return after.get(way), nullcontext()


def _adapter(contestant: AxContestant) -> Any:
    return contestant.client._generation_strategy.adapter


def _start(job: Job, contestant: AxContestant) -> None:
    problem = PROBLEMS[job["problem"]]
    points = problem.initial_points(job["n"], job["seed"])
    contestant.start(problem, job["seed"], points, [problem.observe(p, i) for i, p in enumerate(points)])


def _asks(job: Job, contestant: AxContestant, after: Callable[[AxContestant], object] | None) -> dict[str, Any]:
    """Asks in sequence, each told its value; the first is not timed, and nothing is done after it."""
    problem = PROBLEMS[job["problem"]]
    _start(job, contestant)
    synchronize = None
    if on_cuda(job["contestant"]):
        import torch

        synchronize = torch.cuda.synchronize
    answer: dict[str, Any] = {"ask": [], "after": [], "stages": []}
    begun = time.perf_counter()
    for k in range(job["repeats"] + 1):
        with collect(synchronize) as spans:
            (point,) = contestant.ask()
        if k > 0:
            answer["ask"].append(spans.total)
            answer["stages"].append({**spans.seconds, "other": spans.other})
        if k > 0 and after is not None:
            started = time.perf_counter()
            after(contestant)
            answer["after"].append(time.perf_counter() - started)
        contestant.tell([point], [problem.observe(point, job["n"] + k)])
        if k > 0 and time.perf_counter() - begun > job["limit"]:
            break
    return answer


@contextmanager
def _traced() -> Iterator[None]:
    """Charges the functions of ``STAGES_OF_AX`` to their stages."""
    with ExitStack() as stack:
        for path, name in STAGES_OF_AX.items():
            module, _, function = path.partition(":")
            owner, _, attribute = function.rpartition(".")
            target = resolve_name(f"{module}:{owner}" if owner else module)
            stack.enter_context(mock.patch.object(target, attribute, _charged(getattr(target, attribute), name)))
        yield


def _charged(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with stage(name):
            return function(*args, **kwargs)

    return wrapper


def _recorded(asks: Sequence[float], contestant: AxContestant) -> list[dict[str, float]]:
    """The stages of our asks, from their own records; what the Client does around the strategy is other."""
    rows = contestant.details()[-len(asks) :]
    found = []
    for seconds, row in zip(asks, rows, strict=True):
        stages = {name: row[name] for name in STAGES if name != "other" and name in row}
        found.append({**stages, "other": seconds - sum(stages.values())})
    return found


def _data(job: Job, contestant: AxContestant) -> dict[str, Any]:
    """``fetch_data`` and ``lookup_data`` of an experiment whose trials are completed.

    A Client's metrics are base metrics: all that can be fetched is what was attached, trial by trial. Metrics that are
    functions may have changed since the last time, and are evaluated again.
    """
    _start(job, contestant)
    experiment = contestant.client._experiment
    if job["way"] == "functions":
        experiment = _with_functions(experiment)
    calls: dict[str, list[float]] = {"fetch_data": [], "lookup_data": [], "lookup_data, its frame": []}
    begun = time.perf_counter()
    for _ in range(job["repeats"]):
        started = time.perf_counter()
        experiment.fetch_data()
        fetched = time.perf_counter()
        experiment.attach_data(experiment.lookup_data([0]))  # as a tell does: the frame is to be made anew
        attached = time.perf_counter()
        data = experiment.lookup_data()
        looked_up = time.perf_counter()
        _ = data.df
        for name, seconds in zip(
            calls, (fetched - started, looked_up - attached, time.perf_counter() - attached), strict=True
        ):
            calls[name].append(seconds)
        if time.perf_counter() - begun > job["limit"]:
            break
    return {"calls": calls, "metrics": len(experiment.metrics)}


def _with_functions(experiment: Any) -> Any:
    """An experiment of the same trials and number of metrics, each of them the sum of the parameters."""
    from ax.core.experiment import Experiment
    from ax.metrics.noisy_function import GenericNoisyFunctionMetric

    def total(parameters: Any) -> float:
        return sum(float(value) for value in parameters.values())

    metrics: list[Any] = [GenericNoisyFunctionMetric(name=name, f=total) for name in experiment.metrics]
    other = Experiment(search_space=experiment.search_space, tracking_metrics=metrics)
    for trial in experiment.trials.values():
        other.attach_trial(parameterizations=[trial.arm.parameters])
    for trial in other.trials.values():
        trial.mark_completed()
    return other


# ---------------------------------------------------------------------------------------------------- all of them


def bench_article(
    section: ArticleSection, contestants: Sequence[str], out: Path, progress: Watcher | None = None
) -> dict[str, Any]:
    """Everything that the article found, measured.

    Args:
        section: What is measured. A job ends when it has used its limit, five times that and ten minutes at the latest:
            a row without figures then.
        contestants: Strategies under Ax's Client, stock Ax (``reference``) among them; others are left out.
        out: The folder of the results.
        progress: Is told how far it is.

    Returns:
        ``rows``: a dict for each contestant, number of evaluations and way; ``tables``: title, caption, columns and rows
        of text. Also written to ``out/article.json``.
    """
    under_ax = [name for name in contestants if is_strategy(name)]
    counts = sorted(set(section.threads or (1, cores_of_process())))
    trials = section.trials
    rest = {"seed": section.seed, "repeats": section.repeats, "limit": section.limit}
    jobs = _jobs(under_ax, section.n, trials, counts, **rest)
    before = environment()
    lines = run_jobs(jobs, out / "article.jsonl", progress=progress)
    groups: dict[str, list[Job]] = {}
    for line in lines:
        same = {key: value for key, value in line["job"].items() if key != "threads"}
        groups.setdefault(json.dumps(same, sort_keys=True), []).append(line)
    rows = [row_of(group) for group in groups.values()]
    result = {
        "benchmark": "article",
        "environment": before,
        "trials": trials,
        **rest,
        "published": PUBLISHED,
        "tables": [
            _cross_validation_table(rows),
            *(_best_point_table(rows, problem) for problem in (PLAIN, TWO_METRICS)),
            _data_table(rows, trials),
            *(_stage_table(rows, problem) for problem in (PLAIN, TWO_METRICS)),
        ],
        "rows": rows,
    }
    (out / "article.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _jobs(
    contestants: Sequence[str], sizes: Sequence[int], trials: int, counts: Sequence[int], **rest: Any
) -> list[Job]:
    """All jobs, those to be compared next to each other."""
    asks = [
        (problem, n, part) for n in sizes for problem, part in _ASKS if problem == PLAIN or n <= LARGEST_CONSTRAINED
    ]
    if (TWO_METRICS, trials, "stages") not in asks:
        asks.append((TWO_METRICS, trials, "stages"))
    jobs = [
        {
            **{"kind": "article", "part": part, "way": way, "problem": problem, "n": n, "contestant": contestant},
            **{"threads": count, **rest},
        }
        for problem, n, part in asks
        for contestant in contestants
        for way in ways(part, contestant)
        for count in counts
    ]
    # Python alone, and nobody's strategy: one thread and the first contestant's Client will do.
    of_data = {"problem": TWO_METRICS, "n": trials, "contestant": contestants[0], "threads": counts[0], **rest}
    return [*jobs, *({"kind": "article", "part": "data", "way": way, **of_data} for way in WAYS["data"])]


_ASKS = (
    (PLAIN, "stages"),
    (PLAIN, "cross_validation"),
    (PLAIN, "best_point"),
    (TWO_METRICS, "stages"),
    (TWO_METRICS, "best_point"),
)


def row_of(lines: Sequence[Job]) -> dict[str, Any]:
    """The figures of one job at its better thread count, or its error.

    Seconds are medians; those of ``stages`` are means, so that they add up.
    """
    job = lines[0]["job"]
    row = {key: job[key] for key in ("part", "way", "problem", "n")}
    row |= {"contestant": short(job["contestant"]), "repeats_wanted": job["repeats"]}
    answers = [line for line in lines if "answer" in line]
    if not answers:
        return {**row, "error": lines[0]["error"]}
    if job["part"] == "data":
        answer = answers[0]["answer"]
        calls = answer["calls"]
        row |= {"threads": job["threads"], "repeats": len(calls["fetch_data"]), "metrics": answer["metrics"]}
        return {**row, "calls": {name: st.median(seconds) for name, seconds in calls.items()}}
    line = min(answers, key=lambda line: st.median(_together(line["answer"])))
    answer = line["answer"]
    stages = answer["stages"]
    return {
        **row,
        "threads": line["job"]["threads"],
        "repeats": len(answer["ask"]),
        "ask": st.median(answer["ask"]),
        "after": st.median(answer["after"]) if answer["after"] else None,
        "together": st.median(_together(answer)),
        "best_point": st.median(each.get("best_point", 0.0) for each in stages),
        "stages": {
            name: st.fmean(each.get(name, 0.0) for each in stages)
            for name in STAGES
            if any(name in each for each in stages)
        },
    }


def _together(answer: dict[str, Any]) -> list[float]:
    """Seconds of each ask with what comes after it."""
    return [
        ask + after for ask, after in zip(answer["ask"], answer["after"] or [0.0] * len(answer["ask"]), strict=True)
    ]


# -------------------------------------------------------------------------------------------------- their tables


def _of(rows: Sequence[dict[str, Any]], part: str, problem: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["part"], row["problem"]) == (part, problem)]


def _failure(row: dict[str, Any]) -> str:
    lines = row["error"].strip().splitlines()
    return f"failed: {lines[-1][:60]}" if lines else "failed"


def _ms(seconds: float | None) -> str:
    """Milliseconds; empty where there are none."""
    return "" if seconds is None else milliseconds(seconds)


def _seconds(seconds: float) -> str:
    """To the millisecond as in the article, short ones to the microsecond."""
    return f"{seconds:.3f}" if seconds >= 0.1 else f"{seconds:.6f}"


def _compared(
    plain: Sequence[dict[str, Any]],
    others: Sequence[dict[str, Any]],
    name: Callable[[dict[str, Any]], str],
    parts: Callable[[dict[str, Any]], tuple[float, float | None]],
) -> list[list[str]]:
    """Rows of text, each contestant's asks as they are before the others of its size.

    Ratios are of the same asks, with and without what is added: the machine may be another one in the next process.

    Args:
        plain: Rows of ``stages``.
        others: Rows of another part.
        name: What a row's way is called.
        parts: Seconds of a row's ask, and of what is added to it.
    """
    found = []
    for base in plain:
        same = [row for row in others if (row["n"], row["contestant"]) == (base["n"], base["contestant"])]
        for row in (base, *same):
            head = [str(row["n"]), label(row["contestant"]), name(row)]
            if "error" in row:
                found.append([*head, "", "", "", "", _failure(row), ""])
                continue
            ask, added = parts(row)
            asks = str(row["repeats"])
            asks += "" if row["repeats"] == row["repeats_wanted"] else f" of {row['repeats_wanted']}"
            ratio = "" if added is None else f"{row['together'] / ask:.3g}x"
            found.append([*head, str(row["threads"]), asks, _ms(ask), _ms(added), _ms(row["together"]), ratio])
    return found


def _cross_validation_table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "title": f"Milliseconds of an ask with cross-validation, {PLAIN}",
        "caption": "Medians. against the ask: both together, against the ask alone.",
        "columns": [
            *("n", "contestant", "cross-validation", "threads", "asks"),
            *("ask", "cross-validation, ms", "together", "against the ask"),
        ],
        "rows": _compared(
            _of(rows, "stages", PLAIN),
            _of(rows, "cross_validation", PLAIN),
            name=lambda row: WAYS[row["part"]][row["way"]],
            parts=lambda row: (row["ask"], row["after"]),
        ),
    }


def _best_point_table(rows: Sequence[dict[str, Any]], problem: str) -> dict[str, Any]:
    def computes_it(row: dict[str, Any]) -> bool:
        return row["way"] == "plain" and not is_ours(row["contestant"])

    def parts(row: dict[str, Any]) -> tuple[float, float | None]:
        own = row["best_point"]
        return (row["ask"] - own, own) if computes_it(row) else (row["ask"], row["after"])

    return {
        "title": f"Milliseconds of an ask with the best point, {problem}",
        "caption": "Medians. The first row of each contestant is its ask as it is; with get_best_parameterization() after it, "
        "stock Ax computes the best point twice. against the ask: both together, against the ask alone.",
        "columns": [
            *("n", "contestant", "best point", "threads", "asks"),
            *("ask", "best point, ms", "together", "against the ask"),
        ],
        "rows": _compared(
            _of(rows, "stages", problem),
            _of(rows, "best_point", problem),
            name=lambda row: WAYS["best_point"]["on"] if computes_it(row) else WAYS[row["part"]][row["way"]],
            parts=parts,
        ),
    }


def _data_table(rows: Sequence[dict[str, Any]], trials: int) -> dict[str, Any]:
    found: list[list[str]] = []
    metrics = 2
    for row in _of(rows, "data", TWO_METRICS):
        whose = WAYS["data"][row["way"]]
        if "error" in row:
            found.append([f"fetch_data, lookup_data: {whose}", _failure(row), ""])
            continue
        metrics = row["metrics"]
        for name, seconds in row["calls"].items():
            published = PUBLISHED.get(name) if row["way"] == "client" else None
            found.append([f"{name}: {whose}", _seconds(seconds), "" if published is None else f"{published:g}"])
    for row in _of(rows, "stages", TWO_METRICS):
        if row["n"] == trials:
            what = f"all data of an ask: {label(row['contestant'])}"
            parts = ("strategy", "data", "transform")
            failed = "error" in row
            found.append(
                [what, _failure(row) if failed else _seconds(sum(row["stages"].get(name, 0.0) for name in parts)), ""]
            )
    return {
        "title": f"Seconds at {trials} trials with {metrics} metrics",
        "caption": "Medians of calls; of asks the mean of pending points, data and their transforms. its frame: with the "
        "pandas frame that is made anew after each tell. The article's seconds are those of its machine.",
        "columns": ["what", "seconds", "the article"],
        "rows": found,
    }


def _stage_table(rows: Sequence[dict[str, Any]], problem: str) -> dict[str, Any]:
    plain = _of(rows, "stages", problem)
    named = {name for row in plain for name in row.get("stages", {})}
    names = [name for name in STAGES if name in named and name != "diagnostics"]
    found = []
    for row in plain:
        head = [str(row["n"]), label(row["contestant"])]
        if "error" in row:
            found.append([*head, "", _failure(row), *("" for _ in names)])
            continue
        total = sum(row["stages"].values())
        shares = [f"{100 * row['stages'][name] / total:.0f} %" if name in row["stages"] else "" for name in names]
        found.append([*head, str(row["threads"]), _ms(total), *shares])
    return {
        "title": f"Where the time of an ask goes, {problem}",
        "caption": "Means over the asks, of which the shares are; what the stages are stands in plugin.md.",
        "columns": ["n", "contestant", "threads", "ask, ms", *(name.replace("_", " ") for name in names)],
        "rows": found,
    }


def article_tables(result: dict[str, Any]) -> "list[Table]":
    """The tables of a result, for a terminal or for Markdown."""
    from gpu_gs.bench.tables import _table  # which imports all benchmarks

    tables = []
    for each in result["tables"]:
        table = _table(each["title"], each["columns"], each["caption"])
        for column in table.columns:
            if column.header in ("what", "cross-validation", "best point"):
                column.justify = "left"
        for cells in each["rows"]:
            table.add_row(*cells)
        tables.append(table)
    return tables

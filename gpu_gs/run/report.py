"""report.html: one file with everything in it, readable on a phone and without a network."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from gpu_gs.config import dump_yaml
from gpu_gs.run import journal
from gpu_gs.run.experiment import metrics_of
from gpu_gs.run.folder import replace
from gpu_gs.run.goal import Goal, Single
from gpu_gs.run.objectives import Metrics
from gpu_gs.run.tables import STAGES, completed, timings_frame
from gpu_gs.run.task_config import Parameter, TaskConfig

BLUE, LIGHT, ORANGE, RED, GREY, INK = "#1f5fbf", "#9db9e3", "#d9822b", "#c0392b", "#8a8f98", "#1c2430"
STAGE_COLOURS = dict(
    zip(
        STAGES,
        ("#b8bec9", "#6b7a90", "#9db9e3", "#1f5fbf", "#56b4a9", "#8fc46b", "#d9822b", "#e3b94f", "#dfe3ea"),
        strict=True,
    )
)
STAGE_NAMES = {"setup": "acquisition set-up", "raw_samples": "raw samples", "optimize": "optimization"}
TABLE_ROWS = 10

DRAW = """
for (const place of document.querySelectorAll(".plot")) {  // only now has every place its final width
  const figure = JSON.parse(place.firstElementChild.textContent);
  place.replaceChildren();
  Plotly.newPlot(place, figure.data, figure.layout, {displayModeBar: false, responsive: true});
}
"""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f9; color: #1c2430; line-height: 1.5;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.6rem; margin: 8px 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 4px; }
p { margin: 4px 0; }
.quiet { color: #5a6472; font-size: .9rem; }
section { background: #fff; border: 1px solid #dde2ea; border-radius: 10px; padding: 16px; margin: 16px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 16px 0; }
.card { background: #fff; border: 1px solid #dde2ea; border-radius: 10px; padding: 12px 14px; }
.card b { display: block; font-size: 1.35rem; font-weight: 600; overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 8px; }
.grid > div, .plot { min-width: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid #e8ecf2; }
th { font-weight: 600; color: #5a6472; white-space: normal; vertical-align: bottom; }
td.text, th.text { text-align: left; }
tr.first td { font-weight: 600; }
.remark { border-left: 4px solid #d9822b; padding-left: 10px; margin: 8px 0; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: #f4f6f9; padding: 12px; border-radius: 8px; font-size: .85rem; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 600px) { main { padding: 10px; } section { padding: 12px 8px; } h2, section > p { padding: 0 4px; } }
"""


def write_report(record: journal.Record, config: TaskConfig, path: Path, summary: Mapping[str, Any]) -> None:
    """Writes the report of a run, finished or not.

    Args:
        record: The journal.
        config: The task.
        path: The file.
        summary: What ``summarize`` says of the run.
    """
    text = _page(record, config, summary)
    replace(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def _page(record: journal.Record, config: TaskConfig, summary: Mapping[str, Any]) -> str:
    goal = Goal.parse(config.optimize, config.outcome_constraints)
    done = completed(record)
    parts = [_head(config, summary), _cards(goal, summary), _remarks(summary), _comparison(goal, summary)]
    if done:
        parts += [_progress(record, goal, done), _stage_times(record), *_parameters(record, config, goal, done)]
        parts.append(_best_trials(record, config, goal, done))
    parts.append(_failures(record))
    parts.append(
        f"<section><details><summary>Configuration</summary><pre>{html.escape(dump_yaml(config))}</pre></details>"
        "</section>"
    )
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(config.name)}: report</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><main>\n{body}\n</main>"
        f"<script>{DRAW}</script></body></html>\n"
    )


# --------------------------------------------------------------------------------------------------- words


def _head(config: TaskConfig, summary: Mapping[str, Any]) -> str:
    devices = ", ".join(summary["devices"]) or "no device yet"
    versions = summary["versions"]
    known = ", ".join(f"{name} {versions[name]}" for name in ("gpu_gs", "ax-platform", "torch") if name in versions)
    return (
        f"<h1>{html.escape(config.name)}</h1><p>{html.escape(config.description)}</p>"
        f'<p class="quiet">{html.escape(summary["status"])}: {html.escape(summary["reason"])} · strategy '
        f"{html.escape(config.strategy.name or config.strategy.engine)} on {html.escape(devices)} · seed "
        f"{summary['seed']} · {html.escape(known)}</p>"
    )


def _cards(goal: Goal, summary: Mapping[str, Any]) -> str:
    cards: list[tuple[str, str, str]] = []
    rows = {row["who"]: row for row in summary["comparison"]}
    tuned = rows.get("tuned")
    if tuned is not None and goal.several:
        cards.append(("Hypervolume", _number(tuned["hypervolume"]), f"{len(summary['front'])} trials on the front"))
    for single in goal.singles:
        if tuned is not None:
            direction = "lowest" if single.minimize else "highest"
            if goal.several:
                values = [single.value(trial["metrics"]) for trial in summary["front"]]
                value = min(values) if single.minimize else max(values)
                cards.append((f"{direction.capitalize()} {single.label}", _number(value), "on the front"))
            else:
                note = f"trial {summary['best']['trial']}, the {direction} found"
                cards.append((f"Best {single.label}", _number(tuned["values"][single.label]), note))
    if tuned is not None and tuned["held_out"]:
        name, value = next(iter(tuned["held_out"].items()))
        cards.append((f"Held-out {name}", _number(value), "data that tuning never saw"))
    counts = summary["trials"]
    more = [f"{counts[key]} {key}" for key in ("failed", "infeasible") if counts[key]]
    cards.append(("Trials", f"{counts['completed']} of {counts['wanted']}", ", ".join(more) or "completed"))
    seconds = summary["seconds"]
    cards.append(("Time in the objective", _seconds(seconds["objective"]), "without the comparison"))
    share = seconds["strategy"] / max(counts["asked"], 1)
    cards.append(("Time in the strategy", _seconds(seconds["strategy"]), f"{_seconds(share)} a trial"))
    inner = "".join(
        f'<div class="card"><span class="quiet">{html.escape(name)}</span><b>{html.escape(value)}</b>'
        f'<span class="quiet">{html.escape(note)}</span></div>'
        for name, value, note in cards
    )
    return f'<div class="cards">{inner}</div>'


def _remarks(summary: Mapping[str, Any]) -> str:
    return "".join(f'<p class="remark">{html.escape(remark)}</p>' for remark in summary["remarks"])


def _comparison(goal: Goal, summary: Mapping[str, Any]) -> str:
    rows = summary["comparison"]
    if not rows:
        return ""
    columns = ["", "evaluations", *(single.label for single in goal.singles)]
    held_out = list(dict.fromkeys(name for row in rows for name in row["held_out"] or {}))
    columns += ["hypervolume"] if goal.several else []
    columns += [f"held-out {name}" for name in held_out]
    parameters = list(dict.fromkeys(name for row in rows for name in row["parameters"]))
    cells = [
        [
            row["who"],
            row["evaluations"],
            *(row["values"][single.label] for single in goal.singles),
            *([row["hypervolume"]] if goal.several else []),
            *((row["held_out"] or {}).get(name) for name in held_out),
            *(row["parameters"].get(name) for name in parameters),
        ]
        for row in rows
    ]
    note = "Each is represented by its best point."
    if goal.several:
        note = (
            f"Each is represented by the point of its front that is best in {goal.singles[0].label}; "
            "hypervolume is of all its points."
        )
    if held_out:
        note += " The held-out score was computed once, at the end."
    title = ", ".join(row["who"] for row in rows)
    return _section(title[:1].upper() + title[1:], note, _table([*columns, *parameters], cells))


def _best_trials(record: journal.Record, config: TaskConfig, goal: Goal, done: Mapping[int, Metrics]) -> str:
    ranking = goal.ranking(done)
    front = set(goal.front(done))
    asks = {ask["trial"]: ask for ask in record.all("ask")}
    shown = ranking[: max(TABLE_ROWS, len(front)) if goal.several else TABLE_ROWS]
    names = list(dict.fromkeys(name for index in shown for name in done[index]))
    columns = ["trial", *names, *(parameter.name for parameter in config.parameters), "from"]
    rows = [
        [
            index,
            *(done[index].get(name) for name in names),
            *(asks[index]["parameters"].get(parameter.name) for parameter in config.parameters),
            asks[index]["node"],
        ]
        for index in shown
    ]
    note = "The trials of the front first, in bold." if goal.several else "The best first."
    if any(not goal.feasible(done[index]) for index in shown):
        note += " Infeasible ones last."
    bold = [index in front for index in shown]
    return _section("Best trials", note, _table(columns, rows, bold))


def _failures(record: journal.Record) -> str:
    fails = record.all("fail")
    if not fails:
        return ""
    items = "".join(
        f"<details><summary>Trial {event['trial']}: {html.escape(event['error'])}</summary>"
        f"<pre>{html.escape(event['traceback'] or 'no traceback: the objective returned')}</pre></details>"
        for event in fails[:50]
    )
    return f"<section><h2>Failed trials</h2>{items}</section>"


def _section(title: str, note: str, content: str) -> str:
    return f'<section><h2>{html.escape(title)}</h2><p class="quiet">{html.escape(note)}</p>{content}</section>'


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], bold: Sequence[bool] | None = None) -> str:
    text = [all(isinstance(row[i], str | bool | None) for row in rows) for i in range(len(columns))]

    def cell(tag: str, i: int, value: str) -> str:
        kind = ' class="text"' if text[i] else ""
        return f"<{tag}{kind}>{html.escape(value)}</{tag}>"

    head = "".join(cell("th", i, name) for i, name in enumerate(columns))
    body = ""
    for position, row in enumerate(rows):
        first = position == 0 if bold is None else bold[position]
        inner = "".join(cell("td", i, _value(value)) for i, value in enumerate(row))
        kind = ' class="first"' if first else ""
        body += f"<tr{kind}>{inner}</tr>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _value(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"{_number(value[0])} ± {_number(value[1])}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    return "–" if value is None else str(value)


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4g}"


def _seconds(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


# --------------------------------------------------------------------------------------------------- plots


def _figure(x_title: str, y_title: str, height: int = 360) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        font={"color": INK, "family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        hoverlabel={"font": {"size": 12}},
    )
    figure.update_xaxes(title={"text": x_title, "standoff": 6}, automargin=True, zeroline=False, fixedrange=True)
    figure.update_yaxes(title={"text": y_title, "standoff": 6}, automargin=True, zeroline=False, fixedrange=True)
    return figure


def _plot(figure: go.Figure) -> str:
    # "<" and "&" as JSON escapes, so that no value can end the script element.
    description = figure.to_json().replace("<", "\\u003c").replace("&", "\\u0026")
    height = figure.layout.height
    return f'<div class="plot" style="height: {height}px"><script type="application/json">{description}</script></div>'


def _range_of_interest(
    values: Sequence[float], single: Single, lines: Sequence[float] = ()
) -> tuple[float, float] | None:
    """An axis range that leaves out the bad end's outliers; None if nothing needs to be left out.

    Args:
        values: What is shown.
        single: The goal that they are values of.
        lines: Values that must not be left out.
    """
    finite = np.array([value for value in values if np.isfinite(value)])
    if len(finite) < 4:
        return None
    low, quarter, three_quarters, high = np.quantile(finite, [0, 0.25, 0.75, 1])
    reach = 3 * max(three_quarters - quarter, 1e-12)
    if single.minimize and high > three_quarters + reach:
        high = max(value for value in finite if value <= three_quarters + reach)
    elif not single.minimize and low < quarter - reach:
        low = min(value for value in finite if value >= quarter - reach)
    else:
        return None
    low, high = min([low, *lines]), max([high, *lines])
    margin = 0.06 * (high - low) or 1e-12
    return float(low - margin), float(high + margin)


def _outside(values: Iterable[float], shown: tuple[float, float]) -> str:
    outside = sum(not shown[0] <= value <= shown[1] for value in values)
    return f" {outside} {'trial is' if outside == 1 else 'trials are'} far off the shown range."


def _axis(single: Single) -> str:
    return f"{single.label} ({'lower' if single.minimize else 'higher'} is better)"


def _progress(record: journal.Record, goal: Goal, done: Mapping[int, Metrics]) -> str:
    drawn = [metrics_of(event) if event["metrics"] is not None else None for event in record.all("random")]
    if goal.several:
        return _hypervolume(record, goal, done, drawn) + _front(record, goal, done, drawn)
    single = goal.singles[0]
    asks = {ask["trial"]: ask for ask in record.all("ask")}
    figure = _figure("trial", _axis(single))
    if any(metrics is not None for metrics in drawn):
        figure.add_scatter(
            x=list(range(len(drawn))),
            y=goal.so_far(drawn),
            mode="lines",
            line={"color": ORANGE, "width": 2, "shape": "hv", "dash": "dot"},
            name="random search, best so far",
        )
    for model in (False, True):
        ours = [index for index in done if _is_model(asks[index]) == model]
        figure.add_scatter(
            x=ours,
            y=[single.value(done[index]) for index in ours],
            mode="markers",
            marker={
                "color": LIGHT if model else GREY,
                "size": 7,
                "symbol": ["circle" if goal.feasible(done[index]) else "x-thin-open" for index in ours],
            },
            name="trials of the model" if model else "initial trials",
            customdata=[_hover(asks[index]["parameters"]) for index in ours],
            hovertemplate="trial %{x}: %{y:.5g}<br>%{customdata}<extra></extra>",
        )
    trials = sorted(done)
    figure.add_scatter(
        x=trials,
        y=goal.so_far([done[index] for index in trials]),
        mode="lines",
        line={"color": BLUE, "width": 3, "shape": "hv"},
        name="best so far",
    )
    fails = record.all("fail")
    values = [single.value(metrics) for metrics in done.values()]
    defaults = [metrics_of(event) for event in record.all("defaults") if event["metrics"] is not None]
    lines = [single.value(metrics) for metrics in defaults]
    lines += [value for value in goal.so_far(drawn) if value == value][-1:]
    interest = _range_of_interest(values, single, lines)
    if fails:
        figure.add_scatter(
            x=[event["trial"] for event in fails],
            y=[max(values) if interest is None else interest[1]] * len(fails)
            if single.minimize
            else [min(values) if interest is None else interest[0]] * len(fails),
            mode="markers",
            marker={"color": RED, "size": 9, "symbol": "x"},
            name="failed",
            customdata=[event["error"] for event in fails],
            hovertemplate="trial %{x} failed: %{customdata}<extra></extra>",
        )
    note = "The line is the best found so far."
    if defaults:
        value = single.value(defaults[-1])
        figure.add_hline(y=value, line={"color": INK, "width": 1, "dash": "dash"})
        note += f" The dashed line is the default parameters: {_number(value)}."
    if interest is not None:
        figure.update_yaxes(range=list(interest))
        note += _outside(values, interest)
    return _section("Best so far", note, _plot(figure))


def _hypervolume(
    record: journal.Record, goal: Goal, done: Mapping[int, Metrics], drawn: Sequence[Metrics | None]
) -> str:
    defaults = [metrics_of(event) for event in record.all("defaults") if event["metrics"] is not None]
    reference = goal.reference([*done.values(), *(metrics for metrics in drawn if metrics is not None), *defaults])
    figure = _figure("trial", "hypervolume (higher is better)", height=320)
    if drawn:
        figure.add_scatter(
            x=list(range(len(drawn))),
            y=goal.so_far(drawn, reference),
            mode="lines",
            line={"color": ORANGE, "width": 2, "shape": "hv", "dash": "dot"},
            name="random search",
        )
    trials = sorted(done)
    figure.add_scatter(
        x=trials,
        y=goal.so_far([done[index] for index in trials], reference),
        mode="lines",
        line={"color": BLUE, "width": 3, "shape": "hv"},
        name="this run",
    )
    corner = ", ".join(
        f"{single.label} = {_number(single.sign * value)}"
        for single, value in zip(goal.singles, reference, strict=True)
    )
    return _section("Hypervolume so far", f"What the trials dominate, up to {corner}.", _plot(figure))


def _front(record: journal.Record, goal: Goal, done: Mapping[int, Metrics], drawn: Sequence[Metrics | None]) -> str:
    first, second = goal.singles[:2]
    asks = {ask["trial"]: ask for ask in record.all("ask")}
    figure = _figure(_axis(first), _axis(second), height=420)
    others = [metrics for metrics in drawn if metrics is not None]
    figure.add_scatter(
        x=[first.value(metrics) for metrics in others],
        y=[second.value(metrics) for metrics in others],
        mode="markers",
        marker={"color": ORANGE, "size": 6, "opacity": 0.55},
        name="random search",
    )
    figure.add_scatter(
        x=[first.value(metrics) for metrics in done.values()],
        y=[second.value(metrics) for metrics in done.values()],
        mode="markers",
        marker={"color": LIGHT, "size": 7},
        name="trials",
        customdata=[f"trial {index}<br>{_hover(asks[index]['parameters'])}" for index in done],
        hovertemplate="%{x:.4g}, %{y:.4g}<br>%{customdata}<extra></extra>",
    )
    front = goal.front(done)
    figure.add_scatter(
        x=[first.value(done[index]) for index in front],
        y=[second.value(done[index]) for index in front],
        mode="lines+markers" if len(goal.singles) == 2 else "markers",
        line={"color": BLUE, "width": 2, "shape": "hv"},
        marker={"color": BLUE, "size": 9},
        name="front",
        customdata=[f"trial {index}<br>{_hover(asks[index]['parameters'])}" for index in front],
        hovertemplate="%{x:.4g}, %{y:.4g}<br>%{customdata}<extra></extra>",
    )
    for event in record.all("defaults"):
        if event["metrics"] is not None:
            metrics = metrics_of(event)
            figure.add_scatter(
                x=[first.value(metrics)],
                y=[second.value(metrics)],
                mode="markers",
                marker={"color": INK, "size": 11, "symbol": "diamond"},
                name="defaults",
            )
    points = [*done.values(), *others]
    for single, update in ((first, figure.update_xaxes), (second, figure.update_yaxes)):
        interest = _range_of_interest([single.value(metrics) for metrics in points], single)
        if interest is not None:
            update(range=list(interest))
    note = "Each trial; those on the front are beaten by no other in all goals."
    if len(goal.singles) > 2:
        note += f" Shown are two of {len(goal.singles)} goals."
    return _section("Front", note, _plot(figure))


def _stage_times(record: journal.Record) -> str:
    frame = timings_frame(record)
    figure = _figure("trial", "milliseconds")
    for stage in STAGES:
        if (frame[stage].abs() > 1e-7).any():
            figure.add_bar(
                x=list(frame.index),
                y=(frame[stage].clip(lower=0) * 1000).tolist(),
                name=STAGE_NAMES.get(stage, stage),
                marker={"color": STAGE_COLOURS[stage], "line": {"width": 0}},
                hovertemplate="trial %{x}, " + STAGE_NAMES.get(stage, stage) + ": %{y:.2f} ms<extra></extra>",
            )
    figure.update_layout(barmode="stack", bargap=0.1, legend={"traceorder": "normal"})
    asks = frame["ask"].to_numpy(dtype=float) * 1000
    model = asks[[_is_model(ask) for ask in record.all("ask")]]
    note = (
        f"Where the time of each ask went. Median of the model's asks: {_seconds(float(np.median(model)) / 1000)}."
        if len(model)
        else "Where the time of each ask went."
    )
    top = 1.5 * float(np.quantile(asks, 0.95))
    if asks.max() > 1.3 * top:
        figure.update_yaxes(range=[0, top])
        note += f" The longest ask, {_seconds(float(asks.max()) / 1000)}, goes beyond the shown range."
    told = pd.to_numeric(frame["tell"]).dropna()
    if len(told):
        note += f" Telling Ax a result takes another {_seconds(float(told.median()))} (median)."
    return _section("Stage times", note, _plot(figure))


def _parameters(record: journal.Record, config: TaskConfig, goal: Goal, done: Mapping[int, Metrics]) -> list[str]:
    sections = []
    asks = {ask["trial"]: ask for ask in record.all("ask")}
    front = goal.front(done)
    for single in goal.singles:
        plots = []
        values = {index: single.value(metrics) for index, metrics in done.items()}
        interest = _range_of_interest(list(values.values()), single)
        for parameter in config.parameters:
            figure = _figure(parameter.name, single.label, height=270)
            figure.update_layout(showlegend=False, margin={"l": 8, "r": 8, "t": 8, "b": 8})
            known = [index for index in done if parameter.name in asks[index]["parameters"]]
            x = _positions(parameter, figure, [asks[index]["parameters"][parameter.name] for index in known])
            best = [position for position, index in enumerate(known) if index in front]
            for chosen, size, line in ((range(len(known)), 7, 0), (best, 12, 2)):
                figure.add_scatter(
                    x=[x[position] for position in chosen],
                    y=[values[known[position]] for position in chosen],
                    mode="markers",
                    marker={
                        "size": size,
                        "color": [known[position] for position in chosen],
                        "cmin": 0,
                        "cmax": max(done),
                        "colorscale": [[0, "#d5dbe5"], [1, "#123a7a"]],
                        "line": {"width": line, "color": RED},
                    },
                    customdata=[
                        f"trial {known[position]}: {_value(asks[known[position]]['parameters'][parameter.name])}"
                        for position in chosen
                    ],
                    hovertemplate="%{customdata}<br>%{y:.5g}<extra></extra>",
                )
            if interest is not None:
                figure.update_yaxes(range=list(interest))
            plots.append(_plot(figure))
        note = f"Later trials are darker; {'those on the front have' if goal.several else 'the best has'} a red rim."
        if interest is not None:
            note += _outside(values.values(), interest)
        sections.append(
            _section(f"Parameters against {single.label}", note, f'<div class="grid">{"".join(plots)}</div>')
        )
    return sections


def _positions(parameter: Parameter, figure: go.Figure, values: Sequence[Any]) -> list[float]:
    """Where values stand on the x axis; choices get a place each, and a little room beside it."""
    if parameter.bounds is not None:
        if parameter.scaling == "log":
            decades = math.log10(parameter.bounds[1] / parameter.bounds[0])
            figure.update_xaxes(type="log", title={"text": f"{parameter.name} (log scale)"}, exponentformat="power")
            if decades >= 2:
                figure.update_xaxes(dtick=max(1, round(decades / 5)))
            else:  # Plotly would label single digits
                places = _round_numbers(*parameter.bounds)
                figure.update_xaxes(tickvals=places, ticktext=[f"{place:g}" for place in places])
        return [float(value) for value in values]
    choices = parameter.choices
    figure.update_xaxes(
        tickvals=list(range(len(choices))),
        ticktext=[_value(choice) for choice in choices],
        range=[-0.6, len(choices) - 0.4],
    )
    # The golden ratio's multiples spread evenly, and give the same picture each time.
    return [choices.index(value) + 0.5 * ((0.618034 * i) % 1 - 0.5) for i, value in enumerate(values)]


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two numbers; the two themselves if that leaves fewer than two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    return found if len(found) > 1 else [float(low), float(high)]


def _hover(parameters: Mapping[str, Any]) -> str:
    return "<br>".join(f"{html.escape(name)} = {html.escape(_value(value))}" for name, value in parameters.items())


def _is_model(ask: Mapping[str, Any]) -> bool:
    """Whether a model proposed the trial, not the initial design or a fall-back to it."""
    return ask["run"].get("generator_key") not in (None, "Sobol", "Fallback_Sobol", "CenterOfSearchSpace")


__all__ = ["write_report"]

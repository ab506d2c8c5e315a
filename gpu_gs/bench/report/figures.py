"""The figures of a report, each a function of all results; None where they hold nothing for it."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from gpu_gs.bench.contestants import is_ours, label, on_cuda, split
from gpu_gs.bench.regret import OPPONENTS
from gpu_gs.bench.report.drawing import INK, PAPER, QUIET, Entry, Figure, Panel, Style, apart, log_ticks, styles, ticks
from gpu_gs.bench.report.merge import Book, Curve, Row, how
from gpu_gs.bench.report.words import case_words, seconds, size_words, times, unusual

STAGES = {
    "data": "#4e79a7",
    "transform": "#76b7b2",
    "fit": "#f28e2b",
    "setup": "#bab0ac",
    "raw_samples": "#59a14f",
    "optimize": "#e15759",
    "generate": "#ff9da7",
    "untransform": "#b07aa1",
    "strategy": "#9c755f",
    "client": "#edc948",
    "other": "#a9b0ba",
}
"""A colour for each stage; stock Ax times all of set-up, raw samples and optimization as one, "generate"."""

OPPONENT_MARKERS = {"ax": "o", "optuna": "D"}
MOST_BANDS = 4
"""With more contestants in a panel, only ours and stock Ax have bands; the others have their interval at the end."""

WIDE = 4.2
"""Inches of a panel of which two go side by side on a screen; of those as wide as a ``Panel`` is by itself, three."""


# ----------------------------------------------------------------------------------------------------------- time


def time_against_n(book: Book) -> Figure | None:
    """Median time of an ask for one candidate, log-log; the slopes are in the legends."""
    looks = styles(book.contestants)
    found = []
    for machine, result in _latency(book):
        rows = [row for row in result["rows"] if not unusual(row)]
        exponents = {(row["problem"], row["contestant"]): row for row in result["growth"]}
        for problem in dict.fromkeys(row["problem"] for row in rows):
            lines = _by_contestant(row for row in rows if row["problem"] == problem)
            if len({row["n"] for of_line in lines.values() for row in of_line if "median" in row}) < 2:
                continue
            slopes = {name: _slope(exponents.get((problem, name))) for name in lines}
            d = next(iter(lines.values()))[0]["d"]
            found.append((book.titled(f"{problem}, {d} parameters", machine), lines, slopes))
    if not found:
        return None
    times = [row["median"] for _, lines, _ in found for of_line in lines.values() for row in of_line if "median" in row]
    span = 0.7 * min(times), 1.4 * max(times)

    def panel(title: str, lines: dict[str, list[Row]], slopes: dict[str, str]) -> Panel:
        def draw(axes: Any) -> None:
            for name, rows in lines.items():
                done = [row for row in rows if "median" in row]
                words = label(name) + slopes[name] + _failed_at(rows)
                axes.plot([row["n"] for row in done], [row["median"] for row in done], label=words, **looks[name].line)
            axes.set(xscale="log", yscale="log", ylim=span)
            axes.set_xlabel("trials known, n")
            sizes = sorted({row["n"] for rows in lines.values() for row in rows})
            ticks(axes.xaxis, apart(sizes), lambda n: f"{n:,.0f}")
            log_ticks(axes.yaxis, span, seconds)
            axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.17), borderaxespad=0)

        words = [
            f"{label(name)} {_from_to([(row['n'], row['median']) for row in rows if 'median' in row])}"
            for name, rows in lines.items()
        ]
        return Panel(title, f"Time of an ask against n: {'; '.join(words)}.", draw, WIDE, 3.1 + 0.17 * len(lines))

    return Figure(
        "time",
        "Median time of an ask against n",
        "n^p: the slope p from n = 250 to 2,000, of all asks and of those that kept their hyperparameters. "
        "Both axes are logarithmic; CUDA is dashed.",
        [panel(*each) for each in found],
    )


def speedups(book: Book) -> Figure | None:
    """How many times faster ours is than stock Ax and Optuna, case by case."""
    looks = styles(book.contestants)
    found: list[tuple[str, list[Row]]] = []
    for machine, result in _latency(book):
        rows = [row for row in result["rows"] if is_ours(row["contestant"]) and row.get("against")]
        for title, is_plain in (("One candidate", True), ("Batches, pending, stored, other data", False)):
            if of_kind := [row for row in rows if (not unusual(row)) == is_plain]:
                found.append((book.titled(title, machine), of_kind))
    if not found:
        return None
    ours = list(dict.fromkeys(row["contestant"] for _, rows in found for row in rows))
    ratios = [ratio["median"] for _, rows in found for row in rows for ratio in row["against"].values()]
    span = min(1.0, 0.8 * min(ratios)), 2.5 * max(*ratios, 2.0)

    def panel(title: str, rows: list[Row]) -> Panel:
        places = [0.32]
        for row, later in pairwise(rows):
            places.append(places[-1] + (0.2 if _case(row) == _case(later) else 0.38))
        height = places[-1] + 0.22

        def draw(axes: Any) -> None:
            axes.axvline(1, color=QUIET, linewidth=1.2)
            last = None
            for row, y in zip(rows, places, strict=True):
                colour = looks[row["contestant"]].colour
                if _case(row) != last:
                    last = _case(row)
                    where = axes.get_yaxis_transform()
                    axes.text(0.012, y - 0.15, case_words(row), transform=where, fontsize=8.5, va="center")
                best = max(ratio["median"] for ratio in row["against"].values())
                axes.plot([1, best], [y, y], color=colour, linewidth=1.2, linestyle=looks[row["contestant"]].dashes)
                for key, ratio in row["against"].items():
                    face = colour if key == "ax" else PAPER
                    marker = OPPONENT_MARKERS[key]
                    axes.plot(ratio["median"], y, marker=marker, color=colour, markerfacecolor=face, markersize=5.5)
                words = times(best) + (f"  {label(row['contestant'])}" if len(ours) > 1 else "")
                axes.annotate(words, (best, y), (7, 0), textcoords="offset points", fontsize=8.5, va="center")
            axes.set(xscale="log", xlim=span, ylim=(height, 0))
            axes.set_xlabel("times faster, by medians")
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            log_ticks(axes.xaxis, span, lambda ratio: f"{ratio:g}x", most=5)

        words = [
            f"{label(row['contestant'])}, {case_words(row)}: "
            + ", ".join(
                f"{times(r['median'])} faster than {label(OPPONENTS[key])}" for key, r in row["against"].items()
            )
            for row in rows
        ]
        return Panel(title, f"{'; '.join(words)}.", draw, WIDE, height + 0.55, bars=True)

    keys = dict.fromkeys(key for _, rows in found for row in rows for key in row["against"])
    legend = [Entry(label(name), looks[name].colour, line=looks[name].dashes) for name in ours]
    legend += [Entry(f"against {label(OPPONENTS[key])}", QUIET, OPPONENT_MARKERS[key]) for key in keys]
    return Figure(
        "speedups",
        "How much faster an ask is",
        "Ratios of the medians of the same case in the same run.",
        [panel(*each) for each in found],
        legend,
    )


def stage_times(book: Book) -> Figure | None:
    """Stacked bars of milliseconds; the bars of a case have one scale."""
    return _stages(
        book, False, "stages", "Median time of an ask, by stage", "Bars of the same problem and size are to scale."
    )


def stage_shares(book: Book) -> Figure | None:
    """The same as shares of the ask."""
    return _stages(
        book,
        True,
        "shares",
        "Stage shares of an ask",
        "Each bar is one ask, however long; stock Ax times set-up, raw samples and optimization as one, “generate”.",
    )


def _stages(book: Book, shares: bool, name: str, title: str, caption: str) -> Figure | None:
    found = []
    for machine, result in _latency(book):
        rows = [row for row in result["rows"] if "median" in row and (row.get("stages") or not shares)]
        staged = {row["problem"] for row in rows if row.get("stages")}
        found += [
            (book.titled(problem, machine), [row for row in rows if row["problem"] == problem])
            for problem in dict.fromkeys(row["problem"] for row in rows)
            if problem in staged
        ]
    if not found:
        return None
    used = {stage for _, rows in found for row in rows for stage in _parts(row)}

    def panel(title: str, rows: list[Row]) -> Panel:
        cases: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            cases.setdefault(_case(row), []).append(row)
        bar, head, gap = 0.23, 0.24, 0.1
        height = sum(head + bar * len(of_case) + gap for of_case in cases.values())

        def draw(axes: Any) -> None:
            places, names = [], []
            y = 0.0
            for of_case in cases.values():
                y += head
                axes.text(
                    0.0,
                    y - 0.1,
                    size_words(of_case[0]),
                    transform=axes.get_yaxis_transform(),
                    fontsize=8.5,
                    va="center",
                )
                longest = max(row["median"] for row in of_case)
                for row in of_case:
                    scale = 1.0 if shares else row["median"] / longest
                    shares_of = {stage: share * scale for stage, share in _parts(row).items()}
                    starts = [0.0, *accumulate(shares_of.values())]
                    axes.broken_barh(
                        list(zip(starts, shares_of.values(), strict=False)),
                        (y + bar / 8, 0.75 * bar),
                        facecolors=[STAGES[stage] for stage in shares_of],
                        edgecolor=PAPER,
                        linewidth=0.5 if shares else 0,
                    )
                    words = _total(row)
                    axes.text(starts[-1] + 0.015, y + bar / 2, words, fontsize=8, va="center", color=INK)
                    places.append(y + bar / 2)
                    names.append(label(row["contestant"]))
                    y += bar
                y += gap
            axes.set(xlim=(0, 1.72 if shares else 1.4), ylim=(height, 0), xticks=[])
            axes.set_yticks(places, names, fontsize=8)
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set_visible(False)

        words = [
            f"{label(row['contestant'])}, {size_words(row)}: {seconds(row['median'])}, "
            + ", ".join(f"{_stage_name(s)} {100 * share:.0f} %" for s, share in _parts(row).items() if share >= 0.05)
            for row in rows
        ]
        return Panel(title, f"Stages of an ask: {'; '.join(words)}.", draw, WIDE, height + 0.4, bars=True)

    legend = [Entry(_stage_name(stage), colour) for stage, colour in STAGES.items() if stage in used]
    return Figure(name, title, caption, [panel(*each) for each in found], legend)


def _parts(row: Row) -> dict[str, float]:
    """Shares of the stages; medians of parts need not add up to the median."""
    stages = row.get("stages") or {"other": row["median"]}
    total = max(sum(stages.values()), 1e-12)
    return {stage: stages.get(stage, 0.0) / total for stage in STAGES if stage in stages}


def _total(row: Row) -> str:
    ratio = row.get("against", {}).get("ax")
    if ratio is None or ratio["contestant"] == row["contestant"] or not is_ours(row["contestant"]):
        return seconds(row["median"])
    return f"{seconds(row['median'])} ({times(ratio['median'])} faster)"


def _stage_name(stage: str) -> str:
    return {"setup": "set-up", "optimize": "optimization", "generate": "generate (stock Ax)"}.get(
        stage, stage.replace("_", " ")
    )


# -------------------------------------------------------------------------------------------------------- devices


def crossover(book: Book) -> Figure | None:
    """CPU against CUDA of the same contestant and machine, over n."""
    looks = styles(book.contestants)
    found = list(crossings(book))
    if not found:
        return None
    groups: dict[tuple[str, tuple[Any, ...]], list[Crossing]] = {}
    for each in found:
        groups.setdefault((each.machine, each.case), []).append(each)

    def panel(machine: str, pairs: list[Crossing]) -> Panel:
        title = book.titled(pairs[0].words, machine)
        times = [row["median"] for pair in pairs for row in (*pair.cpu, *pair.cuda)]
        sizes = sorted({row["n"] for pair in pairs for row in (*pair.cpu, *pair.cuda)})
        span = 0.7 * min(times), 1.4 * max(times)

        def draw(axes: Any) -> None:
            for pair in pairs:
                for rows, where in ((pair.cpu, "CPU"), (pair.cuda, "CUDA")):
                    style = looks[rows[0]["contestant"]]
                    axes.plot(
                        [row["n"] for row in rows],
                        [row["median"] for row in rows],
                        label=f"{label(pair.base)}, {where}",
                        **{**style.line, "linestyle": "-" if where == "CPU" else "--"},
                    )
                if pair.at is not None:
                    colour = looks[pair.cpu[0]["contestant"]].colour
                    axes.axvline(pair.at, color=colour, linewidth=1, linestyle=":")
                    axes.annotate(
                        f" n ≈ {_round(pair.at):,}", (pair.at, 0.98), xycoords=axes.get_xaxis_transform(), fontsize=8,
                        va="top",
                    )  # fmt: skip
            axes.set(xscale="log", yscale="log", ylim=span)
            axes.set_xlabel("trials known, n")
            ticks(axes.xaxis, apart(sizes), lambda n: f"{n:,.0f}")
            log_ticks(axes.yaxis, span, seconds)
            axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.17), borderaxespad=0)

        words = "; ".join(f"{label(pair.base)}: {pair.verdict}" for pair in pairs)
        return Panel(title, f"CPU against CUDA: {words}.", draw, WIDE, 3.1 + 0.34 * len(pairs))

    panels = [panel(machine, pairs) for (machine, _), pairs in groups.items()]
    return Figure(
        "devices",
        "CPU against CUDA",
        "Median time of an ask of the same strategy on both devices of a machine; the dotted line is where CUDA takes over.",
        panels,
    )


class Crossing:
    """The rows of a contestant on the CPU and on CUDA, and the n from which CUDA is faster.

    Attributes:
        at: Where the two cross; None where one of them is faster at every size that both were measured at.
        verdict: The same in words.
    """

    def __init__(self, machine: str, base: str, cpu: list[Row], cuda: list[Row]) -> None:
        self.machine, self.base, self.cpu, self.cuda = machine, base, cpu, cuda
        row = cpu[0]
        self.case = (row["problem"], *how(row))
        self.words = row["problem"] + unusual(row)
        both = {row["n"]: row["median"] for row in cuda}
        known = [(row["n"], math.log(row["median"] / both[row["n"]])) for row in cpu if row["n"] in both]
        self.at: float | None = None
        for (n, gain), (later, later_gain) in pairwise(known):
            if later_gain < 0:
                self.at = None
            elif gain < 0:
                part = -gain / (later_gain - gain)
                self.at = math.exp(math.log(n) + part * (math.log(later) - math.log(n)))
        if self.at is not None:
            self.verdict = f"CUDA is faster from about n = {_round(self.at):,} on"
        else:
            self.verdict = "CUDA is faster" if known[-1][1] >= 0 else "the CPU is faster"
            self.verdict += f" at n = {known[0][0]:,}" + (f" to {known[-1][0]:,}" if len(known) > 1 else "")


def crossings(book: Book) -> Iterator[Crossing]:
    """Each contestant and case that was measured on both devices of a machine."""
    for machine, result in _latency(book):
        cases: dict[tuple[Any, ...], list[Row]] = {}
        for row in result["rows"]:
            if "median" in row:
                cases.setdefault((row["problem"], *how(row)), []).append(row)
        for rows in cases.values():
            lines = _by_contestant(rows)
            for name, cuda in lines.items():
                base, device = split(name)
                if device is None or not on_cuda(name):
                    continue
                cpu = lines.get(f"{base}@cpu") or [row for row in lines.get(base, []) if _is_cpu(row)]
                if {row["n"] for row in cpu} & {row["n"] for row in cuda}:
                    yield Crossing(machine, base, cpu, cuda)


def has_cuda(book: Book) -> bool:
    """Whether there is any time of an ask on CUDA."""
    return any(not _is_cpu(row) for _, result in _latency(book) for row in result["rows"] if "median" in row)


def _is_cpu(row: Row) -> bool:
    return not on_cuda(row["contestant"]) and not any(device.startswith("cuda") for device in row.get("devices", []))


# --------------------------------------------------------------------------------------------------------- quality


def regret(book: Book) -> Figure | None:
    """Regret against evaluations, a panel a case."""
    return _regret(
        book,
        "regret",
        "Regret against evaluations",
        "evaluations",
        lambda curve: curve.evaluations,
    )


def regret_against_time(book: Book) -> Figure | None:
    """Regret against the seconds spent in the strategy."""
    return _regret(
        book,
        "elapsed",
        "Regret against time in the strategy",
        "seconds in the strategy (ask and tell)",
        lambda curve: curve.elapsed,
    )


def _regret(book: Book, name: str, title: str, x_title: str, x_of: Callable[[Curve], Sequence[float]]) -> Figure | None:
    looks = styles(book.contestants)
    by_time = name == "elapsed"
    found = [
        (book.titled(case, machine), {who: curve for who, curve in curves.items() if x_of(curve)})
        for machine in book.machines
        for case, curves in book.curves(machine).items()
    ]
    found = [(words, curves) for words, curves in found if curves]
    if not found:
        return None

    def panel(title: str, curves: dict[str, Curve]) -> Panel:
        floor = max(curve.floor for curve in curves.values())
        ends = [max(value, floor) for curve in curves.values() for value in (*curve.median, *curve.low, *curve.high)]
        above = [value for value in ends if value > 0] or [1.0]
        span = 0.8 * min(above), 1.25 * max(above)
        few = len(curves) <= MOST_BANDS
        banded = [who for who in curves if few or is_ours(who) or split(who)[0] == OPPONENTS["ax"]]
        whiskers = [who for who in curves if who not in banded]

        def draw(axes: Any) -> None:
            for who, curve in _ours_last(curves):
                style = looks[who]
                points = [
                    (x, *(max(value, floor, span[0]) for value in values))
                    for x, *values in zip(x_of(curve), curve.median, curve.low, curve.high, strict=True)
                    if x > 0
                ]
                x, median, lower, upper = (
                    (list(column) for column in zip(*points, strict=True)) if points else ([],) * 4
                )
                if not x:
                    continue
                if who in banded:
                    axes.fill_between(x, lower, upper, color=style.colour, alpha=0.15, linewidth=0)
                else:
                    beside = x[-1] if by_time else x[-1] + 0.012 * (x[-1] - x[0]) * (1 + whiskers.index(who))
                    axes.vlines(beside, lower[-1], upper[-1], color=style.colour, linewidth=1)
                width = 2.2 if is_ours(who) else 1.4
                axes.plot(x, median, **style.line, linewidth=width, markevery=max(1, len(x) // 5))
            axes.set(yscale="log", ylim=span, xlabel=x_title)
            log_ticks(axes.yaxis, span, lambda value: f"{value:,g}")
            if by_time:
                axes.set_xscale("log")
                log_ticks(axes.xaxis, axes.get_xlim(), seconds, most=5)

        words = [
            f"{label(who)} ends at {curve.median[-1]:.3g} ({curve.low[-1]:.3g} to {curve.high[-1]:.3g})"
            + (f" after {seconds(x_of(curve)[-1])}" if by_time else "")
            for who, curve in curves.items()
        ]
        return Panel(title, f"Regret: {'; '.join(words)}.", draw)

    intervals = dict.fromkeys(curve.interval for _, curves in found for curve in curves.values())
    seeds = sorted({curve.seeds for _, curves in found for curve in curves.values()})
    runs = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    caption = f"Medians of {runs} runs, lower is better; bands and whiskers: {' or '.join(intervals)}. Regrets below a problem's floor are drawn on it."
    if by_time:
        caption += " Without the time in the objective."
    names = dict.fromkeys(who for who in book.contestants for _, curves in found if who in curves)
    return Figure(name, title, caption, [panel(*each) for each in found], _legend(names, looks))


def profiles(book: Book) -> Figure | None:
    """Performance profiles over all problems of a run."""
    looks = styles(book.contestants)
    runs = [run for run in book.of("regret") if run.result.get("profiles")]
    if not runs:
        return None

    def panel(title: str, lines: Mapping[str, Mapping[str, list[float]]]) -> Panel:
        def draw(axes: Any) -> None:
            for who, line in _ours_last(lines):
                style = looks[who].line | {"marker": "None"}
                axes.step(line["tau"], line["share"], where="post", **style)
            span = 1.0, max(max(line["tau"]) for line in lines.values())
            axes.set_xscale("log")
            log_ticks(axes.xaxis, span, lambda value: f"{value:,g}")
            axes.set(ylim=(0, 1.03), xlabel="τ", xlim=span)
            ticks(axes.yaxis, [0, 0.25, 0.5, 0.75, 1], lambda share: f"{100 * share:.0f} %")

        words = [
            f"{label(who)} is the best in {100 * line['share'][0]:.0f} %, within {line['tau'][-1]:,g} times of it in "
            f"{100 * line['share'][-1]:.0f} %"
            for who, line in lines.items()
        ]
        return Panel(title, f"Performance profiles: {'; '.join(words)}.", draw, WIDE, 3.1)

    titles = [book.titled(_of_run(run.result), run.machine) for run in runs]
    names = dict.fromkeys(who for who in book.contestants for run in runs if who in run.result["profiles"])
    return Figure(
        "profiles",
        "Performance profiles",
        "The share of problems and seeds on which a contestant's regret ends at most τ times as high as the best one there; "
        "further up is better. Read a curve against the best, not two against each other.",
        [panel(title, run.result["profiles"]) for title, run in zip(titles, runs, strict=True)],
        _legend(names, looks),
    )


# ---------------------------------------------------------------------------------------------------------- memory


def memory(book: Book) -> Figure | None:
    """Memory of the process over the asks."""
    looks = styles(book.contestants)
    found = []
    for machine in book.machines:
        for result in book.memory(machine):
            rows = [row for row in result["rows"] if "error" not in row]
            if rows:
                found.append((book.titled(f"{result['problem']}, {rows[0]['n']} trials known", machine), rows))
    if not found:
        return None

    def panel(title: str, rows: list[Row]) -> Panel:
        def draw(axes: Any) -> None:
            for row in rows:
                axes.plot(row["at"], row["resident_mb"], **looks[row["contestant"]].line)
            axes.set(title=title, xlabel="asks", ylim=(0, 1.15 * max(max(row["resident_mb"]) for row in rows)))
            axes.xaxis.set_major_formatter(lambda asks, _: f"{asks:,.0f}")
            axes.yaxis.set_major_formatter(lambda mb, _: f"{mb:,.0f} MB")

        words = [
            f"{label(row['contestant'])} {row['resident_mb'][0]:.0f} MB after {row['at'][0]:,} asks, "
            f"{row['resident_mb'][-1]:.0f} MB after {row['at'][-1]:,}"
            for row in rows
        ]
        return Panel(title, f"Memory: {'; '.join(words)}.", draw, WIDE, 2.8)

    names = dict.fromkeys(row["contestant"] for _, rows in found for row in rows)
    caption = "Resident memory of the process; every ask is given up again, so n stays the same."
    return Figure("memory", "Memory over many asks", caption, [panel(*each) for each in found], _legend(names, looks))


FIGURES: dict[str, Callable[[Book], Figure | None]] = {
    "speedups": speedups,
    "time": time_against_n,
    "stages": stage_times,
    "shares": stage_shares,
    "devices": crossover,
    "regret": regret,
    "elapsed": regret_against_time,
    "profiles": profiles,
    "memory": memory,
}
"""All figures by name, which is that of their files too."""


# ----------------------------------------------------------------------------------------------------------- words


def _case(row: Row) -> tuple[Any, ...]:
    return row["problem"], row["n"], *how(row)


def _of_run(result: Row) -> str:
    cases = len({row["problem"] for row in result["rows"]})
    return f"{cases} {'case' if cases == 1 else 'cases'}, {result['seeds']} seeds"


def _slope(growth: Row | None) -> str:
    if growth is None:
        return ""
    between = growth["between_refits"]
    return f": n^{growth['exponent']:.1f}" + ("" if between is None else f", between refits n^{between:.1f}")


def _failed_at(rows: Iterable[Row]) -> str:
    sizes = [f"{row['n']:,}" for row in rows if "error" in row]
    return f" (failed at n = {', '.join(sizes)})" if sizes else ""


def _from_to(points: Sequence[tuple[int, float]]) -> str:
    if not points:
        return "failed"
    return ", ".join(f"{seconds(s)} at n = {n:,}" for n, s in dict.fromkeys((points[0], points[-1])))


def _round(n: float) -> int:
    """To two digits."""
    return int(float(f"{n:.2g}"))


# --------------------------------------------------------------------------------------------------------- plumbing


def _latency(book: Book) -> Iterator[tuple[str, Row]]:
    for machine in book.machines:
        if result := book.latency(machine):
            yield machine, result


def _by_contestant(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each contestant, by n."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["contestant"], []).append(row)
    return {name: sorted(of_name, key=lambda row: row["n"]) for name, of_name in found.items()}


def _ours_last(lines: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Drawn last, they lie on top."""
    return sorted(lines.items(), key=lambda item: is_ours(item[0]))


def _legend(names: Iterable[str], looks: Mapping[str, Style]) -> list[Entry]:
    return [
        Entry(label(name), looks[name].colour, looks[name].marker, "--" if looks[name].dashed else "-")
        for name in names
    ]

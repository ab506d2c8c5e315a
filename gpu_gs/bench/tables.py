"""The tables of the benchmarks' results; ``python -m gpu_gs.bench.tables RESULT.json`` prints them as Markdown."""

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gpu_gs.bench.contestants import label
from gpu_gs.bench.latency import KEPT, MEAN_SHARE, STAGES

WIDTH = 170
"""Columns where the output is no terminal, which would tell its own."""

LEFT = ("problem", "contestant", "target", "against", "not worse")


def show(result: dict[str, Any], stages: bool = False) -> None:
    """Prints the tables of a result; those of the stages of an ask only if wanted."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for table in tables(result, stages):
        console.print(table)
    for row in result["rows"]:
        if "error" in row:
            where = row.get("problem", "") + (f" n={row['n']}" if "n" in row else "")
            print(f"{row['contestant']} {where}: {row['error'].splitlines()[-1]}", file=sys.stderr)


def tables(result: dict[str, Any], stages: bool = False) -> list[Table]:
    return [*TABLES[result["benchmark"]](result), *(_stage_tables(result) if stages else [])]


def markdown(result: dict[str, Any]) -> str:
    """All tables of a result, for the docs."""
    parts = []
    for table in tables(result, stages=result["benchmark"] == "latency"):
        title, caption, table.title, table.caption = table.title, table.caption, None, None
        table.box, table.padding = box.MARKDOWN, (0, 1)
        text = StringIO()
        Console(width=400, color_system=None, file=text).print(table)
        head, rule, *rows = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
        rows = [row for row in rows if not row.startswith("|-")]  # a section's end
        parts.append("\n".join([f"**{title}**", "", head, rule, *rows, *(["", str(caption)] if caption else [])]))
    return "\n\n".join(parts)


def _table(title: str, headings: list[str], caption: str | None = None) -> Table:
    table = Table(
        title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left",
        caption_justify="left",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in LEFT else "right", no_wrap=True)
    return table


def milliseconds(seconds: float) -> str:
    """Three digits or more, so that a ratio of what is shown is the ratio that is meant."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _size(row: dict[str, Any]) -> str:
    unusual = [f"{row['batch']} at once"] if row["batch"] > 1 else []
    unusual += [f"{row['pending']} pending"] if row.get("pending") else []
    unusual += ["stored"] if row.get("storage") else []
    return f"{row['n']} ({', '.join(unusual)})" if unusual else str(row["n"])


# --------------------------------------------------------------------------------------------------------- latency


def _latency_tables(result: dict[str, Any]) -> list[Table]:
    tables = []
    for problem in dict.fromkeys(row["problem"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["problem"] == problem]
        title = f"Milliseconds of an ask, {problem}, {rows[0]['d']} parameters"
        ratios = _table(
            title,
            [
                "n",
                "contestant",
                "threads",
                "asks",
                "median",
                "mean",
                "vs Ax",
                "(mean)",
                "vs Optuna",
                "(mean)",
                "target",
            ],
            f"Ratios of medians, in brackets of means; a target counts as met where the mean reaches "
            f"{100 * MEAN_SHARE:.0f} % of it too.",
        )
        more = _table(
            title,
            [
                "n",
                "contestant",
                "p95",
                "first",
                "ask+tell",
                "best",
                "MB",
                "asks' MB",
                "GPU MB",
                "evaluations",
                "refits",
            ],
        )
        last = None
        for row in rows:
            if last is not None and last != _size(row):
                ratios.add_section()
                more.add_section()
            last = _size(row)
            name = label(row["contestant"])
            if "error" in row:
                ratios.add_row(_size(row), name, "failed")
                continue
            asks = str(row["asks"]) if row["asks"] == row["asks_wanted"] else f"{row['asks']} of {row['asks_wanted']}"
            against = row["against"]
            ratios.add_row(
                _size(row),
                name,
                str(row["threads"]),
                asks,
                milliseconds(row["median"]),
                milliseconds(row["mean"]),
                *(
                    f"{against[key][kind]:.3g}x" if key in against else ""
                    for key in ("ax", "optuna")
                    for kind in ("median", "mean")
                ),
                _targets(row.get("targets", [])),
            )
            more.add_row(
                _size(row),
                name,
                *(milliseconds(row[key]) for key in ("p95", "first", "ask_and_tell", "best_parameterization")),
                f"{row['peak_mb']:.0f}",
                f"{row['asks_mb']:.0f}",
                "" if row["cuda_mb"] is None else f"{row['cuda_mb']:.0f}",
                f"{row['fit_evaluations']:.1f}" if "fit_evaluations" in row else "",
                f"{100 * row['refit_share']:.0f} %" if "refit_share" in row else "",
            )
        tables += [ratios, more]
    if result["growth"]:
        tables.append(_growth_table(result["growth"]))
    return tables


def _targets(targets: list[dict[str, Any]]) -> str:
    words = {None: "not measured", True: "met", False: "NOT met"}
    parts = []
    for target in targets:
        met = target["met"] if target["mean_met"] is None else target["met"] and target["mean_met"]
        name = {"ax": "Ax", "optuna": "Optuna"}.get(target.get("against", ""), "")
        wanted = f"{target['ratio']:g}x {name}" if "ratio" in target else f"under {target['seconds']:g} s"
        parts.append(f"{wanted}: {words[met]}")
    return ", ".join(parts)


def _growth_table(rows: list[dict[str, Any]]) -> Table:
    table = _table(
        "Growth with n: the exponent p of n^p", ["problem", "contestant", "from", "to", "all asks", "between refits"]
    )
    for row in rows:
        table.add_row(
            row["problem"],
            label(row["contestant"]),
            str(row["from"]),
            str(row["to"]),
            f"{row['exponent']:.2f}",
            "" if row["between_refits"] is None else f"{row['between_refits']:.2f}",
        )
    return table


def _stage_tables(result: dict[str, Any]) -> list[Table]:
    """Where the milliseconds go, as medians; Ax's own share is the time of "Ax, random" where that took part."""
    tables = []
    for problem in dict.fromkeys(row["problem"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["problem"] == problem and "median" in row]
        named = {stage for row in rows for stage in row.get("stages", {})}
        names = [stage for stage in (*STAGES, "client", "generate") if stage in named]
        table = _table(
            f"Milliseconds by stage, {problem}",
            ["n", "contestant", "median", *(name.replace("_", " ") for name in names), "kept", "refit"],
            f"Medians of each stage over the asks; kept, refit: medians of the asks with a fit decision in "
            f"{' or '.join(KEPT)}, and of the others.",
        )
        for row in rows:
            of_row = row.get("stages", {})
            table.add_row(
                _size(row),
                label(row["contestant"]),
                milliseconds(row["median"]),
                *(milliseconds(of_row[name]) if name in of_row else "" for name in names),
                *(
                    "" if row.get(key) is None else milliseconds(row[key])
                    for key in ("median_between_refits", "median_of_refits")
                ),
            )
        tables.append(table)
    return tables


# ------------------------------------------------------------------------------------------------- memory, regret


def _memory_tables(result: dict[str, Any]) -> list[Table]:
    table = _table(
        f"Memory over {result['asks']} asks",
        ["contestant", "n", "MB early", "MB at end", "kB an ask", "state early", "state at end"],
    )
    for row in result["rows"]:
        if "error" in row:
            table.add_row(row["contestant"], str(row["n"]), "failed")
            continue
        table.add_row(
            row["contestant"],
            str(row["n"]),
            *(f"{row['resident_mb'][k]:.0f}" for k in (0, -1)),
            f"{row['kb_an_ask']:.1f}",
            *(f"{row['state_bytes'][k]} B" for k in (0, -1)),
        )
    return [table]


def _regret_title(result: dict[str, Any]) -> str:
    """With the lengths of the runs where all are the same; a result made before there were cases holds them itself."""
    lengths = {(case["evaluations"], case["initial"]) for case in result.get("cases", {"": result}).values()}
    if len(lengths) > 1:
        return "Regret at the end of a run"
    ((evaluations, initial),) = lengths
    return f"Regret after {evaluations} evaluations, {initial} of them initial"


def _regret_tables(result: dict[str, Any]) -> list[Table]:
    single = _table(
        _regret_title(result),
        [
            *("problem", "contestant", "median", "worst", "s/eval", "failed"),
            *("vs Ax", "bound", "not worse", "vs Optuna", "bound", "not worse"),
        ],
        "vs: mean difference of log10 regret in decades over paired seeds, negative is better; bound: its one-sided 95 % "
        "upper bound; not worse: the bound is below the margin of 0.3 decades.",
    )
    last = None
    for row in result["rows"]:
        if last not in (None, row["problem"]):
            single.add_section()
        last = row["problem"]
        name = label(row["contestant"]) + (" (kept)" if row.get("kept") else "")
        if "median" not in row:
            single.add_row(row["problem"], name, "failed")
            continue
        single.add_row(
            row["problem"],
            name,
            f"{row['median']:.3g}",
            f"{row['worst']:.3g}",
            f"{row['seconds_per_evaluation']:.3f}",
            str(row["failed"]) if row["failed"] else "",
            *_test(row.get("against_ax")),
            *_test(row.get("against_optuna")),
        )
    pooled = _table(
        "All problems pooled: seeds' means over the problems",
        [
            *("contestant", "failed", "against", "problems", "seeds", "mean", "bound", "not worse"),
            *("spread", "power", "median", "not worse in the median", "better in"),
        ],
        "power: the probability that so many seeds show it at this spread if both are equal; median: of the differences of "
        "all runs; better in: the share of runs with the smaller regret.",
    )
    for row in result["pooled"]:
        for key, opponent in (("ax", "stock Ax"), ("optuna", "Optuna")):
            test = row.get(f"against_{key}")
            if test is None:
                continue
            mean, bound, verdict = _test(test)
            pooled.add_row(
                label(row["contestant"]),
                str(row["failed"]) if row["failed"] else "",
                opponent,
                str(len(test["problems"])),
                str(test["pairs"]),
                mean,
                bound,
                verdict,
                f"{test['spread']:.2f}",
                f"{100 * test['power']:.0f} %",
                f"{test['median_difference']:+.2f}",
                "yes" if test["median_not_worse"] else "no",
                f"{100 * test['better_share']:.0f} %",
            )
    return [single, pooled]


def _test(test: dict[str, Any] | None) -> tuple[str, str, str]:
    if test is None:
        return "", "", ""
    return f"{test['mean_difference']:+.2f}", f"{test['upper_bound']:+.2f}", "yes" if test["not_worse"] else "no"


TABLES = {"latency": _latency_tables, "memory": _memory_tables, "regret": _regret_tables}


def main() -> None:
    for argument in sys.argv[1:]:
        print(markdown(json.loads(Path(argument).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()

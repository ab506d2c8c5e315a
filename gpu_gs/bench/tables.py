"""The tables of the benchmarks' results; ``python -m gpu_gs.bench.tables RESULT.json`` prints them as Markdown."""

import json
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpu_gs.bench.article import article_tables
from gpu_gs.bench.contestants import label, split
from gpu_gs.bench.latency import KEPT, MEAN_SHARE, STAGES
from gpu_gs.bench.regret import FIRST, OPPONENTS
from gpu_gs.bench.traces import agreed
from gpu_gs.bench.words import milliseconds, unusual

WIDTH = 170
"""Columns where the output is no terminal, which would tell its own."""

LEFT = ("problem", "contestant", "target", "against", "not worse", "acquisition")
AGAINST = {**OPPONENTS, FIRST: ""}
"""Keys of comparisons, and with whom they are where an old result does not say; those of today do."""


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
        title=title, caption=None if caption is None else Text(caption), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left",
        caption_justify="left",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in LEFT else "right", no_wrap=True)
    return table


def _size(row: dict[str, Any]) -> str:
    words = unusual(row)
    return f"{row['n']} ({', '.join(words)})" if words else str(row["n"])


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
            f"Ratios of medians and of means, geometric means of the rounds', with 95 % intervals from three rounds on; of "
            f"an accelerated strategy against what it was. A target counts as met where the mean reaches "
            f"{100 * MEAN_SHARE:.0f} % of it too.",
        )
        more = _table(
            f"Tails, memory, fits and acquisition functions of an ask, {problem}, {rows[0]['d']} parameters",
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
                "acquisition",
            ],
            _reasons(rows),
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
            if failed := len(row.get("failed_rounds", {})):
                asks += f", {failed} failed"
            against = row["against"]
            ratios.add_row(
                _size(row),
                name,
                str(row["threads"]),
                asks,
                milliseconds(row["median"]),
                milliseconds(row["mean"]),
                *(
                    _ratio(against[key], kind) if key in against else ""
                    for key in ("ax", "optuna")
                    for kind in ("median", "mean")
                ),
                _targets(row.get("targets", [])),
            )
            more.add_row(
                _size(row),
                name,
                *(
                    "" if row[key] is None else milliseconds(row[key])
                    for key in ("p95", "first", "ask_and_tell", "best_parameterization")
                ),
                f"{row['peak_mb']:.0f}",
                f"{row['asks_mb']:.0f}",
                "" if row["cuda_mb"] is None else f"{row['cuda_mb']:.0f}",
                f"{row['fit_evaluations']:.1f}" if "fit_evaluations" in row else "",
                f"{100 * row['refit_share']:.0f} %" if "refit_share" in row else "",
                ", ".join(row.get("acquisitions", ())),
            )
        tables += [ratios, more]
    if result["growth"]:
        tables.append(_growth_table(result["growth"]))
    return tables


def _ratio(ratio: dict[str, Any], kind: str) -> str:
    """Of medians with its interval, if it has one."""
    interval = ratio.get("interval") if kind == "median" else None
    return f"{ratio[kind]:.3g}x" + ("" if interval is None else " ({:.3g} to {:.3g})".format(*interval))


def _reasons(rows: list[dict[str, Any]]) -> str | None:
    """A caption: why asks of ours could not use a fast part, a sentence for each size; None where all could."""
    said = [
        f"{label(row['contestant'])}, n = {_size(row)}: {'; '.join(row['reasons'])}."
        for row in rows
        if row.get("reasons")
    ]
    return " ".join(said) or None


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


def _regret_tables(result: dict[str, Any]) -> list[Table]:
    """Of a result of today, or of the first ones, which held regrets and tests of the mean only."""
    compared = [table for table in (_compared_table(result), _pooled_table(result)) if table.row_count]
    tables = [_final_table(result), *compared]
    if result.get("targets"):
        tables.append(_target_table(result["targets"]))
    if result.get("equal_time"):
        tables.append(_equal_time_table(result["equal_time"]))
    if result.get("profiles"):
        tables.append(_profile_table(result["profiles"]))
    return tables


def _lengths(result: dict[str, Any]) -> str:
    """The lengths of the runs where all are the same; a result made before there were cases holds them itself."""
    lengths = {(case["evaluations"], case["initial"]) for case in result.get("cases", {"": result}).values()}
    if len(lengths) > 1:
        return "at the end of a run"
    ((evaluations, initial),) = lengths
    return f"after {evaluations} evaluations, {initial} of them initial"


def _final_table(result: dict[str, Any]) -> Table:
    table = _table(
        f"Regret {_lengths(result)}, {result['seeds']} seeds",
        [
            *("problem", "contestant", "median", "95 % interval", "worst", "gaps"),
            *("warm-up s", "s/evaluation", "strategy s", "objective s"),
        ],
        "95 % interval: of the median, bootstrap; gaps: runs that failed, or, of contestants whose runs were made before, are "
        "not there; "
        "warm-up s: before a run, once in its process (imports, calibration, compiling), in none of the others; "
        "s/evaluation: median of an ask plus tell; strategy s, objective s: of a whole run, medians. Seconds of another machine, "
        "or with the warm-up in them, are left out." + "".join(f"\n{line}" for line in _ran(result["rows"])),
    )
    for row in _in_sections(table, result["rows"], "problem"):
        table.add_row(
            row["problem"],
            _name(row),
            *(
                [f"{row['median']:.3g}", _interval(row.get("interval"), "{:.3g}"), f"{row['worst']:.3g}"]
                if "median" in row
                else ["failed" if row["failed"] else "not run", "", ""]
            ),
            _gaps(row),
            *(
                "" if row.get(key) is None else f"{row[key]:.3g}"
                for key in ("warm_up", "seconds_per_evaluation", "strategy_seconds", "objective_seconds")
            ),
        )
    return table


def _ran(rows: list[dict[str, Any]]) -> list[str]:
    """What the contestants' runs ran on, as far as all of them agree; those alike in one line."""
    lines: dict[str, list[str]] = {}
    for name in dict.fromkeys(row["contestant"] for row in rows):
        facts = agreed(row["run"] for row in rows if row["contestant"] == name and row.get("run"))
        threads = facts.get("threads")
        known = [f"commit {facts['commit']}"] if facts.get("commit") else []
        known += [_machine(facts["machine"])] if facts.get("machine") else []
        known += [facts["device"]] if facts.get("device") else []
        known += [f"{threads} thread{'s' if threads > 1 else ''}"] if threads else []
        if known:
            lines.setdefault(", ".join(known), []).append(label(name))
    return [f"{', '.join(names)}: {words}." for words, names in lines.items()]


def _machine(machine: dict[str, Any]) -> str:
    cores = f"{machine['cores']} cores" if machine.get("cores") else ""
    return ", ".join(
        filter(None, [machine.get("processor") or machine.get("machine"), cores, *machine.get("gpus", ())])
    )


def _compared_table(result: dict[str, Any]) -> Table:
    table = _table(
        "Final regrets compared seed by seed, in decades; negative is better",
        [
            *("problem", "contestant", "against", "pairs", "mean", "bound", "not worse", "median"),
            *("95 % interval", "better in", "p", "p adjusted"),
        ],
        "bound: one-sided 95 % upper bound of the mean (Student's t); not worse: it is below the margin of 0.3; 95 % "
        "interval: of the median, bootstrap; "
        "better in: the share of pairs with the smaller regret; p: Wilcoxon's signed-rank test, two-sided; adjusted for the "
        "number of problems (Holm), for each two contestants.",
    )
    for row in _in_sections(table, result["rows"], "problem"):
        for key, opponent in _against(row):
            if test := row.get(f"against_{key}"):
                table.add_row(
                    row["problem"],
                    _name(row),
                    label(test.get("opponent", opponent)),
                    str(test["pairs"]),
                    *_mean(test),
                    *_difference(test),
                    _p(test.get("p_value")),
                    _p(test.get("p_adjusted")),
                )
    return table


def _pooled_table(result: dict[str, Any]) -> Table:
    plan = result.get("plan")
    table = _table(
        "All problems pooled, in decades; negative is better",
        [
            *("contestant", "gaps", "against", "problems", "seeds", "mean", "bound", "not worse", "spread"),
            *("median", "95 % interval", "better in", "p"),
        ],
        "mean, bound, spread, p: of the seeds' means over the problems; median, better in: of all runs; its interval "
        "draws seeds with all their problems."
        + (
            ""
            if plan is None
            else f"\nPlanned: a margin of {plan['margin']:g} is shown with {100 * plan['power']:.0f} % power by "
            f"{plan['pooled']['pairs_needed']} seeds over all problems (expected spread {plan['pooled']['spread']:g}), by "
            f"{plan['problem']['pairs_needed']} on one problem (spread {plan['problem']['spread']:g}); {result['seeds']} "
            f"seeds have {100 * plan['pooled']['power']:.0f} % and {100 * plan['problem']['power']:.0f} %."
        ),
    )
    for row in result["pooled"]:
        for key, opponent in _against(row):
            if test := row.get(f"against_{key}"):
                table.add_row(
                    label(row["contestant"]),
                    _gaps(row),
                    label(test.get("opponent", opponent)),
                    str(len(test["problems"])),
                    str(test["pairs"]),
                    *_mean(test),
                    f"{test['spread']:.2f}",
                    *_difference(test),
                    _p(test.get("p_value")),
                )
    return table


def _target_table(rows: list[dict[str, Any]]) -> Table:
    every = max(row["every"] for row in rows)
    table = _table(
        "Evaluations and seconds to a target",
        ["problem", "contestant", "regret", "runs", "reach it", "evaluations", "strategy s"],
        "regret: the target, the median final one of stock Ax, or where that did not run of the best contestant; evaluations, strategy "
        "s: after these half of the runs had reached it (-: fewer than half do); runs that do not reach it or failed count as "
        "taking forever."
        + (f" Where runs are known every {every} evaluations only, all are looked at so often." if every > 1 else ""),
    )
    for row in _in_sections(table, rows, "case"):
        fewer = row["evaluations"] is None
        table.add_row(
            row["case"],
            label(row["contestant"]),
            f"{row['target']:.3g}",
            str(row["runs"]),
            f"{100 * row['share']:.0f} %",
            "-" if fewer else str(row["evaluations"]),
            "-" if fewer else "" if row["elapsed"] is None else f"{row['elapsed']:.3g}",
        )
    return table


def _equal_time_table(rows: list[dict[str, Any]]) -> Table:
    durations = rows[0]["durations"]
    table = _table(
        "At equal wall-clock time, by the seconds that an evaluation takes",
        [
            *("problem", "contestant", "against", "pairs", "first", "reach it"),
            *(heading for seconds in durations for heading in (f"{seconds:g} s", "sooner")),
        ],
        "N s: median difference of the regrets in decades, negative is better, when the first of the two has finished its "
        "run; first: how often that is the contestant; reach it: how many runs come to the opponent's final regret; sooner: "
        "how many times sooner than the opponent itself, the median (-: half or more do not come there). The evaluations are "
        "taken to be made one after the other; the strategy's seconds are measured.",
    )
    for row in _in_sections(table, rows, "contestant", "against"):
        table.add_row(
            "all of them" if row["case"] is None else row["case"],
            label(row["contestant"]),
            label(row["against"]),
            str(row["pairs"]),
            f"{100 * row['first']:.0f} %",
            f"{100 * row['reached']:.0f} %",
            *(
                cell
                for difference, times in zip(row["difference"], row["speedup"], strict=True)
                for cell in (f"{difference:+.2f}", "-" if times is None else f"{times:.3g}x")
            ),
        )
    return table


def _profile_table(profiles: dict[str, Any]) -> Table:
    shown = (1, 2, 10, 100)
    runs = next(iter(profiles.values()))["runs"]
    table = _table(
        "Runs that end within a factor of the smallest regret of their problem and seed",
        ["contestant", *("smallest" if tau == 1 else f"{tau}x" for tau in shown)],
        f"{runs} runs each, failed ones never within; contestants that took all problems.",
    )
    for name, profile in profiles.items():
        within = [max(k for k, tau in enumerate(profile["tau"]) if tau <= limit * (1 + 1e-9)) for limit in shown]
        table.add_row(label(name), *(f"{100 * profile['share'][k]:.0f} %" for k in within))
    return table


def _in_sections(table: Table, rows: list[dict[str, Any]], *keys: str) -> Iterator[dict[str, Any]]:
    """The rows, with a gap in the table wherever the value of one of the keys changes."""
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and any(before[key] != row[key] for key in keys):
            table.add_section()
        yield row


def _against(row: dict[str, Any]) -> list[tuple[str, str]]:
    """The keys and names of the opponents of a row; stock Ax against Optuna is Optuna against stock Ax, seen once."""
    return [] if split(row["contestant"])[0] == AGAINST["ax"] else list(AGAINST.items())


def _name(row: dict[str, Any]) -> str:
    return label(row["contestant"]) + (" (kept)" if row.get("kept") else "")


def _gaps(row: dict[str, Any]) -> str:
    """Runs that failed, and those of a stored contestant that nobody made; empty without any."""
    words = [f"{row[key]} {key}" for key in ("failed", "missing") if row.get(key)]
    return ", ".join(words)


def _mean(test: dict[str, Any]) -> tuple[str, str, str]:
    verdict = test.get("no_claim") or ("yes" if test["not_worse"] else "no")
    return f"{test['mean_difference']:+.2f}", f"{test['upper_bound']:+.2f}", verdict


def _difference(test: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{test['median_difference']:+.2f}",
        _interval(test.get("interval"), "{:+.2f}"),
        f"{100 * test['better_share']:.0f} %",
    )


def _interval(ends: list[float] | None, form: str) -> str:
    return "" if ends is None else " to ".join(form.format(end) for end in ends)


def _p(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


TABLES = {
    "latency": _latency_tables,
    "memory": _memory_tables,
    "article": article_tables,
    "regret": _regret_tables,
}


def main() -> None:
    for argument in sys.argv[1:]:
        print(markdown(json.loads(Path(argument).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()

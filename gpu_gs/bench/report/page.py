"""report.html: one file, readable on a phone, in the light and in the dark, without a network and without a script."""

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from gpu_gs.bench.contestants import label
from gpu_gs.bench.report.drawing import VARIABLES, Entry, Figure, inline, save
from gpu_gs.bench.report.figures import FIGURES, has_cuda
from gpu_gs.bench.report.findings import NO_CUDA, cards, sentences
from gpu_gs.bench.report.merge import Book, Row, Run, read
from gpu_gs.bench.report.words import case_words
from gpu_gs.bench.runner import make_folder
from gpu_gs.bench.tables import tables

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #5a6472; --line: #d5dae2; --paper: #fff; --desk: #f3f5f8;
  --link: #1f5fbf; --good: #1b7f4b; --bad: #c0392b; --shade: #1c243033; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --quiet: #a3acb9; --line: #3a424e; --paper: #1b2028;
  --desk: #12161c; --link: #7fb0f5; --good: #58c48b; --bad: #f07b6d; --shade: #000a; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--desk); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 8px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 4px; }
h3 { font-size: 1.02rem; margin: 24px 0 2px; }
p { margin: 4px 0; overflow-wrap: anywhere; }
a { color: var(--link); }
.quiet { color: var(--quiet); font-size: .9rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 18px; margin: 16px 0; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 12px 2px 0; font-size: .95rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 16px 0; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 12px 14px; }
.card b { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere; }
.findings { margin: 0; padding-left: 20px; }
.findings li { margin: 6px 0; overflow-wrap: anywhere; }
figure { margin: 0; }
.grid { display: grid; gap: 12px 20px; grid-template-columns: repeat(auto-fill, minmax(min(310px, 100%), 1fr)); }
.grid.wide { display: block; columns: 2 440px; column-gap: 28px; }
.grid > div { min-width: 0; break-inside: avoid; }
.grid.wide > div { padding-bottom: 16px; }
.grid svg { display: block; width: 100%; max-width: 480px; height: auto; stroke-linejoin: round; font-family: inherit; }
.panel { font-weight: 600; font-size: .95rem; margin: 0 0 4px; }
figcaption { margin-bottom: 8px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; list-style: none; padding: 0; margin: 8px 0 12px;
  font-size: .9rem; }
.legend li { display: flex; align-items: center; gap: 6px; }
.legend svg { height: 14px; flex: none; }
.scroll { overflow-x: auto; margin: 6px 0 2px; background: linear-gradient(90deg, var(--paper), var(--paper)) 0 0,
  linear-gradient(90deg, var(--paper), var(--paper)) 100% 0, linear-gradient(90deg, var(--shade), transparent) 0 0,
  linear-gradient(270deg, var(--shade), transparent) 100% 0; background-repeat: no-repeat;
  background-size: 24px 100%, 24px 100%, 12px 100%, 12px 100%; background-attachment: local, local, scroll, scroll; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { color: var(--quiet); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--paper); }
.left { text-align: left; }
.end td, .end th { border-bottom-color: var(--quiet); }
td.good { color: var(--good); } td.bad { color: var(--bad); font-weight: 600; }
details { margin: 12px 0 0; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--desk); padding: 12px; border-radius: 8px; font-size: .82rem; margin: 8px 0; }
code { font-size: .9em; overflow-wrap: anywhere; }
.failures { border-left: 5px solid var(--bad); }
footer { margin: 20px 4px; }
@media (max-width: 600px) { main { padding: 10px; } section { padding: 14px 10px; } h1 { font-size: 1.45rem; }
  th, td { padding: 5px 7px; } .findings { padding-left: 18px; } }
@media print { section { break-inside: avoid-page; } nav { display: none; } }
"""
NUMBER = re.compile(r"[-+–]?[0-9.]|–$")
GOOD, BAD = ("yes", "met"), ("no", "failed")

SHORT = 24
"""Rows of a table that is no burden on a page."""

PLACES: dict[str, tuple[str, tuple[str, ...]]] = {
    "time": ("The time of an ask", ("speedups", "time", "stages", "shares")),
    "devices": ("CPU against CUDA", ("devices",)),
    "quality": ("The quality of a run", ("regret", "elapsed", "profiles")),
    "memory": ("Memory", ("memory",)),
}
"""Sections with figures: anchor, heading, names of the figures."""


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Writes ``report.html``, and ``figures/*.svg`` and ``*.png``, from all results of some folders.

    Args:
        folders: Folders of ``gpu-gs bench``.
        out: Where to write; made if missing.

    Returns:
        The page.

    Raises:
        ConfigError: A folder without results, or a file that is none.
        TaskError: Nothing can be written there.
    """
    book = read(folders)
    drawn = {name: figure for name, draw in FIGURES.items() if (figure := draw(book)) is not None}
    pictures = out / "figures"
    make_folder(pictures)
    for name, figure in drawn.items():
        save(figure, pictures / f"{name}.svg", pictures / f"{name}.png")
    page = out / "report.html"
    page.write_text(_page(book, drawn), encoding="utf-8")
    return page


def _page(book: Book, figures: dict[str, Figure]) -> str:
    sections = {
        "failures": ("Failed runs", _failures(book)),
        **{anchor: (title, _measured(book, anchor, names, figures)) for anchor, (title, names) in PLACES.items()},
        "article": ("The article's findings, measured", _article(book)),
        "environment": ("Where this was measured", _environment(book)),
    }
    sections = {anchor: (title, body) for anchor, (title, body) in sections.items() if body}
    links = "".join(f'<a href="#{anchor}">{html.escape(title)}</a>' for anchor, (title, _) in sections.items())
    body = "\n".join(
        f'<section id="{anchor}"{" class=failures" if anchor == "failures" else ""}><h2>{html.escape(title)}</h2>{body}'
        "</section>"
        for anchor, (title, body) in sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing is loaded from anywhere and nothing runs; a browser says so if something tries.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        '<link rel="icon" href="data:,">'
        f"<title>gpu_gs: benchmark report</title><style>{STYLE}</style></head><body><main>\n"
        f"<header><h1>gpu_gs: benchmark report</h1>{_subtitle(book)}<nav>{links}</nav></header>\n"
        f"{_first_screen(book)}\n{body}\n"
        '<footer class="quiet">Made by <code>gpu-gs report</code> from the results alone; the figures lie beside this page in '
        "<code>figures/</code> as SVG and PNG.</footer></main></body></html>\n"
    )


# ----------------------------------------------------------------------------------------------------------- words


def _subtitle(book: Book) -> str:
    commits = dict.fromkeys(run.environment.get("commit") for run in book.runs)
    dates = sorted({run.at[:10] for run in book.runs if run.at})
    machines = [f"{book.names[each]}: {each}" if book.names else each for each in book.machines]
    parts = [
        " · ".join(machines),
        f"commit {', '.join(commit for commit in commits if commit)}" if any(commits) else "",
        " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
    ]
    return f'<p class="quiet">{html.escape(" · ".join(part for part in parts if part))}</p>'


def _first_screen(book: Book) -> str:
    inner = "".join(
        f'<div class="card"><span class="quiet">{html.escape(name)}</span><b>{html.escape(value)}</b>'
        f'<span class="quiet">{html.escape(note)}</span></div>'
        for name, value, note in cards(book)
    )
    found = "".join(f"<li>{html.escape(words)}</li>" for words in sentences(book))
    return f'<div class="cards">{inner}</div><section id="found"><h2>What was found</h2><ul class="findings">{found}</ul></section>'


def _failures(book: Book) -> str:
    parts = []
    for run, row in book.failures():
        count = row.get("failed")
        where = (
            case_words(row) if "n" in row and "problem" in row else row.get("problem") or run.result.get("problem", "")
        )
        where += f", {row['part']} {row['way']}" if "part" in row else ""
        words = book.titled(f"{label(row['contestant'])}, {where}", run.machine)
        words += f": {count} of {run.result['seeds']} runs" if count else ""
        error = row.get("error") or "The result does not say why; the raw answers beside it do."
        last = error.strip().splitlines()[-1]
        parts.append(
            f"<details><summary>{html.escape(f'{run.section}: {words}')}</summary><pre>{html.escape(error)}</pre></details>"
            f'<p class="quiet">{html.escape(last)}</p>'
        )
    return "".join(parts)


# -------------------------------------------------------------------------------------------------- figures, tables


def _measured(book: Book, anchor: str, names: Sequence[str], figures: dict[str, Figure]) -> str:
    """A section: its figures, then its tables."""
    parts = [_figure(figures[name], figures[name].title != PLACES[anchor][0]) for name in names if name in figures]
    if anchor == "devices" and not parts and book.of("latency"):
        words = "There are no times of the same strategy on both devices." if has_cuda(book) else NO_CUDA
        return f'<p class="quiet">{html.escape(words)}</p>'
    return "".join([*parts, *_tables(book, anchor)])


def _tables(book: Book, anchor: str) -> Iterator[str]:
    """The tables of a section; of the first result the first one is open, and about quality all that are short."""
    results: list[tuple[Row, str]] = []
    for machine in book.machines:
        where = book.names.get(machine, "")
        if anchor == "time" and (latency := book.latency(machine)):
            results.append((latency, where))
        elif anchor == "memory":
            results += [(result, where) for result in book.memory(machine)]
        elif anchor == "quality":
            runs = book.of("regret", machine)[::-1]
            results += [(run.result, ", ".join(filter(None, [where, _which(run, runs)]))) for run in runs]
    for i, (result, where) in enumerate(results):
        for k, table in enumerate(tables(result, stages=result["benchmark"] == "latency")):
            is_short = anchor == "quality" and table.row_count <= SHORT
            yield _table(table, where, i == 0 and (k == 0 or is_short))


def _which(run: Run, runs: Sequence[Run]) -> str:
    """What tells a result from the others of its machine: when it was, or its commit."""
    if len(runs) == 1:
        return ""
    commit = run.environment.get("commit")
    return ", ".join(filter(None, [run.at[:16].replace("T", " "), f"commit {commit}" if commit else "", run.path.name]))


def _figure(figure: Figure, titled: bool) -> str:
    panels = "".join(
        f'<div><p class="panel">{html.escape(panel.title)}</p>{inline(panel, f"{figure.name}{i}")}</div>'
        for i, panel in enumerate(figure.panels)
    )
    wide = " wide" if any(panel.width > 4 for panel in figure.panels) else ""
    legend = "".join(f"<li>{_swatch(entry)}{html.escape(entry.label)}</li>" for entry in figure.legend)
    legend = f'<ul class="legend">{legend}</ul>' if legend else ""
    return (
        f'{f"<h3>{html.escape(figure.title)}</h3>" if titled else ""}<figure data-name="{figure.name}"><figcaption class="quiet">'
        f'{html.escape(figure.caption)}</figcaption>{legend}<div class="grid{wide}">{panels}</div></figure>'
    )


SHAPES = {
    "o": '<circle cx="15" cy="7" r="4"/>',
    "s": '<rect x="11" y="3" width="8" height="8"/>',
    "^": '<path d="M15 2 l5 9 h-10z"/>',
    "v": '<path d="M15 12 l5 -9 h-10z"/>',
    "<": '<path d="M10 7 l9 -5 v10z"/>',
    ">": '<path d="M20 7 l-9 -5 v10z"/>',
    "D": '<path d="M15 2 l5 5 l-5 5 l-5 -5z"/>',
    "P": '<path d="M13 2 h4 v3 h3 v4 h-3 v3 h-4 v-3 h-3 v-4 h3z"/>',
    "X": '<path d="M12 2 l3 3 l3 -3 l2 2 l-3 3 l3 3 l-2 2 l-3 -3 l-3 3 l-2 -2 l3 -3 l-3 -3z"/>',
    "*": '<path d="M15 1 l1.5 4.4 h4.6 l-3.7 2.8 l1.4 4.5 l-3.8 -2.7 l-3.8 2.7 l1.4 -4.5 l-3.7 -2.8 h4.6z"/>',
}
"""The markers of matplotlib, as they look in the page's legends."""


def _swatch(entry: Entry) -> str:
    colour = VARIABLES.get(entry.colour, entry.colour)
    dashes = ' stroke-dasharray="6 3"' if entry.line == "--" else ""
    line = f'<path d="M1 7 h28" stroke="{colour}" stroke-width="2"{dashes}/>' if entry.line else ""
    shape = (
        SHAPES[entry.marker] if entry.marker else "" if line else '<rect x="9" y="1" width="12" height="12" rx="2"/>'
    )
    view = "0 0 30 14" if line else "8 0 14 14"
    return f'<svg viewBox="{view}" aria-hidden="true">{line}<g fill="{colour}">{shape}</g></svg>'


def _table(table: Table, where: str, is_open: bool) -> str:
    """A table of the terminal as one of the page, in a box that scrolls by itself."""
    names = [_plain(column.header) for column in table.columns]
    left = [column.justify == "left" for column in table.columns]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    ends = [row.end_section for row in table.rows]
    body = _rows([[_plain(cell) for cell in row] for row in rows], names, left, ends)
    title = ", ".join(filter(None, [_plain(table.title or ""), where]))
    return _box(title, _plain(table.caption or ""), _head(names, left) + body, is_open)


def _box(title: str, caption: str, inner: str, is_open: bool) -> str:
    words = f'<p class="quiet">{html.escape(caption)}</p>' if caption else ""
    return (
        f"<details{' open' if is_open else ''}><summary>{html.escape(title)}</summary>{words}"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(title)}">'
        f"<table>{inner}</table></div></details>"
    )


def _head(names: Sequence[str], left: Sequence[bool]) -> str:
    cells = "".join(
        f'<th scope="col"{" class=left" if at_left else ""}>{html.escape(name)}</th>'
        for name, at_left in zip(names, left, strict=True)
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _rows(
    rows: Sequence[Sequence[str]], names: Sequence[str], left: Sequence[bool], ends: Sequence[bool] | None = None
) -> str:
    """The row's header is the contestant, in a table without one the first column."""
    header = names.index("contestant") if "contestant" in names else 0
    text = ""
    for i, row in enumerate(rows):
        cells = ""
        for k, value in enumerate(row):
            tag, scope = ("th", ' scope="row"') if k == header else ("td", "")
            kinds = ["left"] if left[k] else []
            kinds += ["good"] if value in GOOD else ["bad"] if value in BAD or "NOT met" in value else []
            kind = f' class="{" ".join(kinds)}"' if kinds else ""
            cells += f"<{tag}{scope}{kind}>{html.escape(value)}</{tag}>"
        text += f"<tr{' class=end' if ends and ends[i] else ''}>{cells}</tr>"
    return f"<tbody>{text}</tbody>"


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell)).plain


def _article(book: Book) -> str:
    parts = []
    for run in book.of("article"):
        for table in run.result["tables"]:
            columns, rows = table["columns"], table["rows"]
            rows = [[_value(value) for value in row] for row in rows]
            left = [any(row[i] and not NUMBER.match(row[i]) for row in rows) for i in range(len(columns))]
            body = _rows(rows, columns, left)
            title = book.titled(table["title"], run.machine)
            parts.append(_box(title, table.get("caption") or "", _head(columns, left) + body, True))
    return "".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)


def _environment(book: Book) -> str:
    names = ["result", "ended", "commit", "machine", "Python", "load", "versions"]
    left = [True, True, True, True, True, False, True]
    rows = []
    for run in book.runs:
        about = run.environment
        versions = ", ".join(f"{name} {version}" for name, version in (about.get("versions") or {}).items())
        load = about.get("load")
        rows.append(
            [
                f"{run.path.parent.name}/{run.path.name}",
                run.at[:16].replace("T", " ") or "–",
                about.get("commit") or "–",
                book.titled(run.machine, run.machine),
                about.get("python") or "–",
                "–" if load is None else f"{load:.1f}",
                versions or "–",
            ]
        )
    note = "load: processes waiting for a core, on average over the minute before"
    parts = [_box("Results", note, _head(names, left) + _rows(rows, names, left), True)]
    for folder in dict.fromkeys(run.path.parent for run in book.runs):
        configuration = folder / "benchmark.yaml"
        if configuration.is_file():
            text = configuration.read_text(encoding="utf-8")
            title = f"Configuration of {folder.name}"
            parts.append(f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>")
    return "".join(parts)

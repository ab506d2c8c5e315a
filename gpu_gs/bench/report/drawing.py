"""How a figure is drawn: panels that a page shows one by one and a file together, in the same colours everywhere.

matplotlib is there wherever Ax is (BoTorch brings it through pymoo); it is loaded only to draw.
"""

import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import colour, on_cuda, split

INK, QUIET, LINE, PAPER = "#1c2430", "#5a6472", "#d5dae2", "#fefefe"
VARIABLES = {INK: "var(--ink)", QUIET: "var(--quiet)", LINE: "var(--line)", PAPER: "var(--paper)"}
"""What the page's style sheet says of these colours inside of it, so that a figure follows dark and light."""

DPI = 150
MOST_COLUMNS = 4
NARROWEST, LEGEND_WIDTH = 6.5, 1.7
"""Inches of a picture with one panel, and of what a legend says of one thing."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


@dataclass(frozen=True)
class Style:
    """How a contestant looks: a colour and a marker of its own, dashes on CUDA."""

    colour: str
    marker: str
    dashed: bool

    @property
    def dashes(self) -> str:
        """matplotlib's name of the line."""
        return "--" if self.dashed else "-"

    @property
    def line(self) -> dict[str, Any]:
        """Arguments for ``Axes.plot``."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dashes}


def styles(names: Sequence[str]) -> dict[str, Style]:
    """The look of each contestant of a report; devices of the same one share colour and marker."""
    bases = list(dict.fromkeys(split(name)[0] for name in names))
    markers = {base: MARKERS[i % len(MARKERS)] for i, base in enumerate(bases)}
    return {name: Style(colour(name), markers[split(name)[0]], on_cuda(name)) for name in names}


@dataclass(frozen=True)
class Entry:
    """A line of a legend: what a line, a marker or (without both) a patch of this colour means."""

    label: str
    colour: str
    marker: str = ""
    line: str = ""


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: Above it, drawn in a file and text in a page, where it can break.
        words: What it shows, for whoever does not see it.
        draw: Draws on matplotlib's axes.
        width: Inches.
        height: Inches.
        bars: Whether the y axis is one of inches, from the top down, so that bars are of one size everywhere.
    """

    title: str
    words: str
    draw: Callable[[Any], None]
    width: float = 3.6
    height: float = 2.9
    bars: bool = False


@dataclass(frozen=True)
class Figure:
    """Panels with a name, a title, a caption and a legend that holds for all of them."""

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]
    legend: Sequence[Entry] = field(default_factory=tuple)


def save(figure: Figure, *targets: Path) -> None:
    """All panels in one picture.

    Args:
        figure: What to draw.
        *targets: The files; their suffix says the format. The same figure is the same file.
    """
    import matplotlib.figure

    columns = min(len(figure.panels), _columns(len(figure.panels)))
    rows = [figure.panels[i : i + columns] for i in range(0, len(figure.panels), columns)]
    heights = [max(panel.height for panel in row) for row in rows]
    width = max(columns * max(panel.width for panel in figure.panels), NARROWEST)
    beside = int(width / LEGEND_WIDTH)
    below = 0.2 * -(-len(figure.legend) // beside)
    with _settings():
        picture = matplotlib.figure.Figure(
            figsize=(width, sum(heights) + below + 0.3),
            layout="constrained",
        )
        axes = picture.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        for row, places, height in zip(rows, axes, heights, strict=True):
            for panel, place in zip(row, places, strict=False):
                panel.draw(place)
                place.set_title(panel.title)
                if panel.bars:
                    place.set_ylim(bottom=place.get_ylim()[0] + height - panel.height)
            for place in places[len(row) :]:
                place.set_axis_off()
        picture.suptitle(figure.title, x=0.01, ha="left", fontweight="bold", color=INK)
        if figure.legend:
            picture.legend(
                handles=[_handle(entry) for entry in figure.legend],
                loc="outside lower left",
                ncols=beside,
                frameon=False,
            )
        picture.draw_without_rendering()
        picture.set_layout_engine("none")  # laid out once, whatever the number of files
        for target in targets:
            is_svg = target.suffix == ".svg"
            picture.savefig(target, dpi=DPI, metadata={"Date": None} if is_svg else {})
            if is_svg:
                lines = target.read_text(encoding="utf-8").splitlines()
                target.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def inline(panel: Panel, prefix: str) -> str:
    """A panel as an SVG element of a page: no identifier twice, colours that follow the page's, no fixed size.

    Args:
        panel: What to draw.
        prefix: Of its identifiers; another one for each panel of a page.
    """
    import matplotlib.figure

    text = StringIO()
    with _settings():
        picture = matplotlib.figure.Figure(figsize=(panel.width, panel.height), layout="constrained")
        panel.draw(picture.subplots())
        picture.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _slim(text.getvalue(), prefix, f"{panel.title}. {panel.words}")


def _columns(count: int) -> int:
    """As square as can be, but no wider than fits on a screen."""
    return min(next(n for n in range(1, count + 1) if n * n >= count), MOST_COLUMNS) if count > 3 else count


def _settings() -> AbstractContextManager[None]:
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "gpu_gs",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.linewidth": 0.6,
        "legend.fontsize": 8.5,
        "legend.handlelength": 2.8,
        "lines.markersize": 4,
        "lines.linewidth": 1.6,
        "grid.color": LINE,
        "axes.edgecolor": LINE,
        "text.color": INK,
        "axes.titlecolor": INK,
        "axes.labelcolor": QUIET,
        "xtick.color": LINE,
        "ytick.color": LINE,
        "xtick.labelcolor": QUIET,
        "ytick.labelcolor": QUIET,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
    }
    return matplotlib.rc_context(settings)


def _handle(entry: Entry) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if not entry.marker and not entry.line:
        return Patch(color=entry.colour, label=entry.label)
    looks: Any = {"marker": entry.marker or "None", "linestyle": entry.line or "None"}
    return Line2D([], [], color=entry.colour, label=entry.label, **looks)


def _slim(text: str, prefix: str, words: str) -> str:
    """matplotlib's file as an element."""
    from html import escape

    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", text).replace("xlink:href", "href")
    # Hundredths of a point in tags are enough; what is between tags is a tick's label.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)  # the page's own
    for fixed, variable in VARIABLES.items():
        text = text.replace(fixed, variable)
    head = re.search(r'viewBox="[^"]*"', text)
    assert head is not None
    body = text[text.index(">") + 1 :]
    body = re.sub(r"\s*\n\s*", "\n", body)
    return f'<svg {head[0]} role="img" aria-label="{escape(words)}">{body.strip()}'


# ------------------------------------------------------------------------------------------------------------ ticks


def ticks(axis: Any, places: Sequence[float], words: Callable[[float], str]) -> None:
    """Ticks at these places and nowhere else, labelled by ``words``."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axis.set_minor_locator(NullLocator())


def log_ticks(axis: Any, span: tuple[float, float], words: Callable[[float], str], most: int = 7) -> None:
    """Round numbers along a logarithmic axis: as many as there is room for, three at least."""
    powers = range(math.floor(math.log10(span[0])), math.ceil(math.log10(span[1])) + 1)
    places: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), [k / 20 for k in range(20, 200)]):
        places = [digit * 10.0**power for power in powers for digit in digits]
        places = [float(f"{place:.3g}") for place in places if span[0] <= place <= span[1]]
        if len(places) >= 3:
            break
    step = -(-len(places) // most)
    ticks(axis, places[::step], words)


def apart(sizes: Sequence[int]) -> list[int]:
    """Of these sizes those whose labels do not touch on a logarithmic axis: the first, the last, and what fits between."""
    room = math.log(sizes[-1] / sizes[0]) / 7
    kept = [sizes[0]]
    for n in sizes[1:-1]:
        if math.log(n / kept[-1]) >= room and math.log(sizes[-1] / n) >= room:
            kept.append(n)
    return [*kept, sizes[-1]] if len(sizes) > 1 else kept

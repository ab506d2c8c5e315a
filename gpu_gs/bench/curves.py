"""The time of an ask against n, log-log: ``python -m gpu_gs.bench.curves latency.json picture.svg [picture.png]``.

matplotlib is there wherever Ax is (BoTorch brings it through pymoo); it is loaded only to draw.
"""

import json
import sys
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import label, on_cuda, split

COLOURS = {"reference": "#e15759", "optuna": "#f28e2b", "random": "#bab0ac", "ax-random": "#9c755f"}
OURS = ("#4e79a7", "#59a14f", "#b07aa1", "#76b7b2")
SIZES = (25, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000, 20_000)


def draw(result: dict[str, Any], *targets: Path) -> None:
    """A panel a problem, a line a contestant, its growth exponent in the legend; CUDA is dashed.

    Args:
        result: What ``bench_latency`` returned.
        *targets: The files; their suffix says the format.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    rows = [row for row in result["rows"] if "median" in row and row["batch"] == 1 and not row.get("pending")]
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    names = list(dict.fromkeys(row["contestant"] for row in rows))
    exponents = {(row["problem"], row["contestant"]): row for row in result["growth"]}
    bases = list(dict.fromkeys(split(name)[0] for name in names if split(name)[0] not in COLOURS))
    colours = {**{base: OURS[i % len(OURS)] for i, base in enumerate(bases)}, **COLOURS}
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "gpu_gs", "font.family": "sans-serif", "font.size": 10}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.2 * max(len(problems), 1), 5.2), layout="constrained")
        panels = figure.subplots(1, max(len(problems), 1), squeeze=False, sharey=True)[0]
        for panel, problem in zip(panels, problems, strict=False):
            shown = set()
            for name in names:
                mine = sorted((r for r in rows if (r["problem"], r["contestant"]) == (problem, name)), key=_n)
                if not mine:
                    continue
                shown |= {row["n"] for row in mine}
                growth = exponents.get((problem, name))
                words = label(name)
                if growth is not None:
                    words += f": n^{growth['exponent']:.1f}"
                    if growth["between_refits"] is not None:
                        words += f", between refits n^{growth['between_refits']:.1f}"
                panel.plot(
                    [row["n"] for row in mine],
                    [1e3 * row["median"] for row in mine],
                    color=colours[split(name)[0]],
                    linestyle="--" if on_cuda(name) else "-",
                    marker="o",
                    markersize=4,
                    label=words,
                )
            panel.set(xscale="log", yscale="log", title=f"{problem}, {_d(rows, problem)} parameters")
            panel.set_xlabel("trials known, n")
            panel.xaxis.set_major_locator(FixedLocator([n for n in SIZES if n in shown] or sorted(shown)))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:,.0f} ms" if ms >= 1 else f"{ms:g} ms"))
            panel.grid(True, color="#dddddd", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
            panel.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))
        panels[0].set_ylabel("median time of an ask")
        for target in targets:
            metadata = {"Date": None} if target.suffix == ".svg" else {}
            figure.savefig(target, dpi=150, metadata=metadata)
            if target.suffix == ".svg":
                lines = target.read_text(encoding="utf-8").splitlines()
                target.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def _n(row: dict[str, Any]) -> int:
    return int(row["n"])


def _d(rows: list[dict[str, Any]], problem: str) -> int:
    return next(int(row["d"]) for row in rows if row["problem"] == problem)


def main() -> None:
    source, *targets = (Path(argument) for argument in sys.argv[1:])
    draw(json.loads(source.read_text(encoding="utf-8")), *targets)


if __name__ == "__main__":
    main()

"""The stage times of ``gpu-gs bench latency`` as an SVG: ``python -m gpu_gs.bench.picture latency.json picture.svg``."""

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

from gpu_gs.bench.contestants import label

COLOURS = {
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
    "other": "#d7d7d7",
}
"""A colour for each stage; stock Ax times all of set-up, raw samples and optimization as one, "generate"."""

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 860, 150, 150, 22, 10, 40
FONT = 'font-family="system-ui, sans-serif" font-size="13"'


def picture(result: dict[str, Any]) -> str:
    """Stacked bars, one for each contestant, problem and size, each size on its own scale.

    Args:
        result: What ``bench_latency`` returned.
    """
    done = [row for row in result["rows"] if "median" in row]
    parts: list[str] = []
    y = TOP
    used: list[str] = []
    for case in dict.fromkeys(map(_case, done)):
        problem, n, batch, pending = case
        rows = [row for row in done if _case(row) == case]
        scale = (WIDTH - LEFT - RIGHT) / max(row["median"] for row in rows)
        words = f"{problem}, n = {n}" + (f", {batch} candidates at once" if batch > 1 else "")
        words += f", {pending} other trials pending" if pending else ""
        parts.append(f'<text x="10" y="{y + 4}" {FONT} font-weight="600" fill="#333">{escape(words)}</text>')
        y += 14
        for row in rows:
            name = label(row["contestant"])
            parts.append(
                f'<text x="{LEFT - 8}" y="{y + 15}" {FONT} text-anchor="end" fill="#333">{escape(name)}</text>'
            )
            stages = row.get("stages") or {"other": row["median"]}
            share = row["median"] / max(sum(stages.values()), 1e-12)  # medians of parts need not add up to the median
            x = float(LEFT)
            for stage, seconds in stages.items():
                width = seconds * share * scale
                if width < 0.2:
                    continue
                used.append(stage)
                title = f"<title>{escape(stage)}: {1e3 * seconds:.1f} ms</title>"
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[stage]}">{title}</rect>'
                )
                x += width
            time = f"{1e3 * row['median']:.0f} ms"
            faster = row.get("against", {}).get("ax", {}).get("median", 1.0)
            if faster != 1.0:
                time += f" ({faster:.1f}x faster)"
            parts.append(f'<text x="{x + 6:.1f}" y="{y + 15}" {FONT} fill="#333">{time}</text>')
            y += BAR + GAP
        y += 14
    x = 10
    for stage in [stage for stage in COLOURS if stage in used]:
        text = stage.replace("_", " ")
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLOURS[stage]}"/>')
        parts.append(f'<text x="{x + 16}" y="{y + 11}" {FONT} fill="#333">{text}</text>')
        x += 28 + 7 * len(text)
    title = "Median time of an ask, by stage"
    head = f'<text x="10" y="20" {FONT} font-weight="600" fill="#111">{escape(title)}</text>'
    height = y + 26
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            head,
            *parts,
            "</svg>",
        ]
    )


def _case(row: dict[str, Any]) -> tuple[str, int, int, int]:
    return row["problem"], row["n"], row["batch"], row.get("pending", 0)


def main() -> None:
    source, target = (Path(argument) for argument in sys.argv[1:])
    target.write_text(picture(json.loads(source.read_text(encoding="utf-8"))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

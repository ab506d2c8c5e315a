"""One figure of some results: ``python -m gpu_gs.bench.report FIGURE RESULT.json... PICTURE.svg...``."""

import sys
from pathlib import Path

from gpu_gs.bench.report.drawing import save
from gpu_gs.bench.report.figures import FIGURES
from gpu_gs.bench.report.merge import read
from gpu_gs.config import closest


def main(arguments: list[str]) -> None:
    """Draws it.

    Args:
        arguments: The figure's name; files of results, or folders with some; pictures to write, which end in .svg or .png.
    """
    if not arguments or arguments[0] not in FIGURES:
        name = arguments[0] if arguments else ""
        sys.exit(f"report: figure: {name!r} is unknown{closest(name, FIGURES)}; allowed: {', '.join(FIGURES)}")
    name, *paths = arguments
    pictures = [Path(path) for path in paths if Path(path).suffix in (".svg", ".png")]
    figure = FIGURES[name](read([Path(path) for path in paths if Path(path) not in pictures]))
    if figure is None:
        sys.exit(f"report: figure: {name}: these results hold nothing for it")
    save(figure, *pictures)


if __name__ == "__main__":
    main(sys.argv[1:])

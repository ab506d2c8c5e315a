"""How a report says times, ratios and cases."""

from gpu_gs.bench import words
from gpu_gs.bench.report.merge import Row


def seconds(value: float) -> str:
    """A time in words, two or three digits."""
    if value < 1e-3:
        return f"{1e3 * value:.2g} ms"
    if value < 1:
        return f"{1e3 * value:.0f} ms" if value >= 0.01 else f"{1e3 * value:.3g} ms"
    return f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def times(ratio: float) -> str:
    """``34x``, ``2.4x``."""
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def case_words(row: Row) -> str:
    """``hartmann6, n = 200, 8 at once``."""
    return f"{row['problem']}, {size_words(row)}"


def size_words(row: Row) -> str:
    """The same without the problem."""
    return f"n = {row['n']:,}{unusual(row)}"


def unusual(row: Row) -> str:
    """What is unusual about the asks, behind commas; empty where nothing is."""
    return "".join(f", {each}" for each in words.unusual(row))

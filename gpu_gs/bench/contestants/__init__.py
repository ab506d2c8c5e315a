"""Optimizers behind one small interface: start with known points, ask, tell.

Adding one is one small file here: a subclass of ``Contestant`` and a tuple ``ENTRIES`` that describes it.
"""

from gpu_gs.bench.contestants.ax import AxContestant
from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.contestants.random_search import RandomContestant
from gpu_gs.bench.contestants.registry import (
    ENTRIES,
    OTHERS,
    before_accelerate,
    build,
    colour,
    is_ours,
    is_strategy,
    label,
    missing,
    names,
    on_cuda,
    problems_with,
    python_of,
    setup,
    short,
    split,
    unsuited,
    versions_of,
)

__all__ = [
    "ENTRIES",
    "OTHERS",
    "AxContestant",
    "Contestant",
    "Entry",
    "Outcomes",
    "RandomContestant",
    "before_accelerate",
    "build",
    "colour",
    "is_ours",
    "is_strategy",
    "label",
    "missing",
    "names",
    "on_cuda",
    "problems_with",
    "python_of",
    "setup",
    "short",
    "split",
    "unsuited",
    "versions_of",
]

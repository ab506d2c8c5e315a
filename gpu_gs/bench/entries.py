"""Who and what takes part in a benchmark."""

import sys

from gpu_gs.bench.contestants import missing, problems_with, short, unsuited
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.config import closest
from gpu_gs.errors import ConfigError


def validate(problems: list[str], contestants: list[str]) -> list[str]:
    """The contestants that can take part here.

    Raises:
        ConfigError: An unknown problem or contestant.
    """
    wrong = [
        f"bench: problem: {name!r} is unknown{closest(name, PROBLEMS)}; allowed: {', '.join(sorted(PROBLEMS))}"
        for name in problems
        if name not in PROBLEMS
    ]
    wrong += [reason for name in contestants for reason in problems_with(name)]
    named = [short(name) for name in dict.fromkeys(contestants)]
    wrong += [
        f"bench: contestant: two are called {name!r}" for name in sorted({x for x in named if named.count(x) > 1})
    ]
    if wrong:
        raise ConfigError(wrong)
    present = []
    for name in dict.fromkeys(contestants):
        if reason := missing(name):
            print(f"skipped {name}: {reason}", file=sys.stderr)
        else:
            present.append(name)
    return present


def suited(problem: str, contestants: list[str]) -> list[str]:
    """The contestants that can take this problem; says of the others why not."""
    present = []
    for name in contestants:
        if reason := unsuited(name, PROBLEMS[problem]):
            print(f"skipped {name} on {problem}: {reason}", file=sys.stderr)
        else:
            present.append(name)
    return present

"""Who and what takes part in a benchmark: checked before anything runs."""

from collections.abc import Callable, Iterator, Sequence

from gpu_gs.bench.contestants import OTHERS, missing, on_cuda, problems_with, short, split, unsuited
from gpu_gs.bench.plan import BenchmarkConfig
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.runner import gpus
from gpu_gs.config import closest
from gpu_gs.errors import ConfigError


def contestants_of(config: BenchmarkConfig, say: Callable[[str], None]) -> list[str]:
    """The contestants that can take part here, each strategy on each of the devices.

    Args:
        config: What shall run.
        say: Gets a line for each contestant that is left out, of all problems or of one, with the reason.

    Raises:
        ConfigError: An unknown problem or contestant, or nobody is left.
    """
    names = list(dict.fromkeys(_on_devices(config)))
    wrong = [
        f"bench: problem: {name!r} is unknown{closest(name, PROBLEMS)}; allowed: {', '.join(sorted(PROBLEMS))}"
        for name in config.problems
        if name not in PROBLEMS
    ]
    wrong += [reason for name in config.contestants for reason in problems_with(name)]
    named = [short(name) for name in names]
    wrong += [
        f"bench: contestant: two are called {name!r}" for name in sorted({x for x in named if named.count(x) > 1})
    ]
    if wrong:
        raise ConfigError(wrong)
    present = []
    for name in names:
        if reason := _absent(name):
            say(f"skipped {name}: {reason}")
        else:
            present.append(name)
    if not present:
        raise ConfigError([f"bench: contestants: none of {', '.join(names)} can take part here"])
    for problem in config.problems:
        for name in present:
            if reason := unsuited(name, PROBLEMS[problem]):
                say(f"skipped {name} on {problem}: {reason}")
    return present


def _on_devices(config: BenchmarkConfig) -> Iterator[str]:
    if config.devices is None:
        yield from config.contestants
        return
    devices: Sequence[str] = (
        ["cpu", *(["cuda"] if gpus() else [])] if config.devices == "found" else list(config.devices)
    )
    for name in config.contestants:
        base, device = split(name)
        if device is not None or base in OTHERS:
            yield name
            continue
        for where in devices:
            # Stock Ax is on the CPU unless told otherwise: there it keeps its plain name.
            yield name if (base, where) == ("reference", "cpu") else f"{name}@{where}"


def _absent(name: str) -> str | None:
    if on_cuda(name) and not gpus():
        return "there is no usable GPU here (gpu-gs doctor says why)"
    return missing(name)

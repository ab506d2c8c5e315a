"""Contestants by name.

A name is that of an entry of this package, ``reference`` (stock Ax), or a preset or YAML file of gpu_gs; the strategies
take a device behind an @: ``fast@cpu``, ``reference@cuda``.
"""

import pkgutil
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from gpu_gs.bench.contestants.ax import AxContestant
from gpu_gs.bench.contestants.base import Contestant, Entry
from gpu_gs.bench.environments import Environment
from gpu_gs.bench.problems import Problem
from gpu_gs.config import StrategyConfig, closest, load_config, presets
from gpu_gs.device import DEVICE_PATTERN
from gpu_gs.errors import ConfigError, EnvironmentSetupError

PACKAGE = "gpu_gs.bench.contestants"


def discover(folder: Path = Path(__file__).parent, package: str = PACKAGE) -> dict[str, Entry]:
    """The entries of all modules of a package, by name.

    Raises:
        ValueError: Two have the same name.
    """
    found: dict[str, Entry] = {}
    for module in pkgutil.iter_modules([str(folder)]):
        if module.name == "registry":
            continue
        for entry in getattr(import_module(f"{package}.{module.name}"), "ENTRIES", ()):
            if entry.name in found:
                raise ValueError(f"two contestants are called {entry.name!r}")
            found[entry.name] = entry
    return found


STOCK_AX = "#d55e00"
OURS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9")
"""Colours of gpu_gs's strategies; ``fast`` has the first."""

ENTRIES = discover()
OTHERS = tuple(ENTRIES)
"""Contestants that are no strategy of gpu_gs."""


def split(name: str) -> tuple[str, str | None]:
    """``fast@cuda`` as (``fast``, ``cuda``); a file's name is left as it is."""
    base, at, device = name.rpartition("@")
    return (base, device) if at and not Path(name).is_file() else (name, None)


def build(name: str) -> Contestant:
    """A contestant by its name."""
    if name in ENTRIES:
        return ENTRIES[name].build()
    base, device = split(name)
    return AxContestant(base, {} if device is None else {"device": device})


def on_cuda(name: str) -> bool:
    """Whether a contestant demands CUDA, as far as its name says."""
    base, device = split(name)
    return base == "cuda" if device is None else device.startswith("cuda")


def is_strategy(name: str) -> bool:
    """Whether it is a strategy under Ax's Client: stock Ax or one of gpu_gs."""
    return split(name)[0] not in OTHERS


def before_accelerate(name: str) -> str | None:
    """The contestant that ``accelerated-...`` was before; None for others."""
    kind, dash, rest = name.partition("-")
    return f"ax-{rest}" if kind == "accelerated" and dash else None


def is_ours(name: str) -> bool:
    return is_strategy(name) and split(name)[0] != "reference"


def names() -> tuple[str, ...]:
    """All contestants that are no strategy of gpu_gs."""
    return OTHERS


def label(name: str) -> str:
    """How tables and pictures call the contestant of this short name."""
    base, device = split(name)
    where = "" if device is None else f" on {device.upper()}"
    if base == "reference":
        return f"stock Ax{where}"
    return ENTRIES[base].label if base in ENTRIES else f"gpu_gs {base}{where}"


def colour(name: str) -> str:
    """Its colour in pictures, as #rrggbb; that of a strategy is the same on all devices."""
    base = short(split(name)[0])
    if base == "reference":
        return STOCK_AX
    if base in ENTRIES:
        return ENTRIES[base].colour
    shipped = [preset for preset in presets("strategies") if preset != "reference"]
    shipped.sort(key=lambda preset: preset != "fast")
    place = shipped.index(base) if base in shipped else zlib.crc32(base.encode())
    return OURS[place % len(OURS)]


def short(name: str) -> str:
    """A contestant in results: a file without its folder and suffix, ``adaptive@cpu`` for ``my/adaptive.yaml@cpu``."""
    base, device = split(name)
    stem = Path(base).stem if Path(base).is_file() else base
    return stem if device is None else f"{stem}@{device}"


def unsuited(name: str, problem: Problem) -> str | None:
    """Why a contestant cannot take part in this problem; None if it can."""
    return ENTRIES[name].suits(problem) if name in ENTRIES else None


def python_of(name: str) -> str | None:
    """The interpreter of a contestant's own environment; None where it runs in ours."""
    environment = _environment(name)
    return str(environment.python) if environment is not None and environment.is_current() else None


def versions_of(name: str) -> dict[str, str]:
    """The packages, with their versions, that only a contestant's own environment has; empty where it runs in ours."""
    environment = _environment(name)
    return environment.versions() if environment is not None and environment.is_current() else {}


def missing(name: str) -> str | None:
    """Why a contestant cannot take part here; None if it can."""
    environment = _environment(name)
    if environment is None or environment.is_current():
        return None
    reason = environment.lacks_here()
    if reason is None:
        return None
    if environment.versions():
        reason += ", and its environment is of another gpu_gs or Python, or of other requirements"
    extra = ENTRIES[name].extra
    by_pip = "" if extra is None else f" or pip install 'gpu-gs[{extra}]'"
    return f"{reason} (gpu-gs bench --setup {name}{by_pip})"


def setup(wanted: Sequence[str], say: Callable[[str], None]) -> None:
    """Installs what these contestants need, each into its environment; all that need one if none is named.

    Args:
        wanted: Names of contestants.
        say: Gets a line for each step.

    Raises:
        ConfigError: A name is unknown, or that of a contestant that needs no environment.
        EnvironmentSetupError: Some environments could not be set up; the others were.
    """
    allowed = [name for name in ENTRIES if _environment(name) is not None]
    wrong = []
    for name in wanted:
        if name not in allowed:
            reason = "is unknown" if problems_with(name) else "needs no environment"
            hint = f"{closest(name, allowed)}; allowed: {', '.join(allowed)}"
            wrong.append(f"bench: setup: {name!r} {reason}{hint}")
    if wrong:
        raise ConfigError(wrong)
    failed = []
    for environment in dict.fromkeys(ENTRIES[name].environment for name in wanted or allowed):
        assert environment is not None
        try:
            environment.set_up(say)
        except EnvironmentSetupError as error:
            failed.append(str(error))
    if failed:
        raise EnvironmentSetupError("\n".join(failed))


def _environment(name: str) -> Environment | None:
    return ENTRIES[name].environment if name in ENTRIES else None


def problems_with(name: str) -> list[str]:
    """Why this is no contestant's name; empty if it is one."""
    base, device = split(name)
    allowed = [*OTHERS, *presets("strategies")]
    if base not in allowed and not Path(base).is_file():
        hint = f"{closest(base, allowed)}; allowed: {', '.join(allowed)}, or a YAML file"
        return [f"bench: contestant: {name!r} is unknown{hint}"]
    if device is not None and base in OTHERS:
        return [f"bench: contestant: {name!r}: {base} is no strategy, and takes no device"]
    if device is not None and not DEVICE_PATTERN.fullmatch(device):
        return [f"bench: contestant: {name!r}: a strategy can be followed by @cpu, @cuda, @cuda:N or @auto"]
    if Path(base).is_file():
        if Path(base).stem in (*OTHERS, "reference"):
            return [f"bench: contestant: {name!r}: give the file another name, {Path(base).stem} is someone else's"]
        try:
            load_config(StrategyConfig, base)
        except ConfigError as error:
            return error.problems
    return []

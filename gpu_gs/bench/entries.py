"""Who and what takes part in a benchmark: checked before anything runs."""

from collections.abc import Callable, Iterator, Sequence

from gpu_gs.bench.contestants import is_strategy, missing, on_cuda, problems_with, short, split, unsuited
from gpu_gs.bench.plan import BenchmarkConfig
from gpu_gs.bench.problems import PROBLEMS, missing_problem, reason_against_data, unknown_problem
from gpu_gs.bench.runner import gpus
from gpu_gs.errors import ConfigError, DeviceUnavailableError


def who_takes_part(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[str], BenchmarkConfig]:
    """The contestants that can take part here, each strategy on each of the devices; and the cases that can run here.

    Args:
        config: What shall run.
        say: Gets a line for each contestant or problem that is left out, with the reason.

    Raises:
        ConfigError: An unknown problem or contestant, a strategy with a mistake, or nothing is left to do.
        DeviceUnavailableError: Nothing is left to do, or no strategy where devices are given, for want of a GPU.
    """
    names = list(dict.fromkeys(_on_devices(config)))
    wrong = [reason for name in config.problems for reason in unknown_problem(name)]
    wrong += [reason for name in config.contestants for reason in problems_with(name)]
    named = [short(name) for name in names]
    wrong += [
        f"bench: contestant: two are called {name!r}; give one of the files another name"
        for name in sorted({x for x in named if named.count(x) > 1})
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
        text = f"bench: contestants: none of {', '.join(names)} can take part here"
        if all(map(on_cuda, names)):
            raise DeviceUnavailableError(f"{text}: {_absent(names[0])}")
        raise ConfigError([text])
    if isinstance(config.devices, tuple) and any(map(is_strategy, names)) and not any(map(is_strategy, present)):
        raise DeviceUnavailableError(f"bench: device: no strategy can run on {', '.join(config.devices)} here")
    if config.article is not None and not any(is_strategy(name) for name in present):
        raise ConfigError(["bench: article: contestants: there is no strategy under Ax among them, such as reference"])
    absent = {name: reason for name in config.problems if (reason := missing_problem(name)) is not None}
    for name, reason in absent.items():
        say(f"skipped {name}: {reason}")
    wrong = [
        f"bench: latency: cases: {case.problem}: data: {case.data}: {reason}"
        for case in (config.latency.cases if config.latency else ())
        if case.data
        and case.problem not in absent
        and (reason := reason_against_data(PROBLEMS[case.problem], case.data))
    ]
    if wrong:
        raise ConfigError(wrong)
    if absent:
        if len(absent) == len(config.problems):
            raise ConfigError([f"bench: problem: {name}: {reason}" for name, reason in absent.items()])
        config = config.only([name for name in config.problems if name not in absent])
    for problem in config.problems:
        for name in present:
            if reason := unsuited(name, PROBLEMS[problem]):
                say(f"skipped {name} on {problem}: {reason}")
    return present, config


def _on_devices(config: BenchmarkConfig) -> Iterator[str]:
    if config.devices is None:
        yield from config.contestants
        return
    devices: Sequence[str] = (
        ["cpu", *(["cuda"] if gpus() else [])] if config.devices == "found" else list(config.devices)
    )
    for name in config.contestants:
        base, device = split(name)
        if device is not None or not is_strategy(name):
            yield name
            continue
        for where in devices:
            # Stock Ax is on the CPU unless told otherwise: there it keeps its plain name.
            yield name if (base, where) == ("reference", "cpu") else f"{name}@{where}"


def _absent(name: str) -> str | None:
    if on_cuda(name) and not gpus():
        return "there is no usable GPU here (gpu-gs doctor says why)"
    return missing(name)

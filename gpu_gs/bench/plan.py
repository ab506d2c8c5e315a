"""Configurations of the benchmarks: what ``gpu-gs bench NAME`` runs, from YAML.

A configuration has sections, each of them optional: asks that are timed (``latency``), whole runs (``regret``), memory
(``memory``) and the findings of the article (``article``). All their contestants and problems are checked before
anything runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from gpu_gs.bench.cases import Case, DataKind
from gpu_gs.config import ConfigModel, Kind, closest, load_config
from gpu_gs.device import ALLOWED_DEVICES, DEVICE_PATTERN
from gpu_gs.errors import ConfigError

Count = StrictInt
Threads = Annotated[tuple[Annotated[Count, Field(ge=1)], ...], Field(min_length=1)] | None


class LatencyCase(ConfigModel):
    """Asks on one problem, from each of some numbers of evaluations on."""

    problem: str = Field(description="A problem's name, such as hartmann6.")
    n: tuple[Count, ...] = Field(min_length=1, description="Evaluations known at the first ask; a size each.")
    batch: Count = Field(default=1, ge=1, description="Candidates of an ask.")
    pending: Count = Field(default=0, ge=0, description="Other trials that run during each ask.")
    cuda_only: StrictBool = Field(default=False, description="Whether only contestants on CUDA run it.")
    storage: StrictBool = Field(default=False, description="Whether Ax stores every trial in an SQLite file.")
    data: DataKind | None = Field(
        default=None,
        description="What the strategies are told besides one value of each metric: known_noise (the problem's noise, as "
        "a standard error), missing_metrics (every fourth trial lacks the last one), curves (learning curves of three "
        "values), batch_trials (n in batch trials with weights); null: nothing.",
    )

    @model_validator(mode="after")
    def _sizes_are_possible(self) -> Self:
        if wrong := [n for n in self.n if n < 2]:
            raise ValueError(f"n: {wrong[0]} is too small; allowed: whole numbers of at least 2")
        return self


class LatencySection(ConfigModel):
    """Seconds of an ask."""

    cases: tuple[LatencyCase, ...] = Field(min_length=1, description="What is asked.")
    asks: Count = Field(default=20, ge=1, description="Asks timed at each size in a round, after one that is not.")
    rounds: Count = Field(
        default=1,
        ge=1,
        description="Times that all contestants of a case are timed in turn, each from initial points of another seed; "
        "from three on, ratios have intervals.",
    )
    threads: Threads = Field(
        default=None, description="Thread counts to try, the best one counts; null: one and all cores of this process."
    )
    limit: float = Field(
        default=600.0,
        ge=0,
        description="Seconds of a round after which a contestant times no further ask, three at least.",
    )
    seed: StrictInt = Field(default=0, ge=0, description="Seed of the initial points; of the next round, one more.")


class RegretCase(ConfigModel):
    """Whole runs on one problem."""

    problem: str = Field(description="A problem's name, such as hartmann6.")
    evaluations: Count = Field(default=60, ge=2, description="Evaluations of a run.")
    initial: Count = Field(default=10, ge=1, description="Of these, Sobol points that all contestants share.")
    batch: Count = Field(default=1, ge=1, description="Candidates of an ask, all told before the next one.")
    pending: Count = Field(default=0, ge=0, description="Other trials that run during each ask.")

    @model_validator(mode="after")
    def _something_is_asked(self) -> Self:
        if self.initial >= self.evaluations:
            raise ValueError(
                f"initial: {self.initial} leaves nothing to ask; allowed: less than evaluations, {self.evaluations}"
            )
        return self

    def case(self) -> Case:
        return Case(self.problem, self.evaluations, self.initial, self.batch, self.pending)


class RegretSection(ConfigModel):
    """Regret of whole runs, paired by seed."""

    cases: tuple[RegretCase, ...] = Field(min_length=1, description="What is run.")
    seeds: Count = Field(default=20, ge=1, description="Runs of each contestant on each case: the seeds 0, 1, ...")
    workers: Annotated[Count, Field(ge=1)] | None = Field(
        default=None, description="Runs at a time, one thread each; null: as many as cores."
    )
    limit: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Seconds after which a run is ended, its warm-up included, and has failed; null: never.",
    )
    references: tuple[str, ...] = Field(
        default=(), description="regret.json or regret.jsonl files with runs of other contestants made before."
    )

    @model_validator(mode="after")
    def _cases_can_be_told_apart(self) -> Self:
        names = [each.case().name for each in self.cases]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"cases: {', '.join(twice)} is there twice; allowed: one case for each problem, batch and pending, of "
                "one number of evaluations"
            )
        return self


class MemorySection(ConfigModel):
    """Memory of a process over many asks."""

    problem: str = Field(default="hartmann6", description="A problem's name.")
    n: Count = Field(default=40, ge=2, description="Evaluations known at every ask.")
    asks: Count = Field(default=5000, ge=20, description="Asks, each given up again without a value.")
    seed: StrictInt = Field(default=0, ge=0, description="Seed of the initial points.")


class ArticleSection(ConfigModel):
    """The findings of the article that this project started from, measured today."""

    n: tuple[Count, ...] = Field(
        default=(50, 100, 250, 500, 1_000), min_length=1, description="Evaluations known at the asks."
    )
    trials: Count = Field(default=1_000, ge=2, description="Trials, two metrics each, of fetch_data and lookup_data.")
    repeats: Count = Field(default=5, ge=1, description="Times that each figure is taken.")
    threads: Threads = Field(
        default=None, description="Thread counts to try, the best one counts; null: one and all cores of this process."
    )
    limit: float = Field(default=120.0, ge=0, description="Seconds after which a figure is not taken again.")
    seed: StrictInt = Field(default=0, ge=0, description="Seed of the initial points.")


class BenchmarkConfig(ConfigModel):
    """What ``gpu-gs bench`` runs: contestants, and a section for each thing that is measured."""

    preset_kind: ClassVar[Kind | None] = "benchmarks"

    schema_version: Literal[1] = Field(default=1, description="Version of this format.")
    description: str = Field(default="", description="A sentence for the report.")
    contestants: tuple[str, ...] = Field(
        default=("fast", "reference"),
        min_length=1,
        description="reference (stock Ax), other optimizers by name, strategy presets or YAML files; the strategies with "
        "a device if wanted: fast@cuda.",
    )
    devices: tuple[str, ...] | Literal["found"] | None = Field(
        default=None,
        description="Each strategy without a device runs on each of these: cpu, cuda, cuda:N; found: the CPU, and CUDA if "
        "there is a GPU; null: where it would run by itself.",
    )
    latency: LatencySection | None = Field(default=None, description="Seconds of an ask.")
    regret: RegretSection | None = Field(default=None, description="Regret of whole runs.")
    memory: MemorySection | None = Field(default=None, description="Memory over many asks.")
    article: ArticleSection | None = Field(default=None, description="The findings of the article.")

    @field_validator("devices")
    @classmethod
    def _devices_are_known(cls, value: Any) -> Any:
        if isinstance(value, tuple) and (wrong := _no_devices(value)):
            raise ValueError(wrong[0])
        return value

    @model_validator(mode="after")
    def _something_is_measured(self) -> Self:
        if not self.sections:
            raise ValueError(f"nothing to measure; give one of the sections {', '.join(SECTIONS)}")
        return self

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of the sections that are there, in the order in which they run."""
        return tuple(name for name in SECTIONS if getattr(self, name) is not None)

    @property
    def problems(self) -> tuple[str, ...]:
        """Names of all problems, once each."""
        cases = [case for section in (self.latency, self.regret) if section is not None for case in section.cases]
        names = [*(case.problem for case in cases), *([] if self.memory is None else [self.memory.problem])]
        return tuple(dict.fromkeys(names))

    def only(self, problems: Sequence[str]) -> Self:
        """The same with the cases of these problems alone.

        Args:
            problems: Names of problems or of regret cases, such as ``hartmann6-batch4``.

        Raises:
            ConfigError: No case is on one of them.
        """
        known = {
            *self.problems,
            *(case.case().name for case in (self.regret.cases if self.regret else ())),
        }
        if wrong := [name for name in problems if name not in known]:
            raise ConfigError(
                [
                    f"bench: problem: {name!r} has no case here{closest(name, known)}; allowed: {', '.join(sorted(known))}"
                    for name in wrong
                ]
            )
        wanted = set(problems)
        changes: dict[str, Any] = {}
        if self.latency is not None:
            cases = tuple(case for case in self.latency.cases if case.problem in wanted)
            changes["latency"] = self.latency.model_copy(update={"cases": cases}) if cases else None
        if self.memory is not None and self.memory.problem not in wanted:
            changes["memory"] = None
        if self.regret is not None:
            kept = tuple(case for case in self.regret.cases if {case.problem, case.case().name} & wanted)
            changes["regret"] = self.regret.model_copy(update={"cases": kept}) if kept else None
        return self.model_copy(update=changes)


def _no_devices(names: Sequence[str]) -> list[str]:
    """A line for each that is no device's name."""
    return [
        f"{name!r} is no device; allowed: {', '.join(ALLOWED_DEVICES)}"
        for name in names
        if not DEVICE_PATTERN.fullmatch(name)
    ]


SECTIONS = ("latency", "memory", "article", "regret")
"""All sections, in the order in which they run."""


def load_benchmark(
    source: str | Path,
    *,
    set_values: Sequence[str] = (),
    contestants: Sequence[str] = (),
    devices: Sequence[str] = (),
    problems: Sequence[str] = (),
    seeds: int | None = None,
    workers: int | None = None,
    references: Sequence[str] = (),
) -> BenchmarkConfig:
    """Reads and checks a benchmark's configuration.

    Args:
        source: The name of a shipped one, or a YAML file.
        set_values: ``a.b=c`` strings over it.
        contestants: In place of its own.
        devices: In place of its own.
        problems: Only the cases of these.
        seeds: Of whole runs, in place of its own.
        workers: Whole runs at a time, in place of its own.
        references: Files with runs made before, beside its own.

    Raises:
        ConfigError: It is wrong, or an option is for a section that it does not have; a line for each problem.
    """
    overrides: dict[str, Any] = {}
    if contestants:
        overrides["contestants"] = list(contestants)
    if wrong := _no_devices(devices):
        raise ConfigError([f"bench: --device: {line}" for line in wrong])
    if devices:
        overrides["devices"] = list(devices)
    config = load_config(BenchmarkConfig, source, set_values=set_values, overrides=overrides)
    if config.regret is None:
        given = {"seeds": seeds, "workers": workers, "reference": references or None}
        if unused := [name for name, value in given.items() if value is not None]:
            raise ConfigError([f"{source}: --{name} is for the section regret, which is not there" for name in unused])
    else:
        changes = {"seeds": seeds, "workers": workers}
        update: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        if references:
            update["references"] = (*config.regret.references, *references)
        config = config.model_copy(update={"regret": config.regret.model_copy(update=update)})
    return config.only(problems) if problems else config

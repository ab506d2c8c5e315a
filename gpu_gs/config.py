"""Configurations: pydantic models, YAML in, resolved YAML out, and errors that say what to mend.

Layers, each over the one before: the model's defaults, a shipped preset, a file or mapping, ``--set a.b=c``, keyword
overrides. A mapping is merged key by key; anything else replaces what was there.

Importing this module imports neither torch nor Ax.
"""

import difflib
import enum
import json
import re
import reprlib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gpu_gs.device import ALLOWED_DEVICES, DEVICE_PATTERN
from gpu_gs.errors import ConfigError

Kind = Literal["strategies", "tasks", "benchmarks"]
"""Folders of presets under ``configs/``."""

AcquisitionName = Literal[
    "auto", "LogEI", "LogNEI", "UCB", "qLogNEI", "qLogEI", "qUCB", "qLogNEHVI", "qLogEHVI", "qLogNParEGO"
]

ACQUISITION_FUNCTIONS: tuple[str, ...] = get_args(AcquisitionName)
"""Names allowed in ``acquisition.function``."""


# ---------------------------------------------------------------------------------------------------- the models


class ConfigModel(BaseModel):
    """Base of every configuration: immutable, with unknown keys and infinite numbers forbidden.

    A subclass that has presets names their folder in ``preset_kind``; its files may then begin with ``preset: NAME``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset_kind: ClassVar[Kind | None] = None

    @classmethod
    def load(cls, source: "str | Path | Mapping[str, Any] | ConfigModel", /, **overrides: Any) -> Self:
        """Loads from a preset's name, a YAML file, a mapping or another configuration, with overrides on top.

        Args:
            source: What to load.
            **overrides: Settings over it; mappings are merged: ``load("fast", acquisition={"restarts": 8})``.

        Raises:
            ConfigError: It is wrong; ``problems`` has a line for each thing to mend.
        """
        return load_config(cls, source, overrides=overrides)


class InitializationConfig(ConfigModel):
    """The initial design, as Ax's ``configure_generation_strategy`` offers it."""

    budget: StrictInt = Field(default=5, ge=0, description="Trials before the model takes over, the center included.")
    center: StrictBool = Field(default=True, description="Whether the first trial is the center of the search space.")
    min_observed: StrictInt | None = Field(
        default=None, ge=1, description="Completed trials needed before the model takes over; null: Ax's rule."
    )
    use_existing_trials: StrictBool = Field(default=True, description="Whether trials attached by hand count.")
    allow_exceeding_budget: StrictBool = Field(
        default=False, description="Whether to go on with Sobol while completed trials are missing."
    )


class Every(ConfigModel):
    """A fixed schedule."""

    every: StrictInt = Field(ge=1, description="Asks from one time to the next.")


class FitConfig(ConfigModel):
    """Fitting of the Gaussian process's hyperparameters."""

    refit: Literal["adaptive", "always"] | Every = Field(
        default="adaptive",
        description="When hyperparameters are fitted again: adaptive, always, or every: k asks; else they are kept.",
    )
    warm_start: StrictBool = Field(
        default=True, description="Whether a fit starts from the last ask's hyperparameters."
    )
    warm_iterations: Annotated[StrictInt, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="Iterations allowed from a warm start; auto: 30, and 15 above 200 observations.",
    )
    cold_iterations: StrictInt = Field(default=200, ge=1, description="Iterations allowed from the default start.")


class AcquisitionConfig(ConfigModel):
    """The acquisition function and its optimization."""

    function: AcquisitionName = Field(
        default="auto",
        description="The acquisition function; auto: a closed form where there is one (docs/kinds.md), else Ax's choice.",
    )
    beta: float = Field(
        default=0.2, ge=0, description="Share of the variance in the upper confidence bound, for function UCB."
    )
    raw_samples: StrictInt = Field(
        default=1024, ge=1, description="Random points scored to choose where restarts begin."
    )
    restarts: StrictInt = Field(default=16, ge=1, description="Starting points, all optimized in one batch.")
    iterations: StrictInt = Field(default=80, ge=1, description="Quasi-Newton iterations of a restart at the most.")
    memory_mb: StrictInt = Field(default=512, ge=1, description="Memory for scoring points in one call, in MiB.")


class StrategyConfig(ConfigModel):
    """A whole strategy: what ``GPUGenerationStrategy.from_config`` takes."""

    preset_kind: ClassVar[Kind | None] = "strategies"

    schema_version: Literal[1] = Field(default=1, description="Version of this format.")
    name: str | None = Field(default=None, description="Name of the strategy; null: the name of the preset or file.")
    engine: Literal["gpu_gs", "ax"] = Field(
        default="gpu_gs", description="gpu_gs, or ax: stock Ax with method='fast', the control for comparisons."
    )
    seed: StrictInt | None = Field(
        default=None, ge=0, lt=2**63, description="Seed of all random draws; null: a new one."
    )
    device: str = Field(default="auto", description=f"Where an ask runs: {', '.join(ALLOWED_DEVICES)}.")
    threads: Annotated[StrictInt, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="Threads of an ask on the CPU; auto: by a calibration of the machine."
    )
    deduplicate: StrictBool = Field(default=True, description="Whether a point that was tried already is refused.")
    simplify_parameter_changes: StrictBool = Field(default=False, description="Ax's setting of this name.")
    fit_tracking_metrics: StrictBool | None = Field(
        default=None,
        description="Whether metrics that are only tracked are modelled; null: no, or as stock Ax does under engine: ax.",
    )
    diagnostics: Literal["off", "always"] | Every = Field(
        default="off",
        description="When leave-one-out predictions of the model are summarized: off, always, every: k asks.",
    )
    initialization: InitializationConfig = Field(default=InitializationConfig(), description="The initial design.")
    fit: FitConfig = Field(default=FitConfig(), description="Fitting of hyperparameters.")
    acquisition: AcquisitionConfig = Field(
        default=AcquisitionConfig(), description="Acquisition function and optimizer."
    )

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        if not DEVICE_PATTERN.fullmatch(value):
            raise ValueError(f"allowed: {', '.join(ALLOWED_DEVICES)}")
        return value

    @model_validator(mode="after")
    def _stock_ax_honours_what_is_set(self) -> Self:
        if self.engine == "ax" and (problems := list(self._without_effect_in_ax())):
            raise ValueError("\n".join(problems))
        return self

    def _without_effect_in_ax(self) -> Iterator[str]:
        default = type(self).model_construct()
        for section in ("fit", "acquisition"):
            for key in type(getattr(default, section)).model_fields:
                value = getattr(getattr(self, section), key)
                standard = getattr(getattr(default, section), key)
                if value != standard:
                    yield _no_effect(f"{section}.{key}", value, standard)
        for key in ("threads", "diagnostics"):
            value, standard = getattr(self, key), getattr(default, key)
            if value != standard:
                yield _no_effect(key, value, standard)

    @classmethod
    def load(cls, source: "str | Path | Mapping[str, Any] | ConfigModel" = "fast", /, **overrides: Any) -> Self:
        """See ``ConfigModel.load``; without a source, the preset ``fast``."""
        return load_config(cls, source, overrides=overrides)


def _no_effect(path: str, value: Any, default: Any) -> str:
    return (
        f"{path}: {_text(value)} has no effect with engine: ax, which keeps Ax's own settings; "
        f"allowed: {_bare(default)} (the default), or engine: gpu_gs"
    )


# ------------------------------------------------------------------------------------------------------- presets


def configs_dir() -> Path:
    """The folder of shipped configurations: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"


def presets(kind: Kind) -> dict[str, Path]:
    """Shipped configurations by bare name, sorted."""
    return {path.stem: path for path in sorted((configs_dir() / kind).glob("*.yaml"))}


def nearest(name: Any, allowed: Iterable[Any]) -> str | None:
    """The allowed name that ``name`` is most likely a misspelling of."""
    by_lower = {str(candidate).lower(): str(candidate) for candidate in allowed}
    wanted = str(name).lower()
    found = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=0.6)
    if not found and len(wanted) >= 3:
        found = [candidate for candidate in by_lower if candidate.startswith(wanted)]
    return by_lower[found[0]] if found else None


def closest(name: Any, allowed: Iterable[Any]) -> str:
    """``"; did you mean X?"`` for the nearest allowed name, or nothing."""
    found = nearest(name, allowed)
    return "" if found is None else f"; did you mean {found}?"


# ---------------------------------------------------------------------------------------------------------- YAML
# PyYAML reads YAML 1.1, where 1e-3 is text, 010 is eight, 1:30 is ninety, no is false and 2026-01-01 is a date.
# Plain scalars are resolved by the core schema of YAML 1.2.2 (section 10.3.2) instead.

_TAG = "tag:yaml.org,2002:"
_CORE_SCHEMA = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN\0"),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), "-+0123456789"),
    (
        "float",
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        "-+.0123456789",
    ),
    ("merge", re.compile(r"^<<$"), "<"),
)


class _Loader(yaml.SafeLoader):
    """A SafeLoader for YAML 1.2's scalars that refuses a key given twice and an anchor inside itself."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - filled below

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._open: list[str] = []

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        anchor = getattr(event, "anchor", None)
        if anchor is None:
            return super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent) and anchor in self._open:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=f"*{anchor} stands inside &{anchor}", problem_mark=mark)
        self._open.append(anchor)
        try:
            return super().compose_node(parent, index)
        finally:
            self._open.pop()

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # before merge keys (<<) are expanded
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge":
                continue
            if (key.tag, key.value) in lines:
                first = lines[key.tag, key.value]
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} was given before, on line {first}", problem_mark=key.start_mark
                )
            lines[key.tag, key.value] = key.start_mark.line + 1
        return node

    def core_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text, 10)

    def core_float(self, node: yaml.ScalarNode) -> float:
        text = str(self.construct_scalar(node)).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor(f"{_TAG}int", _Loader.core_int)
_Loader.add_constructor(f"{_TAG}float", _Loader.core_float)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else; writes a list of plain values on one line."""

    def exact_text(self, text: str) -> yaml.ScalarNode:
        # PyYAML writes these line breaks of Unicode unescaped between single quotes, and reads them as spaces.
        odd = any(letter in text for letter in "\x85\u2028\u2029")
        return self.represent_scalar(f"{_TAG}str", text, style='"' if odd else None)

    def plain_list(self, values: list[Any]) -> yaml.SequenceNode:
        plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
        return self.represent_sequence(f"{_TAG}seq", values, flow_style=plain)


_Dumper.add_representer(list, _Dumper.plain_list)
_Dumper.add_representer(str, _Dumper.exact_text)

for _name, _pattern, _first in _CORE_SCHEMA:
    _letters = [letter.strip("\0") for letter in _first]
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", _pattern, _letters)
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", _pattern, _letters)


def parse_yaml(text: str, label: str) -> Any:
    """One YAML document as plain Python values.

    Args:
        text: The document.
        label: What to call it in an error, such as its file's name.

    Raises:
        ConfigError: It is not valid YAML, or has a key twice; line and column are in the message.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = error.problem or error.context or "?"
        if problem.startswith("but ") and error.context:
            problem = f"{error.context}, {problem}"
        raise ConfigError([f"{label}: not valid YAML{place}: {problem}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{label}: not valid YAML: {str(error).splitlines()[0]}"]) from None
    except (ValueError, RecursionError) as error:  # digits beyond Python's limit; brackets thousands deep
        raise ConfigError([f"{label}: not valid YAML: {error}"]) from None


def dump_yaml(model: ConfigModel, header: str = "") -> str:
    """The whole configuration, defaults included, as YAML that loads back to an equal one, floats bit for bit.

    Args:
        model: The configuration.
        header: Text put in front, each line as a comment.
    """
    comments = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    body: str = yaml.dump(
        model.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31
    )
    return comments + body


def json_schema(model: type[ConfigModel]) -> dict[str, Any]:
    """The JSON Schema of a configuration's files, for editors that complete and check YAML."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    if model.preset_kind is not None and "preset" not in model.model_fields:
        preset = {
            "type": "string",
            "enum": list(presets(model.preset_kind)),
            "description": "A shipped configuration that this file starts from.",
        }
        schema["properties"] = {"preset": preset, **schema["properties"]}
    return schema


# ------------------------------------------------------------------------------------------------------- loading

M = TypeVar("M", bound=ConfigModel)
_Path = tuple[str | int, ...]


def load_config(
    model: type[M],
    source: "str | Path | Mapping[str, Any] | ConfigModel",
    *,
    set_values: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> M:
    """Reads, merges and checks a configuration.

    Args:
        model: The class wanted.
        source: The bare name of one of its presets, a YAML file, a mapping or a configuration. A file or mapping may
            name the preset that it starts from with the key ``preset``.
        set_values: ``a.b=c`` strings over the source; ``c`` is read as YAML, a number in the path is a place in a
            list.
        overrides: Settings over both, nested or with dotted keys.

    Raises:
        ConfigError: It is wrong; a line for each problem names the file, the key's path, the value and what is
            allowed, with the nearest valid name.
    """
    if isinstance(source, model) and not set_values and not overrides:
        return source
    layers = _Layers(*_read_source(model, source))
    for setting in set_values:
        layers.add_setting(setting)
    layers.add("override", _expand_dots(overrides or {}))
    if "preset" in layers.values and "preset" not in model.model_fields and model.preset_kind is not None:
        layers.start_from_preset(model.preset_kind)
    problems = list(layers.problems)
    try:
        version = _version_problem(model, layers)
        if version is not None:  # every other message could be about a format that we do not know
            raise ConfigError([*problems, version])
        loaded = model.model_validate(layers.values)
    except ValidationError as error:
        raise ConfigError(problems + _explain_all(error, model, layers)) from None
    if problems:
        raise ConfigError(problems)
    return loaded


def resolve_source(model: type[ConfigModel], source: str | Path) -> Path:
    """The file that a preset's bare name or a path stands for; a preset wins over a file of the same bare name.

    Raises:
        ConfigError: Neither exists; the nearest preset is named.
    """
    known = presets(model.preset_kind) if model.preset_kind is not None else {}
    text = str(source)
    if text in known:
        return known[text]
    path = Path(source).expanduser()
    if path.is_dir():
        raise ConfigError([f"{text}: is a folder; allowed: a YAML file{_or_a_preset(known)}"])
    if not path.exists():
        hint = closest(path.stem if path.suffix in (".yaml", ".yml") else text, known)
        raise ConfigError([f"{text}: no such file{' or preset' if known else ''}{hint or ';'}{_the_presets(known)}"])
    return path


def _or_a_preset(known: Mapping[str, Path]) -> str:
    return f", or a preset: {', '.join(known)}" if known else ""


def _the_presets(known: Mapping[str, Path]) -> str:
    return f" presets: {', '.join(known)}" if known else " allowed: a YAML file"


def _read_source(
    model: type[ConfigModel], source: "str | Path | Mapping[str, Any] | ConfigModel"
) -> tuple[str, dict[str, Any]]:
    """The source's name for messages, and its values."""
    if isinstance(source, ConfigModel):
        return type(source).__name__, source.model_dump()
    if isinstance(source, Mapping):
        return "configuration", _plain(source)
    if not isinstance(source, str | Path):
        raise ConfigError([f"configuration: {_text(source)} is not allowed; allowed: a name, a path, a mapping"])
    path = resolve_source(model, source)
    values = _read_file(path, str(source))
    if "name" in model.model_fields and values.get("name") is None:
        values["name"] = path.stem
    return str(source), values


def _read_file(path: Path, label: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{label}: is not text in UTF-8 (byte {error.start})"]) from None
    except OSError as error:
        raise ConfigError([f"{label}: cannot be read: {error.strerror or error}"]) from None
    document = parse_yaml(text, label)
    if document is None:
        raise ConfigError([f"{label}: is empty; allowed: a mapping of settings, such as 'schema_version: 1'"])
    if not isinstance(document, dict):
        raise ConfigError([f"{label}: {_text(document)} is not allowed; allowed: a mapping of settings (key: value)"])
    return document


def _plain(value: Any) -> Any:
    """Mappings and configurations as dicts of their own, all the way down."""
    if isinstance(value, ConfigModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _expand_dots(values: Mapping[str, Any]) -> dict[str, Any]:
    expanded: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = str(key).split(".")
        target = expanded
        for parent in parents:
            if not isinstance(target.get(parent), dict):
                target[parent] = {}
            target = target[parent]
        target[last] = _merged(target.get(last), _plain(value))
    return expanded


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
    return above


class _Layers:
    """The merged values, and which layer each overridden one came from."""

    def __init__(self, label: str, values: dict[str, Any]) -> None:
        self.label = label
        self.values: dict[str, Any] = deepcopy(values)
        self.problems: list[str] = []
        self._origin: dict[_Path, str] = {}

    def add(self, label: str, values: Mapping[str, Any]) -> None:
        self._put(label, self.values, values, ())

    def add_setting(self, setting: str) -> None:
        key, equals, text = setting.partition("=")
        keys = key.strip().split(".")
        if not equals or not all(keys):
            self.problems.append(f"--set: {setting!r} is not allowed; allowed: KEY.PATH=VALUE")
            return
        try:
            value = parse_yaml(text, f"--set: {key.strip()}")
        except ConfigError as error:
            self.problems += error.problems
            return
        for part in reversed(keys):
            value = {part: value}
        self.add("--set", value)

    def start_from_preset(self, kind: Kind) -> None:
        """Replaces the key ``preset`` by the values of that preset, under those given."""
        name, known = self.values.pop("preset"), presets(kind)
        if not isinstance(name, str) or name not in known:
            self.problems.append(
                f"{self.label_of(('preset',))}: preset: {_text(name)} is not allowed"
                f"{closest(name, known) or ';'} allowed: {', '.join(known)}"
            )
            return
        self.values = _merged(_read_file(known[name], name), self.values)

    def label_of(self, path: _Path) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self._origin:
                return self._origin[path[:length]]
        return self.label

    def _put(self, label: str, target: Any, values: Mapping[str, Any], path: _Path) -> None:
        for key, value in values.items():
            place: Any = key
            if isinstance(target, list):
                place = int(key) if str(key).isdigit() else None
                if place is None or place >= len(target):
                    self.problems.append(
                        f"{label}: {_dotted((*path, key))}: no such place in a list of {len(target)}; "
                        f"allowed: {f'0 to {len(target) - 1}' if target else 'none, the list is empty'}"
                    )
                    continue
            inner = target[place] if isinstance(target, list) else target.get(place)
            if isinstance(value, Mapping) and isinstance(inner, dict | list):
                self._put(label, inner, value, (*path, place))
            else:
                target[place] = deepcopy(value)
                for leaf in _leaves(value, (*path, place)):
                    self._origin[leaf] = label


def _leaves(value: Any, path: _Path) -> Iterator[_Path]:
    yield path
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))


# -------------------------------------------------------------------------------------------------------- errors


def _version_problem(model: type[ConfigModel], layers: _Layers) -> str | None:
    field = model.model_fields.get("schema_version")
    if field is None or "schema_version" not in layers.values:
        return None
    version, supported = layers.values["schema_version"], get_args(field.annotation)
    if version in supported and type(version) is int:
        return None
    return (
        f"{layers.label_of(('schema_version',))}: schema_version: {_text(version)} is not supported; "
        f"allowed: {', '.join(map(str, supported))} (a later version needs a later gpu_gs)"
    )


def _explain_all(error: ValidationError, model: type[ConfigModel], layers: _Layers) -> list[str]:
    """A line for each thing to mend; the members of a union that a value all failed make one line."""
    lines: dict[str, None] = {}
    for details in error.errors(include_url=False):
        if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
            continue  # long enough, but for items that have errors of their own
        for path, text in _explain(details, _path_of(details, layers.values), model, layers.values):
            place = f"{_dotted(path)}: " if path else ""
            lines[f"{layers.label_of(path)}: {place}{text}"] = None
    return list(lines)


def _path_of(details: ErrorDetails, values: Any) -> _Path:
    """The location without what pydantic adds for the members of a union."""
    path: list[str | int] = []
    location = details["loc"]
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if _has(values, part):
            values = values[part]
        elif not (last and details["type"] == "missing"):
            continue
        path.append(part)
    return tuple(path)


def _explain(details: ErrorDetails, path: _Path, model: type[ConfigModel], values: Any) -> Iterator[tuple[_Path, str]]:
    """One problem in words, with the path that it is about."""
    kind, value = details["type"], details["input"]
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "extra_forbidden":
        keys = _keys_at(model, path[:-1], values)
        yield path, f"unknown key (value {_text(value)}){_did_you_mean(path, keys, model)} allowed: {_list(keys)}"
    elif kind == "missing":
        yield path, f"is missing; allowed: {_list(_allowed_at(model, path, values)) or 'any value'}"
    elif kind == "invalid_key":
        yield path, f"{_text(details['loc'][-1])} is not allowed as a key; allowed: text"
    elif kind in ("value_error", "assertion_error") and isinstance(value, Mapping | BaseModel):
        # From a validator of a whole section: its lines may begin with the key that they are about.
        keys = _keys_at(model, path, values)
        for line in message.splitlines():
            head, colon, rest = line.partition(": ")
            below = tuple(int(part) if part.isdigit() else part for part in head.split("."))
            yield ((*path, *below), rest) if colon and below[0] in keys else (path, line)
    elif kind in ("value_error", "assertion_error"):
        yield path, f"{_text(value)} is not allowed; {message}"
    elif allowed := _allowed_at(model, path, values):
        suggestion = closest(value, allowed) if isinstance(value, str) else ""
        yield path, f"{_text(value)} is not allowed{suggestion or ';'} allowed: {_list(allowed)}"
    else:
        yield path, f"{_text(value)} is not allowed; {message[:1].lower()}{message[1:]}"


def _did_you_mean(path: _Path, keys: Sequence[str], model: type[ConfigModel]) -> str:
    """The nearest key here, else a key of this very name in another section."""
    key = path[-1]
    if (found := nearest(key, keys)) is not None:
        return f"; did you mean {found}?"
    for other in _key_paths(model):
        if other.rpartition(".")[2] == key:
            return f"; did you mean {other}?"
    return ";"


def _key_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for member, _ in _members(field.annotation):
            if isinstance(member, type) and issubclass(member, BaseModel) and member is not model:
                yield from _key_paths(member, f"{prefix}{name}.")


def _members(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The alternatives of an annotation, each with the constraints on it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        for item in extra:
            metadata += tuple(item.metadata) if isinstance(item, FieldInfo) else (item,)
        yield from _members(inner, metadata)
    elif origin is Union or origin is types.UnionType:
        for member in get_args(annotation):
            yield from _members(member, metadata)
    else:
        yield annotation, metadata


def _annotations_at(model: type[BaseModel], path: _Path, values: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """What may stand at a path, as far as the values above it leave a choice."""
    found: list[tuple[Any, tuple[Any, ...]]] = [(model, ())]
    for part in path:
        below: list[tuple[Any, tuple[Any, ...]]] = []
        for annotation, _ in found:
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                field = annotation.model_fields.get(str(part))
                if field is not None and _fits(annotation, values):
                    below += _members(field.annotation, tuple(field.metadata))
            elif arguments := [argument for argument in get_args(annotation) if argument is not ...]:
                below += _members(arguments[-1])  # the items of a list, the values of a mapping
        found = below
        values = _item(values, part)
    return found


def _fits(model: type[BaseModel], values: Any) -> bool:
    """Whether values could be meant for this member of a union: its one-word fields (``type: range``) agree."""
    for name, field in model.model_fields.items():
        given = _item(values, name)
        if get_origin(field.annotation) is Literal and given is not None and given not in get_args(field.annotation):
            return len(get_args(field.annotation)) > 1
    return True


def _item(values: Any, key: str | int) -> Any:
    return values[key] if _has(values, key) else None


def _has(values: Any, key: str | int) -> bool:
    if isinstance(values, list | tuple):
        return isinstance(key, int) and key < len(values)
    return isinstance(values, Mapping) and key in values


def _keys_at(model: type[BaseModel], path: _Path, values: Any) -> list[str]:
    inner = values
    for part in path:
        inner = _item(inner, part)
    keys: dict[str, None] = {}
    for annotation, _ in _annotations_at(model, path, values):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and _fits(annotation, inner):
            keys.update(dict.fromkeys(annotation.model_fields))
    if not path and issubclass(model, ConfigModel) and model.preset_kind is not None:
        keys["preset"] = None
    return list(keys)


def _allowed_at(model: type[BaseModel], path: _Path, values: Any) -> list[str]:
    """What may stand at a path, in words."""
    words: dict[str, None] = {}
    for annotation, metadata in _annotations_at(model, path, values):
        words.update(dict.fromkeys(_in_words(annotation, metadata)))
    return list(words)


def _in_words(annotation: Any, metadata: tuple[Any, ...]) -> list[str]:
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return [_bare(value) for value in get_args(annotation)]
    if annotation is None or annotation is type(None):
        return ["null"]
    if not isinstance(origin, type):
        return []
    if issubclass(origin, enum.Enum):
        return [_bare(member.value) for member in origin]
    if issubclass(origin, BaseModel):
        return [f"a mapping with the keys {', '.join(origin.model_fields)}"]
    for kinds, words in (
        ((bool,), "true, false"),
        ((int,), "a whole number" + _bounds(metadata)),
        ((float,), "a number" + _bounds(metadata)),
        ((str,), "text" + _bounds(metadata)),
        ((Path,), "a path"),
        ((Mapping,), "a mapping"),
        ((Sequence, frozenset, set), "a list" + _bounds(metadata)),
    ):
        if issubclass(origin, kinds):
            return [words]
    return []


def _bounds(metadata: tuple[Any, ...]) -> str:
    parts = []
    for item in metadata:
        for constraint, attribute, words in (
            (annotated_types.Ge, "ge", "at least {}"),
            (annotated_types.Gt, "gt", "above {}"),
            (annotated_types.Le, "le", "at most {}"),
            (annotated_types.Lt, "lt", "below {}"),
            (annotated_types.MinLen, "min_length", "{} or more long"),
            (annotated_types.MaxLen, "max_length", "at most {} long"),
        ):
            if isinstance(item, constraint):
                parts.append(words.format(getattr(item, attribute)))
    return f" ({', '.join(parts)})" if parts else ""


def _dotted(path: _Path) -> str:
    return ".".join(map(str, path))


def _list(words: Sequence[str]) -> str:
    return ", ".join(words)


def _bare(value: Any) -> str:
    return value if isinstance(value, str) else _text(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


def _text(value: Any) -> str:
    """A value as a message shows it: YAML's words for null, true and false, and not too long."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _SHORT.repr(value)


__all__ = [
    "ACQUISITION_FUNCTIONS",
    "AcquisitionConfig",
    "AcquisitionName",
    "ConfigModel",
    "Every",
    "FitConfig",
    "InitializationConfig",
    "Kind",
    "StrategyConfig",
    "closest",
    "configs_dir",
    "dump_yaml",
    "json_schema",
    "load_config",
    "nearest",
    "parse_yaml",
    "presets",
    "resolve_source",
]

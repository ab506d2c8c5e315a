"""A task: what to tune, over which parameters, towards what, with which strategy, and what to compare it with."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, field_validator, model_validator

from gpu_gs.config import (
    ConfigModel,
    Kind,
    StrategyConfig,
    closest,
    load_config,
    nearest,
    parse_yaml,
    presets,
    resolve_source,
)
from gpu_gs.errors import ConfigError

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
"""A value of a parameter."""

Number = StrictInt | StrictFloat

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Parameter(ConfigModel):
    """One dimension of the search space: a range (float, int), a list of values (choice) or a switch (bool)."""

    name: str = Field(min_length=1, description="The key under which the objective gets it.")
    type: Literal["float", "int", "choice", "bool"] = Field(description="float and int: a range; choice: values.")
    bounds: tuple[Number, Number] | None = Field(default=None, description="Range: lowest and highest value.")
    scaling: Literal["linear", "log"] | None = Field(default=None, description="Range: linear (the default) or log.")
    values: tuple[Scalar, ...] | None = Field(default=None, description="Choice: two or more values of one kind.")
    is_ordered: StrictBool | None = Field(
        default=None, description="Choice: whether neighbouring values are alike; null: numbers yes, text no."
    )

    @model_validator(mode="after")
    def _settings_belong_together(self) -> Self:
        if problems := [*self._range_problems(), *self._choice_problems()]:
            raise ValueError("\n".join(problems))
        return self

    def _range_problems(self) -> list[str]:
        if self.type not in ("float", "int"):
            return [
                f"{key}: has no meaning for type: {self.type}"
                for key in ("bounds", "scaling")
                if getattr(self, key) is not None
            ]
        if self.bounds is None:
            return [f"bounds: is missing; type: {self.type} needs the lowest and the highest value, as in [1, 10]"]
        low, high = self.bounds
        if not low < high:
            return [f"bounds: {[low, high]} is not allowed; allowed: the lower bound first"]
        if self.type == "int" and not (isinstance(low, int) and isinstance(high, int)):
            return [f"bounds: {[low, high]} is not allowed; allowed: whole numbers for type: int"]
        if self.scaling == "log" and low <= 0:
            return [f"bounds: {[low, high]} is not allowed; allowed: above 0 with scaling: log"]
        return []

    def _choice_problems(self) -> list[str]:
        if self.type != "choice":
            return [
                f"{key}: has no meaning for type: {self.type}"
                for key in ("values", "is_ordered")
                if getattr(self, key) is not None
            ]
        if self.values is None or len(self.values) < 2:
            return ["values: two or more are needed for type: choice, as in [rbf, poly]"]
        if len({_kind(value) for value in self.values}) > 1:
            return [f"values: {list(self.values)} is not allowed; allowed: all numbers, all text, or all true/false"]
        if len(set(self.values)) < len(self.values):
            return [f"values: {list(self.values)} is not allowed; allowed: each value once"]
        return []

    @property
    def choices(self) -> list[Any]:
        """The values of a choice or a switch; numbers become floats if one of them is."""
        if self.type == "bool":
            return [False, True]
        values = list(self.values or ())
        return [float(value) for value in values] if any(isinstance(value, float) for value in values) else values

    @property
    def ordered(self) -> bool:
        """Whether neighbouring values are alike."""
        if self.is_ordered is not None:
            return self.is_ordered
        return self.type == "choice" and _kind(self.choices[0]) == "number"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "switch"
    return "text" if isinstance(value, str) else "number"


class TaskStrategy(StrategyConfig):
    """The strategy of a task: a preset's settings with others over them."""

    preset_kind: ClassVar[Kind | None] = None

    preset: str | None = Field(default=None, description="The preset that the other settings are laid over.")

    @field_validator("preset")
    @classmethod
    def _preset_is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in (known := presets("strategies")):
            meant = nearest(value, known)
            raise ValueError(f"{f'did you mean {meant}? ' if meant else ''}allowed: {', '.join(known)}")
        return value

    def settings(self) -> StrategyConfig:
        """The same strategy as ``GPUGenerationStrategy.from_config`` takes it."""
        return StrategyConfig.model_validate(self.model_dump(exclude={"preset"}))


def _strategy_may_be_a_name(schema: dict[str, Any]) -> None:
    names = {"type": "string", "enum": list(presets("strategies")), "description": "A preset's name."}
    whole = schema["properties"]["strategy"]
    schema["properties"]["strategy"] = {"anyOf": [names, whole], "description": whole.get("description", "")}


class TaskConfig(ConfigModel):
    """A complete run, from the objective to the report."""

    model_config = ConfigDict(json_schema_extra=_strategy_may_be_a_name)
    preset_kind: ClassVar[Kind | None] = "tasks"

    schema_version: Literal[1] = Field(default=1, description="Version of this format.")
    name: str = Field(default="task", description="Name of the experiment and of the run's folder; null: the file's.")
    description: str = Field(default="", description="What is tuned, for the report.")
    objective: str = Field(
        description="module:function. It takes the parameters as a dict and returns a dict of metrics, or one number."
    )
    parameters: tuple[Parameter, ...] = Field(min_length=1, description="The search space.")
    parameter_constraints: tuple[str, ...] = Field(
        default=(), description='Linear inequalities between parameters, as Ax writes them: "x + 2 * y <= 3".'
    )
    optimize: str = Field(
        min_length=1,
        description='The goal, as Ax writes it: "accuracy" is maximized, "-error" minimized, "-error, -size" are two.',
    )
    outcome_constraints: tuple[str, ...] = Field(
        default=(), description='Inequalities on metrics, "size <= 100"; on one of several goals, a threshold.'
    )
    trials: StrictInt = Field(default=100, ge=1, description="Evaluations of the objective.")
    strategy: TaskStrategy = Field(
        default=TaskStrategy(), description="A preset's name, or settings (with preset: NAME, over that preset's)."
    )
    storage: Literal["json", "sqlite"] = Field(
        default="json", description="sqlite: the experiment is also written to experiment.sqlite."
    )
    checkpoint_every: StrictInt = Field(
        default=50, ge=0, description="Trials between two writings of Ax's own files; 0: only at the end."
    )
    max_consecutive_failures: StrictInt = Field(default=5, ge=1, description="Failed trials in a row that stop it.")
    held_out: str | None = Field(
        default=None, description="module:function that scores parameters on data the tuning never saw."
    )
    defaults: dict[str, Scalar] | None = Field(
        default=None, description="Parameters to compare with, one value for each: the library's defaults, say."
    )
    random_search: StrictBool = Field(
        default=True, description="Whether as many random points are evaluated afterwards, to compare with."
    )
    python_path: tuple[str, ...] = Field(
        default=(), description="Folders searched for the modules, besides the current one and this file's."
    )
    versions: dict[str, str] = Field(default={}, description="Versions that wrote this file, for the record.")

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("allowed: letters, digits, '.', '_' and '-', beginning with a letter or digit")
        return value

    @field_validator("objective", "held_out")
    @classmethod
    def _function_is_module_and_name(cls, value: str | None) -> str | None:
        if value is not None and not _FUNCTION.fullmatch(value):
            raise ValueError("allowed: module:function, as in my_package.my_module:evaluate")
        return value

    @field_validator("strategy", mode="before")
    @classmethod
    def _strategy_starts_from_its_preset(cls, value: Any) -> Any:
        if isinstance(value, StrategyConfig):
            return value if isinstance(value, TaskStrategy) else value.model_dump()
        if isinstance(value, str):
            value = {"preset": value}
        known = presets("strategies")
        name = value.get("preset") if isinstance(value, Mapping) else None
        if not isinstance(name, str) or name not in known:
            return value  # what is wrong with it is said together with the rest
        below = parse_yaml(known[name].read_text(encoding="utf-8"), name)
        return _over({"name": name, **below}, value)

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        names = [parameter.name for parameter in self.parameters]
        given = names if self.defaults is None else list(self.defaults)
        problems = [
            *(
                f"parameters: the name {name!r} is given {names.count(name)} times"
                for name in sorted({name for name in names if names.count(name) > 1})
            ),
            *(
                f"defaults.{name}: unknown key{closest(name, names)}; allowed: {', '.join(names)}"
                for name in given
                if name not in names
            ),
            *(
                f"defaults.{name}: is missing; defaults need a value for each parameter"
                for name in names
                if name not in given
            ),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def load_task(
    source: "str | Path | Mapping[str, Any] | TaskConfig",
    *,
    set_values: Sequence[str] = (),
    strategy: str | None = None,
) -> TaskConfig:
    """Reads and checks a task.

    Args:
        source: A shipped task's name, a YAML file, a mapping or a ``TaskConfig``.
        set_values: ``a.b=c`` strings over the source; ``strategy.seed=1`` keeps the rest of the strategy, also where
            the file names only a preset.
        strategy: A preset that takes the place of the one in the file.

    Raises:
        ConfigError: It is wrong; a line for each problem.
    """
    named = _preset_named_in(source) if strategy is None else strategy
    lines = [*([] if named is None else [f"strategy.preset={named}"]), *set_values]
    return load_config(TaskConfig, source, set_values=lines)


def _preset_named_in(source: Any) -> str | None:
    """The preset if the source's strategy is a bare name: one setting laid over a name would otherwise replace it."""
    try:
        if isinstance(source, str | Path):
            source = parse_yaml(resolve_source(TaskConfig, source).read_text(encoding="utf-8-sig"), str(source))
    except (ConfigError, OSError, UnicodeDecodeError):
        return None  # load_config finds the same problem and explains it
    strategy = source.get("strategy") if isinstance(source, Mapping) else None
    return strategy if isinstance(strategy, str) else None


__all__ = ["Parameter", "Scalar", "TaskConfig", "TaskStrategy", "load_task"]

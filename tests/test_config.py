"""Configurations: what loads, what is refused and in which words, and exact round trips."""

import json
import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from gpu_gs.config import (
    ACQUISITION_FUNCTIONS,
    AcquisitionConfig,
    ConfigModel,
    Every,
    FitConfig,
    InitializationConfig,
    Kind,
    StrategyConfig,
    closest,
    configs_dir,
    dump_yaml,
    json_schema,
    load_config,
    nearest,
    parse_yaml,
    presets,
    resolve_source,
)
from gpu_gs.errors import ConfigError

STRATEGY_KEYS = ", ".join([*StrategyConfig.model_fields, "preset"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def problems(here: Path):
    """Writes a file ``my.yaml`` and returns the lines that say what is wrong with it."""

    def load(text: str | bytes, **kwargs) -> list[str]:
        content = text.encode() if isinstance(text, str) else text
        (here / "my.yaml").write_bytes(content)
        with pytest.raises(ConfigError) as raised:
            load_config(StrategyConfig, "my.yaml", **kwargs)
        assert str(raised.value) == "\n".join(raised.value.problems)
        return raised.value.problems

    return load


# --------------------------------------------------------------------------------------------------------- models


def test_a_configuration_cannot_be_changed_and_refuses_unknown_keys():
    config = StrategyConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.acquisition.restarts = 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        StrategyConfig(sed=3)


def test_every_key_is_described_for_those_who_read_the_schema():
    for model in (StrategyConfig, InitializationConfig, FitConfig, AcquisitionConfig):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


@pytest.mark.parametrize(
    "values",
    [
        {"deduplicate": "yes"},
        {"deduplicate": 1},
        {"seed": "5"},
        {"seed": 5.0},
        {"seed": True},
        {"threads": True},
        {"initialization": {"budget": "5"}},
        {"acquisition": {"restarts": 2.0}},
    ],
)
def test_a_value_of_another_type_is_not_guessed_into_shape(values):
    with pytest.raises(ConfigError, match="is not allowed; allowed: "):
        StrategyConfig.load(values)


def test_the_acquisition_functions_are_those_that_the_plugin_knows():
    generator = pytest.importorskip("gpu_gs.plugin.generator")
    assert set(ACQUISITION_FUNCTIONS) == {"auto", "LogEI", "LogNEI", "UCB", *generator.ACQUISITION_CLASSES}


# -------------------------------------------------------------------------------------------------------- presets


def test_the_shipped_strategies_are_these():
    assert list(presets("strategies")) == ["cpu", "cuda", "fast", "reference", "thorough"]


@pytest.mark.parametrize("name", sorted(presets("strategies")))
def test_every_shipped_strategy_loads_by_its_bare_name_and_carries_it(name):
    config = StrategyConfig.load(name)
    assert config.name == name
    assert config == StrategyConfig.load(presets("strategies")[name])


def test_fast_spells_out_the_defaults_and_the_others_say_what_they_are_about():
    default = StrategyConfig()
    assert StrategyConfig.load() == StrategyConfig.load("fast") == default.model_copy(update={"name": "fast"})
    assert StrategyConfig.load("cpu") == default.model_copy(update={"name": "cpu", "device": "cpu"})
    assert StrategyConfig.load("cuda") == default.model_copy(update={"name": "cuda", "device": "cuda"})
    assert StrategyConfig.load("reference") == default.model_copy(update={"name": "reference", "engine": "ax"})
    thorough = StrategyConfig.load("thorough").acquisition
    assert thorough.raw_samples > default.acquisition.raw_samples
    assert thorough.restarts > default.acquisition.restarts


@pytest.mark.parametrize(
    "path", sorted(configs_dir().glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_shipped_file_is_explained_and_means_the_same_to_a_reader_of_yaml_1_1(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert yaml.safe_load(text) == parse_yaml(text, path.name)


def test_presets_are_found_in_a_wheel_as_in_a_checkout(tmp_path, monkeypatch):
    from gpu_gs import config

    package = tmp_path / "gpu_gs"
    (tmp_path / "configs" / "strategies").mkdir(parents=True)
    (tmp_path / "configs" / "strategies" / "checkout.yaml").write_text("seed: 1")
    package.mkdir()
    monkeypatch.setattr(config, "__file__", str(package / "config.py"))
    assert list(presets("strategies")) == ["checkout"]
    (package / "configs" / "strategies").mkdir(parents=True)
    (package / "configs" / "strategies" / "wheel.yaml").write_text("seed: 1")
    assert list(presets("strategies")) == ["wheel"]
    assert presets("tasks") == {}


# ----------------------------------------------------------------------------------------------- sources and layers


def test_a_file_a_mapping_and_a_configuration_give_the_same(here):
    (here / "mine.yaml").write_text("name: mine\nseed: 7\nacquisition:\n  restarts: 5\n")
    expected = StrategyConfig(name="mine", seed=7, acquisition=AcquisitionConfig(restarts=5))
    mapping = {"name": "mine", "seed": 7, "acquisition": {"restarts": 5}}
    for source in ("mine.yaml", "./mine.yaml", Path("mine.yaml"), here / "mine.yaml", mapping, expected):
        assert StrategyConfig.load(source) == expected
    assert StrategyConfig.load(expected) is expected


def test_a_file_without_a_name_gets_its_own(here):
    (here / "mine.yaml").write_text("seed: 7")
    assert StrategyConfig.load("mine.yaml").name == "mine"
    assert StrategyConfig.load({"seed": 7}).name is None


def test_a_preset_wins_over_a_file_of_its_bare_name_and_a_path_means_the_file(here):
    (here / "fast").write_text("seed: 7")
    (here / "own").write_text("seed: 8")
    assert StrategyConfig.load("fast").seed is None
    assert StrategyConfig.load("./fast").seed == 7
    assert StrategyConfig.load("own").seed == 8
    assert resolve_source(StrategyConfig, "fast") == presets("strategies")["fast"]


def test_each_layer_lies_over_the_one_before(here):
    (here / "mine.yaml").write_text("preset: thorough\nacquisition: {restarts: 3, iterations: 4}\nseed: 1\n")
    config = load_config(
        StrategyConfig,
        "mine.yaml",
        set_values=["acquisition.iterations=5", "seed=2", "threads=3"],
        overrides={"threads": 4},
    )
    thorough = StrategyConfig.load("thorough")
    assert config.acquisition == thorough.acquisition.model_copy(update={"restarts": 3, "iterations": 5})
    assert (config.fit, config.name, config.seed, config.threads) == (thorough.fit, "mine", 2, 4)


def test_overrides_are_merged_key_by_key_nested_dotted_or_as_objects():
    expected = StrategyConfig(name="fast", acquisition=AcquisitionConfig(restarts=8), device="cpu")
    assert StrategyConfig.load("fast", device="cpu", acquisition={"restarts": 8}) == expected
    assert StrategyConfig.load("fast", **{"device": "cpu", "acquisition.restarts": 8}) == expected
    assert StrategyConfig.load("fast", device="cpu", acquisition=AcquisitionConfig(restarts=8)) == expected
    assert StrategyConfig.load(expected, seed=None, acquisition={"iterations": 9}).acquisition == AcquisitionConfig(
        restarts=8, iterations=9
    )
    both = StrategyConfig.load(**{"acquisition.restarts": 8, "acquisition": {"iterations": 9}})
    assert (both.acquisition.restarts, both.acquisition.iterations) == (8, 9)


def test_loading_leaves_the_source_as_it_was():
    mapping = {"preset": "thorough", "acquisition": {"restarts": 5}}
    load_config(StrategyConfig, mapping, set_values=["acquisition.restarts=6"], overrides={"acquisition.restarts": 7})
    assert mapping == {"preset": "thorough", "acquisition": {"restarts": 5}}


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("seed=5", "seed", 5),
        ("seed=null", "seed", None),
        ("seed=", "seed", None),
        (" seed = 5", "seed", 5),
        ("device=cuda:1", "device", "cuda:1"),
        ("name=a=b", "name", "a=b"),
        ("name='5'", "name", "5"),
        ("name=no", "name", "no"),
        ("deduplicate=false", "deduplicate", False),
        ("acquisition={restarts: 2}", "acquisition", AcquisitionConfig(restarts=2)),
    ],
)
def test_a_setting_is_read_as_yaml(setting, path, value):
    assert getattr(load_config(StrategyConfig, {}, set_values=[setting]), path) == value


# --------------------------------------------------------------------------------------------------------- errors


def test_all_problems_are_told_at_once_each_with_file_path_value_and_what_is_allowed(problems):
    found = problems(
        """
        device: gpu
        restarts: 3
        threads: many
        fit: 3
        seed: -1
        deduplicate: 1
        engine: axe
        initialization: {min_observed: x}
        acquisition: {raw_sample: 5, restarts: 0, function: qEI, iterations: 1.5}
        """
    )
    acquisition_keys = "function, beta, raw_samples, restarts, iterations, memory_mb"
    assert sorted(found) == sorted(
        [
            "my.yaml: device: 'gpu' is not allowed; allowed: auto, cpu, cuda, cuda:N",
            "my.yaml: restarts: unknown key (value 3); did you mean acquisition.restarts? allowed: " + STRATEGY_KEYS,
            "my.yaml: threads: 'many' is not allowed; allowed: a whole number (at least 1), auto",
            "my.yaml: fit: 3 is not allowed; allowed: a mapping with the keys refit, warm_start, warm_iterations, "
            "cold_iterations",
            "my.yaml: seed: -1 is not allowed; allowed: a whole number (at least 0, below 9223372036854775808), null",
            "my.yaml: deduplicate: 1 is not allowed; allowed: true, false",
            "my.yaml: engine: 'axe' is not allowed; did you mean ax? allowed: gpu_gs, ax",
            "my.yaml: initialization.min_observed: 'x' is not allowed; allowed: a whole number (at least 1), null",
            "my.yaml: acquisition.raw_sample: unknown key (value 5); did you mean raw_samples? allowed: "
            + acquisition_keys,
            "my.yaml: acquisition.restarts: 0 is not allowed; allowed: a whole number (at least 1)",
            "my.yaml: acquisition.function: 'qEI' is not allowed; did you mean qLogEI? allowed: "
            + ", ".join(ACQUISITION_FUNCTIONS),
            "my.yaml: acquisition.iterations: 1.5 is not allowed; allowed: a whole number (at least 1)",
        ]
    )


def test_a_problem_names_the_layer_that_it_came_from(problems):
    found = problems(
        "device: gpu",
        set_values=["acquisition.restart=3", "threads.x=1", "threads=2"],
        overrides={"fit": {"warm": True}},
    )
    assert found == [
        "my.yaml: device: 'gpu' is not allowed; allowed: auto, cpu, cuda, cuda:N",
        "override: fit.warm: unknown key (value true); did you mean warm_start? "
        "allowed: refit, warm_start, warm_iterations, cold_iterations",
        "--set: acquisition.restart: unknown key (value 3); did you mean restarts? "
        "allowed: function, beta, raw_samples, restarts, iterations, memory_mb",
    ]


def test_settings_that_cannot_be_read_are_told_with_the_other_problems(problems):
    found = problems("device: gpu", set_values=["device", "=3", "a..b=1", "seed=["])
    assert found[:3] == [
        f"--set: {setting!r} is not allowed; allowed: KEY.PATH=VALUE" for setting in ("device", "=3", "a..b=1")
    ]
    assert found[3].startswith("--set: seed: not valid YAML (line 1, column 2): ")
    assert found[4:] == ["my.yaml: device: 'gpu' is not allowed; allowed: auto, cpu, cuda, cuda:N"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "my.yaml: is empty; allowed: a mapping of settings, such as 'schema_version: 1'"),
        ("# only a comment\n", "my.yaml: is empty; allowed: a mapping of settings, such as 'schema_version: 1'"),
        ("- 1\n- 2\n", "my.yaml: [1, 2] is not allowed; allowed: a mapping of settings (key: value)"),
        ("fast", "my.yaml: 'fast' is not allowed; allowed: a mapping of settings (key: value)"),
        (
            "seed: 1\nfit:\n  warm_start: true\n  warm_start: false\n",
            "my.yaml: not valid YAML (line 4, column 3): the key 'warm_start' was given before, on line 3",
        ),
        ("{seed: 1, seed: 1}", "my.yaml: not valid YAML (line 1, column 11): the key 'seed' was given before, on line 1"),
        ("seed: 1\nfit: [\n", "my.yaml: not valid YAML (line 3, column 1): expected the node content, but found '<stream end>'"),
        ("seed: 1\n\tfit: 2", "my.yaml: not valid YAML (line 2, column 1): found character '\\t' that cannot start any token"),
        ("fit: &a {b: *a}", "my.yaml: not valid YAML (line 1, column 13): *a stands inside &a"),
        (
            "seed: 1\n---\nseed: 2",
            "my.yaml: not valid YAML (line 2, column 1): expected a single document in the stream, "
            "but found another document",
        ),
        (
            "seed: !!python/object/apply:os.system ['true']",
            "my.yaml: not valid YAML (line 1, column 7): could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("1: 2\n", "my.yaml: 1: 1 is not allowed as a key; allowed: text"),
        ("seed: \x01", "my.yaml: not valid YAML: unacceptable character #x0001: special characters are not allowed"),
        (b"seed: \xff", "my.yaml: is not text in UTF-8 (byte 6)"),
        (
            "schema_version: 2\nnew_key: 1",
            "my.yaml: schema_version: 2 is not supported; allowed: 1 (a later version needs a later gpu_gs)",
        ),
        (
            "schema_version: '1'",
            "my.yaml: schema_version: '1' is not supported; allowed: 1 (a later version needs a later gpu_gs)",
        ),
        (
            "preset: thoroug",
            "my.yaml: preset: 'thoroug' is not allowed; did you mean thorough? "
            "allowed: cpu, cuda, fast, reference, thorough",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_understood_is_one_clear_line(problems, text, expected):
    assert problems(text) == [expected]


def test_a_document_of_monstrous_depth_or_numbers_is_an_error_and_no_crash(problems):
    assert problems("[" * 5000)[0].startswith("my.yaml: not valid YAML: ")
    assert problems("seed: " + "9" * 5000)[0].startswith("my.yaml: not valid YAML: ")
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    assert all(len(line) < 1000 for line in problems(bomb))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("fst", "fst: no such file or preset; did you mean fast? presets: cpu, cuda, fast, reference, thorough"),
        (
            "Fast.yml",
            "Fast.yml: no such file or preset; did you mean fast? presets: cpu, cuda, fast, reference, thorough",
        ),
        ("no/my.yaml", "no/my.yaml: no such file or preset; presets: cpu, cuda, fast, reference, thorough"),
        (".", ".: is a folder; allowed: a YAML file, or a preset: cpu, cuda, fast, reference, thorough"),
        (3, "configuration: 3 is not allowed; allowed: a name, a path, a mapping"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_source_that_is_not_there_is_told_with_what_is(source, expected):
    with pytest.raises(ConfigError) as raised:
        StrategyConfig.load(source)
    assert raised.value.problems == [expected]


def test_a_file_that_may_not_be_read_is_told(here, monkeypatch):
    (here / "my.yaml").write_text("seed: 1")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"^my\.yaml: cannot be read: Permission denied$"):
        StrategyConfig.load("my.yaml")


def test_settings_that_stock_ax_cannot_honour_are_refused_with_it_and_the_others_are_not(problems):
    assert problems(
        "engine: ax\nfit: {warm_start: false}\nacquisition: {restarts: 8, raw_samples: 1024}\n",
        set_values=["threads=2"],
    ) == [
        "my.yaml: fit.warm_start: false has no effect with engine: ax, which keeps Ax's own settings; "
        "allowed: true (the default), or engine: gpu_gs",
        "my.yaml: acquisition.restarts: 8 has no effect with engine: ax, which keeps Ax's own settings; "
        "allowed: 16 (the default), or engine: gpu_gs",
        "--set: threads: 2 has no effect with engine: ax, which keeps Ax's own settings; "
        "allowed: auto (the default), or engine: gpu_gs",
    ]
    config = StrategyConfig.load("reference", device="cuda", seed=3, deduplicate=False, initialization={"budget": 9})
    assert (config.engine, config.device) == ("ax", "cuda")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_every_kind_of_device_is_taken(device):
    assert StrategyConfig.load(device=device).device == device


@pytest.mark.parametrize("device", ["GPU", "cuda:", "cuda:-1", "cuda:x", "", "mps"])
def test_no_other_device_is(device):
    with pytest.raises(ConfigError, match="allowed: auto, cpu, cuda, cuda:N"):
        StrategyConfig.load(device=device)


def test_the_nearest_name_is_found_whatever_its_case_and_a_far_one_is_not():
    assert nearest("RAW_SAMPLE", ["restarts", "raw_samples"]) == "raw_samples"
    assert nearest("raw", ["restarts", "raw_samples"]) == "raw_samples"
    assert nearest("xyz", ["restarts", "raw_samples"]) is None
    assert closest("raw_sample", ["restarts", "raw_samples"]) == "; did you mean raw_samples?"
    assert closest("xyz", ["restarts"]) == ""


# ------------------------------------------------------------------------------------- a model with more than ours


class Span(ConfigModel):
    type: Literal["span"] = Field(description="Kind.")
    bounds: tuple[float, float] = Field(description="Ends.")


class Pick(ConfigModel):
    type: Literal["pick"] = Field(description="Kind.")
    values: list[str | float] = Field(min_length=2, description="Values.")
    note: str | None = Field(default=None, description="Free text.")

    @model_validator(mode="after")
    def _values_differ(self) -> "Pick":
        if len(set(self.values)) < len(self.values):
            raise ValueError("values: must differ\nsomething else about it")
        return self


class Task(ConfigModel):
    """Has what StrategyConfig has not: required keys, lists, unions of mappings, free keys, floats."""

    preset_kind: ClassVar[Kind | None] = None

    objective: str = Field(description="Required.")
    parameters: list[Annotated[Span | Pick, Field(discriminator="type")]] = Field(default=[], description="List.")
    weights: dict[str, float] = Field(default={}, description="Free keys.")
    rate: float = Field(default=0.5, gt=0, description="A float.")


def test_problems_inside_lists_unions_and_free_keys_have_their_path_and_their_own_keys():
    with pytest.raises(ConfigError) as raised:
        load_config(
            Task,
            {
                "parameters": [
                    {"type": "span", "bound": 3},
                    {"type": "pick", "values": ["a", []], "nota": 1},
                    {"type": "pik"},
                    {"type": "pick", "values": ["a", "a"]},
                    7,
                ],
                "weights": {"a": "x"},
                "rate": 0,
            },
            set_values=["parameters.9.type=span", "parameters.x=1", "parameters.1.note=5"],
        )
    assert raised.value.problems == [
        "--set: parameters.9: no such place in a list of 5; allowed: 0 to 4",
        "--set: parameters.x: no such place in a list of 5; allowed: 0 to 4",
        "configuration: objective: is missing; allowed: text",
        "configuration: parameters.0.bounds: is missing; allowed: a list",
        "configuration: parameters.0.bound: unknown key (value 3); did you mean bounds? allowed: type, bounds",
        "configuration: parameters.1.values.1: [] is not allowed; allowed: text, a number",
        "--set: parameters.1.note: 5 is not allowed; allowed: text, null",
        "configuration: parameters.1.nota: unknown key (value 1); did you mean note? allowed: type, values, note",
        "configuration: parameters.2: {'type': 'pik'} is not allowed; allowed: a mapping with the keys type, bounds, "
        "a mapping with the keys type, values, note",
        "configuration: parameters.3.values: must differ",
        "configuration: parameters.3: something else about it",
        "configuration: parameters.4: 7 is not allowed; allowed: a mapping with the keys type, bounds, "
        "a mapping with the keys type, values, note",
        "configuration: weights.a: 'x' is not allowed; allowed: a number",
        "configuration: rate: 0 is not allowed; allowed: a number (above 0)",
    ]


def test_a_place_in_a_list_can_be_set():
    values = {"objective": "f", "parameters": [{"type": "span", "bounds": [0, 1]}, {"type": "span", "bounds": [0, 1]}]}
    task = load_config(Task, values, set_values=["parameters.1.bounds=[2, 3e0]", "parameters.0.bounds.1=9"])
    assert [parameter.bounds for parameter in task.parameters] == [(0, 9), (2, 3)]
    assert values["parameters"][0]["bounds"] == [0, 1]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_must_be_finite(value):
    with pytest.raises(ConfigError, match="rate"):
        load_config(Task, {"objective": "f", "rate": value})


# ----------------------------------------------------------------------------------------------------------- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("1.5e3", 1500.0),
        ("-.5e+1", -5.0),
        ("3.", 3.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("+12", 12),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("2026-01-01", "2026-01-01"),
        ("1e", "1e"),
        (".", "."),
        ("-", None),
        ("'1e-3'", "1e-3"),
        ("=", "="),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2_has_them(text, value):
    if text == "-":
        value = [None]
    found = parse_yaml(f"key: {text}" if text != "-" else "key:\n  -", "test")["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_read():
    assert math.isnan(parse_yaml(".nan", "test"))


def test_merge_keys_and_repeated_anchors_work_and_an_own_key_may_override():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\nd: [*a, *a]\n"
    assert parse_yaml(text, "test") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 3, "y": 4},
        "d": [{"x": 1, "y": 2}] * 2,
    }


TEXT = st.text(max_size=20) | st.from_regex(
    r"\A(?:[-+.0-9eExXo_:~]{1,8}|null|true|no|on|off|yes|<<|=|[\s#&*!|>%@`'\"{}\[\],?-]{1,4})\Z"
)
POSITIVE = st.integers(min_value=1, max_value=10**9)
INITIALIZATIONS = st.builds(
    InitializationConfig,
    budget=st.integers(min_value=0, max_value=10**6),
    center=st.booleans(),
    min_observed=st.none() | POSITIVE,
    use_existing_trials=st.booleans(),
    allow_exceeding_budget=st.booleans(),
)


@pytest.mark.parametrize("refit", ["adaptive", "always", {"every": 5}])
def test_schedules_of_refits_are_read(refit):
    assert StrategyConfig.load("fast", fit={"refit": refit}).fit.model_dump()["refit"] == refit


@pytest.mark.parametrize("refit", ["never", {"every": 0}, {"each": 5}, 5, {"every": 2.5}])
def test_other_schedules_of_refits_are_refused_with_what_is_allowed(refit):
    with pytest.raises(ConfigError, match=r"fit\.refit") as caught:
        StrategyConfig.load("fast", fit={"refit": refit})
    assert "adaptive, always, a mapping with the keys every" in caught.value.problems[0]


FITS = st.builds(
    FitConfig,
    refit=st.sampled_from(["adaptive", "always"]) | st.builds(Every, every=POSITIVE),
    warm_start=st.booleans(),
    warm_iterations=POSITIVE | st.just("auto"),
    cold_iterations=POSITIVE,
)
ACQUISITIONS = st.builds(
    AcquisitionConfig,
    function=st.sampled_from(ACQUISITION_FUNCTIONS),
    beta=st.floats(min_value=0, max_value=1e3),
    raw_samples=POSITIVE,
    restarts=POSITIVE,
    iterations=POSITIVE,
    memory_mb=POSITIVE,
)
STRATEGIES = st.builds(
    StrategyConfig,
    name=st.none() | TEXT,
    engine=st.just("gpu_gs"),
    seed=st.none() | st.integers(min_value=0, max_value=2**63 - 1),
    device=st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:7"]),
    threads=st.just("auto") | POSITIVE,
    deduplicate=st.booleans(),
    simplify_parameter_changes=st.booleans(),
    fit_tracking_metrics=st.booleans(),
    initialization=INITIALIZATIONS,
    fit=FITS,
    acquisition=ACQUISITIONS,
)
REFERENCES = st.builds(
    StrategyConfig, engine=st.just("ax"), device=st.sampled_from(["auto", "cuda:3"]), initialization=INITIALIZATIONS
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TASKS = st.builds(
    Task,
    objective=TEXT,
    parameters=st.lists(
        st.builds(Span, type=st.just("span"), bounds=st.tuples(FLOATS, FLOATS))
        | st.builds(
            Pick,
            type=st.just("pick"),
            values=st.lists(TEXT | FLOATS, min_size=2, max_size=5, unique=True),
            note=st.none() | TEXT,
        ),
        max_size=3,
    ),
    weights=st.dictionaries(TEXT, FLOATS, max_size=3),
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
)


@given(INITIALIZATIONS | FITS | ACQUISITIONS | STRATEGIES | REFERENCES | TASKS, TEXT)
def test_yaml_reads_back_what_was_written_bit_for_bit(model, header):
    text = dump_yaml(model, header="written by a test\n")
    read = load_config(type(model), parse_yaml(text, "test"))
    assert read == model
    # Equality holds for -0.0 == 0.0 and 1 == 1.0; the written form tells them apart.
    assert read.model_dump_json() == model.model_dump_json()
    assert dump_yaml(read, header="written by a test\n") == text
    assert all(line.startswith("#") for line in dump_yaml(model, header)[: -len(dump_yaml(model))].splitlines())


@given(TEXT)
def test_a_written_string_is_the_same_string_to_readers_of_yaml_1_1_and_1_2(text):
    document = dump_yaml(Task(objective=text))
    assert yaml.safe_load(document)["objective"] == parse_yaml(document, "test")["objective"] == text


@given(FLOATS)
def test_a_written_float_is_the_same_float_to_any_reader(value):
    document = dump_yaml(Task(objective="f", weights={"w": value}))
    for read in (yaml.safe_load(document), parse_yaml(document, "test")):
        assert repr(read["weights"]["w"]) == repr(value)


def test_a_written_file_starts_with_its_comment_and_keeps_the_order_of_the_keys(here):
    text = dump_yaml(StrategyConfig.load("fast"), header="gpu_gs 0.1.0\ntorch 2.13.0")
    assert text.startswith("# gpu_gs 0.1.0\n# torch 2.13.0\nschema_version: 1\n")
    assert [line.partition(":")[0] for line in text.splitlines() if line[0].isalpha()] == list(
        StrategyConfig.model_fields
    )
    (here / "resolved.yaml").write_text(text)
    assert StrategyConfig.load("resolved.yaml") == StrategyConfig.load("fast")


# --------------------------------------------------------------------------------------------------------- schema


def test_the_schema_has_all_keys_forbids_others_and_knows_the_presets():
    schema = json.loads(json.dumps(json_schema(StrategyConfig)))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(schema["properties"]) == ["preset", *StrategyConfig.model_fields]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["preset"]["enum"] == list(presets("strategies"))
    function = schema["$defs"]["AcquisitionConfig"]["properties"]["function"]
    assert function["enum"] == list(ACQUISITION_FUNCTIONS)
    assert "preset" not in json_schema(Task)["properties"]

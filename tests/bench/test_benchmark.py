"""Benchmarks end to end, small: from a configuration to results that go on, tables that add up and a report."""

import json
from threading import Lock

import pytest

from gpu_gs.bench import executors
from gpu_gs.bench.benchmark import run_benchmark
from gpu_gs.bench.plan import BenchmarkConfig
from gpu_gs.bench.report import write_report
from gpu_gs.bench.runner import read_results
from gpu_gs.bench.tables import show
from gpu_gs.errors import ConfigError, TaskError


class Shared:
    """One server of forks for all jobs, which stays up."""

    def __init__(self):
        self.children, self.lock = executors.Children(), Lock()
        self.forks = executors.Forks(self.children)

    def run(self, job):
        with self.lock:
            return self.forks.run(job)

    def close(self):
        pass


@pytest.fixture(scope="module")
def shared():
    made = Shared()
    yield made
    made.forks.close()
    made.children.end()


@pytest.fixture(autouse=True)
def _imports_once(shared, monkeypatch):
    """Jobs are forked from one process that has imported Ax; test_executors compares such runs with fresh processes."""
    monkeypatch.setattr(executors, "alone", lambda job, children: shared.run(job))
    monkeypatch.setattr(executors, "Forks", lambda children: shared)


def run(out, **config):
    return run_benchmark(BenchmarkConfig.load(config), out, say=lambda text: None)


def test_latency_against_stock_ax(tmp_path, capsys):
    section = {"cases": [{"problem": "branin", "n": [8]}], "asks": 2, "threads": [1]}
    result = run(tmp_path, contestants=["fast@cpu", "reference", "ax-random"], latency=section)["latency"]
    fast, reference, floor = result["rows"]
    assert fast["against"]["ax"]["median"] == pytest.approx(reference["median"] / fast["median"])
    assert fast["fit_decisions"] == {"warm": 2}
    assert fast["refit_share"] == 1.0
    assert sum(fast["stages_mean"].values()) == pytest.approx(fast["mean"])
    assert fast["best_parameterization"] > 0
    assert floor["median"] < reference["median"]
    assert json.loads((tmp_path / "latency.json").read_text())["rows"] == result["rows"]
    show(result, stages=True)
    assert "stock Ax" in capsys.readouterr().out


def test_several_candidates_at_once_a_limit_and_a_contestant_that_crashes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gpu_gs.bench.entries.problems_with", lambda name: [])  # which would have found it
    broken = tmp_path / "broken.yaml"
    broken.write_text("preset: fast\nno_such_key: 1\n")
    section = {"cases": [{"problem": "branin", "n": [8], "batch": 2}], "asks": 9, "threads": [1], "limit": 0}
    result = run(tmp_path / "out", contestants=["fast", str(broken)], latency=section)["latency"]
    fast, crashed = result["rows"]
    assert (fast["batch"], fast["asks"], fast["asks_wanted"]) == (2, 3, 9)
    assert sum(fast["fit_decisions"].values()) == 6
    assert crashed["contestant"] == "broken"
    assert "no_such_key" in crashed["error"]
    show(result)
    shown = capsys.readouterr()
    assert "3 of 9" in shown.out and "failed" in shown.out
    assert "no_such_key" in shown.err


def test_regret_of_paired_runs_from_the_same_initial_points(tmp_path, capsys):
    section = {"cases": [{"problem": "branin", "evaluations": 7, "initial": 5}], "seeds": 2, "workers": 2}
    result = run(tmp_path, contestants=["random", "fast"], regret=section)["regret"]
    random, fast = result["rows"]
    assert random["failed"] == fast["failed"] == 0
    starts = {}
    for line in read_results(tmp_path / "regret.jsonl"):
        trace = line["answer"]["regret"]
        assert len(trace) == 7
        assert trace == sorted(trace, reverse=True)
        starts.setdefault(line["job"]["seed"], set()).add(tuple(trace[:5]))
    assert {len(group) for group in starts.values()} == {1}
    show(result)
    assert "random" in capsys.readouterr().out


def test_memory_gives_points_up_and_reports_the_state(tmp_path, capsys):
    result = run(tmp_path, contestants=["fast", "random"], memory={"problem": "branin", "n": 8, "asks": 20})["memory"]
    (row,) = result["rows"]
    assert row["at"][-1] == 20
    assert 0 < row["state_bytes"][-1] < 2048
    assert row["resident_mb"][-1] > 50
    show(result)
    assert "fast" in capsys.readouterr().out


def test_a_kept_file_that_does_not_fit_ends_it_before_anything_runs(tmp_path):
    section = {"cases": [{"problem": "branin", "evaluations": 7, "initial": 5}], "references": ["nowhere.json"]}
    latency = {"cases": [{"problem": "branin", "n": [8]}]}
    with pytest.raises(ConfigError, match=r"nowhere\.json: no such file"):
        run(tmp_path / "out", contestants=["random"], regret=section, latency=latency)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", ["", "sub"])
def test_a_file_in_the_place_of_the_folder_is_an_error_before_anything_runs(tmp_path, inside):
    (tmp_path / "file").write_text("")
    with pytest.raises(TaskError, match="cannot be a folder of results"):
        run(tmp_path / "file" / inside, contestants=["random"], latency={"cases": [{"problem": "branin", "n": [8]}]})
    with pytest.raises(TaskError, match="cannot be a folder of results"):
        run(
            tmp_path / "results",
            contestants=["random"],
            latency={"cases": [{"problem": "branin", "n": [8]}], "asks": 1},
        )
        write_report([tmp_path / "results"], tmp_path / "file" / inside)


def test_a_folder_with_results_of_other_settings_is_said_and_so_is_a_reference_that_lacks_a_case(tmp_path):
    said = []
    cases = [{"problem": name, "evaluations": 6, "initial": 5} for name in ("branin", "levy4")]
    for wanted, references in ((cases[:1], []), (cases, [str(tmp_path / "out")])):
        config = {"cases": wanted, "seeds": 1, "references": references}
        run_benchmark(
            BenchmarkConfig.load({"contestants": ["random"], "regret": config}), tmp_path / "out", said.append
        )
    assert said[0] == f"reference: no run of levy4 in {tmp_path / 'out'}"
    assert "holds results of other settings too" in said[1]
    assert len(said) == 2


def test_the_folder_says_what_ran(tmp_path):
    run(tmp_path, contestants=["random"], latency={"cases": [{"problem": "branin", "n": [8]}], "asks": 1})
    assert BenchmarkConfig.load(tmp_path / "benchmark.yaml").contestants == ("random",)

"""Benchmarks end to end, small: jobs in processes of their own, results that go on, tables that add up."""

import json

import pytest

from gpu_gs.bench.commands import bench_latency, bench_memory, bench_regret, show, validate
from gpu_gs.bench.runner import read_results, run_jobs
from gpu_gs.errors import ConfigError


def test_latency_against_stock_ax(tmp_path, capsys):
    result = bench_latency("branin", [8], ["fast", "reference"], asks=2, threads=[1], seed=0, out=tmp_path)
    fast, reference = result["rows"]
    assert reference["faster_than_ax"] == 1.0
    assert fast["faster_than_ax"] == pytest.approx(reference["median"] / fast["median"])
    assert fast["fit_decisions"] == ["warm"]
    assert sum(fast["stages"].values()) <= 1.5 * fast["median"]
    assert fast["best_parameterization"] > 0
    assert json.loads((tmp_path / "latency.json").read_text())["rows"] == result["rows"]
    show(result)
    assert "reference" in capsys.readouterr().out


def test_regret_of_paired_runs_from_the_same_initial_points(tmp_path, capsys):
    result = bench_regret(["branin"], ["random", "fast"], seeds=2, evaluations=7, initial=5, workers=2, out=tmp_path)
    random, fast = result["rows"]
    assert random["failed"] == fast["failed"] == 0
    lines = list(read_results(tmp_path / "regret.jsonl"))
    starts = {}
    for line in lines:
        trace = line["answer"]["regret"]
        assert len(trace) == 7
        assert trace == sorted(trace, reverse=True)
        starts.setdefault(line["job"]["seed"], set()).add(tuple(trace[:5]))
    assert {len(group) for group in starts.values()} == {1}
    show(result)
    assert "random" in capsys.readouterr().out


def test_memory_gives_points_up_and_reports_the_state(tmp_path, capsys):
    result = bench_memory(["fast"], "branin", n=8, asks=20, seed=0, out=tmp_path)
    (row,) = result["rows"]
    assert row["at"][-1] == 20
    assert 0 < row["state_bytes"][-1] < 2048
    assert row["resident_mb"][-1] > 50
    show(result)
    assert "fast" in capsys.readouterr().out


def job(contestant, seed):
    return {
        "kind": "regret",
        "problem": "branin",
        "contestant": contestant,
        "seed": seed,
        "evaluations": 3,
        "initial": 2,
        "threads": 1,
    }


def test_an_interrupted_benchmark_goes_on_and_a_failed_job_is_tried_again(tmp_path):
    results = tmp_path / "results.jsonl"
    first = run_jobs([job("random", 0), job("nobody", 0)], results)
    assert "answer" in first[0]
    assert "nobody" in first[1]["error"]
    with results.open("a") as file:
        file.write('{"job": {"torn')  # a process was killed while it wrote
    seen = []
    again = run_jobs(
        [job("random", 0), job("random", 1), job("nobody", 0)], results, done=lambda *a: seen.append(a[2]["job"])
    )
    assert again[0] == first[0]
    assert [line["job"]["seed"] for line in read_results(results) if "answer" in line] == [0, 1]
    assert [(j["contestant"], j["seed"]) for j in seen] == [("random", 1), ("nobody", 0)]


def test_unknown_names_are_all_named_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        validate(["hartman6"], ["fsat", "random"])
    text = "\n".join(caught.value.problems)
    assert "hartman6" in text and "hartmann6" in text
    assert "fsat" in text and "fast" in text

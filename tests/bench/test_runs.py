"""Benchmarks end to end, small: jobs in processes of their own, results that go on, tables that add up."""

import json
import os
import signal

import pytest

from gpu_gs.bench.cases import Case
from gpu_gs.bench.entries import validate
from gpu_gs.bench.latency import bench_latency
from gpu_gs.bench.memory import bench_memory
from gpu_gs.bench.regret import bench_regret
from gpu_gs.bench.runner import Forks, read_results, run_jobs
from gpu_gs.bench.tables import show
from gpu_gs.errors import ConfigError


def test_latency_against_stock_ax(tmp_path, capsys):
    result = bench_latency(
        ["branin"], [8], ["fast@cpu", "reference", "ax-random"], asks=2, threads=[1], out=tmp_path, batch=1
    )
    fast, reference, floor = result["rows"]
    assert fast["against"]["ax"]["median"] == pytest.approx(reference["median"] / fast["median"])
    assert fast["fit_decisions"] == {"warm": 2}
    assert fast["refit_share"] == 1.0
    assert sum(fast["stages_mean"].values()) == pytest.approx(fast["mean"])
    assert fast["best_parameterization"] > 0
    assert floor["median"] < reference["median"]
    assert json.loads((tmp_path / "latency.json").read_text())["rows"] == result["rows"]
    assert (tmp_path / "latency.svg").exists()
    show(result, stages=True)
    assert "stock Ax" in capsys.readouterr().out


def test_several_candidates_at_once_a_limit_and_a_contestant_that_crashes(tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("preset: fast\nno_such_key: 1\n")
    result = bench_latency(
        ["branin"], [8], ["fast", str(broken)], asks=9, threads=[1], out=tmp_path / "out", batch=2, limit=0.0
    )
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
    result = bench_regret([Case("branin", 7, 5)], ["random", "fast"], seeds=2, workers=2, out=tmp_path)
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


def test_forked_runs_are_those_of_fresh_processes_and_failures_cost_one_job_each(tmp_path):
    (fresh,) = run_jobs([job("fast", 0)], tmp_path / "fresh.jsonl")
    forks = Forks()
    try:
        assert forks.run_job(job("fast", 0))["answer"]["regret"] == fresh["answer"]["regret"]
        assert "nobody" in forks.run_job(job("nobody", 0))["error"]
        assert "answer" in forks.run_job(job("random", 0))
        os.kill(forks._server.pid, signal.SIGKILL)
        forks._server.wait()
        assert "ended" in forks.run_job(job("random", 0))["error"]
        assert "answer" in forks.run_job(job("random", 0))
    finally:
        forks.close()


def test_two_contestants_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text("preset: fast\n")
    with pytest.raises(ConfigError, match="two are called 'mine'"):
        validate(["branin"], [str(tmp_path / folder / "mine.yaml") for folder in ("a", "b")])


def test_unknown_names_are_all_named_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        validate(["hartman6"], ["fsat", "random"])
    text = "\n".join(caught.value.problems)
    assert "hartman6" in text and "hartmann6" in text
    assert "fsat" in text and "fast" in text

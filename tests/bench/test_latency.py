"""The figures of the latency benchmark: ratios, targets, growth and refits, from made-up answers."""

import json
import math
import random
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from gpu_gs.bench import latency
from gpu_gs.bench.cases import DataKind
from gpu_gs.bench.latency import BATCH_SIZE, STAGES, growth_rows, targets_of
from gpu_gs.bench.plan import load_benchmark
from gpu_gs.bench.report.words import case_words
from gpu_gs.bench.statistics import growth
from gpu_gs.bench.tables import markdown


def line(contestant, ask, *, n=100, batch=1, threads=1, seed=0, details=()):
    job = {
        "problem": "branin",
        "n": n,
        "batch": batch,
        "contestant": contestant,
        "asks": 4,
        "threads": threads,
        "seed": seed,
    }
    answer = {
        "ask": ask,
        "tell": [0.5] * len(ask),
        "first": 9.0,
        "best": [0.1] * 3,
        "details": list(details),
        "peak_mb": 400.0,
        "asks_mb": 10.0,
        "cuda_mb": None,
    }
    return {"job": job, "answer": answer}


def record(decision, fit=0.1, evaluations=2):
    return {
        **dict.fromkeys(STAGES, 0.01),
        "fit": fit,
        "total": 0.01 * (len(STAGES) - 1) + fit,
        "fit_decision": decision,
        "fit_evaluations": evaluations,
        "acquisition": "LogEI",
        "device": "cpu",
        "reasons": "",
    }


def test_that_an_ask_left_its_device_is_said_and_why_it_was_chosen_is_not():
    left = {**record("kept"), "device_reasons": "device: out of memory on cuda: this ask ran on the CPU"}
    chosen = {**record("kept"), "device_reasons": "device: no CUDA device", "reasons": "fit: by BoTorch"}
    row = latency._row([line("fast@cuda", [1.0] * 3, details=[[left], [chosen], [record("kept")]])])
    assert row["reasons"] == ["device: out of memory on cuda: this ask ran on the CPU", "fit: by BoTorch"]


def test_the_better_thread_count_counts():
    row = latency._row([line("fast", [2.0, 2.0, 2.0], threads=1), line("fast", [1.0, 9.0, 1.0], threads=2)])
    assert (row["threads"], row["median"]) == (2, 1.0)
    assert row["medians_by_threads"] == {"1": 2.0, "2": 1.0}
    assert (row["asks"], row["asks_wanted"], row["ask_and_tell"]) == (3, 4, 1.5)


def test_a_contestant_that_fails_with_one_thread_count_takes_part_with_the_other():
    failed = {"job": line("fast", [])["job"], "error": "boom"}
    assert latency._row([failed, line("fast", [1.0], threads=2)])["threads"] == 2
    assert latency._row([failed, failed])["error"] == "boom"


def rounds(contestant, *asks, threads=1):
    return [line(contestant, each, threads=threads, seed=seed) for seed, each in enumerate(asks)]


def test_rounds_are_pooled_and_a_thread_count_that_failed_in_one_is_not_chosen():
    failed = {"job": line("fast", [], seed=2)["job"], "error": "boom"}
    slow = rounds("fast", [3.0] * 4, [4.0] * 4, [5.0] * 4, threads=2)
    row = latency._row([*rounds("fast", [1.0] * 4, [1.0] * 4), failed, *slow])
    assert (row["threads"], row["median"], row["asks"], row["asks_wanted"]) == (2, 4.0, 12, 12)
    row = latency._row([*rounds("fast", [1.0] * 4, [2.0] * 4), failed])
    assert (row["median"], row["asks"], row["asks_wanted"]) == (1.5, 8, 12)


def compared(stock, ours, names=("reference", "fast")):
    found = latency._compared([latency._row(rounds(names[0], *stock)), latency._row(rounds(names[1], *ours))])
    return {row["contestant"]: row for row in found}


def test_a_ratio_has_an_interval_from_three_rounds_on():
    few = compared([[20.0] * 4, [45.0] * 4], [[1.0] * 4] * 2)["fast"]
    assert set(few["against"]["ax"]) == {"contestant", "median", "mean"}
    assert few["against"]["ax"]["median"] == pytest.approx(30.0)  # geometric
    row = compared([[20.0] * 4, [30.0] * 4, [45.0] * 4], [[1.0] * 4] * 3)["fast"]
    ratio = row["against"]["ax"]
    assert ratio["median"] == pytest.approx(30.0)
    half = stats.t.interval(0.95, 2, scale=stats.sem(np.log([20, 30, 45])))[1]
    assert ratio["interval"] == pytest.approx([30 * math.exp(-half), 30 * math.exp(half)])
    assert row["medians_by_seed"] == {"0": 1.0, "1": 1.0, "2": 1.0}
    assert not any(key.startswith("_") for key in row)


def test_what_a_round_does_to_both_does_not_widen_the_interval():
    levels = (1.0, 5.0, 25.0)
    row = compared([[30.0 * level] * 4 for level in levels], [[level] * 4 for level in levels])["fast"]
    assert row["against"]["ax"]["interval"] == pytest.approx([30.0, 30.0])


def test_a_ratio_is_of_the_rounds_of_both_and_failed_rounds_are_said(monkeypatch):
    failed = {"job": line("reference", [], seed=1)["job"], "error": "boom"}
    stock = [*rounds("reference", [20.0] * 4), failed, line("reference", [20.0] * 4, seed=2)]
    ours = rounds("fast", [1.0] * 4, [99.0] * 4, [1.0] * 4)
    theirs, row = latency._compared([latency._row(stock), latency._row(ours)])
    assert row["against"]["ax"]["median"] == pytest.approx(20.0)
    assert "interval" not in row["against"]["ax"]
    assert theirs["failed_rounds"] == {"1": "boom"} and "failed_rounds" not in row
    assert "8 of 12, 1 failed" in markdown({"benchmark": "latency", "rows": [theirs, row], "growth": []})


def test_an_accelerated_strategy_is_compared_with_what_it_was():
    row = compared([[6.0] * 4], [[2.0] * 4], names=("ax-ucb", "accelerated-ucb"))["accelerated-ucb"]
    assert row["against"]["ax"] == {"contestant": "ax-ucb", "median": pytest.approx(3.0), "mean": pytest.approx(3.0)}
    assert compared([[6.0] * 4], [[2.0] * 4], names=("ax-ucb", "ax-matern"))["ax-matern"]["against"] == {}


def test_an_interval_holds_the_true_ratio_about_as_often_as_it_says():
    """With as few rounds as there may be, whose speed varies: of 400 experiments, 92 to 98 % of the intervals hold 30."""
    draw = random.Random(1)

    def asks(median):  # the machine and the data of a round, then its asks
        return {
            seed: [median * math.exp(level + draw.gauss(0, 0.3)) for _ in range(11)]
            for seed, level in enumerate(draw.gauss(0, 0.2) for _ in range(latency.FEWEST_ROUNDS))
        }

    intervals = [latency.ratio_over_rounds(asks(30.0), asks(1.0))["interval"] for _ in range(400)]
    assert 0.92 <= sum(low <= 30.0 <= high for low, high in intervals) / 400 <= 0.98


def test_all_contestants_of_a_round_come_before_the_next_round(monkeypatch, tmp_path):
    order = []

    def answered(jobs, *rest, **more):
        order.extend((job["problem"], job["seed"], job["contestant"]) for job in jobs)
        return [{**line(job["contestant"], [1.0]), "job": job} for job in jobs]

    monkeypatch.setattr(latency, "run_jobs", answered)
    values = ["latency.cases=[{problem: hartmann6, n: [50]}]", "latency.rounds=2", "latency.threads=[1]"]
    wanted = load_benchmark("latency", set_values=values).latency
    result = latency.bench_latency(wanted, ["reference", "fast"], tmp_path)
    assert [(seed, name) for _, seed, name in order] == [(s, name) for s in (0, 1) for name in ("reference", "fast")]
    assert [row["asks_wanted"] for row in result["rows"]] == [2 * wanted.asks] * 2


def test_of_few_asks_there_is_no_95th_percentile_and_without_the_question_no_time_of_it():
    few = line("random", [0.1] * 19)
    few["answer"]["best"] = []
    row = latency._row([few])
    assert row["p95"] is None and row["best_parameterization"] is None
    assert latency._row([line("random", [0.1] * 20)])["p95"] == pytest.approx(0.1)


def test_refits_are_told_from_asks_that_kept_their_hyperparameters():
    details = [[record("warm", evaluations=9)], [record("kept", evaluations=0)], [record("kept", evaluations=0)]]
    row = latency._row([line("fast", [3.0, 1.0, 1.2], details=details)])
    assert row["refit_share"] == pytest.approx(1 / 3)
    assert row["fit_evaluations"] == pytest.approx(3)
    assert (row["median_of_refits"], row["median_between_refits"]) == (3.0, pytest.approx(1.1))
    assert row["fit_decisions"] == {"warm": 1, "kept": 2}


def test_an_ask_for_several_candidates_sums_their_records():
    details = [[record("warm"), record("unchanged", fit=0.0, evaluations=0)]] * 2
    row = latency._row([line("fast", [1.0, 1.0], batch=2, details=details)])
    assert (row["refit_share"], row["fit_evaluations"]) == (1.0, 2.0)
    assert row["stages"]["fit"] == pytest.approx(0.1)
    assert sum(row["stages"].values()) == pytest.approx(1.0)  # "client" is what the records do not explain


def rows(**seconds):
    """Rows of one case, compared: contestants' medians; an underscore stands for the @."""
    names = {name: name.replace("_", "@") for name in seconds}
    return {
        row["contestant"]: row
        for row in latency._compared([latency._row([line(names[name], s)]) for name, s in seconds.items()])
    }


def test_ratios_are_of_medians_and_of_means_and_targets_need_both():
    found = rows(reference=[20.0, 20.0, 20.0], optuna=[1.0, 3.0, 3.0], fast=[1.0, 1.0, 1.0])["fast"]
    assert found["against"]["ax"] == {
        "contestant": "reference",
        **dict.fromkeys(("median", "mean"), pytest.approx(20.0)),
    }
    assert found["against"]["optuna"]["mean"] == pytest.approx(7 / 3)
    ax, optuna = found["targets"]
    assert (ax["ratio"], ax["met"], ax["mean_met"]) == (20, True, True)
    assert (optuna["ratio"], optuna["met"]) == (2, True)
    slow_refits = rows(reference=[20.0] * 3, fast=[1.0, 1.0, 8.0])["fast"]["targets"][0]
    assert (slow_refits["met"], slow_refits["mean_met"]) == (True, False)


def test_an_opponent_that_is_not_there_leaves_its_target_open():
    optuna = rows(reference=[20.0], fast=[1.0])["fast"]["targets"][1]
    assert (optuna["against"], optuna["met"]) == ("optuna", None)


def test_on_cuda_stock_ax_on_cuda_is_the_opponent():
    found = rows(reference=[30.0], reference_cuda=[10.0], fast_cuda=[1.0], fast=[2.0])
    assert found["fast@cuda"]["against"]["ax"] == {"contestant": "reference@cuda", "median": 10.0, "mean": 10.0}
    assert found["fast"]["against"]["ax"]["median"] == 15.0


@pytest.mark.parametrize(
    ("n", "batch", "cuda", "wanted"),
    [
        (100, 1, False, [20, 2]),
        (1000, 1, False, [50, 15]),
        (BATCH_SIZE, 8, False, [20]),
        (1000, 1, True, [20]),
        (100, 1, True, []),
        (50, 1, False, []),
    ],
)
def test_the_targets_are_those_of_the_size_the_batch_and_the_device(n, batch, cuda, wanted):
    row = {"problem": "branin", "n": n, "batch": batch, "median": 1.0, "against": {}}
    assert [target["ratio"] for target in targets_of(row, cuda)] == wanted


def test_ten_thousand_on_cuda_has_a_target_in_seconds():
    for median, met in ((0.9, True), (1.1, False)):
        (target,) = targets_of(
            {"problem": "branin", "n": 10_000, "batch": 1, "median": median, "against": {}}, cuda=True
        )
        assert (target["seconds"], target["met"]) == (1.0, met)


def test_growth_is_between_250_and_2000_and_between_refits_where_every_size_has_such_asks():
    base = {"problem": "branin", "contestant": "fast", "batch": 1}
    sizes = (50, 250, 500, 2000, 10_000)
    found = [{**base, "n": n, "median": n**2.0, "median_between_refits": n**1.5} for n in sizes]
    found += [{**base, "n": 250, "batch": 8, "median": 1e9}, {**base, "n": 1000, "error": "boom"}]
    (row,) = growth_rows(found)
    assert (row["from"], row["to"]) == (250, 2000)
    assert (row["exponent"], row["between_refits"]) == (pytest.approx(2.0), pytest.approx(1.5))
    assert row["exponent"] == pytest.approx(growth([250, 500, 2000], [n**2.0 for n in (250, 500, 2000)]))
    found[2]["median_between_refits"] = None
    assert growth_rows(found)[0]["between_refits"] is None
    assert growth_rows(found[:2]) == []


def test_the_markdown_of_a_result_is_tables_of_equal_columns():
    found = list(rows(reference=[20.0], optuna=[2.0], fast=[1.0]).values())
    found.append({"problem": "branin", "d": 2, "n": 250, "batch": 1, "contestant": "fast", "error": "boom"})
    text = markdown({"benchmark": "latency", "rows": found, "growth": []})
    assert "20x Ax: met, 2x Optuna: met" in text
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
        assert sum(line.startswith("|-") or line.startswith("|:") for line in lines) == (1 if lines else 0)


@pytest.mark.parametrize(
    ("problem", "n", "batch", "pending", "wanted"),
    [
        ("hartmann6-linear", 50, 1, 0, [50]),
        ("hartmann6-linear", 200, 1, 0, [50]),
        ("constrained-hartmann6", 200, 1, 0, [20]),
        ("hartmann6-two", 200, 1, 0, [20]),
        ("hartmann6-mixed", 200, 1, 0, [8]),
        ("ackley20", 200, 1, 0, [15]),
        ("hartmann6", 200, 1, 3, [15]),
        *((name, 200, 8, 0, [20]) for name in ("hartmann6", "hartmann6-linear", "constrained-hartmann6")),
        *((name, 200, 8, 0, [20]) for name in ("hartmann6-two", "hartmann6-mixed")),
        ("hartmann6", 200, 1, 0, []),
        ("hartmann6-linear", 100, 1, 0, []),
    ],
)
def test_every_kind_of_problem_has_its_target_and_no_other(problem, n, batch, pending, wanted):
    row = {"problem": problem, "n": n, "batch": batch, "pending": pending, "median": 1.0, "against": {}}
    assert [target["ratio"] for target in targets_of(row, cuda=False)] == wanted
    assert targets_of({**row, "storage": True}, cuda=False) == []


def section():
    return load_benchmark("latency").latency


def test_the_shipped_benchmark_has_a_case_for_every_target():
    cases = {(case.problem, n, case.batch, case.pending, case.cuda_only) for case in section().cases for n in case.n}
    plain = {"hartmann6", "ackley20"}
    for target in latency.TARGETS:
        for problem in {target.problem} if target.problem else plain - ({"ackley20"} if target.batch > 1 else set()):
            sizes = {(problem, target.n, target.batch, target.pending, only) for only in (False, target.cuda)}
            assert sizes & cases or (target.cuda and problem == "ackley20"), target


def test_a_job_names_only_what_is_unusual_so_that_older_answers_count():
    rest = {"contestant": "fast", "asks": 20, "limit": 600.0, "threads": 1, "seed": 0}
    job = {"kind": "latency", "problem": "branin", "n": 50, "batch": 1, **rest}
    assert latency.Case("branin", 50).job(**rest) == job
    for case in (latency.Case("branin", 50, 8, 3, True, "curves"), latency.Case("branin", 50)):
        assert latency.Case.of(case.job(**rest)) == case


def test_cases_of_other_data_have_rows_of_their_own_without_targets(monkeypatch, tmp_path):
    monkeypatch.setattr(
        latency,
        "run_jobs",
        lambda jobs, *rest, **more: [{**line(job["contestant"], [1.0]), "job": job} for job in jobs],
    )
    cases = [{"problem": "hartmann6", "n": [200], "batch": 8, "data": data} for data in (None, *get_args(DataKind))]
    wanted = load_benchmark("latency-kinds", set_values=[f"latency.cases={json.dumps(cases)}"]).latency
    result = latency.bench_latency(wanted, ["reference", "fast", "random"], tmp_path)
    assert [(row.get("data"), row["contestant"]) for row in result["rows"]] == [
        *((None, name) for name in ("reference", "fast", "random")),
        *((data, name) for data in get_args(DataKind) for name in ("reference", "fast")),
    ]
    assert [bool(row.get("targets")) for row in result["rows"] if row["contestant"] == "fast"] == [True] + [False] * 4
    text = markdown(result)
    for words in ("known noise", "missing metrics", "learning curves", "batch trials"):
        assert f"200 (8 at once, {words})" in text
    assert len({case_words(row) for row in result["rows"]}) == len(cases)


def test_each_case_runs_with_the_contestants_that_take_it(monkeypatch, tmp_path):
    def answered(jobs, *rest, **more):
        return [
            {**line(job["contestant"], [20.5 if job["contestant"] == "reference" else 1.0]), "job": job} for job in jobs
        ]

    monkeypatch.setattr(latency, "run_jobs", answered)
    monkeypatch.setattr(latency, "cores_of_process", lambda: 2)
    result = latency.bench_latency(section(), ["reference", "fast", "ax-random", "reference@cuda"], tmp_path)
    ours = {
        (r["problem"], r["n"], r["batch"], r.get("pending", 0)): r for r in result["rows"] if r["contestant"] == "fast"
    }
    assert {row["threads"] for row in ours.values()} <= {1, 2}
    met = {case: row["targets"][0]["met"] for case, row in ours.items() if row.get("targets")}
    assert (
        not met["hartmann6-linear", 50, 1, 0] and met["hartmann6-two", 200, 8, 0] and met["hartmann6-mixed", 200, 1, 0]
    )
    floor = {row["problem"] for row in result["rows"] if row["contestant"] == "ax-random"}
    assert floor == {"hartmann6", "ackley20", "constrained-hartmann6", "hartmann6-two"}  # floats in a box
    on_gpu_alone = [(row["problem"], row["contestant"]) for row in result["rows"] if row["n"] == 10_000]
    assert on_gpu_alone == [("hartmann6", "reference@cuda"), ("ackley20", "reference@cuda")]
    stored = {row["contestant"] for row in result["rows"] if row.get("storage")}
    assert stored == {"reference", "fast", "reference@cuda"}
    text = markdown(result)
    assert "200 (3 pending)" in text and "200 (stored)" in text and "50x Ax: NOT met" in text
    assert json.loads((tmp_path / "latency.json").read_text())["rows"] == result["rows"]

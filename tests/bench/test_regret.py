"""The figures of the regret benchmark, from made-up runs, and runs that were kept."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from gpu_gs.bench.cases import KINDS, SUITES, Case, cases_of
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.regret import bench_regret, checkpoints, read_traces
from gpu_gs.bench.tables import show
from gpu_gs.errors import ConfigError

EVALUATIONS, INITIAL, SEEDS = 7, 5, 6


def write_runs(path, contestant, problems, final, seeds=SEEDS, evaluations=EVALUATIONS):
    """Raw answers as a benchmark leaves them; ``final(problem, seed)`` is the regret at the end."""
    with path.open("a") as file:
        for seed in range(seeds):
            for problem in problems:
                job = {"kind": "regret", "problem": problem, "contestant": contestant, "seed": seed}
                job |= {"evaluations": evaluations, "initial": INITIAL, "threads": 1}
                regret = [100.0] * (evaluations - 1) + [final(problem, seed)]
                file.write(json.dumps({"job": job, "answer": {"regret": regret, "seconds": [0.1, 0.3]}}) + "\n")


def cases(problems):
    return [Case(name, EVALUATIONS, INITIAL) for name in problems]


def run(problems, out, kept, contestants=(), seeds=SEEDS):
    return bench_regret(cases(problems), list(contestants), seeds, 1, out, kept=kept)


@pytest.fixture
def made_up(tmp_path):
    """Two problems; "cpu" is stock Ax times 10 ** d, with its own d for each problem and seed."""
    rng = np.random.default_rng(0)
    problems = ("branin", "levy4")
    base = {(p, s): float(10 ** rng.normal()) for p in problems for s in range(SEEDS)}
    d = {key: float(rng.normal(-0.2, 0.3)) for key in base}
    path = tmp_path / "kept.jsonl"
    write_runs(path, "reference", problems, lambda p, s: base[p, s])
    write_runs(path, "cpu", problems, lambda p, s: base[p, s] * 10 ** d[p, s])
    return problems, d, path


def test_problems_are_pooled_by_seed_and_each_has_its_own_test(made_up, tmp_path, capsys):
    problems, d, path = made_up
    result = run(problems, tmp_path / "out", [path])
    (row,) = [row for row in result["pooled"] if row["contestant"] == "cpu"]
    means = [np.mean([d[p, s] for p in problems]) for s in range(SEEDS)]
    expected = stats.ttest_1samp(means, 0.0, alternative="less").confidence_interval(0.95).high
    assert row["against_ax"]["upper_bound"] == pytest.approx(expected, abs=1e-9)
    assert row["against_ax"]["problems"] == list(problems)
    assert row["against_ax"]["median_difference"] == pytest.approx(np.median(list(d.values())), abs=1e-9)
    assert row["against_ax"]["better_share"] == np.mean([x < 0 for x in d.values()])
    assert "against_optuna" not in row
    (single,) = [r for r in result["rows"] if (r["contestant"], r["problem"]) == ("cpu", "levy4")]
    assert single["against_ax"]["mean_difference"] == pytest.approx(np.mean([d["levy4", s] for s in range(SEEDS)]))
    assert single["kept"] and single["seconds_per_evaluation"] == pytest.approx(0.2)
    show(result)
    assert "stock Ax (kept)" in capsys.readouterr().out


def test_a_result_stands_in_for_the_runs_it_was_made_from(made_up, tmp_path):
    problems, _, path = made_up
    first = run(problems, tmp_path / "one", [path])
    again = run(problems, tmp_path / "two", [tmp_path / "one" / "regret.json"])
    for one, two in zip(sorted(first["pooled"], key=str), sorted(again["pooled"], key=str), strict=True):
        assert one["contestant"] == two["contestant"]
        if "against_ax" in one:
            assert one["against_ax"]["upper_bound"] == pytest.approx(two["against_ax"]["upper_bound"], abs=1e-4)


def test_runs_of_a_contestant_that_is_to_run_now_are_not_taken_from_a_file(tmp_path):
    write_runs(tmp_path / "old.jsonl", "random", ["branin"], lambda p, s: 1e-5)
    (row,) = run(["branin"], tmp_path / "out", [tmp_path / "old.jsonl"], ["random"], seeds=2)["rows"]
    assert row["median"] > 1e-4
    assert not row["kept"]


def test_unfinished_runs_pool_over_what_is_there(made_up, tmp_path):
    problems, _, path = made_up
    write_runs(tmp_path / "more.jsonl", "fast", ["levy4"], lambda p, s: 1.0, seeds=3)
    result = run(problems, tmp_path / "out", [path, tmp_path / "more.jsonl"])
    (row,) = [row for row in result["pooled"] if row["contestant"] == "fast"]
    assert (row["against_ax"]["problems"], row["against_ax"]["pairs"]) == (["levy4"], 3)
    assert row["failed"] == 2 * SEEDS - 3


def test_runs_of_another_length_and_what_is_no_result_are_refused(tmp_path):
    write_runs(tmp_path / "long.jsonl", "reference", ["branin"], lambda p, s: 1.0, evaluations=9)
    with pytest.raises(ConfigError, match="branin have 9 evaluations, 5 of them initial, not 7 and 5"):
        read_traces(tmp_path / "long.jsonl", cases(["branin"]))
    assert read_traces(tmp_path / "long.jsonl", cases(["levy4"])) == {}
    (tmp_path / "other.json").write_text('{"rows": []}')
    for name in ("other.json", "missing.json"):
        with pytest.raises(ConfigError, match=name):
            read_traces(tmp_path / name, cases(["branin"]))


def test_kept_regrets_are_at_the_initial_points_every_ten_evaluations_and_at_the_end():
    assert checkpoints(10, 60) == [10, 20, 30, 40, 50, 60]
    assert checkpoints(5, 7) == [5, 7]
    assert checkpoints(12, 45) == [12, 20, 30, 40, 45]


def test_the_result_of_ten_problems_and_three_contestants_is_small(tmp_path):
    rng = np.random.default_rng(1)
    names = [f"{p}{n}" for p in ("hartmann6", "branin", "levy4", "rosenbrock4", "ackley10") for n in ("", "-noisy")]
    path = tmp_path / "kept.jsonl"
    for contestant in ("reference", "optuna", "fast"):
        write_runs(path, contestant, names, lambda p, s: math.exp(rng.normal()), seeds=20)
    run(names, tmp_path / "out", [path], seeds=20)
    assert (tmp_path / "out" / "regret.json").stat().st_size < 300_000


def test_jobs_of_runs_without_batches_are_those_of_older_answers():
    job = {"kind": "regret", "problem": "branin", "contestant": "fast", "seed": 3}
    job |= {"evaluations": 60, "initial": 10, "threads": 1}
    assert Case("branin").job("fast", 3) == job
    for case in KINDS:
        assert Case.of(case.job("fast", 0)) == case


def test_a_result_without_cases_stands_in_as_well(made_up, tmp_path):
    problems, _, path = made_up
    run(problems, tmp_path / "one", [path])
    result = json.loads((tmp_path / "one" / "regret.json").read_text())
    old = {**result, "evaluations": EVALUATIONS, "initial": INITIAL}
    del old["cases"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    now, before = (read_traces(p, cases(problems)) for p in (tmp_path / "one" / "regret.json", tmp_path / "old.json"))
    assert now == before != {}
    with pytest.raises(ConfigError, match="branin have 7 evaluations"):
        read_traces(tmp_path / "old.json", [Case("branin", 8, INITIAL)])


def test_cases_are_named_by_problem_and_way_to_ask_and_can_be_changed():
    assert cases_of("claim") == list(SUITES["claim"].cases)
    assert [case.name for case in cases_of("kinds")][-3:] == [
        "hartmann6-batch4", "hartmann6-batch8", "hartmann6-pending4",
    ]  # fmt: skip
    (case,) = cases_of("claim", ["hartmann6"])
    assert (case.evaluations, case.initial, case.batch) == (60, 10, 1)
    (case,) = cases_of("claim", ["hartmann6-batch4"], evaluations=20)
    assert (case.problem, case.evaluations, case.initial, case.batch) == ("hartmann6", 20, 14, 4)
    (case,) = cases_of("kinds", ["pressurevessel"], batch=2, pending=3)
    assert case.name == "pressurevessel-batch2-pending3"
    assert cases_of("claim", ["nobody"]) == [Case("nobody")]


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
def test_the_suite_of_kinds_has_room_to_search_from_as_many_points_as_two_for_each_degree_of_freedom(case):
    assert case.initial == min(2 * (PROBLEMS[case.problem].dim + 1), 20)
    assert 30 <= case.evaluations - case.initial <= 48
    assert (case.evaluations - case.initial) % case.batch == 0


def test_a_contestant_is_not_charged_for_problems_it_cannot_take(tmp_path):
    write_runs(tmp_path / "kept.jsonl", "optuna", ["branin"], lambda p, s: 1.0)
    result = run(["branin", "branincurrin"], tmp_path / "out", [tmp_path / "kept.jsonl"])
    (row,) = [row for row in result["pooled"] if row["contestant"] == "optuna"]
    assert row["failed"] == 0
    assert [row["problem"] for row in result["rows"]] == ["branin"]

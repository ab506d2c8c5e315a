"""The figures of the regret benchmark, from made-up runs, and runs that were kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from gpu_gs.bench import executors, worker
from gpu_gs.bench.cases import Case
from gpu_gs.bench.contestants import unsuited
from gpu_gs.bench.plan import load_benchmark
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.regret import Kept, Runs, _test, as_json, bench_regret, figures
from gpu_gs.bench.statistics import holm, signed_rank
from gpu_gs.bench.tables import markdown, show
from gpu_gs.bench.traces import of_lines, read_traces, schedule
from gpu_gs.errors import ConfigError

EVALUATIONS, INITIAL, SEEDS = 7, 5, 6
MACHINE = {"machine": "x86_64", "processor": "Fast", "cores": 2, "gpus": []}

KINDS = [case.case() for case in load_benchmark("kinds").regret.cases]


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
    return bench_regret(cases(problems), list(contestants), seeds, out, kept=Kept.read(kept, cases(problems)))


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
    assert single["against_ax"]["p_value"] == pytest.approx(signed_rank([d["levy4", s] for s in range(SEEDS)]))
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


def test_runs_of_a_contestant_that_is_to_run_now_are_not_taken_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "alone", lambda job, children: {"answer": worker.measure(job)})
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
    assert (row["failed"], row["missing"]) == (0, 2 * SEEDS - 3)
    # Three pairs are no claim, however good they look.
    assert row["against_ax"]["no_claim"] == "fewer than 10 pairs"
    assert not row["against_ax"]["not_worse"]


def test_runs_of_another_length_and_what_is_no_result_are_refused(tmp_path):
    write_runs(tmp_path / "long.jsonl", "reference", ["branin"], lambda p, s: 1.0, evaluations=9)
    with pytest.raises(ConfigError, match="branin have 9 evaluations, 5 of them initial, not 7 and 5"):
        read_traces(tmp_path / "long.jsonl", cases(["branin"]))
    assert read_traces(tmp_path / "long.jsonl", cases(["levy4"])) == {}
    (tmp_path / "other.json").write_text('{"rows": []}')
    for name in ("other.json", "missing.json"):
        with pytest.raises(ConfigError, match=name):
            read_traces(tmp_path / name, cases(["branin"]))


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


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
def test_the_suite_of_kinds_has_room_to_search_from_as_many_points_as_two_for_each_degree_of_freedom(case):
    assert case.initial == min(2 * (PROBLEMS[case.problem].dim + 1), 20)
    assert 10 <= case.evaluations - case.initial <= 48
    assert (case.evaluations - case.initial) % case.batch == 0


def test_a_contestant_is_not_charged_for_problems_it_cannot_take(tmp_path):
    write_runs(tmp_path / "kept.jsonl", "optuna", ["branin"], lambda p, s: 1.0)
    result = run(["branin", "hartmann6-linear"], tmp_path / "out", [tmp_path / "kept.jsonl"])
    (row,) = [row for row in result["pooled"] if row["contestant"] == "optuna"]
    assert row["failed"] == 0
    assert [row["problem"] for row in result["rows"]] == ["branin"]


# ------------------------------------------------------------------------------------- all that is said about runs


def lines_of(case, contestant, seeds, ask, steepness, **run):
    """Made-up answers: regrets fall in steps, asks cost ``ask`` seconds, the objective half a second."""
    lines = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, len(contestant), case.evaluations])
        falls = 10 ** -np.cumsum(
            rng.exponential(steepness, case.evaluations) * (rng.uniform(size=case.evaluations) < 0.3)
        )
        regret = [*np.full(case.initial, 10.0), *(10 * falls[case.initial :] / falls[case.initial])]
        rounds = [x for x in schedule(case) if x[0]]
        answer = {"regret": [float(x) for x in regret], "seconds": [ask] * len(rounds)}
        answer["objective_seconds"] = [0.5] * (case.evaluations - case.initial)
        run = {"commit": "abc1234", "machine": MACHINE, "device": "cpu", "config": "c0ffee", **run}
        lines.append({"job": case.job(contestant, seed), "answer": answer, "run": {**run, "at": f"second {seed}"}})
    return lines


def runs_of(cases, contestants, seeds, lines, kept=(), now=None):
    errors = {(Case.of(x["job"]).name, x["job"]["contestant"]): x["error"] for x in lines if "error" in x}
    traces = {**dict(of_lines(kept, kept=True)), **dict(of_lines(lines))}
    return Runs(cases, contestants, traces, seeds, contestants if now is None else now, errors)


@pytest.fixture(scope="module")
def result():
    """All kinds of problems, ten seeds, six contestants, one of which fails on a whole case and on seeds of another."""
    speed = {"fast": 0.05, "careful-and-slow": 0.3, "reference": 1.0, "optuna": 0.2, "random": 1e-4, "ax-random": 1e-2}
    lines = []
    for case in KINDS:
        for name, ask in speed.items():
            if unsuited(name, PROBLEMS[case.problem]) is None:
                lines += lines_of(case, name, 10, ask, 0.1 if "random" in name else 0.3)
    for line in lines:
        job = line["job"]
        if job["contestant"] == "careful-and-slow" and (job["problem"] == "dtlz2" or job["seed"] == 3):
            del line["answer"]
            line["error"] = "Traceback ...\nRuntimeError: no memory"
    return figures(runs_of(list(KINDS), list(speed), 10, lines))


def test_a_contestant_that_failed_is_a_row_and_counts_as_never_there(result):
    row = next(r for r in result["rows"] if (r["problem"], r["contestant"]) == ("dtlz2", "careful-and-slow"))
    assert row["failed"] == 10 and "no memory" in row["error"] and "median" not in row
    target = next(r for r in result["targets"] if (r["case"], r["contestant"]) == ("dtlz2", "careful-and-slow"))
    assert (target["runs"], target["share"], target["evaluations"], target["elapsed"]) == (10, 0.0, None, None)
    profile = result["profiles"]["careful-and-slow"]
    assert profile["runs"] == 140 and profile["share"][-1] <= (140 - 10 - 13) / 140
    pooled = next(r for r in result["pooled"] if r["contestant"] == "careful-and-slow")
    assert (pooled["failed"], pooled["missing"]) == (10 + 13, 0)
    assert pooled["against_ax"]["no_claim"] == "fewer than 10 pairs"  # seed 3 failed everywhere
    assert not pooled["against_ax"]["not_worse"]


def test_runs_that_end_are_no_claim_where_too_many_failed():
    better = [-0.5, -0.4] * 6
    assert _test(better, better, failed=0.05)["not_worse"]
    test = _test(better, better, failed=0.16)
    assert test["no_claim"] == "16 % of the runs failed" and not test["not_worse"]
    assert test["upper_bound"] < -0.3


def test_profiles_are_of_contestants_that_took_all_problems(result):
    assert set(result["profiles"]) == {"fast", "careful-and-slow", "reference", "random"}


def test_p_values_are_adjusted_for_the_problems_on_which_two_meet(result):
    for name, problems in (("fast", 14), ("careful-and-slow", 13), ("optuna", 13)):
        tests = [r["against_ax"] for r in result["rows"] if r["contestant"] == name and "against_ax" in r]
        assert len(tests) == problems
        assert [test["p_adjusted"] for test in tests] == holm([test["p_value"] for test in tests])
        for test in tests:
            low, high = test["interval"]
            assert low <= test["median_difference"] <= high


def test_rows_carry_what_all_their_runs_ran_on(result):
    ran = {"commit": "abc1234", "machine": MACHINE, "device": "cpu", "config": "c0ffee", "threads": 1}
    assert all(row["run"] == ran for row in result["rows"] if "median" in row)
    case = KINDS[0]
    lines = [*lines_of(case, "fast", 1, 0.1, 0.3), *lines_of(case, "fast", 2, 0.1, 0.3, commit="def5678")[1:]]
    (row,) = figures(runs_of([case], ["fast"], 2, lines))["rows"]
    assert "commit" not in row["run"] and row["run"]["device"] == "cpu"


def test_time_in_the_objective_is_apart_from_time_in_the_strategy(result):
    row = next(r for r in result["rows"] if (r["problem"], r["contestant"]) == ("pressurevessel", "fast"))
    assert (row["strategy_seconds"], row["objective_seconds"]) == (pytest.approx(20 * 0.05), pytest.approx(20 * 0.5))
    curve = result["curves"]["pressurevessel"]["fast"]
    assert (curve["evaluations"][0], curve["evaluations"][-1], curve["seeds"]) == (10, 30, 10)
    assert curve["elapsed"] == pytest.approx([0.05 * (n - 10) for n in curve["evaluations"]])
    assert curve["objective"][-1] == pytest.approx(10.0)
    assert all(low <= x <= high for low, x, high in zip(curve["low"], curve["median"], curve["high"], strict=True))


def test_ours_are_compared_with_the_opponents_on_one_clock_and_over_all_problems(result):
    rows = [row for row in result["equal_time"] if (row["contestant"], row["against"]) == ("fast", "reference")]
    assert [row["case"] for row in rows] == [*(case.name for case in KINDS), None]
    assert rows[-1]["pairs"] == 140 and rows[-1]["first"] == 1.0
    assert {row["contestant"] for row in result["equal_time"]} == {"fast", "careful-and-slow"}


def test_seconds_of_another_machine_stand_beside_no_others():
    case = KINDS[0]
    other = lines_of(case, "reference", 3, 1.0, 0.3, machine={**MACHINE, "processor": "Slow"})
    found = figures(runs_of([case], ["fast", "reference"], 3, lines_of(case, "fast", 3, 0.1, 0.3), other, now=["fast"]))
    curves = found["curves"][case.name]
    assert curves["fast"]["elapsed"] is not None and curves["reference"]["elapsed"] is None
    assert curves["reference"]["median"]
    elapsed = {row["contestant"]: row["elapsed"] for row in found["targets"]}
    assert elapsed["reference"] is None
    (row,) = [row for row in found["rows"] if row["contestant"] == "reference"]
    assert (row["strategy_seconds"], row["seconds_per_evaluation"]) == (None, None)
    assert found["equal_time"] == []


def test_seconds_with_a_warm_up_in_them_stand_beside_no_others():
    case = KINDS[0]
    warm = lines_of(case, "fast", 3, 0.1, 0.3)
    for line in warm:
        line["answer"]["warm_up"] = 4.0
    kept = lines_of(case, "reference", 3, 1.0, 0.3)
    found = figures(runs_of([case], ["fast", "reference"], 3, warm, kept, now=["fast"]))
    ours, theirs = found["rows"]
    assert (ours["warm_up"], theirs["warm_up"], theirs["strategy_seconds"]) == (4.0, None, None)
    assert ours["strategy_seconds"] > 0
    assert found["equal_time"] == []


def test_tables_show_everything_in_170_columns(result, capsys):
    show({"benchmark": "regret", **result})
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 170
    for words in (
        "failed",
        "p adjusted",
        "strategy s",
        "sooner",
        "Planned:",
        "commit abc1234, Fast, 2 cores, cpu, 1 thread",
    ):
        assert words in out, words


def test_a_result_of_all_kinds_is_small(result):
    text = as_json(result)
    assert len(text) < 500_000
    assert json.loads(text)["traces"] == result["traces"]


def test_a_kept_contestant_with_fewer_seeds_did_not_fail():
    case = KINDS[0]
    kept, now = lines_of(case, "reference", 3, 1.0, 0.3), lines_of(case, "fast", 6, 0.1, 0.3)
    result = figures(runs_of([case], ["fast", "reference"], 6, now, kept, now=["fast"]))
    assert {row["contestant"]: row["runs"] for row in result["targets"]} == {"fast": 6, "reference": 3}
    assert {row["runs"] for row in result["profiles"].values()} == {3}


def test_without_stock_ax_the_target_is_the_best_median():
    case = Case("branin", 40, 10)
    lines = [*lines_of(case, "fast", 5, 0.1, 0.5), *lines_of(case, "random", 5, 1e-4, 0.05)]
    result = figures(runs_of([case], ["random", "fast"], 5, lines))
    medians = {row["contestant"]: row["median"] for row in result["rows"]}
    assert {row["target"] for row in result["targets"]} == {min(medians.values())}
    assert {row["of"] for row in result["targets"]} == {min(medians, key=medians.get)}


def test_without_stock_ax_and_optuna_all_are_compared_with_the_first_contestant(capsys):
    case = Case("branin", 40, 10)
    lines = [*lines_of(case, "fast", 12, 0.1, 0.5), *lines_of(case, "thorough", 12, 0.1, 0.05)]
    result = figures(runs_of([case], ["fast", "thorough"], 12, lines))
    first, second = result["rows"]
    assert not any(key.startswith("against") for key in first)
    assert second["against_first"]["opponent"] == "fast" and second["against_first"]["mean_difference"] > 0
    assert second["against_first"]["p_adjusted"] == second["against_first"]["p_value"]
    assert result["pooled"][1]["against_first"]["pairs"] == 12
    show({"benchmark": "regret", **result})
    assert "compared seed by seed" in capsys.readouterr().out
    # With stock Ax there, it is the opponent.
    result = figures(runs_of([case], ["fast", "reference"], 12, [*lines, *lines_of(case, "reference", 12, 1.0, 0.1)]))
    assert not any("against_first" in row for row in result["rows"])


def test_a_contestant_alone_has_no_empty_tables_of_comparisons(capsys):
    case = Case("branin", 40, 10)
    show({"benchmark": "regret", **figures(runs_of([case], ["fast"], 3, lines_of(case, "fast", 3, 0.1, 0.5)))})
    assert "compared" not in capsys.readouterr().out


def test_each_contestant_meets_stock_ax_on_its_own_device():
    names = ["fast@cuda", "fast@cpu", "reference@cpu", "reference@cuda", "fast", "optuna"]
    runs = Runs([], names, {}, 1)
    assert [runs.opponent(name, "ax") for name in names] == [
        "reference@cuda", "reference@cpu", None, None, "reference@cpu", "reference@cpu",
    ]  # fmt: skip
    plain = Runs([], ["reference@cuda", "reference", "fast@cpu", "fast@cuda:1"], {}, 1)
    assert [plain.opponent(name, "ax") for name in ("fast@cpu", "fast@cuda:1")] == ["reference", "reference@cuda"]
    assert runs.opponent("fast@cuda", "optuna") == "optuna"
    assert runs.opponent("optuna", "optuna") is None


def test_the_committed_result_stands_in_and_its_tables_are_printed():
    path = Path(__file__).parents[2] / "benchmarks" / "results" / "regret.json"
    stored = json.loads(path.read_text())
    cases = [Case(**case) for case in stored["cases"].values()]
    result = figures(Runs(cases, list(stored["traces"]), read_traces(path, cases), stored["seeds"]))
    medians = {(row["problem"], row["contestant"]): row["median"] for row in result["rows"]}
    assert medians == {
        (row["problem"], row["contestant"]): pytest.approx(row["median"], rel=1e-4) for row in stored["rows"]
    }
    assert "Planned" in markdown({"benchmark": "regret", **result})
    assert "Regret after" in markdown(stored)


def test_tables_of_results_without_intervals_and_p_values_are_printed(result):
    new = ("interval", "p_value", "p_adjusted", "opponent", "run", "strategy_seconds", "objective_seconds")

    def older(row):
        return {k: older(v) if isinstance(v, dict) else v for k, v in row.items() if k not in new}

    rows, pooled = ([older(row) for row in result[key]] for key in ("rows", "pooled"))
    old = {"benchmark": "regret", "seeds": 10, "evaluations": 60, "initial": 10, "rows": rows, "pooled": pooled}
    text = markdown(old)
    assert "**Regret after 60 evaluations, 10 of them initial, 10 seeds**" in text
    assert "stock Ax" in text and "Planned" not in text and "Evaluations and seconds" not in text

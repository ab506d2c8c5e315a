"""Results of several runs and machines, put together."""

import json

import pytest

from gpu_gs.bench.report import is_benchmark, write_report
from gpu_gs.bench.report.merge import read
from gpu_gs.errors import ConfigError
from tests.bench.results import GPU, latency, memory, old_regret, regret, timed, write


def medians(book, machine):
    return {(row["contestant"], row["n"]): row["median"] for row in book.latency(machine)["rows"]}


def test_of_the_same_case_twice_the_newest_result_counts_in_whatever_order_they_are_given(tmp_path):
    old = write(tmp_path / "old", latency([timed("fast", 100, scale=2), timed("fast", 250)], at="2026-11-20T10:00:00"))
    new = write(tmp_path / "new", latency([timed("fast", 100)], at="2026-11-21T10:00:00"))
    for folders in ([old, new], [new, old]):
        book = read(folders)
        (machine,) = book.machines
        assert medians(book, machine) == {("fast", n): timed("fast", n)["median"] for n in (100, 250)}


def test_without_dates_the_folder_given_last_counts_and_in_it_the_plain_file(tmp_path):
    first = write(tmp_path / "first", latency([timed("fast", 100, scale=2)]))
    last = write(tmp_path / "last", latency([timed("fast", 100)]))
    write(last, latency([timed("fast", 100, scale=3), timed("fast", 50)]), name="latency-more")
    book = read([first, last])
    assert medians(book, book.machines[0]) == {("fast", n): timed("fast", n)["median"] for n in (50, 100)}


def test_cases_that_differ_in_how_is_asked_are_different_ones(tmp_path):
    rows = [
        timed("fast", 200),
        timed("fast", 200, batch=8),
        timed("fast", 200, pending=3),
        timed("fast", 200, storage=True),
    ]
    book = read([write(tmp_path, latency(rows))])
    assert len(book.latency(book.machines[0])["rows"]) == 4


def test_machines_stand_beside_each_other_and_their_growth_is_their_own(tmp_path):
    here = write(tmp_path / "here", latency([timed("fast", n) for n in (250, 1_000)]))
    there = write(tmp_path / "there", latency([timed("fast", n, scale=n) for n in (250, 1_000)], gpus=[GPU, GPU]))
    book = read([here, there])
    assert book.machines == ("Zen, 2 cores", f"Zen, 2 cores, 2x {GPU}")
    assert book.titled("branin", book.machines[1]) == "branin (machine B)"
    slopes = [book.latency(machine)["growth"][0]["exponent"] for machine in book.machines]
    assert slopes == pytest.approx([0.4, 1.4])


def test_memory_results_of_other_problems_or_lengths_stay_apart(tmp_path):
    longer = {**memory(), "asks": 5_000}
    book = read([write(tmp_path / "a", memory()), write(tmp_path / "b", memory()), write(tmp_path / "c", longer)])
    merged = book.memory(book.machines[0])
    assert [result["asks"] for result in merged] == [1_000, 5_000]
    assert [len(result["rows"]) for result in merged] == [2, 2]


def test_a_result_from_before_there_were_curves_has_medians_and_quartiles_of_its_traces(tmp_path):
    book = read([write(tmp_path, old_regret())])
    curve = book.curves(book.machines[0])["branin"]["always"]
    assert curve.evaluations == (10, 20, 30, 35)
    assert curve.median == (8.0, 4.0, 4.0, 3.0)
    assert (curve.low[-1], curve.high[-1]) == (2.0, 4.0)
    assert curve.interval == "quartiles" and curve.seeds == 5 and not curve.elapsed


def test_curves_of_two_results_are_put_into_the_same_cases_if_these_are_of_one_length(tmp_path):
    book = read([write(tmp_path / "a", old_regret()), write(tmp_path / "b", regret())])
    curves = book.curves(book.machines[0])
    assert list(curves["branin, 35 evaluations"]) == ["always"]
    assert list(curves["branin, 60 evaluations"]) == ["fast", "reference"]
    assert curves["levy4-batch4"]["fast"].floor == 0.05


def test_runs_of_a_case_of_several_lengths_are_cases_of_their_own(tmp_path):
    short = regret()
    for curve in short["curves"]["branin"].values():
        curve["evaluations"] = [x / 2 for x in curve["evaluations"]]
    book = read([write(tmp_path / "a", regret()), write(tmp_path / "b", short)])
    names = [name for name in book.curves(book.machines[0]) if name.startswith("branin")]
    last = regret()["curves"]["branin"]["fast"]["evaluations"][-1]
    assert names == [f"branin, {last} evaluations", f"branin, {last / 2:g} evaluations"]


def test_a_failure_counts_until_the_same_case_has_been_measured_again(tmp_path):
    failed = {
        key: value for key, value in timed("optuna", 100).items() if key in ("problem", "n", "batch", "contestant")
    }
    first = write(tmp_path / "first", latency([{**failed, "d": 2, "error": "no answer"}], at="2026-11-20T10:00:00"))
    again = write(tmp_path / "again", latency([timed("optuna", 100)], at="2026-11-21T10:00:00"))
    (found,) = read([first]).failures()
    assert found[1]["error"] == "no answer"
    assert read([again, first]).failures() == []


def test_a_ratio_is_not_shown_beside_an_opponent_of_another_run(tmp_path):
    first = write(tmp_path / "a", latency([timed("fast", 100), timed("reference", 100)], at="2026-11-20T10:00:00"))
    later = write(
        tmp_path / "b",
        latency([timed("fast@cpu", 100), timed("reference", 100, scale=0.5)], at="2026-11-21T10:00:00"),
    )
    book = read([first, later])
    rows = {row["contestant"]: row for row in book.latency(book.machines[0])["rows"]}
    assert not rows["fast"]["against"] and not rows["fast"]["targets"]
    shown = rows["reference"]["median"] / rows["fast@cpu"]["median"]
    assert rows["fast@cpu"]["against"]["ax"]["median"] == pytest.approx(shown)


def test_runs_of_a_case_that_are_missing_are_a_failure_too(tmp_path):
    book = read([write(tmp_path, regret(failed={("branin", "fast"): 3}))])
    assert [(row["problem"], row["failed"]) for _, row in book.failures()] == [("branin", 3)]


def test_folders_without_results_are_named_before_anything_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "latency.json").write_text('{"benchmark": "late', encoding="utf-8")
    (broken / "regret.json").write_text('{"benchmark": "speed"}', encoding="utf-8")
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "regret.jsonl").write_text("{}\n", encoding="utf-8")
    folders = [tmp_path / "none", tmp_path / "empty", broken, stopped]
    with pytest.raises(ConfigError) as error:
        write_report(folders, tmp_path / "out")
    none, empty, *wrong, unfinished = error.value.problems
    assert none.endswith("no such folder")
    assert "holds no result of gpu-gs bench (latency.json, regret.json, memory.json, article.json)" in empty
    assert len(wrong) == 2 and all("no result of gpu-gs bench" in line for line in wrong)
    assert (
        f"was interrupted (regret.jsonl and no result yet); give its command again with --out {stopped}" in unfinished
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_is_a_benchmark_if_a_section_has_begun_to_write_there(tmp_path):
    other = tmp_path / "run"
    other.mkdir()
    (other / "result.json").write_text(json.dumps({"best": 1}), encoding="utf-8")
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "latency.jsonl").touch()
    assert not is_benchmark(other) and not is_benchmark(tmp_path / "none")
    assert is_benchmark(begun) and is_benchmark(write(tmp_path / "done", memory()))

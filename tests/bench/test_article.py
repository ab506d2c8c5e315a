"""The article's findings: each way does what its name says, and a result's tables tell what was and was not measured."""

import json

import pytest
from ax.adapter.torch import TorchAdapter
from ax.api.client import Client
from ax.core.experiment import Experiment
from ax.generators.torch.botorch_modular.generator import BoTorchGenerator

from gpu_gs.bench import article
from gpu_gs.bench.article import STAGES, article_tables, bench_article, measure, row_of, ways
from gpu_gs.bench.contestants import build
from gpu_gs.bench.entries import who_takes_part
from gpu_gs.bench.plan import ArticleSection, load_benchmark
from gpu_gs.errors import ConfigError


def job(part, way, contestant="reference", problem="branin", **more):
    job = {"kind": "article", "part": part, "way": way, "problem": problem, "n": 8, "contestant": contestant}
    return {**job, "threads": 1, "seed": 1, "repeats": 1, "limit": 60.0, **more}


@pytest.fixture
def asked(monkeypatch):
    """The contestants of the measurements, to look at what they did."""
    made = []

    def keep(name):
        made.append(build(name))
        return made[-1]

    monkeypatch.setattr(article, "build", keep)
    return made


@pytest.fixture
def folds(monkeypatch):
    """Counts the models that cross-validation conditions on other data."""
    count = []
    fold = BoTorchGenerator.cross_validate
    monkeypatch.setattr(
        BoTorchGenerator, "cross_validate", lambda *args, **more: count.append(1) or fold(*args, **more)
    )
    return count


# ------------------------------------------------------------------------------------------------------- measurements


@pytest.mark.parametrize("contestant", ["reference", "fast@cpu"])
def test_the_stages_of_an_ask_add_up_to_it(contestant, asked):
    answer = measure(job("stages", "plain", contestant, repeats=2))
    assert len(answer["ask"]) == 2
    assert json.loads(json.dumps(answer)) == answer  # as it comes from a process
    for seconds, stages in zip(answer["ask"], answer["stages"], strict=True):
        assert set(stages) <= set(STAGES)
        assert sum(stages.values()) == pytest.approx(seconds)
        assert all(stages[name] > 0 for name in ("strategy", "data", "transform", "fit", "setup", "optimize", "other"))
    assert ("best_point" in answer["stages"][0]) == (contestant == "reference")
    assert (asked[0].client._generation_strategy.last_generator_run.best_arm_predictions is None) == (
        contestant != "reference"
    )


def test_what_was_traced_is_put_back():
    before = TorchAdapter._gen
    with article._traced():
        assert TorchAdapter._gen is not before
    assert TorchAdapter._gen is before


@pytest.mark.parametrize(
    ("way", "contestant", "expected"),
    [("folds", "reference", 9), ("closed", "reference", 0), ("closed", "fast@cpu", 0)],
)
def test_cross_validation_goes_the_way_that_was_asked_for(way, contestant, expected, folds):
    answer = measure(job("cross_validation", way, contestant))
    assert len(folds) == expected  # of the trials before the one ask that is timed
    assert answer["after"][0] > 0


def test_our_diagnostics_are_part_of_the_ask(asked):
    answer = measure(job("cross_validation", "always", "fast@cpu"))
    assert asked[0].details()[-1]["leave_one_out"]
    assert answer["after"][0] == answer["stages"][0]["diagnostics"] > 0
    assert answer["ask"][0] + answer["after"][0] == pytest.approx(sum(answer["stages"][0].values()))


def test_without_the_best_point_stock_ax_stores_none_and_proposes_the_same(asked):
    answer = measure(job("best_point", "off"))
    assert "best_point" not in answer["stages"][0]
    measure(job("stages", "plain"))
    without, plain = (one.client._generation_strategy.last_generator_run for one in asked)
    assert without.best_arm_predictions is None
    assert plain.best_arm_predictions is not None
    assert without.arms == plain.arms


@pytest.mark.parametrize(("way", "asked_of"), [("on", TorchAdapter), ("question", Client)])
def test_the_best_point_is_asked_for_after_each_timed_ask(way, asked_of, monkeypatch):
    name = {"on": "model_best_point", "question": "get_best_parameterization"}[way]
    found = []
    best = getattr(asked_of, name)
    monkeypatch.setattr(asked_of, name, lambda self: found.append(best(self)) or found[-1])
    answer = measure(job("best_point", way, "fast@cpu", repeats=2))
    assert len(answer["after"]) == len(found) == 2
    assert all(one is not None for one in found)


@pytest.mark.parametrize("way", ["client", "functions"])
def test_data_are_fetched_and_looked_up_of_all_trials(way, monkeypatch):
    seen = []
    fetch = Experiment.fetch_data
    monkeypatch.setattr(Experiment, "fetch_data", lambda self: seen.append((self, fetch(self))) or seen[-1][1])
    answer = measure(job("data", way, problem="constrained-hartmann6", repeats=3))
    assert answer["metrics"] == 2
    assert {len(seconds) for seconds in answer["calls"].values()} == {3}
    for experiment, data in seen:
        assert len(data.df) == 16
        assert len(experiment.lookup_data().df) == 16


def test_a_limit_that_is_over_leaves_one_ask():
    answer = measure(job("cross_validation", "closed", "fast@cpu", repeats=9, limit=0.0))
    assert (len(answer["ask"]), len(answer["after"]), len(answer["stages"])) == (1, 1, 1)


def test_only_a_strategy_under_ax_is_measured():
    with pytest.raises(ValueError, match="no strategy under Ax"):
        measure(job("stages", "plain", "random"))
    with pytest.raises(ConfigError, match="no strategy under Ax"):
        who_takes_part(load_benchmark("article", contestants=["random"]), say=pytest.fail)


# ------------------------------------------------------------------------------------------------------------ figures


def answered(seconds, after=(), **more):
    stages = [{"fit": s / 2, "best_point": s / 4, "other": s / 4} for s in seconds]
    return {"ask": list(seconds), "after": list(after), "stages": stages, **more}


def test_the_thread_count_with_the_smaller_sum_counts():
    one = {"job": job("cross_validation", "closed"), "answer": answered([1.0, 1.0], [9.0, 9.0])}
    two = {"job": job("cross_validation", "closed", threads=2), "answer": answered([2.0, 2.0], [4.0, 5.0])}
    row = row_of([one, two])
    assert (row["threads"], row["ask"], row["after"], row["together"]) == (2, 2.0, 4.5, 6.5)
    failed = {"job": one["job"], "error": "boom"}
    assert row_of([failed, two])["threads"] == 2
    assert row_of([failed])["error"] == "boom"


@pytest.fixture
def result(tmp_path, monkeypatch):
    """A whole result from made-up answers; the folds of the larger size did not end in time."""

    def run_jobs(jobs, results, *, progress):
        lines = []
        for each in jobs:
            if each["part"] == "data":
                calls = {"fetch_data": [3.0, 5.0, 4.0], "lookup_data": [2e-6], "lookup_data, its frame": [0.01]}
                lines.append({"job": each, "answer": {"calls": calls, "metrics": 2}})
            elif each["way"] == "folds" and each["n"] == 300:
                lines.append({"job": each, "error": "Traceback\nended after 1200 seconds"})
            else:
                after = [] if each["way"] in ("plain", "off") else [0.3] * 2
                lines.append({"job": each, "answer": answered([0.2, 0.2], after)})
        return lines

    monkeypatch.setattr(article, "run_jobs", run_jobs)
    monkeypatch.setattr(article, "environment", lambda: {"commit": "1a2b3c4"})
    section = ArticleSection(n=(50, 300), trials=400, repeats=4, threads=(1, 2))
    return bench_article(section, ["reference", "random", "fast@cpu"], tmp_path)


def of_table(result, start):
    (table,) = [table for table in result["tables"] if table["title"].startswith(start)]
    return [dict(zip(table["columns"], cells, strict=True)) for cells in table["rows"]]


def test_a_way_that_does_not_end_in_time_is_a_row(result):
    rows = of_table(result, "Milliseconds of an ask with cross-validation")
    (late,) = [row for row in rows if "1200 seconds" in row["together"]]
    assert (late["n"], late["cross-validation"]) == ("300", "by folds, as in the article")
    ended = [row for row in rows if row is not late and row["cross-validation, ms"]]
    assert len(ended) == 2 * 4 - 1
    assert {(row["asks"], row["ask"], row["against the ask"]) for row in ended} == {("2 of 4", "200", "2.5x")}


def test_the_best_point_of_stock_ax_is_told_from_its_ask(result):
    plain, *_ = of_table(result, "Milliseconds of an ask with the best point, hartmann6")
    assert (plain["ask"], plain["best point, ms"], plain["together"]) == ("150", "50.0", "200")
    constrained = of_table(result, "Milliseconds of an ask with the best point, constrained")
    assert {row["n"] for row in constrained if row["best point"] == "get_best_parameterization()"} == {"50"}


def test_the_calls_stand_beside_the_article(result):
    rows = of_table(result, "Seconds at 400 trials with 2 metrics")
    assert list(rows[0].values()) == ["fetch_data: a Client's metrics", "4.000", "14.185"]
    assert list(rows[1].values()) == ["lookup_data: a Client's metrics", "0.000002", "0.015"]
    assert [row["what"] for row in rows if "an ask" in row["what"]] == [
        "all data of an ask: stock Ax",
        "all data of an ask: gpu_gs fast on CPU",
    ]


def test_shares_are_of_the_whole_ask(result):
    for row in of_table(result, "Where the time of an ask goes, hartmann6"):
        assert (row["fit"], row["best point"], row["other"]) == ("50 %", "25 %", "25 %")


def test_a_result_is_kept_and_its_tables_can_be_shown(result, tmp_path):
    assert json.loads((tmp_path / "article.json").read_text()) == result
    assert [table.row_count for table in article_tables(result)] == [len(each["rows"]) for each in result["tables"]]
    assert all("contestant" in row for row in result["rows"])


def test_every_way_has_a_name_in_the_tables():
    for part, named in article.WAYS.items():
        if part != "data":
            assert {*ways(part, "reference"), *ways(part, "fast@cpu")} == set(named)

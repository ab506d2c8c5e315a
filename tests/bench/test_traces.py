"""Traces against the runs that they are made from, and the files that they are kept in."""

import json

import pytest

from gpu_gs.bench.cases import Case
from gpu_gs.bench.traces import agreed, checkpoints, of_lines, packed, read_traces, schedule
from gpu_gs.bench.worker import regret
from gpu_gs.errors import ConfigError

SEQUENTIAL, BATCHES, PENDING = Case("branin", 25, 4), Case("branin", 12, 4, batch=3), Case("branin", 12, 4, pending=2)


def line(case, regrets, seconds, **more):
    answer = {"regret": regrets, "seconds": seconds, **more}
    return {"job": case.job("random", 0), "answer": answer, "run": {"commit": "abc", "at": "today"}}


def only(lines):
    ((_, trace),) = of_lines(lines)
    return trace


@pytest.mark.parametrize(
    "case", [SEQUENTIAL, BATCHES, PENDING, Case("branin", 11, 4, batch=4), Case("branin", 9, 4, 2, 3)]
)
def test_rounds_are_those_of_the_worker(case):
    rounds = schedule(case)
    answer = regret(case.job("random", 0))
    assert len(answer["seconds"]) == sum(asked > 0 for asked, _ in rounds)
    assert len(answer["points"]) == sum(told for _, told in rounds) == sum(asked for asked, _ in rounds)


def test_a_trace_knows_the_regret_after_every_evaluation_and_the_time_up_to_it():
    regrets = [9.0] * 8 + [5.0] * 9 + [1.0] * 8
    seconds = [0.5 + k / 10 for k in range(21)]
    trace = only([line(SEQUENTIAL, regrets, seconds, objective_seconds=[2.0] * 21)])
    assert trace.at == (4, 9, 10, 18, 20, 25)
    assert [trace.regret_at(n) for n in range(4, 26)] == regrets[3:]
    assert trace.elapsed_at(4) == 0.0
    for n in trace.at:
        assert trace.elapsed_at(n) == pytest.approx(sum(seconds[: n - 4]))
    assert trace.elapsed_at(19) == pytest.approx((trace.elapsed_at(18) + trace.elapsed_at(20)) / 2)
    assert trace.objective_at(25) == pytest.approx(42.0)
    assert [trace.reaches(target, trace.at) for target in (9.0, 5.0, 2.0, 0.5)] == [4, 9, 18, None]
    assert trace.reaches(5.0, checkpoints(4, 25)) == 10
    assert trace.ran == {"commit": "abc", "at": "today", "threads": 1}


def test_seconds_of_an_ask_count_for_all_its_candidates():
    descending = [float(x) for x in range(12, 0, -1)]  # changes everywhere: all is kept
    trace = only([line(BATCHES, descending, [1.0, 2.0, 4.0])])  # asks of 3, 3 and 2
    assert trace.elapsed == (0.0, 3.0, 3.0, 3.0, 9.0, 9.0, 9.0, 17.0, 17.0)
    trace = only(
        [line(PENDING, descending, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0])]
    )  # the first asks for 3, the last two for none
    assert trace.elapsed == (0.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 13.0, 13.0)


def test_seconds_of_each_evaluation_count_when_its_value_is_told_with_the_others():
    descending = [float(x) for x in range(12, 0, -1)]
    each = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 4.0, 4.0]
    trace = only([line(BATCHES, descending, [1.0, 2.0, 4.0], strategy_seconds=each)])
    assert trace.elapsed == (0.0, 3.0, 3.0, 3.0, 9.0, 9.0, 9.0, 17.0, 17.0)
    # With other trials pending the last tells are in it too.
    each = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.5, 0.5]
    trace = only([line(PENDING, descending, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0], strategy_seconds=each)])
    assert trace.elapsed == (0.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 13.5, 14.0)


def test_times_of_another_number_of_rounds_are_not_known():
    trace = only([line(SEQUENTIAL, [1.0] * 25, [1.0], objective_seconds=[1.0])])
    assert trace.elapsed is trace.objective is trace.elapsed_at(10) is trace.objective_at(10) is None


def test_a_stored_trace_is_the_one_that_was_made(tmp_path):
    regrets = [9.0] * 8 + [5.0] * 9 + [1.0] * 8
    (made,) = of_lines([line(SEQUENTIAL, regrets, [0.25] * 21, objective_seconds=[2.0] * 21)], kept=True)
    row = {"contestant": "random", "problem": "branin", "run": made[1].ran}
    stored = {"traces": packed(dict([made]), [SEQUENTIAL]), "rows": [row], "cases": {"branin": vars(SEQUENTIAL)}}
    (tmp_path / "regret.json").write_text(json.dumps({**stored, "every": 10}))
    assert read_traces(tmp_path / "regret.json", [SEQUENTIAL]) == dict([made])


def test_a_result_of_the_first_kind_still_stands_in(tmp_path):
    old = {"every": 10, "evaluations": 25, "initial": 4, "rows": [{"contestant": "random", "problem": "branin"}]}
    old["traces"] = {"random": {"branin": {"3": {"regret": [9.0, 5.0, 1.0, 1.0], "seconds": 0.25}}}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    (trace,) = read_traces(tmp_path / "old.json", [SEQUENTIAL]).values()
    assert (trace.at, trace.final, trace.exact, trace.kept) == ((4, 10, 20, 25), 1.0, False, True)
    assert trace.elapsed is trace.objective is None
    assert trace.ran == {}
    with pytest.raises(ConfigError, match="branin have 25 evaluations"):
        read_traces(tmp_path / "old.json", [Case("branin", 26, 4)])


def test_a_folder_stands_for_the_result_in_it_and_other_files_are_told_what_they_are(tmp_path):
    with pytest.raises(ConfigError, match=r"no regret\.json or regret\.jsonl in it"):
        read_traces(tmp_path, [SEQUENTIAL])
    old = {"every": 10, "evaluations": 25, "initial": 4, "rows": [{"contestant": "random", "problem": "branin"}]}
    old["traces"] = {"random": {"branin": {"3": {"regret": [9.0, 5.0, 1.0, 1.0], "seconds": 0.25}}}}
    (tmp_path / "regret.json").write_text(json.dumps(old))
    assert list(read_traces(tmp_path, [SEQUENTIAL])) == [("random", "branin", 3)]
    (tmp_path / "latency.json").write_text('{"benchmark": "latency", "rows": []}')
    with pytest.raises(ConfigError, match=r"latency\.json: a result of latency, not of whole runs"):
        read_traces(tmp_path / "latency.json", [SEQUENTIAL])
    (tmp_path / "text.md").write_text("# A text")
    with pytest.raises(ConfigError, match=r"text\.md: no result of gpu-gs bench regret: it is not JSON"):
        read_traces(tmp_path / "text.md", [SEQUENTIAL])


def test_what_all_agree_on_is_kept_and_when_is_not():
    facts = [{"commit": "a", "device": "cpu", "at": 1}, {"commit": "b", "device": "cpu", "at": 1}]
    assert agreed(facts) == {"device": "cpu"}
    assert agreed([{"commit": "a"}, {}]) == agreed([]) == {}


def test_kept_regrets_are_at_the_initial_points_every_ten_evaluations_and_at_the_end():
    assert checkpoints(10, 60) == [10, 20, 30, 40, 50, 60]
    assert checkpoints(5, 7) == [5, 7]
    assert checkpoints(12, 45) == [12, 20, 30, 40, 45]

"""When hyperparameters are fitted again: the decisions alone."""

import json
from dataclasses import replace

import pytest

from gpu_gs.gp import refit
from gpu_gs.gp.refit import (
    RefitMemory,
    after_refit,
    cold_is_due,
    kept_y_maps,
    reasons_by_surprise,
    reasons_to_refit,
)

SAME = {"f": (2.0, 4.0)}
MEMORY = RefitMemory(n=100, seen=104, kept=4, refits=7, cold_n=80, y_maps=SAME, seen_y_maps=SAME)


def test_nothing_new_to_say_keeps_the_hyperparameters():
    assert reasons_to_refit("adaptive", MEMORY, 105, SAME) == []


@pytest.mark.parametrize("schedule", ["adaptive", "always", 3])
def test_the_first_ask_fits(schedule):
    assert reasons_to_refit(schedule, None, 5, {}) == ["no earlier fit is known"]


@pytest.mark.parametrize(
    ("memory", "n", "maps", "word"),
    [
        (MEMORY, 110, SAME, "growth from 100 to 110"),
        (replace(MEMORY, n=30, seen=30), 31, SAME, "fewer than 50"),
        (replace(MEMORY, kept=refit.LONGEST_STAY - 1), 105, SAME, "asks since"),
        (replace(MEMORY, converged=False), 105, SAME, "iterations"),
        (replace(MEMORY, at_bound=True), 105, SAME, "bound"),
        (MEMORY, 105, {"f": (2.0, 5.1)}, "scale of f is 1.27"),
        (MEMORY, 105, {"f": (2.0, 3.0)}, "scale of f is 0.75"),
        (MEMORY, 105, {"f": (3.1, 4.0)}, "mean of f has moved by 0.28"),
        (MEMORY, 105, {"f": (0.9, 4.0)}, "mean of f has moved"),
        (MEMORY, 103, SAME, "gone"),
    ],
)
def test_each_reason_to_refit_is_found_and_named(memory, n, maps, word):
    (reason,) = reasons_to_refit("adaptive", memory, n, maps)
    assert word in reason


@pytest.mark.parametrize(("n", "asks"), [(60, 1), (200, 1), (250, 2), (1000, 5)])
def test_a_refit_is_followed_by_none_before_half_a_percent_of_new_data(n, asks):
    memory = RefitMemory(n=n, seen=n, converged=False, at_bound=True, y_maps=SAME)
    drifted = {"f": (2.0, 8.0)}
    for k in range(1, asks):
        assert reasons_to_refit("adaptive", memory, n + k, drifted) == []
        assert reasons_by_surprise("adaptive", memory, n + k, 99.0) == []
    assert len(reasons_to_refit("adaptive", memory, n + asks, drifted)) == 3
    assert reasons_by_surprise("adaptive", memory, n + asks, 99.0)


def test_lost_and_edited_data_do_not_wait():
    memory = RefitMemory(n=1000, seen=1001, y_maps=SAME, seen_y_maps=SAME)
    assert reasons_to_refit("adaptive", memory, 1000, SAME) == ["observations are gone"]
    assert "scale" in reasons_to_refit("adaptive", memory, 1001, {"f": (2.0, 8.0)})[0]


@pytest.mark.parametrize("schedule", ["adaptive", "always", 7])
def test_an_ask_without_new_data_rests_too_whatever_drift_the_last_one_saw(schedule):
    drifted = {"f": (2.0, 8.0)}
    memory = RefitMemory(n=400, seen=400, y_maps=SAME, seen_y_maps=SAME).after_keeping(401, drifted)
    assert reasons_to_refit(schedule, memory, 401, drifted) == []
    assert memory.after_keeping(401, drifted) == memory


def test_a_surprise_while_a_refit_rests_is_judged_after_the_rest_and_others_once():
    memory = RefitMemory(n=400, seen=400)
    judged = []
    for n in (401, 402, 403):
        judged.append(memory.judged)
        memory = memory.after_keeping(n, {})
    assert judged == [400, 400, 402]
    assert RefitMemory(n=100, seen=104).judged == 104


def test_several_reasons_are_all_named():
    assert len(reasons_to_refit("adaptive", replace(MEMORY, converged=False), 120, {"f": (2.0, 8.0)})) == 3


def test_names_whose_scale_is_not_known_are_no_reason():
    assert reasons_to_refit("adaptive", MEMORY, 105, {"g": (0.0, 100.0)}) == []
    assert reasons_to_refit("adaptive", MEMORY, 105, {}) == []


def test_a_scale_of_zero_at_the_last_refit_is_a_drift_and_no_error():
    memory = replace(MEMORY, y_maps={"f": (2.0, 0.0)})
    assert "scale" in reasons_to_refit("adaptive", memory, 105, SAME)[0]


def test_an_ask_on_the_same_data_keeps_whatever_the_schedule():
    for schedule in ("adaptive", "always", 1):
        assert reasons_to_refit(schedule, replace(MEMORY, converged=False, kept=99), 104, SAME) == []
        rounded = {"f": (2.0 + 1e-10, 4.0 - 1e-10)}  # by a store of Ax's
        assert reasons_to_refit(schedule, MEMORY, 104, rounded) == []


def test_edited_outcomes_are_noticed_by_their_mean_and_deviation():
    edited = {"f": (2.01, 4.0)}
    assert reasons_to_refit("always", MEMORY, 104, edited) == ["always"]
    assert reasons_to_refit("adaptive", MEMORY, 104, edited) == []
    assert "scale" in reasons_to_refit("adaptive", MEMORY, 104, {"f": (2.0, 9.0)})[0]
    assert reasons_to_refit("always", MEMORY, 104, {}) == ["always"]  # nobody knows


def test_every_k_counts_asks_with_new_data_and_minds_nothing_else():
    memory = after_refit(None, 10, SAME, SAME, cold=True, converged=False, at_bound=True)
    refitted = []
    for n in range(11, 31):
        if reasons_to_refit(4, memory, n, {"f": (9.0, 99.0)}):
            refitted.append(n)
            memory = after_refit(memory, n, SAME, {"f": (9.0, 99.0)}, cold=False, converged=True, at_bound=False)
        else:
            memory = memory.after_keeping(n, {"f": (9.0, 99.0)})
        assert memory.after_keeping(n, {"f": (9.0, 99.0)}) == memory  # an ask without new data does not count
        assert reasons_to_refit(4, memory, n, SAME) == []
    assert refitted == [14, 18, 22, 26, 30]


def test_every_1_is_always_where_there_is_new_data():
    memory = after_refit(None, 10, SAME, SAME, cold=True, converged=True, at_bound=False)
    assert reasons_to_refit(1, memory, 11, SAME)


def test_only_adaptive_minds_a_surprise():
    assert "3.5" in reasons_by_surprise("adaptive", MEMORY, 105, 3.5)[0]
    assert reasons_by_surprise("adaptive", MEMORY, 105, 2.9) == []
    assert reasons_by_surprise(5, MEMORY, 105, 30.0) == []


def test_a_cold_refit_comes_with_each_growth_by_half():
    memory = after_refit(None, 5, {}, {}, cold=True, converged=True, at_bound=False)
    assert not cold_is_due(None, 100)
    cold = []
    for n in range(6, 200):
        due = cold_is_due(memory, n)
        if due:
            cold.append(n)
        memory = after_refit(memory, n, {}, {}, cold=due, converged=True, at_bound=False)
    assert cold == [20, 30, 45, 68, 102, 153]
    assert memory.refits == 195


def test_a_memory_survives_json_exactly_and_is_small():
    maps = {"f": (0.1 + 0.2, 1e-17), "g": (-3.0, 2.0)}
    memory = replace(MEMORY, y_maps=maps, seen_y_maps=maps, at_bound=True, converged=False)
    text = json.dumps(memory.to_json())
    assert RefitMemory.from_json(json.loads(text)) == memory
    assert len(text) < 350
    older = {name: value for name, value in memory.to_json().items() if name != "seen_y_maps"}
    assert RefitMemory.from_json(older) == replace(memory, seen_y_maps={})


def test_the_y_map_of_the_last_refit_is_kept_where_there_is_no_reason_to_refit():
    today = {"f": (2.5, 4.1)}
    assert kept_y_maps("adaptive", [MEMORY], {"f": 105}, today) == SAME
    assert kept_y_maps("always", [MEMORY], {"f": 105}, today) == {}
    assert kept_y_maps("adaptive", [MEMORY], {"f": 110}, today) == {}  # growth
    assert kept_y_maps("adaptive", [MEMORY], {"f": 105}, {"f": (2.5, 8.0)}) == {}  # drift
    assert kept_y_maps("adaptive", [], {"f": 105}, today) == {}


def test_the_y_maps_of_one_model_are_kept_all_or_none():
    memory = replace(MEMORY, y_maps={"f": (2.0, 4.0), "g": (0.0, 1.0)})
    today = {"f": (2.0, 4.0), "g": (0.1, 1.0)}
    assert kept_y_maps("adaptive", [memory], {"f": 105, "g": 105}, today) == memory.y_maps
    assert kept_y_maps("adaptive", [memory], {"f": 105, "g": 105}, {**today, "g": (0.1, 2.0)}) == {}
    assert kept_y_maps("adaptive", [memory], {"f": 105, "g": 104}, today) == {}
    assert kept_y_maps("adaptive", [memory], {"f": 105}, {"f": (2.0, 4.0)}) == {}  # no data of g


def test_two_models_that_do_not_agree_on_an_outcome_s_y_map_keep_none():
    other = replace(MEMORY, y_maps={"f": (2.1, 4.0)})
    g = replace(MEMORY, y_maps={"g": (0.0, 1.0)})
    counts, today = {"f": 105, "g": 105}, {"f": (2.0, 4.0), "g": (0.1, 1.0)}
    assert kept_y_maps("adaptive", [MEMORY, other, g], counts, today) == g.y_maps
    assert kept_y_maps("adaptive", [MEMORY, MEMORY, g], counts, today) == {**SAME, **g.y_maps}


def test_a_dispute_about_one_outcome_spreads_to_those_that_share_a_model_with_it():
    joint = replace(MEMORY, y_maps={"f": (2.0, 4.0), "g": (0.0, 1.0)})
    stale = replace(MEMORY, y_maps={"f": (2.1, 4.0)})
    other = replace(MEMORY, y_maps={"h": (1.0, 1.0)})
    counts, today = dict.fromkeys("fgh", 105), {"f": (2.0, 4.0), "g": (0.0, 1.0), "h": (1.0, 1.0)}
    assert kept_y_maps("adaptive", [joint, stale, other], counts, today) == other.y_maps


def test_a_fixed_schedule_keeps_no_scale_that_has_drifted():
    memory = replace(MEMORY, kept=0)
    assert kept_y_maps(9, [memory], {"f": 105}, {"f": (2.5, 4.1)}) == SAME
    assert kept_y_maps(9, [memory], {"f": 105}, {"f": (2000.0, 4000.0)}) == {}
    assert reasons_to_refit(9, memory, 105, {"f": (2000.0, 4000.0)}) == []

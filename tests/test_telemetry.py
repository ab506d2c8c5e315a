"""Stage times: self time, isolation of threads, and nothing where nobody collects."""

import contextvars
import threading

import pytest

from gpu_gs import telemetry
from gpu_gs.telemetry import collect, note, reason_columns, stage


class Clock:
    """A perf_counter that moves only when told to, so that times can be compared exactly."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(telemetry, "perf_counter", clock)
    return clock


def test_a_nested_stage_is_subtracted_from_its_parent_at_every_depth(clock):
    with collect() as spans:
        clock.advance(1)
        with stage("fit"):
            clock.advance(2)
            with stage("data"):
                clock.advance(4)
                with stage("transform"):
                    clock.advance(8)
            clock.advance(16)
        clock.advance(32)
    assert spans.seconds == {"transform": 8, "data": 4, "fit": 18}
    assert spans.total == 63
    assert spans.other == 33


def test_stages_of_one_name_are_summed_also_inside_each_other(clock):
    with collect() as spans:
        for _ in range(3):
            with stage("fit"):
                clock.advance(1)
                with stage("fit"):
                    clock.advance(10)
    assert spans.seconds == {"fit": 33}
    assert spans.total == 33


def test_an_exception_ends_its_stages_and_leaves_the_next_ones_right(clock):
    with collect() as spans:
        with pytest.raises(KeyError), stage("fit"), stage("data"):
            clock.advance(1)
            raise KeyError
        with stage("optimize"):
            clock.advance(2)
    assert spans.seconds == {"data": 1, "fit": 0, "optimize": 2}


def test_a_collection_ended_by_an_exception_is_complete_and_over(clock):
    with pytest.raises(KeyboardInterrupt), collect() as spans, stage("fit"):
        clock.advance(3)
        raise KeyboardInterrupt
    assert (spans.seconds, spans.total) == ({"fit": 3}, 3)
    with stage("later"):
        note("later", 1)
    assert spans.seconds == {"fit": 3}
    assert spans.facts == {}


def test_the_innermost_collector_gets_the_stages_and_the_notes(clock):
    with collect() as outer, stage("fit"):
        clock.advance(1)
        with collect() as inner, stage("data"):
            clock.advance(2)
            note("n", 5)
        clock.advance(4)
        note("n", 6)
    assert (inner.seconds, inner.facts) == ({"data": 2}, {"n": 5})
    assert (outer.seconds, outer.facts) == ({"fit": 7}, {"n": 6})


def test_without_a_collector_a_stage_is_one_shared_object_and_a_note_is_dropped():
    assert stage("fit") is stage("data")
    with stage("fit"):
        note("n", 1)


def test_a_stage_without_a_collector_lets_exceptions_through():
    with pytest.raises(ZeroDivisionError), stage("fit"):
        raise ZeroDivisionError


def test_collections_in_two_threads_do_not_see_each_other():
    barrier = threading.Barrier(2, timeout=30)
    found = {}

    def ask(name: str) -> None:
        with collect() as spans:
            barrier.wait()
            with stage(name):
                barrier.wait()  # both are inside a stage now
                note("who", name)
            barrier.wait()
        found[name] = spans

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("one", "two"):
        assert set(found[name].seconds) == {name}
        assert found[name].facts == {"who": name}


def test_threads_that_inherit_the_context_nest_under_it_without_mixing():
    barrier = threading.Barrier(2, timeout=30)
    with collect() as spans, stage("outer"):

        def work(name: str) -> None:
            with stage(name):
                barrier.wait()

        contexts = [(contextvars.copy_context(), name) for name in ("one", "two")]
        threads = [threading.Thread(target=context.run, args=(work, name)) for context, name in contexts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with stage("after"):
            pass
    assert set(spans.seconds) == {"one", "two", "after", "outer"}


def test_the_device_is_waited_for_at_every_border_before_the_clock_is_read(clock):
    queued = [0.0]

    def synchronize() -> None:
        clock.advance(queued[0])
        queued[0] = 0.0

    with collect(synchronize) as spans:
        queued[0] += 1
        with stage("fit"):
            queued[0] += 2
            with stage("data"):
                queued[0] += 4
            queued[0] += 8
        queued[0] += 16
    assert spans.seconds == {"data": 4, "fit": 10}
    assert (spans.total, spans.other) == (31, 17)


def test_a_device_that_fails_is_not_waited_for_and_its_error_is_kept():
    calls = []
    with pytest.raises(RuntimeError, match="kernel"), collect(lambda: calls.append(1)), stage("fit"):
        before = len(calls)
        raise RuntimeError("kernel failed")
    assert len(calls) == before


def test_an_error_while_waiting_for_the_device_ends_the_collection():
    def synchronize() -> None:
        if failing:
            raise RuntimeError("device lost")

    failing = False
    with pytest.raises(RuntimeError, match="device lost"), collect(synchronize), stage("fit"):
        failing = True
    assert stage("fit") is stage("data"), "somebody still collects"


def test_real_times_add_up_to_the_total():
    with collect() as spans:
        for _ in range(100):
            with stage("fit"), stage("data"):
                sum(range(100))
    assert 0 < spans.seconds["data"] <= spans.total
    assert all(seconds >= 0 for seconds in spans.seconds.values())
    assert spans.other >= 0


def test_why_an_ask_ran_where_it_did_is_apart_from_why_a_fast_part_was_not_used():
    reasons = ["device: no CUDA device", "model: a kernel of yours", "device: out of memory on cuda", "fit: by BoTorch"]
    assert reason_columns(reasons) == {
        "reasons": "model: a kernel of yours; fit: by BoTorch",
        "device_reasons": "device: no CUDA device; device: out of memory on cuda",
    }

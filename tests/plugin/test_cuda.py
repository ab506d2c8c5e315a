"""How often the host waits for a GPU in an ask: emulated on the CPU (``tests.emulated_cuda``), and where there is one."""

import json
import warnings

import pytest

from gpu_gs import GPUGenerationStrategy, timings
from tests.fresh_process import last_line_of
from tests.plugin.helpers import advance, attach_waves, largest_difference, make_client

torch = pytest.importorskip("torch")

HANDFUL = 12
"""Host synchronizations of an ask, at the most."""

LOOKS = {"kept": 3, "warm": 5}
"""Of those, the looks of minimizers whether they are done, at the most: 3 in 72 iterations, 2 in 30."""

ELSEWHERE = {"kept": 7, "warm": 7}
"""And all others: the factorization, the share of noise, the candidate before and after rounding, its prediction; of kept
hyperparameters whether the old rows are the same and the newest surprise, of fitted ones what the fit found, and their
raw values."""

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


MOVES = {30: "here,here,there,there,here", 60: "here,there,here"}
"""By the trials known, where the asks of a run are that moves between the devices."""


@pytest.fixture(scope="module")
def runs():
    """Asks of five runs in one process: on an emulated GPU after 30 and 60 trials, those of ``MOVES``, an exactly timed one."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices written in Python")
    wanted = [f"{rows}:there,there,there" for rows in (30, 60)] + [f"{rows}:{places}" for rows, places in MOVES.items()]
    wanted.append("30:there:exact")
    return json.loads(last_line_of("-m", "tests.plugin.emulated_asks", *wanted))


@pytest.fixture(scope="module")
def emulated(runs):
    """Asks on an emulated GPU: two that fit warm, from 32 trials on, and two that keep their hyperparameters."""
    assert [run[0]["fit_decision"] for run in runs[:2]] == ["default", "default"]
    return runs[0][1:] + runs[1][1:]


def test_the_emulated_asks_are_of_the_model_on_the_device(emulated):
    assert [ask["fit_decision"] for ask in emulated] == ["warm", "warm", "kept", "kept"]
    assert {ask["node"] for ask in emulated} == {"MBM"}
    assert {ask["acquisition"] for ask in emulated} == {"LogEI"}
    assert all(ask["device"].startswith("emulated") for ask in emulated)


@pytest.mark.parametrize("place", range(4))
def test_an_emulated_ask_waits_for_the_gpu_a_handful_of_times(emulated, place):
    ask = emulated[place]
    decision, waits = ask["fit_decision"], ask["waits"]
    looks = sum(count for line, count in waits.items() if "minimize.py" in line)
    assert ask["borders"] == 0
    lines = "\n".join(f"{count} {line}" for line, count in waits.items())
    assert 0 < sum(waits.values()) <= HANDFUL, lines
    assert looks <= LOOKS[decision], lines
    assert sum(waits.values()) - looks <= ELSEWHERE[decision], lines


def test_exact_stage_times_wait_at_borders_and_ask_for_the_same(runs):
    (exact,) = runs[4]
    assert exact["borders"] > 10
    assert exact["waits"] == runs[0][0]["waits"]
    assert exact["parameters"] == runs[0][0]["parameters"]


def test_the_emulated_gpu_asks_for_what_the_cpu_asks_for(emulated):
    client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, device="cpu"))
    attach_waves(client, 30)
    expected = advance(client, 4)[2:]
    assert largest_difference(expected, [ask["parameters"] for ask in emulated[:2]]) < 1e-4


def test_a_run_goes_on_where_its_asks_move_from_device_to_device(runs):
    """As under ``auto``, from the size on at which a GPU is quicker; proposals stay those of the CPU."""
    for (rows, places), asks in zip(MOVES.items(), runs[2:4], strict=True):
        assert ["cpu" if ask["device"] == "cpu" else "there" for ask in asks] == [
            "cpu" if place == "here" else "there" for place in places.split(",")
        ]
        assert {ask["node"] for ask in asks} == {"MBM"}
        assert {ask["fit_decision"] for ask in asks[1:]} == {"warm" if rows == 30 else "kept"}
        client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, device="cpu"))
        attach_waves(client, rows)
        expected = advance(client, len(asks) + 1)[1:]
        assert largest_difference(expected, [ask["parameters"] for ask in asks]) < 1e-4


def synchronizations_of_an_ask(rows: int) -> int:
    """How often the host waits for the GPU during one warm ask after ``rows`` trials.

    torch counts what waits by the way: reading a number, indexing by a mask.
    """
    client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, device="cuda"))
    attach_waves(client, rows)
    advance(client, 2)
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client.get_next_trials(max_trials=1)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert str(timings(client)["device"].iloc[-1]).startswith("cuda")
    assert "MBM" in timings(client)["node"].iloc[-1]
    return sum("synchroniz" in str(warning.message) for warning in caught)


@needs_cuda
@pytest.mark.parametrize("rows", [30, 400])
def test_an_ask_waits_for_the_gpu_a_handful_of_times(rows):
    assert synchronizations_of_an_ask(rows) <= HANDFUL

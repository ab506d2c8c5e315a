"""All kinds of problems on an emulated GPU: the same proposals as on the CPU, and no more waits than are known."""

import json

import pytest
import torch

from tests.fresh_process import last_line_of
from tests.kinds.emulated_asks import ASKS, KINDS
from tests.plugin.helpers import largest_difference

WAITS = {
    "an outcome constraint": 42,
    "two objectives": 56,
    "two linear constraints": 130,
    "a linear equation": 140,
    "discrete parameters": 70,
    "a function of BoTorch's": 350,
}
"""Host synchronizations of an ask, at the most: what they were when they were counted, and a little. docs/devices.md."""


@pytest.fixture(scope="module")
def asked():
    """The asks of each kind on the CPU and on the emulated GPU."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices written in Python")
    return json.loads(last_line_of("-m", "tests.kinds.emulated_asks"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_emulated_gpu_asks_for_what_the_cpu_asks_for(asked, kind):
    here, there = asked[kind]
    assert len(here) == len(there) == ASKS
    for one, other in zip(here, there, strict=True):
        assert (one["device"], other["device"].partition(":")[0]) == ("cpu", "emulated")
        for fact in ("node", "fit_decision", "acquisition"):
            assert one[fact] == other[fact]
    assert here[0]["node"] == "MBM"
    numbers = [[{k: v for k, v in ask["parameters"].items() if k != "c"} for ask in asks] for asks in (here, there)]
    assert largest_difference(*numbers) < 1e-5
    assert [ask["parameters"].get("c") for ask in here] == [ask["parameters"].get("c") for ask in there]


@pytest.mark.parametrize("kind", KINDS)
def test_an_ask_waits_for_the_gpu_no_more_often_than_is_known(asked, kind):
    _, there = asked[kind]
    assert 0 < max(ask["waits"] for ask in there) <= WAITS[kind]

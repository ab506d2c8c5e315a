"""No silent slow path: what a kind of problem cannot do fast is in ``timings``, and once in the log."""

import logging
import math

import pytest
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig

from gpu_gs import timings
from tests.kinds.helpers import FLOATS, Parameters, advance, client_for, reasons


def measured(p: Parameters) -> dict[str, float]:
    x, y = float(p.get("x", 0.5)), float(p.get("y", 0.2))
    return {name: math.hypot(x - u, y - u * u) for name, u in zip("abcde", (0.1, 0.9, 0.5, 0.3, 0.7), strict=True)}


def named(client: Client):
    """The function that measures what the client optimizes."""
    names = list(client._experiment.metrics)
    return lambda p: {name: measured(p)[name] for name in names}


FAST = {
    "one objective": {},
    "a scalarized objective": {"objective": "-a - 0.5*b"},
    "outcome constraints": {"outcome_constraints": ["b <= 0.5", "c <= 0.9"]},
    "nothing feasible": {"outcome_constraints": ["b <= -1"]},
    "four objectives": {"objective": "-a, -b, -c, -d"},
    "linear constraints": {"parameter_constraints": ["x + y <= 1.5", "x - y <= 0.9"]},
    "discrete and continuous parameters": {
        "parameters": [
            *FLOATS,
            RangeParameterConfig(name="n", parameter_type="int", bounds=(1, 9)),
            RangeParameterConfig(name="s", parameter_type="float", bounds=(0.0, 1.0), step_size=0.25),
            ChoiceParameterConfig(name="k", parameter_type="str", values=["u", "v", "w"], is_ordered=False),
            ChoiceParameterConfig(name="b", parameter_type="bool", values=[False, True], is_ordered=True),
        ]
    },
}

SLOW = {
    "five objectives": ({"objective": "-a, -b, -c, -d, -e"}, "acquisition: 5 objectives (ParEGO)"),
    "constraints that share a metric": (
        {"outcome_constraints": ["b + c <= 1.5", "b - c <= 0.5"]},
        "acquisition: two objectives or outcome constraints share an outcome",
    ),
    "UCB of several outcomes": (
        {"outcome_constraints": ["b <= 1.1"], "acquisition": {"function": "UCB"}},
        "acquisition: UCB is of one outcome",
    ),
    "raw samples that do not fit": (
        {"acquisition": {"raw_samples": 16384, "memory_mb": 1}},
        "acquisition: 16384 raw samples at once need more than 1 MiB, so each candidate scores its own, some at a time",
    ),
    "a derived parameter": (
        {"parameters": [*FLOATS, DerivedParameterConfig(name="z", expression_str="x + y", parameter_type="float")]},
        "data: a parameter is derived",
    ),
    "a hierarchical space": (
        {
            "parameters": [
                *FLOATS,
                ChoiceParameterConfig(
                    name="k",
                    parameter_type="str",
                    values=["u", "v"],
                    is_ordered=True,
                    dependent_parameters={"u": ["x"], "v": ["y"]},
                ),
            ]
        },
        "data: the search space is hierarchical",
    ),
}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gpu_gs"]


@pytest.mark.parametrize("kind", FAST)
def test_what_uses_every_fast_part_gives_no_reason(kind):
    client = client_for(**{"objective": "-a", **FAST[kind]})
    advance(client, 7, named(client))
    assert {reason for reason in reasons(client).split("; ") if reason and not reason.startswith("device:")} == set()


@pytest.mark.parametrize("kind", SLOW)
def test_what_cannot_be_fast_is_in_the_timings_of_each_ask_and_once_in_the_log(kind, caplog):
    settings, reason = SLOW[kind]
    client = client_for(**{"objective": "-a", **settings})
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        advance(client, 9, named(client))
    table = timings(client)
    by_model = [line.split("; ") for line in table["reasons"][table["fit_decision"].notna()]]
    assert len(by_model) >= 4
    # the first ask of the model takes Ax's pass over the data, whatever the kind
    assert all(reason in found for found in by_model[1 if reason.startswith("data:") else 0 :])
    assert lines(caplog).count(f"MBM: {reason}") == 1
    assert len(lines(caplog)) == len(set(lines(caplog)))

"""Asks of several kinds of problems on the CPU and on an emulated GPU: points, waits and facts of each, as JSON.

    python -m tests.kinds.emulated_asks

A process of its own, since what the emulation registers with torch stays.
"""

import json
import logging
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

from gpu_gs import timings
from gpu_gs.device import Decision
from tests.emulated_cuda import DEVICE, EmulatedCuda
from tests.kinds.helpers import FLOATS, MODEL_FIRST, attach, client_for, outcomes

MIXED = [
    *FLOATS,
    RangeParameterConfig(name="k", parameter_type="int", bounds=(1, 5)),
    ChoiceParameterConfig(name="c", parameter_type="str", values=["a", "b", "c"], is_ordered=False),
]
KINDS: dict[str, dict[str, Any]] = {
    "an outcome constraint": {"outcome_constraints": ["g <= 0.8"]},
    "two objectives": {"objective": "-f, -g"},
    "two linear constraints": {"parameter_constraints": ["x + y <= 0.9", "x - y <= 0.5"]},
    "a linear equation": {"parameter_constraints": ["x + y <= 0.9", "x + y >= 0.9"]},
    "discrete parameters": {"parameters": MIXED},
    "a function of BoTorch's": {"acquisition": {"function": "qLogNEI", "raw_samples": 64, "restarts": 4}},
}
ROWS, ASKS = 52, 2


def asks(kind: str, device: str) -> list[dict[str, Any]]:
    """What each ask was."""
    decision = Decision(device=device, dtype="float64", threads=1, reasons=())
    spec = KINDS[kind]
    measured = (
        outcomes("f", "g")
        if "g" in json.dumps([spec.get("objective"), spec.get("outcome_constraints")])
        else outcomes("f")
    )
    generator = torch.Generator().manual_seed(0)
    points: list[dict[str, Any]] = []
    while len(points) < ROWS:
        x, y, rest = torch.rand(3, generator=generator).tolist()
        point: dict[str, Any] = {"x": x, "y": y}
        if kind == "a linear equation":
            point["y"] = 0.9 - 0.9 * x
            point["x"] = 0.9 * x
        if kind == "two linear constraints" and (x + y > 0.9 or x - y > 0.5):
            continue
        if kind == "discrete parameters":
            point |= {"k": 1 + int(5 * rest), "c": "abc"[int(15 * rest) % 3]}
        points.append(point)
    found = []
    with ExitStack() as stack:
        cuda = stack.enter_context(EmulatedCuda()) if device == DEVICE else None
        stack.enter_context(mock.patch("gpu_gs.plugin.node.decide", side_effect=lambda *_, **__: decision))
        client = client_for(**spec, **MODEL_FIRST)
        attach(client, points, measured)
        for _ in range(ASKS):
            if cuda is not None:
                cuda.start()
            ((index, parameters),) = client.get_next_trials(max_trials=1).items()
            waits = 0 if cuda is None else len(cuda.waits)
            client.complete_trial(index, dict(measured(parameters)))
            last = timings(client).iloc[-1]
            facts = {key: str(last[key]) for key in ("node", "device", "fit_decision", "acquisition")}
            found.append({**facts, "parameters": dict(parameters), "waits": waits})
    return found


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps({kind: [asks(kind, device) for device in ("cpu", DEVICE)] for kind in KINDS}))

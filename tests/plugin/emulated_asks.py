"""Asks for candidates on an emulated GPU and says, as JSON, where the host waited in each ask of each run.

    python -m tests.plugin.emulated_asks 30:there,there 60:there,here  # two runs, after 30 and 60 trials; one ask on the CPU
    python -m tests.plugin.emulated_asks 30:there:exact  # with exact stage times

A process of its own, since what it registers with torch stays.
"""

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any
from unittest import mock

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.device import Decision
from gpu_gs.plugin.timings import EXACT
from tests.emulated_cuda import DEVICE, EmulatedCuda
from tests.plugin.helpers import attach_waves, make_client, wave

DEVICES = {"here": "cpu", "there": DEVICE}


def asks(rows: int, places: Sequence[str], stage_times: str = "") -> list[dict[str, Any]]:
    """What each ask of the model was, after ``rows`` trials and one of Sobol's that every strategy begins with."""
    decided = {
        place: Decision(device=device, dtype="float64", threads=1, reasons=()) for place, device in DEVICES.items()
    }
    now, found = [""], []
    with (
        EmulatedCuda() as cuda,
        mock.patch.dict(os.environ, {EXACT: stage_times}),
        mock.patch("gpu_gs.plugin.node.decide", side_effect=lambda *_, **__: decided[now[0]]),
    ):
        client = make_client(GPUGenerationStrategy.from_config("fast", seed=0))
        attach_waves(client, rows)
        for now[0] in (places[0], *places):
            cuda.start()
            ((index, parameters),) = client.get_next_trials(max_trials=1).items()
            waits, borders = Counter(f"{wait.kind}: {wait.ours} ({wait.line})" for wait in cuda.waits), cuda.borders
            client.complete_trial(index, {"f": wave(parameters)})
            last = timings(client).iloc[-1]
            facts = {key: str(last[key]) for key in ("node", "device", "fit_decision", "acquisition")}
            found.append({**facts, "parameters": dict(parameters), "waits": dict(waits), "borders": borders})
    return found[1:]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    runs = [argument.split(":") for argument in sys.argv[1:]]
    print(json.dumps([asks(int(rows), places.split(","), *more) for rows, places, *more in runs]))

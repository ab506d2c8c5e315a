"""Whether CUDA graphs would pay: ``python benchmarks/cuda_graphs.py --n 100 --n 1000``.

An evaluation of log EI with its gradient at b points is some thirty operations, whose dispatch takes longer than their
arithmetic while n is small. A captured graph replays them in one launch. But its tensors have fixed addresses and
shapes, and n grows by one from ask to ask: either a graph is captured anew on every ask, or all tensors are padded. For
each n a line of JSON:

    eager    seconds of an evaluation as it is
    replay   seconds of an evaluation from a graph; the largest difference of its values to the eager ones is beside it
    capture  seconds to warm up and capture a graph: what an ask without padding would pay for it

and ``per_ask``: what an ask of so many evaluations would gain, with the capture and without. Nothing in gpu_gs uses graphs
so far; this measures whether it should. Without a GPU only ``eager`` is measured.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from botorch.models import SingleTaskGP
from torch import Tensor

from gpu_gs.acquisition.logei import LogEI
from gpu_gs.gp.posterior import state_from_model

REPEATS = 50
WARM_UPS = 3
"""Evaluations on a side stream before a capture, as torch's documentation advises."""


def main(
    sizes: Annotated[list[int], typer.Option("--n")],
    parameters: int = 6,
    points: int = 16,
    evaluations: int = 80,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Prints a line of JSON for each n."""
    for n in sizes:
        print(json.dumps(_measured(n, parameters, points, evaluations, torch.device(device))), flush=True)


def _measured(n: int, d: int, b: int, evaluations: int, device: torch.device) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(n, d, generator=generator, dtype=torch.double)
    Y = torch.sin(6 * X).sum(-1, keepdim=True)
    model = SingleTaskGP(X.to(device), Y.to(device)).eval()
    function = LogEI(state_from_model(model), model.train_targets.max())
    x = torch.rand(b, d, generator=generator, dtype=torch.double).to(device)
    value, gradient = function.value_and_grad(x)
    found: dict[str, object] = {"n": n, "d": d, "points": b, "device": _name(device)}
    eager = found["eager"] = _seconds(lambda: function.value_and_grad(x), device)
    if device.type != "cuda":
        return found
    started = time.perf_counter()
    graph, captured = _capture(function, x)
    torch.cuda.synchronize()
    capture = found["capture"] = time.perf_counter() - started
    replay = found["replay"] = _seconds(graph.replay, device)
    pairs = zip(captured, (value, gradient), strict=True)
    found["difference"] = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
    gain = evaluations * (eager - replay)
    found["per_ask"] = {"evaluations": evaluations, "gain": gain, "gain_less_capture": gain - capture}
    return found


def _capture(function: LogEI, x: Tensor) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor]]:
    """A graph of an evaluation at x, and the tensors that hold its results."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            function.value_and_grad(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function.value_and_grad(x)
    return graph, results


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """The median time until a call's results are there."""
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    typer.run(main)

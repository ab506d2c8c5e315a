"""Whether CUDA graphs would pay: ``python benchmarks/cuda_graphs.py --n 100 --n 1000``.

An evaluation of log EI with its gradient at b points is some thirty operations, whose dispatch takes longer than their
arithmetic while n is small. A captured graph replays them in one launch. But its tensors have fixed addresses and
shapes, and n grows by one from ask to ask: either a graph is captured anew on every ask, or all tensors are padded. For
each n a line of JSON:

    eager    seconds of an evaluation as it is
    replay   seconds of an evaluation from a graph, new points copied in and the results out; the largest difference of its
             results to the eager ones, at other points than those of the capture, is beside it
    capture  seconds to capture a graph once all is warm: what an ask without padding would pay for it

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
CAPTURES = 5
WARM_UPS = 3
"""Evaluations on a side stream before the first capture, as torch's documentation advises."""


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
    x, other = (torch.rand(b, d, generator=generator, dtype=torch.double).to(device) for _ in range(2))
    found: dict[str, object] = {"n": n, "d": d, "points": b, "device": _name(device)}
    eager = found["eager"] = _seconds(lambda: function.value_and_grad(x), device)
    if device.type == "cuda":
        with torch.cuda.device(device):  # streams and graphs are of the current device
            found |= _with_graphs(function, x, other, eager, evaluations)
    return found


def _with_graphs(function: LogEI, x: Tensor, other: Tensor, eager: float, evaluations: int) -> dict[str, object]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            function.value_and_grad(x)
    torch.cuda.current_stream().wait_stream(stream)
    seconds = []
    for _ in range(CAPTURES + 1):  # the first one loads libraries
        torch.cuda.synchronize()
        started = time.perf_counter()
        graph, results = _captured(function, x, stream)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    capture = statistics.median(seconds[1:])

    def evaluate(points: Tensor) -> tuple[Tensor, ...]:
        x.copy_(points)
        graph.replay()
        return tuple(result.clone() for result in results)

    replay = _seconds(lambda: evaluate(other), x.device)
    pairs = zip(evaluate(other), function.value_and_grad(other), strict=True)
    difference = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
    gain = evaluations * (eager - replay)
    per_ask = {"evaluations": evaluations, "gain": gain, "gain_less_capture": gain - capture}
    return {"capture": capture, "replay": replay, "difference": difference, "per_ask": per_ask}


def _captured(
    function: LogEI, x: Tensor, stream: torch.cuda.Stream
) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor]]:
    """A graph of an evaluation at x, and the tensors that hold its results.

    Without ``torch.cuda.graph``, which collects garbage and empties the cache first.
    """
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        graph.capture_begin()
        results = function.value_and_grad(x)
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
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

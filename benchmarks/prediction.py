"""Compares the predicted seconds of an ask with real asks: ``python benchmarks/prediction.py --n 100 --n 500``.

For each n a client with n random evaluations for each number of threads; their asks take turns, so that a busy moment
of the machine meets all. Prints, for each, the prediction, the median and the shortest ask, and which number of threads
was predicted to be, and was, the fastest. Leave the machine alone meanwhile, and do not set OMP_NUM_THREADS.
"""

import json
import statistics
import time
from typing import Annotated, Any

import typer

from gpu_gs.bench.contestants import AxContestant
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.device import DevicePolicy, places
from gpu_gs.device.calibration import calibrate


def main(
    sizes: Annotated[list[int], typer.Option("--n")],
    problem: str = "hartmann6",
    device: str = "cpu",
    asks: int = 7,
    seed: int = 0,
    recalibrate: bool = True,
) -> None:
    """Prints a line of JSON for each n."""
    if recalibrate:
        calibrate("cpu")
    function = PROBLEMS[problem]
    for n in sizes:
        points = function.initial_points(n, seed)
        observed = [function.observe(point, index) for index, point in enumerate(points)]
        rows: list[dict[str, Any]] = []
        for place in places(DevicePolicy(device=device), n, function.dim, 1):
            contestant = AxContestant("fast", {"device": place.device, "threads": place.threads})
            contestant.start(function, seed, points, observed)
            rows.append({"place": place, "contestant": contestant, "seconds": []})
        for k in range(asks + 1):
            for row in rows:
                started = time.perf_counter()
                points = row["contestant"].ask()
                row["seconds"].append(time.perf_counter() - started)
                row["contestant"].tell(points, [function.observe(x, n + k) for x in points])
        print(json.dumps(_summary(n, rows)), flush=True)


def _summary(n: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    found = []
    for row in rows:
        details = row["contestant"].details()[1:]
        found.append(
            {
                "device": row["place"].device,
                "threads": row["place"].threads,
                "predicted": row["place"].seconds,
                "median": statistics.median(row["seconds"][1:]),
                "shortest": min(row["seconds"][1:]),
                "evaluations": statistics.median(ask["fit_evaluations"] for ask in details),
                "fit": statistics.median(ask["fit"] for ask in details),
                "optimize": statistics.median(ask["raw_samples"] + ask["optimize"] for ask in details),
            }
        )
    return {"n": n, "places": found}


if __name__ == "__main__":
    typer.run(main)

"""What an ask does with the data after one new trial, in milliseconds of the processor, at several numbers of trials.

    python benchmarks/increment.py --n 100 --n 1000 --n 5000

``table``: a snapshot of the experiment and the table of the last ask with the new trial. ``outcomes``: Ax's transforms of
outcomes, which depend on all of them, made anew on columns. ``pending``: the trials that are pending. ``tensors``: copies
of the columns as BoTorch's datasets. Medians over ``--asks`` new trials, each completed before it is timed.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gpu_gs.bench.contestants import AxContestant
from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.plugin.data import Snapshot
from gpu_gs.plugin.pending import pending_observations


def main(sizes: Annotated[list[int], typer.Option("--n")], problem: str = "hartmann6", asks: int = 50) -> None:
    """Prints a table with a row for each n."""
    rows = {n: increments(problem, n, asks) for n in sizes}
    parts = [*rows[sizes[0]], "all"]
    print("| n |" + "|".join(f" {name} " for name in parts) + "|\n|" + "---|" * (len(parts) + 1))
    for n, found in rows.items():
        print(f"| {n:,} |" + "|".join(f" {1e3 * value:.2f} " for value in (*found.values(), sum(found.values()))) + "|")


def increments(problem: str, n: int, asks: int) -> dict[str, float]:
    """Median seconds of each part after one new trial, with n trials and more."""
    function = PROBLEMS[problem]
    points = function.initial_points(n + asks, seed=0)
    observed = [function.observe(point, index) for index, point in enumerate(points)]
    contestant = AxContestant("fast", {"device": "cpu"})
    contestant.start(function, 0, points[:n], observed[:n])
    contestant.ask()
    client: Any = contestant.client
    experiment, adapter = client._experiment, client._generation_strategy.adapter
    statuses, table = adapter._data_loader_config.statuses_to_fit, adapter._fitted.table
    seconds: dict[str, list[float]] = {"table": [], "outcomes": [], "pending": [], "tensors": []}

    def timed(part: str, what: Callable[[], Any]) -> Any:
        started = time.process_time()
        found = what()
        seconds[part].append(time.process_time() - started)
        return found

    for point, known in zip(points[n:], observed[n:], strict=True):
        client.complete_trial(client.attach_trial(contestant._arm(point)), dict(known))
        before = table
        table = timed("table", lambda: before.advanced(Snapshot.of(experiment), statuses, adapter._encode))  # noqa: B023
        training, _ = timed("outcomes", lambda: adapter._training_data_of(table))  # noqa: B023
        timed("pending", lambda: pending_observations(experiment))
        timed("tensors", lambda: training.datasets(adapter.parameters, None))  # noqa: B023
    return {part: statistics.median(values) for part, values in seconds.items()}


if __name__ == "__main__":
    typer.run(main)

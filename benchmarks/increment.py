"""What an ask does with the data after one new trial, in milliseconds of the processor, at several numbers of trials.

    python benchmarks/increment.py --n 100 --n 1000 --n 5000

``table``: a snapshot of the experiment and the table of the last ask with the new trial. ``outcomes``: Ax's transforms of
outcomes, which depend on all of them, made anew on columns. ``pending``: the trials that are pending. ``tensors``: copies
of the columns as BoTorch's datasets. Medians over ``--asks`` new trials, each completed before it is timed.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

from gpu_gs import GPUGenerationStrategy
from gpu_gs.plugin.data import Snapshot
from gpu_gs.plugin.pending import pending_observations

PARAMETERS = 6


def complete(client: Client, rng: np.random.Generator) -> None:
    point = {f"x{k}": float(value) for k, value in enumerate(rng.random(PARAMETERS))}
    index = client.attach_trial(point)
    client.complete_trial(index, {"f": float(np.sin(5 * np.array(list(point.values()))).sum())})


def timed(seconds: list[float], what: Callable[[], Any]) -> Any:
    started = time.process_time()
    found = what()
    seconds.append(time.process_time() - started)
    return found


def increments(n: int, asks: int) -> dict[str, float]:
    """Median seconds of each part after one new trial, with n trials and more."""
    rng = np.random.default_rng(0)
    client = Client()
    client.configure_experiment(
        [RangeParameterConfig(name=f"x{k}", parameter_type="float", bounds=(0.0, 1.0)) for k in range(PARAMETERS)]
    )
    client.configure_optimization("-f")
    client.set_generation_strategy(GPUGenerationStrategy.from_config("fast", seed=0, device="cpu"))
    for _ in range(n):
        complete(client, rng)
    for _ in range(2):  # the strategy's center, and one by the model
        client.get_next_trials(max_trials=1)
    experiment: Any = client._experiment
    adapter: Any = client._generation_strategy.adapter
    statuses = adapter._data_loader_config.statuses_to_fit
    table = adapter._fitted.table
    seconds: dict[str, list[float]] = {"table": [], "outcomes": [], "pending": [], "tensors": []}
    for _ in range(asks):
        complete(client, rng)
        table = timed(seconds["table"], lambda: table.advanced(Snapshot.of(experiment), statuses, adapter._encode))  # noqa: B023
        training, _ = timed(seconds["outcomes"], lambda: adapter._training_data_of(table))  # noqa: B023
        timed(seconds["pending"], lambda: pending_observations(experiment))
        timed(seconds["tensors"], lambda: training.datasets(adapter.parameters, None))  # noqa: B023
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, action="append", help="trials; may be given several times")
    parser.add_argument("--asks", type=int, default=50)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    header = False
    for n in arguments.n or [100, 1000]:
        found = increments(n, arguments.asks)
        if not header:
            print("| n |" + "|".join(f" {name} " for name in found) + "| all |\n|" + "---|" * (len(found) + 2))
            header = True
        cells = [*found.values(), sum(found.values())]
        print(f"| {n:,} |" + "|".join(f" {1e3 * value:.2f} " for value in cells) + "|")


if __name__ == "__main__":
    main()

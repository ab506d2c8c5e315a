"""What the tests of kinds of problems share: a client for a kind, asks that must be the model's, stock Ax as the judge."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
from ax.adapter.registry import Generators
from ax.adapter.torch import TorchAdapter
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.core.observation import ObservationFeatures
from ax.core.trial_status import TrialStatus
from ax.core.utils import extract_pending_observations
from ax.generation_strategy.dispatch_utils import get_derelativize_config

from gpu_gs import GPUGenerationStrategy, timings
from gpu_gs.plugin.registry import GPUGenerators
from tests.plugin.helpers import QUICK

Parameters = Mapping[str, Any]
Outcomes = Mapping[str, Any]

FLOATS = [RangeParameterConfig(name=name, parameter_type="float", bounds=(0.0, 1.0)) for name in ("x", "y")]
"""Two floats in the unit square, where the parameters are not the point."""

MODEL_FIRST = {"initialization": {"budget": 0, "center": False}}
"""For a client whose first observations are at points of the test's choice."""

STOCK_OPTIONS = {"optimizer_kwargs": {"num_restarts": 2, "raw_samples": 64}}
"""Stock Ax's optimizer with fewer starts, so that comparing costs a second and not ten."""

OURS = {setup.value for setup in GPUGenerators}


def f(p: Parameters) -> float:
    """A smooth function of the floats x and y with one optimum, at (0.3, 0.7)."""
    return (float(p["x"]) - 0.3) ** 2 + (float(p["y"]) - 0.7) ** 2


def g(p: Parameters) -> float:
    return float(p["x"]) + 0.5 * float(p["y"])


def h(p: Parameters) -> float:
    return math.sin(4 * float(p["x"])) - float(p["y"])


FUNCTIONS: dict[str, Callable[[Parameters], float]] = {"f": f, "g": g, "h": h}


def outcomes(*names: str) -> Callable[[Parameters], Outcomes]:
    """The function that measures these metrics."""
    return lambda p: {name: FUNCTIONS[name](p) for name in names}


def quick_strategy(seed: int = 0, **config: Any) -> Any:
    return GPUGenerationStrategy.from_config("fast", seed=seed, **{**QUICK, **config})


def client_for(
    parameters: Sequence[Any] = FLOATS,
    objective: str = "-f",
    *,
    seed: int = 0,
    outcome_constraints: Sequence[str] | None = None,
    parameter_constraints: Sequence[str] | None = None,
    **config: Any,
) -> Client:
    """A client with our strategy, made quick."""
    client = Client()
    client.configure_experiment(
        name="kind", parameters=list(parameters), parameter_constraints=list(parameter_constraints or [])
    )
    client.configure_optimization(objective=objective, outcome_constraints=outcome_constraints)
    client.set_generation_strategy(quick_strategy(seed, **config))
    return client


def client_of_core(experiment: Experiment, seed: int = 0, **config: Any) -> Client:
    """A client around an experiment made of Ax's core objects, which take more than ``Client`` can say."""
    client = Client()
    client.set_experiment(experiment)
    client.set_generation_strategy(quick_strategy(seed, **config))
    return client


def advance(
    client: Client, trials: int, function: Callable[[Parameters], Outcomes], **ask: Any
) -> list[dict[str, Any]]:
    """Asks and tells; returns the points asked for."""
    asked = []
    for _ in range(trials):
        for index, parameters in client.get_next_trials(max_trials=1, **ask).items():
            client.complete_trial(index, dict(function(parameters)))
            asked.append(dict(parameters))
    return asked


def attach(client: Client, points: Sequence[Parameters], function: Callable[[Parameters], Outcomes]) -> list[int]:
    """Completed trials at points of the user's."""
    indices = []
    for point in points:
        index = client.attach_trial(dict(point))
        client.complete_trial(index, dict(function(point)))
        indices.append(index)
    return indices


def candidate(client: Client, n: int = 1, **gen: Any) -> list[dict[str, Any]]:
    """What the strategy would ask for next, without a trial for it."""
    ((run,),) = client._generation_strategy.gen(client._experiment, n=n, **gen)
    assert run._generator_key in OURS, f"the candidate is {run._generator_key}'s"
    return [dict(arm.parameters) for arm in run.arms]


def runs_of(client: Client) -> list[GeneratorRun]:
    return [run for trial in client._experiment.trials.values() for run in trial.generator_runs]


def assert_by_the_model(client: Client, last: int) -> None:
    """The last asks were our model node's own: neither Sobol's turn, nor a fall-back."""
    made_by = [run._generator_key for run in runs_of(client)[-last:]]
    assert len(made_by) == last and set(made_by) <= OURS, f"candidates are {made_by}'s"


def reasons(client: Client) -> str:
    """Why the last ask could not use a fast part."""
    return str(timings(client)["reasons"].iloc[-1])


def stock_adapter(experiment: Experiment, **kwargs: Any) -> TorchAdapter:
    """Stock Ax's model node, as ``method="fast"`` makes it, fitted to the experiment's data."""
    adapter = Generators.BOTORCH_MODULAR(
        experiment=experiment,
        transform_configs=get_derelativize_config(derelativize_with_raw_status_quo=True),
        **kwargs,
    )
    assert type(adapter) is TorchAdapter
    return adapter


def in_the_place_of_ours(client: Client, **kwargs: Any) -> TorchAdapter:
    """A stock adapter of the client's data whose model was given the hyperparameters of ours.

    With few data the posterior of the hyperparameters has several modes, and which one a fit finds is another question.
    """
    with mock.patch("ax.generators.torch.botorch_modular.utils.fit_gpytorch_mll"):  # what it finds would be replaced
        adapter = stock_adapter(client._experiment, **kwargs)
    model: Any = adapter.generator.surrogate.model
    model.load_state_dict(client._generation_strategy.adapter.generator.surrogate.model.state_dict())
    model.train(), model.eval()  # forgets what it had computed before
    return adapter


def judged_by_stock(
    client: Client,
    points: Sequence[Parameters],
    *,
    fixed: Mapping[str, Any] | None = None,
    optimized: bool = True,
    **stock: Any,
) -> list[float]:
    """Stock Ax's own acquisition function at these points and, last, at the candidate of stock Ax's own optimizer.

    One call evaluates all of them, with the same samples. The value is the logarithm of an improvement. ``stock`` are
    arguments of the stock adapter.
    """
    experiment = client._experiment
    adapter = in_the_place_of_ours(client, **stock)
    pending = extract_pending_observations(experiment)
    features = None if fixed is None else ObservationFeatures(parameters=dict(fixed))
    if optimized:
        with warnings.catch_warnings():  # SciPy may stop early in stock Ax's optimization; BoTorch then starts anew
            warnings.filterwarnings("ignore", "Optimization failed", RuntimeWarning)
            run = adapter.gen(
                n=1, pending_observations=pending, model_gen_options=STOCK_OPTIONS, fixed_features=features
            )
        points = [*points, run.arms[0].parameters]
    values: list[float] = adapter.evaluate_acquisition_function(
        observation_features=[ObservationFeatures(parameters=dict(p)) for p in points],
        pending_observations=pending,
        fixed_features=features,
    )
    return values


def assert_as_good_as_stock(client: Client, ours: Parameters, *, margin: float = 0.7, **judge: Any) -> None:
    """Our candidate's value in stock Ax's own acquisition function is at most ``margin`` below that of stock's candidate.

    The margin is in natural logarithms of the improvement: 0.7 is half of it. Each of the two has samples of its own, and
    where noise is negligible ours maximizes another function for one objective (improvement over the best mean). The
    two differ most far out in the tail, so problems with one objective have a ``ripple``, which leaves much to gain.
    """
    found, expected = judged_by_stock(client, [ours], **judge)
    assert found >= expected - margin, f"stock Ax's acquisition value is {found:.3f} here, {expected:.3f} at its own"


def assert_as_good_as_random(
    client: Client, ours: Parameters, points: Sequence[Parameters], *, margin: float = 0.3, **judge: Any
) -> None:
    """Our candidate's value in stock Ax's acquisition function is at most ``margin`` below the best of random points.

    Where stock Ax's optimizer takes many seconds.
    """
    found, *others = judged_by_stock(client, [ours, *points], optimized=False, **judge)
    assert found >= max(others) - margin, f"stock Ax's acquisition value is {found:.3f}, {max(others):.3f} at random"


def ripple(*values: float) -> float:
    """Faster than a few observations can follow: there is always something left to gain."""
    return 0.2 * math.sin(40 * sum((k + 1) * value for k, value in enumerate(values)))


def completed(client: Client) -> int:
    return len(client._experiment.trial_indices_by_status[TrialStatus.COMPLETED])


def model_rows(client: Client) -> dict[str, np.ndarray]:
    """What our model was fitted to: the rows of each outcome, sorted, in the adapter's transformed units."""
    return _rows(client._generation_strategy.adapter)


def stock_rows(client: Client) -> dict[str, np.ndarray]:
    """What stock Ax would fit to the same experiment."""
    return _rows(stock_adapter(client._experiment))


def _rows(adapter: Any) -> dict[str, np.ndarray]:
    rows = {}
    for dataset in adapter.generator.surrogate.training_data:
        for column, name in enumerate(dataset.outcome_names):
            parts = [dataset.X.numpy(), dataset.Y.numpy()[:, [column]]]
            if dataset.Yvar is not None:
                parts.append(dataset.Yvar.numpy()[:, [column]])
            table = np.hstack(parts)
            rows[name] = table[np.lexsort(table.T)]
    return rows


def assert_same_rows(client: Client) -> None:
    """Our model sees the observations that stock Ax's would see: failed, abandoned, early-stopped and all."""
    found, expected = model_rows(client), stock_rows(client)
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        np.testing.assert_allclose(found[name], rows, rtol=1e-9, atol=1e-9, err_msg=name)

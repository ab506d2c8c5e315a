"""Outcome constraints on weighted sums of metrics: what the acquisition function is told is what was written."""

import numpy as np
import pytest
from ax.adapter.adapter_utils import extract_outcome_constraints
from ax.core.outcome_constraint import OutcomeConstraint

from gpu_gs.plugin.adapter import WarmTorchAdapter
from tests.kinds.helpers import MODEL_FIRST, Parameters, advance, attach, candidate, client_for

BASELINE = {"x": 0.5, "y": 0.5}


def measured(p: Parameters) -> dict[str, float]:
    return {"f": (p["x"] - 0.3) ** 2 + p["y"], "g": 40 * p["x"] ** 3, "h": 300 * p["y"] - 20, "k": p["x"] * p["y"]}


def some(count: int) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in np.random.default_rng(0).uniform(size=(count, 2)).tolist()]


SUMS = {
    "upper": (["g + 0.2*h <= 30"], lambda v: [30 - v["g"] - 0.2 * v["h"]]),
    "lower": (["2*g + h >= 100"], lambda v: [2 * v["g"] + v["h"] - 100]),
    "of both signs": (["g - 0.1*h <= 1"], lambda v: [1 - v["g"] + 0.1 * v["h"]]),
    "three metrics": (["g + 0.1*h + 10*k <= 25"], lambda v: [25 - v["g"] - 0.1 * v["h"] - 10 * v["k"]]),
    "beside a bound of one of them": (
        ["g + 0.2*h <= 30", "g <= 12"],
        lambda v: [30 - v["g"] - 0.2 * v["h"], 12 - v["g"]],
    ),
    "beside a bound of another": (
        ["g + 0.2*h <= 30", "k <= 0.3"],
        lambda v: [30 - v["g"] - 0.2 * v["h"], 0.3 - v["k"]],
    ),
}


def bounds_of_the_last_ask(client, monkeypatch):
    """What the model's data say at the observed points: b - A z for each constraint, and the points."""
    seen = []
    real = WarmTorchAdapter._get_transformed_model_gen_args

    def spy(self, *args, **kwargs):
        found = real(self, *args, **kwargs)
        seen.append(found[1].outcome_constraints)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(WarmTorchAdapter, "_get_transformed_model_gen_args", spy)
        candidate(client)
    A, b = (part.numpy() for part in seen[-1])
    adapter = client._generation_strategy.adapter
    values = {}
    for dataset in adapter.generator.surrogate.training_data:
        for column, name in enumerate(dataset.outcome_names):
            values[name] = dataset.Y[:, column].numpy()
    Z = np.stack([values[name] for name in adapter.outcomes])  # shape: (m, n)
    return b - A @ Z


@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("asks", [0, 2])
def test_an_observation_is_feasible_for_the_model_where_it_is_as_written(kind, asks, monkeypatch):
    """After Ax's pass over the data (no ask before) and after additions to the table (two asks before)."""
    constraints, slacks = SUMS[kind]
    names = sorted({"f"} | {name for name in "ghk" if any(name in text for text in constraints)})
    measure = lambda p: {name: measured(p)[name] for name in names}  # noqa: E731
    client = client_for(outcome_constraints=constraints, **MODEL_FIRST)
    told = some(10)
    attach(client, told, measure)
    told += advance(client, asks, measure)
    found = bounds_of_the_last_ask(client, monkeypatch)
    expected = np.array([slacks(measured(p)) for p in told]).T
    order = np.argsort(expected, axis=1)
    assert np.array_equal(np.argsort(found, axis=1), order)
    assert np.array_equal(found >= 0, expected >= 0)
    assert (expected >= 0).any() and (expected < 0).any()


def test_a_sum_relative_to_a_baseline_is_relative_to_the_sum_there(monkeypatch):
    client = client_for(outcome_constraints=["g + 0.2*h <= 0.9 * baseline"], **MODEL_FIRST)
    measure = lambda p: {name: measured(p)[name] for name in "fgh"}  # noqa: E731
    client.complete_trial(client.attach_baseline(BASELINE), measure(BASELINE))
    attach(client, some(10), measure)
    at = lambda p: measured(p)["g"] + 0.2 * measured(p)["h"]  # noqa: E731
    (found,) = bounds_of_the_last_ask(client, monkeypatch)
    expected = [at(p) <= 0.9 * at(BASELINE) for p in (BASELINE, *some(10))]
    assert (found >= 0).tolist() == expected
    assert any(expected) and not all(expected)


def test_ax_still_reads_the_first_metric_of_a_sum_only():
    """When this fails, Ax was mended: ``gpu_gs.plugin.sums`` may go."""
    names = {"g": "g", "h": "h"}
    constraint = OutcomeConstraint(expression="2*g + h <= 1", metric_name_to_signature=names)
    A, _ = extract_outcome_constraints([constraint], ["g", "h"])
    assert np.count_nonzero(A) == 1

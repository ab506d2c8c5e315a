"""Ax's own tests of generation strategies, run with ours in the place of Ax's.

Every ``GenerationStrategy`` that the tests make is a ``GPUGenerationStrategy`` whose BoTorch nodes were replaced, as
``accelerate`` does it; where the tests mock Ax's adapter, ours is mocked by the same mock. What checks an
implementation detail that we deliberately replace is excluded, by name and with its reason.
"""

import importlib
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

import gpu_gs.plugin.registry as registry
from gpu_gs.plugin.accelerate import replace_model_nodes
from gpu_gs.plugin.node import GPUGenerationNode
from gpu_gs.plugin.settings import EngineSettings
from gpu_gs.plugin.strategy import GPUGenerationStrategy

pytest.importorskip("pyfakefs", reason="Ax's test base class needs it")

SUITES = {
    "TestGenerationStrategy": "ax.generation_strategy.tests.test_generation_strategy",
    "TestGenerationStrategyWithoutAdapterMocks": "ax.generation_strategy.tests.test_generation_strategy",
    "TestTransitionCriterion": "ax.generation_strategy.tests.test_transition_criterion",
    "TestCenterGenerationNode": "ax.generation_strategy.tests.test_center_generation_node",
    "TestExternalGenerationNode": "ax.generation_strategy.tests.test_external_generation_node",
}

EXCLUDED = {
    "test_string_representation": "it spells out the class names of nodes and generators, which are ours",
    "test_gen_with_fixed_features": "it demands that a mock of optimize_acqf is called; fixed features: test_ask.py",
}

SETTINGS = EngineSettings.model_validate(
    {"seed": 0, "device": "cpu", "acquisition": {"raw_samples": 64, "restarts": 2, "iterations": 10}}
)


class OurStrategy(GPUGenerationStrategy):
    """What stands for ``GenerationStrategy`` in Ax's tests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        replace_model_nodes(self, SETTINGS)


def suite(name: str) -> type[unittest.TestCase]:
    found: type[unittest.TestCase] = getattr(importlib.import_module(SUITES[name]), name)

    class Ours(found):  # type: ignore[valid-type, misc]
        def setUp(self) -> None:
            super().setUp()
            if (adapter := getattr(self, "mock_torch_adapter", None)) is not None:
                key = registry.GPUGenerators.GPU_BOTORCH.value
                adapter.return_value.generator = None  # the mock stands for an adapter's class, not its instances
                setup = registry._SETUPS[key]._replace(adapter_class=adapter)
                patcher = mock.patch.dict(registry._SETUPS, {key: setup})
                patcher.start()
                self.addCleanup(patcher.stop)

    return Ours


CASES = [
    (name, test)
    for name, module in SUITES.items()
    for test in unittest.defaultTestLoader.getTestCaseNames(getattr(importlib.import_module(module), name))
]


@pytest.fixture(scope="module")
def generated() -> Iterator[list[str]]:
    """The names of the model nodes of ours that generated something in these tests."""
    names: list[str] = []
    original = GPUGenerationNode._gen_on

    def spy(self: GPUGenerationNode, *args: Any, **kwargs: Any) -> Any:
        names.append(self.name)
        return original(self, *args, **kwargs)

    with mock.patch.object(GPUGenerationNode, "_gen_on", spy):
        yield names


@pytest.mark.filterwarnings("ignore:Using `GenerationStep`", "ignore::botorch.exceptions.warnings.BotorchWarning")
@pytest.mark.parametrize(("name", "test"), CASES, ids=[f"{name}-{test}" for name, test in CASES])
def test_ax(name: str, test: str, generated: list[str]) -> None:
    if test in EXCLUDED:
        pytest.skip(EXCLUDED[test])
    result = unittest.TestResult()
    with mock.patch(f"{SUITES[name]}.GenerationStrategy", OurStrategy):
        suite(name)(test).run(result)
    problems = [text for _, text in (*result.errors, *result.failures)]
    assert not problems, "\n".join(problems)
    if test == "test_sobol_MBM_strategy":
        assert generated, "no model node of ours took part"


def test_exclusions_exist() -> None:
    assert set(EXCLUDED) <= {test for _, test in CASES}

"""Ours in the place of Ax's, for the time of one of Ax's own tests.

Three layers are replaced, each where Ax's tests find it:

- every ``GenerationStrategy``, whoever makes it (a test, a dispatch function, a decoder), becomes a
  ``GPUGenerationStrategy`` whose BoTorch nodes were replaced as ``accelerate`` does it;
- ``TorchAdapter`` and ``BoTorchGenerator`` of the entries of Ax's registry that ``accelerate`` replaces, and those that a
  test module imported, become ``WarmTorchAdapter`` and ``WarmBoTorchGenerator``: a node or a call of
  ``Generators.BOTORCH_MODULAR(...)`` that no strategy replaced uses ours too;
- ``Surrogate`` of a test module becomes ``WarmSurrogate``.

``mock_botorch_optimize`` and ``skip_fit_gpytorch_mll`` fail a test in which none of their mocks of BoTorch's optimizers
was called. Ours calls none of them, so that check, and nothing else of them, is turned off.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import ax.utils.testing.mock as ax_mock
from ax.adapter.registry import GENERATOR_KEY_TO_GENERATOR_SETUP
from ax.adapter.torch import TorchAdapter
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generators.torch.botorch_modular.generator import BoTorchGenerator
from ax.generators.torch.botorch_modular.surrogate import Surrogate

import gpu_gs.plugin.registry as registry
from gpu_gs.plugin.accelerate import replace_model_nodes
from gpu_gs.plugin.adapter import WarmTorchAdapter
from gpu_gs.plugin.generator import WarmBoTorchGenerator
from gpu_gs.plugin.node import GPUGenerationNode
from gpu_gs.plugin.settings import EngineSettings
from gpu_gs.plugin.storage import restore_class
from gpu_gs.plugin.surrogate import WarmSurrogate

SETTINGS = EngineSettings.model_validate(
    {"seed": 0, "device": "cpu", "acquisition": {"raw_samples": 64, "restarts": 2, "iterations": 10}}
)


class _AnyInstance(type(WarmTorchAdapter)):
    """What a test finds to be an instance of Ax's class is one of ours."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, TorchAdapter if issubclass(cls, TorchAdapter) else BoTorchGenerator)


class OurGenerator(WarmBoTorchGenerator, metaclass=_AnyInstance):
    """``WarmBoTorchGenerator`` under the signature of Ax's, whose callers know nothing of settings."""

    __module__ = BoTorchGenerator.__module__  # where some tests look for a logger

    __signature__ = inspect.signature(WarmBoTorchGenerator).replace(
        parameters=[
            *(p for p in inspect.signature(WarmBoTorchGenerator).parameters.values() if p.name != "settings"),
            inspect.Parameter("settings", inspect.Parameter.KEYWORD_ONLY, default=None),
        ]
    )

    def __init__(self, *args: Any, settings: dict[str, Any] | None = None, **kwargs: Any) -> None:
        names = inspect.signature(BoTorchGenerator).parameters
        given = dict(zip(names, args, strict=False))
        super().__init__(settings=settings or SETTINGS.to_stored(), **given, **kwargs)


class OurAdapter(WarmTorchAdapter, metaclass=_AnyInstance):
    """``WarmTorchAdapter``, where tests look for Ax's adapter."""

    __module__ = TorchAdapter.__module__


OURS: dict[type, type] = {TorchAdapter: OurAdapter, BoTorchGenerator: OurGenerator, Surrogate: WarmSurrogate}

MOCKING = ("mock_botorch_optimize_context_manager", "skip_fit_gpytorch_mll_context_manager")

MOCKED = ("TorchAdapter", "ax.generation_strategy.tests.test_generation_strategy")
"""A module that looks for its own mock of Ax's adapter."""

STOCK_KEYS = {ours: stock.value for stock, ours in registry.COUNTERPARTS.items()}
"""The names that Ax's generators give to their runs; many a test asks for one to learn which node's turn it was."""


@contextmanager
def in_place_of_stock(module: ModuleType, calls: Counter[str] | None = None) -> Iterator[None]:
    """Ours in the place of Ax's, for the tests of a module.

    Args:
        module: The module of the tests.
        calls: Counts, if given, the asks of our node, fits of our generator and our surrogate.
    """
    with ExitStack() as stack:
        patch = stack.enter_context
        original = GenerationStrategy.__init__

        def construct(self: GenerationStrategy, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            replace_model_nodes(self, SETTINGS)
            restore_class(self)
            for spec in (spec for node in self._nodes for spec in node.generator_specs):
                if spec.generator_key_override is None and spec.generator_enum in STOCK_KEYS:
                    spec.generator_key_override = STOCK_KEYS[spec.generator_enum]

        patch(mock.patch.object(GenerationStrategy, "__init__", construct))
        ours = {
            stock.value: GENERATOR_KEY_TO_GENERATOR_SETUP[stock.value]._replace(
                adapter_class=OurAdapter, generator_class=OurGenerator
            )
            for stock in registry.COUNTERPARTS
        }
        patch(mock.patch.dict(GENERATOR_KEY_TO_GENERATOR_SETUP, ours))
        registered = {
            key: setup._replace(adapter_class=OurAdapter, generator_class=OurGenerator)
            for key, setup in registry._SETUPS.items()
        }
        patch(mock.patch.dict(registry._SETUPS, registered))
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value in OURS and (name, module.__name__) != MOCKED:
                patch(mock.patch.object(module, name, OURS[value]))
        for name in MOCKING:
            tolerant = _tolerant(getattr(ax_mock, name))
            for place in (ax_mock, module):
                if hasattr(place, name):
                    patch(mock.patch.object(place, name, tolerant))
        if calls is not None:
            for owner, method in (
                (GPUGenerationNode, "_gen_on"),
                (WarmTorchAdapter, "_fit"),
                (WarmBoTorchGenerator, "fit"),
                (WarmSurrogate, "_construct_model"),
            ):
                patch(mock.patch.object(owner, method, _counted(owner, method, calls)))
        yield


def _tolerant(mocks: Callable[..., AbstractContextManager[Any]]) -> Callable[..., AbstractContextManager[Any]]:
    """The same mocks, which need not be called."""

    @contextmanager
    def entered(*args: Any, **kwargs: Any) -> Iterator[None]:
        context = mocks(*args, **kwargs)
        context.__enter__()
        try:
            yield
        finally:
            try:
                context.__exit__(None, None, None)
            except AssertionError as error:
                if not str(error).startswith("No mocks were called"):
                    raise

    return entered


def _counted(owner: type, method: str, calls: Counter[str]) -> Any:
    function = getattr(owner, method)

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls[owner.__name__] += 1
        return function(self, *args, **kwargs)

    return counted


def adapter_mocked_by(case: Any) -> None:
    """Where a test case mocks Ax's adapter for all of its tests, ours is mocked by the same mock."""
    if (adapter := getattr(case, "mock_torch_adapter", None)) is None:
        return
    adapter.return_value.generator = None  # the mock stands for an adapter's class, not its instances
    key = registry.GPUGenerators.GPU_BOTORCH.value
    patcher = mock.patch.dict(registry._SETUPS, {key: registry._SETUPS[key]._replace(adapter_class=adapter)})
    patcher.start()
    case.addCleanup(patcher.stop)

"""What we override of Ax's private code: a test for each, so that a change upstream is noticed here first."""

import hashlib
import inspect

import pytest
from ax.adapter.torch import TorchAdapter
from ax.generation_strategy.generation_node import GenerationNode
from ax.generators.torch.botorch_modular.generator import BoTorchGenerator
from ax.generators.torch.botorch_modular.surrogate import Surrogate

OVERRIDDEN = {
    Surrogate._construct_model: "7b1ea215d5a63db2",
    TorchAdapter._gen: "9d4a6380586a5d44",
    TorchAdapter._fit: "5835d413c9b048cf",
    BoTorchGenerator._instantiate_acquisition: "cf1c3843ae55841a",
    BoTorchGenerator.fit: "14e2aa0ae3415c5b",
    GenerationNode._get_model_state_from_last_generator_run: "4e0e7ed0cb8aaa81",
    GenerationNode.gen: "38c06e62bce77662",
}


def digest(function) -> str:
    source = "".join(inspect.getsource(function).split())
    return hashlib.sha256(source.encode()).hexdigest()[:16]


@pytest.mark.parametrize("function", OVERRIDDEN, ids=lambda f: f.__qualname__)
def test_the_code_we_override_is_the_code_we_read(function):
    assert digest(function) == OVERRIDDEN[function], (
        f"{function.__qualname__} changed upstream: read it again, adapt our override, then update the digest"
    )

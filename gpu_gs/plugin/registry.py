"""Ax's generator registry, extended by ours: each key is a stock one with our adapter and generator."""

from ax.adapter.registry import (
    GENERATOR_KEY_TO_GENERATOR_SETUP,
    GeneratorRegistryBase,
    Generators,
    GeneratorSetup,
)

from gpu_gs.plugin.adapter import WarmTorchAdapter
from gpu_gs.plugin.generator import WarmBoTorchGenerator


def _ours(stock: Generators) -> GeneratorSetup:
    setup = GENERATOR_KEY_TO_GENERATOR_SETUP[stock.value]
    return setup._replace(
        adapter_class=WarmTorchAdapter,
        generator_class=WarmBoTorchGenerator,
        not_saved_generator_kwargs=[*(setup.not_saved_generator_kwargs or []), "warm_state"],
    )


class GPUGenerators(GeneratorRegistryBase):
    """The generators of gpu_gs. Ax stores a member by its class and name."""

    GPU_BOTORCH = "GPU_BoTorch"
    GPU_BO_MIXED = "GPU_BO_MIXED"
    GPU_ST_MTGP = "GPU_ST_MTGP"

    @property
    def GENERATOR_KEY_TO_GENERATOR_SETUP(self) -> dict[str, GeneratorSetup]:
        return _SETUPS


COUNTERPARTS: dict[Generators, GPUGenerators] = {
    Generators.BOTORCH_MODULAR: GPUGenerators.GPU_BOTORCH,
    Generators.BO_MIXED: GPUGenerators.GPU_BO_MIXED,
    Generators.ST_MTGP: GPUGenerators.GPU_ST_MTGP,
}
"""Which of ours takes the place of which of Ax's."""

_SETUPS: dict[str, GeneratorSetup] = {ours.value: _ours(stock) for stock, ours in COUNTERPARTS.items()}

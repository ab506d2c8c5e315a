"""What the model node must know, as one value that Ax can store: no device, only the policy that chooses one."""

from collections.abc import Mapping
from typing import Any, Literal

from gpu_gs.config import AcquisitionConfig, ConfigModel, Every, FitConfig, StrategyConfig
from gpu_gs.device import DevicePolicy


class EngineSettings(ConfigModel):
    """The settings of a model node; kept as a plain dict in ``GeneratorSpec.generator_kwargs["settings"]``.

    Attributes:
        seed: The strategy's seed. Every random draw of an ask derives from it (``gpu_gs.rng.derive_seed``).
        seed_source: ``"config"`` if the user chose the seed; ``"entropy"`` if it was drawn, so that a reset clone
            draws another one.
        device: The device policy (``auto``, ``cpu``, ``cuda``, ``cuda:N``), never a resolved device.
        threads: Threads of an ask, or ``auto``.
        diagnostics: When leave-one-out predictions are summarized.
        fit: Hyperparameter fitting.
        acquisition: Choice and optimization of the acquisition function.
    """

    seed: int
    seed_source: Literal["config", "entropy"] = "config"
    device: str = "auto"
    threads: int | Literal["auto"] = "auto"
    diagnostics: Literal["off", "always"] | Every = "off"
    fit: FitConfig = FitConfig()
    acquisition: AcquisitionConfig = AcquisitionConfig()

    @classmethod
    def from_strategy_config(cls, config: StrategyConfig, seed: int) -> "EngineSettings":
        return cls(
            seed=seed,
            seed_source="entropy" if config.seed is None else "config",
            device=config.device,
            threads=config.threads,
            diagnostics=config.diagnostics,
            fit=config.fit,
            acquisition=config.acquisition,
        )

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "EngineSettings":
        return cls.model_validate(dict(stored))

    def to_stored(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    @property
    def policy(self) -> DevicePolicy:
        return DevicePolicy(device=self.device, threads=self.threads)

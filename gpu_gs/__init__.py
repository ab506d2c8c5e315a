"""gpu_gs: a GenerationStrategy plug-in for Ax whose asks take milliseconds.

The names below are loaded on first use, so that importing the package (as ``gpu-gs --help`` does) costs nothing.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_gs.config import StrategyConfig
    from gpu_gs.optimize.maximize import maximize_acquisition
    from gpu_gs.plugin.accelerate import accelerate
    from gpu_gs.plugin.strategy import GPUGenerationStrategy
    from gpu_gs.plugin.timings import timings
    from gpu_gs.run.loading import load_client

__version__ = "0.1.0"
__all__ = ["GPUGenerationStrategy", "StrategyConfig", "accelerate", "load_client", "maximize_acquisition", "timings"]

_HOMES = {
    "GPUGenerationStrategy": "gpu_gs.plugin.strategy",
    "StrategyConfig": "gpu_gs.config",
    "accelerate": "gpu_gs.plugin.accelerate",
    "load_client": "gpu_gs.run.loading",
    "maximize_acquisition": "gpu_gs.optimize.maximize",
    "timings": "gpu_gs.plugin.timings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gpu_gs' has no attribute {name!r}")
    if name != "StrategyConfig":
        import_module("gpu_gs.plugin")  # whoever uses one of these may load a file through Ax next: Ax must know us
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


if "ax.storage.json_store.registry" in sys.modules:
    # Ax is loaded already: then its own loaders know our classes from now on, and torch costs nothing more.
    import_module("gpu_gs.plugin")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

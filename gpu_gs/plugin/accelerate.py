"""Makes an existing Ax strategy fast in place: its BoTorch model nodes are replaced by ours, all else is kept."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ax.adapter.registry import Generators
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generators.torch.botorch_modular.surrogate import Surrogate, SurrogateSpec

from gpu_gs.config import StrategyConfig
from gpu_gs.device import ALLOWED_DEVICES, DEVICE_PATTERN, check
from gpu_gs.errors import ConfigError
from gpu_gs.plugin.node import GPUGenerationNode
from gpu_gs.plugin.registry import COUNTERPARTS
from gpu_gs.plugin.settings import EngineSettings
from gpu_gs.rng import fresh_seed

logger = logging.getLogger("gpu_gs")

ConfigSource = str | Path | Mapping[str, Any] | StrategyConfig


def reasons_against_replacing(node: GenerationNode) -> list[str]:
    """Why a node is left as it is; empty means it is replaced."""
    if isinstance(node, GPUGenerationNode):
        return ["it is one of ours already"]
    if type(node) is not GenerationNode:
        return [f"its class {type(node).__name__} may do more than we know"]
    if len(node.generator_specs) != 1:
        return [f"it chooses between {len(node.generator_specs)} generators"]
    spec = node.generator_specs[0]
    if spec.generator_enum not in COUNTERPARTS:
        return [f"its generator {spec.generator_enum.value} is not a BoTorch model that we can warm-start"]
    kwargs = spec.generator_kwargs
    device = kwargs.get("torch_device")
    if device is not None and not DEVICE_PATTERN.fullmatch(str(device)):
        return [f"its torch_device is {device}; ours runs on {', '.join(ALLOWED_DEVICES)}"]
    surrogate = kwargs.get("surrogate_spec") or kwargs.get("surrogate")
    if isinstance(surrogate, Surrogate):
        surrogate = surrogate.surrogate_spec
    if isinstance(surrogate, SurrogateSpec):
        sampled = sorted(
            {
                config.botorch_model_class.__name__
                for config in [
                    *surrogate.model_configs,
                    *(c for configs in surrogate.metric_to_model_configs.values() for c in configs),
                ]
                if config.botorch_model_class is not None
                and getattr(config.botorch_model_class, "_is_fully_bayesian", False)
            }
        )
        if sampled:
            return [f"its model {', '.join(sampled)} is sampled by NUTS, not fitted"]
    return []


def replace_model_nodes(
    strategy: GenerationStrategy, settings: EngineSettings
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Replaces what can be replaced, in place; on an error nothing is.

    Returns:
        The names of the replaced nodes, and the name of each node that was left with the reasons.

    Raises:
        DeviceUnavailableError: A node demands a device that is not there.
    """
    left = [(node.name, reasons) for node in strategy._nodes if (reasons := reasons_against_replacing(node))]
    specs = {
        position: _spec_in_place_of(node.generator_specs[0], settings)
        for position, node in enumerate(strategy._nodes)
        if not reasons_against_replacing(node)
    }
    for spec in specs.values():
        check(EngineSettings.from_stored(spec.generator_kwargs["settings"]).policy)
    replaced = []
    for position, spec in specs.items():
        node = strategy._nodes[position]
        ours = GPUGenerationNode.in_place_of(node, spec)
        strategy._nodes[position] = ours
        ours._generation_strategy = strategy
        if strategy._curr is node:
            strategy._curr = ours
        replaced.append(node.name)
    if replaced:
        # Ax names the nodes of a strategy of GenerationSteps after their generators, again at each construction (in
        # ``clone_reset``, say). They have their names; what refers to them must find them under those.
        for node in strategy._nodes:
            node._step_index = None
    return replaced, left


def _configure(nodes: list[GPUGenerationNode], settings: EngineSettings, keep_seed: bool) -> list[str]:
    """Gives nodes of ours these settings; returns the names of those that had others.

    Their warm state is kept: it lies in the last generator run, where the new generator finds it.
    """
    configured = []
    for node in nodes:
        before = node.settings
        seed = {"seed": before.seed, "seed_source": before.seed_source} if keep_seed else {}
        after = settings.model_copy(update=seed)
        if after != before:
            node.generator_spec.generator_kwargs["settings"] = after.to_stored()
            configured.append(node.name)
    return configured


def _spec_in_place_of(spec: GeneratorSpec, settings: EngineSettings) -> GeneratorSpec:
    """Our spec with everything that the user's says; an explicit ``torch_device`` becomes the device policy."""
    kwargs = dict(spec.generator_kwargs)
    device = kwargs.pop("torch_device", None)
    if device is not None:
        settings = settings.model_copy(update={"device": str(device)})
    return GeneratorSpec(
        generator_enum=COUNTERPARTS[cast("Generators", spec.generator_enum)],
        generator_kwargs={**kwargs, "settings": settings.to_stored()},
        generator_gen_kwargs=spec.generator_gen_kwargs,
        cv_kwargs=spec.cv_kwargs,
        generator_key_override=spec.generator_key_override,
    )


def accelerate(target: Any, config: ConfigSource = "fast", **overrides: Any) -> GenerationStrategy:
    """Replaces the BoTorch model nodes of an existing strategy by ours, in place.

    Transition criteria, node names, surrogate specification, acquisition class and options, transforms, fixed
    features and data-loading settings keep their meaning; other nodes (Sobol, center, your own) are left alone. What
    was Ax's implicit default may become ours: the optimizer of the acquisition function, the warm start, and, where
    no acquisition function was named, a closed form of the expected improvement (constrained, or of hypervolume). A line
    in the log says which.

    Nodes that are ours already get this configuration (and keep their seed, if it names none): so a run that was
    saved with ``device: cuda`` goes on without a GPU after ``accelerate(client, "cpu")``.

    Args:
        target: A ``Client``, an ``AxClient`` or a ``GenerationStrategy``. A ``Client`` that has no strategy yet gets
            ``GPUGenerationStrategy.from_config(config)``.
        config: A preset's name, a YAML file, a mapping or a ``StrategyConfig``. Its ``initialization`` and
            ``deduplicate`` are the target's own business here and are not used.
        **overrides: Settings over the configuration's, as in ``StrategyConfig.load``.

    Returns:
        The strategy, the same object as before where there was one.

    Raises:
        ConfigError: The configuration is wrong, or the target has no strategy to accelerate.
        DeviceUnavailableError: The configuration demands a device that is not there.
    """
    from gpu_gs.plugin.storage import restore_class
    from gpu_gs.plugin.strategy import GPUGenerationStrategy

    loaded = StrategyConfig.load(config, **overrides)
    if loaded.engine != "gpu_gs":
        raise ConfigError([f"accelerate: engine: {loaded.engine!r} replaces nothing; allowed here: gpu_gs"])
    seed = loaded.seed if loaded.seed is not None else getattr(target, "_random_seed", None)
    strategy = _strategy_of(target)
    if strategy is None:
        strategy = GPUGenerationStrategy.from_config(loaded.model_copy(update={"seed": seed}))
        target.set_generation_strategy(strategy)
        return strategy
    settings = EngineSettings.from_strategy_config(loaded, seed=fresh_seed() if seed is None else seed)
    check(settings.policy)
    already_ours = [node for node in strategy._nodes if isinstance(node, GPUGenerationNode)]
    replaced, left = replace_model_nodes(strategy, settings)
    configured = _configure(already_ours, settings, keep_seed=loaded.seed is None)
    restore_class(strategy)
    if replaced:
        logger.info(
            "Accelerated %s of %s: fits start from the last ask's hyperparameters; restarts advance in one batch; "
            "no best point on an ask; where no acquisition function was named, a closed form of the expected "
            "improvement (constrained, or of hypervolume) takes the place of Ax's default when it can.",
            ", ".join(replaced),
            strategy.name,
        )
    if configured:
        logger.info("Configured anew: %s of %s.", ", ".join(configured), strategy.name)
    for name, reasons in left:
        if name not in configured:
            logger.info("Left as it is: %s: %s", name, "; ".join(reasons))
    if not replaced and not configured and not already_ours:
        why = "; ".join(f"{name}: {', '.join(reasons)}" for name, reasons in left)
        logger.warning("Nothing of %s was accelerated: %s", strategy.name, why or "it has no nodes")
    return strategy


def _strategy_of(target: Any) -> GenerationStrategy | None:
    """The target's strategy; None for a ``Client`` that has none yet.

    Raises:
        ConfigError: There is no experiment or strategy yet, or the target is something else.
    """
    from ax.api.client import Client

    if isinstance(target, GenerationStrategy):
        return target
    if isinstance(target, Client):
        if target._maybe_experiment is None:
            raise ConfigError(["accelerate: the Client has no experiment yet; call configure_experiment first"])
        return target._maybe_generation_strategy
    if "ax.service.ax_client" in sys.modules and isinstance(target, sys.modules["ax.service.ax_client"].AxClient):
        if target._generation_strategy is None:
            raise ConfigError(["accelerate: the AxClient has no strategy yet; call create_experiment first"])
        return cast("GenerationStrategy", target._generation_strategy)
    raise ConfigError(
        [f"accelerate: target: a {type(target).__name__} is not allowed; allowed: Client, AxClient, GenerationStrategy"]
    )

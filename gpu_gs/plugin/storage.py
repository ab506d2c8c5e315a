"""Storage: what Ax's JSON and SQL must know of our classes, and loads that restore all of it.

Ax looks an object's exact class up to encode it, and its class's name to decode it. ``register`` adds ours to Ax's
core registries, which a ``RegistryBundle`` and the SQL store start from; it runs when ``gpu_gs.plugin`` is imported.
"""

from pathlib import Path
from typing import Any

from ax.api.client import Client
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.storage.json_store.decoder import generation_node_from_json, generation_strategy_from_json
from ax.storage.json_store.encoders import generation_node_to_dict, generation_strategy_to_dict
from ax.storage.json_store.registry import (
    CORE_CLASS_DECODER_REGISTRY,
    CORE_DECODER_REGISTRY,
    CORE_ENCODER_REGISTRY,
)

from gpu_gs.plugin.node import GPUGenerationNode
from gpu_gs.plugin.registry import GPUGenerators
from gpu_gs.plugin.strategy import GPUGenerationStrategy


def _node_from_json(object_json: dict[str, Any]) -> GPUGenerationNode:
    node = generation_node_from_json(generation_node_json=object_json)
    return GPUGenerationNode.in_place_of(node, node.generator_spec)


def _strategy_from_json(object_json: dict[str, Any]) -> GenerationStrategy:
    return restore_class(generation_strategy_from_json(generation_strategy_json=object_json))


def register() -> None:
    """Makes our classes known to Ax's JSON and SQL stores. Calling it again changes nothing."""
    CORE_ENCODER_REGISTRY[GPUGenerationNode] = generation_node_to_dict
    CORE_ENCODER_REGISTRY[GPUGenerationStrategy] = generation_strategy_to_dict
    CORE_DECODER_REGISTRY[GPUGenerators.__name__] = GPUGenerators
    CORE_CLASS_DECODER_REGISTRY[GPUGenerationNode.__name__] = _node_from_json
    CORE_CLASS_DECODER_REGISTRY[GPUGenerationStrategy.__name__] = _strategy_from_json


def restore_class(strategy: GenerationStrategy) -> GenerationStrategy:
    """Ax rebuilds every strategy as a plain ``GenerationStrategy``; one with a node of ours becomes ours again."""
    if type(strategy) is GenerationStrategy and any(isinstance(node, GPUGenerationNode) for node in strategy._nodes):
        strategy.__class__ = GPUGenerationStrategy  # adds behaviour only: same attributes
    return strategy


def load_json(path: str | Path, storage_config: Any = None) -> Client:
    """``Client.load_from_json_file`` that also restores the strategy's class.

    Args:
        path: A file written by ``Client.save_to_json_file``.
        storage_config: As in ``Client.load_from_json_file``.
    """
    client = Client.load_from_json_file(filepath=str(path), storage_config=storage_config)
    return _restored(client)


def load_database(storage_config: Any, experiment_name: str) -> Client:
    """``Client.load_from_database`` that also restores the strategy's class.

    Args:
        storage_config: Ax's ``StorageConfig``.
        experiment_name: The experiment's name in that database.
    """
    client = Client.load_from_database(experiment_name=experiment_name, storage_config=storage_config)
    return _restored(client)


def _restored(client: Client) -> Client:
    if client._maybe_generation_strategy is not None:
        restore_class(client._maybe_generation_strategy)
    return client

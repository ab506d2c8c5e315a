"""Saving and loading: Ax's JSON and SQL, a fresh process, the size of the state."""

import json
import subprocess
import sys

import pytest
import torch
from ax.api.client import Client
from ax.storage.json_store.decoder import object_from_json
from ax.storage.json_store.encoder import object_to_json

from gpu_gs import GPUGenerationStrategy, accelerate, load_client, timings
from gpu_gs.errors import DeviceUnavailableError, TaskError
from gpu_gs.plugin.generator import WarmBoTorchGenerator
from gpu_gs.plugin.node import GPUGenerationNode
from tests.plugin.helpers import advance, largest_difference, make_client

CONTINUE = """
import json, sys
from gpu_gs import load_client
sys.path.insert(0, {root!r})
from tests.plugin.helpers import advance
client = load_client({path!r})
print(json.dumps(advance(client, 2)))
"""


def test_a_fresh_process_goes_on_where_the_saved_one_stopped(tmp_path, pytestconfig):
    path = tmp_path / "run.json"
    client = make_client(seed=2)
    advance(client, 8)
    client.save_to_json_file(str(path))
    expected = advance(client, 2)
    script = CONTINUE.format(root=str(pytestconfig.rootpath), path=str(path))
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # Ax's JSON keeps observations to 10 decimals.
    assert largest_difference(json.loads(found.stdout.strip().splitlines()[-1]), expected) < 1e-4


def test_a_loaded_client_is_warm_on_the_same_node_and_knows_its_class(tmp_path):
    path = tmp_path / "run.json"
    client = make_client(seed=2)
    advance(client, 8)
    client.save_to_json_file(str(path))
    loaded = load_client(path)
    strategy = loaded._generation_strategy
    assert isinstance(strategy, GPUGenerationStrategy)
    assert strategy.current_node_name == "MBM" and isinstance(strategy.current_node, GPUGenerationNode)
    before = timings(client)
    assert timings(loaded)["total"].tolist() == pytest.approx(before["total"].tolist())
    advance(loaded, 3)
    table = timings(loaded)
    assert table["fit_decision"].iloc[-3:].tolist() == ["warm"] * 3
    assert table["ask"].iloc[-3:].tolist() == [3, 4, 5]
    adapter = strategy.current_node.generator_spec._fitted_adapter
    advance(loaded, 1)
    assert strategy.current_node.generator_spec._fitted_adapter is adapter


def test_ax_itself_loads_the_file_as_a_plain_strategy_of_our_nodes(tmp_path):
    path = tmp_path / "run.json"
    client = make_client(seed=2)
    advance(client, 7)
    client.save_to_json_file(str(path))
    loaded = Client.load_from_json_file(str(path))
    assert isinstance(loaded._generation_strategy.current_node, GPUGenerationNode)
    assert largest_difference(advance(loaded, 1), advance(client, 1)) < 1e-4


def test_the_strategy_survives_ax_json_on_its_own():
    strategy = GPUGenerationStrategy.from_config("fast", seed=1)
    encoded = json.loads(json.dumps(object_to_json(strategy)))
    decoded = object_from_json(encoded)
    assert isinstance(decoded, GPUGenerationStrategy)
    assert decoded == strategy


def test_the_stored_state_is_small_and_saved_once_a_run():
    client = make_client(seed=2)
    advance(client, 8)
    run = client._generation_strategy.last_generator_run
    assert len(json.dumps(run._generator_state_after_gen)) < 2000
    assert "warm_state" not in run._generator_kwargs
    assert "cuda" not in json.dumps(object_to_json(run._adapter_kwargs))


def test_a_plain_ax_script_loads_the_file_once_gpu_gs_is_imported(tmp_path):
    path = tmp_path / "run.json"
    client = make_client(seed=2)
    advance(client, 6)
    client.save_to_json_file(str(path))
    script = (
        "from ax.api.client import Client\nimport gpu_gs\n"
        f"print(Client.load_from_json_file({str(path)!r})._generation_strategy.current_node)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "GPUGenerationNode" in found.stdout


def test_the_state_of_another_version_keeps_the_count_of_asks_and_nothing_else():
    client = make_client(seed=2)
    advance(client, 8)
    settings = client._generation_strategy.current_node.settings.to_stored()
    state = client._generation_strategy.last_generator_run._generator_state_after_gen["warm_state"]
    same, other = (
        WarmBoTorchGenerator(settings=settings, warm_state={**state, "version": version}) for version in (1, 99)
    )
    assert same.ask_index == other.ask_index == 3
    assert same.asked["hyperparameters"] and not other.asked["hyperparameters"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_file_of_a_cuda_run_opens_without_cuda_and_goes_on_when_told_to_use_the_cpu(tmp_path):
    path = tmp_path / "run.json"
    client = make_client(seed=2)
    advance(client, 7)
    client.save_to_json_file(str(path))
    path.write_text(path.read_text().replace('"device": "auto"', '"device": "cuda"'))
    loaded = load_client(path)
    assert loaded._generation_strategy.current_node.settings.device == "cuda"
    with pytest.raises(DeviceUnavailableError, match="cuda"):
        loaded.get_next_trials(max_trials=1)
    accelerate(loaded, "cpu")
    advance(loaded, 1)
    assert timings(loaded)["fit_decision"].iloc[-1] == "warm"


def test_sql_storage_resumes_warm(tmp_path):
    pytest.importorskip("sqlalchemy")
    from ax.api.client import StorageConfig
    from ax.storage.sqa_store.db import create_all_tables, get_engine, init_engine_and_session_factory
    from ax.storage.sqa_store.structs import DBSettings  # noqa: F401  (its absence would mean another Ax)

    url = f"sqlite:///{tmp_path / 'ax.sqlite'}"
    init_engine_and_session_factory(url=url, force_init=True)
    create_all_tables(get_engine())
    storage = StorageConfig(url=url)
    client = make_client(seed=2, storage_config=storage)
    advance(client, 7)
    loaded = load_client(storage, experiment_name="test")
    assert isinstance(loaded._generation_strategy, GPUGenerationStrategy)
    advance(loaded, 1)
    assert timings(loaded)["fit_decision"].iloc[-1] == "warm"


def test_a_second_database_in_a_process_is_a_clear_error(tmp_path):
    pytest.importorskip("sqlalchemy")
    from ax.api.client import StorageConfig
    from ax.storage.sqa_store.db import create_all_tables, get_engine, init_engine_and_session_factory

    first, second = (f"sqlite:///{tmp_path / name}" for name in ("first.sqlite", "second.sqlite"))
    init_engine_and_session_factory(url=first, force_init=True)
    create_all_tables(get_engine())
    with pytest.raises(TaskError, match=r"first\.sqlite, the database that this process used before"):
        load_client(StorageConfig(url=second), "test")
    with pytest.raises(TaskError, match=r"not found\.$"):
        load_client(StorageConfig(url=first), "test")


def test_axs_own_loader_knows_our_classes_once_gpu_gs_was_used(tmp_path):
    path = tmp_path / "run.json"
    client = make_client(seed=2)
    advance(client, 6)
    client.save_to_json_file(str(path))
    script = f"""
from gpu_gs import timings  # before Ax, as import sorters put it
from ax.api.client import Client
client = Client.load_from_json_file({str(path)!r})
print(len(client.get_next_trials(max_trials=1)))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "1"


def test_timings_of_a_client_without_an_experiment_is_a_clear_error():
    with pytest.raises(TypeError, match=r"found no experiment in this Client; it takes a Client"):
        timings(Client())


def test_the_best_parameters_of_a_loaded_client_are_those_of_the_model(tmp_path):
    path = tmp_path / "run.json"
    client = make_client(seed=2)
    advance(client, 12)
    client.save_to_json_file(str(path))
    loaded = load_client(path)
    client._generation_strategy.fit(client._experiment)  # its model is that of the last ask, one observation behind
    expected, found = client.get_best_parameterization(), loaded.get_best_parameterization()
    assert found[0] == expected[0] and found[3] == expected[3]
    mean, sem = expected[1]["f"]
    assert found[1]["f"][0] == pytest.approx(mean, rel=1e-4) and found[1]["f"][1] == pytest.approx(sem, rel=1e-2)
    assert largest_difference(advance(loaded, 2), advance(client, 2)) < 1e-4

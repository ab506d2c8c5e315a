"""Runs from the first trial to the last file, in this process."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from gpu_gs.errors import ConfigError, TaskError
from gpu_gs.run import journal
from gpu_gs.run.experiment import build_client
from gpu_gs.run.folder import Lock
from gpu_gs.run.loading import load_client
from gpu_gs.run.loop import resume, run_task
from gpu_gs.run.objectives import search_path
from gpu_gs.run.task_config import load_task
from tests.run.helpers import PARAMETERS, assert_same_trials, bowl, parameters_of, task

HERE = __name__.rpartition(".")[0] + ".helpers"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of all its trials, with everything that a run can have."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    config = task(
        trials=8,
        checkpoint_every=3,
        held_out=f"{HERE}:held_out",
        defaults={"x": 1.0, "k": 2, "kind": "a"},
        random_search=True,
    )
    return folder, run_task(config, folder)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of that run, to be changed."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


def test_the_folder_holds_everything(finished):
    folder, summary = finished
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "experiment.json",
        "journal.jsonl",
        "report.html",
        "resolved.yaml",
        "result.json",
        "timings.csv",
        "trials.csv",
    ]
    assert json.loads((folder / "result.json").read_text()) == summary
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [bowl(p)["loss"] for p in parameters_of(folder)]
    with (folder / "timings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    stages = ("strategy", "data", "transform", "fit", "setup", "raw_samples", "optimize", "untransform", "other")
    for row in rows:
        assert sum(float(row[stage]) for stage in stages) == pytest.approx(float(row["ask"]))
        assert "device:" not in row["reasons"] and "device_reasons" in row


def test_the_summary_compares_the_best_trial_with_defaults_and_random_search(finished):
    _, summary = finished
    assert summary["status"] == "finished"
    assert summary["trials"] == {"wanted": 8, "asked": 8, "completed": 8, "failed": 0, "infeasible": 0}
    rows = {row["who"]: row for row in summary["comparison"]}
    assert set(rows) == {"tuned", "random search", "defaults"}
    for row in rows.values():
        assert row["values"]["loss"] == bowl(row["parameters"])["loss"]
        assert row["held_out"] == {"held_out": row["values"]["loss"] + 1.0}
    assert rows["random search"]["evaluations"] == 8


def test_checkpoints_are_written_on_the_way(finished):
    assert [event["trials"] for event in journal.read(finished[0]).all("checkpoint")] == [3, 6]


def test_the_resolved_file_runs_again_to_the_same_trials(finished, tmp_path):
    run_task(load_task(finished[0] / "resolved.yaml"), tmp_path / "again")
    assert_same_trials(finished[0], tmp_path / "again")


def test_the_resolved_file_pins_what_auto_chose_and_a_seed_that_was_drawn(tmp_path):
    config = task(trials=1, strategy={"preset": "fast", "initialization": {"budget": 3}})
    run_task(config, tmp_path / "run")
    strategy = load_task(tmp_path / "run" / "resolved.yaml").strategy
    assert strategy.seed is not None
    assert (strategy.device, strategy.threads) == ("cpu", 1)


def test_two_runs_without_a_seed_differ(tmp_path):
    config = task(trials=2, strategy={"initialization": {"budget": 3, "center": False}})
    for name in "ab":
        run_task(config, tmp_path / name)
    assert parameters_of(tmp_path / "a") != parameters_of(tmp_path / "b")


@pytest.mark.parametrize("share", [0.2, 0.45, 0.6, 0.75])
def test_a_run_cut_off_anywhere_goes_on_to_the_same_trials(finished, copy, share):
    content = (copy / journal.NAME).read_bytes()
    asks = content.rindex(b'"event": "ask"')
    (copy / journal.NAME).write_bytes(content[: int(asks * share)])
    said: list[str] = []
    summary = resume(copy, say=said.append)
    assert summary["status"] == "finished"
    assert any("cut off" in line for line in said)
    assert_same_trials(finished[0], copy)


@pytest.mark.parametrize("kind", ["ask", "complete"])
def test_a_run_killed_between_two_events_goes_on_to_the_same_trials(finished, copy, kind):
    lines = (copy / journal.NAME).read_bytes().splitlines(keepends=True)
    last = [number for number, line in enumerate(lines) if f'"event": "{kind}"'.encode() in line][5]
    (copy / journal.NAME).write_bytes(b"".join(lines[: last + 1]))
    assert resume(copy)["trials"]["completed"] == 8
    assert_same_trials(finished[0], copy)


def test_a_finished_run_says_so_and_is_left_alone(copy):
    before = (copy / journal.NAME).read_bytes()
    said: list[str] = []
    assert resume(copy, say=said.append)["status"] == "finished"
    assert "is finished (8 trials)" in said[0]
    assert (copy / journal.NAME).read_bytes() == before


def test_a_finished_run_is_made_longer(finished, copy):
    summary = resume(copy, trials=10)
    assert summary["trials"]["completed"] == 10
    assert parameters_of(copy)[:8] == parameters_of(finished[0])
    assert len(journal.read(copy).all("random")) == 10
    assert resume(copy)["trials"]["wanted"] == 10
    assert load_task(copy / "resolved.yaml").trials == 10


def test_a_run_is_not_made_shorter_than_it_is(copy):
    with pytest.raises(ConfigError, match="allowed: 8 or more"):
        resume(copy, trials=3)


def test_load_client_from_a_folder_goes_on_with_the_same_candidate(finished, tmp_path):
    client = load_client(finished[0])
    (candidate,) = client.get_next_trials(max_trials=1).values()
    longer = task(trials=9)
    run_task(longer, tmp_path / "longer")
    expected = parameters_of(tmp_path / "longer")[8]
    assert candidate["x"] == pytest.approx(expected["x"], abs=1e-6 * 10)
    assert (candidate["k"], candidate["kind"]) == (expected["k"], expected["kind"])


def test_load_client_from_the_json_file_has_the_class_and_the_trials(finished):
    client = load_client(finished[0] / "experiment.json")
    assert len(client._experiment.trials) == 8
    assert type(client._generation_strategy) is type(build_client(task())._generation_strategy)
    client.get_next_trials(max_trials=1)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no/such/place", "no such file or folder"),
        (3, "a int is not allowed"),
        (".", "holds no journal.jsonl"),
    ],
)
def test_load_client_explains_what_it_cannot_load(source, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match=words):
        load_client(source)


def test_load_client_explains_a_file_of_another_kind(tmp_path):
    (tmp_path / "other.json").write_text('{"some": "thing"}')
    with pytest.raises(TaskError, match="is not a file that Client"):
        load_client(tmp_path / "other.json")


# 2026-11: Ax 1.3.1 does not say sort_values to itself when it reads a choice from SQL, nor cache_ok to SQLAlchemy 2.1.
@pytest.mark.filterwarnings("ignore:`sort_values` is not specified", "ignore:TypeDecorator JSONEncodedText")
def test_storage_sqlite_writes_a_database_that_load_client_reads(tmp_path):
    pytest.importorskip("sqlalchemy")
    from ax.api.configs import StorageConfig

    run_task(task(trials=5, storage="sqlite"), tmp_path / "run")
    config = StorageConfig(url=f"sqlite:///{tmp_path / 'run' / 'experiment.sqlite'}")
    with pytest.raises(TaskError, match="experiment_name"):
        load_client(config)
    with pytest.raises(TaskError, match="other"):
        load_client(config, "other")
    client = load_client(config, "small")
    found = [trial.arm.parameters for _, trial in sorted(client._experiment.trials.items())]
    assert found == parameters_of(tmp_path / "run")
    client.get_next_trials(max_trials=1)


def test_failing_trials_are_kept_with_their_tracebacks_and_the_run_goes_on(tmp_path):
    config = task(objective=f"{HERE}:sometimes", trials=10, max_consecutive_failures=10)
    summary = run_task(config, tmp_path / "run")
    record = journal.read(tmp_path / "run")
    counts = summary["trials"]
    assert counts["failed"] > 0
    assert counts["completed"] + counts["failed"] == 10
    for ask, end in journal.trials(record):
        k = ask["parameters"]["k"]
        if k in (1, 2, 3):
            assert end["error"] == f"RuntimeError: k is {k}"
            assert "raise RuntimeError" in end["traceback"]
        elif k in (7, 8):
            assert "the metric 'loss' is nan" in end["error"]
        else:
            assert end["event"] == "complete"
    assert "failed" in (tmp_path / "run" / "trials.csv").read_text()
    assert "no such" not in summary["remarks"][0]
    assert f"{counts['failed']} trials failed" in summary["remarks"][0]


def test_failures_in_a_row_stop_the_run_and_it_can_go_on_when_mended(tmp_path, monkeypatch):
    config = task(objective=f"{HERE}:raises", max_consecutive_failures=3, trials=5)
    summary = run_task(config, tmp_path / "run")
    assert summary["status"] == "failures"
    assert "3 trials in a row failed, the last one with: ValueError: no such luck" in summary["reason"]
    assert summary["trials"]["failed"] == 3
    assert (tmp_path / "run" / "report.html").exists()
    monkeypatch.setattr(f"{HERE}.raises", bowl)
    again = resume(tmp_path / "run")
    assert again["status"] == "finished"
    assert again["trials"]["completed"] == 2


def test_the_record_has_an_error_inside_the_strategy_too(tmp_path, monkeypatch):
    from ax.api.client import Client

    asked = Client.get_next_trials

    def broken(self, *args, **kwargs):
        if len(self._experiment.trials) == 2:
            raise ArithmeticError("inside")
        return asked(self, *args, **kwargs)

    monkeypatch.setattr(Client, "get_next_trials", broken)
    with pytest.raises(ArithmeticError):
        run_task(task(), tmp_path / "run")
    stop = journal.read(tmp_path / "run").last("stop")
    assert stop["status"] == "error"
    assert "ArithmeticError: inside" in stop["traceback"]
    monkeypatch.undo()
    assert resume(tmp_path / "run")["trials"]["completed"] == 6


def test_two_goals_with_standard_errors_and_a_tracked_metric(tmp_path):
    config = task(
        objective=f"{HERE}:two_goals",
        optimize="-loss, size",
        outcome_constraints=["loss <= 3"],
        random_search=True,
        trials=5,
    )
    summary = run_task(config, tmp_path / "run")
    assert summary["front"]
    assert summary["comparison"][0]["hypervolume"] >= 0
    metrics = journal.read(tmp_path / "run").all("complete")[0]["metrics"]
    assert metrics["size"][1] == 0.1
    assert metrics["seen"] == parameters_of(tmp_path / "run")[0]["x"]
    assert "hypervolume" in (tmp_path / "run" / "report.html").read_text().lower()


def test_an_exhausted_search_space_ends_the_run(tmp_path):
    config = task(
        objective=f"{HERE}:bowl",
        parameters=[
            {"name": "x", "type": "choice", "values": [1.0, 2.0]},
            {"name": "k", "type": "choice", "values": [1, 2]},
            {"name": "kind", "type": "choice", "values": ["a", "b"]},
        ],
        strategy={"seed": 1, "device": "cpu", "initialization": {"budget": 8}},
        trials=20,
    )
    summary = run_task(config, tmp_path / "run")
    assert summary["status"] == "finished"
    assert summary["trials"]["completed"] == 8
    assert "nothing is left to try" in summary["reason"]


def test_a_folder_in_use_is_refused(finished, tmp_path):
    with pytest.raises(TaskError, match="gpu-gs resume"):
        run_task(task(), finished[0])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TaskError, match=r"not empty \(notes.txt\)"):
        run_task(task(), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(copy, monkeypatch):
    from gpu_gs.run import loop

    original = Path.open

    def full(path, mode="r", *args, **kwargs):
        if set(mode) & set("wax+"):
            raise OSError(28, "No space left on device")
        return original(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(TaskError, match="cannot be written: No space left"):
        resume(copy, trials=20)
    record = journal.read(copy)
    monkeypatch.setattr(Path, "write_text", lambda *args, **kwargs: Path.open(args[0], "w"))
    monkeypatch.setattr("gpu_gs.run.outputs.write_tables", lambda *args: None)
    with pytest.raises(TaskError, match=r"result.json: cannot be written"):
        loop.write_results(record, loop.config_of(record), copy)


def test_a_second_process_in_the_same_folder_is_refused(copy):
    with Lock(copy), pytest.raises(TaskError, match=f"pid {os.getpid()}"):
        resume(copy, trials=9)


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(TaskError, match="is not the folder of a run"):
        resume(tmp_path)
    with pytest.raises(TaskError, match="no such folder"):
        resume(tmp_path / "missing")


def test_a_changed_configuration_in_the_journal_is_noticed(copy):
    path = copy / journal.NAME
    path.write_text(path.read_text().replace('"trials": 8', '"trials": 9', 1))
    with pytest.raises(TaskError, match="its first line was changed"):
        resume(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": f"{HERE}:bowls"}, "did you mean bowl"),
        ({"held_out": "no_such_module_here:f"}, "held_out: no_such_module_here:f: there is no module"),
        ({"optimize": "-loss *"}, "optimize"),
        ({"parameter_constraints": ["x + kind <= 3"]}, "Ax refuses"),
    ],
)
def test_a_mistake_in_the_task_shows_before_a_folder_is_made(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        run_task(task(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_user_s_module_beside_the_task_is_found_also_by_the_resolved_file(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    (tmp_path / "module_beside_the_task.py").write_text("def f(parameters):\n    return parameters['x']\n")
    config = task(objective="module_beside_the_task:f", trials=1)
    run_task(config, tmp_path / "run", task_folder=tmp_path)
    assert str(tmp_path) in search_path(load_task(tmp_path / "run" / "resolved.yaml").python_path)


def test_random_search_respects_constraints_and_is_a_function_of_seed_and_index():
    from gpu_gs.run.baselines import random_point

    config = task(
        parameter_constraints=["x + k <= 6"], parameters=[{**PARAMETERS[0], "scaling": "linear"}, *PARAMETERS[1:]]
    )
    space = build_client(config)._experiment.search_space
    points = [random_point(config, space, index) for index in range(50)]
    assert all(point["x"] + point["k"] <= 6 for point in points)
    assert points[7] == random_point(config, space, 7)
    assert {point["kind"] for point in points} == {"a", "b", "c"}

"""What happens when the process is told, or forced, to end; what is ended is a process of its own."""

import signal
import subprocess
import sys
import time

import pytest

from gpu_gs.run import journal
from gpu_gs.run.loop import resume, run_task
from tests.run.helpers import assert_same_trials, command, environment, gpu_gs, task, task_files

TRIALS = 7


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The same task in this process, which no interruption touches."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert run_task(task(trials=TRIALS), folder)["status"] == "finished"
    return folder


def test_after_a_kill_in_an_objective_the_run_goes_on_to_the_same_trials(uninterrupted, tmp_path):
    path = task_files(tmp_path / "task", trials=TRIALS)
    (tmp_path / "task" / "plan").write_text("kill 6")
    killed = gpu_gs("run", path, "--out", tmp_path / "run", cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    record = journal.read(tmp_path / "run")
    assert len(record.all("ask")) == 6
    assert len(record.all("complete")) == 5
    resumed = gpu_gs("resume", tmp_path / "run", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert len((tmp_path / "task" / "calls").read_text()) == TRIALS + 1  # the one in flight, twice
    assert_same_trials(uninterrupted, tmp_path / "run")


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_with_everything_saved(uninterrupted, tmp_path, monkeypatch, which):
    path = task_files(tmp_path / "task", trials=TRIALS)
    (tmp_path / "task" / "plan").write_text("wait 5")
    process = subprocess.Popen(
        command("run", path, "--out", tmp_path / "run"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    deadline = time.monotonic() + 100
    while not (tmp_path / "task" / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(which)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert f"stopped by {which.name}" in said
    assert "Traceback" not in said
    assert f"gpu-gs resume {tmp_path / 'run'}" in said
    assert journal.read(tmp_path / "run").events[-1]["status"] == "interrupted"
    for name in ("experiment.json", "report.html", "trials.csv", "result.json"):
        assert (tmp_path / "run" / name).exists()
    if which is signal.SIGINT:
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.delitem(sys.modules, "own_objective", raising=False)  # this task's, not another test's
        assert resume(tmp_path / "run")["status"] == "finished"
        assert len((tmp_path / "task" / "calls").read_text()) == TRIALS + 1  # the one in flight, twice
        assert_same_trials(uninterrupted, tmp_path / "run")

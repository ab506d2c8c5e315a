"""What a line of results says about settings, device and versions."""

import subprocess
import sys

import pytest

from gpu_gs.bench import provenance
from gpu_gs.bench.provenance import config_hash, device_of, environment, installed, installed_in


def test_a_hash_is_that_of_the_settings_however_they_are_written(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("preset: fast\nacquisition:\n  restarts: 4\n")
    first = config_hash(str(file))
    file.write_text("# the same\npreset: fast\nacquisition: {restarts: 4, iterations: 80}\n")
    assert config_hash(str(file)) == first
    assert config_hash(f"{file}@cpu") != first
    file.write_text("preset: fast\nacquisition:\n  restarts: 5\n")
    assert config_hash(str(file)) != first
    file.write_text("preset: fast\nno_such_key: 1\n")
    broken = config_hash(str(file))
    file.write_text("preset: fast\nno_such_key: 2\n")
    assert config_hash(str(file)) != broken
    names = ("fast", "fast@cpu", "reference", "random", "optuna")
    assert len({config_hash(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("contestant", "answer", "device"),
    [
        ("fast", {"devices": ["cpu", "cuda:0"]}, "cpu, cuda:0"),
        ("fast", {"devices": []}, "cpu"),
        ("reference@cuda", {"devices": []}, "cuda"),
        ("random", {}, "cpu"),
        ("cuda", None, "cuda"),
        ("fast@cuda:1", None, "cuda:1"),
        ("fast", None, "auto"),
        ("random", None, "cpu"),
    ],
)
def test_a_device_is_the_one_used_or_else_the_one_asked_for(contestant, answer, device):
    assert device_of(contestant, answer) == device


def test_versions_are_those_of_the_interpreter_that_runs_the_job(tmp_path):
    assert installed_in(sys.executable) == installed_in(None) == installed()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}:$PYTHONPATH exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "smac-0.0.1.dist-info").mkdir()
    (tmp_path / "smac-0.0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: smac\nVersion: 0.0.1\n")
    assert installed_in(str(python))["versions"]["smac"] == "0.0.1"
    assert installed_in(str(tmp_path / "nothing")) == {"commit": None, "versions": {}}


def test_the_commit_is_that_of_the_package_and_says_if_it_was_changed(repository, tmp_path, monkeypatch):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "gpu_gs"
    (package / "bench").mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "bench" / "provenance.py"))
    assert provenance._commit() is None  # no checkout
    git("init")
    (package / "errors.py").write_text("")
    git("commit", "--allow-empty", "-m", "somebody else's")
    assert provenance._commit() is None  # installed below another project's checkout
    git("add", ".")
    git("commit", "-m", "ours")
    assert provenance._commit() == git("rev-parse", "--short", "HEAD")
    (tmp_path / "results.json").write_text("")
    assert provenance._commit() == git("rev-parse", "--short", "HEAD")
    (package / "errors.py").write_text("x = 1")
    assert provenance._commit() == git("rev-parse", "--short", "HEAD") + "-dirty"


def test_an_environment_names_no_machine():
    found = environment()
    assert {"commit", "versions", "python", "machine", "processor", "cores", "gpus", "load", "at"} == set(found)

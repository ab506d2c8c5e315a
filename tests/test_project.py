"""What the repository promises around the code: one test command, pinned versions, nothing machine-specific."""

import re
import stat
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

MARKER = "<!-- test-command -->"


def command_after(marker: str, text: str) -> str:
    """The one line of the fenced block that follows a marker."""
    found = re.findall(re.escape(marker) + r"\n```(?:bash|sh|console)?\n(.*?)\n```", text, flags=re.DOTALL)
    assert len(found) == 1, f"{marker} must stand once, right before a fenced block"
    assert "\n" not in found[0], "the command is one line"
    return found[0]


@pytest.fixture
def constraints(repository) -> dict[str, Version]:
    pinned = {}
    for line in (repository / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pinned[canonicalize_name(name)] = Version(version)
    return pinned


def test_ci_runs_the_very_test_command_of_the_readme(repository):
    command = command_after(MARKER, (repository / "README.md").read_text(encoding="utf-8"))
    assert "pip install -c constraints.txt -e '.[dev]'" in command
    assert command.endswith(".venv/bin/pytest")
    script = (repository / ".ci" / "run").read_text(encoding="utf-8")
    assert command.replace(".venv", ".ci-venv") in script.splitlines()


def test_ci_is_an_executable_script_that_stops_at_the_first_failure(repository):
    script = repository / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines


def test_every_dependency_is_pinned_to_a_version_that_it_allows(repository, constraints):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [
        Requirement(line) for line in (*project["dependencies"], *extras["dev"], *extras["tasks"], *extras["sql"])
    ]
    for requirement in needed:
        name = canonicalize_name(requirement.name)
        if name != "gpu-gs":
            assert name in constraints, f"{name} is not in constraints.txt"
            assert requirement.specifier.contains(constraints[name]), f"{requirement}: {constraints[name]}"


def test_the_constraints_name_versions_only(repository):
    text = (repository / "constraints.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line
    assert not re.search(r"https?:|--|/", re.sub(r"(?m)^#.*$", "", text))
    assert "torch==2.13.0" in text.splitlines()

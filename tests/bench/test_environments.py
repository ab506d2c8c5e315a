"""Environments over ours: whose versions win, when one is current, and what is said when a step fails.

The packages are wheels made here; pip gets no index.
"""

import json
import re
import subprocess
import zipfile
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec

import pytest

import gpu_gs
from gpu_gs.bench import environments
from gpu_gs.bench.environments import Environment
from gpu_gs.errors import EnvironmentSetupError


def wheel(folder, name, number, needs=()):
    """A package with one module that knows its version."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n" + "".join(
        f"Requires-Dist: {each}\n" for each in needs
    )
    info = f"{name}-{number}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {number!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as file:
        for path, text in files.items():
            file.writestr(path, text)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of environments, and one that was set up there: tiny needs another tabulate than ours."""
    root = tmp_path_factory.mktemp("environments")
    (root / "wheels").mkdir()
    wheel(root / "wheels", "tiny", "1.0", needs=["tabulate>=99"])
    wheel(root / "wheels", "tabulate", "99.0")
    wheel(root / "wheels", "greedy", "1.0", needs=["torch==0.0.1"])
    wheel(root / "wheels", "torch", "0.0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPU_GS_ENVIRONMENTS", str(root / "all"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(root / "wheels"))
        patch.setenv("PYTHONPATH", str(root))  # is not the environment's
        said = []
        TINY.set_up(said.append)
        assert [line.partition(" in ")[0] for line in said] == [
            "tiny: a new environment",
            "tiny: pip install tiny>=1",
            "tiny: ready with tiny 1.0",
        ]
        yield root / "all"


TINY = Environment("tiny", module="tiny", requirements=("tiny>=1",))


def seen_by(environment, code):
    process = subprocess.run(
        [environment.python, "-P", "-c", f"import json; {code}"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_its_own_versions_win_and_ours_fill_up_and_stay(place):
    ours = version("tabulate")
    assert ours != "99.0"
    code = (
        "import tabulate, tiny, gpu_gs, importlib.util as u, importlib.metadata as m;"
        "print(json.dumps([tabulate.VERSION, tiny.VERSION, gpu_gs.__file__, u.find_spec('ax').origin,"
        "m.version('tabulate')]))"
    )
    assert seen_by(TINY, code) == ["99.0", "1.0", gpu_gs.__file__, find_spec("ax").origin, "99.0"]
    assert TINY.versions() == {"tabulate": "99.0", "tiny": "1.0"}
    assert version("tabulate") == ours


def test_one_that_is_current_is_left_alone(place, monkeypatch):
    monkeypatch.setattr(Environment, "_step", lambda *rest: pytest.fail("a step"))
    said = []
    TINY.set_up(said.append)
    assert TINY.is_current() and said == [f"tiny: ready in {place / 'tiny'}"]


def test_other_requirements_another_python_or_another_gpu_gs_make_it_outdated(place, monkeypatch):
    assert not replace(TINY, requirements=("tiny>=1", "more")).is_current()
    with monkeypatch.context() as patch:
        patch.setattr(environments, "_python", lambda: "3.99")
        assert not TINY.is_current()
    with monkeypatch.context() as patch:
        patch.setattr(environments, "_ours", lambda: ["/elsewhere"])
        assert not TINY.is_current()
    assert TINY.is_current()


@pytest.fixture
def kept(place):
    """Puts the marker back."""
    marker = TINY.folder / environments.MARKER
    text = marker.read_text()
    yield marker
    marker.write_text(text)


@pytest.mark.parametrize("damaged", ["", "{", "[]"])
def test_a_damaged_marker_counts_as_none(kept, damaged):
    kept.write_text(damaged)
    assert not TINY.is_current() and TINY.versions() == {}


@pytest.mark.parametrize(
    ("requirement", "said"), [("tiny>=2", "tiny>=2"), ("greedy", "greedy 1.0 depends on torch==0.0.1")]
)
def test_what_pip_says_last_is_in_the_error_and_the_environment_is_not_current(kept, requirement, said):
    with pytest.raises(EnvironmentSetupError, match=re.escape(said)) as caught:
        replace(TINY, requirements=(requirement,)).set_up(lambda line: None)
    first, *rest = str(caught.value).splitlines()
    assert "tiny: pip failed" in first and 1 <= len(rest) <= environments.SHOWN_LINES
    assert not kept.exists() and not TINY.is_current()


def test_a_package_that_cannot_be_imported_is_an_error(kept):
    other = replace(TINY, module="no_such_module", requirements=("tiny>=0",))
    with pytest.raises(EnvironmentSetupError, match=r"import failed(.|\n)*no_such_module"):
        other.set_up(lambda line: None)
    assert not kept.exists()


def test_a_folder_of_something_else_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("GPU_GS_ENVIRONMENTS", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.tex").write_text("mine")
    with pytest.raises(EnvironmentSetupError, match="something else"):
        TINY.set_up(lambda line: None)
    assert (tmp_path / "tiny" / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize(
    ("module", "requirement", "reason"),
    [
        ("json", "numpy>=1", None),
        ("no_such_module", "numpy>=1", "no_such_module is not installed"),
        ("json", "no-such-package", "no-such-package is not installed"),
        ("json", "numpy>=99", "numpy>=99 is needed"),
    ],
)
def test_ours_will_do_if_it_has_the_module_and_the_versions(module, requirement, reason):
    found = Environment("any", module=module, requirements=(requirement,)).lacks_here()
    assert found is None if reason is None else reason in found


def test_without_the_variable_the_users_cache_has_them(monkeypatch):
    monkeypatch.delenv("GPU_GS_ENVIRONMENTS", raising=False)
    assert environments.environments_dir().parts[-2:] == ("gpu_gs", "environments")

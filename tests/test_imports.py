"""The layering: an import goes only downwards, and a layer below the plug-in never meets Ax.

application  cli, run/, bench/
plug-in      plugin/
optimize/  >  acquisition/  >  gp/
ground       config, device, telemetry, minimize, working_set, transfer, errors, rng
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpu_gs

PACKAGE = Path(gpu_gs.__file__).parent

LAYERS = {
    **dict.fromkeys(("cli", "__main__", "run", "bench"), 5),
    "plugin": 4,
    "optimize": 3,
    "acquisition": 2,
    "gp": 1,
    **dict.fromkeys(("config", "device", "telemetry", "minimize", "working_set", "transfer", "errors", "rng"), 0),
}
"""Every part of the package and its layer; a part that is not here fails the test below."""

FRAMEWORKS = ("torch", "botorch", "gpytorch", "linear_operator", "ax")


def modules() -> dict[str, Path]:
    """All modules of the package by dotted name, without ``gpu_gs.``; the package itself is left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


MODULES = modules()


def imported_by(name: str, path: Path) -> set[str]:
    """Dotted names that a module imports, wherever in it the import stands; types for the checker alone are left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"gpu_gs.{name} imports relatively; write the whole name"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
    return found


def loaded_by(code: str) -> list[set[str]]:
    """Top-level packages loaded in a fresh interpreter wherever the code calls ``report()``, and at its end."""
    prologue = (
        "import json, sys\n"
        "def report():\n"
        "    print('\\nloaded: ' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", f"{prologue}{code}\nreport()"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=PACKAGE.parent,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("loaded: ")]
    return [set(json.loads(line.removeprefix("loaded: "))) for line in lines]


def loaded_after(*lines: str) -> list[set[str]]:
    """Packages loaded after each import in turn, all in one fresh interpreter: each start of torch takes seconds.

    What one line loads, the lines after it have loaded too: the first failure is the one to mend.
    """
    return loaded_by("".join(f"{line}\nreport()\n" for line in lines))


def test_every_module_has_a_layer():
    assert sorted({name.partition(".")[0] for name in MODULES} - set(LAYERS)) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_its_own_layer_or_below(name):
    layer = LAYERS[name.partition(".")[0]]
    own = {
        target.removeprefix("gpu_gs.") for target in imported_by(name, MODULES[name]) if target.startswith("gpu_gs.")
    }
    upwards = {target for target in own if LAYERS.get(target.partition(".")[0], -1) > layer}
    assert not upwards, f"gpu_gs.{name} (layer {layer}) imports upwards: {sorted(upwards)}"


@pytest.mark.parametrize("name", [name for name in MODULES if LAYERS[name.partition(".")[0]] < LAYERS["plugin"]])
def test_below_the_plugin_no_module_names_ax(name):
    named = {target for target in imported_by(name, MODULES[name]) if target.partition(".")[0] == "ax"}
    assert not named, f"gpu_gs.{name} imports {sorted(named)}"


NUMERICAL = ("transfer", "minimize", "working_set", "gp", "acquisition", "optimize")
"""The parts that are computed with, lower ones first."""

WITHOUT_FRAMEWORKS = ("", ".errors", ".rng", ".telemetry", ".config", ".device", ".cli")


def modules_of(part: str) -> list[str]:
    return [name for name in MODULES if name.partition(".")[0] == part]


@pytest.fixture(scope="module")
def numerical():
    lines = ("import " + ", ".join(f"gpu_gs.{name}" for name in modules_of(part)) for part in NUMERICAL)
    return dict(zip(NUMERICAL, loaded_after(*lines), strict=False))


@pytest.fixture(scope="module")
def light():
    return dict(
        zip(WITHOUT_FRAMEWORKS, loaded_after(*(f"import gpu_gs{name}" for name in WITHOUT_FRAMEWORKS)), strict=False)
    )


@pytest.mark.parametrize("part", NUMERICAL)
def test_the_numerical_layers_load_without_ax(numerical, part):
    assert "torch" in numerical[part] or all(MODULES[name].stat().st_size == 0 for name in modules_of(part))
    assert "ax" not in numerical[part]


@pytest.mark.parametrize("name", WITHOUT_FRAMEWORKS)
def test_the_package_its_ground_and_its_command_line_load_without_the_frameworks(light, name):
    assert light[name].isdisjoint(FRAMEWORKS)


@pytest.mark.parametrize("arguments", [["presets"], ["validate", "--help"]])  # --help: tests/test_cli.py
def test_the_command_line_answers_without_the_frameworks(arguments):
    (loaded,) = loaded_by(
        f"import sys\nsys.argv = ['gpu-gs', *{arguments!r}]\nfrom gpu_gs.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert loaded.isdisjoint(FRAMEWORKS)


def test_the_public_names_are_found_on_first_use_and_no_others():
    assert set(gpu_gs.__all__) <= set(dir(gpu_gs))
    assert gpu_gs.StrategyConfig.__module__ == "gpu_gs.config"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = gpu_gs.no_such_name

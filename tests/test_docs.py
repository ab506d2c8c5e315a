"""The README's and the docs' examples run, and their tables tell the truth."""

import re
import shlex
import warnings

import pytest
import typer

from gpu_gs.bench.plan import load_benchmark
from gpu_gs.cli import _split, app
from gpu_gs.config import StrategyConfig, presets


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)\n```", text, flags=re.DOTALL)


def test_the_readmes_ten_lines_run(repository, tmp_path, monkeypatch, capsys):
    (script,) = blocks((repository / "README.md").read_text(encoding="utf-8"), "python")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ax's own; an interpreter shows them and goes on
        exec(script, {"__name__": "__main__"})
    assert re.search(r"'x': [0-9.]+", capsys.readouterr().out)


def test_the_main_command_runs_a_task_that_is_there(repository):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"<!-- main-command -->\n```bash\n(.*)\n```", readme)
    install, run = command.rsplit(" && ", 1)
    assert "pip install -c constraints.txt -e '.[tasks]'" in install
    assert run.split()[0] == ".venv/bin/gpu-gs"
    assert (repository / run.split()[-1]).is_file()


def test_the_example_of_a_configuration_is_one(repository, tmp_path):
    (example,) = blocks((repository / "docs" / "configuration.md").read_text(encoding="utf-8"), "yaml")
    (tmp_path / "my.yaml").write_text(example)
    config = StrategyConfig.load(tmp_path / "my.yaml")
    assert (config.seed, config.device, config.initialization.budget, config.acquisition.restarts) == (7, "cpu", 12, 32)


def test_the_example_of_maximizing_runs(repository):
    (script,) = blocks((repository / "docs" / "optimize.md").read_text(encoding="utf-8"), "python")
    found: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model is not told to scale its data
        exec(script, found)
    assert found["candidates"].shape == (1, 2)


def keys(model, prefix=""):
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.default


def test_every_key_stands_in_the_docs_with_its_default(repository):
    text = (repository / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([a-z_.]+)` \|.*\| (.+) \|$", text, flags=re.MULTILINE))
    expected = dict(keys(StrategyConfig))
    listed = {
        name: value for name, value in table.items() if name in expected or "." in name or name == "schema_version"
    }
    assert set(listed) >= set(expected)
    for name, default in expected.items():
        if name == "name":
            continue
        shown = table[name].strip("`")
        assert shown == {None: "null", True: "true", False: "false"}.get(default, str(default)) or (
            default == 1 and shown == "1"
        ), name


def test_every_preset_stands_in_the_docs(repository):
    text = (repository / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in presets("strategies"):
        assert f"| `{name}` |" in text


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs"])
def test_links_between_files_lead_somewhere(repository, name):
    path = repository / name
    for file in sorted(path.glob("*.md")) if path.is_dir() else [path]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name}: {target}"


def bench_commands(repository):
    """Every ``gpu-gs bench`` command of README and docs, as arguments."""
    found = set()
    for file in [repository / "README.md", *sorted((repository / "docs").glob("*.md"))]:
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^gpu-gs bench [^\n]*", text, flags=re.MULTILINE):
            found.add(line)
        found |= {" ".join(match.split()) for match in re.findall(r"`(gpu-gs bench [^`]*)`", text)}
    return sorted(found)


def test_every_benchmark_command_of_the_docs_is_one(repository):
    commands = bench_commands(repository)
    assert len(commands) > 8
    parser = typer.main.get_command(app).commands["bench"]
    for command in commands:
        arguments = [word for word in shlex.split(command, comments=True)[2:] if word != "..."]
        options = parser.make_context("bench", arguments, resilient_parsing=True).params
        parser.make_context("bench", list(arguments))  # raises on what it does not know
        if options["source"] and options["source"].isidentifier():
            load_benchmark(
                options["source"], set_values=options["settings"] or (), problems=_split(options["problems"])
            )


def test_every_shipped_benchmark_stands_in_the_docs(repository):
    text = (repository / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name in presets("benchmarks"):
        assert f"| `{name}` |" in text

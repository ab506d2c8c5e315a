"""The command line as a user meets it: what it prints where, and with which exit code it ends."""

import json
import shutil
import subprocess
import sys

import pytest

from gpu_gs import cli
from gpu_gs.config import presets
from tests.run.helpers import gpu_gs as run_process
from tests.run.helpers import task, task_files


@pytest.fixture
def gpu_gs(monkeypatch, capsys, tmp_path):
    """``gpu-gs ARGUMENTS`` in this process, in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["gpu-gs", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", __import__("warnings").showwarning)
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    from gpu_gs.run.loop import run_task

    folder = tmp_path_factory.mktemp("cli") / "run"
    run_task(task(trials=4), folder)
    return folder


def test_help_imports_neither_torch_nor_ax():
    code = (
        "import sys\n"
        "from gpu_gs import cli\n"
        "sys.argv = ['gpu-gs', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'ax', 'botorch', 'pandas', 'plotly') if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip().endswith("[]")
    for command in ("run", "resume", "report", "validate", "presets", "schema", "doctor"):
        assert command in ended.stdout
    assert "Exit codes" in ended.stdout


def test_run_report_and_resume_speak_json_on_stdout(gpu_gs, tmp_path):
    path = task_files(tmp_path / "task", trials=3)
    code, out, err = gpu_gs("run", path, "--out", "run", "--seed", 3, "--device", "cpu", "--trials", 4, "--json")
    assert code == 0
    summary = json.loads(out)
    assert (summary["status"], summary["seed"], summary["trials"]["completed"]) == ("finished", 3, 4)
    assert "4 trials into run" in err
    code, out, _ = gpu_gs("report", "run", "--json")
    assert (code, json.loads(out)) == (0, summary)
    code, out, err = gpu_gs("resume", "run", "--json")
    assert (code, json.loads(out)) == (0, summary)
    assert "is finished" in err


def test_a_person_gets_a_table_and_the_report_s_path(gpu_gs, run_folder):
    code, out, _ = gpu_gs("report", run_folder)
    assert code == 0
    assert "4 of 4 trials" in out
    assert "tuned" in out
    assert f"Report: {run_folder / 'report.html'}" in out


def test_run_without_out_makes_a_folder_under_runs(gpu_gs, tmp_path):
    path = task_files(tmp_path / "task", trials=1)
    assert gpu_gs("run", path)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("small-")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "diabetes"], 2, "did you mean diabetes_svr"),
        (["run", "missing.yaml"], 2, "missing.yaml: no such file"),
        (["run", "diabetes_svr", "--set", "trails=3"], 2, "did you mean trials"),
        (["run", "diabetes_svr", "--set", "trials"], 2, "KEY.PATH=VALUE"),
        (["run", "diabetes_svr", "--strategy", "fats"], 2, "did you mean fast"),
        (["run", "diabetes_svr", "--device", "gpu"], 2, "allowed: auto, cpu, cuda"),
        (["run", "diabetes_svr", "--set", "objective=no.such:f"], 2, "there is no module 'no'"),
        (["run", "diabetes_svr", "--no-such-option"], 2, "No such option"),
        (["resume", "missing"], 5, "no such folder"),
        (["report", "."], 5, "is . the folder of a run"),
        (["validate", "fats"], 2, "did you mean fast"),
        (["validate", "diabets"], 2, "did you mean diabetes_svr"),
    ],
)
def test_a_mistake_is_explained_without_a_traceback(gpu_gs, arguments, code, words):
    ended, out, err = gpu_gs(*arguments)
    assert ended == code
    assert words in " ".join(err.split())
    assert out == ""


def test_cuda_without_cuda_ends_before_the_first_trial(gpu_gs, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    code, out, err = gpu_gs("run", "diabetes_svr", "--device", "cuda", "--out", "run", "--json")
    assert code == 3
    assert json.loads(out)["exit_code"] == 3
    assert "device: cuda" in err
    assert not (tmp_path / "run").exists()


def test_failures_in_a_row_have_an_exit_code_of_their_own(gpu_gs, tmp_path):
    path = task_files(tmp_path / "task", max_consecutive_failures=2)
    code, _, err = gpu_gs("run", path, "--out", "run", "--set", "objective=own_objective:raises")
    assert code == 4
    assert "2 trials in a row failed, the last one with: ValueError: no such luck" in err
    assert "gpu-gs resume run" in err


def test_a_folder_in_use_has_an_exit_code_of_its_own(gpu_gs, run_folder, tmp_path):
    path = task_files(tmp_path / "task")
    code, _, err = gpu_gs("run", path, "--out", run_folder)
    assert code == 5
    assert "gpu-gs resume" in err


def test_an_unreadable_journal_has_that_exit_code_too(gpu_gs, run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "copy")
    (tmp_path / "copy" / "journal.jsonl").write_text("nonsense\n")
    assert gpu_gs("resume", "copy")[0] == 5


@pytest.mark.parametrize("name", [*presets("strategies"), *presets("tasks")])
def test_every_shipped_file_is_valid(gpu_gs, name):
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    code, out, _ = gpu_gs("validate", name)
    assert code == 0
    assert f"{name}: valid: {'task' if name in presets('tasks') else 'strategy'}" in out


def test_validate_lists_all_problems_of_a_file(gpu_gs, tmp_path):
    (tmp_path / "own.yaml").write_text("trials: 0\nobjective: json:lods\nparameters: []\noptimize: -loss\nstorage: x\n")
    code, out, err = gpu_gs("validate", "own.yaml", "--json")
    answer = json.loads(out)
    assert (code, answer["valid"], answer["kind"]) == (2, False, "task")
    assert len(answer["problems"]) == 3
    code, out, err = gpu_gs("validate", "own.yaml")
    assert (code, out) == (2, "")
    assert len([line for line in err.splitlines() if line.startswith("error: own.yaml: ")]) == 3


def test_validate_asks_ax_and_imports_the_functions(gpu_gs, tmp_path):
    path = task_files(tmp_path / "task")
    path.write_text(
        path.read_text()
        .replace("own_objective:bowl", "own_objective:bowls")
        .replace("parameter_constraints: []", "parameter_constraints: [k <= 8, k + nothing <= 3, k * k <= 4]")
        .replace("outcome_constraints: []", "outcome_constraints: [size <]")
    )
    code, _, err = gpu_gs("validate", path)
    assert code == 2
    lines = err.splitlines()
    for words in (
        "objective: own_objective:bowls: own_objective has no 'bowls'; did you mean bowl?",
        "parameter_constraints.1: 'k + nothing <= 3' is not allowed; Ax refuses it: `nothing` does not exist",
        "parameter_constraints.2: 'k * k <= 4' is not allowed",
        "outcome_constraints.0: 'size <' is not understood by Ax",
    ):
        assert any(line.startswith(f"error: {path}: {words}") for line in lines)
    assert len(lines) == 4


def test_what_the_objective_prints_does_not_mix_with_the_json_document(tmp_path):
    folder = tmp_path / "task"
    path = task_files(folder)
    (folder / "loud.py").write_text(
        "import os\n\ndef f(parameters):\n    print('by Python')\n    os.system('echo by another')\n    return 1.0\n"
    )
    ended = run_process("run", path, "--trials", 1, "--set", "objective=loud:f", "--out", tmp_path / "run", "--json")
    assert json.loads(ended.stdout)["status"] == "finished"
    assert "by Python" in ended.stderr and "by another" in ended.stderr


def test_presets_schema_and_doctor(gpu_gs):
    code, out, _ = gpu_gs("presets", "--json")
    assert code == 0
    assert set(json.loads(out)["tasks"]) == set(presets("tasks"))
    assert "diabetes_svr" in gpu_gs("presets")[1]
    for kind in ("strategy", "task"):
        assert json.loads(gpu_gs("schema", kind)[1])["additionalProperties"] is False
    code, out, _ = gpu_gs("doctor", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["auto"]
    assert all(choice["device"] for choice in found["auto"])
    assert "auto would choose" in gpu_gs("doctor")[1]


@pytest.mark.parametrize("width", [80, 120])
def test_the_doctor_s_table_fits_the_terminal_however_many_places_there_are(gpu_gs, monkeypatch, width):
    from gpu_gs import device

    counts = (1, 2, 4, 8, 16, 32, 64, 128)

    def row(n, chosen):
        predictions = [{"device": "cpu", "threads": count, "seconds": n * 1.2345 / count} for count in counts]
        predictions.append({"device": "cuda:0", "threads": 1, "seconds": 0.012345})
        return {**chosen, "n": n, "predictions": predictions, "remarks": ["a remark", "no GPU"], "measured": True}

    def describe(**kwargs):
        assert kwargs == {"d": 20, "num_outputs": 2, "recalibrate": True}
        first, last = {"device": "cpu", "threads": 1}, {"device": "cuda:0", "threads": 1}
        known = {"measured": 0.0, "took": 1.234, "busy": True, "file": "/somewhere/calibration.json"}
        return {
            **{"gpu_gs": "1", "python": "3", "versions": {"torch": "2"}, "cores": 64, "torch_threads": 1, "blas": []},
            **{"cores_of_machine": 64, "OMP_NUM_THREADS": None},
            **{"cuda": [], "cuda_problems": ["no GPU"], "parameters": 20, "outputs": 2},
            "calibration": {"cpu": known, "cuda:0": {"measured": None, "problem": "it failed"}},
            "auto": [row(50, first), row(5000, last)],
            "crossovers": [{"n": 1, **first}, {"n": 1234, **last}],
        }

    monkeypatch.setattr(device, "describe", describe)
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = gpu_gs("doctor", "--recalibrate", "--parameters", 20, "--outputs", 2)
    assert code == 0
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    header = next(line for line in out.splitlines() if "trials" in line and "auto" in line)
    assert header.split() == ["trials", "cpu×1", "cuda:0", "auto"]
    (last,) = [line for line in out.splitlines() if line.strip().startswith("5,000")]
    assert last.split() == ["5,000", "6,172", "0.012", "cuda:0"]
    for part in ("measured 1970", "1.2 s", "busy", "/somewhere/", "it failed", "cuda:0 from 1,234", "Note: a remark"):
        assert part in out
    assert "Note: no GPU" not in out


def test_ax_says_each_thing_once():
    import logging

    let_through = cli._once()
    records = [logging.makeLogRecord({"msg": "Outcome %s is constant", "args": (name,)}) for name in "aab"]
    assert [let_through(record) for record in records] == [True, False, True]


def test_bench_lists_contestants_and_problems(gpu_gs):
    code, out, _ = gpu_gs("bench", "--list")
    assert code == 0
    for name in ("reference", "fast", "optuna", "hartmann6", "nasbench-cifar10", "plain:"):
        assert name in out
    code, out, _ = gpu_gs("bench", "--list", "--json")
    found = json.loads(out)
    assert found["contestants"]["random"] is None and "hartmann6" in found["problems"]


def test_bench_help_names_all_shipped_benchmarks(gpu_gs):
    _, out, _ = gpu_gs("bench", "--help")
    words = " ".join(out.replace("│", " ").split())
    assert all(f" {name}" in words for name in presets("benchmarks"))
    assert "the same command goes on" in words


def test_an_interrupted_bench_says_how_to_go_on(gpu_gs, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("gpu_gs.bench.benchmark.run_benchmark", interrupted)
    code, _, err = gpu_gs("bench", "smoke", "--out", "here")
    assert code == 130
    assert "what is done is in here, and the same command goes on from there" in err


def test_a_file_is_no_folder_of_a_report(gpu_gs, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = gpu_gs("report", "file")
    assert code == 5 and "file: is a file, not a folder" in err

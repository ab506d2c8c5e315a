"""The shipped tasks on their real data, from start to report, with fewer trials."""

import json
import time

import pytest

from gpu_gs.config import presets
from gpu_gs.run.loop import run_task
from gpu_gs.run.objectives import evaluate, import_objective
from gpu_gs.run.task_config import load_task

pytest.importorskip("sklearn")

QUICK = ["strategy.seed=1", "strategy.acquisition.raw_samples=128", "strategy.acquisition.restarts=4"]


@pytest.mark.parametrize("name", presets("tasks"))
def test_a_task_runs_to_its_report(name, tmp_path):
    config = load_task(name, set_values=[*QUICK, "trials=8"])
    summary = run_task(config, tmp_path / "run")
    assert summary["status"] == "finished"
    assert summary["trials"]["completed"] == 8
    assert {row["who"] for row in summary["comparison"]} == {"tuned", "random search", "defaults"}
    assert all(row["held_out"] for row in summary["comparison"])
    assert (summary["front"] is not None) == (name == "breast_cancer")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["task"] == name
    assert (tmp_path / "run" / "report.html").stat().st_size > 10**6


@pytest.mark.parametrize("name", presets("tasks"))
def test_an_objective_is_a_pure_function_and_quick(name):
    config = load_task(name)
    objective = import_objective(config.objective)
    first = evaluate(objective, config.defaults, [])
    begun = time.process_time()  # a busy machine is slow, not wrong
    assert evaluate(objective, config.defaults, []).metrics == first.metrics
    assert time.process_time() - begun < 5


def test_a_point_at_which_libsvm_does_not_converge_is_evaluated_all_the_same():
    from sklearn.svm import SVR

    from gpu_gs.run import tasks

    point = {"C": 100.0, "gamma": 1.0, "epsilon": 0.001, "kernel": "poly"}
    assert tasks._svr(point).regressor[-1].max_iter == tasks.MAX_ITERATIONS != SVR().max_iter
    outcome = evaluate(tasks.diabetes_svr, point, ["cv_rmse"])  # a warning would be an error here
    assert outcome.error == "" and outcome.seconds < 60


@pytest.mark.parametrize("data", ["_diabetes", "_digits", "_breast_cancer"])
def test_the_held_out_rows_are_not_among_those_tuned_on(data):
    from gpu_gs.run import tasks

    X, X_out, _, _ = getattr(tasks, data)()
    assert not {row.tobytes() for row in X} & {row.tobytes() for row in X_out}


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    from gpu_gs.run import tasks

    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    tasks._diabetes.cache_clear()
    outcome = evaluate(tasks.diabetes_svr, {}, ["cv_rmse"])
    assert "gpu-gs[tasks]" in outcome.error

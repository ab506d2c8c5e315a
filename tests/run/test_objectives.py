import numpy as np
import pytest

from gpu_gs.errors import ConfigError
from gpu_gs.run.objectives import check_metrics, evaluate, import_objective


@pytest.mark.parametrize(
    ("answer", "metrics"),
    [
        (1, {"loss": 1.0}),
        (np.float32(0.5), {"loss": 0.5}),
        ({"loss": np.array(2.0)}, {"loss": 2.0}),
        ({"loss": (1, 0.25), "more": 3}, {"loss": (1.0, 0.25), "more": 3.0}),
    ],
)
def test_numbers_of_all_kinds_become_floats(answer, metrics):
    assert check_metrics(answer, ["loss"]) == (metrics, [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"loss": float("nan")}, "'loss' is nan"),
        ({"loss": float("inf")}, "finite number"),
        ({"loss": "0.5"}, "(str)"),
        ({"loss": True}, "(bool)"),
        ({"loss": None}, "(NoneType)"),
        ({"loss": [1.0, 2.0, 3.0]}, "pair (mean, standard error)"),
        ({"loss": (1.0, -1.0)}, "pair (mean, standard error)"),
        ({"lost": 1.0}, "no 'loss' (metrics returned: lost)"),
        ({}, "metrics returned: none"),
        (None, "(NoneType)"),
        (np.zeros(3), "(ndarray)"),
    ],
)
def test_an_unusable_answer_is_described(answer, words):
    assert any(words in problem for problem in check_metrics(answer, ["loss"])[1])


def test_one_number_for_two_goals_is_not_enough():
    assert "a dict with the metrics a, b is needed" in check_metrics(1.0, ["a", "b"])[1][0]


def test_an_exception_is_an_outcome_with_its_traceback():
    def broken(parameters):
        return parameters["missing"]

    outcome = evaluate(broken, {}, ["loss"])
    assert outcome.metrics is None
    assert outcome.error == "KeyError: 'missing'"
    assert 'return parameters["missing"]' in outcome.traceback


def test_even_sys_exit_is_only_this_trial_s_failure():
    assert evaluate(lambda parameters: exit(3), {}, ["loss"]).error == "SystemExit: 3"


def test_an_objective_cannot_change_the_record_of_its_parameters():
    parameters = {"x": 1.0}
    evaluate(lambda given: given.clear() or 1.0, parameters, ["loss"])
    assert parameters == {"x": 1.0}


def test_an_objective_is_found_in_a_given_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    (tmp_path / "module_of_this_test.py").write_text("def f(parameters):\n    return 1.0\n")
    assert import_objective("module_of_this_test:f", [tmp_path])({}) == 1.0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_here:f", "there is no module 'no_such_module_here'"),
        ("json:lods", "did you mean loads"),
        ("json:decoder", "not a function"),
    ],
)
def test_a_name_that_leads_nowhere_is_explained(name, words):
    with pytest.raises(ConfigError, match=words):
        import_objective(name)


def test_a_module_that_cannot_be_imported_is_explained_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    (tmp_path / "broken_module_of_this_test.py").write_text("x = 1\nimport no_such_dependency\n")
    with pytest.raises(ConfigError, match=r"no_such_dependency.*line 2"):
        import_objective("broken_module_of_this_test:f", [tmp_path])

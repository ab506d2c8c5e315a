"""``gpu-gs bench`` with a suite: what the options come to."""

import pytest
from typer.testing import CliRunner

from gpu_gs.bench import latency, regret, tables
from gpu_gs.bench.cases import KINDS, SUITES, Case
from gpu_gs.cli import app
from gpu_gs.errors import ConfigError


@pytest.fixture
def called(monkeypatch):
    """Arguments of the benchmark that a command line starts."""
    seen = []
    monkeypatch.setattr(regret, "bench_regret", lambda *a, **k: seen.append((a, k)))
    monkeypatch.setattr(latency, "bench_latency", lambda *a, **k: seen.append((a, k)))
    monkeypatch.setattr(tables, "show", lambda *a, **k: None)

    def call(*arguments):
        result = CliRunner().invoke(app, ["bench", *arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return seen.pop()

    return call


def test_regrets_of_the_claim_are_the_default_and_kinds_have_their_own_seeds(called):
    (cases, contestants, seeds, workers, _), _ = called("regret")
    assert (cases, contestants, seeds, workers) == (list(SUITES["claim"].cases), ["fast", "reference"], 20, 1)
    assert {(case.evaluations, case.initial, case.batch, case.pending) for case in cases} == {(60, 10, 1, 0)}
    (cases, contestants, seeds, workers, _), _ = called(
        "regret", "--suite", "kinds", "--contestant", "reference", "--workers", "2"
    )
    assert (cases, contestants, seeds, workers) == (list(KINDS), ["reference"], 10, 2)


def test_lengths_and_ways_to_ask_given_count_for_every_problem(called):
    (cases, *_), _ = called(
        "regret", "--problem", "branin", "--problem", "dtlz2", "--batch", "2", "--evaluations", "20"
    )
    assert cases == [Case("branin", 20, 10, batch=2), Case("dtlz2", 20, 14, batch=2)]


def test_latencies_of_kinds_have_their_own_sizes(called):
    (problems, sizes, _), options = called("latency", "--suite", "kinds")
    assert (problems, sizes, options["kinds"]) == ([], None, True)
    with pytest.raises(ConfigError, match="its own --n"):
        called("latency", "--suite", "kinds", "--n", "100")
    (problems, sizes, _), options = called("latency", "--problem", "hartmann6", "--n", "50", "--pending", "3")
    assert (problems, sizes, options["kinds"], options["pending"], options["batch"]) == (
        ["hartmann6"],
        [50],
        False,
        3,
        1,
    )

import re

import pytest

from gpu_gs.run.loop import run_task
from gpu_gs.run.report import _round_numbers
from tests.run.helpers import task

HERE = __name__.rpartition(".")[0] + ".helpers"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    config = task(
        description="Ends a script? </script><b>no</b>",
        objective=f"{HERE}:sometimes",
        trials=8,
        max_consecutive_failures=8,
        defaults={"x": 1.0, "k": 4, "kind": "a"},
        held_out=f"{HERE}:held_out",
        random_search=True,
    )
    run_task(config, folder)
    return (folder / "report.html").read_text()


def test_it_is_one_file_that_loads_nothing(page):
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", page)
    assert "@import" not in page.split("<script>")[0]
    assert page.count("plotly.js v") <= 2  # the library, once


def test_it_has_each_part(page):
    for title in (
        "Tuned, random search, defaults",
        "Best so far",
        "Stage times",
        "Parameters against loss",
        "Best trials",
        "Failed trials",
        "Configuration",
    ):
        assert f"{title}<" in page
    assert page.count('<div class="plot"') == 2 + 3
    assert '<meta name="viewport"' in page


def test_text_of_the_user_s_is_escaped(page):
    assert "<b>no</b>" not in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page


def test_tracebacks_of_failures_are_there(page):
    assert "RuntimeError: k is" in page or "the metric &#x27;loss&#x27; is nan" in page


@pytest.mark.parametrize(
    ("bounds", "places"),
    [
        ((4, 64), [5, 10, 20, 50]),
        ((1, 30), [1, 2, 5, 10, 20]),
        ((0.3, 0.4), [0.3, 0.4]),
        ((0.1, 1), [0.1, 0.2, 0.5, 1]),
    ],
)
def test_a_short_log_axis_has_whole_labels(bounds, places):
    assert _round_numbers(*bounds) == pytest.approx(places)

"""The picture of times against n: a panel a problem, a line a contestant, growth in the legend."""

import xml.etree.ElementTree as ET

import pytest

from gpu_gs.bench.curves import draw
from gpu_gs.bench.latency import growth_rows

SIZES = (100, 250, 500, 1_000)


def rows(problem, contestant, exponent):
    return [
        {"problem": problem, "d": 2, "n": n, "batch": 1, "contestant": contestant, "median": 1e-5 * n**exponent}
        for n in SIZES
    ]


@pytest.fixture
def result():
    found = [
        *rows("branin", "fast@cpu", 1.2),
        *rows("branin", "reference", 2.3),
        {"problem": "branin", "d": 2, "n": 100, "batch": 1, "contestant": "optuna", "error": "no answer"},
        *rows("levy4", "fast@cpu", 1.4),
    ]
    return {"rows": found, "growth": growth_rows(found)}


def test_each_line_is_named_with_its_exponent(result, tmp_path):
    draw(result, tmp_path / "a.svg", tmp_path / "a.png")
    root = ET.parse(tmp_path / "a.svg").getroot()
    text = " ".join(
        " ".join("".join(node.itertext()).split()) for node in root.iter("{http://www.w3.org/2000/svg}text")
    )
    for words in ("branin, 2 parameters", "levy4, 2 parameters", "gpu_gs fast on CPU", "stock Ax", "1.2", "2.3", "1.4"):
        assert words in text
    assert "Optuna" not in text
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_result_without_times_is_an_empty_panel_and_no_error(tmp_path):
    draw({"rows": [], "growth": []}, tmp_path / "a.svg")
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


def test_the_same_result_is_the_same_file(result, tmp_path):
    draw(result, tmp_path / "a.svg")
    draw(result, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()

"""The picture of stage times: a well-formed SVG whose bars are to scale."""

import xml.etree.ElementTree as ET

import pytest

from gpu_gs.bench.picture import picture

CASE = {"problem": "branin", "n": 10, "batch": 1}
ROWS = [
    {
        **CASE,
        "contestant": "fast",
        "median": 0.1,
        "against": {"ax": {"median": 4.0}},
        "stages": {"fit": 0.06, "client": 0.04},
    },
    {**CASE, "contestant": "reference", "median": 0.4, "against": {}, "stages": {"fit": 0.1, "generate": 0.3}},
    {**CASE, "contestant": "a<b", "median": 0.2},
    {**CASE, "contestant": "broken", "error": "no answer"},
]


def test_bars_are_to_scale_and_labelled():
    root = ET.fromstring(picture({"rows": ROWS}))
    space = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in root.iter(f"{space}rect") if bar.find(f"{space}title") is not None]
    widths = [float(bar.get("width")) for bar in bars]
    seconds = [0.06, 0.04, 0.1, 0.3, 0.2]
    assert [width / widths[-1] for width in widths] == pytest.approx([s / 0.2 for s in seconds], rel=0.01)
    texts = [text.text for text in root.iter(f"{space}text")]
    assert "100 ms (4.0x faster)" in texts
    assert "gpu_gs a<b" in texts
    assert "gpu_gs broken" not in texts
    assert float(root.get("width")) >= max(float(bar.get("x")) + float(bar.get("width")) for bar in bars)

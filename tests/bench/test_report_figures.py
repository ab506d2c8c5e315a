"""The figures of a report: what they show is what the results say."""

import re
import sys
import xml.etree.ElementTree as ET

import pytest

from gpu_gs.bench.contestants import label
from gpu_gs.bench.report import drawing, figures
from gpu_gs.bench.report.__main__ import main
from gpu_gs.bench.report.merge import read
from tests.bench.results import GPU, SIZES, article, latency, memory, old_regret, regret, timed, write

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def book(tmp_path):
    """Makes one of results, each in a folder of its own."""
    return lambda *results: read([write(tmp_path / str(i), result) for i, result in enumerate(results)])


def drawn(panel):
    """The axes of a panel."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    panel.draw(axes)
    return axes


def texts(root):
    return [" ".join("".join(node.itertext()).split()) for node in root.iter(f"{SVG}text")]


def failed(contestant, n):
    return {"problem": "branin", "n": n, "batch": 1, "contestant": contestant, "d": 2, "error": "no answer"}


# ---------------------------------------------------------------------------------------------------------- time


def test_each_line_of_times_is_named_with_its_exponent_and_its_failures(book, tmp_path):
    rows = [timed(name, n) for name in ("fast", "reference") for n in SIZES]
    rows += [timed("optuna", 100), failed("optuna", 250), failed("optuna", 1_000)]
    figure = figures.time_against_n(book(latency(rows)))
    drawing.save(figure, tmp_path / "a.svg", tmp_path / "a.png")
    words = texts(ET.parse(tmp_path / "a.svg").getroot())
    assert "branin, 2 parameters" in words
    assert "gpu_gs fast: n^0.4, between refits n^0.4" in words
    assert "stock Ax: n^1.3" in words
    assert f"{label('optuna')} (failed at n = 250, 1,000)" in words
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_problem_with_one_size_has_no_line_and_batches_are_in_none(book):
    rows = [
        timed("fast", 100),
        timed("fast", 200, batch=8),
        timed("fast", 200, pending=3),
        timed("fast", 200, storage=True),
    ]
    assert figures.time_against_n(book(latency(rows))) is None


def test_panels_of_times_share_one_scale(book):
    rows = [timed("fast", n) for n in SIZES] + [timed("reference", n, problem="levy4") for n in SIZES]
    first, second = (drawn(panel) for panel in figures.time_against_n(book(latency(rows))).panels)
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[0] < rows[0]["median"] and rows[-1]["median"] < second.get_ylim()[1]


def test_speed_ups_are_those_of_the_result(book):
    rows = [timed(name, n) for n in (100, 500) for name in ("fast", "reference", "optuna")]
    result = latency(rows)
    (panel,) = figures.speedups(book(result)).panels
    points = [line.get_xdata()[0] for line in drawn(panel).lines if line.get_marker() in ("o", "D")]
    assert points == pytest.approx(
        [r["median"] for row in rows if row["contestant"] == "fast" for r in row["against"].values()]
    )
    assert "gpu_gs fast, branin, n = 500: " in panel.words


def bars(axes):
    """The widths of the parts of each bar, from the top down."""
    return [[path.get_extents().width for path in bar.get_paths()] for bar in axes.collections]


def test_bars_of_stage_times_are_to_scale_and_those_of_shares_all_alike(book):
    rows = [timed(name, 100) for name in ("fast", "reference", "optuna")]
    ours, stock, optuna = (row["median"] for row in rows)
    (times,) = figures.stage_times(book(latency(rows))).panels
    found = bars(drawn(times))
    assert found[0] == pytest.approx([ours / stock * part for part in (0.5, 0.4, 0.1)], rel=0.01)
    assert found[1] == pytest.approx([0.3, 0.6, 0.1], rel=0.01)
    assert found[2] == pytest.approx([optuna / stock], rel=0.01)
    (shares,) = figures.stage_shares(book(latency(rows))).panels
    assert bars(drawn(shares)) == [pytest.approx([0.5, 0.4, 0.1]), pytest.approx([0.3, 0.6, 0.1])]
    words = [text.get_text() for text in drawn(times).texts]
    assert f"{1e3 * ours:.0f} ms ({stock / ours:.0f}x faster)" in words and "n = 100" in words


def test_every_stage_has_a_colour_of_its_own():
    from gpu_gs.bench.latency import STAGES

    assert set(STAGES) <= set(figures.STAGES)
    assert len(set(figures.STAGES.values())) == len(figures.STAGES)


# ------------------------------------------------------------------------------------------------------- devices


def on_devices(cpu, cuda, sizes=(100, 1_000)):
    rows = [{**timed("fast@cpu", n), "median": seconds} for n, seconds in zip(sizes, cpu, strict=True)]
    return latency(
        rows + [{**timed("fast@cuda", n), "median": s} for n, s in zip(sizes, cuda, strict=True)], gpus=[GPU]
    )


@pytest.mark.parametrize(
    ("cpu", "cuda", "verdict"),
    [
        ((0.01, 1.0), (0.1, 0.1), "CUDA is faster from about n = 320 on"),
        ((0.01, 0.05), (0.1, 0.1), "the CPU is faster at n = 100 to 1,000"),
        ((0.2, 0.3), (0.1, 0.1), "CUDA is faster at n = 100 to 1,000"),
        ((0.2, 0.05), (0.1, 0.1), "the CPU is faster at n = 100 to 1,000"),
    ],
)
def test_where_cuda_takes_over_is_interpolated_between_the_sizes(book, cpu, cuda, verdict):
    results = book(on_devices(cpu, cuda))
    (crossing,) = figures.crossings(results)
    assert crossing.verdict == verdict
    figure = figures.crossover(results)
    assert verdict in figure.panels[0].words


def test_the_strategy_without_a_device_stands_for_the_cpu_where_it_ran_there(book):
    rows = [timed("fast", 100), timed("fast@cuda", 100), timed("reference", 100), timed("reference@cuda", 100)]
    assert [each.base for each in figures.crossings(book(latency(rows)))] == ["fast", "reference"]
    rows[0]["devices"] = ["cuda:0"]
    assert [each.base for each in figures.crossings(book(latency(rows)))] == ["reference"]


def test_devices_of_two_machines_are_not_compared(book):
    here, there = latency([timed("fast@cpu", 100)]), latency([timed("fast@cuda", 100)], gpus=[GPU])
    assert figures.crossover(book(here, there)) is None
    assert figures.has_cuda(book(here, there)) and not figures.has_cuda(book(here))


# ------------------------------------------------------------------------------------------------------- quality


def test_regrets_are_medians_in_a_band_and_end_where_the_result_says(book):
    result = regret()
    branin, levy = figures.regret(book(result)).panels
    axes = drawn(branin)
    ends = {line.get_color(): line.get_ydata()[-1] for line in axes.lines}
    looks = drawing.styles(["fast", "reference"])
    assert ends == pytest.approx({looks["fast"].colour: 0.01, looks["reference"].colour: 0.1})
    assert len(axes.collections) == 2 and axes.get_yscale() == "log"
    assert min(drawn(levy).lines[1].get_ydata()) == 0.05  # its floor


def test_of_many_contestants_only_ours_and_stock_ax_have_bands_and_the_others_their_last_interval(book):
    names = ("fast", "thorough", "reference", "optuna", "random", "ax-random")
    result = regret(contestants=names)
    last = {name: (curve["low"][-1], curve["high"][-1]) for name, curve in result["curves"]["branin"].items()}
    axes = drawn(figures.regret(book(result)).panels[0])
    whiskers = [each.get_segments()[0] for each in axes.collections if hasattr(each, "get_segments")]
    assert len(axes.collections) - len(whiskers) == 3
    assert [tuple(end[1] for end in ends) for ends in whiskers] == [pytest.approx(last[name]) for name in names[3:]]


@pytest.mark.parametrize("floors", [{"branin": 1e-4}, {}])
def test_a_regret_of_zero_is_drawn_on_the_floor_of_the_problem_or_on_the_axis(book, floors):
    result = {**regret(), "floors": floors}
    result["curves"]["branin"]["fast"]["median"][-1] = 0.0
    axes = drawn(figures.regret(book(result)).panels[0])
    assert axes.lines[1].get_ydata()[-1] == pytest.approx(floors.get("branin", axes.get_ylim()[0]))


def test_against_time_the_seconds_of_the_strategy_are_the_axis(book):
    figure = figures.regret_against_time(book(regret()))
    axes = drawn(figure.panels[0])
    assert axes.get_xscale() == "log"
    assert sorted(line.get_xdata()[-1] for line in axes.lines) == pytest.approx([2.5, 100.0])


def test_old_results_have_quartiles_and_no_times(book):
    figure = figures.regret(book(old_regret()))
    assert "quartiles" in figure.caption
    assert figures.regret_against_time(book(old_regret())) is None and figures.profiles(book(old_regret())) is None


def test_profiles_rise_from_the_share_of_the_best(book):
    (panel,) = figures.profiles(book(regret())).panels
    for line in drawn(panel).lines:
        shares = list(line.get_ydata())
        assert shares == sorted(shares) and line.get_xdata()[0] == 1
    assert "gpu_gs fast is the best in 50 %" in panel.words


def test_memory_is_drawn_of_those_that_ended(book):
    (panel,) = figures.memory(book(memory())).panels
    (line,) = drawn(panel).lines
    assert list(line.get_ydata()) == [470.0, 480.0, 490.0]


# ------------------------------------------------------------------------------------------------------- drawing


def test_figures_of_what_is_not_there_are_none(book):
    assert all(figure(book(article())) is None for figure in figures.FIGURES.values())


def test_a_contestant_looks_the_same_on_each_device_but_for_the_dashes():
    looks = drawing.styles(["fast@cpu", "reference", "fast@cuda", "optuna", "random"])
    cpu, cuda = looks["fast@cpu"], looks["fast@cuda"]
    assert (cpu.colour, cpu.marker) == (cuda.colour, cuda.marker) and (cpu.dashed, cuda.dashed) == (False, True)
    others = [looks[name] for name in ("fast@cpu", "reference", "optuna", "random")]
    assert len({style.colour for style in others}) == len({style.marker for style in others}) == 4


def test_an_inline_panel_is_an_element_whose_text_says_it_all(book):
    rows = [timed(name, n) for name in ("fast", "reference") for n in SIZES]
    (panel,) = figures.time_against_n(book(latency(rows))).panels
    text = drawing.inline(panel, "here")
    root = ET.fromstring(text)
    assert root.get("role") == "img" and root.get("width") is None
    assert root.get("aria-label").startswith(
        "branin, 2 parameters. Time of an ask against n: gpu_gs fast 25 ms at n = 100"
    )
    names = re.findall(r' id="([^"]*)"', text)
    assert names and len(set(names)) == len(names) and all(name.startswith("here-") for name in names)
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', text)) <= set(names)
    assert "var(--ink)" in text and "<style" not in text and "http" not in text


def test_tick_labels_are_not_rounded_with_the_coordinates(book):
    result = regret()
    for curve in result["curves"]["branin"].values():
        for key in ("median", "low", "high"):
            curve[key] = [value / 1e4 for value in curve[key]]
    text = drawing.inline(figures.regret(book(result)).panels[0], "a")
    assert {"0.001", "0.0001"} <= set(re.findall(r">([0-9.]+)</text>", text))


def test_the_same_results_are_the_same_file(book, tmp_path):
    figure = figures.stage_shares(book(latency([timed(name, 100) for name in ("fast", "reference")])))
    drawing.save(figure, tmp_path / "a.svg")
    drawing.save(figure, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("span", [(0.7, 25_000.0), (0.01, 0.1), (0.11, 0.17), (1e-8, 1e3)])
def test_a_logarithmic_axis_has_a_few_round_ticks(span):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.set(yscale="log", ylim=span)
    drawing.log_ticks(axes.yaxis, span, "{:g}".format)
    places = axes.yaxis.get_majorticklocs()
    assert 2 <= len(places) <= 7 and all(span[0] <= place <= span[1] for place in places)


def test_one_figure_of_some_results_is_drawn_by_the_module(tmp_path, capsys):
    write(tmp_path, latency([timed(name, 100) for name in ("fast", "reference")]))
    main(["stages", str(tmp_path / "latency.json"), str(tmp_path / "a.svg"), str(tmp_path / "a.png")])
    assert (tmp_path / "a.png").stat().st_size and "stock Ax" in texts(ET.parse(tmp_path / "a.svg").getroot())
    with pytest.raises(SystemExit, match=r"'stage' is unknown.*did you mean stages"):
        main(["stage", str(tmp_path / "latency.json")])
    with pytest.raises(SystemExit, match="memory: these results hold nothing for it"):
        main(["memory", str(tmp_path), str(tmp_path / "b.svg")])


def test_matplotlib_waits_until_something_is_drawn():
    import subprocess

    code = "import sys, gpu_gs.bench.report; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

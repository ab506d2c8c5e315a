"""report.html: what it says, and that a browser shows it."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from gpu_gs.bench.report import write_report
from gpu_gs.bench.report.findings import sentences
from gpu_gs.bench.report.merge import read
from tests.bench.results import GPU, article, environment, latency, memory, old_regret, regret, timed, write

VOID = ("meta", "link", "br")
PHONE = 390
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Page(HTMLParser):
    """Checks that elements end where they should, and keeps them with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += f" {data}"

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Everything that there can be: two machines, one with a GPU, failures, and an article's tables."""
    folder = tmp_path_factory.mktemp("report")
    rows = [timed(name, n) for n in (100, 1_000) for name in ("fast", "reference", "optuna")]
    rows.append(
        {"problem": "branin", "n": 100, "batch": 1, "contestant": "a<b", "d": 2, "error": "Trace\nBad: <i>x</i>"}
    )
    here = write(folder / "here", latency(rows, at="2026-11-20T10:00:00"), memory(), article())
    write(here, regret(failed={("branin", "fast"): 3}))
    (here / "benchmark.yaml").write_text("contestants: [fast]\n", encoding="utf-8")
    names = ("fast@cpu", "fast@cuda", "reference")
    rows = [timed(name, n, scale=0.5) for n in (100, 1_000) for name in names]
    return write_report([here, write(folder / "there", latency(rows, gpus=[GPU]))], folder / "out")


def test_the_page_is_one_small_file_that_asks_for_nothing_else(report):
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert len(text) < 2_000_000
    assert not page.all("script") and not page.all("img")
    references = [
        value for _, attributes in page.found for name, value in attributes.items() if name in ("href", "src")
    ]
    assert all(reference.startswith(("#", "data:")) for reference in references)
    assert "http:" not in text and "https:" not in text
    identifiers = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {value[1:] for value in references if value.startswith("#")} <= set(identifiers)


def test_every_figure_is_there_for_eyes_and_for_readers_and_as_files(report):
    page = Page(report.read_text(encoding="utf-8"))
    names = ["speedups", "time", "stages", "shares", "devices", "regret", "elapsed", "profiles", "memory"]
    assert [attributes["data-name"] for attributes in page.all("figure")] == names
    pictures = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(pictures) >= len(names) and all(len(svg["aria-label"]) > 40 for svg in pictures)
    for name in names:
        assert (report.parent / "figures" / f"{name}.svg").stat().st_size > 1_000
        assert (report.parent / "figures" / f"{name}.png").stat().st_size > 1_000


def test_tables_say_what_their_headers_head_and_scroll_in_their_own_box(report):
    page = Page(report.read_text(encoding="utf-8"))
    assert all(header["scope"] in ("col", "row") for header in page.all("th"))
    boxes = [div for div in page.all("div") if div.get("class") == "scroll"]
    assert len(boxes) == len(page.all("table")) and all(box["aria-label"] for box in boxes)


def test_what_failed_is_listed_with_its_error_and_nothing_is_taken_for_markup(report):
    page = Page(report.read_text(encoding="utf-8"))
    assert "latency: gpu_gs a<b, branin, n = 100 (machine A)" in page.text
    assert "regret: gpu_gs fast, branin (machine A): 3 of 20 runs" in page.text
    assert "memory: stock Ax, branin (machine A)" in page.text
    assert page.text.count("Bad: <i>x</i>") == 2 and not page.all("i") and not page.all("b>")
    (names,) = re.findall(r"5 runs failed \((.*?)\), see below", page.text)
    assert sorted(names.split(", ")) == ["gpu_gs a<b", "gpu_gs fast", "stock Ax"]


def test_the_environment_of_each_result_and_the_configuration_are_there(report):
    text = Page(report.read_text(encoding="utf-8")).text
    for words in ("machine A: Zen, 2 cores", f"machine B: Zen, 2 cores, {GPU}", "abc1234", "ax-platform 1.3.1", "1.5"):
        assert words in text
    assert "here/latency.json" in text and "contestants: [fast]" in text


def test_a_section_without_results_is_absent(tmp_path):
    page = Page(write_report([write(tmp_path, memory())], tmp_path).read_text(encoding="utf-8"))
    headings = [attributes["id"] for attributes in page.all("section")]
    assert headings == ["found", "failures", "memory", "environment"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["memory.png", "memory.svg"]


def test_without_a_gpu_the_page_says_how_to_measure_on_one(tmp_path):
    page = write_report([write(tmp_path, latency([timed("fast", 100)]))], tmp_path).read_text(encoding="utf-8")
    assert "No GPU result is here; on a machine with a CUDA GPU, gpu-gs bench devices measures it" in Page(page).text


# ------------------------------------------------------------------------------------------------------- findings


def found(tmp_path, *results):
    return " ".join(sentences(read([write(tmp_path / str(i), result) for i, result in enumerate(results)])))


def test_speed_is_the_median_of_the_cases_and_its_range(tmp_path):
    rows = [timed("fast", n) for n in (100, 250, 1_000)] + [timed("reference", n) for n in (100, 250, 1_000)]
    for row, median in zip(rows, (0.01, 0.01, 0.01, 0.1, 0.3, 2.0), strict=True):
        row["median"] = median
    assert (
        "An ask of gpu_gs fast is 30x faster than one of stock Ax in the median of 3 cases, from 10x (branin, n = 100) to "
        "200x (branin, n = 1,000). 2 of 3 targets for the time of an ask are met, not those of gpu_gs fast on branin, n = 100."
    ) in found(tmp_path, latency(rows))


def test_quality_is_the_pooled_test_and_the_single_problems_that_differ(tmp_path):
    assert (
        "Over 2 problems with 20 paired seeds the regret of gpu_gs fast is not worse than that of stock Ax (mean difference "
        "-0.09 decades, upper bound +0.01, margin 0.3; it ends lower in 55 % of the runs). Of single problems it is better "
        "than stock Ax on branin and worse on none (signed ranks, Holm, 5 %). No run failed."
    ) in found(tmp_path, regret())


def test_a_test_that_does_not_show_it_is_not_said_to(tmp_path):
    words = found(tmp_path, regret(mean=0.25))
    assert "was not shown to be no worse than that of stock Ax" in words
    assert "better than stock Ax on none and worse on branin" in words


def test_a_result_without_tests_says_nothing_about_quality(tmp_path):
    assert found(tmp_path, old_regret()) == "No run failed."


def test_the_newest_run_is_the_one_that_is_quoted(tmp_path):
    old = {**regret(mean=0.25), "environment": environment(at="2026-11-20T10:00:00")}
    new = {**regret(), "environment": environment(at="2026-11-21T10:00:00")}
    assert "is not worse than" in found(tmp_path, new, old)


# -------------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Shows a page in a frame of a phone's width; gives what a function of its document says, and the console's lines."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium here")

    def show(text, measure="null"):
        folder = tmp_path_factory.mktemp("browser")
        frame = f'<iframe style="width: {PHONE}px; height: 844px; border: 0" srcdoc="{html.escape(text)}"></iframe>'
        script = f"const measure = page => {measure}; addEventListener('load', () => {{ document.body.dataset.found ="
        script += " JSON.stringify(measure(document.querySelector('iframe').contentDocument)) })"
        (folder / "frame.html").write_text(f"<!DOCTYPE html><body>{frame}<script>{script}</script>", encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
        flags += [
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ]
        flags += ["--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'user'}", "--dump-dom"]
        process = subprocess.run(
            [browser, *flags, (folder / "frame.html").as_uri()], capture_output=True, text=True, check=True, timeout=240
        )
        said = re.search(r'data-found="([^"]*)"', process.stdout)
        lines = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
        return json.loads(html.unescape(said[1])), lines

    return show


def test_on_a_phone_nothing_is_wider_than_the_page_and_the_console_is_silent(report, browse):
    seen, console = browse(
        report.read_text(encoding="utf-8"),
        """({
            width: page.documentElement.scrollWidth,
            figures: page.querySelectorAll("figure").length,
            boxes: [...page.querySelectorAll("svg[role=img]")].map(svg => svg.getBoundingClientRect())
                .map(box => [box.left, box.right, box.height]),
            texts: [...page.querySelectorAll("svg[role=img] text")].filter(text => text.getBBox().width > 0).length,
            tables: [...page.querySelectorAll("details[open] .scroll")].map(box => [box.clientWidth, box.scrollWidth]),
            ink: getComputedStyle(page.querySelector("svg[role=img] text")).fill,
        })""",
    )
    assert console == []
    assert seen["width"] == PHONE
    assert seen["figures"] == 9 and len(seen["boxes"]) >= 9
    assert all(left >= 0 and right <= PHONE and height > 80 for left, right, height in seen["boxes"])
    assert seen["texts"] > 100
    assert any(inner > outer for outer, inner in seen["tables"])  # it is the box that scrolls
    assert seen["ink"].startswith("rgb(") and seen["ink"] != "rgb(0, 0, 0)"  # the page's colours reach into figures


def test_a_page_that_is_too_wide_or_asks_for_more_would_be_found(browse):
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    text = f'{policy}<body><p style="width: 900px">wide</p><img src="https://example.org/a.png"></body>'
    width, console = browse(text, "page.documentElement.scrollWidth")
    assert width > PHONE
    assert any("Content Security Policy" in line for line in console)

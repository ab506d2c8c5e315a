import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_gs.errors import TaskError
from gpu_gs.run import journal

START = {"format": journal.FORMAT, "config": {}, "config_hash": "", "versions": {}}


@given(st.lists(st.floats()))
def test_floats_come_back_bit_for_bit(values):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{journal.NAME}"
        with journal.Journal(path) as book:
            book.append("start", **START)
            book.append("ask", values=values)
        found = journal.revive(journal.read(path).events[1]["values"])
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(values, found, strict=True))
    assert [math.copysign(1, a) for a in values if a == 0] == [math.copysign(1, b) for b in found if b == 0]


def test_what_append_returns_is_what_is_read(tmp_path):
    with journal.Journal(tmp_path / journal.NAME) as book:
        events = [book.append("start", **START), book.append("ask", pair=(1, 2.5), text="é")]
    assert list(journal.read(tmp_path).events) == events


@pytest.mark.parametrize("torn", ['{"event": "compl', '{"event": "complete"}', "\x00\x00\x00\n", "null\n"])
def test_a_torn_last_line_is_reported_and_cut_off_when_the_run_goes_on(tmp_path, torn):
    path = tmp_path / journal.NAME
    with journal.Journal(path) as book:
        book.append("start", **START)
        book.append("ask", trial=0)
    with path.open("a") as file:
        file.write(torn)
    record = journal.read(tmp_path)
    assert [event["event"] for event in record.events] == ["start", "ask"]
    assert record.torn == len(torn)
    with journal.Journal(path, record) as book:
        book.append("complete", trial=0)
    again = journal.read(tmp_path)
    assert again.torn == 0
    assert [event["event"] for event in again.events] == ["start", "ask", "complete"]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    path = tmp_path / journal.NAME
    with journal.Journal(path) as book:
        for name in ("start", "ask", "complete"):
            book.append(name, **START)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:-9] + "\n" + lines[2])
    with pytest.raises(TaskError, match="line 2 is damaged"):
        journal.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "does not begin with a start event"),
        ('{"event": "ask"}\n', "does not begin with a start event"),
        (json.dumps({"event": "start", **START, "format": 99}) + "\n", "its format is 99"),
    ],
)
def test_a_file_that_is_no_journal_is_refused(tmp_path, content, message):
    (tmp_path / journal.NAME).write_text(content)
    with pytest.raises(TaskError, match=message):
        journal.read(tmp_path)


def test_no_file_at_all_is_explained(tmp_path):
    with pytest.raises(TaskError, match=r"is .* the folder of a run"):
        journal.read(tmp_path / journal.NAME)


def test_a_new_journal_does_not_overwrite_another(tmp_path):
    with journal.Journal(tmp_path / journal.NAME) as book:
        book.append("start", **START)
    with pytest.raises(TaskError, match="cannot be written"):
        journal.Journal(tmp_path / journal.NAME)

"""Processes as the system sees them, for tests that end some."""

import time
from contextlib import suppress
from pathlib import Path

import pytest

IN_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")


def children_of(pid):
    """Numbers of the processes that this one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found


def runs(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what):
    """What ``what`` returns once that is true."""
    for _ in range(1_200):
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")

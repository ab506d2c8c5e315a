"""Ax's own suites run without coverage: its tracer doubles their time, and they exercise Ax more than gpu_gs."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(config, items):
    """Marks them ``no_cover``; pytest-cov cannot take that mark where there is no coverage (``--no-cov``)."""
    if getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None) is None:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.no_cover)

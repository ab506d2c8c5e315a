"""The report of benchmarks: one page that needs nothing else, and its figures as files.

matplotlib is loaded when a figure is drawn, not before.
"""

from gpu_gs.bench.report.merge import is_benchmark
from gpu_gs.bench.report.page import write_report

__all__ = ["is_benchmark", "write_report"]

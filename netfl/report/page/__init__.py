"""The report: one HTML file that needs nothing else, from a run's trace or from the runs of a sweep."""

from netfl.report.page.run import Told, run_page
from netfl.report.page.sweep import SweptRun, draw_sweep, sweep_page

__all__ = ["SweptRun", "Told", "draw_sweep", "run_page", "sweep_page"]

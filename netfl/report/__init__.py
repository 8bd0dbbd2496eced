"""Everything that is said about a run after it, from its trace alone: metrics, tables and plots."""

from netfl.report.explain import Explanation, Part, explain
from netfl.report.metrics import ACCURACY_LEVELS, metrics
from netfl.report.plots import plots
from netfl.report.tables import summary

__all__ = ["ACCURACY_LEVELS", "Explanation", "Part", "explain", "metrics", "plots", "summary"]

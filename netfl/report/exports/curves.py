"""The numbers of a run that change over simulated time, for programs that draw curves."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from netfl.report.metrics import metrics
from netfl.report.page import series

__all__ = ["Mark", "marks"]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A value at a time.

    Args:
        tag: as `training/accuracy`.
        time_s: simulated seconds.
        step: version of the model, round, or number of the slice of time.
        value: finite.
    """

    tag: str
    time_s: float
    step: int
    value: float


def marks(trace: sqlite3.Connection) -> Iterator[Mark]:
    """Accuracy and loss of every evaluation, what every round took, and percentiles of latency by slices of time; not what is not finite."""
    for mark in _marks(trace):
        if math.isfinite(mark.value):
            yield mark


def _marks(trace: sqlite3.Connection) -> Iterator[Mark]:
    for workload, version, time_s, accuracy, loss in trace.execute(
        "SELECT workload, version, time_s, accuracy, loss FROM evaluations ORDER BY workload, time_s, version"
    ):
        yield Mark(tag=f"{workload}/accuracy", time_s=time_s, step=version, value=accuracy)
        yield Mark(tag=f"{workload}/loss", time_s=time_s, step=version, value=loss)
    for workload, number, start_s, end_s, accepted, aborted, failed in trace.execute(
        "SELECT workload, round, start_s, end_s, accepted, aborted, failed FROM rounds ORDER BY workload, end_s, round"
    ):
        values = {"round_s": end_s - start_s, "accepted": accepted, "aborted": aborted, "failed": failed}
        for name, value in values.items():
            yield Mark(tag=f"{workload}/{name}", time_s=end_s, step=number, value=float(value))
    for each in series.latency(trace, metrics(trace)["simulated_s"]):
        for percentile in ("p50", "p95", "p99"):
            for number, value in enumerate(each[percentile]):
                if value is not None:
                    tag = f"{each['workload']}/latency_{percentile}_s"
                    yield Mark(tag=tag, time_s=(number + 1) * each["width"], step=number, value=value)

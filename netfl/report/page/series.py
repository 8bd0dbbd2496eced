"""Curves of a run with few enough points for a page: accuracy, and the latency of requests."""

from __future__ import annotations

import math
import sqlite3
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["accuracy", "latency", "rounds"]

Floats = npt.NDArray[np.float64]

_MOST_POINTS = 1_000
_MOST_ROUNDS = 400
_LATENCY_SLICES = 120
_LEAST_REQUESTS = 20
_PARTS = ("queue", "compute", "transmit", "propagation")


def accuracy(trace: sqlite3.Connection) -> list[dict[str, Any]]:
    """Of each training workload, the time, accuracy and loss of its evaluations; evenly chosen where there are very many."""
    curves = []
    for (workload,) in trace.execute("SELECT DISTINCT workload FROM evaluations ORDER BY workload").fetchall():
        rows = trace.execute(
            "SELECT time_s, accuracy, loss, version FROM evaluations WHERE workload = ? ORDER BY time_s, version", (workload,)
        ).fetchall()
        chosen = [rows[place] for place in _evenly(len(rows), _MOST_POINTS)]
        curves.append(
            {
                "workload": workload,
                "t": [row[0] for row in chosen],
                "accuracy": [_short(row[1]) for row in chosen],
                "loss": [_short(row[2]) for row in chosen],
                "version": [row[3] for row in chosen],
            }
        )
    return curves


def rounds(trace: sqlite3.Connection) -> list[list[float]]:
    """Start and end of rounds, for shading; none where there are too many to tell apart, or where they overlap."""
    found = trace.execute("SELECT start_s, end_s FROM rounds ORDER BY start_s, end_s").fetchall()
    overlap = any(later[0] < earlier[1] for earlier, later in zip(found, found[1:], strict=False))
    return [] if overlap or len(found) > _MOST_ROUNDS else [list(each) for each in found]


def latency(trace: sqlite3.Connection, end_s: float) -> list[dict[str, Any]]:
    """Of each serving workload: percentiles and mean parts of the latency by slice of time, and how latencies are distributed.

    A slice holds the answered requests that arrived in it; `asked` counts all that arrived, `late` those that were lost or past their
    deadline, as `missed` of the metrics does. Slices are equal; there are fewer where requests are few.
    """
    found = []
    for (workload,) in trace.execute("SELECT workload FROM workloads WHERE role = 'serving' ORDER BY workload").fetchall():
        rows = trace.execute(
            "SELECT arrival_s, end_s - arrival_s, queue_s, compute_s, transmit_s, propagation_s, outcome = 'answered', "
            "outcome = 'failed', deadline_s "
            "FROM requests WHERE workload = ? ORDER BY arrival_s, request",
            (workload,),
        ).fetchall()
        if not rows:
            continue
        arrival_s, latency_s, *parts, answered, failed, deadline_s = np.array(rows, dtype=np.float64).T
        missed = (failed == 1) | (latency_s > deadline_s)
        kept = answered == 1
        count = int(np.clip(len(rows) // _LEAST_REQUESTS, 1, _LATENCY_SLICES))
        width_s = end_s / count if end_s > 0 else 1.0
        place = np.clip((arrival_s / width_s).astype(np.int64), 0, count - 1)
        curves: dict[str, list[float | None]] = {name: [] for name in ("p50", "p95", "p99", *_PARTS)}
        asked, late = np.bincount(place, minlength=count), np.bincount(place[missed], minlength=count)
        edges = np.searchsorted(place, np.arange(count + 1))
        for first, last in zip(edges[:-1], edges[1:], strict=True):
            inside = np.flatnonzero(kept[first:last]) + first
            for percent in (50, 95, 99):
                value = float(np.percentile(latency_s[inside], percent, method="inverted_cdf")) if len(inside) else None
                curves[f"p{percent}"].append(_short(value))
            for name, part in zip(_PARTS, parts, strict=True):
                curves[name].append(_short(float(part[inside].mean())) if len(inside) else None)
        ordered = np.sort(latency_s[kept])
        chosen = _evenly(len(ordered), 240)
        deadlines = set(deadline_s.tolist())
        only = deadlines.pop() if len(deadlines) == 1 else math.inf
        found.append(
            {
                "workload": workload,
                "width": width_s,
                "t": [_short((number + 0.5) * width_s) for number in range(count)],
                **curves,
                "asked": asked.tolist(),
                "late": late.tolist(),
                "deadline": _short(only),
                "whole": _short(float(np.percentile(ordered, 95, method="inverted_cdf"))) if len(ordered) else None,
                "sorted": [_short(float(ordered[each])) for each in chosen],
                "share": [_short((each + 1) / len(ordered)) for each in chosen],
            }
        )
    return found


def _evenly(count: int, most: int) -> list[int]:
    """Places of at most so many of `count` things, the first and the last among them."""
    return list(range(count)) if count <= most else np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def _short(value: float | None) -> float | None:
    """A number to six digits; None if it is none or not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None

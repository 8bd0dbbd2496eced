"""How busy devices and links were, from a trace and its notes."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np

from netfl.report.reading import has_table

__all__ = ["Load", "busiest", "loads"]

Load = tuple[str, float, float, int]
"""Name, share of the time that it was busy, mean and most at once."""


def loads(trace: sqlite3.Connection, simulated_s: float) -> dict[str, Any]:
    """See `netfl.report.metrics`; nothing for a run that was killed.

    Args:
        trace: of a run.
        simulated_s: the clock at the end.
    """
    if not simulated_s or not has_table(trace, "device_loads"):
        return {"devices": {}, "links": {}}
    devices = {
        device: {"utilisation": busy_s / simulated_s, "mean_queue": mean, "max_queue": most}
        for device, busy_s, mean, most in trace.execute(
            "SELECT device, busy_s, mean_waiting, most_waiting FROM device_loads ORDER BY device"
        )
    }
    under_way = _under_way(trace, simulated_s)
    links: dict[str, dict[str, Any]] = {}
    for link, source, destination, busy_s in trace.execute(
        "SELECT link, source, destination, busy_s FROM link_loads ORDER BY link, source, destination"
    ):
        mean, most = under_way.get((source, destination), (0.0, 0))
        told = {"utilisation": busy_s / simulated_s, "mean_transfers": mean, "max_transfers": most}
        links.setdefault(link, {})[f"{source}>{destination}"] = told
    return {"devices": devices, "links": links}


def busiest(found: dict[str, Any]) -> tuple[list[Load], list[Load]]:
    """Processors, and directions of links; the busiest first.

    Args:
        found: what `loads` returns.
    """
    devices = [(name, one["utilisation"], one["mean_queue"], one["max_queue"]) for name, one in found["devices"].items()]
    links = [
        (f"{link}, to {way.rpartition('>')[2]}", one["utilisation"], one["mean_transfers"], one["max_transfers"])
        for link, ways in found["links"].items()
        for way, one in ways.items()
    ]
    return sorted(devices, key=_least_busy_last), sorted(links, key=_least_busy_last)


def _least_busy_last(row: Load) -> tuple[float, str]:
    return -row[1], row[0]


def _under_way(trace: sqlite3.Connection, simulated_s: float) -> dict[tuple[str, str], tuple[float, int]]:
    """How many transfers were under way from one device to the next: the mean over the run's time, and the most at once."""
    spans: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for route, start_s, end_s in trace.execute("SELECT route, start_s, end_s FROM transfers"):
        starts, ends = spans[route]
        starts.append(start_s)
        ends.append(end_s)
    by_step: dict[tuple[str, str], list[str]] = defaultdict(list)
    for route in spans:
        for step in pairwise(route.split(">")):
            by_step[step].append(route)
    found = {}
    for step, routes in by_step.items():
        began = np.concatenate([spans[route][0] for route in routes])
        ended = np.concatenate([spans[route][1] for route in routes])
        times = np.concatenate([began, ended])
        changes = np.concatenate([np.ones(len(began), dtype=np.int64), -np.ones(len(ended), dtype=np.int64)])
        # At one instant what ends goes before what begins.
        order = np.lexsort((changes, times))
        found[step] = (float(np.sum(ended - began)) / simulated_s, max(0, int(np.cumsum(changes[order]).max())))
    return found

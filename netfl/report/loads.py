"""How busy devices and links were, from a trace and its notes."""

from __future__ import annotations

import sqlite3
from itertools import chain, pairwise
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
    rows = trace.execute("SELECT route, start_s, end_s FROM transfers WHERE instr(route, '>')").fetchall()
    if not rows:
        return {}
    routes, starts, ends = zip(*rows, strict=True)
    numbers: dict[tuple[str, str], int] = {}
    steps_of = {route: [numbers.setdefault(step, len(numbers)) for step in pairwise(route.split(">"))] for route in dict.fromkeys(routes)}
    # One entry for each step of each transfer's route.
    ways = [steps_of[route] for route in routes]
    steps, counts = np.array(list(chain.from_iterable(ways))), list(map(len, ways))
    began, ended = np.repeat(starts, counts), np.repeat(ends, counts)
    means = np.bincount(steps, ended - began) / simulated_s
    steps, times = np.tile(steps, 2), np.concatenate([began, ended])
    changes = np.repeat([1, -1], len(began))
    # At one instant what ends goes before what begins. All that begins ends, so each step's sum begins at 0.
    order = np.lexsort((changes, times, steps))
    at_once = np.cumsum(changes[order])
    firsts = np.searchsorted(steps[order], np.arange(len(numbers)))
    most = np.maximum(np.maximum.reduceat(at_once, firsts), 0)
    return {step: (float(means[number]), int(most[number])) for step, number in numbers.items()}

"""Where requests ran, and how each way of placing the model did."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict

import numpy as np

__all__ = ["by_family", "family"]

_NUMBER = re.compile(r"\d+(?=:)")


def family(placement: str) -> str:
    """A placement with the numbers at the ends of devices' names left open.

    >>> family("camera-1:0-4 gateway-3:4-11")
    'camera-*:0-4 gateway-*:4-11'
    """
    return " ".join(_NUMBER.sub("*", piece) for piece in placement.split(" "))


def by_family(trace: sqlite3.Connection) -> list[tuple[str, list[float | None]]]:
    """Families of placements, most requests first: requests, answered, p50 and p95 of the latency, share of right answers."""
    rows = trace.execute(
        "SELECT placement, outcome = 'answered', end_s - arrival_s, correct = 1 FROM requests ORDER BY workload, request"
    ).fetchall()
    grouped: defaultdict[str, list[tuple[int, float, int]]] = defaultdict(list)
    families: dict[str, str] = {}
    for placement, *values in rows:
        name = families.get(placement)
        if name is None:
            name = families[placement] = family(placement)
        grouped[name].append((values[0], values[1], values[2]))
    found: list[tuple[str, list[float | None]]] = []
    for name, members in sorted(grouped.items(), key=lambda each: (-len(each[1]), each[0])):
        answered, latency_s, right = np.array(members, dtype=np.float64).T
        kept = answered == 1
        middle, most = np.percentile(latency_s[kept], (50, 95), method="inverted_cdf").tolist() if kept.any() else (None, None)
        share = float(right[kept].mean()) if kept.any() else None
        found.append((name or "(none)", [len(members), int(kept.sum()), middle, most, share]))
    return found

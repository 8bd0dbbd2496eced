"""What each device that trains did, and when: downloads, computation, uploads, waiting, outages."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["PHASES", "Timeline", "timeline"]

PHASES = ("download", "compute", "upload", "waiting", "outage")
"""In the order in which pictures draw them, the last on top."""

_MOST_DEVICES = 60
_MOST_SPANS = 12_000
_COLUMNS = 1_200


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Spans of time by device.

    Args:
        devices: those that trained, by name.
        spans: a list for each of them of (phase, start, end, label), by start.
        seconds: (devices, phases) from every span, what overlaps counted twice.
        drawn: how many devices pictures show.
        column_s: None where spans are exact; else they were taken together into columns of so many seconds, each with the phase that
            fills most of it.
    """

    devices: list[str]
    spans: list[list[tuple[int, float, float, str]]]
    seconds: np.ndarray[Any, np.dtype[np.float64]]
    drawn: int
    column_s: float | None


def timeline(trace: sqlite3.Connection, end_s: float) -> Timeline | None:
    """The spans of every device that computed for a training workload as one of its clients; None if none did.

    download: a transfer of a training workload on its way to the device. compute: training on its processor. upload: a transfer from it.
    waiting: for its processor, or after its last part in a round until the round ended. outage: the device was down.
    """
    trainings = "(SELECT workload FROM workloads WHERE role = 'training')"
    found: defaultdict[str, list[tuple[int, float, float, str]]] = defaultdict(list)
    last: dict[tuple[str, str, str], float] = {}
    computed = trace.execute(
        f"SELECT device, workload, label, queued_s, start_s, end_s FROM computations WHERE kind = 'training' AND workload IN {trainings}"
    )
    for device, workload, label, queued_s, start_s, stop_s in computed:
        if start_s > queued_s:
            found[device].append((3, queued_s, start_s, label))
        found[device].append((1, start_s, stop_s, label))
        _later(last, (workload, label, device), stop_s)
    if not found:
        return None
    moved = trace.execute(
        f"SELECT source, destination, workload, label, start_s, end_s, outcome FROM transfers WHERE workload IN {trainings}"
    )
    for source, destination, workload, label, start_s, stop_s, outcome in moved:
        text = label if outcome == "delivered" else f"{label}, {outcome.replace('_', ' ')}"
        for device, phase in ((destination, 0), (source, 2)):
            if device in found:
                found[device].append((phase, start_s, stop_s, text))
                _later(last, (workload, label, device), stop_s)
    ends = {
        (workload, f"round {number}"): stop_s
        for workload, number, stop_s in trace.execute("SELECT workload, round, end_s FROM rounds ORDER BY workload, round")
    }
    for (workload, label, device), stop_s in last.items():
        over_s = ends.get((workload, label), stop_s)
        if over_s > stop_s and device in found:
            found[device].append((3, stop_s, over_s, label))
    for device, start_s, stop_s in trace.execute("SELECT element, start_s, end_s FROM outages WHERE element_kind = 'device'"):
        if device in found:
            found[device].append((4, start_s, stop_s, ""))
    devices = sorted(found, key=_by_number)
    spans = [sorted(found[device], key=lambda span: (span[1], span[0], span[2], span[3])) for device in devices]
    seconds = np.zeros((len(devices), len(PHASES)))
    for row, each in enumerate(spans):
        for phase, start_s, stop_s, _ in each:
            seconds[row, phase] += stop_s - start_s
    drawn = min(len(devices), _MOST_DEVICES)
    column_s = None
    if sum(map(len, spans[:drawn])) > _MOST_SPANS and end_s > 0:
        column_s = end_s / _COLUMNS
        spans = [_in_columns(each, column_s) for each in spans[:drawn]]
    return Timeline(devices=devices, spans=spans[:drawn], seconds=seconds, drawn=drawn, column_s=column_s)


def _later(last: dict[tuple[str, str, str], float], key: tuple[str, str, str], stop_s: float) -> None:
    last[key] = max(last.get(key, 0.0), stop_s)


def _by_number(name: str) -> list[tuple[int, str]]:
    """A key that sorts `x-2` before `x-10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def _in_columns(spans: list[tuple[int, float, float, str]], column_s: float) -> list[tuple[int, float, float, str]]:
    """Spans taken together into columns of time; neighbours of one phase are one span."""
    share = np.zeros((len(PHASES), _COLUMNS))
    for phase, start_s, stop_s, _ in spans:
        first = min(int(start_s / column_s), _COLUMNS - 1)
        end = min(int(stop_s / column_s), _COLUMNS - 1)
        if first == end:
            share[phase, first] += stop_s - start_s
        else:
            share[phase, first] += (first + 1) * column_s - start_s
            share[phase, first + 1 : end] += column_s
            share[phase, end] += stop_s - end * column_s
    phases = np.where(share.max(axis=0) > 0, share.argmax(axis=0), -1)
    edges = np.flatnonzero(np.diff(phases, prepend=-2, append=-2))
    return [
        (int(phases[first]), first * column_s, end * column_s, "")
        for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        if phases[first] >= 0
    ]

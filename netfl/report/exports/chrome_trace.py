"""The Trace Event Format of Chromium, which ui.perfetto.dev opens: a process a device and a workload, microseconds of simulated time.

Everything that lasts is a pair of asynchronous events, because computations and transfers of one device overlap.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netfl.report.reading import opened

__all__ = ["write_chrome_trace"]

Event = dict[str, Any]


def write_chrome_trace(database: sqlite3.Connection | Path, path: Path) -> list[Path]:
    """Write one JSON file.

    Args:
        database: the run's trace, or its file.
        path: the file.

    Returns:
        The file.
    """
    with opened(database) as trace, path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit":"ms","otherData":{"clock":"simulated seconds, from 0"},"traceEvents":[\n')
        for number, event in enumerate(_events(trace)):
            file.write(("" if number == 0 else ",\n") + json.dumps(event, separators=(",", ":"), allow_nan=False))
        file.write("\n]}\n")
    return [path]


class _Processes:
    """Numbers of processes, which the format wants, by name."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def named(self, name: str) -> tuple[int, list[Event]]:
        """The number of a process, and the event that names it when it is new."""
        if name in self.numbers:
            return self.numbers[name], []
        number = self.numbers[name] = len(self.numbers) + 1
        return number, [{"ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": {"name": name}}]


def _events(trace: sqlite3.Connection) -> Iterator[Event]:
    processes = _Processes()

    def span(process: str, kind: str, identity: str, name: str, start_s: float, end_s: float, told: Event) -> Iterator[Event]:
        number, naming = processes.named(process)
        yield from naming
        shared = {"cat": kind, "id": identity, "pid": number, "tid": 0, "name": name}
        yield {"ph": "b", "ts": 1e6 * start_s, **shared, "args": told}
        yield {"ph": "e", "ts": 1e6 * max(start_s, end_s), **shared}

    for workload, round_, start_s, end_s, selected, accepted, aborted, failed, version in trace.execute(
        "SELECT workload, round, start_s, end_s, selected, accepted, aborted, failed, version FROM rounds ORDER BY start_s, workload, round"
    ):
        told = {"selected": selected, "accepted": accepted, "aborted": aborted, "failed": failed, "version": version}
        yield from span(f"workload {workload}", "round", f"{workload} {round_}", f"round {round_}", start_s, end_s, told)
    for workload, time_s, accuracy, loss in trace.execute(
        "SELECT workload, time_s, accuracy, loss FROM evaluations ORDER BY time_s, workload, version"
    ):
        number, naming = processes.named(f"workload {workload}")
        yield from naming
        values = {"accuracy": accuracy, "loss": loss}
        for name, value in values.items():
            if math.isfinite(value):
                yield {"ph": "C", "ts": 1e6 * time_s, "pid": number, "tid": 0, "name": name, "args": {name: value}}
    for row, (device, workload, kind, label, flop, queued_s, start_s, end_s, busy_s) in enumerate(
        trace.execute(
            "SELECT device, workload, kind, label, flop, queued_s, start_s, end_s, busy_s FROM computations ORDER BY start_s, device, queued_s"
        )
    ):
        told = {"workload": workload, "flop": flop, "queued_s": start_s - queued_s, "busy_s": busy_s}
        yield from span(device, "computation", f"computation {row}", f"{kind}, {label}" if label else kind, start_s, end_s, told)
    for transfer, workload, kind, label, source, destination, route, payload, start_s, end_s, outcome, sent, wasted in trace.execute(
        "SELECT transfer, workload, kind, label, source, destination, route, payload_bytes, start_s, end_s, outcome, sent_bytes, "
        "wasted_bytes FROM transfers ORDER BY start_s, transfer"
    ):
        told = {
            "workload": workload, "label": label, "route": route, "payload_bytes": payload, "sent_bytes": sent, "wasted_bytes": wasted,
            "outcome": outcome,
        }  # fmt: skip
        yield from span(source, "transfer", f"transfer {transfer}", f"{kind} to {destination}", start_s, end_s, told)
    for request, workload, device, arrival_s, end_s, outcome, placement, version in trace.execute(
        "SELECT request, workload, device, arrival_s, end_s, outcome, placement, version FROM requests ORDER BY arrival_s, workload, request"
    ):
        told = {"workload": workload, "outcome": outcome, "placement": placement, "version": version}
        yield from span(device, "request", f"{workload} request {request}", f"request {request}", arrival_s, end_s, told)
    for row, (name, kind, start_s, end_s) in enumerate(
        trace.execute("SELECT element, element_kind, start_s, end_s FROM outages ORDER BY start_s, element")
    ):
        process = name if kind == "device" else f"link {name}"
        yield from span(process, "outage", f"outage {row}", "down", start_s, end_s, {})

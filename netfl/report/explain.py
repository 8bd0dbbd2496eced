"""Where the time of one transfer went, in words, from the trace alone."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from netfl.report.reading import opened
from netfl.units import format_bytes, format_duration, format_rate

__all__ = ["Explanation", "Part", "explain"]

_ORDER = ("set-up", "latency", "slow start", "window", "link", "medium", "last packet",
    "queue", "duty cycle", "airtime", "acknowledgement", "outage", "pause", "rehearsed",
)  # fmt: skip


class Part(NamedTuple):
    """One reason why a transfer took time.

    Args:
        cause: latency, outage, or one of the causes of `Wait`.
        element: the link, with its direction if each has a capacity of its own, or the medium; else empty.
        seconds: how long.
        share: of that capacity, on average; 0 where the cause is none.
        rate_bps: how fast bytes moved meanwhile, on average.
    """

    cause: str
    element: str
    seconds: float
    share: float
    rate_bps: float

    def __str__(self) -> str:
        rate = f"{format_rate(self.rate_bps)} on average" if self.rate_bps else ""
        return {
            "set-up": "connection set-up",
            "latency": "latency of the way",
            "slow start": f"slow start: the window let through {rate}",
            "window": f"a congestion window that losses had cut: it let through {rate}",
            "link": f"bottleneck link '{self.element}': {self.share:.3g} of its rate, {rate}",
            "medium": f"bottleneck medium '{self.element}': {self.share:.3g} of its airtime, {rate}",
            "last packet": "a lost packet that came late",
            "outage": "outages on the way",
            "pause": "pauses between attempts",
            "rehearsed": f"the row stands for several rehearsed transfers: their bits moved, or it was another's turn; {rate}",
            "queue": f"its frames waited for '{self.element}' to be free",
            "duty cycle": f"its frames waited for the duty cycle of '{self.element}'",
            "airtime": f"its frames on the air of '{self.element}', repetitions included",
            "acknowledgement": "its frames waited for acknowledgements" + (f" on '{self.element}'" if self.element else ""),
        }.get(self.cause, self.cause)


@dataclass(frozen=True)
class Explanation:
    """A transfer and its parts, which sum to its duration.

    Args:
        transfer: its number.
        summary: what it was and how it ended.
        duration_s: from when it was asked for to its end.
        parts: in the order in which things happen to a transfer; none of no length.
    """

    transfer: int
    summary: str
    duration_s: float
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        lines = [self.summary]
        for part in self.parts:
            lines.append(f"  {part.seconds:>12.6f} s  {part.seconds / self.duration_s:>6.1%}  {part}")
        return "\n".join([*lines, f"  {self.duration_s:>12.6f} s  in all"])


def explain(database: sqlite3.Connection | Path, transfer: int) -> Explanation:
    """Where the time of a transfer went.

    Args:
        database: a trace, or its file.
        transfer: its number.

    Raises:
        LookupError: there is no such transfer; the message says which there are.
        sqlite3.DatabaseError: this is no trace.
    """
    with opened(database) as trace:
        row = trace.execute(
            "SELECT workload, kind, label, route, payload_bytes, start_s, end_s, outcome, attempts, sent_bytes, wasted_bytes, latency_s, "
            "stalled_s FROM transfers WHERE transfer = ?",
            (transfer,),
        ).fetchone()
        if row is None:
            count = trace.execute("SELECT count(*) FROM transfers").fetchone()[0]
            raise LookupError(f"no transfer {transfer}; there are {count:,}, from 1 on" if count else "this run sent nothing")
        waits = trace.execute("SELECT cause, element, seconds, share, rate_bps FROM waits WHERE transfer = ?", (transfer,)).fetchall()
    workload, kind, label, route, payload_bytes, start_s, end_s, outcome, attempts, sent_bytes, wasted_bytes, latency_s, stalled_s = row
    parts = [Part("latency", "", latency_s, 0.0, 0.0), Part("outage", "", stalled_s, 0.0, 0.0), *(Part(*wait) for wait in waits)]
    parts.sort(key=lambda part: (_ORDER.index(part.cause) if part.cause in _ORDER else len(_ORDER), -part.seconds, part.element))
    what = f"{kind} of '{workload}'" + (f", {label}" if label else "")
    tried = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    wasted = f", {format_bytes(wasted_bytes)} of them for nothing" if wasted_bytes else ""
    ended = {
        "delivered": "delivered", "aborted": "aborted", "failed": "given up", "in_flight": "cut off by the run's end",
    }.get(outcome, outcome)  # fmt: skip
    summary = (
        f"Transfer {transfer}: {what}, {format_bytes(payload_bytes)} over {' > '.join(route.split('>'))}\n"
        f"asked for at {format_duration(start_s)}, {ended} {format_duration(end_s - start_s)} later in {tried}; "
        f"{format_bytes(sent_bytes)} on the wire{wasted}"
    )
    return Explanation(transfer, summary, end_s - start_s, tuple(part for part in parts if part.seconds > 0))

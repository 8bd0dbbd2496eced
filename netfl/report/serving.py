"""The numbers of a serving workload, from the trace alone."""

from __future__ import annotations

import math
import sqlite3
from typing import Any

import numpy as np
import numpy.typing as npt

from netfl.report.reading import has_table

__all__ = ["serving"]

_PARTS = ("queue_s", "compute_s", "transmit_s", "propagation_s")
_OUTCOMES = ("answered", "failed", "dropped", "rejected", "censored")


def serving(trace: sqlite3.Connection, workload: str, simulated_s: float) -> dict[str, Any]:
    """See `netfl.report.metrics`.

    Args:
        trace: of a run.
        workload: its name.
        simulated_s: the clock at the end.
    """
    rows = trace.execute(
        "SELECT outcome, correct, end_s - arrival_s, deadline_s, queue_s, compute_s, transmit_s, propagation_s "
        "FROM requests WHERE workload = ? ORDER BY request",
        (workload,),
    ).fetchall()
    outcome = np.array([row[0] for row in rows])
    correct = np.array([row[1] for row in rows]) == 1
    elapsed_s, deadline_s, *parts = np.array([row[2:] for row in rows], dtype=np.float64).reshape(len(rows), 6).T
    is_a = {name: outcome == name for name in _OUTCOMES}
    answered = is_a["answered"]
    past_deadline = elapsed_s > deadline_s
    missed = int(np.count_nonzero(is_a["failed"] | is_a["dropped"] | is_a["rejected"] | past_deadline))
    count, answers, right = len(rows), int(np.count_nonzero(answered)), int(np.count_nonzero(answered & correct))
    in_time = answered & ~past_deadline
    energy_j = _energy_j(trace, workload)
    return {
        "requests": count,
        "answered": answers,
        "failed": int(np.count_nonzero(is_a["failed"])),
        "censored": int(np.count_nonzero(is_a["censored"])),
        "missed": missed,
        "miss_rate": missed / count if count else None,
        **{f"p{percent}_s": _percentile(elapsed_s[answered], percent) for percent in (50, 95, 99)},
        "mean_s": _mean(elapsed_s[answered]),
        "accuracy": right / answers if answers else None,
        "accuracy_within_deadline": int(np.count_nonzero(in_time & correct)) / count if count else None,
        "breakdown": {name: _mean(part[answered]) for name, part in zip(_PARTS, parts, strict=True)},
        "dropped": int(np.count_nonzero(is_a["dropped"])),
        "rejected": int(np.count_nonzero(is_a["rejected"])),
        "goodput_per_s": int(np.count_nonzero(in_time)) / simulated_s if simulated_s else None,
        "correct_goodput_per_s": int(np.count_nonzero(in_time & correct)) / simulated_s if simulated_s else None,
        "energy_j": energy_j,
        "energy_per_correct_answer_j": energy_j / right if energy_j is not None and right else None,
        **_setbacks(trace, workload, answers),
        **_estimates(trace, workload),
    }


def _setbacks(trace: sqlite3.Connection, workload: str, answers: int) -> dict[str, Any]:
    """How many requests were tried elsewhere, and what that cost; how many waited for memory."""
    if not has_table(trace, "setbacks"):
        return {"failovers": 0, "answered_elsewhere": 0, "failover_s": None, "waited_for_memory": 0}
    lost_s: dict[int, float] = {}
    asked_elsewhere, waited = 0, 0
    for request, cause, seconds, followed_by in trace.execute(
        "SELECT request, cause, seconds, followed_by FROM setbacks WHERE workload = ? ORDER BY start_s, request", (workload,)
    ):
        if cause == "memory":
            waited += followed_by == "wait"
        else:
            asked_elsewhere += followed_by != "drop"
            lost_s[request] = lost_s.get(request, 0.0) + seconds
    answered = [
        lost_s[request]
        for (request,) in trace.execute("SELECT request FROM requests WHERE workload = ? AND outcome = 'answered'", (workload,))
        if request in lost_s
    ]
    return {
        "failovers": asked_elsewhere,
        "answered_elsewhere": len(answered),
        "failover_s": math.fsum(answered) / answers if answers else None,
        "waited_for_memory": waited,
    }


def _energy_j(trace: sqlite3.Connection, workload: str) -> float | None:
    """What its computing and its radios took above idle; None in a run that has not ended."""
    if trace.execute("SELECT count(*) FROM device_use").fetchone()[0] == 0:
        return None
    computed = trace.execute(
        "SELECT total(c.busy_s) * u.compute_j / u.busy_s FROM computations AS c JOIN device_use AS u ON c.device = u.device "
        "WHERE c.workload = ? AND u.busy_s > 0 GROUP BY c.device ORDER BY c.device",
        (workload,),
    )
    sent = trace.execute("SELECT transmit_j + receive_j FROM link_use WHERE workload = ? ORDER BY link, source, kind", (workload,))
    return math.fsum([*(row[0] for row in computed), *(row[0] for row in sent)])


def _estimates(trace: sqlite3.Connection, workload: str) -> dict[str, Any]:
    """What planners expected of the requests that were answered, a mean over these, and what the simulated mean is over that."""
    nothing = {"estimate_s": None, "estimate_error": None}
    if not has_table(trace, "plans"):
        return nothing
    promised = {
        (device, placement): estimate_s
        for device, placement, estimate_s in trace.execute(
            "SELECT device, placement, estimate_s FROM plans WHERE workload = ? ORDER BY time_s", (workload,)
        )
    }
    answered = trace.execute(
        "SELECT device, placement, count(*), total(end_s - arrival_s) FROM requests WHERE workload = ? AND outcome = 'answered' "
        "GROUP BY device, placement ORDER BY device, placement",
        (workload,),
    ).fetchall()
    known = [
        (count, took_s, promised[device, placement]) for device, placement, count, took_s in answered if (device, placement) in promised
    ]
    expected_s = math.fsum(count * estimate_s for count, _, estimate_s in known)
    count = sum(count for count, _, _ in known)
    if not count or not expected_s:
        return nothing
    return {"estimate_s": expected_s / count, "estimate_error": math.fsum(took_s for _, took_s, _ in known) / expected_s - 1}


def _percentile(values: npt.NDArray[np.float64], percent: int) -> float | None:
    return float(np.percentile(values, percent, method="inverted_cdf")) if len(values) else None


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None

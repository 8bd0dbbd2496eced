"""The numbers of a run, from its trace alone, under stable names."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

from netfl.errors import MissingExtraError
from netfl.learning.privacy import Ledger, epsilon_of_fixed_number, sigma_of
from netfl.report.loads import loads
from netfl.report.reading import opened
from netfl.report.serving import serving

__all__ = ["ACCURACY_LEVELS", "metrics"]

ACCURACY_LEVELS = (0.5, 0.8, 0.9, 0.95)
"""The accuracies to which the time is told."""

_BYTE_SUMS = ("sent", "delivered", "wasted", "in_flight")


def metrics(database: sqlite3.Connection | Path) -> dict[str, Any]:
    """What a run took, reached and cost; plain JSON values, where None is "there is no such number".

    - `simulated_s`, `stop_reason`: the clock at the end and why the run ended; for a run that was killed, the last time in its
      trace and None.
    - `bytes`: `total`, `wasted` and `by_kind: {KIND: {sent, delivered, wasted, in_flight}}` count the bytes of a transfer once,
      however many links it crossed; `up` and `down` are what the devices of tier `device` sent and received. `over_links` and
      `by_link: {LINK: ...}` count them once on every link, both directions together. In each, sent = delivered + wasted +
      in_flight.
    - `energy_j`: `total`, `compute`, `idle`, `transmit`, `receive`.
    - `training: {WORKLOAD: ...}`: `accuracy` and `loss` (None: not finite) of the last evaluation, `best_accuracy`, `rounds`,
      `mean_round_s`, `updates_accepted`, `updates_aborted`, `updates_failed`, `updates_skipped`, and `time_to_accuracy_s: {LEVEL: ...}`,
      when the first model of at least that accuracy came to be (None: not reached). `byte_fraction` is the length of its models and
      updates as sent over that of as many dense float32 messages (None: nothing was sent); `byte_fraction_after_first` leaves the first
      model of each device out. `privacy` (None: the codecs of its updates spend none) is the ledger of the client that uploaded most
      often: `epsilon_of_a_release`, `released` of `num_values` coordinates in each of `rounds` updates, and what they add up to
      (None: infinite): `per_coordinate`, `whole_model_basic`, and `whole_model_advanced` with `delta` beside.
      `noisy_sums` (None: there were none) has, for `clients` and `samples`, the `epsilon` (None: infinite, or the extra that computes it is
      `missing`) and `delta` that protect one of them, of sums with Gaussian noise (`noisy_mean`, `dp_sgd`).
    - `serving: {WORKLOAD: ...}`: `requests` = `answered` + `failed` + `dropped` + `rejected` + `censored`. `p50_s`, `p95_s`, `p99_s`, `mean_s` and
      `breakdown` (`queue_s`, `compute_s`, `transmit_s`, `propagation_s`; means) are of the latencies of answered requests.
      The percentile q is the least observed latency that at least q of them do not exceed (numpy's `inverted_cdf`).
      `missed` = answered late + failed + dropped + rejected + censored with the deadline passed at the run's end; `miss_rate` is their share of
      all requests. `accuracy` is the share of right answers among answers, `accuracy_within_deadline` the share of right answers
      in time among all requests. `goodput_per_s` counts answers in time a second of the run, `correct_goodput_per_s` the right ones of them.
      `energy_j` is what its computing and the radios of its messages took above idle (None: the run was killed), model updates to its pieces
      included; `energy_per_correct_answer_j` divides it by all right answers. `failovers` counts attempts at asking somebody else,
      `answered_elsewhere` the requests answered after one, and `failover_s` is the time lost to them, a mean over answered requests, which
      `breakdown` leaves out. `waited_for_memory` counts the waits of requests for a device's memory. `estimate_s` is what planners expected of the
      answered requests on an idle network, on average, and `estimate_error` by what fraction they took longer (None: not known).
    - `loads: {devices: {NAME: {utilisation, mean_queue, max_queue}}, links: {LINK: {"A>B": {utilisation, mean_transfers, max_transfers}}}}` of devices
      that computed and directions that carried something: the share of the run in which the processor was busy, or that its bytes
      take at the direction's own rate; jobs that wait beside the one at work; and transfers that are under way, their latency included.
    - `devices: {NAME: {tier, compute_s, peak_memory_bytes, storage_bytes, energy_j, bytes_up, bytes_down}}`.

    Args:
        database: a trace, or its file.
    """
    with opened(database) as trace:
        simulated_s, stop_reason = _end(trace)
        return {
            "simulated_s": simulated_s,
            "stop_reason": stop_reason,
            "bytes": _bytes(trace),
            "energy_j": _energy(trace),
            "training": {workload: _training(trace, workload) for workload in _workloads(trace, "training")},
            "serving": {workload: serving(trace, workload, simulated_s) for workload in _workloads(trace, "serving")},
            "devices": _devices(trace),
            "loads": loads(trace, simulated_s),
        }


def _workloads(trace: sqlite3.Connection, role: str) -> list[str]:
    return sorted(row[0] for row in trace.execute("SELECT workload FROM workloads WHERE role = ?", (role,)))


def _end(trace: sqlite3.Connection) -> tuple[float, str | None]:
    row = trace.execute("SELECT simulated_s, reason FROM run_end").fetchone()
    if row is not None:
        return row[0], row[1]
    tables = {"transfers": "end_s", "computations": "end_s", "rounds": "end_s", "evaluations": "time_s", "requests": "end_s"}
    union = " UNION ALL ".join(f"SELECT max({column}) AS t FROM {table}" for table, column in tables.items())
    last: float | None = trace.execute(f"SELECT max(t) FROM ({union})").fetchone()[0]
    return last or 0.0, None


def _bytes(trace: sqlite3.Connection) -> dict[str, Any]:
    kept = "sum(CASE WHEN outcome = '{}' THEN sent_bytes - wasted_bytes ELSE 0 END)"
    by_kind = _byte_sums(
        trace,
        f"SELECT kind, sum(sent_bytes), {kept.format('delivered')}, sum(wasted_bytes), {kept.format('in_flight')} "
        "FROM transfers GROUP BY kind ORDER BY kind",
    )
    by_link = _byte_sums(
        trace,
        "SELECT link, sum(sent_bytes), sum(delivered_bytes), sum(wasted_bytes), sum(in_flight_bytes) "
        "FROM link_use GROUP BY link ORDER BY link",
    )
    up, down = trace.execute(
        "SELECT coalesce(sum(bytes_up), 0), coalesce(sum(bytes_down), 0) FROM device_use WHERE tier = 'device'"
    ).fetchone()
    return {
        "up": up,
        "down": down,
        "wasted": sum(sums["wasted"] for sums in by_kind.values()),
        "total": sum(sums["sent"] for sums in by_kind.values()),
        "by_kind": by_kind,
        "over_links": {name: sum(sums[name] for sums in by_link.values()) for name in _BYTE_SUMS},
        "by_link": by_link,
    }


def _byte_sums(trace: sqlite3.Connection, query: str) -> dict[str, dict[str, int]]:
    return {row[0]: dict(zip(_BYTE_SUMS, row[1:], strict=True)) for row in trace.execute(query)}


def _energy(trace: sqlite3.Connection) -> dict[str, float]:
    names = ("compute", "idle", "transmit", "receive")
    # Summed by name of the device, so that the rounding does not depend on the order of the rows.
    rows = trace.execute("SELECT compute_j, idle_j, transmit_j, receive_j FROM device_use ORDER BY device").fetchall()
    parts = {name: math.fsum(row[i] for row in rows) for i, name in enumerate(names)}
    return {"total": math.fsum(parts.values()), **parts}


def _training(trace: sqlite3.Connection, workload: str) -> dict[str, Any]:
    evaluations = trace.execute(
        "SELECT time_s, accuracy, loss FROM evaluations WHERE workload = ? ORDER BY time_s, version", (workload,)
    ).fetchall()
    rounds, mean_round_s, accepted, aborted, failed, skipped = trace.execute(
        "SELECT count(*), avg(end_s - start_s), total(accepted), total(aborted), total(failed), total(skipped) FROM rounds WHERE workload = ?",
        (workload,),
    ).fetchone()
    return {
        "accuracy": evaluations[-1][1] if evaluations else None,
        "best_accuracy": max((accuracy for _, accuracy, _ in evaluations), default=None),
        "loss": evaluations[-1][2] if evaluations and math.isfinite(evaluations[-1][2]) else None,
        "rounds": rounds,
        "mean_round_s": mean_round_s,
        "time_to_accuracy_s": {
            str(level): next((time_s for time_s, accuracy, _ in evaluations if accuracy >= level), None) for level in ACCURACY_LEVELS
        },
        "updates_accepted": int(accepted),
        "updates_aborted": int(aborted),
        "updates_failed": int(failed),
        "updates_skipped": int(skipped),
        **_byte_fractions(trace, workload),
        "privacy": _privacy(trace, workload),
        "noisy_sums": _noisy_sums(trace, workload),
    }


def _noisy_sums(trace: sqlite3.Connection, workload: str) -> dict[str, Any] | None:
    rows = trace.execute(
        "SELECT records, noise_multiplier, sampled, total, sums, delta FROM noisy_sums WHERE workload = ?", (workload,)
    ).fetchall()
    if not rows:
        return None
    told: dict[str, Any] = {}
    worst: dict[str, float] = {}
    for records, noise_multiplier, sampled, total, sums, delta in rows:
        try:
            epsilon = epsilon_of_fixed_number(sigma=sigma_of(noise_multiplier), sampled=sampled, total=total, rounds=sums, delta=delta)
        except MissingExtraError as error:
            told[records] = {"epsilon": None, "delta": delta, "missing": str(error)}
            continue
        worst[records] = max(epsilon, worst.get(records, 0.0))
        told[records] = {"epsilon": _finite(worst[records]), "delta": delta, "noise_multiplier": noise_multiplier}
    return told


def _privacy(trace: sqlite3.Connection, workload: str) -> dict[str, Any] | None:
    row = trace.execute("SELECT epsilon, released, num_values, rounds FROM releases WHERE workload = ?", (workload,)).fetchone()
    if row is None:
        return None
    epsilon, released, num_values, rounds = row
    ledger = Ledger(epsilon=epsilon, released=released, num_values=num_values, rounds=rounds)
    return {
        "epsilon_of_a_release": _finite(epsilon),
        "released": released,
        "num_values": num_values,
        "rounds": rounds,
        "per_coordinate": _finite(ledger.per_coordinate),
        "whole_model_basic": _finite(ledger.basic),
        "whole_model_advanced": _finite(ledger.advanced),
        "delta": ledger.delta,
    }


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None


def _byte_fractions(trace: sqlite3.Connection, workload: str) -> dict[str, float | None]:
    (dense_bytes,) = trace.execute("SELECT dense_bytes FROM workloads WHERE workload = ?", (workload,)).fetchone()
    sent = "FROM transfers WHERE workload = ? AND kind IN ('model', 'update')"
    count, payload_bytes = trace.execute(f"SELECT count(*), total(payload_bytes) {sent}", (workload,)).fetchone()
    firsts = f"SELECT min(transfer) {sent} AND kind = 'model' GROUP BY destination"
    first_count, first_bytes = trace.execute(
        f"SELECT count(*), total(payload_bytes) FROM transfers WHERE transfer IN ({firsts})", (workload,)
    ).fetchone()
    later = count - first_count
    return {
        "byte_fraction": payload_bytes / (count * dense_bytes) if count and dense_bytes else None,
        "byte_fraction_after_first": (payload_bytes - first_bytes) / (later * dense_bytes) if later and dense_bytes else None,
    }


def _devices(trace: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    names = ("tier", "compute_s", "peak_memory_bytes", "storage_bytes", "energy_j", "bytes_up", "bytes_down")
    rows = trace.execute(
        "SELECT device, tier, busy_s, peak_memory_bytes, storage_bytes, compute_j + idle_j + transmit_j + receive_j, "
        "bytes_up, bytes_down FROM device_use ORDER BY device"
    )
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}

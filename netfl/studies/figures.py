"""The figures of a run under flat names, for tables of many runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from netfl.errors import Problem, ScenarioError
from netfl.parts import nearest
from netfl.report.reading import opened
from netfl.studies.folders import read_json

__all__ = ["figures_of", "find_figure", "flat", "time_to_accuracy"]

_TRAINING = ("accuracy", "best_accuracy", "loss", "rounds", "mean_round_s", "updates_accepted", "updates_aborted", "updates_failed")
_SERVING = (
    "requests", "answered", "p50_s", "p95_s", "p99_s", "mean_s", "missed", "miss_rate", "censored", "accuracy", "accuracy_within_deadline",
    "dropped", "rejected", "failovers", "failover_s", "goodput_per_s", "energy_j", "energy_per_correct_answer_j", "estimate_s",
)  # fmt: skip


def figures_of(folder: Path) -> dict[str, float | None]:
    """The figures of a finished run's folder; see `flat`.

    Raises:
        ScenarioError: no finished run is there.
    """
    found = read_json(folder / "metrics.json")
    if found is None or not found.get("success") or not isinstance(found.get("metrics"), dict):
        raise ScenarioError(Problem("expected the folder of a finished run", file=str(folder)))
    return flat(found["metrics"])


def flat(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics under flat names: `simulated_s`, `bytes`, `bytes_up`, `bytes_down`, `bytes_wasted`, `energy_j`; `device_compute_s`,
    `device_peak_memory_bytes` and `device_energy_j`, each of the device of tier `device` that has most of it; `WORKLOAD.NAME` of each
    workload; `trained_clients`, `reused_clients` and `host_s`.

    Args:
        metrics: of a run, as in `metrics.json`.
    """
    found: dict[str, float | None] = {
        "simulated_s": metrics["simulated_s"],
        "bytes": metrics["bytes"]["total"],
        "bytes_up": metrics["bytes"]["up"],
        "bytes_down": metrics["bytes"]["down"],
        "bytes_wasted": metrics["bytes"]["wasted"],
        "energy_j": metrics["energy_j"]["total"],
    }
    ends = [each for each in metrics["devices"].values() if each["tier"] == "device"]
    found |= {f"device_{key}": max((each[key] for each in ends), default=None) for key in ("compute_s", "peak_memory_bytes", "energy_j")}
    for name, one in metrics["training"].items():
        found |= {f"{name}.{key}": one.get(key) for key in _TRAINING}
        found |= {f"{name}.time_to_accuracy_{level}_s": value for level, value in one["time_to_accuracy_s"].items()}
    for name, one in metrics["serving"].items():
        found |= {f"{name}.{key}": one.get(key) for key in _SERVING}
    found |= {key: metrics["work"][key] for key in ("trained_clients", "reused_clients")}
    found["host_s"] = metrics["host_s"]
    return found


def find_figure(name: str, known: Iterable[str]) -> str:
    """The full name that a name stands for: itself, or the only one that ends in it; accuracy alone is of training.

    Raises:
        ScenarioError: none, or several.
    """
    names = list(known)
    if name in names:
        return name
    ends = [each for each in names if each.endswith("." + name)]
    if name == "accuracy" and len(ends) > 1:
        ends = [each for each in ends if each.rpartition(".")[0] + ".best_accuracy" in names] or ends
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ScenarioError(Problem(f"'{name}' could be {' or '.join(ends)}", file="--metric"))
    hint = nearest(name, [*names, *(each.rpartition(".")[2] for each in names)]) or f"there are: {', '.join(names)}"
    raise ScenarioError(Problem(f"no figure '{name}'", file="--metric", hint=hint))


def time_to_accuracy(folder: Path, level: float, workload: str | None = None) -> float | None:
    """When the first global model of at least that accuracy came to be, in simulated seconds; None if none did.

    Args:
        folder: of a run.
        level: the accuracy.
        workload: whose models; None takes any.
    """
    with opened(folder / "run.db") as trace:
        query = "SELECT min(time_s) FROM evaluations WHERE accuracy >= ?"
        given: tuple[Any, ...] = (level,)
        if workload is not None:
            query, given = query + " AND workload = ?", (level, workload)
        try:
            found: float | None = trace.execute(query, given).fetchone()[0]
        except sqlite3.Error as error:
            raise ScenarioError(Problem(f"its trace cannot be read: {error}", file=str(folder))) from None
    return found

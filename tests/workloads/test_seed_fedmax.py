"""FedMAX in whole runs: what it sends, and that it is FedAvg without its penalty. Its penalty's tests are in tests/learning."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from netfl import run
from tests.workloads.small import training_only

SETTINGS = {"epochs": 2, "batch_size": 10, "learning_rate": 0.05}


def rounds_of(folder: Path, **trainer: Any) -> tuple[Any, Any]:
    """Transfers and evaluations of a run on two shards a client."""
    scenario = training_only(data__partition={"kind": "shards", "shards_per_client": 2}, training__trainer={**SETTINGS, **trainer})
    run(scenario, output=folder)
    with sqlite3.connect(folder / "run.db") as trace:
        transfers = trace.execute(
            "SELECT transfer, kind, label, source, destination, payload_bytes, sent_bytes, start_s, end_s FROM transfers ORDER BY transfer"
        ).fetchall()
        return transfers, trace.execute("SELECT version, time_s, accuracy, loss FROM evaluations ORDER BY version").fetchall()


def test_beta_0_is_bit_identical_to_fedavg(tmp_path: Path) -> None:
    plain = rounds_of(tmp_path / "avg", kind="sgd")
    assert rounds_of(tmp_path / "zero", kind="fedmax", beta=0.0) == plain
    assert rounds_of(tmp_path / "max", kind="fedmax", beta=3.0)[1] != plain[1]


def test_traffic_per_round_is_identical_to_fedavgs(tmp_path: Path) -> None:
    assert rounds_of(tmp_path / "max", kind="fedmax", beta=3.0)[0] == rounds_of(tmp_path / "avg", kind="sgd")[0]

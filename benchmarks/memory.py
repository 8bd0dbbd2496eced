"""Memory over the rounds: many clients, of whom a thousand train in a round.

    python benchmarks/memory.py [--clients 100000] [--per-round 1000] [--rounds 60] [--uplink topk] [--json]

A star of devices on which an MLP 64-64-10 is trained (digits, drawn with replacement, five samples a client), by `netfl.run` into a
folder with a store of its own, once cold and once warm in the same process. A line is a tenth of the run: the process's resident
memory, how many recipes are alive, and the seconds since the line before.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import netfl
from netfl.learning.data import Digits
from netfl.randomness import Streams
from netfl.store import Disk, Recipe, Store

UPLINKS = {"none": [], "topk": [{"kind": "topk", "fraction": 0.1}, {"kind": "quantize", "bits": 8}]}
SAMPLES_PER_CLIENT = 5


def resident_bytes() -> int:
    """Memory of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status names no VmRSS")


def scenario_of(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    nodes = f"node-{{1..{arguments.clients}}}"
    return {
        "schema": 1,
        "name": "memory",
        "seed": 1,
        "topology": {
            "schema": 1,
            "name": "star",
            "devices": {"server": {"profile": "edge-server", "tier": "cloud"}, nodes: {"profile": "esp32-s3"}},
            "links": {f"{nodes}-link": {"between": [nodes, "server"], "rate": "10 Mbit/s", "latency": "10 ms"}},
        },
        "data": {"source": {"kind": "npz", "path": str(data)}, "partition": {"kind": "iid"}},
        "model": {"kind": "mlp", "hidden": [64]},
        "workloads": {
            "training": {
                "kind": "synchronous",
                "server": "server",
                "rounds": arguments.rounds,
                "clients_per_round": arguments.per_round,
                "uplink": UPLINKS[arguments.uplink],
                "evaluate_every": max(1, arguments.rounds // 10),
                "trainer": {"kind": "sgd", "epochs": 1, "batch_size": 10, "learning_rate": 0.1},
            }
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--per-round", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--uplink", choices=sorted(UPLINKS), default="none", help="topk leaves every client a residual")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        digits, generator = Digits().load(Streams(seed=1).stream("data")), np.random.default_rng(1)
        drawn = generator.integers(0, len(digits.train_labels), arguments.clients * SAMPLES_PER_CLIENT)
        np.savez(
            path,
            train_inputs=digits.train_inputs[drawn],
            train_labels=digits.train_labels[drawn],
            test_inputs=digits.test_inputs,
            test_labels=digits.test_labels,
        )
        for run in ("cold", "warm"):
            begin = time.perf_counter()

            def look(progress: Any, run: str = run) -> None:
                nonlocal begin
                seconds = time.perf_counter() - begin
                recipes = sum(isinstance(each, Recipe) for each in gc.get_objects())
                row = {"case": f"{run}, round {progress.round}", "resident_bytes": resident_bytes(), "recipes": recipes, "seconds": seconds}
                rows.append(row)
                if not arguments.json:
                    print(f"{row['case']:<18} {row['resident_bytes'] / 1e6:8.0f} MB {recipes:8d} recipes {seconds:7.2f} s", flush=True)
                begin = time.perf_counter()

            store = Store(disk=Disk(Path(folder) / "store"))
            done = netfl.run(scenario_of(arguments, path), output=Path(folder) / run, store=store, on_progress=look)
            store.close()
            if not arguments.json:
                print(f"{run}: {done.metrics['work']}")
    if arguments.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()

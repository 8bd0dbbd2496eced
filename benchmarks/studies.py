"""What a what-if costs, and what the trace costs.

    python benchmarks/studies.py [--json] [--pairs N] [--rows N]

- `what-if / learning off`: a finished synchronous run without deadline, again with another rate of the shared link, against the same
  simulation with learning switched off: every value that the run asks for is handed back from a list, nothing is hashed, looked up or
  kept. The target is a ratio (baseline / netfl) of at least 1 / 1.5.
- `what-if / cold`: LeNet on 28 x 28 images, from an empty store against the same what-if. Start-up (imports) is excluded; reading the
  images is not. The target is 20.
- `trace / bulk insert`: so many transfer rows through the trace, digest included, against one `executemany` of the same rows into a
  bare SQLite file with the same pragmas. The target is a ratio of at least 1 / 3.

Seconds are of CPU time in this process; netfl and baseline take turns, and figures are medians over the pairs.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from netfl.learning import values
from netfl.scenario import load
from netfl.store import Disk, Recipe, Store
from netfl.studies import run_loaded
from netfl.trace import Trace, Transfer

ROOT = Path(__file__).parents[1]


def scenario(images: Path, *, clients: int, per_round: int, rounds: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "what-if",
        "seed": 2,
        "topology": {"generate": "star", "devices": clients},
        "data": {"source": {"kind": "mnist", "path": str(images)}},
        "model": {"kind": "lenet"},
        "workloads": {
            "training": {
                "kind": "synchronous",
                "rounds": rounds,
                "clients_per_round": per_round,
                "trainer": {"kind": "sgd", "epochs": 2, "batch_size": 20, "learning_rate": 0.05},
                "uplink": [{"kind": "topk", "fraction": 0.1}, {"kind": "quantize", "bits": 8}],
            }
        },
    }


def write_images(folder: Path, train: int, test: int) -> None:
    """The four IDX files of made-up 28 x 28 images: ten random patterns, with noise."""
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 200, (10, 28, 28))
    for name, count in (("train", train), ("t10k", test)):
        labels = generator.integers(0, 10, count)
        pixels = np.clip(patterns[labels] + generator.integers(0, 56, (count, 28, 28)), 0, 255).astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.astype(np.uint8).tobytes())


def cpu_s(call: Callable[[], Any]) -> float:
    started_s = time.process_time()
    call()
    return time.process_time() - started_s


# --- learning switched off --------------------------------------------------------------------------------------------------


class Recording(Store):
    """Notes what it is asked for."""

    def __init__(self, disk: Disk, into: list[Any]) -> None:
        super().__init__(disk=disk)
        self._into = into

    def force_all(self, wanted: Sequence[Recipe], beside: Sequence[Recipe] = ()) -> list[Any]:
        found = super().force_all(wanted, beside)
        self._into.extend(found)
        return found


class Off(Store):
    """Hands back what was noted, in its order."""

    def __init__(self, noted: list[Any]) -> None:
        super().__init__()
        self._noted = iter(noted)

    def force_all(self, wanted: Sequence[Recipe], beside: Sequence[Recipe] = ()) -> list[Any]:
        return [next(self._noted) for _ in wanted]

    def announce(self, recipes: Any) -> None:
        pass

    withdraw = settle = announce


@contextmanager
def no_recipes() -> Iterator[None]:
    """Recipes of learning that are all one and the same, so that making one costs a call."""
    before = values.recipe
    nothing = before(values._DATASET)
    values.recipe = lambda function, *arguments: nothing
    try:
        yield
    finally:
        values.recipe = before


def what_if(folder: Path, pairs: int) -> list[dict[str, Any]]:
    images = folder / "images"
    images.mkdir()
    write_images(images, 6000, 1000)
    found = []
    for name, shape in (("20 clients, 10 a round, 10 rounds", (20, 10, 10)), ("200 clients, 50 a round, 20 rounds", (200, 50, 20))):
        clients, per_round, rounds = shape
        store = folder / f"store-{clients}"
        plain = scenario(images, clients=clients, per_round=per_round, rounds=rounds)
        cold = load(plain)
        run_loaded(load({**plain, "workloads": {"training": {**plain["workloads"]["training"], "rounds": 1}}}), store=Store())  # imports
        cold_s = cpu_s(lambda cold=cold, store=store: run_loaded(cold, store=fresh(store)))
        other = load(plain, {"topology.link": {"rate": "3 Mbit/s", "latency": "20 ms"}})
        noted: list[Any] = []
        first = run_loaded(other, store=Recording(Disk(store), noted))
        assert first.metrics["work"]["trained_clients"] == 0, "a network-only what-if trained"
        off, on = [], []
        for _ in range(pairs):
            with no_recipes():
                off.append(cpu_s(lambda noted=noted, other=other: run_loaded(other, store=Off(noted))))
            on.append(cpu_s(lambda other=other, store=store: run_loaded(other, store=fresh(store))))
        found.append(row(f"what-if / learning off: {name}", "learning off", on, off))
        found.append(row(f"what-if / cold: {name}", "cold run", on, [cold_s]))
    return found


def fresh(folder: Path) -> Store:
    """A store with nothing in memory."""
    return Store(disk=Disk(folder))


def trace(folder: Path, rows: int, pairs: int) -> list[dict[str, Any]]:
    """Rows like those of a run: few names, many numbers."""
    names = [f"device-{number}" for number in range(100)]
    many = [
        (
            number, "training", "update", f"round {number // 100}", names[number % 100], "cloud", f"{names[number % 100]}>access-point>cloud",
            25_000, 0.013 * number, 0.013 * number + 1.7, "delivered", 1, 26_000, 0, 0.02, 0.0,
        )
        for number in range(rows)
    ]  # fmt: skip
    kinds = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}
    columns = ", ".join(f'"{field.name}" {kinds[str(field.type)]} NOT NULL' for field in fields(Transfer))
    ours, bare = [], []
    for pair in range(pairs):

        def through_trace(pair: int = pair) -> None:
            written = Trace(folder / f"trace-{pair}.db")
            for values_of_row in many:
                written.append_values(Transfer, values_of_row)
            written.digest()
            written.close()

        def bulk(pair: int = pair) -> None:
            connection = sqlite3.connect(folder / f"bulk-{pair}.db")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(f"CREATE TABLE transfers ({columns})")
            with connection:
                connection.executemany(f"INSERT INTO transfers VALUES ({', '.join('?' * 16)})", many)
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.close()

        bare.append(cpu_s(bulk))
        ours.append(cpu_s(through_trace))
        for path in folder.glob("*-*.db"):
            path.unlink()
    return [row(f"trace / bulk insert: {rows:,} rows", "bare SQLite", ours, bare)]


def row(case: str, baseline: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    netfl_s, baseline_s = statistics.median(ours), statistics.median(theirs)
    return {"case": case, "baseline": baseline, "ratio": baseline_s / netfl_s, "netfl_s": netfl_s, "baseline_s": baseline_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=500_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = [*what_if(Path(name), options.pairs), *trace(Path(name), options.rows, options.pairs)]
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for each in found:
        print(f"{each['case']}: {each['netfl_s']:.3f} s, {each['baseline']} {each['baseline_s']:.3f} s, ratio {each['ratio']:.2f}")


if __name__ == "__main__":
    main()

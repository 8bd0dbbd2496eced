"""Kills a run with SIGKILL at random moments, starts the same command again, and says what was lost.

    python benchmarks/kills.py                 # twenty kills, about ten minutes
    python benchmarks/kills.py --epochs 5      # the same with so little training that 30 rounds of it take two seconds in all
    python benchmarks/kills.py --kills 3 --json

Every kill begins with an empty store and an empty folder. The moment is uniform over what an undisturbed run takes from its start to
its end; start-up (imports, data) is part of it, so some kills come before the first round. Finished before: clients trained in rounds
that the killed run had logged. Again: finished before + trained after the kill - trained by the undisturbed run. The results of the
second run must equal the undisturbed run's in everything but `host_s` and `work`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def scenario(rounds: int, epochs: int) -> dict[str, Any]:
    """Ten of twenty devices train a LeNet-sized network on digits, an eighth of a second a round or more; a deadline and error feedback."""
    return {
        "schema": 1,
        "name": "kills",
        "seed": 3,
        "topology": str(ROOT / "topologies" / "star.yaml"),
        "data": {"source": "digits", "partition": {"kind": "dirichlet", "alpha": 0.5}},
        "model": {"kind": "cnn", "channels": [8, 32, 64]},
        "workloads": {
            "training": {
                "kind": "synchronous",
                "rounds": rounds,
                "clients_per_round": 10,
                "over_selection": 1.2,
                "deadline": "60 s",
                "trainer": {"kind": "sgd", "epochs": epochs, "batch_size": 16, "learning_rate": 0.05},
                "uplink": [{"kind": "topk", "fraction": 0.1}, {"kind": "quantize", "bits": 8}],
            }
        },
    }


@dataclass(frozen=True)
class Kill:
    """One kill and the run after it.

    Args:
        moment_s: when, from the start of the process.
        rounds: which the killed run had logged.
        finished_before: clients trained in them.
        trained_after: by the second run.
        again: of those, already trained before.
        is_equal: whether the results are the undisturbed run's.
    """

    moment_s: float
    rounds: int
    finished_before: int
    trained_after: int
    again: int
    is_equal: bool

    @property
    def share_again(self) -> float:
        """Part of the finished training that was done again."""
        return self.again / self.finished_before if self.finished_before else 0.0


def kills(number: int, folder: Path, *, rounds: int = 30, epochs: int = 30, seed: int = 1) -> Iterator[Kill]:
    """Kill so many runs, one after the other; raises if a run fails."""
    file = folder / "kills.json"
    file.write_text(json.dumps(scenario(rounds, epochs)))
    started_s = time.monotonic()
    whole = _finish(file, folder / "undisturbed", folder / "store")
    takes_s = time.monotonic() - started_s
    per_round = whole["work"]["trained_clients"] / rounds
    moments = random.Random(seed)
    killed = 0
    for index in itertools.count():
        if killed == number:
            return
        out, store = folder / f"killed-{index}", folder / f"store-{index}"
        moment_s = moments.uniform(0, takes_s)
        with subprocess.Popen(
            _command(file, out), env=_environment(store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(moment_s)
            process.kill()
        log = out / "log.txt"
        logged = max((int(each) for each in re.findall(r"round (\d+) of", log.read_text() if log.exists() else "")), default=0)
        if (out / "run.json").exists() and json.loads((out / "run.json").read_text())["status"] == "finished":
            continue  # it was faster than the undisturbed one: nothing was killed, another moment is drawn
        killed += 1
        after = _finish(file, out, store)
        before = round(logged * per_round)
        again = max(before + after["work"]["trained_clients"] - whole["work"]["trained_clients"], 0)
        yield Kill(moment_s, logged, before, after["work"]["trained_clients"], again, _results(after) == _results(whole))


def _results(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key not in ("host_s", "work")}


def _command(file: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "netfl", "run", str(file), "-o", str(out), "--json", "-q"]


def _environment(store: Path) -> dict[str, str]:
    return os.environ | {"NETFL_STORE": str(store), "NETFL_WORKERS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def _finish(file: Path, out: Path, store: Path) -> dict[str, Any]:
    done = subprocess.run(_command(file, out), env=_environment(store), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr or done.stdout}")
    metrics: dict[str, Any] = json.loads(done.stdout)["metrics"]
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=30, help="of a client in a round; default 30")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    if not options.json:
        print("killed after   round   trained before   trained after   again   results")
    with tempfile.TemporaryDirectory() as folder:
        for each in kills(options.kills, Path(folder), epochs=options.epochs):
            found.append(each)
            if not options.json:
                verdict = "equal" if each.is_equal else "DIFFERENT"
                print(
                    f"{each.moment_s:10.2f} s {each.rounds:7d} {each.finished_before:16d} {each.trained_after:15d} "
                    f"{each.again:4d} {100 * each.share_again:3.0f} % {verdict}",
                    flush=True,
                )
    if options.json:
        print(json.dumps([{**asdict(each), "share_again": each.share_again} for each in found], indent=2))
        return
    before, again = sum(each.finished_before for each in found), sum(each.again for each in found)
    print(f"{len(found)} kills: {again} of {before} finished trainings done again, {100 * again / max(before, 1):.1f} %")


if __name__ == "__main__":
    main()

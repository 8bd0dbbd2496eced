"""Laws of whole runs: bytes are conserved, equal runs have equal digests, workloads that share a network feel each other."""

import gc
import json
import os
import sqlite3
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.scenario import load, to_yaml
from netfl.store import Store
from netfl.world import World
from tests.workloads.small import small, training_only

ROOT = Path(__file__).parents[2]


def stormy() -> dict[str, Any]:
    """Outages, deadlines, over-selection, retries from the start and an end in the middle of things."""
    scenario = small(
        training__rounds=20, training__over_selection=1.3, training__deadline="0.4 s", serving__placement={"kind": "upload"},
        serving__arrivals={"kind": "poisson", "rate": "10 per s"}, stop={"after": "6 s"},
        network={"kind": "fluid", "timeout": "0.3 s", "attempts": 2, "wait": "0.1 s", "on_failure": "restart"},
    )  # fmt: skip
    scenario["topology"]["devices"]["node-{1..4}"]["outages"] = {"kind": "exponential", "mean_up": "2 s", "mean_down": "0.3 s"}
    scenario["topology"]["links"]["trunk"]["outages"] = {"kind": "exponential", "mean_up": "3 s", "mean_down": "0.2 s"}
    return scenario


@pytest.mark.parametrize("seed", range(3))
def test_bytes_sent_are_delivered_or_wasted_or_in_flight(tmp_path: Path, seed: int) -> None:
    run(stormy(), seed=seed, output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        per_link = connection.execute(
            "SELECT link, source, kind, sent_bytes, delivered_bytes, wasted_bytes, in_flight_bytes FROM link_use"
        ).fetchall()
        outcomes = dict(connection.execute("SELECT outcome, count(*) FROM transfers GROUP BY 1").fetchall())
        delivered = connection.execute("SELECT sum(payload_bytes) FROM transfers WHERE outcome = 'delivered'").fetchone()[0]
        first_hops = connection.execute("SELECT sum(bytes_down) FROM device_use").fetchone()[0]
    assert outcomes.keys() >= {"delivered", "aborted", "in_flight"}
    for link, source, kind, sent, arrived, wasted, in_flight in per_link:
        assert sent == arrived + wasted + in_flight, (link, source, kind)
    assert delivered == first_hops
    assert sum(row[5] for row in per_link) > 0
    assert sum(row[6] for row in per_link) > 0


@pytest.mark.parametrize("seed", range(2))
def test_no_device_spends_more_than_its_battery_and_harvest(tmp_path: Path, seed: int) -> None:
    scenario = stormy()
    # esp32-s3: 0.1 W at idle. Empty after seconds, and back after two.
    battery = {"capacity": "0.4 J", "harvest": "30 mW", "restart": 0.15}
    scenario["topology"]["devices"]["node-{1..4}"]["battery"] = battery
    run(scenario, seed=seed, output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        spent = connection.execute(
            "SELECT device, compute_j + idle_j + transmit_j + receive_j FROM device_use WHERE tier = 'device' AND device LIKE 'node-%'"
        ).fetchall()
        reasons = dict(connection.execute("SELECT reason, count(*) FROM outages GROUP BY 1").fetchall())
        (end_s,) = connection.execute("SELECT simulated_s FROM run_end").fetchone()
        per_link = connection.execute("SELECT sent_bytes, delivered_bytes + wasted_bytes + in_flight_bytes FROM link_use").fetchall()
    assert len(spent) == 4
    for device, joules in spent:
        assert joules <= 0.4 + 0.03 * end_s + 1e-9, device
    assert reasons["battery"] >= 4
    assert reasons["outage"] > 0
    assert all(sent == rest for sent, rest in per_link)


def test_a_run_ends_when_all_batteries_are_empty(tmp_path: Path) -> None:
    scenario = training_only(training__rounds=1000)
    scenario["topology"]["devices"]["node-{1..4}"]["battery"] = {"capacity": "0.5 J"}
    run(scenario, output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        assert connection.execute("SELECT reason FROM run_end").fetchone() == ("nothing can happen any more",)
        assert connection.execute("SELECT count(*) FROM outages WHERE reason = 'battery'").fetchone() == (4,)


_DIGEST = """
import json, sys
from netfl import run
print(run(json.loads(sys.argv[1])).metrics["trace_digest"])
"""


def test_two_processes_with_different_hash_seeds_have_equal_digests() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _DIGEST, json.dumps(stormy())], capture_output=True, text=True, check=True, cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert digests == {run(stormy()).metrics["trace_digest"]}


def test_a_resolved_scenario_runs_to_the_same_digest() -> None:
    import yaml

    again = yaml.safe_load(to_yaml(load(small()).scenario))
    assert run(again).metrics["trace_digest"] == run(small()).metrics["trace_digest"]


def test_a_shared_store_changes_no_digest_and_trains_nobody_again() -> None:
    store = Store()
    first, second = run(training_only(), store=store).metrics, run(training_only(), store=store).metrics
    assert first["trace_digest"] == second["trace_digest"]
    assert (first["work"]["trained_clients"], second["work"]["trained_clients"]) == (9, 0)


def test_a_run_that_is_over_holds_no_memory() -> None:
    def alive() -> list[Any]:
        return [each for each in gc.get_objects() if type(each) in (World, Store)]

    before = alive()  # those of fixtures
    gc.disable()
    try:
        run(training_only(), store=Store())
        assert [each for each in alive() if not any(each is other for other in before)] == []
    finally:
        gc.enable()


def test_seeds_and_replicates_differ() -> None:
    digests = {
        run(training_only(training__rounds=1, seed=seed, replicate=replicate)).metrics["trace_digest"]
        for seed, replicate in ((1, 0), (2, 0), (1, 1))
    }
    assert len(digests) == 3


def test_what_is_named_shifts_nothing_else(tmp_path: Path) -> None:
    """Another codec changes no arrival, no selection and no sample: streams are picked by name."""
    found = []
    for index, bits in enumerate((8, 4)):
        folder = tmp_path / str(index)
        run(small(training__uplink=[{"kind": "quantize", "bits": bits}], stop={"after": "1 s"}), output=folder)
        with sqlite3.connect(folder / "run.db") as connection:
            found.append(connection.execute("SELECT device, sample, arrival_s FROM requests ORDER BY arrival_s").fetchall())
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def ratios() -> list[tuple[float, float]]:
    """For each of five replicates of the joint scenario, six rounds long: (p95 with training / without, round with requests / without)."""
    base = load(ROOT / "scenarios" / "smart-building.yaml").scenario
    import yaml

    plain = yaml.safe_load(to_yaml(base))
    plain["workloads"]["training"].update(rounds=6, evaluate_every=6)
    plain["stop"] = {"after": "1 h"}
    found = []
    for replicate in range(5):
        store = Store()
        plain["replicate"] = replicate
        workloads = plain["workloads"]
        joint = run({**plain, "workloads": workloads}, store=store).metrics
        training = run({**plain, "workloads": {"training": workloads["training"]}}, store=store).metrics
        serving = {key: value for key, value in workloads["serving"].items() if key != "model"}
        serving["pretrained"] = {"kind": "sgd", "learning_rate": 0.1}
        alone = run({**plain, "workloads": {"serving": serving}, "stop": {"after": f"{joint['simulated_s']} s"}}, store=store).metrics
        found.append(
            (
                joint["serving"]["serving"]["p95_s"] / alone["serving"]["serving"]["p95_s"],
                joint["training"]["training"]["mean_round_s"] / training["training"]["training"]["mean_round_s"],
            )
        )
    return found


@pytest.mark.parametrize(("index", "least"), [(0, 1.5), (1, 1.1)], ids=["requests feel training", "rounds feel requests"])
def test_the_joint_scenario_shows_the_coupling(ratios: list[tuple[float, float]], index: int, least: float) -> None:
    """Paired over five replicates, with a 95 % interval (Student's t, 4 degrees of freedom: 2.776) that excludes 1."""
    found = [each[index] for each in ratios]
    mean = statistics.fmean(found)
    half_width = 2.776 * statistics.stdev(found) / len(found) ** 0.5
    assert mean >= least, found
    assert mean - half_width > 1, found

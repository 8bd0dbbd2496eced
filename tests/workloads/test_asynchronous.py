"""Training without rounds, on the simulated clock."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import ScenarioError
from tests.workloads.small import training_only

STAR = {
    "schema": 1,
    "name": "star",
    "devices": {"cloud": {"profile": "edge-server", "tier": "cloud"}, "node-{1..4}": {"profile": "esp32-s3"}},
    "links": {"node-{1..4}-link": {"between": ["node-{1..4}", "cloud"], "rate": "1 Mbit/s", "latency": "5 ms"}},
}


def continuous(kind: str, **settings: Any) -> dict[str, Any]:
    scenario = training_only()
    training = scenario["workloads"]["training"]
    del training["clients_per_round"]
    training.update({"kind": kind, "concurrency": 4, **settings})
    return scenario


def equal_clients(scenario: dict[str, Any]) -> dict[str, Any]:
    """Two clients with links of their own and 719 of the 1438 training samples each: they arrive at the same instant."""
    scenario["topology"] = STAR
    scenario["data"]["partition"] = {"kind": "iid"}
    scenario["workloads"]["training"]["clients"] = ["node-1", "node-2"]
    return scenario


def figures(scenario: dict[str, Any], **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = run(scenario, **options).metrics
    return found


def test_a_full_buffer_of_equal_clients_is_federated_averaging() -> None:
    found = figures(equal_clients(continuous("buffered", concurrency=2, buffer=2)))
    expected = figures(equal_clients(training_only(training__clients_per_round=2)))
    assert found["training"]["training"]["accuracy"] == expected["training"]["training"]["accuracy"]
    assert found["training"]["training"]["loss"] == pytest.approx(expected["training"]["training"]["loss"], rel=1e-6)


def test_one_client_that_is_mixed_in_whole_is_plain_federated_averaging_with_one() -> None:
    found = figures(continuous("asynchronous", clients=["node-1"], concurrency=1, mixing=1.0))
    expected = figures(training_only(training__clients=["node-1"], training__clients_per_round=1))
    assert found["simulated_s"] == pytest.approx(expected["simulated_s"], abs=1e-9)
    assert found["training"]["training"]["loss"] == pytest.approx(expected["training"]["training"]["loss"], rel=1e-5)


def test_each_update_makes_a_version_and_ages_the_others(tmp_path: Path) -> None:
    run(continuous("asynchronous", rounds=12, delay={"kind": "exponential", "mean": "2 s"}), output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        rounds = connection.execute("SELECT round, accepted, version, start_s, end_s FROM rounds ORDER BY round").fetchall()
        ((started,),) = connection.execute("SELECT count(*) FROM transfers WHERE kind = 'model'").fetchall()
    assert [(number, accepted, version) for number, accepted, version, _, _ in rounds] == [(i, 1, i) for i in range(1, 13)]
    assert all(before[4] == after[3] for before, after in zip(rounds, rounds[1:], strict=False))
    # Four begin at once, and one more whenever one has arrived and was mixed in; nobody begins after the twelfth.
    assert started == 4 + 11


def test_updates_of_old_models_are_dropped() -> None:
    delay = {"kind": "exponential", "mean": "2 s"}
    strict = figures(continuous("asynchronous", rounds=12, delay=delay, max_staleness=0))["training"]["training"]
    # Of those that begin together only the first is fresh when it arrives.
    assert strict["updates_aborted"] >= 3
    assert figures(continuous("asynchronous", rounds=12, delay=delay))["training"]["training"]["updates_aborted"] == 0


@pytest.mark.parametrize("kind", ["asynchronous", "buffered"])
def test_coded_both_ways_it_still_learns(kind: str) -> None:
    coded = continuous(
        kind,
        rounds=40,
        concurrency=2,
        uplink=[{"kind": "topk", "fraction": 0.1}, {"kind": "quantize", "bits": 8}],
        downlink=[{"kind": "topk", "fraction": 0.2}],
        **({"buffer": 2} if kind == "buffered" else {}),
    )
    assert figures(coded)["training"]["training"]["accuracy"] > 0.8


@pytest.mark.parametrize("kind", ["asynchronous", "buffered"])
def test_stragglers_do_not_hold_it_up(kind: str) -> None:
    """With half-normal delays it reaches an accuracy sooner than rounds that wait for the slowest."""
    delay = {"kind": "half_normal", "scale": "30 s"}
    more = {"buffer": 2, "rounds": 60} if kind == "buffered" else {"rounds": 120}
    waiting = training_only(training__clients_per_round=4, training__rounds=40, training__delay=delay, stop={"accuracy": 0.8})
    without = {**continuous(kind, delay=delay, **more), "stop": {"accuracy": 0.8}}
    times = [figures(each)["training"]["training"]["time_to_accuracy_s"]["0.8"] for each in (without, waiting)]
    assert times[0] < times[1]


def test_clients_come_and_go(tmp_path: Path) -> None:
    scenario = continuous("buffered", rounds=10, buffer=2, delay={"kind": "exponential", "mean": "5 s"})
    outages = {"kind": "exponential", "mean_up": "60 s", "mean_down": "20 s"}
    scenario["topology"]["devices"]["node-{1..4}"]["outages"] = outages
    scenario["network"] = {"kind": "fluid", "timeout": "5 s"}
    found = figures(scenario)["training"]["training"]
    assert found["rounds"] == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "buffered", "buffer": 2, "concurrency": 5}, "at most the number of clients, 4"),
        ({"kind": "buffered", "buffer": 2, "aggregator": {"kind": "krum", "wrong": 1}}, "needs at least"),
        ({"kind": "buffered", "buffer": 2, "aggregator": "scaffold"}, "control variates"),
        ({"kind": "asynchronous", "mixing": 1.5}, "mixing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        run(continuous(**settings))

"""Hierarchical training on the simulated clock."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import ScenarioError
from netfl.network.topology import Link, Site, Topology
from netfl.workloads.hierarchical import nearest_hubs
from tests.workloads.small import training_only


def hierarchical(**settings: Any) -> dict[str, Any]:
    scenario = training_only()
    training = scenario["workloads"]["training"]
    del training["clients_per_round"]
    training.update({"kind": "hierarchical", "levels": [{"devices": ["gateway"]}], **settings})
    return scenario


def test_one_hub_that_aggregates_once_is_federated_averaging() -> None:
    found = run(hierarchical()).metrics["training"]["training"]
    expected = run(training_only(training__clients_per_round=4)).metrics["training"]["training"]
    # The same clients, streams and weights; the gateway's mean is rounded to float32 once more.
    assert found["accuracy"] == expected["accuracy"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_messages_and_rounds_of_each_level(tmp_path: Path) -> None:
    run(hierarchical(levels=[{"devices": ["gateway"], "rounds": 2}], rounds=1), output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        counts = connection.execute(
            "SELECT kind, source = 'cloud' OR destination = 'cloud', label, count(*) FROM transfers GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ).fetchall()
        aggregations = connection.execute("SELECT device, label FROM computations WHERE kind = 'aggregation' ORDER BY end_s").fetchall()
        rounds = connection.execute("SELECT round, selected, accepted FROM rounds").fetchall()
    # Two rounds of four devices behind the gateway, then one message of the gateway each way.
    assert counts == [
        ("model", 0, "gateway round 1", 4), ("model", 0, "gateway round 2", 4), ("model", 1, "round 1", 1),
        ("update", 0, "gateway round 1", 4), ("update", 0, "gateway round 2", 4), ("update", 1, "round 1", 1),
    ]  # fmt: skip
    assert aggregations == [("gateway", "gateway round 1"), ("gateway", "gateway round 2"), ("cloud", "round 1")]
    assert rounds == [(1, 1, 1)]


def test_more_rounds_below_learn_more_for_the_same_bytes_above() -> None:
    once, thrice = (run(hierarchical(levels=[{"devices": ["gateway"], "rounds": rounds}])) for rounds in (1, 3))
    assert thrice.metrics["training"]["training"]["loss"] < once.metrics["training"]["training"]["loss"] - 0.3
    trunks = [report.metrics["bytes"]["by_link"]["trunk"]["sent"] for report in (once, thrice)]
    assert trunks[0] == trunks[1]


def test_everyone_reports_to_the_nearest_hub() -> None:
    sites = [Site(name=name) for name in ("a", "b", "c", "lost", "west", "east")]
    links = [
        Link(name=f"{a}-{b}", a=a, b=b, up_bps=1e6, down_bps=1e6, latency_s=latency_s)
        for a, b, latency_s in [("a", "west", 0.01), ("b", "west", 0.02), ("b", "east", 0.01), ("c", "west", 0.01), ("c", "east", 0.01)]
    ]
    # c is as near to both: the first by name has it. No link leads to 'lost'.
    assert nearest_hubs(Topology(sites, links, []), ["a", "b", "c", "lost"], ["west", "east"]) == {"a": "west", "b": "east", "c": "east"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": [{"devices": ["gatewy"]}]}, "no device matches 'gatewy'"),
        ({"levels": [{"devices": ["node-1"]}]}, "'node-1' has another part"),
        ({"levels": [{"devices": ["cloud"]}]}, "'cloud' has another part"),
        ({"levels": []}, "levels"),
        ({"levels": [{"devices": ["gateway"], "rounds": 0}]}, "rounds"),
    ],
)
def test_levels_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        run(hierarchical(**settings))

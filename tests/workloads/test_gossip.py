"""Decentralised training on the simulated clock."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl import run
from netfl.errors import ScenarioError
from netfl.learning import values
from netfl.network.neighbours import Complete, Links, RandomRegular, Ring, metropolis
from netfl.network.topology import Link, Site, Topology
from netfl.randomness import Streams
from netfl.store import Function, Recipe, Store, recipe
from tests.workloads.small import training_only

STREAM = Streams(3).stream("graph")
EMPTY = Topology([Site(name="x")], [], [])


def gossip(**settings: Any) -> dict[str, Any]:
    scenario = training_only()
    training = scenario["workloads"]["training"]
    del training["clients_per_round"]
    training.update({"kind": "gossip", "graph": "complete", **settings})
    return scenario


def given(*numbers: float) -> Recipe:
    return recipe(Function("given", 1, lambda calls: [np.array(call, np.float32) for call in calls]), *numbers)


def test_on_a_complete_graph_everyone_gets_the_mean() -> None:
    store, vectors = Store(), {"a": given(1.0, 8.0), "b": given(4.0, -2.0), "c": given(7.0, 0.0)}
    weights = metropolis(Complete().neighbours(["a", "b", "c"], EMPTY, STREAM))
    for client, own in vectors.items():
        others = weights[client]
        mixed = store.force(values.consensus(own, own, [vectors[other] for other in others], list(others.values())))
        np.testing.assert_allclose(mixed, [4.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(store.force(values.average(list(vectors.values()))), [4.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("graph", [Ring(), Complete(), RandomRegular(degree=3)])
def test_weights_are_symmetric_and_leave_the_mean_as_it_is(graph: Any) -> None:
    names = [f"n{i}" for i in range(8)]
    neighbours = graph.neighbours(names, EMPTY, STREAM)
    weights = metropolis(neighbours)
    for name in names:
        assert neighbours[name] == sorted(set(neighbours[name]) - {name})
        assert sum(weights[name].values()) < 1
        assert all(weights[other][name] == weight for other, weight in weights[name].items())


def test_links_join_neighbours() -> None:
    sites = [Site(name=name) for name in ("a", "b", "c", "hub")]
    links = [Link(name=a + b, a=a, b=b, up_bps=1e6, down_bps=1e6) for a, b in [("a", "b"), ("b", "c"), ("c", "hub")]]
    assert Links().neighbours(["a", "b", "c"], Topology(sites, links, []), STREAM) == {"a": ["b"], "b": ["a", "c"], "c": ["b"]}


def test_a_round_by_hand(tmp_path: Path) -> None:
    """Two clients, one round: each trains and sends its 4844 bytes to the other, both over the gateway's cell."""
    run(gossip(clients=["node-1", "node-2"], rounds=1), output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        transfers = connection.execute("SELECT source, destination, payload_bytes, kind FROM transfers ORDER BY source").fetchall()
        ((end_s,),) = connection.execute("SELECT end_s FROM rounds").fetchall()
        ((last_s,),) = connection.execute("SELECT max(end_s) FROM transfers").fetchall()
    assert transfers == [("node-1", "node-2", 4844, "update"), ("node-2", "node-1", 4844, "update")]
    assert end_s == last_s


def test_a_complete_graph_learns_like_federated_averaging() -> None:
    # Equal shards, so that the samples weigh alike: IID over 4 clients deals 1437 samples as 360, 359, 359, 359.
    scenario = gossip()
    scenario["data"]["partition"] = {"kind": "iid"}
    centralised = training_only(training__clients_per_round=4)
    centralised["data"]["partition"] = {"kind": "iid"}
    found, expected = (run(each).metrics["training"]["training"] for each in (scenario, centralised))
    assert found["loss"] == pytest.approx(expected["loss"], rel=2e-3)


def test_changes_alone_are_sent_where_a_codec_leaves_values_out(tmp_path: Path) -> None:
    coded = gossip(graph="ring", codecs=[{"kind": "topk", "fraction": 0.1}], consensus=0.5, rounds=20)
    report = run(coded, output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        lengths = {length for (length,) in connection.execute("SELECT payload_bytes FROM transfers")}
    # 121 of 1210 values: 4 of count, 1210 bits (152 bytes) are shorter than 121 * 2, and 121 * 4 of values; never a dense model.
    assert lengths == {4 + 152 + 484}
    assert report.metrics["training"]["training"]["accuracy"] > 0.85


def test_patience_bounds_a_round() -> None:
    waiting = gossip(delay={"kind": "exponential", "mean": "10 s"}, graph="ring", rounds=6)
    patient = run(waiting)
    waiting["workloads"]["training"]["patience"] = "1 s"
    impatient = run(waiting)
    assert impatient.metrics["simulated_s"] < patient.metrics["simulated_s"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"graph": "links"}, "never hear of each other"),
        ({"graph": {"kind": "random_regular", "degree": 4}}, "no graph of 4 clients with 4 neighbours"),
        ({"consensus": 0}, "consensus"),
    ],
)
def test_graphs_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        run(gossip(**settings))


def test_what_private_codecs_release_to_neighbours_is_written_down(tmp_path: Path) -> None:
    """A model a round and client, to all neighbours the same bytes: two rounds are two releases of every value."""
    run(gossip(rounds=2, codecs=[{"kind": "laplace", "clip": 1.0, "epsilon": 3.0}]), output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as trace:
        rows = trace.execute("SELECT epsilon, rounds, released = num_values FROM releases").fetchall()
    assert rows == [(3.0, 2, 1)]

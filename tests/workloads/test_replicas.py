"""Requests that a chain of replicas answers, anywhere in the network."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from netfl import run
from netfl.cli.commands import cli
from netfl.errors import ScenarioError
from netfl.scenario import load
from netfl.scenario.build import prepare
from tests.workloads.small import serving_only


def replicated(replicas: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The small scenario with two edge servers behind the gateway, one of them in the sensors' own cell."""
    scenario = serving_only(
        serving__placement={"kind": "route", "replicas": replicas}, serving__sources=["node-1"],
        serving__arrivals={"kind": "poisson", "rate": "0.05 per s"}, stop={"after": "3 min"}, **changes,
    )  # fmt: skip
    topology = scenario["topology"]
    topology["devices"].update({name: {"profile": "mini-pc", "tier": "edge"} for name in ("edge-a", "edge-b")})
    topology["links"]["a"] = {"between": ["edge-a", "gateway"], "rate": "2 Mbit/s", "latency": "3 ms", "duplex": "half", "medium": "cell"}
    topology["links"]["b"] = {"between": ["edge-b", "gateway"], "rate": "50 Mbit/s", "latency": "1 ms"}
    return scenario


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def test_a_request_takes_what_the_chain_adds_up_to(tmp_path: Path) -> None:
    """Over whole routes: node-1 to edge-a crosses one cell twice, edge-a to edge-b leaves it."""
    scenario = replicated({"edge-a": [1, 3], "edge-b": [2, 5]})
    session = prepare(load(scenario)).session(None)
    workload: Any = load(scenario).scenario.workloads["serving"]
    placement = workload.first_plan(session, "node-1")
    assert (placement.devices, placement.cuts) == (("node-1", "edge-a", "edge-b"), (1, 3))
    run(scenario, output=tmp_path / "out")
    answers = rows(tmp_path / "out", "SELECT end_s - arrival_s, placement FROM requests WHERE outcome = 'answered'")
    assert len(answers) > 3
    for latency_s, described in answers:
        assert latency_s == pytest.approx(placement.estimate_s, rel=1e-9)
        assert described == "node-1:0-1 edge-a:1-3 edge-b:3-5"
    ways = set(rows(tmp_path / "out", "SELECT kind, source, destination FROM transfers WHERE workload = 'serving'"))
    assert ways == {
        ("request", "node-1", "edge-a"), ("activation", "edge-a", "edge-b"), ("reply", "edge-b", "edge-a"), ("reply", "edge-a", "node-1"),
    }  # fmt: skip


def test_the_nearest_whole_copy_is_taken_and_place_shows_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "replicas.yaml"
    path.write_text(yaml.safe_dump(replicated({"edge-a": "all", "edge-b": "all", "cloud": "all"}), sort_keys=False))
    done = CliRunner().invoke(cli, ["place", str(path), "--json"])
    assert done.exit_code == 0, done.stderr
    (group,) = json.loads(done.stdout)["groups"]
    found = {each["planner"]: each for each in group["planners"]}
    own = found["scenario: route"]
    # A reply and a request cross the cell once on their way to edge-b, and twice to edge-a.
    assert own["placement"] == "node-1:0-1 edge-b:1-5"
    assert own["simulated_s"] == pytest.approx(own["estimate_s"], rel=1e-9)
    assert "route" not in found


def test_a_replica_out_of_reach_is_a_row_of_the_comparison(tmp_path: Path) -> None:
    scenario = replicated({"edge-a": "all", "far": "all"})
    scenario["topology"]["devices"]["far"] = {"profile": "mini-pc"}
    path = tmp_path / "replicas.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False))
    done = CliRunner().invoke(cli, ["place", str(path), "--json"])
    assert done.exit_code == 0, done.stderr
    rows = {each["planner"]: each for each in json.loads(done.stdout)["groups"][0]["planners"]}
    assert "replica 'far' cannot be reached from 'node-1'" in rows["scenario: route"]["error"]
    assert rows["milp"]["error"] is None


def test_new_models_are_sent_to_the_replicas_in_use(tmp_path: Path) -> None:
    from tests.workloads.small import small

    scenario = replicated({"edge-a": [1, 3], "edge-b": [2, 5]})
    scenario["workloads"] = small(serving__placement=scenario["workloads"]["serving"]["placement"])["workloads"]
    run(scenario, output=tmp_path / "out")
    sent = rows(tmp_path / "out", "SELECT DISTINCT destination FROM transfers WHERE workload = 'serving' AND kind = 'model' ORDER BY 1")
    assert sent == [("edge-a",), ("edge-b",)]


@pytest.mark.parametrize(
    ("replicas", "message"),
    [
        ({"edge-c": "all"}, "did you mean 'edge-"),
        ({"edge-a": [1, 3]}, "no replica holds node 3 ('_2') of 5"),
        ({"edge-a": [3, 1]}, "expected 'edge-a' with [first node, node behind the last] or all, got [3, 1]"),
        ({"edge-a": "all", "far": "all"}, "replica 'far' cannot be reached from 'node-1': no path of links joins 'node-1' and 'far'"),
    ],
)
def test_mistakes_are_told(replicas: dict[str, Any], message: str) -> None:
    scenario = replicated(replicas)
    scenario["topology"]["devices"]["far"] = {"profile": "mini-pc"}
    with pytest.raises(ScenarioError) as caught:
        run(scenario)
    assert message in str(caught.value)

"""Placements that are tried out before the run."""

from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.scenario import load
from netfl.scenario.build import prepare
from netfl.workloads.rehearsal import idle_latency_s, tail_latency_s
from tests.workloads.small import serving_only, small


def opened(scenario: dict[str, Any]) -> tuple[Any, Any]:
    bench = prepare(load(scenario))
    return bench.session(None), bench.loaded.scenario.workloads["serving"]


@pytest.mark.parametrize(
    "placement",
    [
        {"kind": "device_only"}, {"kind": "upload"}, {"kind": "upload", "to": "gateway"}, {"kind": "fixed", "after": "_1"},
        {"kind": "fixed", "after": "_1", "to": "gateway"}, {"kind": "chain"}, {"kind": "mincut"}, {"kind": "milp"},
    ],
    ids=lambda placement: "-".join(placement.values()),
)  # fmt: skip
def test_one_request_on_an_idle_network_takes_what_the_planner_adds_up(placement: dict[str, str]) -> None:
    """Hop by hop; uploading to the cloud passes the gateway, which relays."""
    session, serving = opened(serving_only(serving__placement=placement))
    for source in ("node-1", "node-3"):
        planned = serving.first_plan(session, source)
        assert idle_latency_s(session, serving, source, planned) == pytest.approx(planned.estimate_s, rel=1e-9)


def test_a_rehearsal_sees_the_load_and_the_sum_does_not() -> None:
    """500 requests a second and device over a shared 1 Mbit/s cell: uploading 64 quantised values is quick alone and never ends there."""
    changes = {"serving__arrivals": {"kind": "poisson", "rate": "500 per s"}, "serving__placement": {"kind": "upload"}}
    session, serving = opened(serving_only(**changes))
    uploads = serving.plans(session, "serving")
    local = {
        source: type(each)(cuts=(5, 5), devices=each.devices, nodes=each.nodes, estimate_s=0, planner="x")
        for source, each in uploads.items()
    }
    assert local["node-1"].nodes == 5
    alone = max(placement.estimate_s for placement in uploads.values())
    assert alone < 0.1
    loaded = tail_latency_s(session, serving, "serving", uploads, 2.0, 1)
    assert loaded > 5 * alone
    assert tail_latency_s(session, serving, "serving", local, 2.0, 1) < alone


def test_simulate_avoids_what_training_makes_slow(tmp_path: Path) -> None:
    """With updates on the same cell the least 95th percentile is not what the idle network promises; nothing is trained to find that."""
    load_it = {"serving__arrivals": {"kind": "poisson", "rate": "150 per s"}, "training__rounds": 4, "stop": {"after": "3 s"}}
    found = {}
    for placement in ({"kind": "upload"}, {"kind": "simulate", "horizon": "2 s", "candidates": 3}):
        metrics = run(small(serving__placement=placement, **load_it), output=tmp_path / placement["kind"]).metrics
        found[placement["kind"]] = metrics["serving"]["serving"]["p95_s"]
    assert found["simulate"] < found["upload"]


def test_rehearsals_train_nobody_and_do_not_know_the_run() -> None:
    bench = prepare(load(small(serving__placement={"kind": "simulate", "horizon": "2 s", "candidates": 3})))
    session = bench.session(None)
    serving: Any = bench.loaded.scenario.workloads["serving"]
    bench.store.start_counting()
    placements = serving.plans(session, "serving")
    assert "fit" not in bench.store.computed
    assert set(placements) == {"node-1", "node-2", "node-3", "node-4"}
    # All four have equal paths but for their names: one candidate for all.
    assert len({placement.cuts for placement in placements.values()}) == 1
    assert placements == serving.plans(bench.session(None), "serving")
    other, _ = bench.rehearsal(1, bench.store, False)
    assert other.world.streams.stream("arrivals").generator().random() != session.world.streams.stream("arrivals").generator().random()

"""Whole runs over datagram radios: energy is that of the time on air, the books balance, equal runs are equal."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from netfl import run
from netfl.errors import ScenarioError
from netfl.network.datagram import Datagram
from netfl.network.links import TECHNOLOGIES
from netfl.network.lora import time_on_air_s
from netfl.network.topology import Link, Site, Topology
from netfl.randomness import Streams
from netfl.scenario import load, to_yaml
from netfl.trace import Trace
from netfl.world import Message, World
from tests.report.test_explain import check_sums
from tests.workloads.small import small
from tests.world.test_world import PROFILE


def test_energy_is_power_times_time_on_air() -> None:
    # 300 B at SF7: 222 + 78 B. The radio takes 0.137 W sending and the gateway's side 0: its link has no figures for b.
    preset = TECHNOLOGIES["lorawan_sf7"]
    link = Link(
        name="l", a="a", b="b", up_bps=preset.up_bps, down_bps=preset.down_bps, latency_s=preset.latency_s, technology=preset.name,
        duty_cycle=preset.duty_cycle, transmit_w=preset.transmit_w, receive_w=preset.receive_w,
    )  # fmt: skip
    topology = Topology([Site(name="a"), Site(name="b", tier="gateway")], [link])
    world = World(
        topology=topology, profiles=dict.fromkeys("ab", PROFILE), transport=Datagram(confirmed=True), streams=Streams(0), trace=Trace()
    )
    world.env.run(world.send("a", "b", Message(kind="update", payload_bytes=300, workload="w")))
    world.finish("done")
    air_s = time_on_air_s(235, 7) + time_on_air_s(91, 7)
    ack_s = 2 * time_on_air_s(13, 7)
    rows = world.trace.connection.execute("SELECT source, sent_bytes, delivered_bytes, transmit_j, receive_j FROM link_use").fetchall()
    # The way back sorts first.
    assert rows == [
        ("b", 26, 26, 0.0, pytest.approx(0.0419 * ack_s)),
        ("a", 326, 326, pytest.approx(0.137 * air_s), 0.0),
    ]
    [(sent, wasted, attempts, latency_s, stalled_s)] = world.trace.connection.execute(
        "SELECT sent_bytes, wasted_bytes, attempts, latency_s, stalled_s FROM transfers"
    ).fetchall()
    assert (sent, wasted, attempts, latency_s, stalled_s) == (326, 0, 1, 0, 0)


def radios(**network: Any) -> dict[str, Any]:
    """The small scenario over 802.15.4 in frames."""
    scenario = small(stop={"after": "30 s"}, serving__arrivals={"kind": "poisson", "rate": "1 per s"}, serving__deadline="5 s")
    scenario["network"] = {"kind": "datagram", **network}
    scenario["topology"]["links"]["node-{1..4}-radio"] = {
        "between": ["node-{1..4}", "gateway"], "technology": "ieee802154", "medium": "cell", "outages": "vehicle_lte",
    }  # fmt: skip
    return scenario


@pytest.mark.parametrize(
    "network", [{"confirmed": True, "losses": "ieee802154", "ack_timeout": "50 ms"}, {"losses": {"kind": "delivery", "ratio": 0.999}}]
)
def test_bytes_sent_are_delivered_or_wasted_or_in_flight(tmp_path: Path, network: dict[str, Any]) -> None:
    metrics = run(radios(**network), output=tmp_path / "out").metrics
    assert check_sums(tmp_path / "out" / "run.db") > 10
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        rows = connection.execute(
            "SELECT link, source, kind, sent_bytes, delivered_bytes, wasted_bytes, in_flight_bytes FROM link_use"
        ).fetchall()
        outcomes = dict(connection.execute("SELECT outcome, count(*) FROM transfers GROUP BY 1").fetchall())
    for link, source, kind, sent, delivered, wasted, in_flight in rows:
        assert sent == delivered + wasted + in_flight, (link, source, kind)
    assert sum(row[5] for row in rows) > 0
    assert outcomes["delivered"] > 10
    assert run(radios(**network)).metrics["trace_digest"] == metrics["trace_digest"]


def test_a_resolved_datagram_scenario_is_the_same() -> None:
    scenario = radios(confirmed=True, losses={"kind": "gilbert_elliott", "to_bad": 0.1, "to_good": 0.5}, sub_bands=None)
    del scenario["network"]["sub_bands"]
    loaded = load(scenario)
    assert load(yaml.safe_load(to_yaml(loaded.scenario))).scenario == loaded.scenario


def test_a_topology_without_radios_is_refused() -> None:
    with pytest.raises(ScenarioError, match="network: no link has a datagram radio"):
        load(small(network={"kind": "datagram"}))
    with pytest.raises(ScenarioError, match=r"network\.sub_bands\[0\]\.duty_cycle: expected a number at most 1, got 2"):
        load(small(network={"kind": "datagram", "sub_bands": [{"duty_cycle": 2}]}))

"""Batteries in topology files."""

import pytest

from netfl.errors import ScenarioError
from netfl.network.battery import Battery
from netfl.scenario import load
from tests.workloads.small import small


def with_battery(battery: dict, **changes: object) -> dict:
    scenario = small(**changes)
    scenario["topology"]["devices"]["node-{1..4}"]["battery"] = battery
    return scenario


def test_units_and_defaults() -> None:
    built = load(with_battery({"capacity": "5 Wh", "harvest": "50 mW"})).built
    # 5 Wh = 5 x 3600 J.
    assert built.topology.sites["node-2"].battery == Battery(capacity=18_000.0, harvest=0.05, initial=1.0, restart=0.1)
    assert built.topology.sites["gateway"].battery is None


@pytest.mark.parametrize(
    ("battery", "told"),
    [
        ({"capacity": "0 J"}, "capacity above 0 J"),
        ({"capacity": "5 W"}, "an energy"),
        ({}, "capacity"),
        ({"capacity": "5 J", "restart": 0}, "restart"),
        ({"capacity": "5 J", "harvst": "1 W"}, "harvest"),
    ],
)
def test_bad_blocks_are_told_with_their_place(battery: dict, told: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(with_battery(battery))
    assert told in str(caught.value)
    assert "topology.devices.node-{1..4}.battery" in str(caught.value)


def test_datagram_refuses_them() -> None:
    with pytest.raises(ScenarioError, match="'node-1' has a battery"):
        load(with_battery({"capacity": "5 J"}, network={"kind": "datagram"}))

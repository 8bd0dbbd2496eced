"""Graphs in the format of Tarnawski et al. as profiles."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netfl.errors import NetflError
from netfl.placement import Path, Tier
from netfl.placement.graphs import read_graph
from netfl.placement.plan import piece_s


def graph(**changes: Any) -> str:
    """1 --> 3 --> 2, and 1 --> 2; node 4 reads 3 and is read by none but comes last."""

    def node(number: int, cpu: float, size: float, supported: int = 1) -> dict[str, Any]:
        return {
            "id": number, "supportedOnFpga": supported, "cpuLatency": cpu, "fpgaLatency": cpu / 10, "isBackwardNode": False, "size": size,
        }  # fmt: skip

    document: dict[str, Any] = {
        "maxSizePerFPGA": 1e9, "maxFPGAs": 1, "maxCPUs": 1,
        "nodes": [node(1, 10.0, 400.0), node(2, 20.0, 0.0, supported=0), node(3, 30.0, 8.0), node(4, 40.0, 4.0)],
        "edges": [
            {"sourceId": 1, "destId": 3, "cost": 1.953125, "size": 4194304.0},
            {"sourceId": 1, "destId": 2, "cost": 1.953125, "size": 4194304.0},
            {"sourceId": 3, "destId": 2, "cost": 1.953125},
            {"sourceId": 3, "destId": 4, "cost": 1.953125},
        ],
    }  # fmt: skip
    return json.dumps({**document, **changes})


def test_nodes_times_and_bytes_by_hand():
    profile = read_graph(graph(), {"cpu": "pi-4"})
    assert [node.name for node in profile.nodes] == ["input", "n1", "n3", "n2", "n4"]
    first, third, second, fourth = profile.nodes[1:]
    assert (first.predecessors, second.predecessors, fourth.predecessors) == (("input",), ("n1", "n3"), ("n3",))
    # 4 MiB are 1048576 float32, and so is a cost of 1.953125 ms at 2 GiB/s where no size is told.
    assert first.output_values == third.output_values == 1048576
    assert (first.parameters, third.parameters, fourth.parameters) == (((0, 100),), ((100, 102),), ((102, 103),))
    assert first.measured_s == (("pi-4", pytest.approx(0.010)), ("accelerator", pytest.approx(0.001)))
    assert second.measured_s == (("pi-4", pytest.approx(0.020)),)
    assert "the result is that of n4" in profile.notes[1]
    tier = Tier(device="x", flop_per_s=1, memory_bytes_per_s=1, overhead_s=0.5, memory_bytes=1, device_class="pi-4")
    assert piece_s(profile, tier, 0, 5) == pytest.approx(0.5 + 0.1)


def test_a_class_without_times_is_said():
    tier = Tier(device="edge", flop_per_s=1, memory_bytes_per_s=1, overhead_s=0, memory_bytes=1, device_class="accelerator")
    Path(tiers=(tier,), hops=())
    with pytest.raises(NetflError, match="node 'n2' has no seconds for the device class 'accelerator' of edge, only for cpu"):
        piece_s(read_graph(graph()), tier, 0, 5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a graph in the format"),
        ("[]", "not a graph in the format"),
        (graph(nodes=[{"id": 1}]), "'isBackwardNode' is missing"),
        (graph(edges=[{"sourceId": 1, "destId": 9, "cost": 1}]), "names node 9, which is not among the nodes"),
        (graph(edges=[{"sourceId": 1, "destId": 2, "cost": 1}, {"sourceId": 2, "destId": 1, "cost": 1}]), "the graph has a cycle"),
        (graph().replace("false", "true"), "expected one of inference"),
    ],
)
def test_what_is_no_such_graph_is_said(text: str, says: str):
    with pytest.raises(NetflError, match=says):
        read_graph(text)

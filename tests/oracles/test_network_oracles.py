"""The fluid transport against exact answers: SimGrid set to plain max-min, and a solver in exact arithmetic."""

import json
from pathlib import Path

import pytest
import simpy

from netfl.network.fabric import Fabric
from netfl.network.routes import Hop, Route
from netfl.network.topology import Link, Site, Topology

FILES = sorted((Path(__file__).parent / "network").glob("*.json"))


def finishes(case: dict, by_latency: bool = False) -> list[float]:
    """When each flow of an oracle file finishes in netfl, on the routes that the file states; shares equal or as 1 / latency."""
    links = [
        Link(
            name=f"link {i}",
            a=link["u"],
            b=link["v"],
            up_bps=link["bandwidth_bps"],
            down_bps=link["bandwidth_bps"],
            latency_s=link["latency_s"],
            duplex=case["duplex"],
        )
        for i, link in enumerate(case["links"])
    ]
    topology = Topology([Site(name=name) for name in case["nodes"]], links)
    env = simpy.Environment()
    fabric = Fabric(env, topology)
    finish = [0.0] * len(case["flows"])

    def run(place, flow):
        route = Route(tuple(Hop(links[i], sign > 0) for i, sign in flow["route_links"]), flow["src"], flow["dst"])
        assert route.devices == tuple(flow["route"])
        yield env.timeout(flow["start_s"])
        yield fabric.start(route, flow["bytes"], weight=1 / route.latency_s if by_latency else 1.0).done
        finish[place] = env.now

    for place, flow in enumerate(case["flows"]):
        env.process(run(place, flow))
    env.run()
    return finish


def test_six_oracle_files_are_here():
    assert len(FILES) == 6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_finish_times_are_exact(path):
    case = json.loads(path.read_text())
    got = finishes(case)
    assert len(got) == len(case["finish_s"])
    for predicted, expected in zip(got, case["finish_s"], strict=True):
        assert abs(predicted - expected) < 1e-6
        assert predicted == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_finish_times_are_exact_where_shares_go_as_one_over_latency(path):
    case = json.loads(path.read_text())
    for predicted, expected in zip(finishes(case, by_latency=True), case["finish_rtt_weighted_s"], strict=True):
        assert abs(predicted - expected) < 1e-6
        assert predicted == pytest.approx(expected, rel=1e-9, abs=0)

import random

import networkx as nx
import pytest

from netfl.errors import NoRouteError
from netfl.network.links import TECHNOLOGIES
from netfl.network.topology import Link, Medium, Site, Topology, TopologyError


def link(a, b, latency_s=0.01, **more):
    return Link(**{"name": f"{a}-{b}", "a": a, "b": b, "up_bps": 1e6, "down_bps": 2e6, "latency_s": latency_s} | more)


def sites(names):
    return [Site(name=name) for name in names]


def test_route_has_least_latency_and_rates_of_its_directions():
    topology = Topology(sites("abcd"), [link("a", "b", 0.010), link("b", "c", 0.020), link("a", "c", 0.040), link("c", "d", 0.001)])
    route = topology.route("a", "d")
    assert route.devices == ("a", "b", "c", "d")  # 10 + 20 + 1 ms against 40 + 1
    assert route.latency_s == pytest.approx(0.031)
    assert [hop.rate_bps for hop in route.hops] == [1e6, 1e6, 1e6]
    back = topology.route("d", "a")
    assert back.devices == ("d", "c", "b", "a")
    assert [hop.rate_bps for hop in back.hops] == [2e6, 2e6, 2e6]
    assert [(hop.source, hop.destination) for hop in back.hops] == [("d", "c"), ("c", "b"), ("b", "a")]
    assert topology.route("a", "d") is route


def test_equal_latency_goes_by_hops_then_by_names():
    # 0.1 + 0.2 s is not 0.3 s in binary floating point, and yet the two ways are equal: the one of fewer hops wins.
    topology = Topology(sites("abz"), [link("a", "z", 0.1), link("z", "b", 0.2), link("a", "b", 0.3)])
    assert topology.route("a", "b").devices == ("a", "b")
    # A diamond of equal ways goes by the lower name, whatever the order in which links are given, both ways.
    links = [link("s", "y"), link("y", "t"), link("s", "x"), link("x", "t")]
    for order in (links, links[::-1]):
        topology = Topology(sites("tyxs"), order)
        assert topology.route("s", "t").devices == ("s", "x", "t")
        assert topology.route("t", "s").devices == ("t", "x", "s")


def test_ways_do_not_depend_on_what_was_asked_before():
    # A grid of equal latencies has many equal ways; searches from either end, whichever came first, must agree.
    names = [f"{x}{y}" for x in "pqrs" for y in "0123"]
    links = [link(a, b) for a in names for b in names if a < b and abs(ord(a[0]) - ord(b[0])) + abs(int(a[1]) - int(b[1])) == 1]
    towards_s3, from_s3 = Topology(sites(names), links), Topology(sites(names), links)
    for name in names[:-1]:
        there, back = towards_s3.route(name, "s3").devices, from_s3.route("s3", name).devices
        assert there == back[::-1] == from_s3.route(name, "s3").devices
        alone = Topology(sites(names), links[::-1])
        assert alone.route(name, "s3").devices == there == alone.route("s3", name).devices[::-1]
    assert towards_s3.route("p0", "s3").devices == ("p0", "p1", "p2", "p3", "q3", "r3", "s3")


def test_routes_by_hops_and_by_cost():
    # s - m - t has 2 hops, 100 ms and a cost of 9; s - a - b - t has 3 hops, 3 ms and a cost of 3.
    links = [link("s", "m", 0.05, cost=4.5), link("m", "t", 0.05, cost=4.5)]
    links += [link(a, b, 0.001, cost=1) for a, b in (("s", "a"), ("a", "b"), ("b", "t"))]
    wanted = {"latency": ("s", "a", "b", "t"), "hops": ("s", "m", "t"), "cost": ("s", "a", "b", "t")}
    for routing, devices in wanted.items():
        topology = Topology(sites("smabt"), links, routing=routing)
        assert topology.route("s", "t").devices == devices
        assert topology.route("t", "s").devices == devices[::-1]
        assert topology.route("s", "t").latency_s == pytest.approx(sum(hop.link.latency_s for hop in topology.route("s", "t").hops))


def test_equal_hops_or_cost_go_by_names_both_ways():
    # Two ways of two hops; by latency the one over z would win.
    links = [link("s", "z", 0.001, cost=0.3), link("z", "t", 0.001, cost=0.0), link("s", "x", 0.5, cost=0.1), link("x", "t", 0.5, cost=0.2)]
    for routing, middle in (("latency", "z"), ("hops", "x"), ("cost", "x")):  # 0.1 + 0.2 costs as much as 0.3
        for order in (links, links[::-1]):
            topology = Topology(sites("tzxs"), order, routing=routing)
            assert topology.route("s", "t").devices == ("s", middle, "t")
            assert topology.route("t", "s").devices == ("t", middle, "s")


def test_hops_and_cost_agree_with_networkx():
    choose = random.Random(5)
    names = [f"n{i}" for i in range(30)]
    pairs = sorted({tuple(sorted(choose.sample(names, 2))) for _ in range(70)})
    links = [link(a, b, choose.randint(1, 9) / 1000, cost=choose.randint(0, 9)) for a, b in pairs]
    for routing, weight in (("hops", lambda each: 1), ("cost", lambda each: each.cost)):
        topology = Topology(sites(names), links, routing=routing)
        for _, _, edge in topology.graph.edges(data=True):
            edge["weight"] = weight(edge["link"])
        for source, lengths in nx.all_pairs_dijkstra_path_length(topology.graph):
            for destination, length in lengths.items():
                assert sum(weight(hop.link) for hop in topology.route(source, destination).hops) == length


def test_routing_by_cost_needs_a_cost_on_every_link():
    with pytest.raises(ValueError, match="routing by cost: expected a cost on every link, got none on 'a-b' and 1 more"):
        Topology(sites("abc"), [link("a", "b"), link("b", "c"), link("a", "c", cost=1)], routing="cost")
    with pytest.raises(ValueError, match="expected cost of at least 0"):
        Topology(sites("ab"), [link("a", "b", cost=-1)])


def test_route_to_itself_is_empty():
    route = Topology(sites("a")).route("a", "a")
    assert (route.hops, route.devices, route.latency_s) == ((), ("a",), 0)


@pytest.mark.parametrize("pair", [("a", "b"), ("a", "nobody"), ("nobody", "a")])
def test_no_route(pair):
    with pytest.raises(NoRouteError):
        Topology(sites("ab")).route(*pair)


def test_route_latency_agrees_with_networkx():
    choose = random.Random(3)
    names = [f"n{i}" for i in range(25)]
    pairs = {tuple(sorted(choose.sample(names, 2))) for _ in range(60)}
    topology = Topology(sites(names), [link(a, b, choose.randint(1, 9) / 1000) for a, b in sorted(pairs)])
    for a, b, edge in topology.graph.edges(data=True):
        edge["weight"] = topology.links[edge["link"].name].latency_s
        assert {a, b} == {edge["link"].a, edge["link"].b}
    for source, lengths in nx.all_pairs_dijkstra_path_length(topology.graph):
        for destination, length in lengths.items():
            assert topology.route(source, destination).latency_s == pytest.approx(length)


def test_all_problems_at_once():
    with pytest.raises(ValueError) as caught:
        Topology(
            [*sites(["camera", "edge", "edge"])],
            [
                link("camera", "edgy"),
                link("camera", "camera"),
                link("camera", "edge"),
                link("edge", "camera"),
                link("camera", "edge", name="camera-edge"),
                link("edge", "edge", name="edge", medium="air", up_bps=0.0, latency_s=-1.0),
            ],
            [Medium(name="wifi", efficiency_exponent=-1)],
        )
    assert isinstance(caught.value, TopologyError)
    places = [path for path, message in caught.value.found if "itself" in message or "both join" in message]
    # Self-loop, the second link of a pair, and the last one, from the edge to itself.
    assert places == [("links", name) for name in ("camera-camera", "edge-camera", "camera-edge", "edge")]
    text = str(caught.value)
    for expected in (
        "unique site names, got 'edge' 2 times",
        "unique link names, got 'camera-edge' 2 times",
        "got 'edge' for both",
        "ends at 'edgy', which is no site. did you mean 'edge'?",
        "joins 'camera' to itself",
        "links 'camera-edge' and 'edge-camera' both join",
        "'air', which is no medium",
        "up_bps above 0",
        "latency_s of at least 0",
        "efficiency_exponent of at least 0",
    ):
        assert expected in text


def test_technologies():
    assert (
        list(TECHNOLOGIES)
        == (
            "eth_100m eth_1g eth_10g wifi4_20 wifi5_80 wifi6_80 esp32_wifi siwg917_wifi ieee80211p umts lte_2012 lte lte_cat4 5g_nsa_low "
            "5g_nsa_low_verizon 5g_sa_low 5g_mmwave lte_m nb_iot nb_iot2 lorawan_sf7 lorawan_sf8 lorawan_sf9 lorawan_sf10 lorawan_sf11 "
            "lorawan_sf12 ble4 ble42 ble5 ble5_coded_s2 ble5_coded_s8 ieee802154 satellite_leo satellite_geo wan"
        ).split()
    )
    for name, technology in TECHNOLOGIES.items():
        assert technology.name == name
        assert any(mark in technology.source for mark in ("[V]", "[D]", "[C]", "[M]"))
    # 3.3 V x 180 mA; 3 V x 6.26 mA; 100 Mbit/s x 1448 / 1538
    assert TECHNOLOGIES["esp32_wifi"].transmit_w == pytest.approx(3.3 * 0.180)
    assert TECHNOLOGIES["ble42"].receive_w == pytest.approx(3 * 0.00626)
    assert TECHNOLOGIES["eth_100m"].up_bps == pytest.approx(100e6 * 1448 / 1538, rel=1e-3)

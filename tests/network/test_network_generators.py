"""Generators: shapes with counts that follow from their settings, chance from one named stream, and places on a picture."""

import math

import networkx as nx
import numpy as np
import pytest

from netfl.network.generators import (
    GENERATORS,
    BarabasiAlbert,
    Grid,
    Hierarchical,
    LinkClass,
    RandomGeometric,
    Star,
    Tree,
    Waxman,
)
from netfl.network.layout import layout_of
from netfl.network.topology import Link, Site, Topology
from netfl.randomness import Streams


def draw(part, seed=0):
    return part.draw(Streams(seed).generator("topology"))


def graph_of(draft):
    graph = nx.Graph()
    graph.add_nodes_from(site.name for site in draft.sites)
    graph.add_edges_from((link.a, link.b) for link in draft.links)
    assert graph.number_of_edges() == len(draft.links)
    return graph


def test_a_star_is_as_short_as_it_can_be_said():
    draft = draw(Star(devices=40, link="wifi4_20", uplink=LinkClass(rate=20e6, latency=15e-3)))
    assert [(site.name, site.tier) for site in draft.sites] == [
        ("cloud", "cloud"),
        ("access-point", "gateway"),
        ("device-{1..40}", "device"),
    ]
    assert [(link.name, link.a, link.b, link.medium) for link in draft.links] == [
        ("uplink", "access-point", "cloud", None),
        ("device-{1..40}-link", "device-{1..40}", "access-point", "cell"),
    ]
    assert draft.media == (("cell", 0.11),)  # wifi4_20 is shared, with the exponent of its preset
    plain = draw(Star(devices=1))
    assert [site.name for site in plain.sites] == ["cloud", "device-1"]


def names(draft):
    from netfl.scenario.expand import unfold

    return [name for site in draft.sites for name in unfold(site.name)]


def test_a_tree_has_the_powers_of_its_fanout():
    # 1 + 3 + 9 + 27 sites, one link for each but the root.
    draft = draw(Tree(depth=3, fanout=3))
    assert len(names(draft)) == len(set(names(draft))) == 40
    assert sum(name.startswith("device-") for name in names(draft)) == 27
    assert [link.b for link in draft.links if link.a.startswith("device")][:2] == ["gateway-2-1", "gateway-2-2"]
    assert {site.tier for site in draft.sites} == {"cloud", "gateway", "device"}


def test_a_hierarchy_has_the_product_of_its_counts():
    # 1 cloud, 2 edges, 2 x 3 gateways, 6 x 4 devices
    draft = draw(Hierarchical(edges=2, gateways_per_edge=3, devices_per_gateway=4))
    assert len(names(draft)) == len(set(names(draft))) == 1 + 2 + 6 + 24
    assert [name for name, _ in draft.media] == [f"cell-gateway-{number}" for number in range(1, 7)]
    assert draft.links[-1].a == "device-{21..24}"
    assert draft.links[-1].b == "gateway-6"


def test_a_grid_joins_neighbours_only():
    # 3 x 4 sites: 3 rows of 3 links and 4 columns of 2.
    draft = draw(Grid(rows=3, columns=4, spacing_km=5))
    graph = graph_of(draft)
    assert (len(graph), graph.number_of_edges()) == (12, 17)
    places = {site.name: (site.x_km, site.y_km) for site in draft.sites}
    assert {math.dist(places[a], places[b]) for a, b in graph.edges} == {5.0}
    assert nx.is_isomorphic(graph, nx.grid_2d_graph(3, 4))


def test_a_random_geometric_graph_joins_exactly_who_is_near():
    draft = draw(RandomGeometric(sites=60, side_km=10, radius_km=2, join=False))
    places = {site.name: (site.x_km, site.y_km) for site in draft.sites}
    near = {frozenset((a, b)) for a in places for b in places if a < b and math.dist(places[a], places[b]) <= 2}
    assert {frozenset(edge) for edge in graph_of(draft).edges} == near
    assert all(0 <= x < 10 and 0 <= y < 10 for x, y in places.values())


@pytest.mark.parametrize("part", [RandomGeometric(sites=40, radius_km=60), Waxman(sites=40, alpha=0.05)])
def test_parts_are_joined_by_the_shortest_links(part):
    apart = graph_of(part.__class__(**{**vars(part), "join": False}).draw(Streams(1).generator("topology")))
    joined = draw(part, seed=1)
    parts = nx.number_connected_components(apart)
    assert parts > 3
    assert nx.is_connected(graph_of(joined))
    added = joined.links[apart.number_of_edges() :]
    assert len(added) == parts - 1
    assert f"by {parts - 1} links" in joined.filled[-1]
    # Their total is that of a minimum spanning tree over the parts: links there cost nothing, all others their length.
    places = {site.name: (site.x_km, site.y_km) for site in joined.sites}
    whole = nx.Graph()
    for a in places:
        for b in places:
            if a < b:
                whole.add_edge(a, b, weight=0.0 if apart.has_edge(a, b) else math.dist(places[a], places[b]))
    least = nx.minimum_spanning_tree(whole).size(weight="weight")
    assert sum(math.dist(places[link.a], places[link.b]) for link in added) == pytest.approx(least)


def test_waxman_joins_pairs_as_often_as_its_formula_says():
    # Over many graphs the number of links is the sum of the probabilities within 4 standard errors.
    part = Waxman(sites=40, alpha=0.4, beta=0.5, join=False)
    expected = variance = found = 0.0
    for seed in range(60):
        draft = draw(part, seed)
        places = np.array([(site.x_km, site.y_km) for site in draft.sites])
        distances = np.hypot(*(axis[:, None] - axis for axis in places.T))
        chances = 0.5 * np.exp(-distances / (0.4 * distances.max()))[np.triu_indices(40, 1)]
        expected, variance, found = expected + chances.sum(), variance + (chances * (1 - chances)).sum(), found + len(draft.links)
    assert abs(found - expected) < 4 * math.sqrt(variance)


def test_barabasi_albert_counts_and_hubs():
    # A star of m + 1 sites has m links; each of the n - m - 1 others adds m: m (n - m) in all.
    draft = draw(BarabasiAlbert(sites=400, links_per_site=3))
    graph = graph_of(draft)
    assert graph.number_of_edges() == 3 * (400 - 3)
    assert nx.is_connected(graph)
    degrees = sorted((degree for _, degree in graph.degree), reverse=True)
    assert degrees[0] > 30  # an even graph of as many links would have some 6 a site, 15 at most
    assert min(degree for name, degree in graph.degree if int(name.split("-")[1]) > 4) == 3


@pytest.mark.parametrize("kind", GENERATORS.kinds())
def test_a_seed_gives_one_topology_and_another_seed_another(kind):
    settings = {
        "star": {"devices": 3}, "grid": {"rows": 2, "columns": 2}, "random_geometric": {"sites": 20}, "waxman": {"sites": 20},
        "barabasi_albert": {"sites": 20},
    }  # fmt: skip
    part = GENERATORS.find(kind)(**settings.get(kind, {}))
    assert draw(part) == draw(part)
    if kind in ("random_geometric", "waxman", "barabasi_albert"):
        assert draw(part, seed=1) != draw(part)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Star(devices=10**6 + 1), "at most 1,000,000 sites"),
        (lambda: Tree(depth=16, fanout=10**6), "at most 200,000 sites above the devices"),
        # 1 + 1000 + 1000 ** 2, of which 1001 above the devices.
        (lambda: Tree(depth=2, fanout=1000), "at most 1,000,000 sites, these settings make 1,001,001"),
        (
            lambda: Hierarchical(edges=1, gateways_per_edge=1, devices_per_gateway=10**6),
            "at most 1,000,000 sites, these settings make 1,000,003",
        ),
        (lambda: Grid(rows=1, columns=200_001), "at most 200,000 sites"),
        (lambda: Waxman(sites=100_000), "at most 3,000 sites"),
        (lambda: Hierarchical(edges=10**5, gateways_per_edge=10**5), "at most 200,000"),
        (lambda: BarabasiAlbert(sites=3, links_per_site=3), "below the number of sites"),
        (lambda: LinkClass(rate=1e6), "and `latency`"),
        (lambda: LinkClass(latency=1.0, uplink=1e6), "expected a `technology`"),
        (lambda: LinkClass(latency=1.0, uplink=1e6, rate=1e6), "either `rate`"),
    ],
)
def test_settings_that_make_no_topology(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- places on a picture ----------------------------------------------------------------------------------------------------


def topology(pairs, **places):
    ends = sorted({end for pair in pairs for end in pair})
    sites = [Site(name=end, tier="cloud" if end == "r" else "device", **places.get(end, {})) for end in ends]
    links = [Link(name=f"{a}-{b}", a=a, b=b, up_bps=1e6, down_bps=1e6) for a, b in pairs]
    return Topology(sites, links)


def test_a_tree_stands_in_circles_around_its_cloud():
    layout = layout_of(topology([("ra", "r"), ("rb", "r"), ("ra", "x"), ("ra", "y")]))
    assert layout.told == "in circles around the cloud"
    radius = {name: math.hypot(*place) for name, place in layout.places.items()}
    assert [round(radius[name], 9) for name in ("r", "ra", "rb", "x", "y")] == [0, 1, 1, 2, 2]
    assert len(set(layout.places.values())) == 5


def test_known_places_are_kept_and_leaves_fan_out():
    known = {"a": {"latitude": 60.0, "longitude": 0.0}, "b": {"latitude": 60.0, "longitude": 10.0}}
    layout = layout_of(topology([("a", "b"), ("a", "x"), ("a", "y"), ("b", "z")], **known))
    assert layout.told == "placed by latitude and longitude"
    # At 60 degrees a degree of longitude is half as long as one of latitude.
    assert layout.places["b"][0] - layout.places["a"][0] == pytest.approx(5.0)
    for leaf, hub in (("x", "a"), ("y", "a"), ("z", "b")):
        assert 0 < math.dist(layout.places[leaf], layout.places[hub]) < 1


def test_rings_get_springs_and_every_call_the_same_places():
    ring = topology([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")])
    assert layout_of(ring).told == "placed by springs between neighbours"
    assert layout_of(ring) == layout_of(topology([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]))
    assert len(layout_of(Topology([Site(name="alone")])).places) == 1
    assert len(layout_of(Topology([Site(name="one"), Site(name="two")])).places) == 2

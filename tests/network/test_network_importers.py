"""GraphML, node-link JSON and as-rel lines into drafts; files that are broken, hostile or out of range."""

import json
import math
import os
import random
from pathlib import Path

import pytest

from netfl.errors import ScenarioError
from netfl.network.draft import (
    Draft,
    DraftLink,
    DraftSite,
    central,
    connected,
    distance_km,
    great_circle_km,
    parallel_merged,
    path_latency_s,
    with_latencies,
    with_places,
    with_rates,
    without_self_loops,
)
from netfl.network.importers import Attributes, read_as_rel, read_graphml, read_network, read_node_link

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="label" attr.type="string" for="node" id="n1" />
  <key attr.name="Latitude" attr.type="double" for="node" id="n2" />
  <key attr.name="Longitude" attr.type="double" for="node" id="n3" />
  <key attr.name="hyperedge" attr.type="int" for="node" id="n4" />
  <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="e1" />
  <key attr.name="capacity" attr.type="double" for="edge" id="e2" />
"""


def graphml(body: str, kind: str = "undirected", head: str = HEAD) -> bytes:
    return f'{head}<graph edgedefault="{kind}">{body}</graph></graphml>'.encode()


def node(name: str, latitude: object = None, longitude: object = None, more: str = "") -> str:
    place = "" if latitude is None else f'<data key="n2">{latitude}</data><data key="n3">{longitude}</data>'
    return f'<node id="{name}">{place}{more}</node>'


def problems(reader, data: bytes, **more) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        reader(data, "f", **more)
    return [str(problem) for problem in caught.value.problems]


def test_graphml_by_id_with_labels_for_display_only():
    body = node("0", 40.5, -74, '<data key="n1">Twin</data>') + node("1", more='<data key="n1">Twin</data>')
    draft = read_graphml(graphml(body + '<edge source="0" target="1"><data key="e1">1e9</data></edge>'))
    assert [(site.name, site.label, site.latitude, site.longitude) for site in draft.sites] == [
        ("0", "Twin", 40.5, -74.0),
        ("1", "Twin", None, None),
    ]
    assert [(link.a, link.b, link.up_bps, link.down_bps) for link in draft.links] == [("0", "1", 1e9, 1e9)]


def test_hyperedges_of_both_sorts_are_junctions():
    body = node("0") + node("1") + node("2", more='<data key="n4">1</data>')
    body += '<edge source="0" target="2"/><hyperedge id="h"><endpoint node="0"/><endpoint node="1"/></hyperedge>'
    draft = read_graphml(graphml(body))
    assert [site.name for site in draft.sites if site.junction] == ["2", "h"]
    assert [(link.a, link.b) for link in draft.links] == [("0", "2"), ("h", "0"), ("h", "1")]
    assert "2 nodes kept as junctions" in " ".join(draft.filled)


def test_defaults_of_keys_hold_where_nothing_else_is_said():
    head = HEAD.replace('for="edge" id="e1" />', 'for="edge" id="e1"><default>5e6</default></key>')
    body = node("0") + node("1") + '<edge source="0" target="1"/><edge source="0" target="1"><data key="e1">7e6</data></edge>'
    assert [link.up_bps for link in read_graphml(graphml(body, head=head)).links] == [5e6, 7e6]


def test_attributes_without_a_unit_are_named_and_read_only_when_told():
    body = node("0") + node("1") + '<edge source="0" target="1"><data key="e2">10</data></edge>'
    silent = read_graphml(graphml(body))
    assert silent.links[0].up_bps is None
    assert "'capacity' (on 1)" in silent.filled[0]
    told = read_graphml(graphml(body), attributes=Attributes(rate="capacity", bps_per_rate=1e6))
    assert told.links[0].up_bps == 10e6
    assert told.filled == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (graphml(node("0"))[:-30], "f:"),
        (graphml(node("0") + node("1"))[:-12], "the file ends too early"),
        (b"<html></html>", "f:1:1: expected <graphml>, got <html>"),
        (HEAD.encode() + b"</graphml>", "expected a <graph>"),
        (graphml(""), "expected at least one node"),
        (graphml("</graph><graph>" + node("0")), "found a second"),
        (graphml('<node id="a"><graph><node id="b"/></graph></node>'), "a graph inside a node"),
        (graphml("<node/>"), "a <node> without an `id`"),
        (graphml(node("0") + '<edge source="0"/>'), "an <edge> without `target`"),
        (graphml(node("0") + '<edge source="0" target="9"/>'), "ends at '9', which is no node"),
        (graphml(node("0") + "\n" + node("0")), "f:10:1: node '0' stands twice (first on line 9)"),
        (graphml(node("", 1, 2)), "is empty"),
        (graphml(node("a{1..9}")), "holds braces"),
        (graphml(node("x" * 300)), "longer than 80"),
        (graphml(node("0", "nan", 3)), "latitude of -90 to 90 degrees, got 'nan'"),
        (graphml(node("0", 91, 3)), "got '91'"),
        (graphml(node("0", 1, -181)), "longitude of -180 to 180"),
        (graphml(node("0", "north", 3)), "got 'north'"),
        (
            graphml(node("0") + node("1") + '<edge source="0" target="1"><data key="e1">0</data></edge>'),
            "`LinkSpeedRaw`: expected a rate greater",
        ),
        (graphml(node("0") + node("1") + '<edge source="0" target="1"><data key="e1">-1</data></edge>'), "got '-1'"),
        (graphml(node("0") + node("1") + '<edge source="0" target="1"><data key="e1">NaN</data></edge>'), "got 'NaN'"),
        (graphml(node("0") + node("1") + '<edge source="0" target="1"><data key="e1">1e999</data></edge>'), "got '1e999'"),
        (graphml(node("0", more='<data key="zz">1</data>')), "no <key> has the id 'zz'"),
        (b"\xff\xfe\x00", "not well-formed XML"),
        (b'<?xml version="1.0" encoding="no-such"?><graphml/>', "not well-formed XML"),
        (b"<graphml>" + b"<a>" * 100_000, "nested deeper than 50"),
        (graphml("&nbsp;"), "undefined entity"),
    ],
)
def test_graphml_that_is_refused(data, message):
    assert message in "\n".join(problems(read_graphml, data))


BOMB = """<?xml version="1.0"?>
<!DOCTYPE graphml [
  <!ENTITY a "aaaaaaaaaa">
  <!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
]>
<graphml><graph><node id="&b;"/></graph></graphml>"""


@pytest.mark.parametrize(
    "data",
    [
        BOMB,
        '<?xml version="1.0"?>\n<!DOCTYPE graphml SYSTEM "file:///etc/passwd"><graphml/>',
        '<?xml version="1.0"?>\n<!DOCTYPE graphml [<!ENTITY x SYSTEM "file:///etc/passwd">]><graphml>&x;</graphml>',
    ],
)
def test_document_types_end_the_reading_where_they_begin(data):
    (problem,) = problems(read_graphml, data.encode())
    assert problem.startswith("f:2:")
    assert "entities are not read" in problem


def test_all_problems_of_a_file_at_once_and_no_more_than_twenty():
    body = "\n".join(node(str(index), 999, 0) for index in range(30))
    found = problems(read_graphml, graphml(body))
    assert len(found) == 21
    assert found[0].startswith("f:9:")
    assert found[-1] == "f: and 10 more problems"


# --- node-link JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["edges", "links"])
def test_node_link_under_either_key_as_networkx_writes_it(key):
    import networkx as nx

    graph = nx.MultiGraph(name="small")
    graph.add_node(1, label="one", lat=10.0, lon=20.0)
    graph.add_edge(1, "b", rate="10 Mbit/s", latency="5 ms", cost=3)
    graph.add_edge(1, "b", up_bps=1e6, down_bps=2e6, latency_s=0.25)
    draft = read_node_link(json.dumps(nx.node_link_data(graph, edges=key)).encode())
    assert draft.name == "small"
    assert [(site.name, site.label, site.latitude) for site in draft.sites] == [("1", "one", 10.0), ("b", "", None)]
    assert [(link.up_bps, link.down_bps, link.latency_s, link.cost) for link in draft.links] == [
        (10e6, 10e6, 0.005, 3.0),
        (1e6, 2e6, 0.25, None),
    ]


def json_of(nodes: object, edges: object, **more: object) -> bytes:
    return json.dumps({"nodes": nodes, "edges": edges, **more}).encode()


TWO = [{"id": 0}, {"id": 1}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f:1:1: is not JSON"),
        (b'{"nodes": [\n{"id": 0}', "f:2:10: is not JSON"),
        (b"[1]", "expected node-link JSON"),
        (b'{"nodes": [], "edges": []}', "expected at least one node"),
        (b'{"nodes": [{"id": 0}]}', "found neither"),
        (b'{"nodes": [{"id": 0}], "edges": [], "links": []}', "found both"),
        (b'{"nodes": [{"id": 0}], "edges": 3}', "that is no list"),
        (b'{"nodes": [{"id": 0, "lat": NaN, "lon": 1}], "edges": []}', "f:1:29: is not JSON: 'NaN' is no number"),
        (b'{"nodes": [{"id": 0, "id": 1}], "edges": []}', "key 'id' stands twice"),
        # The first that is deeper than 50 levels.
        (b"[" * 100_000, "f:1:51: is nested too deeply"),
        (b'{"nodes": [{"id": ' + b"9" * 5000 + b'}], "edges": []}', "f: is not JSON that netfl reads"),
        (b'\xff{"nodes"', "not UTF-8"),
        (json_of([{"id": 0}, 7], []), "nodes[1]: expected an object, got 7"),
        (json_of([{"name": "x"}], []), "nodes[0]: the required key 'id' is missing"),
        (json_of([{"id": 0.5}], []), "nodes[0].id: expected a text or a whole number, got 0.5"),
        (json_of([{"id": 1}, {"id": "1"}], []), "nodes[1]: node '1' stands twice (first at nodes[0])"),
        (json_of(TWO, [{"source": 0}]), "edges[0]: the required key 'target' is missing"),
        (json_of(TWO, [{"source": 0, "target": 2}]), "edges[0]: an edge ends at '2', which is no node"),
        (json_of(TWO, [{"source": 0, "target": 1, "rate": "10 Mb"}]), "edges[0].rate: `rate`: expected a data rate such as"),
        (json_of(TWO, [{"source": 0, "target": 1, "latency_s": -1}]), "edges[0].latency_s: `latency_s`: expected a latency of at least 0"),
        (json_of(TWO, [{"source": 0, "target": 1, "cost": "dear"}]), "expected a cost"),
        (json_of([{"id": 0, "lat": 1e9, "lon": 0}], []), "nodes[0].lat: expected a latitude"),
    ],
)
def test_node_link_that_is_refused(data, message):
    assert message in "\n".join(problems(read_node_link, data))


def test_a_problem_in_json_has_its_line_and_column():
    text = """{"graph": {"name": "a \\"b\\" [,}\u2028"},
 "nodes": [{"id": "a"}, {"id" :"b",
   "lat": "x"}, 7],
\t"edges" :
  [ {"source": "a", "target": "b"} , {"source": "a"}]}"""
    # Counted by hand, from 1; U+2028 begins no line.
    expected = [
        "f:3:11: nodes[1].lat: expected a latitude of -90 to 90 degrees, got 'x'",
        "f:3:17: nodes[2]: expected an object, got 7",
        "f:5:38: edges[1]: the required key 'target' is missing",
    ]
    for data in (text.encode(), text.encode("utf-8-sig")):
        assert problems(read_node_link, data) == expected
    with pytest.raises(ScenarioError) as caught:
        read_node_link(text.encode())
    assert [problem.source for problem in caught.value.problems] == [*['   "lat": "x"}, 7],'] * 2, text.split("\n")[4]]


def test_a_place_far_along_a_line_comes_without_that_line():
    data = json_of([{"id": "x" * 70}, {"id": "y" * 70}, {"id": "z" * 70}, 7], [])
    with pytest.raises(ScenarioError) as caught:
        read_node_link(data)
    assert [(problem.column > 200, problem.source) for problem in caught.value.problems] == [(True, "")]


def test_an_attribute_that_no_edge_has_is_refused():
    data = json_of(TWO, [{"source": 0, "target": 1, "bw": 3}])
    assert "no edge has the attribute 'bandwidth'" in problems(read_node_link, data, attributes=Attributes(rate="bandwidth"))[0]


# --- as-rel -----------------------------------------------------------------------------------------------------------------


def test_as_rel_of_both_serials():
    draft = read_as_rel(b"# source: made up\n1|2|-1\n1|3|-1|bgp\n2|3|0\n\n")
    # A link leads from the customer up to the provider.
    assert [(link.a, link.b) for link in draft.links] == [("2", "1"), ("3", "1"), ("3", "2")]
    assert [(site.name, site.label) for site in draft.sites] == [("1", "AS1"), ("2", "AS2"), ("3", "AS3")]
    assert "2 links from customer to provider and 1 between peers" in draft.filled[0]


@pytest.mark.parametrize("line", ["1|2", "1|2|7", "a|2|-1", "1|-2|0", "1|2|-1|x|y", "1|99999999999|0", "<graphml>"])
def test_as_rel_that_is_refused(line):
    (problem,) = problems(read_as_rel, f"1|2|0\n{line}\n".encode())
    assert problem.startswith("f:2:1: expected `PROVIDER|CUSTOMER|-1`")


def test_files_with_random_damage_raise_nothing_else():
    choose = random.Random(11)
    whole = graphml(node("0", 1, 2) + node("1") + '<edge source="0" target="1"><data key="e1">1e6</data></edge>')
    shapes = (
        (read_graphml, whole),
        (read_node_link, json_of(TWO, [{"source": 0, "target": 1, "rate": "1 Mbit/s"}])),
        (read_as_rel, b"1|2|-1\n2|3|0\n"),
    )
    refused = 0
    for _ in range(400):
        for reader, data in shapes:
            damaged = bytearray(data)
            for _ in range(choose.randint(1, 3)):
                place = choose.randrange(len(damaged))
                if choose.random() < 0.5:
                    damaged[place] = choose.randrange(256)
                else:
                    damaged[place : place + choose.randint(0, 20)] = choose.choice([b"", b"<", b"&", b"{", b"1e999", b"-1", b"null", b"\0"])
                damaged = damaged or bytearray(b"x")
            try:
                reader(bytes(damaged), "f")
            except ScenarioError:
                refused += 1
    assert refused > 600


# --- files ------------------------------------------------------------------------------------------------------------------


def test_files_by_their_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "net.txt").write_text("1|2|0\n")
    assert read_network(tmp_path / "net.txt", "net.txt").name == "net"
    for name, message in (("net.gml", "no format is known"), ("net.graphml.gz", "unpack it first"), ("absent.json", "no such file")):
        with pytest.raises(ScenarioError, match=message):
            read_network(tmp_path / name, name)
    with pytest.raises(ScenarioError, match="expected a file"):
        (tmp_path / "folder.txt").mkdir()
        read_network(tmp_path / "folder.txt", "folder.txt")
    monkeypatch.setattr("netfl.network.importers.MAX_FILE_BYTES", 3)
    with pytest.raises(ScenarioError, match="reads at most 3"):
        read_network(tmp_path / "net.txt", "net.txt")


def test_limits_on_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("netfl.network.importers.MAX_SITES", 2)
    assert "more than 2 nodes" in problems(read_as_rel, b"1|2|0\n3|4|0\n")[0]
    monkeypatch.setattr("netfl.network.importers.MAX_SITES", 10)
    monkeypatch.setattr("netfl.network.importers.MAX_LINKS", 1)
    assert "more than 1 edges" in problems(read_as_rel, b"1|2|0\n3|4|0\n")[0]


# --- the rules --------------------------------------------------------------------------------------------------------------


def sites(*names: str, **more) -> tuple[DraftSite, ...]:
    return tuple(DraftSite(name=name, **more) for name in names)


def test_great_circle_distances():
    # Along a meridian one degree is R pi / 180; from pole to pole half the circumference; over the date line the short way.
    degree = 6371.0088 * math.pi / 180
    assert great_circle_km(0, 5, 1, 5) == pytest.approx(degree)
    assert great_circle_km(90, 0, -90, 77) == pytest.approx(180 * degree)
    assert great_circle_km(0, 179.5, 0, -179.5) == pytest.approx(degree)
    # 1,000 km x 1.5 x 5 us = 7.5 ms; 13.3 km would be 0.09975 ms, below the floor of 0.1 ms.
    assert path_latency_s(1000) == pytest.approx(7.5e-3)
    assert path_latency_s(13.3) == path_latency_s(0) == 1e-4


def test_places_are_filled_round_by_round_from_neighbours():
    # a (0, 0) - x - b (0, 10) ; x - y - z: x lies between a and b, then y at x, then z at y; lone has no neighbour.
    known = (DraftSite(name="a", latitude=0, longitude=0), DraftSite(name="b", latitude=0, longitude=10))
    links = tuple(DraftLink(a=a, b=b) for a, b in ("ax", "xb", "xy", "yz"))
    draft = with_places(Draft(sites=(*known, *sites("x", "y", "z", "lone")), links=links))
    places = {site.name: (site.latitude, site.longitude) for site in draft.sites}
    for name in "xyz":
        assert places[name] == pytest.approx((0, 5))
    assert places["lone"] == (None, None)
    assert draft.filled == (
        "coordinates: 3 sites without any put at the middle of their neighbours: 'x', 'y', 'z'",
        "coordinates: unknown for 1 site: 'lone'",
    )
    # The middle of two places beside the date line lies on it, not in Africa.
    pair = (DraftSite(name="a", latitude=0, longitude=179), DraftSite(name="b", latitude=0, longitude=-177))
    middle = with_places(Draft(sites=(*pair, *sites("x")), links=links[:2])).sites[-1]
    assert middle.longitude == pytest.approx(-179)


def test_parallel_links_are_merged_by_either_rule():
    one = DraftLink(a="a", b="b", up_bps=1.0, down_bps=10.0, latency_s=0.2, cost=5)
    other = DraftLink(a="b", b="a", up_bps=100.0, down_bps=1000.0, latency_s=0.1)
    draft = Draft(sites=sites("a", "b"), links=(one, other))
    # `other` is written from b: its up is the way from b to a.
    (link,) = parallel_merged(draft, "sum").links
    assert (link.a, link.b, link.up_bps, link.down_bps, link.latency_s, link.cost) == ("a", "b", 1001.0, 110.0, 0.1, 5)
    (link,) = parallel_merged(draft, "max").links
    assert (link.up_bps, link.down_bps) == (1000.0, 100.0)


def test_directed_links_become_the_directions_of_one():
    there = DraftLink(a="a", b="b", up_bps=1.0, down_bps=1.0, directed=True)
    back = DraftLink(a="b", b="a", up_bps=3.0, down_bps=3.0, directed=True)
    (link,) = parallel_merged(Draft(sites=sites("a", "b"), links=(there, back)), "sum").links
    assert (link.up_bps, link.down_bps) == (1.0, 3.0)
    alone = parallel_merged(Draft(sites=sites("a", "b"), links=(there,)), "sum")
    assert (alone.links[0].up_bps, alone.links[0].down_bps) == (1.0, 1.0)
    assert "one direction in the file" in alone.filled[0]


def test_rates_and_latencies_are_filled_and_told():
    links = (DraftLink(a="a", b="b"), DraftLink(a="b", b="c", up_bps=5.0, latency_s=0.0))
    draft = with_rates(Draft(sites=sites("a", "b", "c"), links=links), 7.0, "7 bit/s")
    assert [(link.up_bps, link.down_bps) for link in draft.links] == [(7.0, 7.0), (5.0, 5.0)]
    draft = with_latencies(draft, 0.5, "500 ms", True)
    assert [link.latency_s for link in draft.links] == [0.5, 0.0]
    assert draft.filled == (
        "rate: 7 bit/s (default_rate) for 1 of 2 links that states none",
        "rate: that of the other direction for 1 of 2 links with one direction's",
        "latency: 500 ms (default_latency) for 1 of 2 links between sites whose distance is unknown",
    )


def test_self_loops_and_parts():
    links = (DraftLink(a="a", b="a"), DraftLink(a="a", b="b"), DraftLink(a="c", b="d"))
    draft = without_self_loops(Draft(sites=sites("a", "b", "c", "d", "e"), links=links))
    assert [(link.a, link.b) for link in draft.links] == [("a", "b"), ("c", "d")]
    assert "1 link from a site to itself, at 'a'" in draft.filled[0]
    with pytest.raises(ValueError, match="falls into 3 parts of 2 x 2, 1 sites"):
        connected(draft, "error")
    kept = connected(draft, "largest")
    assert [site.name for site in kept.sites] == ["a", "b"]  # two parts of two: the one of the least name
    assert "3 sites that no path joins" in kept.filled[-1]


def test_the_central_site_by_either_rule():
    # A line a - b - c - d - e with two leaves at b: b has most neighbours (4); c is nearest to all on average only if b's
    # leaves are far: a-b 1 s, so from b: 1+1+2+3 + leaves 1+1 = 9, from c: 2+1+1+2 + 2+2 = 10.
    links = [DraftLink(a=a, b=b, latency_s=1.0) for a, b in ("ab", "bc", "cd", "de", "bx", "by")]
    draft = Draft(sites=sites(*"abcdexy"), links=tuple(links))
    assert central(draft, "degree") == ("b", "the site with most neighbours (4)")
    assert central(draft, "closeness")[0] == "b"
    # Without the leaves the middle of the line is nearest to all; b, c and d have two neighbours each and b comes first by name.
    line = Draft(sites=sites(*"abcde"), links=tuple(links[:4]))
    assert central(line, "closeness") == ("c", "the site with the least mean latency to all others (1.5e+03 ms)")
    assert central(line, "degree")[0] == "b"


# --- the Internet Topology Zoo ----------------------------------------------------------------------------------------------

ZOO = {
    # file: nodes, links after merging, mean and longest great circle of a link in km where all nodes have coordinates
    "Abilene": (11, 14, 1006, 2207), "Nsfnet": (13, 15, 1121, 3293), "AttMpls": (25, 56, 908, 2983),
    "NetworkUsa": (35, 39, 87, 336), "Geant2012": (40, 61, None, None), "Renater2010": (43, 56, None, None),
    "Bellcanada": (48, 64, 565, 3696), "Dfn": (58, 87, None, None), "Garr201201": (61, 75, None, None),
    "Uninett2011": (69, 96, None, None), "Interoute": (110, 146, None, None), "Ion": (125, 146, None, None),
    "Colt": (153, 177, None, None), "UsCarrier": (158, 189, None, None), "Cogentco": (197, 243, None, None),
    "Kdl": (754, 895, None, None),
}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("name", ZOO)
def test_topology_zoo(name):
    root = os.environ.get("NETFL_TEST_DATA")
    if root is None:
        pytest.skip("NETFL_TEST_DATA is not set: no Internet Topology Zoo files")
    path = Path(root) / "topologyzoo" / f"{name}.graphml"
    draft = with_places(without_self_loops(read_network(path, path.name)))
    draft = parallel_merged(with_rates(draft, 10e9, "10 Gbit/s"), "sum")
    nodes, links, mean_km, longest_km = ZOO[name]
    assert (len(draft.sites), len(draft.links)) == (nodes, links)
    assert connected(draft, "error") is draft
    by_name = {site.name: site for site in draft.sites}
    lengths = [distance_km(by_name[link.a], by_name[link.b]) for link in draft.links]
    assert all(length is not None for length in lengths)
    if mean_km is not None:
        assert sum(lengths) / len(lengths) == pytest.approx(mean_km, abs=1)
        assert max(lengths) == pytest.approx(longest_km, abs=1)

"""`generate:` and `import:` blocks: what they unfold into, what overrides reach, what is refused and where."""

import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from netfl.errors import ScenarioError
from netfl.randomness import Streams
from netfl.scenario import is_topology, load, load_topology, to_yaml
from netfl.scenario.json_schema import file_schema
from netfl.scenario.schema import Scenario, TopologyFile

REST = """
schema: 1
name: t
data: {source: digits}
model: {kind: mlp}
workloads:
  training: {kind: synchronous, rounds: 1, clients_per_round: 1, trainer: {kind: sgd, learning_rate: 0.1}}
"""

# Three sites in a row and a fourth apart; b has most neighbours.
ROW = {
    "graph": {"name": "row"},
    "nodes": [
        {"id": "a", "label": "Ay", "lat": 0, "lon": 0}, {"id": "b", "label": "Bee", "lat": 0, "lon": 1},
        {"id": "c", "label": "Sea"}, {"id": "d", "label": "Sea"},
    ],
    "edges": [{"source": "a", "target": "b", "rate_bps": 1e6}, {"source": "b", "target": "c"}, {"source": "b", "target": "d"}],
}  # fmt: skip


@pytest.fixture
def row(tmp_path: Path) -> Path:
    path = tmp_path / "row.json"
    path.write_text(json.dumps(ROW))
    return path


def scenario(tmp_path: Path, topology: object, rest: str = REST) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(rest + yaml.safe_dump({"topology": topology}, sort_keys=False))
    return path


def told(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load(path, overrides=overrides)
    return [str(problem).removeprefix(str(path)) for problem in caught.value.problems]


def test_a_star_in_one_line(tmp_path: Path) -> None:
    loaded = load(scenario(tmp_path, {"generate": "star", "devices": 40}))
    topology = loaded.built.topology
    assert len(topology.sites) == 41
    assert topology.sites["cloud"].tier == "cloud"
    assert topology.route("device-40", "cloud").latency_s == 0.02
    assert loaded.scenario.topology.filled == loaded.built.filled == ("links: 10 Mbit/s, 20 ms for each of the devices",)


def test_the_resolved_scenario_lists_devices_and_is_the_same(tmp_path: Path, row: Path) -> None:
    for block in (
        {"generate": "waxman", "sites": 12, "attach": {"clients": 2, "link": "wifi5_80"}, "routing": "hops"},
        {"generate": "hierarchical", "access": {"technology": "lte_cat4", "latency": "9 ms"}, "profiles": {"device": "phone-mid"}},
        {"import": str(row), "server": "Ay", "default_rate": "1 Gbit/s"},
    ):
        loaded = load(scenario(tmp_path, block))
        again = load(yaml.safe_load(to_yaml(loaded.scenario)))
        assert again.scenario == loaded.scenario
        assert again.built.filled == loaded.built.filled


def test_settings_reach_the_generator_and_single_links_come_after(tmp_path: Path) -> None:
    path = scenario(tmp_path, {"generate": "star", "devices": 4})
    built = load(
        path,
        overrides=[
            "topology.links.device-7-link.rate=1 Mbit/s",
            "topology.devices=8",
            "topology.devices.device-2.profile=pi-5",
            "topology.links.extra={between: [device-1, device-2], rate: 1 Gbit/s, latency: 1 ms}",
        ],
    ).built
    assert len(built.topology.sites) == 9
    assert {name: link.up_bps for name, link in built.topology.links.items() if link.up_bps != 10e6} == {
        "device-7-link": 1e6,
        "extra": 1e9,
    }
    assert [name for name, profile in built.profiles.items() if profile != built.profiles["device-1"]] == ["cloud", "device-2"]
    assert built.filled[-1] == "changed afterwards: `links.device-7-link.rate`, `devices.device-2.profile`, `links.extra`"
    assert told(path, "topology.links.device-5-link.rate=1 Mbit/s") == [
        "--set #1:1:1: topology.links.device-5-link.rate: no link 'device-5-link' (did you mean 'device-4-link'?)"
    ]


def test_ranges_in_a_topology_file_are_singled_out_too(tmp_path: Path) -> None:
    block = {
        "schema": 1, "name": "x",
        "devices": {"cloud": {"profile": "mini-pc", "tier": "cloud"}, "n-{1..3}": {"profile": "pi-4"}},
        "links": {"n-{1..3}-up": {"between": ["n-{1..3}", "cloud"], "rate": "1 Mbit/s", "latency": "1 ms"}},
    }  # fmt: skip
    built = load(scenario(tmp_path, block), overrides=["topology.links.n-2-up.latency=8 ms"]).built
    assert [(link.name, link.a, link.latency_s) for link in built.topology.links.values()] == [
        ("n-1-up", "n-1", 0.001), ("n-2-up", "n-2", 0.008), ("n-3-up", "n-3", 0.001),
    ]  # fmt: skip


def test_the_drawing_follows_seed_and_replicate_unless_pinned(tmp_path: Path) -> None:
    def links(*overrides: str, **more: object) -> tuple[str, ...]:
        return tuple(load(scenario(tmp_path, {"generate": "waxman", "sites": 15, **more}), overrides=overrides).built.topology.links)

    assert links() == links()
    assert len({links(), links("seed=1"), links("replicate=1")}) == 3
    assert links(seed=4) == links("seed=1", seed=4) == links("replicate=1", seed=4) == links("seed=4")
    # What the stream named ("topology",) gives is what the file's generator draws.
    from netfl.network.generators import Waxman

    draft = Waxman(sites=15).draw(Streams(4).generator("topology"))
    assert links("seed=4") == tuple(f"{link.a}-{link.b}" for link in draft.links)


def test_an_import_is_filled_by_its_rules(row: Path) -> None:
    built = load_topology(row)
    # One degree along the equator is 111.195 km: x 1.5 x 5 us = 0.83396 ms. c and d stand at b, 0 km away: the floor.
    assert {name: (link.up_bps, link.latency_s) for name, link in built.topology.links.items()} == {
        "a-b": (1e6, pytest.approx(0.83396e-3, rel=1e-4)),
        "b-c": (10e9, 1e-4),
        "b-d": (10e9, 1e-4),
    }
    assert {name: site.tier for name, site in built.topology.sites.items()} == {"a": "device", "b": "cloud", "c": "device", "d": "device"}
    assert built.topology.sites["a"].label == "Ay"
    assert built.topology.name == "row"
    assert built.filled == (
        "coordinates: 2 sites without any put at the middle of their neighbours: 'c', 'd'",
        "rate: 10 Gbit/s (default_rate) for 2 of 3 links that state none",
        "latency: distance in km x 1.5 x 5 us for all 3 links, of which 2 got the least, 0.1 ms",
        "server: 'b' (Bee), the site with most neighbours (3), is the cloud",
        "tiers: the 3 other sites are end devices (no `attach`)",
    )


def test_one_other_site_is_an_end_device(tmp_path: Path) -> None:
    path = tmp_path / "pair.json"
    path.write_text('{"nodes": [{"id": "a"}, {"id": "b"}], "edges": [{"source": "a", "target": "b"}]}')
    assert load_topology(path).filled[-1] == "tiers: the 1 other site is an end device (no `attach`)"


def test_a_workload_that_names_no_server_gets_the_only_cloud(tmp_path: Path, row: Path) -> None:
    loaded = load(scenario(tmp_path, "row.json"))
    assert loaded.scenario.workloads["training"].server == "b"  # type: ignore[attr-defined]
    assert "server: b" in to_yaml(loaded.scenario)
    assert load(scenario(tmp_path, "row.json"), overrides=["workloads.training.server=a", "workloads.training.clients=[c]"])


def test_clients_attached_to_sites(tmp_path: Path, row: Path) -> None:
    attach = {"clients": 2, "sites": ["Sea", "a"], "profile": "phone-mid", "link": "wifi5_80"}
    built = load(scenario(tmp_path, {"import": "row.json", "attach": attach})).built
    tiers = {name: site.tier for name, site in built.topology.sites.items()}
    assert tiers == {"a": "edge", "b": "cloud", "c": "edge", "d": "edge"} | {
        f"client-{site}-{n}": "device" for site in "acd" for n in (1, 2)
    }
    assert {link.medium for link in built.topology.links.values() if link.technology} == {"cell-a", "cell-c", "cell-d"}
    assert built.topology.links["client-c-2-access"].up_bps == 280e6
    assert built.profiles["client-a-1"].memory_bytes == 4 * 10**9
    assert built.filled[-1] == "attach: 6 end devices at 3 sites over wifi5_80 each"


def test_a_junction_forwards_and_holds_nothing(tmp_path: Path) -> None:
    nodes = [{"id": "a"}, {"id": "b"}, {"id": "j", "hyperedge": 1}]
    edges = [{"source": "j", "target": name} for name in "ab"]
    (tmp_path / "n.json").write_text(json.dumps({"nodes": nodes, "edges": edges}))
    built = load(scenario(tmp_path, {"import": "n.json", "attach": {"clients": 1}})).built
    # It has most neighbours and is not the server, gets no client, and one byte of memory, too little for anything.
    assert [(name, site.tier) for name, site in built.topology.sites.items()] == [
        ("a", "cloud"), ("b", "edge"), ("j", "gateway"), ("client-a-1", "device"), ("client-b-1", "device"),
    ]  # fmt: skip
    assert built.profiles["j"].memory_bytes == 1
    assert built.topology.route("client-b-1", "a").devices == ("client-b-1", "b", "j", "a")
    assert "is a junction" in told(scenario(tmp_path, {"import": "n.json", "server": "j"}))[0]


def test_import_options(tmp_path: Path) -> None:
    nodes = [{"id": name} for name in "abc"]
    edges = [
        {"source": "a", "target": "b", "bw": 2, "ms": 7, "w": 1}, {"source": "b", "target": "a", "bw": 3, "ms": 5, "w": 4},
        {"source": "b", "target": "c", "bw": 1, "ms": 0, "w": 2},
    ]  # fmt: skip
    (tmp_path / "n.json").write_text(json.dumps({"nodes": nodes, "edges": edges}))
    block = {
        "import": "n.json", "rate_attribute": "bw", "rate_unit": "Gbit/s", "latency_attribute": "ms", "latency_unit": "ms",
        "cost_attribute": "w", "routing": "cost", "server": "closeness", "merge_parallel": "max", "name": "mine",
    }  # fmt: skip
    built = load(scenario(tmp_path, block)).built
    assert {link.name: (link.up_bps, link.latency_s, link.cost) for link in built.topology.links.values()} == {
        "a-b": (3e9, 0.005, 1.0),
        "b-c": (1e9, 0.0, 2.0),
    }
    assert (built.topology.name, built.topology.routing, built.topology.sites["b"].tier) == ("mine", "cost", "cloud")


def test_change_corrects_single_links_and_devices(tmp_path: Path, row: Path) -> None:
    block = {"import": "row.json", "change": {"links.b-c.rate": "1 Mbit/s", "devices.a.profile": "pi-5"}}
    path = scenario(tmp_path, block)
    built = load(path).built
    assert built.topology.links["b-c"].up_bps == 1e6
    assert built.filled[-1] == "changed afterwards: `links.b-c.rate`, `devices.a.profile`"
    assert load(path, overrides=["topology.links.b-c.rate=2 Mbit/s"]).built.topology.links["b-c"].up_bps == 2e6
    for wrong, message in (
        ({"links.b-x.rate": "1 Mbit/s"}, "no link 'b-x' (did you mean 'b-"),
        ({"name": "x"}, "expected the path of a device, link or medium"),
        ({"links..rate": 1}, "expected a path"),
        ({"links.b-c.rate": "1 Mb"}, "a rate is per second"),
    ):
        assert message in told(scenario(tmp_path, {**block, "change": wrong}))[0]


def test_a_network_in_parts_is_an_error_unless_the_largest_will_do(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("1|2|-1\n2|3|0\n7|8|0\n")
    path = scenario(tmp_path, {"import": "p.txt"})
    (problem,) = told(path)
    assert "falls into 2 parts of 3, 2 sites that no link joins; not with '1': '7', '8'" in problem
    assert "`component: largest` keeps the largest part" in problem
    built = load(path, overrides=["topology.component=largest"]).built
    assert list(built.topology.sites) == ["1", "2", "3"]
    assert "left out: 2 sites that no path joins" in "\n".join(built.filled)


@pytest.mark.parametrize(
    ("block", "messages"),
    [
        ({"generate": "stair", "devices": 4}, [": topology.generate: no generator 'stair' (did you mean 'star'?)"]),
        ({"generate": "star"}, ["the required setting 'devices' is missing"]),
        ({"generate": "star", "devices": 0}, ["topology.devices: expected a number at least 1, got 0"]),
        ({"generate": "star", "devices": 2, "device": 3}, ["unknown setting 'device' (did you mean 'devices'?)"]),
        ({"generate": "star", "devices": 2, "server": "x"}, ["unknown setting 'server'"]),
        ({"generate": "star", "devices": 2, "link": "wfi4_20"}, ["topology.link: no link technology 'wfi4_20' (did you mean 'wifi4_20'?)"]),
        ({"generate": "star", "devices": 2, "link": {"rate": "1 Mbit/s"}}, ["`latency`"]),
        ({"generate": "star", "devices": 2, "profiles": {"device": "pi-44"}}, ["topology.profiles.device: no device profile 'pi-44'"]),
        ({"generate": "star", "devices": 10**9}, ["at most 1,000,000 sites"]),
        ({"generate": "star", "import": "x"}, ["got both"]),
        ({"generate": 3}, ["no generator '3'"]),
        ({"generate": "waxman", "sites": 5, "server": "site-9"}, ["topology.server: no site 'site-9' (did you mean 'site-"]),
        ({"generate": "waxman", "sites": 5, "routing": "cost"}, ["expected a cost on every link"]),
        ({"generate": "waxman", "sites": 5, "routing": "shortest"}, ["expected 'latency' or 'hops' or 'cost'"]),
        ({"generate": "waxman", "sites": 5, "attach": {"clients": 1, "link": "wfi"}}, ["topology.attach.link: no link technology"]),
        ({"generate": "waxman", "sites": 5, "attach": {"clients": 1, "sites": ["sight-*"]}}, ["topology.attach.sites: no site matches"]),
        ({"import": "absent.graphml"}, ["topology.import: no such file: '"]),
        ({"import": 7}, ["topology.import: expected a path, got 7"]),
        ({"import": "row.json", "server": "Sea"}, ["2 sites have the label 'Sea' (name one of: 'c', 'd')"]),
        ({"import": "row.json", "server": "Beee"}, ["no site 'Beee' (did you mean 'Bee'?)"]),
        ({"import": "row.json", "default_rate": 7}, ["topology.default_rate: expected a data rate"]),
        ({"import": "row.json", "rate_attribute": "x"}, ["expected `rate_attribute` and `rate_unit` together"]),
        ({"import": "row.json", "rate_attribute": "x", "rate_unit": "Mb"}, ["`rate_unit`: expected a unit such as"]),
        ({"import": "s.yaml"}, ["no format is known for the ending '.yaml'"]),
    ],
)
def test_what_is_refused(tmp_path: Path, row: Path, block: dict[str, object], messages: list[str]) -> None:
    found = "\n".join(told(scenario(tmp_path, block)))
    for message in messages:
        assert message in found


def test_problems_of_block_and_scenario_are_told_together(tmp_path: Path) -> None:
    path = scenario(tmp_path, {"generate": "star", "devices": -1}, REST.replace("kind: mlp", "kind: mlpp"))
    found = told(path)
    assert len(found) == 2
    assert "topology.devices" in found[0]
    assert "did you mean 'mlp'" in found[1]


def test_names_that_clash(tmp_path: Path) -> None:
    edges = [{"source": "a", "target": "a-b"}, {"source": "a", "target": "b"}, {"source": "b", "target": "client-a-1"}]
    nodes = [{"id": name} for name in ("a", "b", "a-b", "client-a-1")]
    (tmp_path / "n.json").write_text(json.dumps({"nodes": nodes, "edges": edges}))
    # The link between a and b cannot be called a-b: a site is.
    assert "a-b~" in load(scenario(tmp_path, {"import": "n.json"})).built.topology.links
    assert "in the network already: 'client-a-1'" in told(scenario(tmp_path, {"import": "n.json", "attach": {"clients": 1}}))[0]


def test_names_that_netfl_does_not_take_are_made_to_fit(tmp_path: Path) -> None:
    long = "x" * 70
    nodes = [{"id": name} for name in ("10.0.0.1", "10:0:0:1", "a/b", long, long + "y")]
    edges = [{"source": "10.0.0.1", "target": each["id"]} for each in nodes[1:]] + [{"source": long, "target": long + "y"}]
    (tmp_path / "n.json").write_text(json.dumps({"graph": {"name": "AT&T (US)"}, "nodes": nodes, "edges": edges}))
    loaded = load(scenario(tmp_path, {"import": "n.json", "attach": {"clients": 2, "link": "wifi5_80"}}))
    topology = loaded.built.topology
    assert topology.name == "AT-T -US"
    assert list(topology.media) == ["cell-10-0-0-1", "cell-10-0-0-1_", "cell-a-b", f"cell-{long}", f"cell-{long}y"]
    assert [name for name in topology.links if name.startswith("link-")] == ["link-5"]
    assert load(yaml.safe_load(to_yaml(loaded.scenario))).scenario == loaded.scenario


def test_extends_goes_on_with_the_same_shape_and_replaces_another(tmp_path: Path, row: Path) -> None:
    scenario(tmp_path, {"generate": "star", "devices": 4}).rename(tmp_path / "base.yaml")
    child = tmp_path / "child.yaml"
    for topology, count in (
        ({"devices": 6}, 7),
        ({"generate": "star", "devices": 2}, 3),
        ({"generate": "grid", "rows": 2, "columns": 2}, 4),
        ({"import": "row.json"}, 4),
        ("row.json", 4),
    ):
        child.write_text(yaml.safe_dump({"extends": "base.yaml", "topology": topology}))
        assert len(load(child).built.topology.sites) == count


def test_a_topology_file_may_generate_and_imports_from_its_own_folder_only(tmp_path: Path, row: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "own.json").write_text(row.read_text())
    path = tmp_path / "inner" / "t.yaml"
    path.write_text("schema: 1\nname: grown\ngenerate: grid\nrows: 2\ncolumns: 3\n")
    assert is_topology(path)
    assert load_topology(path).topology.name == "grown"
    assert len(load_topology(path, ["rows=5"]).topology.sites) == 15
    path.write_text("import: own.json\n")
    assert len(load_topology(path).topology.sites) == 4
    assert len(load(scenario(tmp_path, "inner/t.yaml")).built.topology.sites) == 4
    for outside in ("../row.json", str(row)):
        path.write_text(f"import: {outside}\n")
        with pytest.raises(ScenarioError, match="imports only from its own folder"):
            load_topology(path)
    (tmp_path / "inner" / "link.json").symlink_to(row)
    path.write_text("import: link.json\n")
    with pytest.raises(ScenarioError, match="imports only from its own folder"):
        load_topology(path)
    # A scenario is the user's own: it may name any file.
    assert load(scenario(tmp_path / "inner", {"import": "../row.json"}))


def test_our_own_form_in_json_is_not_taken_for_node_link(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    links = {"l": {"between": ["a", "b"], "rate": "1 Mbit/s", "latency": "1 ms"}}
    path.write_text(
        json.dumps({"schema": 1, "name": "own", "devices": {"a": {"profile": "pi-4"}, "b": {"profile": "pi-4"}}, "links": links})
    )
    assert is_topology(path)
    assert len(load_topology(path).topology.links) == 1


def test_a_file_that_is_broken_is_told_with_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.graphml"
    path.write_text("<graphml>\n<graph>\n<node id='a'/>\n")
    with pytest.raises(ScenarioError) as caught:
        load(scenario(tmp_path, {"import": "bad.graphml"}))
    assert str(caught.value.problems[0]).startswith(f"{path}:4:")


def test_the_json_schema_knows_every_form() -> None:
    for schema, wrap in ((file_schema(Scenario), True), (file_schema(TopologyFile), False)):
        validator = jsonschema.Draft202012Validator(schema)
        validator.check_schema(schema)
        for block, good in (
            ({"generate": "star", "devices": 4}, True),
            ({"generate": "waxman", "sites": 9, "attach": {"clients": 2, "link": "lte"}, "server": 7}, True),
            ({"import": "a.graphml", "default_rate": "1 Gbit/s", "profiles": {"cloud": "mini-pc"}}, True),
            ({"generate": "star"}, False),
            ({"generate": "stair", "devices": 4}, False),
            ({"import": "a.graphml", "devices": 4}, False),
        ):
            whole = {**yaml.safe_load(REST), "topology": block} if wrap else block
            assert (list(validator.iter_errors(whole)) == []) is good, block


@pytest.mark.data
def test_every_topology_zoo_file_is_valid_and_says_what_was_filled_in() -> None:
    root = os.environ.get("NETFL_TEST_DATA")
    if root is None:
        pytest.skip("NETFL_TEST_DATA is not set: no Internet Topology Zoo files")
    files = sorted((Path(root) / "topologyzoo").glob("*.graphml"))
    assert len(files) == 16
    for path in files:
        built = load_topology(path)
        assert any(sentence.startswith("server: ") for sentence in built.filled), path
        assert any(sentence.startswith("latency: ") for sentence in built.filled), path
        cloud = next(name for name, site in built.topology.sites.items() if site.tier == "cloud")
        assert all(built.topology.route(name, cloud).latency_s >= 0 for name in built.topology.sites)

"""From a sweep block to configurations."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from netfl.errors import ScenarioError
from netfl.scenario import load
from netfl.studies.points import plan
from tests.workloads.small import small, training_only

ROOT = Path(__file__).parents[2]


def titles(scenario: dict[str, Any], **options: Any) -> list[str]:
    return [point.title for point in plan(scenario, **options).points]


def refused(scenario: dict[str, Any] | Path, **options: Any) -> str:
    with pytest.raises(ScenarioError) as caught:
        plan(scenario, **options)
    return str(caught.value)


def test_grid_zip_points_and_replicates_multiply() -> None:
    sweep = {
        "grid": {"workloads.training.rounds": [1, 2]},
        "zip": {"workloads.training.trainer.learning_rate": [0.1, 0.2], "workloads.training.trainer.epochs": [1, 2]},
        "points": [{"topology.links.trunk.rate": "1 Mbit/s", "label": "slow"}, {"label": "as it is"}],
        "replicates": 3,
    }
    made = plan(training_only(sweep=sweep))
    assert len(made.points) == 2 * 2 * 2 * 3
    assert len({point.hash for point in made.points}) == 24
    first = made.points[0]
    assert first.settings == {
        "workloads.training.rounds": 1,
        "workloads.training.trainer.learning_rate": 0.1,
        "workloads.training.trainer.epochs": 1,
        "topology.links.trunk.rate": "1 Mbit/s",
    }
    assert first.title == "slow, replicate 0"
    # Replicates of one combination stand together, and are another entropy word, not another seed.
    assert [(point.replicate, point.scenario.replicate, point.scenario.seed) for point in made.points[:3]] == [
        (0, 0, 5),
        (1, 1, 5),
        (2, 2, 5),
    ]
    assert made.points[0].scenario.topology.links["trunk"].rate == 1e6
    assert made.points[3].scenario.topology.links["trunk"].rate == 100e6


def test_a_configuration_has_one_hash_however_it_is_written() -> None:
    one = plan(training_only(), grids=["topology.links.trunk.rate=1 Mbit/s,1000 kbit/s"])
    assert (len(one.points), one.equal) == (1, 1)
    other = plan(training_only(description="for people"), settings={"topology.links.trunk.rate": "0.001 Gbit/s"})
    assert other.points[0].hash == one.points[0].hash


def test_values_of_the_command_line_go_before_the_block() -> None:
    scenario = training_only(sweep={"grid": {"workloads.training.rounds": [1, 2]}})
    assert titles(scenario, grids=["workloads.training.rounds=5"]) == ["rounds=5, replicate 0"]
    uplinks = "workloads.training.uplink=[],[{kind: quantize, bits: 8}]"
    assert titles(training_only(), grids=[uplinks]) == ["uplink=none, replicate 0", "uplink=quantize(bits=8), replicate 0"]
    assert len(titles(training_only(), grids=["workloads.training.rounds=[1, 2, 3]"])) == 3


def test_links_and_gateways_come_and_go() -> None:
    """Taking a gateway away takes its links; nodes move to another by their own links."""
    more = {
        "topology.devices.gateway-2": {"profile": "mini-pc", "tier": "gateway"},
        "topology.links.trunk-2": {"between": ["gateway-2", "cloud"], "rate": "100 Mbit/s", "latency": "10 ms"},
        "topology.links.node-4-radio": {"between": ["node-4", "gateway-2"], "rate": "1 Mbit/s", "latency": "5 ms"},
        "topology.devices.node-3": None,
    }
    scenario = training_only(training__clients_per_round=2)
    (point,) = plan(scenario, settings={"topology.links.node-4-radio.rate": "2 Mbit/s"}, grid={}).points
    assert set(point.scenario.topology.links) == {"trunk", *(f"node-{number}-radio" for number in range(1, 5))}
    scenario["sweep"] = {"points": [{"label": "one", "topology.links.node-1-radio": None, "topology.devices.node-1": None}, more]}
    one, two = plan(scenario).points
    built = load(one.scenario).built.topology
    assert set(built.sites) == {"cloud", "gateway", "node-2", "node-3", "node-4"}
    assert set(built.links) == {"trunk", "node-2-radio", "node-3-radio", "node-4-radio"}
    built = load(two.scenario).built.topology
    assert built.links["node-4-radio"].b == "gateway-2"
    assert "node-3" not in built.sites
    assert "node-3-radio" not in built.links


def test_taking_away_what_is_not_there_is_an_error() -> None:
    assert "no link 'trunkk'" in refused(training_only(), grid={"topology.links.trunkk": [None]})


def test_topology_files_count_from_the_study(tmp_path: Path) -> None:
    scenario = training_only(training__clients_per_round=2)
    topology = scenario["topology"]
    (tmp_path / "nets").mkdir()
    for name in ("a", "b"):
        (tmp_path / "nets" / f"{name}.yaml").write_text(yaml.safe_dump({**topology, "name": name}))
    scenario["topology"] = "nets/a.yaml"
    scenario["sweep"] = {"grid": {"topology": ["nets/a.yaml", "nets/b.yaml"]}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(scenario))
    assert [point.scenario.topology.name for point in plan(path).points] == ["a", "b"]
    assert titles(scenario | {"topology": topology, "sweep": None}, grids=[f"topology={tmp_path}/nets/a.yaml,{tmp_path}/nets/b.yaml"]) == [
        "topology=a, replicate 0",
        "topology=b, replicate 0",
    ]


def test_parameters_of_a_generator(tmp_path: Path) -> None:
    scenario = training_only(training__clients_per_round=2, topology={"generate": "star", "devices": 3})
    made = plan(scenario, grid={"topology.devices": [3, 5]}, replicates=2)
    # A star's devices have a link each.
    assert [len(load(point.scenario).built.topology.links) for point in made.points] == [3, 3, 5, 5]


def test_lists_of_points_multiply_and_their_labels_stand_side_by_side() -> None:
    lists = {
        "training": [{"label": "short"}, {"label": "long", "workloads.training.rounds": 9}],
        "place": [{"label": "here"}, {"label": "there", "seed": 6}],
    }
    made = plan(training_only(sweep={"point_lists": lists}))
    assert [point.label for point in made.points] == ["short, here", "short, there", "long, here", "long, there"]
    assert [point.axes for point in made.points[:2]] == [{"training": "short", "place": "here"}, {"training": "short", "place": "there"}]
    assert [(point.scenario.workloads["training"].rounds, point.scenario.seed) for point in made.points] == [(3, 5), (3, 6), (9, 5), (9, 6)]


def test_the_constraint_leaves_points_out() -> None:
    sweep = {"grid": {"workloads.training.rounds": [1, 2, 3], "topology.links.trunk.rate": ["1 Mbit/s", "9 Mbit/s"]}}
    scenario = training_only(sweep={**sweep, "constraint": "rounds == 1 or topology.links.trunk.rate > 5 Mbit/s"})
    # `rounds` is no name: constraints name whole paths.
    assert "unknown name 'rounds'" in refused(scenario)
    scenario["sweep"]["constraint"] = "workloads.training.rounds == 1 or topology.links.trunk.rate > 5 Mbit/s"
    made = plan(scenario)
    assert (len(made.points), made.excluded) == (2 + 1 + 1, 2)
    scenario["sweep"]["constraint"] = "workloads.training.rounds > 3 and seed == 5"
    assert "the constraint removes every point of 6" in refused(scenario)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"grid": {"workloads.training.bandwith": [1]}}, "unknown setting 'bandwith'"),
        ({"grid": {"workloads.training.rounds": []}}, "expected at least one value"),
        ({"grid": {"workloads.training.rounds": 3}}, "expected a list"),
        ({"grid": {"replicate": [1, 2]}}, "say how many `replicates`"),
        ({"grid": {"sweep.replicates": [1, 2]}}, "`sweep` cannot be varied"),
        ({"grid": {"a..b": [1]}}, "expected a path such as"),
        ({"zip": {"seed": [1, 2], "name": ["a"]}}, "'seed' has 2, 'name' has 1"),
        ({"grid": {"seed": [1]}, "zip": {"seed": [1]}}, "stands in `grid` too"),
        ({"replicates": 0}, "at least 1"),
        ({"gird": {}}, "did you mean 'grid'?"),
        ({"point_lists": {"a": []}}, "sweep.point_lists.a: expected at least one entry"),
        ({"point_lists": {"a": [{"seed": 1}], "b": [{"seed": 2}]}}, "'seed' stands in `point_lists.a` too"),
        ({"grid": {"workloads.training.rounds": [1, "many"]}}, "expected a whole number"),
        ({"constraint": "1 +"}, "expected a value, got the end"),
        ({"grid": {"seed": list(range(400)), "workloads.training.rounds": list(range(400))}}, "160,000 points"),
    ],
)
def test_bad_blocks(sweep: dict[str, Any], message: str) -> None:
    assert message in refused(training_only(sweep=sweep))


def test_errors_name_the_line_of_the_value(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    text = yaml.safe_dump(small(stop={"after": "1 s"}), sort_keys=False)
    path.write_text(f"{text}sweep:\n  grid:\n    workloads.training.rouns:\n      - 3\n  constraint: 3 <\n")
    lines = path.read_text().splitlines()
    assert f"{path}:{lines.index('      - 3') + 1}:" in refused(path, settings={"sweep.constraint": ""})
    path.write_text(f"{text}sweep:\n  constraint: 3 <\n")
    # Column 15 is where the text begins, and its column 4 is the one after its end.
    assert f"{path}:{len(path.read_text().splitlines())}:18: sweep.constraint" in refused(path)

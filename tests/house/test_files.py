"""Every scenario and topology that ships loads, says what it asks, and gives the same scenario when its resolved form is loaded."""

import math
from pathlib import Path

import pytest
import yaml

from netfl.scenario import load, load_topology, to_yaml
from netfl.studies.points import plan

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.yaml"))
TOPOLOGIES = sorted((ROOT / "topologies").rglob("*.yaml"))


def test_counts() -> None:
    assert len(SCENARIOS) >= 16
    assert len(TOPOLOGIES) == 9


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.name)
def test_topology_loads(path: Path) -> None:
    assert load_topology(path).topology.links


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.name)
def test_topology_opens_with_command_and_sources(path: Path) -> None:
    comment = path.read_text(encoding="utf-8").split("schema:")[0]
    assert f"netfl show topologies/{path.name}" in comment
    assert "choice" in comment
    assert "netfl list" in comment
    if path.stem not in ("smart-building", "star"):
        assert "?" in comment
        assert "netfl run" in comment


def test_the_made_up_backbone_keeps_its_own_rule() -> None:
    """Its comment says: distance x 1.5 x 5 us a km, at least 0.1 ms."""
    topology = load_topology(ROOT / "topologies" / "national-backbone.yaml").topology
    checked = 0
    for link in topology.links.values():
        a, b = topology.sites[link.a], topology.sites[link.b]
        if a.x_km is not None and b.x_km is not None and a.y_km is not None and b.y_km is not None:
            km = math.hypot(a.x_km - b.x_km, a.y_km - b.y_km)
            assert link.latency_s == pytest.approx(max(0.1e-3, km * 1.5 * 5e-6), rel=1e-3)
            checked += 1
    assert checked == 10 + 2 + 20


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_scenario_loads_and_its_resolved_form_is_the_same_scenario(path: Path) -> None:
    loaded = load(path)
    assert load(yaml.safe_load(to_yaml(loaded.scenario))).scenario == loaded.scenario


@pytest.mark.parametrize("path", [path for path in SCENARIOS if path.parent.name == "studies"], ids=lambda path: path.name)
def test_every_point_of_a_study_loads(path: Path) -> None:
    made = plan(path, replicates=1)
    assert made.keys
    assert (made.excluded, made.equal) == (0, 0)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_scenario_opens_with_question_command_and_figures(path: Path) -> None:
    comment = path.read_text(encoding="utf-8").split("schema:")[0]
    assert "?" in comment
    command = "sweep" if path.parent.name == "studies" else "run"
    assert f"netfl {command} {path.relative_to(ROOT)}" in comment
    assert "Expect" in comment


def test_no_machine_code_hides_the_sources() -> None:
    """A build in the checkout leaves compiled modules there, which Python prefers to the sources that are edited and tested."""
    assert list((ROOT / "netfl").rglob("*.so")) == []

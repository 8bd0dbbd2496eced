"""What `validate` and `show` say of a topology that is right by the rules and may not be meant."""

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from netfl.cli.commands import cli
from netfl.scenario import load_topology
from netfl.scenario.notes import notes


def written(folder: Path, links: dict[str, Any], media: dict[str, Any] | None = None) -> Path:
    devices: dict[str, Any] = {"cloud": {"profile": "cloud-v100", "tier": "cloud"}, "node-{1..3}": {"profile": "pi-4"}}
    path = folder / "topology.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "name": "t", "devices": devices, "media": media or {}, "links": links}))
    return path


def test_radios_of_one_site_in_no_medium_are_told(tmp_path: Path) -> None:
    radios: dict[str, Any] = {"r-{1..3}": {"between": ["node-{1..3}", "cloud"], "technology": "wifi4_20"}}
    (told,) = notes(load_topology(written(tmp_path, radios)).topology)
    assert told == (
        "medium: 3 links of 'wifi4_20' at 'cloud' are in no medium, so each has its air to itself; name a `medium` if they share it"
    )
    radios["r-{1..3}"]["medium"] = "air"
    assert notes(load_topology(written(tmp_path, radios, {"air": {}})).topology) == []
    # Wires share nothing, and neither does the only radio of a site.
    radios = {
        "r-1": {"between": ["node-1", "cloud"], "technology": "wifi4_20"},
        "r-{2..3}": {"between": ["node-{2..3}", "cloud"], "technology": "eth_1g"},
    }
    assert notes(load_topology(written(tmp_path, radios)).topology) == []


def test_a_topology_in_parts_is_told(tmp_path: Path) -> None:
    figures = {"rate": "1 Mbit/s", "latency": "1 ms"}
    path = written(tmp_path, {"l1": {"between": ["node-1", "cloud"], **figures}, "l2": {"between": ["node-2", "node-3"], **figures}})
    told = "parts: the network falls into 2 parts of 2 x 2 sites that no link joins; not with 'cloud': 'node-2', 'node-3'"
    found = CliRunner().invoke(cli, ["validate", str(path)])
    assert (found.exit_code, found.stdout) == (0, f"{path}: ok\n  note: {told}\n")
    assert json.loads(CliRunner().invoke(cli, ["validate", "--json", str(path)]).stdout)["notes"] == {str(path): [told]}
    shown = " ".join(CliRunner().invoke(cli, ["show", str(path)]).stdout.split())
    assert "notes" in shown
    assert "falls into 2 parts of 2 x 2 sites" in shown

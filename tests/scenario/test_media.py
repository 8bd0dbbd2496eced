"""Whether both directions of a medium share its airtime."""

import re
from pathlib import Path

import pytest
import yaml

from netfl.errors import ScenarioError
from netfl.scenario import load_topology


def written(folder: Path, media: object, *links: dict[str, str]) -> Path:
    devices = {"server": {"profile": "edge-server", "tier": "cloud"}} | {f"phone-{i}": {"profile": "pi-4"} for i in range(len(links))}
    radios = {f"radio-{i}": {"between": [f"phone-{i}", "server"], "medium": "cell"} | block for i, block in enumerate(links)}
    path = folder / "cell.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "name": "cell", "devices": devices, "media": {"cell": media}, "links": radios}))
    return path


@pytest.mark.parametrize(
    ("media", "technologies", "duplex"),
    [
        ({}, ["lte", "5g_nsa_low"], "full"),
        ({"duplex": "half"}, ["lte", "lte_cat4"], "half"),
        ({}, ["5g_mmwave"], "half"),
        ({}, ["lte", "5g_mmwave"], "half"),
        ({}, ["wifi5_80"], "half"),
        ({}, ["lte_m"], "half"),
    ],
)
def test_cells_of_frequency_division_have_airtime_for_each_direction(
    tmp_path: Path, media: dict[str, str], technologies: list[str], duplex: str
) -> None:
    built = load_topology(written(tmp_path, media, *({"technology": name} for name in technologies)))
    assert built.topology.media["cell"].duplex == duplex


@pytest.mark.parametrize(
    ("media", "links", "exponent"),
    [
        # What the technology says (netfl/network/links.py), unless the file says otherwise, 0 included.
        ({}, [{"technology": "wifi4_20"}, {"technology": "wifi6_80"}], 0.11),
        ({"efficiency_exponent": 0.3}, [{"technology": "wifi4_20"}], 0.3),
        ({"efficiency_exponent": 0.0}, [{"technology": "wifi4_20"}], 0.0),
        # 802.11p has none, and figures without a technology say nothing: the largest holds.
        ({}, [{"technology": "ieee80211p"}], 0.0),
        ({}, [{"technology": "ieee80211p"}, {"technology": "wifi4_20"}, {"rate": "1 Mbit/s", "latency": "1 ms"}], 0.11),
        ({}, [{"technology": "lte"}], 0.0),
        ({}, [{"rate": "1 Mbit/s", "latency": "1 ms"}], 0.0),
    ],
)
def test_contention_costs_what_the_technologies_say(
    tmp_path: Path, media: dict[str, float], links: list[dict[str, str]], exponent: float
) -> None:
    assert load_topology(written(tmp_path, media, *links)).topology.media["cell"].efficiency_exponent == exponent


def test_a_half_duplex_technology_cannot_be_in_a_full_duplex_cell(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioError,
        match=r"links\.radio-0\.medium: 'radio-0' is half-duplex, and medium 'cell' has airtime of its own for each direction",
    ):
        load_topology(written(tmp_path, {"duplex": "full"}, {"technology": "wifi5_80"}))


@pytest.mark.parametrize(
    ("technologies", "message"),
    [
        (["wifi5_80", "eth_1g"], "links.radio-1.medium: 'eth_1g' shares its capacity with no other link, and cannot be in medium 'cell'"),
        (
            ["wifi5_80", "lte_m"],
            "links.radio-1.medium: 'lte_m' is air that a base station shares out, and medium 'cell' has links of 'wifi5_80', "
            "air that stations contend for",
        ),
        (
            ["lorawan_sf7", "ieee802154"],
            "links.radio-1.medium: 'ieee802154' is air that stations contend for, and medium 'cell' has links of 'lorawan_sf7', "
            "air that stations send into at will",
        ),
    ],
)
def test_links_that_contradict_their_medium_are_told(tmp_path: Path, technologies: list[str], message: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(message)):
        load_topology(written(tmp_path, {}, *({"technology": name} for name in technologies)))
